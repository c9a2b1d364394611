"""Overrides and files to a configuration: values, layers, locks, and all problems in one report."""

from __future__ import annotations

import itertools
from pathlib import Path

import pytest

from conf.schema import Packing, Precision, RunConfig
from launcher.compose.compose import compose, to_yaml
from launcher.problems import ConfigurationError


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A home and a site of the test's own."""
    folder = tmp_path / "home"
    folder.mkdir()
    monkeypatch.setenv("HOME", str(folder))
    monkeypatch.delenv("MUSTER_SITE", raising=False)
    return folder


def write(folder: Path, **files: str) -> Path:
    """Files by their path with `__` for `/`, in `folder`."""
    for name, content in files.items():
        path = folder / f"{name.replace('__', '/')}.yaml"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)
    return folder


def problems(*overrides: str, config_dir: Path | None = None) -> list[str]:
    """Every problem of a composition, as text."""
    with pytest.raises(ConfigurationError) as caught:
        compose(list(overrides), str(config_dir) if config_dir else None)
    return [str(problem) for problem in caught.value.problems]


def test_values_reach_the_typed_configuration() -> None:
    config = compose(
        [
            "model=llama3.2-1b",
            "train.precision=fp32",
            "data.packing=none",
            "data.columns.prompt=question",
            "cluster.env.NCCL_DEBUG=INFO",
            "parallel.deepspeed.zero_optimization.overlap_comm=false",
            "+tracking.tags=[a,b]",
            "train.max_steps=7",
        ]
    )
    assert isinstance(config, RunConfig)
    assert config.model.shape["hidden_size"] == 2048
    assert (config.train.precision, config.data.packing) == (Precision.fp32, Packing.none)
    assert config.data.columns == {"prompt": "question"}
    assert config.cluster.env == {"NCCL_DEBUG": "INFO"}
    assert config.parallel.deepspeed == {"zero_optimization": {"overlap_comm": False}}
    assert (config.tracking.tags, config.train.max_steps, config.name) == (["a", "b"], 7, None)


def test_the_order_of_overrides_does_not_matter() -> None:
    words = ["parallel=zero2", "experiment=demo", "data.max_length=64"]
    texts = {to_yaml(compose(list(order))) for order in itertools.permutations(words)}
    assert len(texts) == 1


WRONG = [
    ("optim.learning_rat=1", "is not a key of Muster; nearest: optim.learning_rate"),
    ("learning_rate=1e-5", "nearest: optim.learning_rate"),
    ("train.learning_rate=1e-5", "nearest: optim.learning_rate"),
    ("train.warmup_ratio=0.1", "nearest: schedule.warmup_steps"),
    ("evaluation_strategy=steps", "nearest: train.eval_strategy"),
    ("max_seq_length=512", "nearest: data.max_length"),
    ("output_dir=x", "nearest: run_root"),
    ("modle=tiny", "nearest: model=…"),
    ("model=tniy", "is not an option; there are gemma3-1b, hf"),
    ("model=meta-llama/Llama-3.2-1B", "nearest: model=hf model.model_name_or_path=meta-llama/Llama-3.2-1B"),
    ("cluster=[local]", "is not an option"),
    ("cluster.nodes=two", "has to be a whole number"),
    ("train.max_steps=1e3", "has to be a whole number; nearest: 1000"),
    ("train.eval_strategy=stpes", "has to be one of no, steps, epoch; nearest: steps"),
    ("train.rehearsal=maybe", "has to be true or false"),
    ("train.seed=null", "needs whole number"),
    ("tracking.tags=abc", "has to be a list; nearest: [abc]"),
    ("data.columns=[1]", "has to be a mapping"),
    ("cluster.time=45000", "give the time limit in quotes"),
    (
        "cluster.time='750'",
        "is a bare number, which sbatch takes for minutes; say hours:minutes:seconds; nearest: '12:30:00'",
    ),
    ("cluster.partition=false", "was read as a boolean"),
    ("name=1e3", "was read as the number 1000.0"),
    ("cluster.env.A=true", "was read as a boolean"),
    ("cluster.container=pyxis", "is a section; set the keys below it"),
    ("cluster.container={runtime: pyxi}", "nearest: pyxis"),
    ("optim.learning_rate=1,2", "a sweep needs the flag -m"),
    ("hydra.run.dir=../x", "belongs to Hydra"),
    ("hydra/launcher=basic", "belongs to Hydra"),
    ("hydra.searchpath=[x]", "belongs to Hydra"),
    ("model.kwargs._target_=os.system", "names code to run"),
    ("model.kwargs={a: {_target_: os.system}}", "names code to run"),
    ("model.kwargs.x=${oc.env:MY_API_KEY}", "would write a secret"),
    ("~optim.learning_rate", "cannot be taken away"),
    ("~model", "cannot be taken away"),
    ("model@data=tiny", "moves a group"),
    ("foo", "is not an override"),
    ("data.train_file=a b: {c", "cannot be read"),
    ("--nodes=3", "is not a flag"),
    ("--run-root=r", "is not a flag of this verb; nearest: run_root=…"),
    ("--learning_rate=3e-4", "is not a flag of this verb; nearest: optim.learning_rate=…"),
]


