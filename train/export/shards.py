"""The weights of a model as safetensors files, dealt out to ranks and written in bounded memory.

A rank holds at most one file at a time, because parameters are gathered one by one and a file is written before the
rank's next one is filled. The files are written here, not by `safetensors`, so that they are hashed on the way and
flushed, and a full disk is an OSError.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from train.checkpoint.storage import WrittenFile, hashed_file
from train.engine import Engine
from train.model.parameters import whole_shape

INDEX_NAME = "model.safetensors.index.json"
_LAYER = re.compile(r"^(?:.*?\.)??\d+(?=\.)")
_DTYPES = {
    torch.float64: "F64",
    torch.float32: "F32",
    torch.bfloat16: "BF16",
    torch.float16: "F16",
    torch.int64: "I64",
    torch.int32: "I32",
    torch.int16: "I16",
    torch.int8: "I8",
    torch.uint8: "U8",
    torch.bool: "BOOL",
}


@dataclass(frozen=True)
class Piece:
    """A parameter or persistent buffer of the model; `size` in bytes as a whole."""

    name: str
    tensor: Tensor
    size: int


@dataclass(frozen=True)
class Part:
    """A file that this rank wrote and the tensors in it: hub name → bytes."""

    file: WrittenFile
    tensors: dict[str, int]


def pieces(model: Any) -> list[Piece]:
    """What is saved of a Hugging Face model, in its own order; of tied weights only the one that is tied to."""
    targets = set(getattr(model, "all_tied_weights_keys", {}) or {})
    ignored = set(getattr(model, "_keys_to_ignore_on_save", None) or [])
    by_identity: dict[int, Piece] = {}
    for name, tensor in model.state_dict(keep_vars=True).items():
        known = by_identity.get(id(tensor))
        if name in ignored or (known is not None and known.name not in targets):
            continue
        shape = whole_shape(tensor) if isinstance(tensor, nn.Parameter) else tuple(tensor.shape)
        by_identity[id(tensor)] = Piece(name, tensor, _product(shape) * tensor.element_size())
    return list(by_identity.values())


def deal(found: list[Piece], max_shard_bytes: int) -> list[list[Piece]]:
    """Files of at most `max_shard_bytes`, in the model's order; the pieces of one layer stay together.

    Hub names may need several tensors of a layer at once, so a layer is never split, however large it is.
    """
    files: list[list[Piece]] = []
    room = 0
    for group in _layers(found):
        size = sum(piece.size for piece in group)
        if not files or size > room:
            files.append([])
            room = max_shard_bytes
        files[-1].extend(group)
        room -= size
    return files


def file_names(count: int) -> list[str]:
    """Hugging Face's names for so many files."""
    if count == 1:
        return ["model.safetensors"]
    return [f"model-{number:05d}-of-{count:05d}.safetensors" for number in range(1, count + 1)]


def write_weights(
    engine: Engine, folder: Path, max_shard_bytes: int, report: Callable[[str], None] = lambda text: None
) -> list[Part]:
    """Write this rank's files of the model into `folder`; a collective. Returns what this rank wrote.

    `report` hears which of several files it is.

    Raises:
        OSError: this rank's file system said so; all ranks have gone through the collectives by then.
    """
    files = deal(pieces(engine.module), max_shard_bytes)
    written: list[Future[Part]] = []
    with ThreadPoolExecutor(max_workers=1) as writer:
        for number, (name, content) in enumerate(zip(file_names(len(files)), files, strict=True)):
            own = number % engine.world_size == engine.rank
            if len(files) > 1:
                report(f"writing weights, file {number + 1} of {len(files)}")
            if own and written:
                # One file in memory at a time; its error is raised below, after the last collective.
                written[-1].exception()
            tensors = _gather(engine, content, own)
            if own:
                written.append(writer.submit(_write_part, folder / name, _hub_names(engine.module, tensors)))
            del tensors
    return [future.result() for future in written]


def write_whole(model: Any, folder: Path, max_shard_bytes: int) -> list[Part]:
    """Write a model that is whole in this rank into `folder`, a file at a time.

    Raises:
        OSError: as the file system says.
    """
    files = deal(pieces(model), max_shard_bytes)
    return [
        _write_part(
            folder / name,
            _hub_names(model, {piece.name: piece.tensor.detach().to("cpu", copy=True) for piece in content}),
        )
        for name, content in zip(file_names(len(files)), files, strict=True)
    ]


def write_safetensors(path: Path, tensors: Mapping[str, Tensor]) -> WrittenFile:
    """Write one file in the safetensors format: length of the header (8 bytes, little endian), JSON header, the data.

    https://github.com/huggingface/safetensors#format. Tensors are on the CPU; wider types come first, so that all are
    aligned.
    """
    ordered = sorted(tensors.items(), key=lambda item: (-item[1].element_size(), item[0]))
    header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    offset = 0
    for name, tensor in ordered:
        end = offset + tensor.numel() * tensor.element_size()
        header[name] = {"dtype": _DTYPES[tensor.dtype], "shape": list(tensor.shape), "data_offsets": [offset, end]}
        offset = end
    encoded = json.dumps(header, separators=(",", ":")).encode()
    encoded += b" " * (-len(encoded) % 8)
    with hashed_file(path) as file:
        file.write(len(encoded).to_bytes(8, "little") + encoded)
        for _, tensor in ordered:
            if tensor.numel():
                file.write(tensor.contiguous().reshape(-1).view(torch.uint8).numpy())
    return WrittenFile(path.name, file.size, file.sha256)


def index(parts: list[Part]) -> bytes:
    """The content of `model.safetensors.index.json`."""
    where = {name: part.file.name for part in parts for name in part.tensors}
    total = sum(size for part in parts for size in part.tensors.values())
    return (
        json.dumps({"metadata": {"total_size": total}, "weight_map": dict(sorted(where.items()))}, indent=2)
    ).encode()


def _write_part(path: Path, tensors: dict[str, Tensor]) -> Part:
    file = write_safetensors(path, tensors)
    return Part(file, {name: tensor.numel() * tensor.element_size() for name, tensor in tensors.items()})


def _gather(engine: Engine, content: list[Piece], own: bool) -> dict[str, Tensor]:
    """Each piece made whole in turn; copies on the CPU where the file is this rank's."""
    tensors = {}
    for piece in content:
        parameters = [piece.tensor] if isinstance(piece.tensor, nn.Parameter) else []
        with engine.gathered(parameters):
            if own:
                tensors[piece.name] = piece.tensor.detach().to("cpu", copy=True)
    return tensors


def _hub_names(model: Any, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """The tensors under the names, and in the shapes, in which the hub keeps them."""
    from transformers.core_model_loading import revert_weight_conversion

    return dict(revert_weight_conversion(model, tensors))


def _layers(found: list[Piece]) -> Iterator[list[Piece]]:
    """Neighbouring pieces of one numbered layer together, every other piece alone."""
    group: list[Piece] = []
    layer = ""
    for piece in found:
        match = _LAYER.match(piece.name)
        if group and (match is None or match[0] != layer):
            yield group
            group = []
        layer = match[0] if match else ""
        group.append(piece)
    if group:
        yield group


def _product(shape: tuple[int, ...]) -> int:
    result = 1
    for length in shape:
        result *= length
    return result
