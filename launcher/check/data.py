"""Data that is missing, empty, broken, or lacks the columns a format needs."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from conf.formats import AUTOMATIC, COLUMNS, OPTIONAL, PREFERENCES, USUAL_NAMES, format_for, preferred_over
from conf.schema import DataConfig, DataFormat, Deduplicate, LongRows, RunConfig
from launcher.facts.data import BUILTIN, HUB_KEY, SOURCES
from launcher.facts.facts import DataFile, Facts
from launcher.facts.survey import ColumnFault
from launcher.problems import Problem, nearest

ROLES = tuple(
    dict.fromkeys(name for roles in COLUMNS.values() for role, names in roles.items() for name in (role, *names))
)
"""What `data.columns.<role>` may name."""

TEXTS = ("prompt", "response", "instruction", "output", "document", "summary", "text")
"""Roles whose columns hold text in every row."""


def data_problems(config: RunConfig, facts: Facts) -> Iterator[Problem]:
    """What is wrong with the data files and the keys that read them."""
    data = config.data
    for role in data.columns:
        if role not in ROLES:
            yield Problem(
                f"data.columns.{role}",
                data.columns[role],
                f"is no role; there are {', '.join(ROLES)}",
                nearest(role, ROLES),
            )
    if data.prompt_template is not None and "{prompt}" not in data.prompt_template:
        rule = "has no {prompt} for the prompt to stand in"
        yield Problem("data.prompt_template", data.prompt_template, rule, "{prompt}\\n")
    yield from _template_problems(data, facts)
    for key, file in facts.data_files.items():
        yield from _file_problems(key, file, config, facts)
    yield from _long_problems(config, facts)
    yield from _sample_problems(config)
    yield from _bundled_problems(data)


def _template_problems(data: DataConfig, facts: Facts) -> Iterator[Problem]:
    """A template is text by now; what has no braces is the name of a file that could not be read."""
    text = facts.chat_template if facts.chat_template is not None else data.chat_template
    if text is None or "{" in text:
        return
    given = data.chat_template or ""
    if text == given:
        yield Problem(
            "data.chat_template", given, f"is neither a Jinja template nor a file that can be read in {facts.cwd}"
        )
    else:
        yield Problem("data.chat_template", given, "is a file without a Jinja template: there is no { in it")


def _file_problems(key: str, file: DataFile, config: RunConfig, facts: Facts) -> Iterator[Problem]:
    data = config.data
    if file.error:
        suffix = "suffix" in file.error
        near = ".jsonl, .json, .csv, .parquet" if suffix else ""
        words = f"{file.error}, which is not a kind of data file" if suffix else f"cannot be read: {file.error}"
        if key == HUB_KEY:
            words = file.error
        where = f" ({file.path})" if file.path != file.given else ""
        yield Problem(key, file.given, f"{words}{where}", near)
        return
    if file.broken and file.broken_rows > data.max_bad_rows:
        rule = (
            f"is broken in line {file.broken.line}: {file.broken.reason}; {file.broken_rows} broken rows, "
            f"data.max_bad_rows={data.max_bad_rows}"
        )
        yield Problem(key, file.given, rule)
    if file.rows == 0 or (file.rows is not None and file.rows - file.broken_rows < 0):
        if not file.broken_rows:
            yield Problem(key, file.given, "has no rows")
        return
    if file.columns:
        known = replace(data, format=format_for(config.task.name, data.format))
        yield from _column_problems(key, file, known, facts)


def _column_problems(key: str, file: DataFile, data: DataConfig, facts: Facts) -> Iterator[Problem]:
    missing = {role: column for role, column in data.columns.items() if column not in file.columns}
    if key.startswith(SOURCES):  # each source has some of the columns; `selection` sees to it that one has each
        data = replace(data, columns={role: name for role, name in data.columns.items() if role not in missing})
        missing = {}
    for role, column in missing.items():
        if role in ROLES:
            rule = f"is no column of {file.given}; there are {', '.join(file.columns)}"
            yield Problem(f"data.columns.{role}", column, rule, nearest(column, file.columns))
    if missing:
        return
    if preferred_over(file.columns, data.columns):
        near = "data.columns.prompt=prompt data.columns.response=chosen" if "chosen" in file.columns else ""
        yield Problem(key, file.given, f"has the columns {', '.join(file.columns)}: {PREFERENCES}", near)
        return
    found = format_of(file, data)
    if found is None:
        yield _format_problem(key, file, data)
    elif found is DataFormat.messages and _lacks_template(data, facts):
        rule = "has conversations, which need a chat template, and the tokenizer has none"
        yield Problem(key, file.given, rule, "data.chat_template=<file or Jinja text>")
    elif file.broken_rows <= data.max_bad_rows:
        yield from _text_problems(key, file, data, found)


def _text_problems(key: str, file: DataFile, data: DataConfig, found: DataFormat) -> Iterator[Problem]:
    """Rows that lack a text, as far as they were seen."""
    drops_empty = data.clean.drop_empty and key.startswith("data.train")
    columns: list[list[ColumnFault]] = []
    for role in (role for role in TEXTS if role in COLUMNS[found]):
        names = COLUMNS[found][role]
        named = (data.columns[alias] for alias in (role, *names) if alias in data.columns)
        column = next((name for name in (*named, *names) if name in file.columns), "")
        columns.append([fault for fault in file.faults.get(column, ()) if not (fault.empty and drops_empty)])
    # A row may lack several of its texts, so that their numbers must not be added up.
    count = file.broken_rows + max((sum(fault.count for fault in faults) for faults in columns), default=0)
    faults = sorted((fault for each in columns for fault in each), key=lambda fault: fault.line)
    if faults and count > data.max_bad_rows:
        broken = f"{count} broken rows, data.max_bad_rows={data.max_bad_rows}"
        rule = f"is broken in line {faults[0].line}: {faults[0].reason}; {broken}"
        only_empty = all(fault.empty for fault in faults) and key.startswith("data.train")
        yield Problem(key, file.given, rule, "data.clean.drop_empty=true" if only_empty else "")


def format_of(file: DataFile, data: DataConfig) -> DataFormat | None:
    """The first format whose roles all have a column; None where there is none."""
    wanted = list(AUTOMATIC) if data.format is DataFormat.auto else [data.format]
    return next((kind for kind in wanted if not _lacking(kind, file, data)), None)


def _lacking(kind: DataFormat, file: DataFile, data: DataConfig) -> list[str]:
    """Roles of a format for which the file has no column."""
    return [
        role
        for role, names in COLUMNS[kind].items()
        if role not in OPTIONAL and not any(name in data.columns or name in file.columns for name in (role, *names))
    ]


def _unknown(kind: DataFormat, file: DataFile, data: DataConfig) -> int:
    """How many roles a format lacks for which no column looks right."""
    return [_column_like(role, file.columns) for role in _lacking(kind, file, data)].count("<column>")


def _long_problems(config: RunConfig, facts: Facts) -> Iterator[Problem]:
    """Only a text without a question can be taken apart."""
    data = config.data
    if data.on_long is not LongRows.split:
        return
    known = replace(data, format=format_for(config.task.name, data.format))
    formats = [format_of(file, known) for file in facts.data_files.values() if file.columns]
    other = next((found for found in formats if found not in (None, DataFormat.text)), None)
    if other is not None:
        rule = f"is for plain text; rows in the format {other.value} would lose their question"
        yield Problem("data.on_long", data.on_long.value, rule, "truncate")
    if data.clean.deduplicate is Deduplicate.near:
        rule = "makes several documents of a row, which data.clean.deduplicate=near cannot tell apart"
        yield Problem("data.on_long", data.on_long.value, rule, "data.clean.deduplicate=exact")


def _format_problem(key: str, file: DataFile, data: DataConfig) -> Problem:
    columns = ", ".join(file.columns)
    kinds = list(AUTOMATIC) if data.format is DataFormat.auto else [data.format]
    best = min(
        kinds, key=lambda kind: (_unknown(kind, file, data), len(_lacking(kind, file, data)) / len(COLUMNS[kind]))
    )
    lacking = _lacking(best, file, data)
    near = " ".join(f"data.columns.{role}={_column_like(role, file.columns)}" for role in lacking)
    shapes = "; ".join(f"{kind.value}: {', '.join(COLUMNS[kind])}" for kind in kinds)
    return Problem(key, file.given, f"has the columns {columns}, which make no known format ({shapes})", near)


def _column_like(role: str, columns: tuple[str, ...]) -> str:
    """The column that most likely has a role; `<column>` where none looks like it."""
    usual = (name for name in USUAL_NAMES.get(role, ()) if name in columns)
    return next(usual, nearest(role, columns, 1) or "<column>")


def _lacks_template(data: DataConfig, facts: Facts) -> bool:
    return data.chat_template is None and not facts.model.has_chat_template and not facts.model.unresolved


def _bundled_problems(data: DataConfig) -> Iterator[Problem]:
    """A person's training data beside the validation data of a demo would measure nothing."""
    trained = [given for given in (data.train_file, *data.train_files.values(), data.dataset_name) if given]
    for key in ("validation_file", "test_file"):
        given = getattr(data, key) or ""
        if given.startswith(BUILTIN) and trained and not any(one.startswith(BUILTIN) for one in trained):
            rule = "is the data of a demo, and the training data is not"
            yield Problem(f"data.{key}", given, rule, "data=default")


def _sample_problems(config: RunConfig) -> Iterator[Problem]:
    data = config.data
    there = data.validation_file or data.validation_size or data.dataset_name
    if config.train.eval_samples > 0 and not there:
        rule = "answers prompts of the validation data, and there is none"
        yield Problem("train.eval_samples", str(config.train.eval_samples), rule, "data.validation_size=0.05, 0")