@pytest.mark.parametrize(("override", "expected"), WRONG, ids=[override for override, _ in WRONG])
def test_a_wrong_override_is_explained(override: str, expected: str) -> None:
    found = problems(override)
    assert len(found) == 1
    assert expected in found[0]
    assert override.lstrip("~").partition("=")[0].partition("@")[0] in found[0]


def test_where_a_sweep_is_refused_its_values_are_no_second_problem() -> None:
    assert problems("-m", "optim.learning_rate=1,2", "train.seed=3") == ["-m is not a flag of this verb"]
    assert len(problems("-m", "optim.learning_rate=fast,2")) == 2


def test_all_problems_come_in_one_report(tmp_path: Path) -> None:
    folder = write(tmp_path / "mine", cluster__site="defaults: [slurm, _self_]\npartion: gpu\ntime: 12:30:00\n")
    wrong = ["cluster=site", *(override for override, _ in WRONG if not override.startswith("cluster"))]
    found = problems(*wrong, config_dir=folder)
    assert len(found) == len(wrong) - 1 + 2


TRAPS = [
    (
        "time: 12:30:00",
        "cluster.time=12:30:00 was read as a number; give the time limit in quotes; nearest: '12:30:00'",
    ),
    ("partition: no", "cluster.partition=no was read as a boolean (False); quote the word; nearest: 'no'"),
    ("qos: 1e3", "cluster.qos=1e3 was read as the number 1000.0; quote the word; nearest: '1e3'"),
    ("account: 0123", "cluster.account=0123 was read as the number 83; quote the word; nearest: '0123'"),
    ("env: {UCX_TLS: on}", "cluster.env.UCX_TLS=on was read as a boolean (True); quote the word; nearest: 'on'"),
    ("modules: [gcc, 12.10]", "entry 1: was read as the number 12.1"),
    ("nodes: 1.5", "cluster.nodes=1.5 has to be a whole number; nearest: 2"),
    ("nodse: 2", "cluster.nodse=2 is not a key of Muster; nearest: cluster.nodes"),
    ("nodes: 1\nnodes: 2", "cluster.nodes is given twice"),
    ("container: pyxis", "cluster.container=pyxis is a section; it needs keys below it"),
    ("kind: slrum", "has to be one of local, slurm; nearest: slurm"),
    ("sbatch: {x: {_target_: os.system}}", "names code to run"),
    ("hydra: {run: {dir: x}}", "cluster.hydra is not a key of Muster"),
    ("time: '1:00", "is not valid YAML"),
    ("- a", "has to be a mapping of keys to values"),
    ("defaults: [slrum]", "defaults: cluster=slrum is not there; there are"),
]


@pytest.mark.parametrize(("content", "expected"), TRAPS, ids=[content for content, _ in TRAPS])
def test_a_wrong_file_is_explained_with_its_line(content: str, expected: str, tmp_path: Path) -> None:
    folder = write(tmp_path / "mine", cluster__site=f"# my site\n{content}\n")
    found = problems("cluster=site", config_dir=folder)
    assert len(found) == 1
    assert expected in found[0]
    assert f"{folder}/cluster/site.yaml:" in found[0]


def test_numbers_that_stay_what_they_were_written_are_text(tmp_path: Path) -> None:
    folder = write(tmp_path / "mine", cluster__site="defaults: [slurm, _self_]\naccount: 123\nmem: 0\nenv: {A: 1}\n")
    config = compose(["cluster=site"], str(folder))
    assert (config.cluster.account, config.cluster.mem, config.cluster.env) == ("123", "0", {"A": "1"})


