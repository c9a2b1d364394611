"""Attention per document on a GPU: packed is alone, by one kernel in 16 bits and document by document in fp32."""

from __future__ import annotations

import pytest
import torch
from torch.nn.functional import scaled_dot_product_attention

from train.model.per_document import attend

pytestmark = [pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")]

LENGTHS = (700, 1, 64, 259)
TOLERANCE = {torch.float32: 1e-5, torch.bfloat16: 2e-2, torch.float16: 4e-3}


@pytest.mark.parametrize("window", [None, 32], ids=["causal", "window"])
@pytest.mark.parametrize("groups", [1, 4])
@pytest.mark.parametrize("head_size", [20, 64, 128, 256])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32], ids=str)
def test_packed_is_alone(dtype: torch.dtype, head_size: int, groups: int, window: int | None) -> None:
    generator = torch.Generator("cuda").manual_seed(0)
    shapes = [(1, heads, sum(LENGTHS), head_size) for heads in (8, 8 // groups, 8 // groups)]
    q, k, v = (torch.randn(shape, generator=generator, device="cuda").to(dtype).requires_grad_() for shape in shapes)
    bounds = torch.tensor([0, *LENGTHS], device="cuda").cumsum(0).to(torch.int32)
    packed = {
        "cu_seq_lens_q": bounds,
        "cu_seq_lens_k": bounds,
        "max_length_q": max(LENGTHS),
        "max_length_k": max(LENGTHS),
    }
    found, _ = attend(torch.nn.Module(), q, k, v, None, scaling=0.11, sliding_window=window, **packed)
    expected = alone(q, k, v, window)
    weights = torch.randn(expected.shape, generator=generator, device="cuda")
    assert (found.float() - expected).abs().max() <= TOLERANCE[dtype] * expected.abs().max()
    pairs = zip(gradients(found.float(), weights, q, k, v), gradients(expected, weights, q, k, v), strict=True)
    for ours, reference in pairs:
        assert (ours - reference).abs().max() <= TOLERANCE[dtype] * reference.abs().max()


def alone(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, window: int | None) -> torch.Tensor:
    """Each document by itself in fp64, with a written-out mask; (1, length, heads, head size) in fp32."""
    outputs = []
    groups = q.shape[1] // k.shape[1]
    for part in zip(*(whole.double().split(LENGTHS, 2) for whole in (q, k, v)), strict=True):
        query, key, value = part[0], part[1].repeat_interleave(groups, 1), part[2].repeat_interleave(groups, 1)
        length = query.shape[2]
        mask = torch.ones(length, length, dtype=torch.bool, device=q.device).tril()
        if window is not None:
            mask = mask.triu(1 - window)
        outputs.append(scaled_dot_product_attention(query, key, value, attn_mask=mask, scale=0.11))
    return torch.cat(outputs, 2).transpose(1, 2).float()


def gradients(output: torch.Tensor, weights: torch.Tensor, *inputs: torch.Tensor) -> list[torch.Tensor]:
    return [gradient.float() for gradient in torch.autograd.grad((output * weights).sum(), inputs)]
