"""The files of a run folder: every name in one place, for whoever writes and whoever reads them.

run.json              frozen configuration and plan (`conf.record.Plan`)
config.yaml           the resolved configuration, for people
ds_config.json        DeepSpeed's JSON at the planned world size, for people
env.json              versions, commit, host of the submission
job.sbatch | job.sh   what starts the run; the same by hand and by Muster
job/                  what the static job script reads: see `JobFiles`
code/muster.zip       Muster's own code, which the nodes run
code/project.zip      snapshot of the person's project
STOP                  a word (`StopReason`) that asks the running attempt to save and end
metrics.jsonl         one flat JSON object a line: step, attempt, time, "train/loss", …
events.jsonl          one JSON object a line: time, attempt, event, …
outcome.json          how the run stands or ended (`conf.outcome.Outcome`)
timing.json           how long steps and saves take (`conf.timing.Timing`)
attempts/N/           logs, failures, what the agents saw, the decision after it
checkpoints/          step-00000100/ … each with a manifest
data.json, model/     written by the data step: where the prepared data lies; tokenizer and, for `random`, the model
export/               the Hugging Face model; of an adapter: the model with the adapter merged into it
adapter/              the adapter alone, as PEFT reads it
predictions/          SPLIT.jsonl: what the model made of each document of an evaluated split
figures/              pictures: SVG
data_report.json      what the data is like: rows, lengths, duplicates, labels
report.html           all of it on a page, by `muster report`
wandb/                W&B's own files
slurm-<job id>.log    what the job said before its attempt had a folder
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

MANIFEST = "manifest.json"
EXPORT_RECORD = "muster.json"
"""In each checkpoint's folder, written last."""


@dataclass(frozen=True)
class JobFiles:
    """What `slurm/body.sh` reads. It knows these names literally; a test compares the two.

    env        NAME=VALUE lines, exported for the ranks
    allow      names (a trailing * is a prefix) of variables that pass the scrub
    setup.sh   modules and setup lines, sourced in each node's step
    srun       arguments of srun for the ranks' step, one a line
    python     the argument vector that starts Python on a node, one a line (container included)
    settings   NAME=VALUE lines for body.sh itself: continuation, max_requeues, lock_patience, host_suffix, …
    """

    folder: Path

    @property
    def env(self) -> Path:
        return self.folder / "env"

    @property
    def allow(self) -> Path:
        return self.folder / "allow"

    @property
    def setup(self) -> Path:
        return self.folder / "setup.sh"

    @property
    def srun(self) -> Path:
        return self.folder / "srun"

    @property
    def python(self) -> Path:
        return self.folder / "python"

    @property
    def settings(self) -> Path:
        return self.folder / "settings"

    @property
    def body(self) -> Path:
        return self.folder / "body.sh"

    @property
    def prepare_sbatch(self) -> Path:
        """The CPU job that prepares the data before the run's own job, where the plan has one."""
        return self.folder / "prepare.sbatch"

    @property
    def export_sbatch(self) -> Path:
        """The job that exports a checkpoint; its words are those of `export`."""
        return self.folder / "export.sbatch"