def test_eval_strategy_no_has_to_be_quoted_in_a_file(tmp_path: Path) -> None:
    folder = write(tmp_path / "mine", train__mine="eval_strategy: no\n", train__good="eval_strategy: 'no'\n")
    assert "quote the word: 'no'" in problems("train=mine", config_dir=folder)[0]
    assert compose(["train=good"], str(folder)).train.eval_strategy.value == "no"
    assert compose(["train.eval_strategy=no"]).train.eval_strategy.value == "no"


def test_later_layers_win(tmp_path: Path, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    site = write(
        tmp_path / "site", site="run_root: /site\ntracking: {project: site}\n", cluster__x="account: site\nmem: 1G\n"
    )
    monkeypatch.setenv("MUSTER_SITE", str(site))
    assert compose([]).run_root == "/site"
    assert compose(["cluster=x"]).cluster.account == "site"
    write(home / ".config/muster", defaults="tracking: {project: person}\n", cluster__x="account: person\n")
    config = compose(["cluster=x"])
    assert (config.run_root, config.tracking.project) == ("/site", "person")
    assert (config.cluster.account, config.cluster.mem) == ("person", None)
    folder = write(tmp_path / "mine", defaults="tracking: {project: folder}\n", cluster__x="account: folder\n")
    config = compose(["cluster=x"], str(folder))
    assert (config.tracking.project, config.cluster.account) == ("folder", "folder")
    config = compose(["cluster=x", "cluster.account=line", "tracking.project=line", "run_root=/line"], str(folder))
    assert (config.tracking.project, config.cluster.account, config.run_root) == ("line", "line", "/line")


def test_an_experiment_of_ones_own(tmp_path: Path) -> None:
    good = "# @package _global_\ndefaults:\n  - override /model: llama3.2-1b\ntrain: {seed: 9}\n"
    folder = write(tmp_path / "mine", experiment__mine=good, experiment__bad=good.split("\n", 1)[1])
    config = compose(["experiment=mine"], str(folder))
    assert (config.model.shape["num_hidden_layers"], config.train.seed) == (16, 9)
    assert "# @package _global_" in problems("experiment=bad", config_dir=folder)[0]


LOCKED = [
    (["cluster.account=mine"], "cluster.account=mine is locked"),
    (["cluster={account: mine}"], "cluster"),
    (["tracking=wandb"], "tracking=wandb is locked"),
    (["tracking.mode=online"], "tracking.mode=online is locked"),
]


@pytest.mark.parametrize(("overrides", "expected"), LOCKED, ids=[" ".join(overrides) for overrides, _ in LOCKED])
def test_locked_keys_are_refused(
    overrides: list[str], expected: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    site = write(tmp_path / "site", site="locked: [cluster.account, tracking]\n", cluster__x="account: site\n")
    monkeypatch.setenv("MUSTER_SITE", str(site))
    assert compose(["cluster=x"]).cluster.account == "site"
    assert expected in problems(*overrides)[0]


def test_files_of_a_person_cannot_go_round_a_lock(tmp_path: Path, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    site = write(tmp_path / "site", site="locked: [cluster.account]\n", cluster__x="account: site\n")
    monkeypatch.setenv("MUSTER_SITE", str(site))
    person = write(home / ".config/muster", cluster__mine="defaults: [x, _self_]\naccount: mine\n")
    assert "cluster.account (line 2) is locked" in problems("cluster=mine")[0]
    write(person, cluster__x="nodes: 2\n")
    assert any("would hide the site's" in problem for problem in problems("cluster=x"))
    write(person, defaults="locked: [cluster.qos]\n")
    assert any("only the site's site.yaml locks keys" in problem for problem in problems())


def test_folders_that_are_not_there_are_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MUSTER_SITE", str(tmp_path / "nowhere"))
    found = problems(config_dir=tmp_path / "missing")
    assert len(found) == 2
    assert "MUSTER_SITE" in found[0]
    assert "--config-dir" in found[1]


def test_a_root_of_ones_own_is_refused(tmp_path: Path) -> None:
    folder = write(tmp_path / "mine", config="train: {seed: 1}\n")
    assert "would hide Muster's own root" in problems(config_dir=folder)[0]


@pytest.mark.parametrize(
    ("typed", "meant"),
    [
        ("model=llama3_70b", "meta-llama/Meta-Llama-3-70B"),
        ("model=Llama-3.1-8B", "meta-llama/Llama-3.1-8B"),
        ("model=qwen2_5_7b", "Qwen/Qwen2.5-7B"),
    ],
)
def test_options_are_known_by_their_letters_and_digits(typed: str, meant: str) -> None:
    assert compose([typed]).model.model_name_or_path == meant
