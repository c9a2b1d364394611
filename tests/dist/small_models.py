"""Small random models for tests, made once on disk as a run's data step makes them, and engines around them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

SMALL = {
    "vocab_size": 96,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 128,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "pad_token_id": 0,
}
EXPERTS = {
    "mixtral": {"num_local_experts": 4, "num_experts_per_tok": 2},
    "qwen2_moe": {
        "num_experts": 4,
        "num_experts_per_tok": 2,
        "moe_intermediate_size": 24,
        "shared_expert_intermediate_size": 24,
    },
}


def write_model(
    folder: Path, model_type: str, tied: bool = False, auto: str = "AutoModelForCausalLM", **changes: Any
) -> Path:
    """A random model in fp32, of transformers' class `auto`, as a Hugging Face folder."""
    import torch
    import transformers

    torch.manual_seed(1)
    shape = {**SMALL, **EXPERTS.get(model_type, {}), "tie_word_embeddings": tied, **changes}
    model = getattr(transformers, auto).from_config(transformers.AutoConfig.for_model(model_type, **shape))
    model.save_pretrained(folder)
    return folder


def deepspeed_json(stage: int, bf16: bool = False) -> dict[str, Any]:
    """DeepSpeed's configuration as a plan would write it."""
    return {
        "train_micro_batch_size_per_gpu": 1,
        "gradient_accumulation_steps": 1,
        "gradient_clipping": 1.0,
        "zero_allow_untested_optimizer": True,
        "bf16": {"enabled": bf16},
        "zero_optimization": {
            "stage": stage,
            "stage3_param_persistence_threshold": 64,
            "stage3_prefetch_bucket_size": 1000,
            "reduce_bucket_size": 1000,
        },
        "steps_per_print": 10**9,
    }


def open_engine(model_folder: Path, stage: int, bf16: bool = False) -> Any:
    """An engine in this rank around the model in `model_folder`."""
    import torch
    from transformers import AutoModelForCausalLM
    from transformers.integrations import HfDeepSpeedConfig

    from train.engine import Engine

    configuration = deepspeed_json(stage, bf16)
    sharding = HfDeepSpeedConfig(configuration) if stage == 3 else None
    model = AutoModelForCausalLM.from_pretrained(model_folder, dtype=torch.bfloat16 if bf16 else torch.float32)
    del sharding
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    return Engine(model, optimizer, configuration, torch.device("cpu"))


def train_steps(engine: Any, first: int, last: int) -> None:
    """Steps `first + 1 … last` on batches that follow from step and rank alone."""
    import torch

    engine.train()
    for step in range(first, last):
        generator = torch.Generator().manual_seed(100 * step + engine.rank)
        ids = torch.randint(3, 96, (2, 16), generator=generator)
        loss = engine(input_ids=ids, labels=ids).loss
        engine.backward(loss, boundary=True)
        engine.step()


def write_tokenizer(folder: Path) -> None:
    """A small byte-level BPE as the data step leaves it in a run's `model/`."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    special = ["<pad>", "<s>", "</s>"]
    trainer = trainers.BpeTrainer(vocab_size=96, special_tokens=special, show_progress=False)
    tokenizer.train_from_iterator(["a b c 1 2 3 + = one two three"] * 4, trainer)
    names = {"pad_token": "<pad>", "bos_token": "<s>", "eos_token": "</s>"}
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, **names).save_pretrained(folder)
