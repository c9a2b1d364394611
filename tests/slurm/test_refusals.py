"""sbatch's own refusals: which option each is about."""

from __future__ import annotations

from pathlib import Path

import pytest

from slurm import options
from slurm.client import Client, SlurmError
from slurm.devcluster import Record

pytestmark = pytest.mark.slurm

REFUSALS = {
    "partition": {"partition": "nowhere"},
    "time": {"time": "banana"},
    "mem": {"mem": "lots"},
    "gres": {"gres": "gpu:1"},
    "reservation": {"reservation": "none"},
    "constraint": {"constraint": "gpu80"},
    "nodelist": {"nodelist": "node77"},
    "no-such-thing": {"no-such-thing": "1"},
}


@pytest.mark.parametrize("option", REFUSALS)
def test_a_refusal_names_its_option(option: str, devcluster: Record, tmp_path: Path) -> None:
    script = tmp_path / "job.sbatch"
    script.write_text("\n".join(["#!/bin/bash", *options.render(REFUSALS[option]), "true\n"]))
    with pytest.raises(SlurmError) as refused:
        Client(str(devcluster.slurm_conf)).test_only(script)
    assert refused.value.option == option, refused.value.stderr


@pytest.mark.parametrize("line", ["--nodes=99", "--mem=900T"])
def test_a_refusal_that_names_nothing_is_left_alone(line: str, devcluster: Record, tmp_path: Path) -> None:
    script = tmp_path / "job.sbatch"
    script.write_text(f"#!/bin/bash\n#SBATCH {line}\ntrue\n")
    with pytest.raises(SlurmError, match="Requested node configuration is not available") as refused:
        Client(str(devcluster.slurm_conf)).test_only(script)
    assert refused.value.option is None