@dataclass(frozen=True)
class Attempt:
    """`attempts/N/`: one start of a run."""

    folder: Path

    @property
    def number(self) -> int:
        return int(self.folder.name)

    @property
    def logs(self) -> Path:
        return self.folder / "logs"

    def rank_log(self, node: int, rank: int) -> Path:
        """Standard output and error of one rank, together."""
        return self.logs / f"node{node}-rank{rank}.log"

    def agent_log(self, node: int) -> Path:
        """What the node's agent said."""
        return self.logs / f"node{node}-agent.log"

    @property
    def stacks(self) -> Path:
        """What the ranks were doing when the attempt hung, or when somebody sent one of them SIGUSR1."""
        return self.folder / "stacks"

    def stack(self, node: int, rank: int) -> Path:
        """Stacks of all threads of one rank, with a line of JSON before them: phase, step, state."""
        return self.stacks / f"node{node}-rank{rank}.txt"

    def flight(self, node: int, rank: int) -> Path:
        """The last collectives of one rank (`conf.flight_recorder`)."""
        return self.stacks / f"node{node}-rank{rank}-collectives.json"

    def nccl_flights(self, node: int) -> Path:
        """The same by NCCL's watchdog when it gives up, which appends the rank to this path."""
        return self.stacks / f"node{node}-nccl-rank"

    @property
    def job_log(self) -> Path:
        """What the batch script said (Slurm's own output file)."""
        return self.logs / "job.log"

    def failure(self, rank: int) -> Path:
        """A rank's own word on why it failed (`conf.outcome.Failure`)."""
        return self.folder / "failures" / f"rank{rank}.json"

    def suspect(self, step: int, rank: int) -> Path:
        """JSON: a rank's batch of a step whose loss or gradient went wrong (`train.suspects`)."""
        return self.folder / "suspects" / f"step-{step:08d}-rank{rank}.json"

    @property
    def data_failure(self) -> Path:
        """The data step's own word on why it failed (`conf.outcome.Failure`, rank -1)."""
        return self.failures / "data.json"

    @property
    def failures(self) -> Path:
        return self.folder / "failures"

    def agent_report(self, node: int) -> Path:
        """Exit status of every rank of a node as its agent saw it (`conf.outcome.AgentReport`)."""
        return self.folder / "agents" / f"node{node}.json"

    @property
    def agent_reports(self) -> Path:
        return self.folder / "agents"

    @property
    def job(self) -> Path:
        """JSON: scheduler's job id, host, process id of the batch script or local agent, start time."""
        return self.folder / "job.json"

    @property
    def outcome(self) -> Path:
        """A person's own program (`task=script`) may say here how it ended: JSON with `state`, `reason`, `step`."""
        return self.folder / "outcome.json"

    @property
    def decision(self) -> Path:
        """One word for body.sh: `end` or `requeue`."""
        return self.folder / "decision"

    def preflight(self, node: int) -> Path:
        """What a node found before its ranks started (`conf.preflight.Preflight`)."""
        return self.folder / "preflight" / f"node{node}.json"

    @property
    def all_reduce(self) -> Path:
        """JSON: what an all-reduce over all ranks reached at the start."""
        return self.folder / "preflight" / "all_reduce.json"

    @property
    def hosts(self) -> Path:
        """The names of the attempt's nodes in the scheduler, one a line, node 0 first."""
        return self.folder / "hosts"

    @property
    def down(self) -> Path:
        """Nodes that Slurm lost during the attempt: one a line, with its word on them. By the job script."""
        return self.folder / "down"

    @property
    def leave_out(self) -> Path:
        """Nodes that the job is to leave out from the next attempt on, with commas between them."""
        return self.folder / "leave_out"

    @property
    def lead(self) -> Path:
        """Seconds before the end of the job's time at which rank 0 stops the run; there as soon as it knows."""
        return self.folder / "lead"

    @property
    def data_ready(self) -> Path:
        """JSON by node 0's agent: `{"port": …}` once the data is there and it listens, or `{"error": …}`."""
        return self.folder / "data.ready"


