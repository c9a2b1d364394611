"""What all tests share: where the real data lies, and the rule about skips."""

from __future__ import annotations

import io
import os
import tempfile
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[1]
SHARED_DATA = REPOSITORY.parent / "shared" / "data"


def _spare_the_captured_output() -> None:
    """Give absl, which comes with rouge-score, a stream of its own.

    Its log handler keeps the standard error it finds at import, which is pytest's, and closes it when Hydra sets up
    logging.
    """
    from absl import logging

    logging.get_absl_handler().python_handler.stream = io.StringIO()


_spare_the_captured_output()

os.environ["XDG_STATE_HOME"] = tempfile.mkdtemp(prefix="muster-states-")
"""What runs of tests measure corrects nobody's plans."""

skipped: list[str] = []


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Real data sets beside the checkout; a test that wants them is skipped without them."""
    if not SHARED_DATA.is_dir():
        pytest.skip(f"no real data beside the checkout ({SHARED_DATA.name} folder missing)")
    return SHARED_DATA


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    """Note every skip that is not for want of an accelerator."""
    if report.skipped and not hasattr(report, "wasxfail") and "gpu" not in report.keywords:
        skipped.append(report.nodeid)


def pytest_sessionfinish(session: pytest.Session, exitstatus: int) -> None:
    """With MUSTER_TEST_NO_SKIP, a skipped test fails the session: continuous integration lets nothing slip."""
    if os.environ.get("MUSTER_TEST_NO_SKIP") and skipped and exitstatus == 0:
        print(f"\nskipped although MUSTER_TEST_NO_SKIP is set: {', '.join(skipped)}")
        session.exitstatus = pytest.ExitCode.TESTS_FAILED
