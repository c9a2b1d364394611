"""Every configuration key of Muster: its type, default, unit, effect and when to change it.

This is the one truth about the keys. Hydra composes against these dataclasses, `--help` and `docs/reference.md` are
generated from their documentation, and the checks name them in every message. This module imports nothing but the
standard library, so that the nodes can read it without Hydra.

Sources of spellings: Hugging Face's TrainingArguments for training, PEFT for methods, sbatch for clusters, DeepSpeed
inside `parallel.deepspeed`.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum
from typing import Any, Optional

REQUIRED: Any = "???"
"""OmegaConf's mark for a key that a person has to give."""


def key(default: Any, doc: str) -> Any:
    """A dataclass field with its documentation; mutable defaults are copied for each instance."""
    if isinstance(default, dict | list):
        return field(default_factory=lambda: type(default)(default), metadata={"doc": doc})
    if isinstance(default, type):
        return field(default_factory=default, metadata={"doc": doc})
    return field(default=default, metadata={"doc": doc})


class Access(Enum):
    """Who may read a run folder."""

    private = "private"
    group = "group"


class ModelInit(Enum):
    """Where a model's first weights come from."""

    pretrained = "pretrained"
    random = "random"


class Packing(Enum):
    """How documents are laid out in rows."""

    exact = "exact"
    dense = "dense"
    none = "none"


class DataFormat(Enum):
    """The shape of a row of data."""

    auto = "auto"
    prompt = "prompt"
    alpaca = "alpaca"
    messages = "messages"
    text = "text"


class LongRows(Enum):
    """What happens to a document longer than `data.max_length`."""

    truncate = "truncate"
    drop = "drop"
    error = "error"


class PrepareWhere(Enum):
    """Where the data is tokenised."""

    auto = "auto"
    inline = "inline"
    job = "job"


class Offload(Enum):
    """Where DeepSpeed keeps a part of the model states."""

    none = "none"
    cpu = "cpu"


class Precision(Enum):
    """Arithmetic of the forward and backward pass."""

    bf16 = "bf16"
    fp32 = "fp32"
    fp16 = "fp16"


class Scheduler(Enum):
    """Learning-rate schedules, in Hugging Face's spelling."""

    cosine = "cosine"
    linear = "linear"
    constant = "constant"
    warmup_stable_decay = "warmup_stable_decay"


class EvalStrategy(Enum):
    """When the validation set is evaluated during training."""

    no = "no"
    steps = "steps"
    epoch = "epoch"


class ExportWhen(Enum):
    """When the Hugging Face model is written."""

    auto = "auto"
    end = "end"
    job = "job"
    never = "never"


class Tracker(Enum):
    """Where metrics are mirrored to."""

    wandb = "wandb"
    none = "none"


class TrackingMode(Enum):
    """Whether W&B is written to over the network or into files."""

    online = "online"
    offline = "offline"


class ClusterKind(Enum):
    """What starts the processes of a run."""

    local = "local"
    slurm = "slurm"


class Start(Enum):
    """How a node's agent starts its ranks."""

    auto = "auto"
    exec = "exec"
    fork = "fork"


class ContainerRuntime(Enum):
    """What runs a container image on the nodes."""

    none = "none"
    pyxis = "pyxis"
    apptainer = "apptainer"


@dataclass
class ModelConfig:
    """Which model is trained. `model=tiny`, `model=hf`, or a named one such as `model=llama3.1-8b`."""

    model_name_or_path: str = key(
        "", "A folder with a Hugging Face model, or a hub name. Empty only where `init=random` and `shape` is given."
    )
    revision: Optional[str] = key(
        None, "Hub commit, tag or branch; resolved to a commit at submit. Give a commit to repeat a run for certain."
    )
    tokenizer_name_or_path: Optional[str] = key(
        None,
        "Tokenizer folder or hub name. Null: the model's own. `train`: a byte-level BPE of `tokenizer_vocab_size` "
        "trained on the training data, for models made from a shape.",
    )
    tokenizer_vocab_size: int = key(
        512, "Vocabulary size, in tokens, of a tokenizer trained on the data (`tokenizer_name_or_path=train`)."
    )
    init: ModelInit = key(
        ModelInit.pretrained,
        "`pretrained` loads weights; `random` draws them from `shape` or the folder's config.json.",
    )
    shape: dict[str, Any] = key(
        {},
        "Keys of the model's config.json (`model_type`, `hidden_size`, …). Makes a random model, and lets a plan be "
        "made for a hub model without the network.",
    )
    attn_implementation: str = key(
        "auto",
        "Attention: `auto` takes Muster's per-document attention where the architecture allows it, else `sdpa`. "
        "Any name that transformers knows (`eager`, `sdpa`, `flash_attention_2`, …) is passed on.",
    )
    trust_remote_code: bool = key(
        False, "Run Python code that comes with a hub model. Refused unless `revision` is a full commit."
    )
    kwargs: dict[str, Any] = key({}, "Further arguments of `from_pretrained`, passed on as they are.")


