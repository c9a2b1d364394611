"""A rank's side of a hang: its flight recorder, written down when the agent asks for it.

torch keeps the last collectives of each rank in memory. A thread waits at a named pipe and writes them as JSON into the
node's scratch folder; the main thread may sit in a collective meanwhile, where it holds no lock of Python's.
"""

from __future__ import annotations

import contextlib
import json
import os
import sys
import threading
from collections.abc import MutableMapping
from pathlib import Path
from typing import Any

RECORDERS = ("_dump_fr_trace_json", "_dump_nccl_trace_json")
"""Of gloo, and of NCCL where torch has it: JSON of all collectives that are remembered (torch ≥ 2.11)."""
REMEMBERED = "500"


def pipe_of(scratch: Path, local_rank: int) -> Path:
    """Where the agent asks a rank."""
    return scratch / f"ask-{local_rank}"


def recording_of(scratch: Path, local_rank: int) -> Path:
    """Where the rank answers."""
    return scratch / f"flight-{local_rank}.json"


def remember_collectives(environ: MutableMapping[str, str], nccl: Path) -> None:
    """Have torch remember the collectives of this process, and NCCL's watchdog write them when it gives up.

    torch appends the rank to the path `nccl`. It warns where it finds the older spellings of these two variables
    (TORCH_NCCL_TRACE_BUFFER_SIZE, TORCH_NCCL_DEBUG_INFO_TEMP_FILE).
    """
    environ.setdefault("TORCH_FR_BUFFER_SIZE", REMEMBERED)
    environ.setdefault("TORCH_FR_DUMP_TEMP_FILE", str(nccl))
    environ.setdefault("TORCH_NCCL_DUMP_ON_TIMEOUT", "1")
    environ.setdefault("TORCH_NCCL_ENABLE_TIMING", "1")  # for `train.metrics.pace`
    environ.setdefault("TORCH_NCCL_ASYNC_ERROR_HANDLING", "3")


def answer_the_agent(scratch: Path, local_rank: int) -> None:
    """Start the thread that answers, where the agent has made a pipe."""
    pipe = pipe_of(scratch, local_rank)
    if pipe.exists():
        # Also open for writing: it never ends, and opening it waits for nobody.
        descriptor = os.open(pipe, os.O_RDWR)
        answer = recording_of(scratch, local_rank)
        threading.Thread(target=_answer, args=(descriptor, answer), name="recorder", daemon=True).start()


def _answer(descriptor: int, answer: Path) -> None:
    while os.read(descriptor, 1):
        with contextlib.suppress(OSError, RuntimeError):
            beside = answer.with_suffix(".partial")
            beside.write_text(json.dumps(list(map(json.loads, _recordings()))))
            beside.replace(answer)


def _recordings() -> list[str]:
    library: Any = sys.modules.get("torch._C._distributed_c10d")
    return [getattr(library, name)(True, False) for name in RECORDERS if hasattr(library, name)]
