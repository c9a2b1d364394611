"""A random model, made once for a run and kept in a folder: the same weights at every ZeRO stage and on every rank."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from conf.schema import ModelConfig, TaskName


def make_model(folder: Path, model: ModelConfig, task: TaskName, tokenizer: Any, seed: int) -> None:
    """Write config.json and random float32 weights, drawn from `seed`, into an existing folder.

    The shape is `model.shape`, or the config.json of `model.model_name_or_path`. The vocabulary is the tokenizer's
    where the shape does not say, or says less.
    """
    import torch
    from transformers.utils import logging

    from train.model.model import auto_class

    logging.disable_progress_bar()
    config = model_config(model, tokenizer)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        made = auto_class(task).from_config(config, dtype=torch.float32, trust_remote_code=model.trust_remote_code)
        made.save_pretrained(folder)


def model_config(model: ModelConfig, tokenizer: Any) -> Any:
    """transformers' configuration of a random model, with the tokenizer's special tokens."""
    from transformers import AutoConfig

    if model.shape:
        shape = dict(model.shape)
        config = AutoConfig.for_model(shape.pop("model_type"), **shape)
        vocabulary = int(shape.get("vocab_size", 0))
    else:
        config = AutoConfig.from_pretrained(
            model.model_name_or_path, revision=model.revision, trust_remote_code=model.trust_remote_code
        )
        vocabulary = int(config.vocab_size)
    config.vocab_size = max(vocabulary, len(tokenizer))
    config.bos_token_id = tokenizer.bos_token_id
    config.eos_token_id = tokenizer.eos_token_id
    config.pad_token_id = tokenizer.pad_token_id
    if config.is_encoder_decoder and model.shape and "decoder_start_token_id" not in model.shape:
        config.decoder_start_token_id = tokenizer.pad_token_id
        if getattr(config, "forced_eos_token_id", None) is not None:  # BART's, in the numbers of its own tokenizer
            config.forced_eos_token_id = tokenizer.eos_token_id
    return config
