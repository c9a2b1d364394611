"""The model that is served: loaded from a Hugging Face folder, or from an adapter's folder and its base model."""

from __future__ import annotations

import copy
import json
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from conf.schema import TaskName
from conf.serving import PEFT_TASKS, ServeSettings, task_of
from train.model.model import auto_class, placement

LARGEST_CONTEXT = 1 << 24
"""Tokenizers without a limit claim numbers above this."""

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


class LoadError(Exception):
    """The model cannot be served; the message says why."""


@dataclass(frozen=True)
class Served:
    """A model ready to answer. `context` is what it can read, prompt and answer together; None where unknown.

    `decoder` is the tokenizer again, for the model's thread: one that two threads use at once raises errors.
    """

    name: str
    task: TaskName
    model: Any
    tokenizer: Any
    decoder: Any
    device: torch.device
    context: int | None
    created: int

    def in_words(self) -> str:
        """What it is, for the log."""
        model = self.model
        dtype = str(model.dtype).removeprefix("torch.")
        threads = torch.get_num_threads()
        where = f"{self.device}" if self.device.type != "cpu" else f"cpu with {threads} thread{'s' * (threads > 1)}"
        return f"{self.name}: {model.config.model_type}, {self.task.value}, {dtype} on {where}"


def load(settings: ServeSettings) -> Served:
    """Load the model and its tokenizer.

    Raises:
        LoadError: the folder holds nothing that can be served.
        OSError, ValueError: as transformers says.
    """
    folder = Path(settings.folder)
    adapter = _read_json(folder / "adapter_config.json")
    source = settings.base or adapter.get("base_model_name_or_path") or "" if adapter else str(folder)
    if not source:
        raise LoadError(f"{folder}/adapter_config.json names no base model; give --base")
    place = _Place(source, None if settings.base else adapter.get("revision"), settings.trust_remote_code)
    config = _load_config(folder, place, bool(adapter))
    task = PEFT_TASKS.get(adapter.get("task_type") or "") if adapter else task_of(config.to_dict())
    if task is None:
        raise LoadError(f"{folder}: {config.architectures or adapter.get('task_type')} is nothing Muster serves")
    device = _device(settings.device)
    model = _load_model(task, place, config, device, settings.dtype)
    if adapter:
        from peft import PeftModel

        model = PeftModel.from_pretrained(model, str(folder))
    tokenizer = _load_tokenizer(folder, place)
    if task is TaskName.seq_cls and model.config.pad_token_id is None:
        model.config.pad_token_id = tokenizer.pad_token_id  # causal models look for a text's last token by it
    return Served(
        settings.name,
        task,
        model.to(device).eval(),
        tokenizer,
        copy.deepcopy(tokenizer),
        device,
        _context(config, tokenizer, task),
        int(time.time()),
    )


@dataclass(frozen=True)
class _Place:
    """Where a model lies: a folder, or a hub name with its commit."""

    source: str
    revision: str | None
    trust_remote_code: bool

    def read(self, kind: Any, folder: Path | None = None, **arguments: Any) -> Any:
        """`kind.from_pretrained` on it, or on a folder of one's own in its stead."""
        arguments["trust_remote_code"] = self.trust_remote_code
        if folder is not None:
            return kind.from_pretrained(str(folder), **arguments)
        if self.revision is not None:
            arguments["revision"] = self.revision
        return kind.from_pretrained(self.source, **arguments)


def _load_config(folder: Path, place: _Place, is_adapter: bool) -> Any:
    """The model's configuration; an adapter's own, beside it, knows the labels that its base does not."""
    from transformers import AutoConfig

    own = is_adapter and (folder / "config.json").is_file()
    return place.read(AutoConfig, folder if own else None)


def _load_model(task: TaskName, place: _Place, config: Any, device: torch.device, dtype: str) -> Any:
    return place.read(auto_class(task), config=config, dtype=DTYPES.get(dtype, "auto"), **placement(device))


def _load_tokenizer(folder: Path, place: _Place) -> Any:
    from transformers import AutoTokenizer

    has_own = any((folder / name).is_file() for name in ("tokenizer_config.json", "tokenizer.json"))
    tokenizer = place.read(AutoTokenizer, folder if has_own else None)
    if tokenizer.pad_token_id is None:
        tokenizer.pad_token = tokenizer.eos_token
    return tokenizer


def _device(wanted: str) -> torch.device:
    found = torch.cuda.is_available()
    if wanted == "cuda" and not found:
        raise LoadError("--device cuda: torch sees no GPU here")
    return torch.device("cuda", 0) if found and wanted != "cpu" else torch.device("cpu")


def _context(config: Any, tokenizer: Any, task: TaskName) -> int | None:
    """Tokens that the model can read: by its positions, else by its tokenizer."""
    text = config.get_text_config()
    for name in ("max_position_embeddings", "n_positions", "max_seq_len"):
        size = getattr(text, name, None)
        if isinstance(size, int) and size > 0:
            # RoBERTa's positions begin after its padding's.
            return size - 2 if task is TaskName.seq_cls and "roberta" in config.model_type else size
    size = tokenizer.model_max_length
    return int(size) if size < LARGEST_CONTEXT else None


def _read_json(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except ValueError as error:
        raise LoadError(f"{path} is not JSON: {error}") from error
    return content if isinstance(content, dict) else {}
