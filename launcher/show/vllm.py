"""How vLLM would serve the same model: printed, never run. Muster's own server answers one request at a time."""

from __future__ import annotations

import json
import shlex
from pathlib import Path
from typing import Any

from conf.schema import TaskName
from conf.serving import KEY_VARIABLE, PEFT_TASKS, ServeSettings, task_of
from launcher.problems import MusterError, NotFoundError

LORA_RANKS = (8, 16, 32, 64, 128, 256, 320, 512)
"""What vLLM takes for `--max-lora-rank`."""


def vllm_command(settings: ServeSettings) -> str:
    """The command, with the key where vLLM looks for it.

    Raises:
        MusterError: vLLM has no way to serve this.
    """
    folder = Path(settings.folder)
    adapter = _read(folder / "adapter_config.json")
    base = (settings.base or str(adapter.get("base_model_name_or_path") or "")) if adapter else str(folder)
    if not base:
        raise NotFoundError(f"{folder}/adapter_config.json names no base model; give --base")
    config = _read(Path(base) / "config.json")
    task = PEFT_TASKS.get(adapter.get("task_type") or "") if adapter else task_of(config)
    if task is TaskName.seq2seq_lm:
        raise MusterError("vLLM serves no encoder-decoder models; muster serve does")
    words = ["vllm", "serve", base, "--host", settings.host, "--port", str(settings.port or 8000)]
    words += ["--dtype", settings.dtype]
    length = config.get("max_position_embeddings")
    if settings.max_prompt_tokens:
        asked = settings.max_prompt_tokens + settings.max_new_tokens
        length = min(asked, length) if length else asked
    if length:
        words += ["--max-model-len", str(length)]
    if task is TaskName.seq_cls:
        words += ["--runner", "pooling", "--convert", "classify"]
    if settings.trust_remote_code:
        words.append("--trust-remote-code")
    if adapter.get("revision") and not settings.base:
        words += ["--revision", str(adapter["revision"])]
    if adapter:
        words += _lora(adapter, settings, folder)
    else:
        words += ["--served-model-name", settings.name]
    return f'VLLM_API_KEY="${KEY_VARIABLE}" {shlex.join(words)}'


def _lora(adapter: dict[str, Any], settings: ServeSettings, folder: Path) -> list[str]:
    """vLLM loads LoRA adapters alone, of a rank it has a kernel for."""
    kind = adapter.get("peft_type")
    if kind != "LORA" or adapter.get("use_dora"):
        said = "DoRA" if adapter.get("use_dora") else str(kind)
        raise MusterError(f"vLLM serves plain LoRA adapters, not {said}; serve the merged export")
    rank = max([int(adapter.get("r") or 8), *map(int, (adapter.get("rank_pattern") or {}).values())])
    fitting = next((size for size in LORA_RANKS if size >= rank), rank)
    return ["--enable-lora", "--lora-modules", f"{settings.name}={folder}", "--max-lora-rank", str(fitting)]


def _read(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}
