"""How a label of the data is spelled: the one rule for those who look at data before a run, and those who read it."""

from __future__ import annotations

import math
from typing import Any


def label_name(value: Any) -> str:
    """The name of one label: text without space around it, a number as it is written; empty where there is nothing.

    Raises:
        TypeError: it is neither text nor a number, nor true or false.
    """
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, (int, float)):
        if isinstance(value, float) and math.isnan(value):
            return ""
        # What came through a table of floats is a whole number again.
        return str(int(value)) if float(value).is_integer() else repr(value)
    if isinstance(value, str):
        return value.strip()
    if value is None:
        return ""
    raise TypeError(f"the label is {type(value).__name__}: text, a number or a list of them is expected")


def label_number(name: str) -> float | None:
    """The number that a name is; None where it is none."""
    if name in ("true", "false"):
        return float(name == "true")
    try:
        number = float(name)
    except ValueError:
        return None
    return number if math.isfinite(number) else None