@dataclass
class DataConfig:
    """What the model is trained on. JSON, JSON lines, CSV or Parquet files, or a hub data set."""

    train_file: Optional[str] = key(
        None,
        "Training data: .json, .jsonl, .csv or .parquet, `.gz` too. One of this and `dataset_name`.",
    )
    validation_file: Optional[str] = key(
        None,
        "Validation data. Null: held out of the training data by `validation_size`.",
    )
    test_file: Optional[str] = key(None, "Test data, evaluated once at the end.")
    dataset_name: Optional[str] = key(None, "Hub data set, fetched once at submit; the nodes stay offline.")
    dataset_config_name: Optional[str] = key(None, "Configuration of the hub data set, where it has several.")
    validation_size: float = key(
        0.0, "Rows held out for validation where there is no validation file: a share below 1, or a number of rows."
    )
    format: DataFormat = key(
        DataFormat.auto,
        "`prompt` (prompt with response or completion), `alpaca` (instruction, input, output), `messages` (OpenAI), "
        "`text`. `auto` decides by the columns of the first row.",
    )
    columns: dict[str, str] = key(
        {}, "Other column names by role: `data.columns.prompt=question data.columns.response=answer`."
    )
    max_length: int = key(1024, "Longest document, in tokens. Longer ones: see `on_long`. Memory grows with it.")
    on_long: LongRows = key(
        LongRows.truncate,
        "A document over `max_length` is cut, dropped or an error; the number is said.",
    )
    packing: Packing = key(
        Packing.exact,
        "`exact` lays the documents of one global batch end to end: the same loss curve, no padding. `dense` packs "
        "across batches, for full rows, in an order of its own. `none` pads.",
    )
    completion_only_loss: bool = key(
        True, "Loss on responses and assistant turns only. False: on every token. Plain text always has it everywhere."
    )
    chat_template: Optional[str] = key(
        None,
        "Jinja chat template, or a file with one; replaces the tokenizer's own. Needed for `messages` without one.",
    )
    prompt_template: Optional[str] = key(
        None, "Text put around a prompt without a chat template: `{prompt}` stands for it, e.g. `Q: {prompt}\\nA:`."
    )
    max_bad_rows: int = key(
        0,
        "Broken rows (bad JSON, missing column, wrong type) tolerated, each reported; one more is an error.",
    )
    prepare: PrepareWhere = key(
        PrepareWhere.auto,
        "Where tokenisation runs: `inline` before the ranks meet, `job` as a CPU job before the GPU job, `auto` "
        "by size.",
    )
    prepare_workers: int = key(0, "Processes that tokenise; 0 takes the cores of the node.")
    cache_dir: Optional[str] = key(
        None, "Folder of prepared data, keyed by content and shared by runs. Null: `<run_root>/.cache`."
    )


@dataclass
class TaskConfig:
    """What the model learns to do."""

    name: str = key("causal_lm", "`causal_lm`: the next token.")


@dataclass
class MethodConfig:
    """Which parameters are trained."""

    name: str = key("full", "`full`: every parameter.")


@dataclass
class ParallelConfig:
    """How DeepSpeed ZeRO shards the model states. `parallel=zero0 … zero3_hpz`."""

    zero_stage: int = key(
        3,
        "0 replicates everything; 1 shards optimizer states, 2 also gradients, 3 also weights. Lowest that fits "
        "is fastest.",
    )
    offload_optimizer: Offload = key(
        Offload.none,
        "`cpu` keeps optimizer states in host memory: less GPU memory, slower steps.",
    )
    offload_param: Offload = key(Offload.none, "`cpu` keeps weights in host memory as well; stage 3 only.")
    hpz_partition_size: int = key(
        1,
        "Ranks that keep a second copy of the weights between them (ZeRO++ hpZ), so that gathers stay in a node. "
        "1: off; 0: ranks per node.",
    )
    deepspeed: dict[str, Any] = key(
        {},
        "Raw DeepSpeed keys, merged over what Muster wrote; the plan shows the difference.",
    )


@dataclass
class OptimConfig:
    """AdamW."""

    learning_rate: float = key(1e-5, "Peak learning rate.")
    weight_decay: float = key(0.0, "Decoupled weight decay; never on norms, biases and other vectors.")
    adam_beta1: float = key(0.9, "Decay of the first moment.")
    adam_beta2: float = key(0.999, "Decay of the second moment; 0.95 is common for large batches.")
    adam_epsilon: float = key(1e-8, "Added to the root of the second moment.")
    max_grad_norm: float = key(1.0, "Gradients are scaled down to this L2 norm; 0 turns clipping off.")


