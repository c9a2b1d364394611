"""Every file of a run folder: whole-file goldens for kinds of site, pure rendering, quoting of odd values.

`MUSTER_UPDATE_GOLDENS=1 pytest tests/unit/test_artifacts.py` writes the goldens anew; read the difference.
"""

from __future__ import annotations

import hashlib
import json
import os
import shlex
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from conf.record import read_plan
from launcher.facts.facts import SlurmFacts
from launcher.facts.model import ModelFacts
from launcher.render.artifacts import render
from launcher.render.job import environment, mounts
from slurm.parse import Partition
from tests.unit.planned import TINY, facts_of, plan_of

GOLDENS = Path(__file__).parent / "goldens" / "sites"
SHOWN = ("job.sbatch", "job.sh", "job/allow", "job/env", "job/python", "job/settings", "job/setup.sh", "job/srun")

VENV = ["cluster.gpus_per_node=4", "cluster.account=abc123", "cluster.partition=gpu", "cluster.qos=long"]
VENV += ["cluster.cpus_per_task=96", "cluster.mem='0'", "cluster.time='2-00:00:00'", "cluster.nodes=2"]
MODULES = ["cluster.gres='gpu:h100:8'", "cluster.constraint='ib&h100'", "cluster.reservation=course", "cluster.nodes=4"]
MODULES += [
    "cluster.modules=[cuda/12.4,'python/3.11 beta']",
    "cluster.setup=['ulimit -n 65536']",
    "cluster.python=python3",
]
MODULES += ["+cluster.sbatch.mail-type=END", "+cluster.sbatch.switches='1@12:00:00'", "cluster.continuation=none"]
PYXIS = ["cluster.container.runtime=pyxis", "cluster.container.image=/images/muster.sqsh", "cluster.gpus_per_node=8"]
PYXIS += [
    "cluster.container.mounts=['/lustre:/lustre:ro']",
    "cluster.container.env=[NCCL_TOPO_FILE]",
    "cluster.nodes=16",
]
PYXIS += ["cluster.network.interface=ib0", "cluster.network.host_suffix=-ib", "cluster.network.ib_hcas=[mlx5_0,mlx5_1]"]
PYXIS += [
    "+cluster.env.NCCL_DEBUG=WARN",
    "cluster.cpus_per_task=128",
    "cluster.exclude='n[3,7]'",
    "cluster.python=python3",
]
APPTAINER = ["cluster.container.runtime=apptainer", "cluster.container.image='/images/my image.sif'", "access=group"]
APPTAINER += ["cluster.partition=cpu", "cluster.exclusive=true", "cluster.ranks_per_node=2", "cluster.nodes=2"]
APPTAINER += ["cluster.scratch=/local/scratch", "cluster.nodelist='n[1-2]'", "cluster.python=/opt/conda/bin/python"]
HUB = ModelFacts("/cache/hub/models--o--m/snapshots/" + "a" * 40, "a" * 40, TINY, 5000, "")
SLURM = SlurmFacts("/etc/slurm/slurm.conf", "22.05.8", (Partition("cpu", True, True, 8, None, None, 64, 1000, ""),))

SITES: dict[str, tuple[list[str], dict[str, Any]]] = {
    "venv": (["cluster=slurm", *VENV], {"slurm": SLURM}),
    "modules": (["cluster=slurm", *MODULES], {"slurm": SLURM, "python": "python3"}),
    "pyxis": (["cluster=slurm", *PYXIS], {"slurm": SLURM, "python": "python3"}),
    "apptainer": (
        ["cluster=slurm", *APPTAINER, "model=hf", "model.model_name_or_path=o/m", "data.cache_dir=/data/cache"],
        {"slurm": SLURM, "python": "/opt/conda/bin/python", "model": HUB, "run_root": "/scratch/ada's runs"},
    ),
    "local": (["cluster=local", "cluster.ranks_per_node=2"], {}),
}


@pytest.mark.parametrize("site", SITES)
def test_job_files_of_a_site(site: str) -> None:
    overrides, changes = SITES[site]
    # the id's hash is left out, so that a new key in the schema changes no golden
    plan = plan_of("name=run", *overrides, **changes)
    files = render(plan, facts_of(**changes))
    shown = {name: files[name].decode().replace(plan.run_id, "run-00000000") for name in SHOWN if name in files}
    folder = GOLDENS / site
    if os.environ.get("MUSTER_UPDATE_GOLDENS"):
        for name, text in shown.items():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_text(text)
    golden = {path.relative_to(folder).as_posix(): path.read_text() for path in folder.rglob("*") if path.is_file()}
    assert shown == golden
    assert len(golden) == 7


