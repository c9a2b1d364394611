"""A rank that imports what training needs, meets the others and writes the time: `ready.py FILE`."""

from __future__ import annotations

import importlib
import sys
import time
from pathlib import Path

MODULES = ("torch", "deepspeed", "transformers", "datasets", "transformers.models.llama.modeling_llama")


def meet(file: Path) -> None:
    """Join the other ranks over gloo; rank 0 writes when all were there."""
    from torch import distributed

    distributed.init_process_group("gloo")
    distributed.barrier()
    if distributed.get_rank() == 0:
        file.write_text(str(time.time()))
    distributed.destroy_process_group()


if __name__ == "__main__":
    for module in MODULES:
        importlib.import_module(module)
    meet(Path(sys.argv[1]))
