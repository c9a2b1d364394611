"""Whether a model's class keeps packed documents apart, asked once for a model, a torch and a transformers.

The answer lies in the cache: a later start reads a name and imports neither of them.
"""

from __future__ import annotations

from importlib.metadata import version
from pathlib import Path
from typing import Any

from conf.schema import ModelConfig
from train.data.cache import content_key, made_once

VERSION = 1
"""Of what the check means; with another one it is made again."""


def check_packing(model: ModelConfig, folder: Path | None, cache: Path) -> bool:
    """Compare documents packed and alone on a small model of the class; whether the answer was there already.

    Args:
        folder: where the config.json of a random model lies; None for a model that is loaded by its name.

    Raises:
        PackingError: they differ, or it cannot be told; a matter of the configuration.
    """
    source = folder or Path(model.model_name_or_path)
    shape = source / "config.json"
    content = shape.read_text() if shape.is_file() else [str(source), model.revision]
    installed = [version(name) for name in ("torch", "transformers")]

    def check(made: Path) -> None:
        revision = None if source.is_dir() else model.revision
        (made / "difference").write_text(f"{_difference(model, str(source), revision):.3e}\n")

    return made_once(cache / "attention" / content_key(VERSION, content, installed), check)


def _difference(model: ModelConfig, source: str, revision: str | None) -> float:
    from transformers import AutoConfig

    from train.model.attention import self_check
    from train.model.per_document import PackingError

    config: Any = AutoConfig.from_pretrained(source, revision=revision, trust_remote_code=model.trust_remote_code)
    try:
        return self_check(config)
    except PackingError:
        raise
    except Exception as error:  # whatever a model's own code raises on a small configuration
        words = f"packed documents cannot be compared with documents alone: {error}; use data.packing=none"
        raise PackingError(f"{config.model_type}: {words}") from error
