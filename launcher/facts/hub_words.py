"""What the hub's client raised, as words for whoever asked for a name: what is wrong, and what to do about it."""

from __future__ import annotations

from collections.abc import Sequence

REACHED_BY = (
    "fetch it where there is a network (`hf download {option}{name}`, the cache is {cache}), or give a folder on disk"
)
UNREACHABLE = frozenset(
    {
        "ConnectionError",
        "ConnectError",
        "TimeoutException",
        "Timeout",
        "ProxyError",
        "gaierror",
        "NetworkError",
        "LocalEntryNotFoundError",
    }
)
"""Classes of errors that say nothing of the name, only that nobody answered."""


def in_words(name: str, kinds: Sequence[str], message: str, *, data: bool, revision: str | None, cache: str) -> str:
    """Why a name of the hub could not be fetched.

    Args:
        kinds: names of the classes of the error, of those that they derive from, and of what caused it.
        message: its first line, used where nothing better is known.
        cache: the folder of what was fetched before.
    """
    place = f"https://huggingface.co/{'datasets/' if data else ''}{name}"
    reached_by = REACHED_BY.format(option="--repo-type dataset " if data else "", name=name, cache=cache)
    found = set(kinds)
    if "GatedRepoError" in found:
        return f"is gated: accept its conditions at {place}, then log in here (`hf auth login`)"
    if "RevisionNotFoundError" in found:
        return f"has no revision {revision or 'main'!r} on the hub (model.revision); see {place}"
    if found & {"RepositoryNotFoundError", "DatasetNotFoundError"} and not found & UNREACHABLE:
        return (
            f"is no folder here and no repository on the hub, or a private one: see {place}, log in (`hf auth login`)"
        )
    if "HFValidationError" in found:
        return "is no folder here, and cannot be a name on the hub (owner/name)"
    if "OfflineModeIsEnabled" in found:
        return f"is not in the cache, and HF_HUB_OFFLINE forbids to ask the hub; {reached_by}"
    if found & UNREACHABLE:
        return f"is not in the cache, and the hub cannot be reached from here; {reached_by}"
    return f"could not be fetched: {message}"
