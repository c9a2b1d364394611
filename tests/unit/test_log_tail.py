"""The traceback that a program's log ends with."""

from __future__ import annotations

import subprocess
import sys

import pytest

from conf.outcome import Cause
from train.node.causes import classify_printed
from train.node.log_tail import last_traceback

CHAINED = "try:\n    1 / 0\nexcept ZeroDivisionError as e:\n    raise ValueError('two\\nlines') from e"


@pytest.mark.parametrize(
    ("code", "ends"),
    [
        ("print('fine'); raise KeyError('x')", "KeyError: 'x'"),
        (CHAINED, "ValueError: two"),
        ("import nobody_has_this", "ModuleNotFoundError: No module named 'nobody_has_this'"),
        ("print('ended well')", ""),
    ],
    ids=["plain", "chained", "import", "none"],
)
@pytest.mark.parametrize("prefix", ["", "[rank3]: "], ids=["python", "torch"])
def test_the_last_traceback_of_what_python_prints(code: str, ends: str, prefix: str) -> None:
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    lines = [f"{prefix}{line}" for line in (done.stdout + done.stderr).splitlines()]
    found = last_traceback(["a line before", *lines])
    assert (found[-1] if found else "") == ends
    assert not found or found[0] == "Traceback (most recent call last):"


@pytest.mark.parametrize(
    ("error", "cause"),
    [
        ("ValueError: a mistake", Cause.user_code),
        ("torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 2 GiB", Cause.cuda_oom),
        ("ModuleNotFoundError: No module named 'trl'", Cause.import_error),
        ("MemoryError", Cause.oom),
        ("torch.distributed.DistBackendError: something", Cause.lost_peer),
        ("OSError: [Errno 28] No space left on device: '/x'", Cause.disk_full),
    ],
)
def test_classes_of_printed_errors(error: str, cause: Cause) -> None:
    assert classify_printed(error) is cause
