"""Order and layout of documents: properties that hold for any lengths, ranks and batch."""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from conf.record import Batch
from conf.schema import Packing, RunConfig
from train.data import batches
from train.data.batches import IGNORED, Loader, Step
from train.data.documents import Documents, Writer
from train.data.order import documents_of_step, epoch_order, mix_of, steps_per_epoch, total_steps
from train.data.packing import lay_out, lay_out_padded, pack_densely, useful_share
from train.tasks.causal_lm import CausalLanguageModelling

COUNTS = st.integers(1, 60)
LENGTHS = st.lists(st.integers(1, 40), max_size=60)
RANKS = st.integers(1, 8)


def write_documents(folder: Path, count: int, vocabulary: int = 500) -> Documents:
    """Random documents of 2 to 30 tokens; document n begins with the token n."""
    random = np.random.default_rng(3)
    with Writer(folder, vocabulary) as writer:
        for start in range(0, count, 7):
            lengths = random.integers(2, 31, min(7, count - start)).astype(np.int32)
            ids = random.integers(0, vocabulary, lengths.sum())
            mask = random.random(lengths.sum()) < 0.5
            begins = np.cumsum(lengths) - lengths
            ids[begins] = np.arange(start, start + len(lengths))
            mask[begins] = False
            writer.write(ids, mask, lengths)
    return Documents.open(folder)


@pytest.fixture(scope="module")
def documents(tmp_path_factory: pytest.TempPathFactory) -> Documents:
    return write_documents(tmp_path_factory.mktemp("documents"), 110)


