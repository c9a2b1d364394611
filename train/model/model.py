"""Loading the model: from a folder or the local hub cache, sharded from the first byte under ZeRO-3.

It owns `from_pretrained`. Random models are made once, by the data step, into the run folder: drawing weights under
ZeRO-3 would give other ones for the same seed.
"""

from __future__ import annotations

import importlib.util
import inspect
from collections.abc import Callable
from typing import Any, cast

import torch
from torch import nn

from conf.layout import RunFolder
from conf.record import Device, Layout, Plan
from conf.schema import ModelInit, Precision, Quantization, TaskName
from train.data.prepared import Prepared
from train.generation.generation import with_options
from train.methods.quantization import keep_stored, quantization_config, whole_modules
from train.model import attention, head
from train.model.checkpointing import compute_again
from train.model.spared import spare_detection

spare_detection()

DTYPES = {Precision.bf16: torch.bfloat16, Precision.fp32: torch.float32, Precision.fp16: torch.float16}


def load_model(
    plan: Plan,
    layout: Layout,
    folder: RunFolder,
    prepared: Prepared | None = None,
    report: Callable[[str], None] = lambda text: None,
) -> nn.Module:
    """The model of a run, of the class its task needs, ready for `Engine`.

    Under ZeRO-3 a collective that leaves each rank a shard.

    Args:
        prepared: the run's data, whose labels a classifier gets a head for.
        report: hears which weights are new.

    Raises:
        OSError: there is no model at the place the plan names.
    """
    from transformers.integrations import HfDeepSpeedConfig

    sharded = layout.deepspeed.get("zero_optimization", {}).get("stage", 0) == 3
    quantized = plan.config.method.quantization is not Quantization.none
    source, arguments = _source(plan, folder)
    model_class, labels = auto_class(plan.config.task.name), prepared.labels if prepared else None
    if sharded and not quantized:
        arguments |= head.renamed(model_class, source, arguments, labels)
    # transformers shards while it loads as long as this object lives; later it must not, or an export's reload shards.
    # Quantised weights it cannot shard: each rank loads them whole, at a quarter of their size, for `Engine` to shard.
    keeps_sharding = HfDeepSpeedConfig(layout.deepspeed) if sharded and not quantized else None
    if plan.topology.device is Device.gpu and not sharded:
        arguments = placement(torch.device("cuda", torch.cuda.current_device())) | arguments
    if quantized:
        whole = whole_modules(model_class, source, arguments, plan.config.method)
        dtype = DTYPES[plan.config.train.precision]
        arguments["quantization_config"] = quantization_config(plan.config.method, dtype, sharded, whole)
    arguments |= head.arguments(labels)
    model, found = model_class.from_pretrained(source, output_loading_info=True, **arguments)
    del keeps_sharding
    if quantized:
        keep_stored(model)
    if prepared is not None and labels is not None:
        # A causal model's head looks at the last token that is no padding.
        model.config.get_text_config().pad_token_id = model.config.pad_token_id = prepared.pad_id
        new = head.new_names(found)
        head.draw(model, new, plan.config.train.seed)
        if new:
            report(head.in_words(new, labels))
    model.config.use_cache = False
    if model.can_generate():
        model.generation_config = with_options(model.generation_config, plan.config.task.generation)
    if plan.config.train.gradient_checkpointing:
        compute_again(model, plan.config.train.gradient_checkpointing_interval)
    return cast(nn.Module, model)


AUTO_CLASSES = {
    TaskName.causal_lm: "AutoModelForCausalLM",
    TaskName.seq2seq_lm: "AutoModelForSeq2SeqLM",
    TaskName.seq_cls: "AutoModelForSequenceClassification",
}
"""Class of transformers by task."""


def auto_class(name: TaskName) -> Any:
    """The class of transformers that loads a model for the task."""
    import transformers

    return getattr(transformers, AUTO_CLASSES[name])


def task_of(model: Any) -> TaskName:
    """The task whose class of transformers a model has."""
    if type(model).__name__.endswith("ForSequenceClassification"):
        return TaskName.seq_cls
    return TaskName.seq2seq_lm if model.config.is_encoder_decoder else TaskName.causal_lm


def _source(plan: Plan, folder: RunFolder) -> tuple[str, dict[str, Any]]:
    """Where the weights are, and the arguments of `from_pretrained`."""
    config = plan.config.model
    arguments: dict[str, Any] = {"dtype": DTYPES[plan.config.train.precision], **config.kwargs}
    implementation = attention_name(plan)
    if implementation is not None:
        arguments["attn_implementation"] = implementation
    if config.init is ModelInit.random:
        return weights_at_start(plan, folder), arguments
    if config.revision is not None:
        arguments["revision"] = config.revision
    if config.trust_remote_code:
        arguments["trust_remote_code"] = True
    return weights_at_start(plan, folder), arguments


def weights_at_start(plan: Plan, folder: RunFolder) -> str:
    """Where the weights are that training starts from."""
    random = plan.config.model.init is ModelInit.random
    return str(folder.model) if random else plan.config.model.model_name_or_path


def placement(device: torch.device) -> dict[str, Any]:
    """Arguments of `from_pretrained` that load weights straight onto a GPU, without a whole copy in each rank's memory.

    transformers wants accelerate for it, which comes with peft; without it the weights go through host memory.
    """
    if device.type != "cuda" or importlib.util.find_spec("accelerate") is None:
        return {}
    return {"device_map": {"": device}}


def attention_name(plan: Plan) -> str | None:
    """Name for `attn_implementation`: Muster's own where documents are packed; None leaves it to transformers."""
    wanted = plan.config.model.attn_implementation
    if wanted != "auto":
        return wanted
    if plan.packing == "none":
        return None
    attention.register()
    return "muster"


def accepts_logits_to_keep(model: nn.Module) -> bool:
    """Whether the model's forward pass can leave out the logits of positions without a target."""
    return "logits_to_keep" in inspect.signature(model.forward).parameters