@dataclass
class ScheduleConfig:
    """Learning rate over the steps."""

    lr_scheduler_type: Scheduler = key(Scheduler.cosine, "`cosine`, `linear`, `constant` or `warmup_stable_decay`.")
    warmup_steps: float = key(0.03, "Linear warm-up: a share of all steps below 1, else a number of steps.")
    decay_steps: float = key(0.1, "`warmup_stable_decay` only: length of the final decay, a share below 1 or steps.")
    min_lr_ratio: float = key(0.0, "Learning rate at the last step, as a share of the peak.")


@dataclass
class TrainConfig:
    """Length, batch, precision and rhythm of the training."""

    global_batch_size: int = key(
        16,
        "Documents in one optimizer step, over all ranks. Micro batch and accumulation follow from it.",
    )
    per_device_train_batch_size: Optional[int] = key(
        None,
        "Micro batch: documents (packed: rows of `max_length` tokens) a rank computes at a time. Null: chosen. "
        "Changes memory and speed, never the loss.",
    )
    gradient_accumulation_steps: Optional[int] = key(
        None,
        "Micro batches a step. Null: follows from the batch equation; given, it must agree.",
    )
    max_steps: Optional[int] = key(None, "Optimizer steps; wins over `num_train_epochs`.")
    num_train_epochs: float = key(1.0, "Passes over the training data, where `max_steps` is null.")
    precision: Precision = key(
        Precision.bf16,
        "`bf16` with fp32 master weights, `fp32`, or `fp16` with loss scaling (GPUs only).",
    )
    seed: int = key(42, "Order of the data, dropout and random weights.")
    deterministic: bool = key(
        False,
        "Deterministic GPU kernels: resume bit for bit, somewhat slower. CPUs are always exact.",
    )
    gradient_checkpointing: bool = key(
        False,
        "Recompute activations in the backward pass: less memory, about a quarter more time.",
    )
    rehearsal: bool = key(
        True,
        "Run forward and backward on the longest batch before the first step, so that memory fails at once or not"
        " at all.",
    )
    logging_steps: int = key(1, "Steps between lines of metrics.jsonl; the GPU is only waited for then.")
    eval_strategy: EvalStrategy = key(
        EvalStrategy.steps,
        "`no`, every `eval_steps` or every `epoch`. The end is always evaluated where there is validation data.",
    )
    eval_steps: int = key(100, "Steps between evaluations with `eval_strategy=steps`.")
    per_device_eval_batch_size: Optional[int] = key(None, "Documents a rank evaluates at a time. Null: as in training.")
    eval_samples: int = key(0, "Validation prompts answered by the exported model at the end, kept in the run folder.")


@dataclass
class CheckpointConfig:
    """What is kept to go on from, and what is handed back."""

    save_steps: int = key(500, "Steps between checkpoints; 0: only at the end or at a stop.")
    save_total_limit: int = key(2, "Checkpoints kept; the newest that verifies is never deleted.")
    export: ExportWhen = key(
        ExportWhen.auto,
        "Hugging Face model: at the `end` of the run, as a `job` after it, `never`; `auto`: at the end up to 4 "
        "billion parameters.",
    )
    max_shard_size_gb: float = key(5.0, "Largest safetensors file of an export, in 10^9 bytes.")


@dataclass
class TrackingConfig:
    """Weights & Biases. `tracking=wandb|none`. The API key comes from the environment or ~/.netrc, never from here."""

    name: Tracker = key(Tracker.wandb, "`wandb` or `none`. metrics.jsonl is written in any case.")
    mode: TrackingMode = key(
        TrackingMode.offline,
        "`online`, or `offline` into the run folder (`wandb sync` later).",
    )
    project: str = key("muster", "W&B project.")
    entity: Optional[str] = key(None, "W&B team or user. Null: your default.")
    tags: list[str] = key([], "W&B tags.")


@dataclass
class ContainerConfig:
    """An image in which the ranks run."""

    runtime: ContainerRuntime = key(
        ContainerRuntime.none,
        "`pyxis` (srun --container-image) or `apptainer` (apptainer exec).",
    )
    image: str = key("", "Image file or reference; a squashfs or .sif file starts fastest.")
    mounts: list[str] = key([], "`source:target[:flags]`; the run folder, caches and data are mounted by Muster.")
    env: list[str] = key([], "Names of variables that win over the image's own (pyxis --container-env).")


@dataclass
class NetworkConfig:
    """Which network the ranks use. Nothing is set where nothing is given."""

    interface: Optional[str] = key(
        None,
        "Interface of sockets, e.g. `ib0` → GLOO_SOCKET_IFNAME and NCCL_SOCKET_IFNAME.",
    )
    host_suffix: str = key("", "Appended to the head node's name for MASTER_ADDR, e.g. `-ib`.")
    ib_hcas: list[str] = key([], "InfiniBand adapters, e.g. [mlx5_0, mlx5_1] → NCCL_IB_HCA.")


