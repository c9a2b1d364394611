"""Which class of cause an exception belongs to. Pure.

An exception class says its own cause with an attribute `cause: Cause`; others are known by type, number or text.
"""

from __future__ import annotations

import errno
from collections.abc import Iterator

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
}
TEXTS: tuple[tuple[str, Cause], ...] = (
    ("cuda out of memory", Cause.cuda_oom),
    ("cuda error: out of memory", Cause.cuda_oom),
    ("can't allocate memory", Cause.oom),
    ("cannot allocate memory", Cause.oom),
    ("std::bad_alloc", Cause.oom),
    ("no space left on device", Cause.disk_full),
    ("disk quota exceeded", Cause.disk_full),
    ("eaddrinuse", Cause.port),
    ("address already in use", Cause.port),
    ("cannot open shared object file", Cause.import_error),
    ("collective operation timeout", Cause.hang),
    ("timed out waiting", Cause.hang),
    ("connection closed by peer", Cause.lost_peer),
    ("connection reset by peer", Cause.lost_peer),
    ("broken pipe", Cause.lost_peer),
    ("connection was likely closed", Cause.lost_peer),
    ("socket closed", Cause.lost_peer),
    ("remote process exited or there was a network error", Cause.lost_peer),
)
"""What torch, gloo, NCCL and the allocators say, in lower case, most telling first."""


def classify(exception: BaseException) -> Cause:
    """The class of an exception: its own word, its type, its number, its text; then the same of what caused it."""
    for link in _chain(exception):
        cause = _classify_one(link)
        if cause is not None:
            return cause
    return Cause.user_code


def _classify_one(exception: BaseException) -> Cause | None:
    own = getattr(exception, "cause", None)
    if isinstance(own, Cause):
        return own
    if type(exception).__name__ == "OutOfMemoryError":
        return Cause.cuda_oom
    if isinstance(exception, OSError) and exception.errno in NUMBERS:
        return NUMBERS[exception.errno]
    for kind, cause in TYPES:
        if isinstance(exception, kind):
            return cause
    if isinstance(exception, (RuntimeError, OSError)) or type(exception).__module__.split(".")[0] != "builtins":
        text = str(exception).lower()
        return next((cause for words, cause in TEXTS if words in text), None)
    return None


def _chain(exception: BaseException) -> Iterator[BaseException]:
    seen: set[int] = set()
    link: BaseException | None = exception
    while link is not None and id(link) not in seen:
        seen.add(id(link))
        yield link
        link = link.__cause__
