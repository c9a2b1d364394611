"""Options as text: one quoting point, whole scripts as goldens, durations."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from slurm import duration, options
from slurm.step import launch_prefix, srun_arguments

GOLDENS = Path(__file__).parent / "goldens"

SITES: dict[str, dict[str, options.Value]] = {
    "plain": {"partition": "gpu", "time": "12:30:00", "gpus-per-node": 8, "cpus_per_task": 64, "mem": "0"},
    "gres": {
        "gres": "gpu:h100:4",
        "qos": "high",
        "reservation": "maint 1",
        "constraint": "[a100|h100]",
        "exclusive": True,
    },
    "extra": {"mail_type": "END", "switches": "1@12:00:00", "comment": 'a "b" $(c) `d`', "nodelist": None},
}


@pytest.mark.parametrize("site", SITES)
def test_rendered_options(site: str) -> None:
    chosen = options.batch_options(
        job_name="tune-1a2b3c4d",
        output=f"{options.literal_path('/runs/100% mine')}/slurm-%j.log",
        nodes=2,
        signal_lead_s=300,
        requeue=site != "gres",
        export=[] if site == "plain" else options.BASIC_VARIABLES,
        resources=SITES[site],
        extra={"signal": "B:USR1@600"} if site == "extra" else None,
    )
    assert "\n".join(options.render(chosen)) + "\n" == (GOLDENS / f"sbatch_{site}.txt").read_text()


QUOTED = {
    "plain": ("gpu:h100:8", "gpu:h100:8"),
    "space": ("a b", '"a b"'),
    "double": ('say "hi"', '"say \\"hi\\""'),
    "single": ("it's", '"it\'s"'),
    "shell": ("$(rm x)`y`;z", '"$(rm x)`y`;z"'),
    "backslash": ("a\\", '"a\\\\"'),
    "hash": ("#1", '"#1"'),
    "unicode": ("übung", '"übung"'),
    "percent": ("%j", "%j"),
    "long": ("x" * 300, "x" * 300),
}


@pytest.mark.parametrize(("value", "text"), QUOTED.values(), ids=QUOTED)
def test_quoting(value: str, text: str) -> None:
    assert options.quote(value) == text


@pytest.mark.parametrize("value", ["a\nb", "a\rb", "a\0b", "a\tb", "\x1b[31m", "x" * 4001, "\ud800"])
def test_refused_values(value: str) -> None:
    with pytest.raises(ValueError, match=r"control character|bytes|unicode"):
        options.quote(value)


def read_back(text: str) -> str:
    """sbatch's own reading of a value, from its source (`_get_argument` in opt.c)."""
    read, quote, escaped = "", "", False
    for letter in text:
        if escaped:
            read, escaped = read + letter, False
        elif letter == "\\":
            escaped = True
        elif quote and letter == quote:
            quote = ""
        elif not quote and letter in "\"'":
            quote = letter
        elif not quote and (letter.isspace() or letter == "#"):
            break
        else:
            read += letter
    assert not quote
    return read


@given(st.text(max_size=200))
def test_every_value_is_read_back_or_refused(value: str) -> None:
    try:
        text = options.quote(value)
    except ValueError:
        assert any(ord(letter) < 32 or ord(letter) == 127 or 0xD800 <= ord(letter) < 0xE000 for letter in value)
        return
    assert "\n" not in text
    assert read_back(text) == value


REFUSED: dict[str, tuple[str, options.Value, str]] = {
    "name with a line break": ("x\n#SBATCH --uid", "0", "no name"),
    "short form": ("-J", "x", "no name"),
    "wait": ("wait", True, "hold the submission"),
    "export with a value": ("export", "PATH,TOKEN=x", "names of variables alone"),
    "empty": ("partition", "", "is empty"),
    "line break": ("comment", "a\nb", "control character"),
}


@pytest.mark.parametrize(("name", "value", "rule"), REFUSED.values(), ids=REFUSED)
def test_refused_options(name: str, value: options.Value, rule: str) -> None:
    with pytest.raises(options.OptionError, match=rule) as refused:
        options.render({"job-name": "fine", name: value})
    assert [problem.option for problem in refused.value.problems] == [options.spelling(name)]


def test_all_problems_at_once() -> None:
    found = options.check({"wait": True, "comment": "\n", "mem": [1], "qos": "fine"})
    assert [problem.option for problem in found] == ["wait", "comment", "mem"]


def test_srun_arguments() -> None:
    steps = {
        "cpu": srun_arguments(nodes=2, cpus_per_task=2, mem="500"),
        "pyxis": srun_arguments(
            nodes=4,
            gpus_per_node=8,
            image="/images/a b.sqsh",
            mounts=["/data:/data:ro", "/r:/r"],
            container_env=["A", "B"],
        ),
        "gres": srun_arguments(
            nodes=1, gres="gpu:h100:4", gpus_per_node=4, extra={"network": "sn_all", "verbose": True}
        ),
        "apptainer": launch_prefix(image="/images/x.sif", mounts=["/data:/data"], gpus=True),
    }
    text = "".join(f"[{name}]\n" + "".join(f"{word}\n" for word in words) for name, words in steps.items())
    assert text == (GOLDENS / "steps.txt").read_text()


@pytest.mark.parametrize("mount", ["/a:/b,/etc:/etc", "/a\n/b"])
def test_a_mount_is_one_mount(mount: str) -> None:
    with pytest.raises(ValueError, match=r"comma|line break"):
        srun_arguments(nodes=1, image="x", mounts=[mount])
    with pytest.raises(ValueError, match=r"comma|line break"):
        launch_prefix(image="x", mounts=[mount])


TIMES = {
    "90": 5400, "1:30": 90, "12:30:00": 45000, "2-00": 172800, "2-01:30": 178200, "2-00:00:01": 172801,
    "UNLIMITED": None, "365-00:00:00": 31536000, "infinite": None, " 5 ": 300,
}  # fmt: skip


@pytest.mark.parametrize(("text", "expected"), TIMES.items())
def test_times(text: str, expected: int | None) -> None:
    assert duration.seconds(text) == expected


@pytest.mark.parametrize("text", ["", "0", "00:00:00", "banana", "1:2:3:4", "1d", "-5", "1-", "12:30:00\n#SBATCH", "٣"])
def test_no_times(text: str) -> None:
    with pytest.raises(ValueError, match="time"):
        duration.seconds(text)


@given(st.integers(min_value=1, max_value=10**8))
def test_written_times_are_read_back(total: int) -> None:
    assert duration.seconds(duration.written(total)) == total
