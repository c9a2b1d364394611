"""One configuration or each point of a sweep (`-m`): every point is prepared before the first is acted on.

What is wrong with any point is said with the point's own overrides, and then nothing is started.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from launcher.compose.compose import compose
from launcher.compose.declared import declared, require_no_sweep
from launcher.compose.hydra_main import hydra_flags, sort_words
from launcher.sweep.grid import Grid, Prepare, Ready, compose_grid, propose_grid

if TYPE_CHECKING:
    from launcher.sweep.search import Search

Act = Callable[[Ready], int]
Whole = Callable[[Grid, list[Ready]], int]
Seek = Callable[["Search", list[Ready]], int]


def each_run(
    words: list[str],
    prepare: Prepare,
    act: Act,
    whole: Whole | None = None,
    seek: Seek | None = None,
    *,
    headings: bool = True,
) -> int:
    """Act on the configuration, on a sweep, or let Hydra's showing flags answer; the exit code.

    `whole` acts on all points of a sweep at once; without it each is acted on alone, and the highest code counts.
    `seek` is the same for a sweep whose points Optuna chooses; its points here are the ends of what it chooses from.

    Raises:
        ConfigurationError: with every problem of the command line, of each file used and of each point.
    """
    sorted_words = sort_words(words)
    if sorted_words.flags:
        return hydra_flags(words)
    if not sorted_words.sweep:
        config = compose(sorted_words.overrides, sorted_words.config_dir)
        require_no_sweep(config)
        return act(prepare(config, words))
    found = declared(sorted_words.overrides, sorted_words.config_dir)
    if found.sweep.sampler is not None:
        from launcher.sweep.optimize import check_search
        from launcher.sweep.search import make_search

        search = make_search(found, sorted_words.config_dir)
        ready = check_search(search, prepare)
        if seek is not None:
            return seek(search, ready)
    else:
        grid = compose_grid(sorted_words.overrides, sorted_words.config_dir)
        ready = propose_grid(grid, prepare)
        if whole is not None:
            return whole(grid, ready)
    codes = []
    for number, one in enumerate(ready, start=1):
        if headings:
            print(f"\n--- {number} of {len(ready)}: {one.point}", flush=True)
        codes.append(act(one))
    return max(codes)
