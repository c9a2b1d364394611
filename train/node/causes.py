"""Which class of failure an exception belongs to: rules from the most to the least specific. Pure.

An exception class says its own cause with an attribute `cause: Cause`; others are known by type, number or text
(`conf.failure_texts`).
"""

from __future__ import annotations

import errno
from collections.abc import Iterator

from conf.failure_texts import classify_text
from conf.outcome import Cause

TYPES: tuple[tuple[type[BaseException], Cause], ...] = (
    (MemoryError, Cause.oom),
    (ImportError, Cause.import_error),
    (ConnectionError, Cause.lost_peer),
)
NUMBERS = {
    errno.ENOMEM: Cause.oom,
    errno.EADDRINUSE: Cause.port,
    errno.ENOSPC: Cause.disk_full,
    errno.EDQUOT: Cause.disk_full,
    errno.ECONNRESET: Cause.lost_peer,
    errno.EPIPE: Cause.lost_peer,
    errno.ESTALE: Cause.file_system,
    errno.EIO: Cause.file_system,
    errno.EROFS: Cause.file_system,
    errno.EMFILE: Cause.config,
    errno.ENFILE: Cause.config,
    errno.EACCES: Cause.config,
}
BY_TYPE = {"OutOfMemoryError": Cause.cuda_oom}
"""By the name alone: torch is not imported for it."""
HUB_MODULES = frozenset({"huggingface_hub"})
PEER_TYPES = frozenset({"DistBackendError", "DistNetworkError", "DistStoreError", "DistError"})
"""torch's own errors of communication: where their text says no more, a peer has gone."""


def classify(exception: BaseException) -> Cause:
    """The class of an exception: its own word, its type, its number, its text; then the same of what caused it."""
    for link in _chain(exception):
        cause = _classify_one(link)
        if cause is not None:
            return cause
    return Cause.user_code


def classify_printed(error: str) -> Cause:
    """The class of an error of which only the last line of its traceback is known, such as `ValueError: no`."""
    name = error.partition(":")[0].rpartition(".")[2]
    if name in BY_TYPE:
        return BY_TYPE[name]
    kinds = {kind.__name__: cause for kind, cause in TYPES} | {"ModuleNotFoundError": Cause.import_error}
    return kinds.get(name) or classify_text(error) or (Cause.lost_peer if name in PEER_TYPES else Cause.user_code)


def origin_of(exception: BaseException) -> int | None:
    """The rank whose error this one repeats (`World.first_error`), or None."""
    origins = (getattr(link, "origin", None) for link in _chain(exception))
    return next((origin for origin in origins if isinstance(origin, int)), None)


def _classify_one(exception: BaseException) -> Cause | None:
    own = getattr(exception, "cause", None)
    if isinstance(own, Cause):
        return own
    name, module = type(exception).__name__, type(exception).__module__.split(".")[0]
    if name in BY_TYPE:
        return BY_TYPE[name]
    if isinstance(exception, OSError) and exception.errno in NUMBERS:
        if exception.errno == errno.ENOSPC and str(exception.filename or "").startswith("/dev/shm"):
            return Cause.shm_full
        return NUMBERS[exception.errno]
    if module in HUB_MODULES:
        return Cause.hub
    for kind, cause in TYPES:
        if isinstance(exception, kind):
            return cause
    if isinstance(exception, (RuntimeError, OSError)) or module != "builtins":
        told = classify_text(str(exception))
        return Cause.lost_peer if told is None and name in PEER_TYPES else told
    return None


def _chain(exception: BaseException) -> Iterator[BaseException]:
    """The exception and what it was raised from."""
    seen: set[int] = set()
    link: BaseException | None = exception
    while link is not None and id(link) not in seen:
        seen.add(id(link))
        yield link
        link = link.__cause__
