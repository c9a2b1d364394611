"""Imports that live as long as their process, which Python's search for garbage need not look at."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def kept() -> Iterator[None]:
    """No search for garbage inside, and none later among what was made inside, this process's forks included.

    torch, DeepSpeed and transformers make 400,000 objects, nearly all of which stay: searching them again and again
    took a quarter of their imports, and writes into pages that forked ranks share.
    """
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        gc.enable()
