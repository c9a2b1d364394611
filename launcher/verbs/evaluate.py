"""`muster evaluate`: the metrics of a run's model, or of any model, on data of your choice."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from conf.layout import RunFolder
    from conf.record import Plan
    from conf.schema import RunConfig
    from launcher.send.proposal import Proposal

HELP = "metrics of a run's model, or any, on its own or other data"
EXAMPLES = """
muster evaluate demo
muster evaluate demo data.test_file=other.jsonl
muster evaluate ./my-model data.test_file=test.jsonl cluster=slurm
muster evaluate demo --json
"""


def run(argv: list[str]) -> int:
    """Plan a run without steps, start it here or send it, and show its metrics."""
    from launcher.compose.overrides import split
    from launcher.flags import Parser
    from launcher.runs import target

    parser = Parser("evaluate", HELP, EXAMPLES)
    parser.usage = "muster evaluate RUN|MODEL [flags] [key=value …]"
    parser.add_argument("model", metavar="RUN|MODEL", help="a run; or a model: a folder, or owner/name on the hub")
    parser.add_argument("--json", action="store_true", help="one line of JSON: id, folder, metrics, predictions")
    parser.add_argument("--config-dir", metavar="DIR", help="a folder of your own with groups and files")
    target.add_run_root(parser)
    flags, words = split(parser, argv)
    config = _config(flags, words)
    from launcher.send.proposal import propose_config

    return _start(propose_config(config), flags)


def _config(flags: Any, words: list[str]) -> RunConfig:
    from conf.record import read_plan
    from launcher.send.evaluation import of_model, of_run, require_export

    folder = _find_run(flags)
    if folder is None:
        if flags.run_root:
            words = [f"run_root={flags.run_root}", *words]
        return of_model(flags.model, words, flags.config_dir)
    require_export(folder)
    return of_run(folder, read_plan(folder.run_json).config, words, flags.config_dir)


def _find_run(flags: Any) -> RunFolder | None:
    """The run that is meant; None for a model."""
    from pathlib import Path

    from launcher.problems import NotFoundError
    from launcher.runs import target

    path = Path(flags.model).expanduser()
    if any((path / name).is_file() for name in ("config.json", "adapter_config.json")):
        return None
    try:
        return target.find(flags.model, flags.run_root)
    except NotFoundError as error:
        if path.exists():
            raise
        if "/" in flags.model:
            return None  # a name of the hub
        raise NotFoundError(f"{error}; a model on the hub is owner/name, as in openai-community/gpt2") from None


def _start(proposal: Proposal, flags: Any) -> int:
    import sys

    from conf.schema import ClusterKind
    from launcher.runs import rundir
    from launcher.send.submit import ask_first, send_all
    from launcher.show.show import headline

    plan = proposal.plan
    local = plan.config.cluster.kind is ClusterKind.local
    note = "" if local else ask_first(plan, proposal.artifacts)
    print(headline(plan), file=sys.stderr if flags.json else sys.stdout, flush=True)
    folder = rundir.create(plan, proposal.artifacts)
    if local:
        return _evaluate_here(folder, plan, flags.json)
    job = send_all(folder, plan)
    if flags.json:
        _print_json(folder, plan, job_id=job)
    else:
        print(f"job {job}{note}\n\nmetrics  muster status {plan.run_id}")
    return 0


def _evaluate_here(folder: RunFolder, plan: Plan, as_json: bool) -> int:
    from launcher.send.foreground import run_in_foreground

    if not as_json:
        return run_in_foreground(folder, plan)
    import contextlib
    import sys

    from conf.outcome import read_outcome
    from launcher.runs.evaluations import SPLITS

    with contextlib.redirect_stdout(sys.stderr):
        code = run_in_foreground(folder, plan)
    outcome = read_outcome(folder.outcome)
    if code == 0 and outcome is not None:
        files = {split: str(folder.predictions(split)) for split in SPLITS if folder.predictions(split).is_file()}
        _print_json(folder, plan, metrics=outcome.metrics, predictions=files)
    return code


def _print_json(folder: RunFolder, plan: Plan, **values: Any) -> None:
    import json

    print(json.dumps({"id": plan.run_id, "folder": str(folder.path), **values}))
