"""How the training documents will be chosen, in words: what is mixed, held out and cleaned."""

from __future__ import annotations

from conf.schema import CleanConfig, DataConfig, Deduplicate, RunConfig, SplitBy


def selection_notes(config: RunConfig) -> list[str]:
    """A note for mixing, holding out and cleaning, each where there is any."""
    data = config.data
    notes = [_mixed(data), _held_out(data, config.train.seed), _cleaned(data)]
    return [note for note in notes if note]


def _mixed(data: DataConfig) -> str:
    if not data.train_files:
        return ""
    if not data.weights:
        return f"mixed: {', '.join(data.train_files)}, each document once an epoch"
    whole = sum(data.weights.values())
    shares = ", ".join(f"{name} {data.weights[name] / whole:.1%}" for name in data.train_files)
    return f"mixed by data.weights: {shares} of the documents of an epoch, as many as all sources have together"


def _held_out(data: DataConfig, seed: int) -> str:
    sizes = {"validation": data.validation_size, "test": data.test_size}
    held = [f"{_amount(size)} for {name}" for name, size in sizes.items() if size > 0]
    if not held:
        return ""
    column = f"the values of {data.split_column}" if data.split_column else "the label"
    ways = {
        SplitBy.random: "at random",
        SplitBy.stratified: f"stratified by {column}",
        SplitBy.grouped: f"in whole groups by {column}",
    }
    return f"held out: {' and '.join(held)}, {ways[data.split_by]}, by train.seed={seed}"


def _amount(size: float) -> str:
    return f"{size:.1%} of the training rows" if size < 1 else f"{size:g} training rows"


def _cleaned(data: DataConfig) -> str:
    clean: CleanConfig = data.clean
    near = f"near duplicates (similarity from {clean.near_threshold:g}, found approximately)"
    rules = {
        "rows without text or answer": clean.drop_empty,
        f"documents below {clean.min_length} tokens": clean.min_length > 0,
        "exact duplicates": clean.deduplicate is not Deduplicate.none,
        near: clean.deduplicate is Deduplicate.near,
        "rows that are in the validation or test data": clean.drop_leaks,
    }
    words = ", ".join(rule for rule, holds in rules.items() if holds)
    return f"cleaned, training data alone: without {words}" if words else ""
