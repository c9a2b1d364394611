"""Small models that are worth serving: one that counts, a classifier, an encoder-decoder, an adapter."""

from __future__ import annotations

from pathlib import Path

from tests.dist.small_models import write_model, write_tokenizer

COUNTING = "one two three "
CHAT_TEMPLATE = (
    "{% for message in messages %}{% if message['role'] == 'tool' %}{{ raise_exception('no tools') }}{% endif %}"
    "{{ message['content'] }}{% endfor %}"
)
LABELS = ("no", "perhaps", "yes")
SHAPE = {"vocab_size": 96, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4}


def write_counter(folder: Path) -> Path:
    """A causal model that has learned to say `one two three` for ever, with a chat template that adds nothing."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    write_model(folder, "llama", max_position_embeddings=10**6)
    write_tokenizer(folder)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    tokenizer.chat_template = CHAT_TEMPLATE
    tokenizer.save_pretrained(folder)
    model = AutoModelForCausalLM.from_pretrained(folder)
    words = tokenizer(COUNTING * 9)["input_ids"]
    ids = torch.tensor([words[start : start + 24] for start in range(3)])
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    for _ in range(60):
        model(input_ids=ids, labels=ids).loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    model.save_pretrained(folder)
    return folder


def write_classifier(folder: Path, problem_type: str = "single_label_classification") -> Path:
    """A random BERT with three named labels."""
    import torch
    from transformers import AutoConfig, AutoModelForSequenceClassification

    torch.manual_seed(1)
    names = dict(enumerate(LABELS))
    labels = {"id2label": names, "label2id": {name: number for number, name in names.items()}}
    config = AutoConfig.for_model("bert", max_position_embeddings=64, problem_type=problem_type, **SHAPE, **labels)
    model = AutoModelForSequenceClassification.from_config(config)
    model.classifier.weight.data *= 50  # or all texts would get nearly the same
    model.save_pretrained(folder)
    write_tokenizer(folder)
    return folder


def write_summarizer(folder: Path) -> Path:
    """A random T5."""
    import torch
    from transformers import AutoConfig, AutoModelForSeq2SeqLM

    torch.manual_seed(1)
    shape = {"d_model": 32, "d_ff": 48, "d_kv": 8, "num_layers": 2, "num_heads": 4, "decoder_start_token_id": 0}
    config = AutoConfig.for_model("t5", vocab_size=96, pad_token_id=0, eos_token_id=2, **shape)
    AutoModelForSeq2SeqLM.from_config(config).save_pretrained(folder)
    write_tokenizer(folder)
    return folder


def write_adapter(folder: Path, base: Path) -> Path:
    """A LoRA adapter with random weights that are not zero."""
    import torch
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM

    torch.manual_seed(2)
    lora = LoraConfig(r=12, task_type="CAUSAL_LM", target_modules="all-linear", init_lora_weights=False)
    get_peft_model(AutoModelForCausalLM.from_pretrained(base), lora).save_pretrained(folder)
    return folder