@pytest.mark.parametrize(
    ("interface", "nccl", "gloo"),
    [
        ("eth1", "=eth1", "eth1"),
        ("=ib0,ib1", "=ib0,ib1", "ib0,ib1"),
        ("^docker0,lo", "^docker0,lo", None),
        ("^=eth1", "^=eth1", None),
    ],
)
def test_networks_are_named_exactly(interface: str, nccl: str, gloo: str | None) -> None:
    """NCCL takes `eth1` for `eth10` as well where no `=` is before it, and gloo knows plain names alone."""
    plan = plan_of("cluster=slurm", f"cluster.network.interface='{interface}'")
    variables = environment(plan, facts_of())
    assert (variables["NCCL_SOCKET_IFNAME"], variables.get("GLOO_SOCKET_IFNAME")) == (nccl, gloo)


@pytest.mark.parametrize(
    ("adapters", "value"),
    [("[mlx5_0,mlx5_1]", "=mlx5_0,mlx5_1"), ("['=mlx5_1']", "=mlx5_1"), ("['^mlx5_0',mlx5_2]", "^mlx5_0,mlx5_2")],
)
def test_adapters_are_named_exactly(adapters: str, value: str) -> None:
    plan = plan_of("cluster=slurm", f"cluster.network.ib_hcas={adapters}")
    assert environment(plan, facts_of())["NCCL_IB_HCA"] == value


@pytest.mark.parametrize("kind", ["slurm", "local"])
def test_a_container_sees_the_ledger_of_nodes(kind: str) -> None:
    container = ["cluster.container.runtime=apptainer", "cluster.container.image=a.sif"]
    plan = plan_of(f"cluster={kind}", *container, "cluster.node_ledger=/site/nodes")
    assert ("/site/nodes:/site/nodes" in mounts(plan)) == (kind == "slurm")


def test_rendering_twice_gives_equal_bytes() -> None:
    overrides, changes = SITES["pyxis"]
    first = render(plan_of(*overrides, **changes), facts_of(**changes))
    again = render(plan_of(*reversed(overrides), **changes), facts_of(**changes))
    assert first == again
    assert list(first) == sorted(first)


def test_a_run_folder_is_whole(tmp_path: Path) -> None:
    plan = plan_of("cluster.ranks_per_node=2")
    files = render(plan, facts_of())
    assert set(files) == {
        "run.json", "config.yaml", "ds_config.json", "env.json", "job.sh", "code/muster.zip", "code/project.zip",
        "job/allow", "job/body.sh", "job/env", "job/python", "job/settings", "job/setup.sh", "job/srun",
    }  # fmt: skip
    (tmp_path / "run.json").write_bytes(files["run.json"])
    assert read_plan(tmp_path / "run.json") == plan
    assert json.loads(files["ds_config.json"]) == plan.layout.deepspeed
    assert yaml.safe_load(files["config.yaml"])["optim"]["learning_rate"] == plan.config.optim.learning_rate
    record = json.loads(files["env.json"])
    assert record["code"]["project.zip"] == hashlib.sha256(b"project").hexdigest()
    assert record["commit"] == "0" * 40


def test_without_a_checkout_there_is_no_project() -> None:
    facts = facts_of()
    bare = facts_of(code=type(facts.code)(muster=b"m", body=b"b"))
    assert "code/project.zip" not in render(plan_of(), bare)


ODD = '/scratch/it\'s $(touch here) `x` "q" %j &;#'


def test_odd_folder_names_are_data(tmp_path: Path) -> None:
    """The script starts body.sh with the folder as one word, whatever is in its name."""
    plan = plan_of("cluster=slurm", "name=odd", run_root=ODD)
    text = render(plan, facts_of(run_root=ODD))["job.sbatch"].decode()
    command = text.splitlines()[-1]
    assert shlex.split(command) == ["exec", "bash", f"{plan.run_dir}/job/body.sh", "batch", plan.run_dir]
    script = tmp_path / "job.sh"
    script.write_text(command.replace("exec bash", "printf '%s\\n'"))
    said = subprocess.run(["bash", str(script)], capture_output=True, text=True, check=True, cwd=tmp_path)
    assert said.stdout.splitlines() == [f"{plan.run_dir}/job/body.sh", "batch", plan.run_dir]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["job.sh"]


@pytest.mark.parametrize(
    "overrides",
    [
        pytest.param(['+cluster.env.NOTE="two\nlines"'], id="environment"),
        pytest.param(['cluster.account="a\nb"'], id="sbatch"),
        pytest.param(['cluster.scratch="/tmp\n/x"'], id="settings"),
    ],
)
def test_values_of_several_lines_are_refused(overrides: list[str]) -> None:
    plan = plan_of("cluster=slurm", *overrides)
    with pytest.raises(ValueError, match=r"line|control"):
        render(plan, facts_of())
