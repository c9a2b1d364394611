"""Starting this very code again, from a checkout and from a zip, and what is set before the imports."""

from __future__ import annotations

import gc
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from conf.record import Batch, Device, Layout, Plan, Topology, encode_plan
from conf.schema import RunConfig
from train.node.imports import kept
from train.node.start import choose_start, own_argv, set_environment

ROOT = Path(__file__).resolve().parents[2]


def make_plan(device: Device = Device.cpu, start: str = "fork") -> Plan:
    return Plan(
        run_id="test-00000000",
        run_dir="/runs/test-00000000",
        config=RunConfig(),
        topology=Topology(1, 2, device, start, 3),
        layouts={2: Layout(Batch(2, 4, 1, 2), {})},
        model_type="llama",
        parameters=None,
        packing="exact",
        export_at_end=False,
        expected_steps=None,
    )


def test_verbs_from_a_checkout(tmp_path: Path) -> None:
    argv = own_argv("prepare", tmp_path)
    ended = subprocess.run(argv, cwd=tmp_path, env={}, capture_output=True, text=True, check=False)
    assert ended.returncode == 1
    assert f"No such file or directory: '{tmp_path / 'run.json'}'" in ended.stderr


def test_an_agent_without_its_environment(tmp_path: Path) -> None:
    (tmp_path / "run.json").write_text(encode_plan(make_plan()))
    argv = own_argv("agent", tmp_path)
    ended = subprocess.run(argv, cwd=tmp_path, env={}, capture_output=True, text=True, check=False)
    assert ended.returncode == 1
    assert ended.stderr.startswith("muster: MUSTER_RUN is not set (the run folder); MUSTER_ATTEMPT is not set")


def test_verbs_from_a_zip(tmp_path: Path) -> None:
    archive = tmp_path / "muster.zip"
    with zipfile.ZipFile(archive, "w") as file:
        for package in ("conf", "train"):
            for path in (ROOT / package).rglob("*.py"):
                file.write(path, path.relative_to(ROOT))
        file.writestr("__main__.py", "from train.__main__ import main\n\nmain()\n")
    imports = "from train.node.start import own_argv; from pathlib import Path"
    code = f"import sys; sys.path.insert(0, {str(archive)!r}); {imports}"
    printed = subprocess.run(
        [sys.executable, "-I", "-c", f"{code}; print(own_argv('rank', Path('/r'))[1:])"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=True,
    )
    assert printed.stdout.strip() == str(["-I", str(archive), "rank", "/r"])
    ended = subprocess.run(
        [sys.executable, "-I", str(archive), "prepare", str(tmp_path)], capture_output=True, text=True, check=False
    )
    assert ended.returncode == 1
    assert "run.json" in ended.stderr


@pytest.mark.parametrize(
    "words", [[], ["agent"], ["dance", "/r"], ["agent", "/r", "--step", "3"], ["export", "/r", "--step", "x"]], ids=str
)
def test_wrong_command_line(words: list[str]) -> None:
    ended = subprocess.run(
        [sys.executable, "-m", "train", *words], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert ended.returncode == 2
    assert ended.stderr.startswith("usage: ")


def test_verbs_are_light() -> None:
    modules = "train.__main__, train.node.aftermath, train.node.agent"
    code = f"import sys, {modules}; print(sorted({{'torch', 'numpy'}} & set(sys.modules)))"
    printed = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert printed.stdout.strip() == "[]"


def test_environment_before_imports() -> None:
    environ, plan = {"OMP_NUM_THREADS": "7"}, make_plan()
    set_environment(environ, plan, Path("/scratch"))
    assert environ["OMP_NUM_THREADS"] == "7", "the site's own word stays"
    assert environ["OPENBLAS_NUM_THREADS"] == "1"
    assert environ["DS_ACCELERATOR"] == "cpu"
    assert environ["LOCAL_SIZE"] == str(plan.topology.ranks_per_node), "else DeepSpeed asks numactl"
    assert "MALLOC_MMAP_THRESHOLD_" not in environ, "a step would map its memory again and again"
    assert environ["PYTORCH_NVML_BASED_CUDA_CHECK"] == "1"
    on_gpu: dict[str, str] = {}
    set_environment(on_gpu, make_plan(Device.gpu), Path("/scratch"))
    assert not {"DS_ACCELERATOR", "LOCAL_SIZE"} & set(on_gpu)
    assert on_gpu["OMP_NUM_THREADS"] == "3"


def test_fork_on_a_gpu_needs_a_probe_that_computes() -> None:
    torch = pytest.importorskip("torch")
    start = choose_start(make_plan(Device.gpu))
    if torch.cuda.is_available():
        assert start.mode == "fork"
    else:
        assert (start.mode, start.reason) == ("exec", "a forked probe could not compute on the GPU")
    assert choose_start(make_plan(start="exec")).mode == "exec"


def test_what_is_imported_is_no_matter_of_garbage_collection() -> None:
    """Nobody searches while it is made, and later searches leave it out."""
    before = gc.get_freeze_count()
    try:
        with kept():
            assert not gc.isenabled()
            made = [[number] for number in range(1000)]
        assert gc.isenabled()
        assert gc.get_freeze_count() >= before + len(made)
    finally:
        gc.unfreeze()
