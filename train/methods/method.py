"""What is trained of a loaded model, as `method` says: an adapter on it, or its own parameters but the frozen ones."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from torch import nn

from conf.record import Layout, Plan
from train.methods.adapter import add_adapter
from train.methods.freezing import freeze
from train.model.parameters import parameter_count


def with_method(plan: Plan, layout: Layout, model: Any) -> Any:
    """The model of a plan with its adapter, and with what is not trained frozen; before the optimizer is made.

    A collective under ZeRO-3, where methods such as DoRA look at whole weights.

    Raises:
        AdapterError, PatternError, FrozenError: the configuration does not fit this model.
    """
    config = plan.config
    if config.method.peft:
        keeps_sharding = sharding_of(model, layout.deepspeed)
        model = add_adapter(model, config.method.peft, config.task.name, config.train.seed)
        del keeps_sharding
    freeze(model, config.method)
    return model


def sharding_of(model: nn.Module, deepspeed: dict[str, Any]) -> Any:
    """An object that tells PEFT, as long as it lives, that weights are sharded and have to be gathered; else None."""
    if not any(hasattr(parameter, "ds_id") for parameter in model.parameters()):
        return None
    from transformers.integrations import HfDeepSpeedConfig

    return HfDeepSpeedConfig(deepspeed)


@dataclass(frozen=True)
class Share:
    """How many weights are trained, of all."""

    trainable: int
    parameters: int

    def in_words(self) -> str:
        """Such as `trains 1,234 of 56,789 parameters (2.17 %)`."""
        if self.trainable == self.parameters:
            return f"trains all {self.parameters:,} parameters"
        share = 100 * self.trainable / self.parameters
        return f"trains {self.trainable:,} of {self.parameters:,} parameters ({share:.3g} %)"


def share_of(parameters: Iterable[nn.Parameter]) -> Share:
    """Trained and all weights, also where ZeRO-3 has taken them apart or bitsandbytes has packed them."""
    found = list(parameters)
    return Share(parameter_count(one for one in found if one.requires_grad), parameter_count(found))
