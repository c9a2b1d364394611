"""Parameters as the model knows them, also where ZeRO-3 has taken them apart or they are packed in 4 bits.

Knows the marks that DeepSpeed and bitsandbytes leave on them, and imports neither.
"""

from __future__ import annotations

import math
from collections.abc import Iterable

import torch
from torch import Tensor, nn


def whole_shape(parameter: nn.Parameter) -> tuple[int, ...]:
    """Shape of a parameter as the model knows it, also where ZeRO-3 has taken it apart or it is packed in 4 bits."""
    packed = getattr(parameter, "quant_state", None)
    if packed is not None:
        return tuple(packed.shape)
    return tuple(getattr(parameter, "ds_shape", parameter.shape))


def parameter_count(parameters: Iterable[nn.Parameter]) -> int:
    """Number of weights, also where ZeRO-3 has taken them apart or they are packed."""
    return sum(math.prod(whole_shape(parameter)) for parameter in parameters)


def l2_norm(gradients: Iterable[Tensor]) -> Tensor:
    """L2 norm over all tensors, in fp32, left on the device."""
    norms = torch._foreach_norm([gradient.float() for gradient in gradients])
    total: Tensor = torch.linalg.vector_norm(torch.stack(list(norms)))
    return total