@dataclass
class ClusterConfig:
    """Where the run runs. `cluster=local|slurm|devcluster|<your site>`; a site file is `defaults: [slurm, _self_]`."""

    kind: ClusterKind = key(ClusterKind.local, "`local`: this machine; `slurm`: sbatch.")
    nodes: int = key(1, "Nodes.")
    ranks_per_node: Optional[int] = key(None, "Processes on a node. Null: `gpus_per_node`, or 1 without GPUs.")
    gpus_per_node: int = key(0, "GPUs on a node; 0 trains on the CPU. On `local`, -1 takes what is there.")
    gres: Optional[str] = key(None, "sbatch --gres instead of --gpus-per-node, where the site wants it: `gpu:h100:8`.")
    account: Optional[str] = key(None, "sbatch --account.")
    partition: Optional[str] = key(None, "sbatch --partition.")
    qos: Optional[str] = key(None, "sbatch --qos.")
    time: Optional[str] = key(
        None,
        "sbatch --time, in quotes: '12:30:00', '2-00:00:00'. The run goes on in a new job if it is not done by then.",
    )
    cpus_per_task: Optional[int] = key(
        None,
        "Cores of a node for all its ranks (one Slurm task a node). Null: the site's default.",
    )
    mem: Optional[str] = key(None, "sbatch --mem, host memory of a node: 900G; '0' is all of it.")
    constraint: Optional[str] = key(None, "sbatch --constraint.")
    nodelist: Optional[str] = key(None, "sbatch --nodelist.")
    exclude: Optional[str] = key(None, "sbatch --exclude.")
    reservation: Optional[str] = key(None, "sbatch --reservation.")
    exclusive: bool = key(False, "sbatch --exclusive: nobody else on the nodes.")
    sbatch: dict[str, Any] = key(
        {},
        "Any further sbatch option by its long name: {mail-type: END, switches: '1@12:00:00'}; true stands for a "
        "flag without value.",
    )
    signal_lead_s: int = key(
        300,
        "Seconds before the time limit at which the run saves and goes back into the queue (sbatch --signal).",
    )
    requeue: bool = key(True, "Go on in the queue after time limit, preemption or a node failure.")
    python: Optional[str] = key(
        None,
        "Python of the ranks' environment: a venv's bin/python, or its name after `modules`, `setup` or in the "
        "container. Null: the one Muster runs with.",
    )
    modules: list[str] = key([], "`module load` lines before the launch.")
    setup: list[str] = key(
        [],
        "Shell lines before the launch, in every node's step. They are code: only from people you trust.",
    )
    container: ContainerConfig = key(ContainerConfig, "Image in which the ranks run.")
    network: NetworkConfig = key(NetworkConfig, "Which network the ranks use.")
    env: dict[str, str] = key(
        {},
        "Environment of the ranks: NCCL and other settings. Never secrets: scripts can be read by others.",
    )
    pass_env: list[str] = key(
        [],
        "Names of further variables that pass from the submitting shell through the scrubbed environment.",
    )
    start: Start = key(Start.auto, "`fork` imports once a node, `exec` once a rank; `auto`: exec with GPUs, else fork.")
    scratch: str = key("/tmp", "Node-local folder for temporary, compile and kernel caches.")
    slurm_conf: Optional[str] = key(
        None,
        "SLURM_CONF for Slurm's commands; `devcluster` stands for the Slurm of `muster devcluster up`.",
    )


@dataclass
class RunConfig:
    """A whole run."""

    name: Optional[str] = key(
        None,
        "What you call the run; its id is the name and 8 hex digits of its content. Null: made of model, task and"
        " method.",
    )
    run_root: str = key("./runs", "Folder in which run folders are made; shared by all nodes.")
    access: Access = key(Access.private, "`private`: only you read the run folder; `group`: your group too.")
    model: ModelConfig = key(ModelConfig, "Which model.")
    data: DataConfig = key(DataConfig, "Which data.")
    task: TaskConfig = key(TaskConfig, "Which task.")
    method: MethodConfig = key(MethodConfig, "Which parameters.")
    parallel: ParallelConfig = key(ParallelConfig, "How model states are sharded.")
    optim: OptimConfig = key(OptimConfig, "Optimizer.")
    schedule: ScheduleConfig = key(ScheduleConfig, "Learning-rate schedule.")
    train: TrainConfig = key(TrainConfig, "Length, batch, precision, rhythm.")
    checkpoint: CheckpointConfig = key(CheckpointConfig, "Checkpoints and export.")
    tracking: TrackingConfig = key(TrackingConfig, "Weights & Biases.")
    cluster: ClusterConfig = key(ClusterConfig, "Where it runs.")
