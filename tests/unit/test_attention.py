"""Attention per document: for each architecture that may be packed, documents packed are documents alone."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from transformers import AutoConfig, AutoModelForCausalLM

from conf.architectures import PACKABLE
from train.data.batches import MicroBatch
from train.data.documents import Document
from train.data.tensors import packed_batch, padded_batch
from train.model import attention, per_document
from train.model.attention import TOLERANCE, packed_difference, self_check, small_model_config
from train.model.loss import loss_sum

WINDOWED = ("gemma3_text", "mistral", "mixtral", "phi3", "qwen2")


def config_of(model_type: str, window: int | None = None) -> Any:
    config = AutoConfig.for_model(model_type)
    if window is not None:
        config.sliding_window = window
        if hasattr(config, "use_sliding_window"):
            config.use_sliding_window = True
        if getattr(config, "layer_types", None):
            config.layer_types = ["sliding_attention", "full_attention"]
    return config


def model_of(model_type: str, implementation: str = attention.NAME) -> Any:
    attention.register()
    torch.manual_seed(0)
    small = small_model_config(config_of(model_type))
    # The check's own wide weights find faults well, and make rounding errors larger.
    small.initializer_range = 0.05
    for dropout in ("resid_pdrop", "embd_pdrop", "attn_pdrop"):
        if hasattr(small, dropout):
            setattr(small, dropout, 0.0)
    return AutoModelForCausalLM.from_config(small, attn_implementation=implementation)


def some_documents() -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(5)
    return [torch.randint(3, 128, (length,), generator=generator) for length in (17, 1, 9, 24)]


@pytest.mark.parametrize("checkpointing", [False, True], ids=["plain", "checkpointing"])
@pytest.mark.parametrize("model_type", sorted(PACKABLE))
def test_packed_is_alone(model_type: str, checkpointing: bool) -> None:
    model = model_of(model_type).train()
    if checkpointing:
        model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
    assert packed_difference(model, some_documents()) <= 2e-6


@pytest.mark.parametrize("model_type", WINDOWED)
def test_sliding_windows_hold_in_packed_documents(model_type: str) -> None:
    assert self_check(config_of(model_type, window=4)) <= TOLERANCE[torch.float32]


def leak(query: Any, key: Any, value: Any, bounds: list[int], *rest: Any) -> torch.Tensor:
    """One causal attention over the whole row."""
    return BY_DOCUMENT(query, key, value, [0, bounds[-1]], *rest)


def without_window(
    query: Any, key: Any, value: Any, bounds: list[int], scaling: Any, dropout: float, window: Any
) -> torch.Tensor:
    return BY_DOCUMENT(query, key, value, bounds, scaling, dropout, None)


BY_DOCUMENT = per_document._each_document


@pytest.mark.parametrize("model_type", sorted(PACKABLE))
def test_a_wrong_mask_is_found(model_type: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(per_document, "_each_document", leak)
    with pytest.raises(per_document.PackingError, match="packed documents differ"):
        self_check(config_of(model_type))


@pytest.mark.parametrize("model_type", WINDOWED)
def test_a_missing_window_is_found(model_type: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(per_document, "_each_document", without_window)
    with pytest.raises(per_document.PackingError, match="packed documents differ"):
        self_check(config_of(model_type, window=4))


@pytest.mark.parametrize("model_type", ["llama", "gemma3_text", "gpt2", "mistral"])
def test_padded_batches_are_as_with_sdpa(model_type: str) -> None:
    documents = [Document(ids.numpy(), ids.numpy() > 50) for ids in some_documents()]
    batch = padded_batch(documents, 0)
    losses = [loss_sum(model_of(model_type, name), batch) for name in (attention.NAME, "sdpa")]
    assert torch.equal(losses[0], losses[1])


@pytest.mark.parametrize("model_type", sorted(PACKABLE))
def test_loss_of_packed_padded_and_empty_rows(model_type: str) -> None:
    model = model_of(model_type)
    documents = [Document(ids.numpy(), ids.numpy() > 50) for ids in some_documents()]
    packed, padded = (loss_sum(model, make(documents, 0)).item() for make in (packed_batch, padded_batch))
    assert packed == pytest.approx(padded, rel=1e-5)
    empty: list[MicroBatch] = [packed_batch([], 0), padded_batch([], 0)]
    assert [loss_sum(model, batch).item() for batch in empty] == [0.0, 0.0]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"softcap": 30.0}, "softcap: not known"),
        ({"s_aux": torch.ones(2)}, "s_aux: not known"),
        ({"is_causal": False}, "is not causal"),
        ({"cu_seq_lens_q": torch.tensor([0, 4])}, "documents span 0 to 4, the row has 6 tokens"),
        ({"key": torch.ones(1, 2, 9, 4)}, "without a cache"),
        ({"query": torch.ones(2, 2, 6, 4)}, "come as one row"),
    ],
)
def test_what_attention_does_not_know_is_refused(arguments: dict[str, Any], words: str) -> None:
    given = {name: torch.ones(1, 2, 6, 4) for name in ("query", "key", "value")}
    given |= {"cu_seq_lens_q": torch.tensor([0, 2, 6]), **arguments}
    with pytest.raises(per_document.PackingError, match=words):
        per_document.attend(torch.nn.Identity(), attention_mask=None, **given)


def test_the_check_leaves_random_state_alone() -> None:
    torch.manual_seed(3)
    expected = torch.rand(4)
    torch.manual_seed(3)
    self_check(config_of("llama"))
    assert torch.equal(torch.rand(4), expected)


@pytest.mark.gpu
@pytest.mark.parametrize("model_type", sorted(PACKABLE))
def test_packed_is_alone_on_a_gpu(model_type: str) -> None:
    if not torch.cuda.is_available():
        pytest.skip("needs a GPU")
    for dtype in (torch.float32, torch.bfloat16):
        self_check(config_of(model_type), torch.device("cuda"), dtype)
