"""What the labels of the training data are: their kind (`task.problem_type`) and their names.

Lists of labels in which every entry is zero or one, one of them repeats and all have one length say for each label
whether it holds; other lists name the labels that hold.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import msgspec

from conf.label_names import label_number
from conf.schema import ProblemType, RunConfig, TaskConfig
from train.data.block import DataError, RowError
from train.data.cache import content_key, made_once
from train.data.labels import Labelling, entries_of, label_of
from train.data.prepared import Labels
from train.data.splits import Source

MOST_NAMES = 100_000
"""Labels beyond which a column is taken for one that has none."""

RECORD = "labelling.json"
CLASSIFIER = "ForSequenceClassification"
"""End of the name of transformers' classes whose labels a model brings along."""


def labelling_of(sources: Sequence[Source], config: RunConfig, cache: Path) -> Labelling:
    """How the labels of the sources that lead, those of training, are read; from the cache or into it.

    Raises:
        DataError: the labels are not of one kind, not of the kind that was asked for, or all the same.
    """
    own = own_labels(config.model.model_name_or_path)
    known = own.names if own else []
    task, data = config.task, config.data
    if own and config.train.max_steps == 0:  # an evaluation alone: what the model tells apart is settled
        kind = own.problem_type if task.problem_type is ProblemType.auto else task.problem_type
        task = replace(task, problem_type=kind, labels=task.labels or own.names)
    options = [task.problem_type.value, task.labels, known, data.columns, data.format.value]
    target = cache / "labels" / content_key([source.digest for source in sources], options)

    def survey(folder: Path) -> None:
        found = _survey(sources, config).judged(task, *_column_and_names(sources, config, known))
        (folder / RECORD).write_bytes(msgspec.json.encode(found))

    made_once(target, survey)
    return msgspec.json.decode((target / RECORD).read_bytes(), type=Labelling)


def _survey(sources: Sequence[Source], config: RunConfig) -> Survey:
    survey = Survey()
    for source in sources:
        shape, codes = source.shape(config.data), source.codes(config.data)
        for row in source.rows():
            try:
                survey.add(label_of(row.columns, shape, codes), f"{source.name}:{row.line}")
            except RowError:
                continue  # whoever encodes the row says so
    return survey


def _column_and_names(sources: Sequence[Source], config: RunConfig, own: list[str]) -> tuple[str, list[str]]:
    """The label's column, and names that the model or else the data brings along."""
    return sources[0].shape(config.data).columns["label"], own or sources[0].codes(config.data)


def own_labels(model: str) -> Labels | None:
    """What a trained classifier in a folder tells apart; None of any other model."""
    path = Path(model) / "config.json"
    if not model or not path.is_file():
        return None
    config = json.loads(path.read_text())
    if not any(str(name).endswith(CLASSIFIER) for name in config.get("architectures") or []):
        return None
    names = config.get("id2label") or {}
    kind = config.get("problem_type") or ProblemType.auto.value
    return Labels(ProblemType(kind), [str(names[number]) for number in sorted(names, key=int)])


@dataclass
class Survey:
    """What the labels of the training data are like, gathered row by row."""

    names: Counter[str] = field(default_factory=Counter)
    widths: set[int] = field(default_factory=set)
    places: dict[bool, str] = field(default_factory=dict)
    """Where the first single label (False) and the first list (True) are."""
    text: str = ""
    """Where the first label that is no number is."""
    fractions: bool = False
    repeats: bool = False

    def add(self, value: Any, place: str) -> None:
        """Take up the label of a row; a row without a usable one is broken, which whoever encodes it says."""
        try:
            entries = entries_of(value)
        except RowError:
            return
        several = isinstance(value, list)
        if not entries and not several:
            return
        self.places.setdefault(several, place)
        if several:
            self.widths.add(len(entries))
            self.repeats |= len(set(entries)) < len(entries)
        for name in entries:
            number = label_number(name)
            if number is None:
                self.text = self.text or f"{name!r} in {place}"
            elif not number.is_integer():
                self.fractions = True
        if len(self.names) < MOST_NAMES:
            self.names.update(entries)

    def judged(self, task: TaskConfig, column: str, known: Sequence[str] = ()) -> Labelling:
        """How labels are read.

        Args:
            known: names that the data or the model brings along, in their order; used where they hold all labels.

        Raises:
            DataError: the labels are not of one kind, not of the kind that was asked for, or all the same.
        """
        if not self.places:
            raise DataError(f"{column!r} (data.columns.label) has no label in any training row")
        if len(self.places) == 2:
            raise DataError(
                f"labels are lists in some rows ({self.places[True]}), not in others ({self.places[False]})"
            )
        several = True in self.places
        kind = self._kind(task.problem_type, several)
        if kind is ProblemType.regression:
            return Labelling(Labels(kind, self._outputs(task.labels, column)))
        if len(self.names) >= MOST_NAMES:
            rule = (
                f"has {MOST_NAMES:,} different labels or more; is it the right column, or task.problem_type=regression?"
            )
            raise DataError(f"{column!r} (data.columns.label) {rule}")
        indicators = several and self._are_indicators()
        found = [str(place) for place in range(max(self.widths))] if indicators else sorted(self.names, key=natural)
        if indicators and task.labels and len(task.labels) != len(found):
            raise DataError(f"task.labels has {len(task.labels)} names, the lists of labels have {len(found)} entries")
        covered = len(known) == len(found) if indicators else set(found) <= set(known)
        names = list(task.labels) or (list(known) if covered else found)
        if len(names) < 2 and kind is ProblemType.single_label_classification:
            raise DataError(f"every training row has the label {names[0]!r}: there is nothing to tell apart")
        return Labelling(Labels(kind, names), indicators)

    def _kind(self, asked: ProblemType, several: bool) -> ProblemType:
        numbers = not self.text
        if asked is ProblemType.auto:
            if numbers and self.fractions:
                return ProblemType.regression
            return ProblemType.multi_label_classification if several else ProblemType.single_label_classification
        wanted = f"task.problem_type={asked.value}"
        if asked is ProblemType.regression and not numbers:
            raise DataError(f"{wanted}: a label is no number: {self.text}")
        if asked is ProblemType.multi_label_classification and not several:
            place = self.places[False]
            rule = 'wants lists such as ["a", "b"] (JSON or Parquet; CSV has none), but the label is none'
            raise DataError(f"{wanted} {rule}: {place}")
        if asked is ProblemType.single_label_classification and several:
            raise DataError(f"{wanted}: a label is a list: {self.places[True]}")
        return asked

    def _outputs(self, given: list[str], column: str) -> list[str]:
        """Names of the numbers of a regression."""
        if len(self.widths) > 1:
            raise DataError(f"labels have {min(self.widths)} to {max(self.widths)} numbers; all need the same number")
        width = max(self.widths, default=1)
        if given and len(given) != width:
            raise DataError(f"task.labels has {len(given)} names, the labels have {width} number{'s' * (width > 1)}")
        return given or ([f"{column}_{place}" for place in range(width)] if width > 1 else [column])

    def _are_indicators(self) -> bool:
        return self.repeats and len(self.widths) == 1 and {label_number(name) for name in self.names} <= {0.0, 1.0}


def natural(name: str) -> tuple[list[tuple[int, int | str]], str]:
    """Sorts `label 2` before `label 10`, and numbers by size."""
    if (number := label_number(name)) is not None and number.is_integer() and name not in ("true", "false"):
        return [(0, int(number))], name
    parts = re.split(r"(\d+)", name)
    return [(0, int(part)) if place % 2 else (1, part) for place, part in enumerate(parts) if part], name
