"""How a person sees what the doctor found: sections of rows, then what to do about it."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence

from launcher.doctor.finding import Finding
from launcher.show.show import Page


def print_findings(sections: Mapping[str, Sequence[Finding]]) -> None:
    """The findings, and below them the advice that goes with them."""
    page = Page(sys.stdout)
    for title, findings in sections.items():
        page.rows(title, [(finding.topic, finding.text()) for finding in findings])
    advice = [finding for findings in sections.values() for finding in findings if finding.follows]
    page.rows("What follows", [(finding.topic, finding.follows) for finding in advice])