@given(COUNTS, st.integers(1, 30), st.integers(0, 1 << 70), st.integers(1, 20))
def test_steps_walk_through_shuffled_epochs(count: int, batch: int, seed: int, steps: int) -> None:
    stream = np.concatenate([documents_of_step(mix_of([count], []), batch, seed, step) for step in range(1, steps + 1)])
    epochs = np.concatenate([epoch_order(count, seed, epoch) for epoch in range(steps * batch // count + 1)])
    assert stream.tolist() == epochs[: len(stream)].tolist()
    assert sorted(epochs[:count]) == list(range(count))
    assert (steps_per_epoch(count, batch) - 1) * batch < count <= steps_per_epoch(count, batch) * batch


def test_order_is_the_same_on_every_machine() -> None:
    assert epoch_order(10, 42, 0).tolist() == [7, 1, 6, 4, 3, 5, 9, 0, 2, 8]
    assert epoch_order(10, 42, 1).tolist() != epoch_order(10, 42, 0).tolist() != epoch_order(10, 43, 0).tolist()


@pytest.mark.parametrize(
    ("epochs", "max_steps", "expected"),
    [(1.0, None, 7), (3.0, None, 19), (0.5, None, 4), (0.001, None, 1), (0.64, None, 4), (5.0, 3, 3)],
)
def test_total_steps(epochs: float, max_steps: int | None, expected: int) -> None:
    assert total_steps(100, 16, epochs, max_steps) == expected


@given(LENGTHS, RANKS, st.integers(40, 90))
def test_exact_packing_holds_each_document_once_within_capacity(lengths: list[int], ranks: int, capacity: int) -> None:
    layout = lay_out(lengths, ranks, capacity)
    assert sorted(index for rank in layout for row in rank for index in row) == list(range(len(lengths)))
    assert len(layout) == ranks
    assert len({len(rank) for rank in layout}) == 1
    assert all(sum(lengths[index] for index in row) <= capacity for rank in layout for row in rank)
    assert 0 < useful_share(layout, lengths) <= 1 or not lengths


def test_exact_packing_refuses_what_fits_no_row() -> None:
    with pytest.raises(ValueError, match="a document of 9 tokens does not fit into a row of 8"):
        lay_out([3, 9], 2, 8)


def test_useful_share_of_exact_packing_at_32_documents_a_rank() -> None:
    lengths = np.random.default_rng(0).lognormal(4.5, 0.8, 256).clip(8, 1024).astype(int)
    assert useful_share(lay_out(lengths, 8, 8192), lengths) >= 0.98
    assert useful_share(lay_out(lengths[:16], 8, 8192), lengths[:16]) < 0.9


@given(LENGTHS, RANKS, st.integers(1, 5))
def test_padded_layout_holds_each_document_once(lengths: list[int], ranks: int, micro: int) -> None:
    layout = lay_out_padded(lengths, ranks, micro)
    assert sorted(index for rank in layout for row in rank for index in row) == list(range(len(lengths)))
    assert {len(rank) for rank in layout} == {max(1, -(-len(lengths) // (ranks * micro)))}
    assert all(len(row) <= micro for rank in layout for row in rank)


@given(st.lists(st.integers(1, 40), min_size=1, max_size=200), st.integers(40, 90))
def test_dense_packing_fills_rows_with_each_document_once(lengths: list[int], capacity: int) -> None:
    order = np.random.default_rng(0).permutation(len(lengths))
    rows = pack_densely(order, np.array(lengths), capacity)
    totals = [sum(lengths[index] for index in row) for row in rows]
    assert sorted(index for row in rows for index in row) == list(range(len(lengths)))
    assert max(totals) <= capacity
    assert sum(total <= capacity // 2 for total in totals) <= 1


@pytest.mark.parametrize("vocabulary", [500, 1 << 16, (1 << 16) + 1])
def test_documents_read_as_they_were_written(tmp_path: Path, vocabulary: int) -> None:
    documents = write_documents(tmp_path, 50, vocabulary)
    assert len(documents) == 50
    assert [int(document.ids[0]) for document in documents] == list(range(50))
    assert [len(document.ids) for document in documents] == documents.lengths.tolist()
    assert [int(document.target_mask.sum()) for document in documents] == documents.targets.tolist()
    assert int(max(document.ids.max() for document in documents)) < vocabulary
    some = documents.subset(np.array([9, 4]))
    assert [int(document.ids[0]) for document in some] == [9, 4]
    assert some.lengths.tolist() == documents.lengths[[9, 4]].tolist()


@pytest.mark.parametrize(("name", "change"), [("tokens.bin", b"x"), ("targets.bin", b"x"), ("tokens.bin", None)])
def test_documents_of_another_size_are_not_opened(tmp_path: Path, name: str, change: bytes | None) -> None:
    write_documents(tmp_path, 20)
    content = (tmp_path / name).read_bytes()
    (tmp_path / name).write_bytes(content + change if change else content[:-1])
    with pytest.raises(ValueError, match=f"{name} has"):
        Documents.open(tmp_path)


def loaders(documents: Documents, kind: Packing, world: int, batch: int = 16, micro: int = 2) -> list[Loader]:
    config = RunConfig()
    config.data.max_length, config.data.packing = 32, kind
    plan = Batch(world, batch, micro, 1)
    packed = kind is not Packing.none
    collate = CausalLanguageModelling(0, packed, True).collate
    return [Loader(documents, config, plan, rank, world, torch.device("cpu"), collate, packed) for rank in range(world)]


def first_tokens(step: Step) -> list[int]:
    """The documents of a rank's step, by their first tokens."""
    found: list[int] = []
    for batch in step.micro_batches:
        ids = batch["input_ids"]
        begins = ids[0, batch["cu_seq_lens_q"][:-1].long()] if "cu_seq_lens_q" in batch else ids[:, 0]
        sizes = batch["cu_seq_lens_q"].diff() if "cu_seq_lens_q" in batch else batch["attention_mask"].sum(1)
        found += begins[sizes > 1].tolist()
    return found


@pytest.mark.parametrize("kind", list(Packing))
@pytest.mark.parametrize("world", [1, 2, 4, 5])
def test_a_step_has_the_same_documents_whatever_the_ranks(documents: Documents, kind: Packing, world: int) -> None:
    alone = list(loaders(documents, kind, 1)[0].steps(1, 12))
    together = [list(loader.steps(1, 12)) for loader in loaders(documents, kind, world)]
    for number, one in enumerate(alone):
        ranks = [steps[number] for steps in together]
        assert sorted(token for step in ranks for token in first_tokens(step)) == sorted(first_tokens(one))
        assert len({len(step.micro_batches) for step in ranks}) == 1
        targets = sum(int((batch["labels"] != IGNORED).sum()) for step in ranks for batch in step.micro_batches)
        assert targets == one.target_tokens == ranks[0].target_tokens
        assert one.tokens == ranks[0].tokens


@pytest.mark.parametrize("kind", list(Packing))
def test_steps_go_on_where_they_were_left(documents: Documents, kind: Packing) -> None:
    loader = loaders(documents, kind, 1)[0]
    again = loaders(documents, kind, 1)[0]
    whole, rest = list(loader.steps(1, 20)), list(again.steps(14, 20))
    assert [step.number for step in whole] == list(range(1, 21))
    assert [first_tokens(step) for step in whole[13:]] == [first_tokens(step) for step in rest]


@pytest.mark.parametrize("kind", list(Packing))
@pytest.mark.parametrize("world", [1, 3])
def test_evaluation_sees_each_document_once(
    documents: Documents, kind: Packing, world: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(batches, "EVALUATION_WINDOW", 25)
    ranks = [list(loader.evaluation(3)) for loader in loaders(documents, kind, world)]
    steps = [Step(1, 0, micro_batches, 0, 0, 0, 0) for micro_batches in ranks]
    assert sorted(token for step in steps for token in first_tokens(step)) == list(range(len(documents)))
    assert len({len(micro_batches) for micro_batches in ranks}) == 1


@pytest.mark.parametrize("kind", list(Packing))
@pytest.mark.parametrize(("world", "batch", "micro"), [(1, 16, 2), (4, 16, 1), (4, 4, 2), (2, 90, 3)])
def test_the_rehearsal_is_as_large_as_any_batch(
    documents: Documents, kind: Packing, world: int, batch: int, micro: int
) -> None:
    found = loaders(documents, kind, world, batch, micro)
    met = [batch for loader in found for step in loader.steps(1, 15) for batch in step.micro_batches]
    longest = found[-1].longest()
    assert longest["input_ids"].numel() >= max(batch["input_ids"].numel() for batch in met)
    assert longest.keys() == met[0].keys()


def test_the_rehearsal_is_large_enough_for_ranks_of_unequal_rows(documents: Documents) -> None:
    long = documents.subset(np.flatnonzero(documents.lengths >= 27))
    assert len(long) > 8
    found = loaders(long, Packing.exact, world=3, batch=4, micro=4)
    met = [micro for loader in found for step in loader.steps(1, 5) for micro in step.micro_batches]
    assert max(len(micro["cu_seq_lens_q"]) for micro in met) == 3
    assert found[0].longest()["input_ids"].numel() >= max(micro["input_ids"].numel() for micro in met)


def test_labels_are_shifted_within_documents(documents: Documents) -> None:
    batch = loaders(documents, Packing.exact, 1)[0].step(1).micro_batches[0]
    ids, labels, bounds = batch["input_ids"][0], batch["labels"][0], batch["cu_seq_lens_q"].tolist()
    assert len(bounds) > 2
    for start, end in itertools.pairwise(bounds):
        document = documents[int(ids[start])]
        expected = [int(t) if m else IGNORED for t, m in zip(document.ids, document.target_mask, strict=True)][1:]
        assert labels[start:end].tolist() == [*expected, IGNORED]
        assert batch["position_ids"][0, start:end].tolist() == list(range(end - start))


@settings(deadline=None, max_examples=20)
@given(st.integers(1, 40), st.integers(1, 4))
def test_leaving_the_steps_early_ends_the_thread(documents: Documents, batch: int, taken: int) -> None:
    import threading

    before = threading.active_count()
    steps = loaders(documents, Packing.exact, 1, batch)[0].steps(1, 50)
    assert [next(steps).number for _ in range(taken)] == list(range(1, taken + 1))
    steps.close()  # type: ignore[attr-defined]  # a generator
    assert threading.active_count() == before
