"""How many tokens a step has, and how many of them each rank computes, padding and waiting included. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from conf.record import Batch
from conf.schema import RunConfig, TaskName
from launcher.facts.facts import Facts
from launcher.plan.batch import expected_share
from launcher.plan.rows import CHARACTERS_PER_TOKEN, CHARACTERS_PER_TRAINED_TOKEN, training_lengths

MANY_RANKS = 64
MANY_DOCUMENTS = 32
"""Documents a rank and step from which on packing deals them out evenly."""

TARGET_SHARE = 0.2
"""Of a pair's text, what the decoder writes, roughly."""

SAMPLE = 256


@dataclass(frozen=True)
class Step:
    """Tokens of a step: `useful` of all ranks together, the rest of the slowest rank: `computed` in all, `micro` at a
    time in `micro_batches`; `source` are read by an encoder. A token's document has `context` tokens."""

    useful: float
    computed: float
    source: float
    micro: float
    micro_batches: int
    context: float


class Documents:
    """Lengths of the training documents in tokens, as far as they were seen; without any, all are full."""

    def __init__(self, config: RunConfig, facts: Facts):
        trained = config.model.tokenizer_name_or_path == "train"
        each = CHARACTERS_PER_TRAINED_TOKEN if trained else CHARACTERS_PER_TOKEN
        self.longest = config.data.max_length
        lengths = training_lengths(facts)
        self.known = bool(lengths)
        self._lengths = [min(self.longest, max(1.0, length / each)) for length in lengths] or [float(self.longest)]
        self._mean = sum(self._lengths) / len(self._lengths)
        self._context = sum(length**2 for length in self._lengths) / sum(self._lengths)
        self._global = config.train.global_batch_size
        self._paired = config.task.name is TaskName.seq2seq_lm
        self._target = config.data.max_target_length
        self._padded: dict[int, float] = {}
        self._shares: dict[int, float] = {}

    def step(self, batch: Batch, packed: bool) -> Step:
        """The tokens of a step with this batch."""
        useful = batch.global_batch_size * self._mean
        if packed:
            computed = useful / batch.world_size / self._share(batch.world_size)
            context = self._context
        else:
            row = self._row(batch.micro_batch_size)
            computed = batch.accumulation * batch.micro_batch_size * row
            context = row
        source = 0.0
        if self._paired:
            source, computed = computed, min(computed * TARGET_SHARE, computed / max(1.0, context) * self._target)
        whole = source + computed
        return Step(useful, computed, source, whole / batch.accumulation, batch.accumulation, context)

    def _share(self, ranks: int) -> float:
        """Useful share of rank time; of many ranks as of some with as many documents each."""
        if self._global >= MANY_DOCUMENTS * ranks:
            return 1.0
        if ranks not in self._shares:
            some = min(ranks, MANY_RANKS)
            lengths = [round(length) for length in self._lengths]
            self._shares[ranks] = expected_share(lengths, max(1, self._global * some // ranks), some) or 1.0
        return self._shares[ranks]

    def _row(self, micro: int) -> float:
        """Mean length of a padded row: the longest of `micro` documents."""
        if micro not in self._padded:
            self._padded[micro] = _mean_of_longest(self._lengths[:SAMPLE], micro)
        return self._padded[micro]


def _mean_of_longest(lengths: Sequence[float], count: int) -> float:
    """Mean over groups of `count` of the longest of each."""
    groups = [lengths[start : start + count] for start in range(0, len(lengths), count)]
    whole = [group for group in groups if len(group) == count] or groups
    return sum(max(group) for group in whole) / len(whole)
