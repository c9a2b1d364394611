"""How the parts of the data step say what they do."""

from __future__ import annotations

from collections.abc import Callable

Report = Callable[[str, int, int], None]
"""What is being done, how much of it is done and how much there is, in bytes (rows for hub data sets)."""
