"""What each class of failure means, what Muster does by itself, and what a person can change. Data alone.

`muster why` shows the entry that fits, docs/troubleshooting.md is made from all of them, and a test holds `again`
against what `train.node.decide` does.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import Enum

from conf.outcome import Cause


class Again(Enum):
    """Whether the run goes on by itself after such an end (on Slurm, by `cluster.continuation`)."""

    never = "ends: another attempt would meet the same"
    progress = "goes on where the attempt has saved something new, else ends"
    always = "goes on from the newest checkpoint, also where nothing new was saved"
    asked = "ends: somebody asked for it; `muster resume` goes on"


@dataclass(frozen=True)
class Advice:
    """One entry: of several of a class the first whose pattern `when` is found in the failure's words counts.

    `remedies` are functions of `launcher.why.remedies`, which name keys with their present and nearest better values.
    """

    cause: Cause
    title: str
    meaning: str
    again: Again
    change: tuple[str, ...]
    remedies: tuple[str, ...] = ()
    when: str = ""


ADVICE: tuple[Advice, ...] = (
    Advice(
        Cause.oom,
        "host memory ran out",
        "The kernel ended a process, or an allocation in host memory failed. Loading a model, offloaded states and the "
        "data step need the most.",
        Again.never,
        (
            "ask for more memory a node (`cluster.mem`), or for fewer ranks a node",
            "keep less on the host: no offload, a larger ZeRO stage over more nodes",
            "in the data step: `data.streaming=true`, or fewer `data.prepare_workers`",
        ),
        ("predicted_host_memory", "less_offload", "more_host_memory", "fewer_ranks", "fewer_workers"),
    ),
    Advice(
        Cause.cuda_oom,
        "GPU memory ran out",
        "Model states, activations and buffers together did not fit. The rehearsal on the longest batch makes this "
        "show in the first minute.",
        Again.never,
        (
            "halve the micro batch, which changes memory and speed, never the loss",
            "recompute activations (`train.gradient_checkpointing=true`)",
            "shard more (the next ZeRO stage), offload the optimizer, or use more GPUs",
            (
                "fragmented memory (much reserved, not allocated): "
                "`cluster.env.PYTORCH_CUDA_ALLOC_CONF=expandable_segments:True`"
            ),
        ),
        ("predicted_memory", "what_fits"),
    ),
    Advice(
        Cause.shm_full,
        "shared memory (/dev/shm) is full",
        "A write into shared memory found no room: the process got SIGBUS. Containers often have 64 MiB of it, and "
        "files of killed jobs may lie there.",
        Again.never,
        (
            "give the container more (`--shm-size`, `--ipc=host`; apptainer and pyxis share the host's)",
            "remove what old jobs left: `ls -l /dev/shm` on the node",
        ),
    ),
    Advice(
        Cause.disk_full,
        "a disk or quota is full",
        "A write found no room. The checkpoints before it are whole; what was half written is removed.",
        Again.never,
        (
            (
                "make room where it is full, or move there what the run writes (`run_root`, `data.cache_dir`, "
                "`cluster.scratch`)"
            ),
            "keep fewer checkpoints",
        ),
        ("full_folder", "fewer_checkpoints"),
    ),
    Advice(
        Cause.file_system,
        "a shared file system failed",
        "A read or write came back with an error of the file system itself: a server that went away, a stale handle, a "
        "file system that became read-only.",
        Again.always,
        ("ask the site; the host is named above", "keep temporary files node-local (`cluster.scratch`)"),
    ),
    Advice(
        Cause.nan,
        "loss or gradients became NaN or infinite",
        "All ranks agreed that the numbers are no longer numbers. Usual: a learning rate too high, fp16, a broken row.",
        Again.never,
        (
            "lower the learning rate, warm up for longer, clip gradients",
            "look at the rows of that step: an empty target, a number that is none",
            "bf16 or fp32 where fp16 is used",
        ),
        ("gentler", "go_back", "wider_numbers"),
    ),
    Advice(
        Cause.data,
        "the data cannot be used",
        "A file, row or column is not what the run needs; the message names file and line.",
        Again.never,
        ("mend or remove the row; `muster data` with the same words checks all of it without a run",),
    ),
    Advice(
        Cause.config,
        "the configuration does not fit what was found",
        "What the run was planned for is not what it met: fewer GPUs, another number of ranks, a missing right.",
        Again.never,
        ("change the key that the message names; `muster plan` with the same words checks the rest",),
    ),
    Advice(
        Cause.config,
        "a limit of the system is too low",
        "The process may open no more files or start no more threads. Sites set this for jobs.",
        Again.never,
        ("`cluster.setup=['ulimit -n 65536']` (files), `ulimit -u` (processes), up to the site's hard limit",),
        when=r"too many open files|ancdata|new thread|pthread_create|resource temporarily",
    ),
    Advice(
        Cause.config,
        "a file may not be read or written",
        "The user of the job has no right to a file or folder, on the node that is named.",
        Again.never,
        ("give the right, or another folder; home folders are sometimes not mounted on the nodes",),
        when=r"permission denied",
    ),
    Advice(
        Cause.import_error,
        "a package is missing or does not fit",
        "Python, the compiler or CUDA's libraries on the node are not what the code needs.",
        Again.never,
        (
            "install it into the Python that is named, or name another one (`cluster.python`)",
            "load the module with the library (`cluster.modules`)",
            "the driver is the site's: a torch built for an older CUDA runs on an older driver",
        ),
        ("missing_package",),
    ),
    Advice(
        Cause.hub,
        "the model hub did not give what was asked for",
        "The name is wrong, access is not granted, or the node reaches no hub.",
        Again.progress,
        (
            "download where there is a network, then name the folder: `model.model_name_or_path=/shared/models/…`",
            "gated models: accept the licence, and keep a token in ~/.cache/huggingface/token (0600)",
            "a proxy passes by `cluster.pass_env=[https_proxy]`",
        ),
        ("local_model",),
    ),
    Advice(
        Cause.checkpoint,
        "a checkpoint or a model's files cannot be used",
        "Files are damaged, cut short, or written by something else. Muster loads no bits that it cannot verify.",
        Again.never,
        (
            "an older checkpoint, where there is one: remove or move the damaged folder in `checkpoints/`, then resume",
            "a base model: download its files again",
        ),
        ("checkpoints_there",),
    ),
    Advice(
        Cause.user_code,
        "the code raised an error",
        "An exception that Muster knows no other class for: a model's own code, or a mistake of Muster's. Its "
        "traceback is the first one, not a victim's.",
        Again.progress,
        ("read the traceback from its end; the log of that rank has what came before",),
    ),
    Advice(
        Cause.user_code,
        "an index was out of range on the GPU",
        "A kernel's own check failed (device-side assert): nearly always a token or label beyond the size of the "
        "embedding or of the classifier.",
        Again.progress,
        (
            "tokenizer and model have to be of one kind: compare `vocab_size` in config.json with the tokenizer's",
            "see the place with `cluster.env.CUDA_LAUNCH_BLOCKING=1`, or on the CPU",
        ),
        when=r"device-side assert",
    ),
    Advice(
        Cause.user_code,
        "a file is not there",
        "A path does not exist on the node that is named.",
        Again.progress,
        ("use folders that every node mounts; home and /tmp are often of one node alone",),
        when=r"filenotfounderror|no such file",
    ),
    Advice(
        Cause.killed,
        "the process crashed in compiled code",
        "SIGSEGV, SIGABRT, SIGBUS, SIGILL and SIGFPE come from compiled libraries; the stack shows the Python line "
        "that called them.",
        Again.progress,
        (
            (
                "the same place again: versions that do not fit each other (`muster doctor`, env.json), or a file that "
                "became shorter while it was read"
            ),
            "another place or node each time: hardware; leave the node out (`cluster.exclude`)",
            "SIGILL: a package built for a newer processor than the node's",
        ),
        ("leave_out_host",),
        when=r"sig(?:segv|abrt|bus|ill|fpe)|fatal python error",
    ),
    Advice(
        Cause.killed,
        "the process was killed",
        "A signal from outside ended it: a person, an administrator, a node's health check, or the kernel where it may "
        "not be asked.",
        Again.progress,
        (
            "look at memory first: where a site forbids reading its counters, running out of it looks like this",
            "ask the site what ends processes on that host at that time",
        ),
        ("save_more_often",),
    ),
    Advice(
        Cause.hang,
        "a rank made no progress",
        "One rank stood still and all others waited for it. The stacks of that time show where each of them was.",
        Again.always,
        (
            "in the loader: a slow or hanging file system; in a collective: another rank is the one to look at",
            "a step or a compile that is only slow: raise the limit of that phase (`health.limits_s`)",
        ),
        ("phase_limit",),
    ),
    Advice(
        Cause.nccl_timeout,
        "a collective on the GPUs did not end",
        "NCCL's watchdog gave up: some rank did not take part. The flight recorder says which rank was at which "
        "collective.",
        Again.always,
        (
            "the rank that is missing in the last collective is the one to look at",
            "all were there: the network between the nodes that are named",
        ),
        ("phase_limit",),
    ),
    Advice(
        Cause.nccl,
        "NCCL failed",
        "Communication between GPUs failed in the driver, the network or the system.",
        Again.always,
        (
            "once with `cluster.env.NCCL_DEBUG=INFO`: the first line with WARN says what",
            "wrong network: `cluster.network.interface`, `cluster.network.ib_hcas`",
            "the same host each time: leave it out and tell the site",
        ),
        ("leave_out_host",),
    ),
    Advice(
        Cause.gpu,
        "a GPU failed",
        "The driver reports an error of the device (Xid, ECC, fallen off the bus) or of an access to its memory.",
        Again.always,
        (
            "leave the node out and tell the site the Xid and the host",
            "an illegal access at the same place on other nodes is code: `cluster.env.CUDA_LAUNCH_BLOCKING=1` shows it",
        ),
        ("leave_out_host",),
    ),
    Advice(
        Cause.bad_node,
        "a node is not fit for the run",
        "The checks before the start found something wrong on the node that is named; the next attempt leaves it out.",
        Again.always,
        ("tell the site; `muster nodes` shows what is known of its nodes",),
        ("leave_out_host",),
    ),
    Advice(
        Cause.node_fail,
        "a node died",
        "Slurm lost a node of the job. What was saved is on the shared file system; the run goes on elsewhere.",
        Again.always,
        ("nothing, unless it is always the same node: leave it out and tell the site",),
        ("leave_out_host", "save_more_often"),
    ),
    Advice(
        Cause.lost_peer,
        "a peer was lost",
        "Ranks or agents lost the connection to another, and nothing says why that one ended: its node died, or the "
        "network between them was cut.",
        Again.always,
        (
            "see the host that is named: did it restart, does its link lose packets",
            "wrong network between nodes: `cluster.network.interface`, `cluster.network.host_suffix`",
        ),
        ("save_more_often",),
    ),
    Advice(
        Cause.port,
        "the port of the meeting was taken",
        "Another program listens where the ranks wanted to meet, on 64 ports in a row.",
        Again.always,
        ("somebody opens many ports on that host; `cluster.exclusive=true` keeps others off",),
    ),
    Advice(
        Cause.preempted,
        "the job was preempted",
        "Slurm needed the nodes for a job that goes first. The run saves within the grace time and waits in the queue.",
        Again.always,
        ("nothing; where the grace is shorter than a save, save more often",),
        ("save_more_often",),
    ),
    Advice(
        Cause.time_limit,
        "the time limit was reached",
        "The job's time was over. The run saves before it and goes on in a new job.",
        Again.always,
        (
            "a longer `cluster.time`, where the partition allows it",
            "a save that was cut off: a longer lead (`cluster.signal_lead_s`)",
        ),
        ("longer_lead", "save_more_often"),
    ),
    Advice(
        Cause.cancelled,
        "somebody ended the run",
        "`muster stop`, `muster cancel`, scancel or Ctrl-C. Nothing is wrong with it.",
        Again.asked,
        ("`muster resume` goes on from the newest checkpoint",),
    ),
    Advice(
        Cause.unknown,
        "a process left without a word",
        "It ended with a status other than 0 and no exception: code that calls os._exit or C's exit(), or a shell that "
        "ended before Python began.",
        Again.progress,
        (
            "read the end of its log",
            "before Python: `cluster.setup`, `cluster.modules`, `cluster.python`, as job.log and the agent's log show",
        ),
    ),
)


def advice_for(cause: Cause, words: str) -> Advice:
    """The entry of a class that fits the failure's words: one whose pattern is found in them, else the general one."""
    own = [advice for advice in ADVICE if advice.cause is cause]
    lower = words.lower()
    fitting = (advice for advice in own if advice.when and re.search(advice.when, lower))
    return next(fitting, next(advice for advice in own if not advice.when))
