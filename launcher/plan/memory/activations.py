"""What forward and backward keep and need on a rank beside model states: layers, checkpoints, logits and the loss.

The backward pass frees what the layers keep from the last to the first, so the peak is where the loss is, or in a
layer that is computed again. `activations_of` finds it by walking over the layers.
"""

from __future__ import annotations

from dataclasses import dataclass

from launcher.plan.memory.layers import FP32, Stack

CHUNK = 2048
"""Positions whose logits are in fp32 at once (`train/model/loss.py`)."""


@dataclass(frozen=True)
class Work:
    """What a rank computes at a time.

    `rows` of `length` tokens (packed: one row, of all the tokens; `keys` are those a token's mask or scores cover),
    `target_length` tokens a row for a decoder behind an encoder. `positions` have logits over `vocabulary`.
    `adapter` are bytes that it keeps of a token in a layer, `made` those of the weights that it makes there.
    """

    rows: int
    length: int
    keys: int
    positions: int
    vocabulary: int
    element: int
    target_length: int = 0
    checkpointing: bool = False
    interval: int = 1
    frozen_layers: int = 0
    softcap: bool = False
    adapter: float = 0.0
    made: float = 0.0
    frozen_weights: bool = False

    def tokens(self, stack: Stack, paired: bool) -> tuple[int, int]:
        """Tokens that a stack sees, and keys of each."""
        if paired and stack.is_decoder:
            return self.rows * self.target_length, self.target_length
        return self.rows * self.length, self.keys


@dataclass(frozen=True)
class Activations:
    """Bytes at the two places where the peak may be.

    At the loss: `kept` by the layers and `logits` with what the loss makes of them. In a layer: `kept_below` it, and
    `layer` for what it keeps or computes again, with its gradients. `checkpoints` are part of both `kept`.
    """

    kept: float
    logits: float
    kept_below: float
    layer: float

    @property
    def peak(self) -> float:
        return max(self.kept + self.logits, self.kept_below + self.layer)


def activations_of(stacks: list[Stack], work: Work) -> Activations:
    """The activations of a micro batch."""
    paired = len(stacks) > 1
    source = work.rows * work.length if paired else 0
    kept, best = 0.0, (0.0, 0.0)
    for stack in stacks:
        tokens, keys = work.tokens(stack, paired)
        for place, cost in enumerate(stack.layers):
            if place < work.frozen_layers and not paired:
                continue
            each = cost.token + work.adapter - cost.for_weights * work.frozen_weights
            whole = tokens * each + tokens * keys * cost.pair + source * cost.source + work.made
            again = work.checkpointing and place % work.interval == 0
            below = kept
            kept += tokens * work.element * stack.width if again else whole
            here = whole + tokens * cost.beside + work.made  # with their gradients
            if below + here > sum(best):
                best = (below, here)
    last = stacks[-1]
    tokens, _ = work.tokens(last, paired)
    # the final norm, and the states whose logits are computed
    kept += tokens * last.width * (FP32 + work.element) + work.positions * last.width * work.element
    return Activations(kept, logits_of(work), *best)


def logits_of(work: Work) -> float:
    """Logits and the loss: the larger of forward (logits, an fp32 chunk and its exponentials) and backward (logits,
    their gradients, an fp32 chunk); a soft cap keeps the logits once more."""
    one = work.positions * work.vocabulary * work.element
    chunk = FP32 * min(work.positions, CHUNK) * work.vocabulary
    return max(one + 2 * chunk, 2 * one + chunk) + one * work.softcap
