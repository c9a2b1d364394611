"""What Slurm's job states and pending reasons mean, in plain words."""

from __future__ import annotations

PENDING = frozenset({"PENDING", "REQUEUED", "REQUEUE_HOLD", "REQUEUE_FED", "SPECIAL_EXIT", "RESV_DEL_HOLD"})
RUNNING = frozenset(
    {"RUNNING", "CONFIGURING", "COMPLETING", "SUSPENDED", "STOPPED", "SIGNALING", "STAGE_OUT", "RESIZING"}
)

FINAL = {
    "COMPLETED": "ended by itself",
    "CANCELLED": "cancelled by a person or an administrator",
    "FAILED": "the job script ended with an error",
    "TIMEOUT": "the time limit was reached",
    "PREEMPTED": "ended for a job of higher priority",
    "NODE_FAIL": "a node failed",
    "BOOT_FAIL": "a node did not boot",
    "DEADLINE": "its deadline passed",
    "OUT_OF_MEMORY": "host memory ran out",
    "REVOKED": "moved to another cluster",
}

REASONS = {
    "None": "just submitted",
    "Priority": "jobs of higher priority are first",
    "Resources": "waits for nodes to become free",
    "Dependency": "waits for another job",
    "JobArrayTaskLimit": "waits for others of its array (sweep.max_parallel)",
    "DependencyNeverSatisfied": "waits for a job that can no longer end as it should; cancel it",
    "BeginTime": "waits for its start time (a requeued job waits about two minutes)",
    "JobHeldUser": "held; `scontrol release` lets it go on",
    "JobHeldAdmin": "held by an administrator",
    "JobHoldMaxRequeue": "held: requeued too often",
    "JobLaunchFailure": "could not be started on its nodes",
    "Reservation": "waits for its reservation",
    "ReservationDeleted": "its reservation is gone",
    "PartitionDown": "the partition is down",
    "PartitionInactive": "the partition takes no jobs now",
    "PartitionNodeLimit": "asks for more nodes than the partition allows",
    "PartitionTimeLimit": "asks for more time than the partition allows",
    "NodeDown": "a node that it needs is down",
    "ReqNodeNotAvail": "a node that it needs is not available (down, drained or reserved)",
    "BadConstraints": "no node has what it asks for",
    "Licenses": "waits for a license",
    "AssociationJobLimit": "your account has as many jobs as it may",
    "AssociationResourceLimit": "your account uses as much as it may",
    "AssociationTimeLimit": "your account's time is used up",
    "QOSJobLimit": "the QOS has as many jobs as it may",
    "QOSResourceLimit": "the QOS uses as much as it may",
    "QOSTimeLimit": "the QOS's time is used up",
    "QOSUsageThreshold": "the QOS's usage threshold is breached",
    "InvalidAccount": "the account is not valid",
    "InvalidQOS": "the QOS is not valid",
    "FrontEndDown": "the front end is down",
    "Cleaning": "its previous attempt is being cleaned up",
    "Prolog": "the node's prolog runs",
    "SystemFailure": "Slurm, a file system or a network failed",
    "RaisedSignal": "it was signalled",
    "NonZeroExitCode": "the job script ended with an error",
    "TimeLimit": "the time limit was reached",
    "launch failed requeued held": "could not be started; held until `scontrol release`",
}

_LIMIT_SUBJECTS = {"Assoc": "your account", "QOS": "the QOS", "MaxBytes": "the burst buffer"}


def is_pending(state: str) -> bool:
    """Whether a job of that state waits in the queue."""
    return state in PENDING


def is_final(state: str) -> bool:
    """Whether a job of that state will not come back."""
    return base(state) in FINAL


def base(state: str) -> str:
    """The state's own word: sacct says `CANCELLED by 1000`, and may cut and mark it with `+`."""
    word = state.split()[0].rstrip("+") if state.split() else ""
    return word if word in FINAL else next((final for final in FINAL if word and final.startswith(word)), word)


def explain_final(state: str) -> str:
    """A final state in plain words; the state itself where it is not known."""
    return FINAL.get(base(state), state)


def explain_reason(reason: str) -> str:
    """Why a job waits, in plain words with Slurm's own word behind; that word alone where it is not known."""
    word = reason.strip("() ")
    key = word.split(",")[0]
    plain = REASONS.get(key)
    if plain is None:
        subject = next((subject for start, subject in _LIMIT_SUBJECTS.items() if key.startswith(start)), None)
        plain = f"{subject} is at a limit" if subject else None
    return f"{plain} ({word})" if plain else word
