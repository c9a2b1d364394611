"""A row's label as numbers.

A label is text, a number, true or false, or a list of them. What labels mean together is judged once, over all training
rows (`label_survey`); rows of every split are then read by that judgement.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from conf.label_names import label_name, label_number
from conf.schema import ProblemType
from train.data.block import EmptyRowError, RowError
from train.data.documents import FloatArray
from train.data.prepared import Labels
from train.data.rows import Shape

SHOWN_NAMES = 8


@dataclass(frozen=True)
class Labelling:
    """How labels are read: their kind and names, and whether lists hold a zero or one for each name."""

    labels: Labels
    indicators: bool = False

    @property
    def width(self) -> int:
        """Numbers that a document's label is made of."""
        single = self.labels.problem_type is ProblemType.single_label_classification
        return 1 if single else len(self.labels.names)

    def vector(self, value: Any) -> FloatArray:
        """A label as float32 (width,): the number of its name, a zero or one for each name, or the numbers themselves.

        Raises:
            RowError: there is no label, or it is of another kind than the others.
            UnknownLabelError: it has a name that is none of `names`.
        """
        entries = entries_of(value)
        if not isinstance(value, list) and not entries:
            raise EmptyRowError("there is no label")
        kind, names = self.labels.problem_type, self.labels.names
        several = isinstance(value, list)
        if kind is ProblemType.regression or self.indicators:
            numbers = [label_number(entry) for entry in entries]
            if None in numbers or len(numbers) != len(names):
                raise RowError(f"the label {value!r} is not {len(names)} number{'' if len(names) == 1 else 's'}")
            return np.array(numbers, np.float32)
        if several is (kind is ProblemType.single_label_classification):
            raise RowError(f"the label {value!r} is {'a list' if several else 'no list'}, unlike the others")
        places = [self._place(name) for name in entries]
        if not several:
            return np.array(places, np.float32)
        held = np.zeros(len(names), np.float32)
        held[places] = 1
        return held

    @cached_property
    def _places(self) -> dict[str, int]:
        return {name: place for place, name in enumerate(self.labels.names)}

    def _place(self, name: str) -> int:
        if name not in self._places:
            raise UnknownLabelError(name, self.labels.names)
        return self._places[name]


class UnknownLabelError(Exception):
    """A label is none of those that the model tells apart."""

    def __init__(self, name: str, names: Sequence[str]):
        shown = ", ".join(names[:SHOWN_NAMES]) + (", …" if len(names) > SHOWN_NAMES else "")
        near = difflib.get_close_matches(name, names, 3, 0.5)
        words = f"the label {name!r} is none of the {len(names)} labels: {shown}"
        super().__init__(f"{words}; nearest: {', '.join(near)}" if near else words)


def entries_of(value: Any) -> list[str]:
    """The names in a label: one, several of a list, none where there is nothing.

    Raises:
        RowError: it is neither text nor a number, nor a list of them.
    """
    if isinstance(value, list):
        return [entry for part in value for entry in names_in(part)]
    return names_in(value)


def names_in(value: Any) -> list[str]:
    try:
        name = label_name(value)
    except TypeError as error:
        raise RowError(str(error)) from error
    return [name] if name else []


def label_of(row: Mapping[str, Any], shape: Shape, codes: Sequence[str]) -> Any:
    """The label of a row: the value of its column, a number that stands for a name replaced by it.

    Raises:
        RowError: there is no such column, or no name for the number.
    """
    column = shape.columns["label"]
    if column not in row:
        raise RowError(f"no column {column!r}")
    value = row[column]
    return [_decoded(part, codes) for part in value] if isinstance(value, list) else _decoded(value, codes)


def _decoded(value: Any, codes: Sequence[str]) -> Any:
    if not codes or not isinstance(value, int):
        return value
    if value == -1:  # how hub data sets mark rows of which the label is kept secret
        raise EmptyRowError("there is no label")
    if not 0 <= value < len(codes):
        raise RowError(f"the label {value} is not the number of one of {len(codes)} names")
    return codes[value]
