"""Which tokenizer a run has: the model's own, another one, or one trained on the data.

Its identity is worked out without importing transformers where the files lie on disk, so that a run whose data is
prepared already starts at once.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from conf.schema import ModelConfig
from train.data.block import DataError

TRAINED = "train"
BEGIN, END, PAD = "<|begin|>", "<|end|>", "<|pad|>"

TRAINING_BYTES = 64 << 20
"""Text that a tokenizer is trained on; more changes little and takes long."""

ASIDE = frozenset(
    (".safetensors", ".bin", ".pt", ".pth", ".ckpt", ".gguf", ".h5", ".msgpack", ".onnx", ".ot", ".npz", ".md")
)
"""Endings of weights, and of words about them. Any other file of a folder may decide what its tokenizer makes of a
text: SentencePiece's and tiktoken's have many names, and some tokenizers come with code."""

LARGEST = 256 << 20
"""Bytes of a tokenizer's file at most."""

HUB_FILES = ("config.json", "tokenizer_config.json")
"""One of these is there wherever transformers finds a tokenizer."""


def tokenizer_source(model: ModelConfig) -> str:
    """Folder or hub name of the tokenizer, or `train`."""
    return model.tokenizer_name_or_path or model.model_name_or_path


def tokenizer_identity(model: ModelConfig, train_content: str) -> str:
    """SHA-256 over what decides the tokens of a text: a tokenizer's files, or what one is trained on.

    Args:
        train_content: what identifies the training data and how its text is taken from the rows.
    """
    source = tokenizer_source(model)
    if source == TRAINED:
        return _sha256(TRAINED, str(model.tokenizer_vocab_size), train_content)
    if not Path(source).is_dir():
        return _sha256("hub", source, _commit(source, model.revision) or model.revision or "")
    files = sorted(path for path in Path(source).iterdir() if _may_decide(path))
    return _sha256("files", *(f"{path.name}:{_content(path)}" for path in files))


def _content(path: Path) -> str:
    """What a file holds; of one larger than any tokenizer's, when it was written."""
    found = path.stat()
    if found.st_size > LARGEST:
        return f"{found.st_size} {found.st_mtime_ns}"
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _may_decide(path: Path) -> bool:
    """Whether tokens may depend on a file; what nobody here may read, no tokenizer reads either."""
    aside = path.suffix in ASIDE or path.name.startswith(".")
    return not aside and path.is_file() and os.access(path, os.R_OK)


def _sha256(*parts: str) -> str:
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()


def _commit(source: str, revision: str | None) -> str | None:
    """The commit of a hub's tokenizer, if its files lie on this machine."""
    import huggingface_hub

    for name in HUB_FILES:
        found = huggingface_hub.try_to_load_from_cache(source, name, revision=revision)
        if isinstance(found, str):
            return Path(found).parent.name
    return None


def load_tokenizer(model: ModelConfig) -> Any:
    """The tokenizer that a model comes with, or the one named instead of it.

    Raises:
        DataError: there is none, or it cannot end a document.
    """
    from transformers import AutoTokenizer

    source = tokenizer_source(model)
    arguments: dict[str, Any] = {"trust_remote_code": model.trust_remote_code}
    if model.revision is not None and source == model.model_name_or_path:
        arguments["revision"] = model.revision
    try:
        return AutoTokenizer.from_pretrained(source, **arguments)
    except (OSError, ValueError) as error:
        raise DataError(f"no tokenizer at {source!r} (model.tokenizer_name_or_path): {error}") from error


def complete_tokenizer(tokenizer: Any, chat_template: str | None, ends: bool = True) -> list[str]:
    """Give a tokenizer the chat template of the configuration and a pad token; what was done, in words.

    Args:
        ends: documents end with an end token.

    Raises:
        DataError: it has no end token where that is needed, or nothing to pad with.
    """
    notes = []
    if ends and tokenizer.eos_token_id is None:
        raise DataError("the tokenizer has no end token (eos_token): a model could not learn where to stop")
    if chat_template is not None:
        tokenizer.chat_template = chat_template
    if tokenizer.pad_token_id is None:
        if tokenizer.eos_token_id is None:
            raise DataError("the tokenizer has neither a pad token nor an end token (pad_token, eos_token)")
        tokenizer.pad_token = tokenizer.eos_token
        notes.append(f"the tokenizer has no pad token: {tokenizer.eos_token!r} is used; padding is never a target")
    return notes


def train_tokenizer(texts: Iterable[str], vocabulary: int) -> Any:
    """A byte-level BPE of `vocabulary` tokens, trained on the first 64 MiB of the texts; the same texts give the same.

    Raises:
        DataError: the vocabulary cannot hold all bytes.
    """
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
    from transformers import PreTrainedTokenizerFast

    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    special = [BEGIN, END, PAD]
    if vocabulary < len(alphabet) + len(special):
        raise DataError(
            f"model.tokenizer_vocab_size={vocabulary} is too small for all bytes and special tokens; "
            f"nearest: {len(alphabet) + len(special)}"
        )
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary, special_tokens=special, initial_alphabet=alphabet, show_progress=False
    )
    tokenizer.train_from_iterator(_head(texts), trainer)
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{BEGIN} $A", pair=f"{BEGIN} $A $B", special_tokens=[(BEGIN, tokenizer.token_to_id(BEGIN))]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, bos_token=BEGIN, eos_token=END, pad_token=PAD, clean_up_tokenization_spaces=False
    )


def fit_to_classifier(tokenizer: Any, model: ModelConfig) -> None:
    """Make a trained tokenizer join texts as a random encoder reads them: begin, text, end, and a second text with an
    end of its own. Models that are no encoders only get the begin token before each text.
    """
    from tokenizers import processors
    from transformers.models.auto.modeling_auto import MODEL_FOR_MASKED_LM_MAPPING_NAMES

    from train.data.make_model import model_config

    config = model_config(model, tokenizer)
    if config.model_type not in MODEL_FOR_MASKED_LM_MAPPING_NAMES:
        return
    tokenizer.cls_token, tokenizer.sep_token = BEGIN, END
    ids = [(token, tokenizer.convert_tokens_to_ids(token)) for token in (BEGIN, END)]
    tokenizer.backend_tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{BEGIN}:0 $A:0 {END}:0", pair=f"{BEGIN}:0 $A:0 {END}:0 $B:1 {END}:1", special_tokens=ids
    )
    if getattr(config, "type_vocab_size", 0) > 1:
        # What is saved is what a tokenizer was made with.
        names = ["input_ids", "token_type_ids", "attention_mask"]
        tokenizer.model_input_names = tokenizer.init_kwargs["model_input_names"] = names


def _head(texts: Iterable[str]) -> Iterable[str]:
    size = 0
    for text in texts:
        yield text
        size += len(text)
        if size >= TRAINING_BYTES:
            return