@dataclass(frozen=True)
class RunFolder:
    """Paths in one run folder. Makes nothing, reads nothing."""

    path: Path

    @property
    def run_json(self) -> Path:
        return self.path / "run.json"

    @property
    def config_yaml(self) -> Path:
        return self.path / "config.yaml"

    @property
    def ds_config(self) -> Path:
        return self.path / "ds_config.json"

    @property
    def env_json(self) -> Path:
        return self.path / "env.json"

    @property
    def job_sbatch(self) -> Path:
        return self.path / "job.sbatch"

    @property
    def job_sh(self) -> Path:
        return self.path / "job.sh"

    @property
    def job(self) -> JobFiles:
        return JobFiles(self.path / "job")

    @property
    def muster_zip(self) -> Path:
        return self.path / "code" / "muster.zip"

    @property
    def project_zip(self) -> Path:
        return self.path / "code" / "project.zip"

    @property
    def stop(self) -> Path:
        return self.path / "STOP"

    @property
    def lock(self) -> Path:
        """Names the job that owns the run; made exclusively."""
        return self.path / "LOCK"

    @property
    def metrics(self) -> Path:
        return self.path / "metrics.jsonl"

    @property
    def events(self) -> Path:
        return self.path / "events.jsonl"

    @property
    def system(self) -> Path:
        """What all nodes measured, one JSON object a line: processors, memory, GPUs, disks, network."""
        return self.path / "system.jsonl"

    @property
    def outcome(self) -> Path:
        return self.path / "outcome.json"

    @property
    def timing(self) -> Path:
        return self.path / "timing.json"

    @property
    def attempts(self) -> Path:
        return self.path / "attempts"

    def attempt(self, number: int) -> Attempt:
        return Attempt(self.attempts / str(number))

    @property
    def checkpoints(self) -> Path:
        return self.path / "checkpoints"

    def checkpoint(self, step: int) -> Path:
        return self.checkpoints / f"step-{step:08d}"

    def universal(self, step: int) -> Path:
        """A checkpoint converted for any number of ranks: beside it, and no checkpoint itself."""
        return self.checkpoints / f"step-{step:08d}.universal"

    def manifest(self, step: int) -> Path:
        """What a checkpoint consists of and which world size wrote it (`train.checkpoint.manifest`)."""
        return self.checkpoint(step) / MANIFEST

    @property
    def data_json(self) -> Path:
        return self.path / "data.json"

    @property
    def model(self) -> Path:
        return self.path / "model"

    @property
    def export(self) -> Path:
        return self.path / "export"

    @property
    def export_partial(self) -> Path:
        """An export that is being written and verified."""
        return self.path / ".export.partial"

    @property
    def export_unverified(self) -> Path:
        """An export whose logits were not those of the trained model; kept for a look."""
        return self.path / "export.unverified"

    @property
    def adapter(self) -> Path:
        """The adapter of a parameter-efficient method, in PEFT's format."""
        return self.path / "adapter"

    @property
    def adapter_partial(self) -> Path:
        """An adapter that is being written and verified."""
        return self.path / ".adapter.partial"

    @property
    def adapter_unverified(self) -> Path:
        """An adapter whose logits on its base model were not those of the trained model; kept for a look."""
        return self.path / "adapter.unverified"

    def predictions(self, split: str) -> Path:
        """What the model made of each document of a split: one JSON object a line."""
        return self.path / "predictions" / f"{split}.jsonl"

    def class_report(self, split: str) -> Path:
        """Precision, recall and F1 of each label on a split: a JSON array."""
        return self.path / "predictions" / f"{split}-labels.json"

    def figure(self, name: str) -> Path:
        return self.path / "figures" / f"{name}.svg"

    @property
    def data_report(self) -> Path:
        return self.path / "data_report.json"

    @property
    def samples(self) -> Path:
        """Prompts answered by the exported model: one JSON object a line."""
        return self.path / "samples.jsonl"

    @property
    def report(self) -> Path:
        """The page that `muster report` writes."""
        return self.path / "report.html"

    @property
    def slurm_output(self) -> Path:
        """Slurm's own output file, where %j is the job id; the job script goes on in the attempt's `job_log`."""
        return self.path / "slurm-%j.log"

    @property
    def wandb(self) -> Path:
        return self.path / "wandb"

    @property
    def alerts_sent(self) -> Path:
        """The alerts that W&B was told of, one JSON object a line, so that none of them is sent again."""
        return self.wandb / "alerts.jsonl"

    @property
    def submissions(self) -> Path:
        """One JSON object a line, written before and after each sbatch: job ids of the run."""
        return self.path / "submissions.jsonl"
