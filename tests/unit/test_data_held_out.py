"""Holding out, cleaning and mixing: what holds for any data, and rows that were made to break it."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from conf.schema import CleanConfig, Deduplicate
from train.data.block import DataError
from train.data.cleaning import clean, contradictions, leaks, near_duplicates, row_identity
from train.data.documents import INPUT_HASH, LABELS, ROW_HASH, Documents
from train.data.fingerprint import fingerprints, shingles, signatures, value_hash
from train.data.held_out import (
    HeldOut,
    StrataError,
    held_out_counts,
    hold_out_grouped,
    hold_out_random,
    hold_out_stratified,
)
from train.data.order import documents_of_step, largest_remainder, mix_of, mixed_order

SEEDS = st.integers(0, 2**32 - 1)
CLASSES = st.lists(st.integers(0, 6), min_size=8, max_size=300)


def parts(held: HeldOut) -> list[np.ndarray]:
    return [held.train, held.validation, held.test]


def check_disjoint(held: HeldOut, documents: int) -> None:
    together = np.concatenate(parts(held))
    assert np.array_equal(np.sort(together), np.arange(documents))
    assert all(np.all(np.diff(part) > 0) for part in parts(held))


@given(st.integers(20, 400), st.floats(0.01, 0.45), st.floats(0.01, 0.45), SEEDS)
def test_random_splits_have_their_sizes_and_follow_from_the_seed(
    documents: int, validation: float, test: float, seed: int
) -> None:
    counts = held_out_counts(validation, test, documents)
    held = hold_out_random(documents, counts, seed)
    check_disjoint(held, documents)
    assert (len(held.validation), len(held.test)) == counts
    assert all(abs(count - share * documents) < 1 for count, share in zip(counts, (validation, test), strict=True))
    again = hold_out_random(documents, counts, seed)
    assert all(np.array_equal(one, other) for one, other in zip(parts(held), parts(again), strict=True))


@given(CLASSES, st.floats(0.02, 0.4), st.floats(0.02, 0.4), SEEDS)
def test_stratified_splits_keep_the_share_of_each_class(
    classes: list[int], validation: float, test: float, seed: int
) -> None:
    values = np.array(classes, np.uint64)
    names, sizes = np.unique(values, return_counts=True)
    counts = held_out_counts(validation, test, len(values))
    if sizes.min() < 3 or sum(counts) > (sizes - 1).sum():
        with pytest.raises(StrataError):
            hold_out_stratified(values, counts, seed)
        return
    held = hold_out_stratified(values, counts, seed)
    check_disjoint(held, len(values))
    assert (len(held.validation), len(held.test)) == counts
    of_class = [[int((values[part] == name).sum()) for name in names] for part in parts(held)]
    assert min(of_class[0]) >= 1
    # The first split has its quota to within one; the second may give way to what is kept for training.
    assert all(abs(has - counts[0] * size / len(values)) < 1 for has, size in zip(of_class[1], sizes, strict=True)) or (
        any(has == size - 1 for has, size in zip(of_class[1], sizes, strict=True))
    )


@given(st.lists(st.integers(0, 30), min_size=20, max_size=200), SEEDS)
def test_groups_are_never_torn(groups: list[int], seed: int) -> None:
    values = np.array(groups, np.uint64)
    sizes = np.unique(values, return_counts=True)[1]
    assume(len(sizes) >= 3)
    counts = (max(sizes.max(), len(values) // 5), sizes.max())
    held = hold_out_grouped(values, counts, seed)
    check_disjoint(held, len(values))
    owners = [set(values[part].tolist()) for part in parts(held)]
    assert not (owners[0] & owners[1]) | (owners[0] & owners[2]) | (owners[1] & owners[2])
    for part, count in zip((held.validation, held.test), counts, strict=True):
        assert count - sizes.max() < len(part) <= count


def test_a_class_that_cannot_be_in_each_split_is_named_by_its_first_row() -> None:
    with pytest.raises(StrataError, match="fewer rows than the 3 splits") as raised:
        hold_out_stratified(np.array([1, 1, 1, 1, 7, 1, 7], np.uint64), (1, 1), 0)
    assert raised.value.first == [4]


def test_one_row_of_each_class_is_kept_for_training() -> None:
    held = hold_out_stratified(np.array([1, 1, 1, 2, 2, 2], np.uint64), (3, 1), 0)
    assert (held.train < 3).sum() == 1
    assert len(held.train) == 2


def test_a_group_larger_than_its_share_is_an_error_that_says_what_would_fit() -> None:
    with pytest.raises(DataError, match=r"no group fits into the 2 rows of validation; the smallest left has 4"):
        hold_out_grouped(np.repeat(np.arange(5, dtype=np.uint64), 4), (2, 0), 0)


@pytest.mark.parametrize(
    ("validation", "test", "counts"),
    [(0.0, 0.0, (0, 0)), (0.1, 0.0, (6, 0)), (7, 0.001, (7, 1)), (0.25, 0.25, (15, 15)), (0.0, 20, (0, 20))],
)
def test_sizes_are_shares_or_numbers(validation: float, test: float, counts: tuple[int, int]) -> None:
    assert held_out_counts(validation, test, 60) == counts


def test_nothing_left_to_train_on() -> None:
    with pytest.raises(DataError, match=r"data\.validation_size=0\.5 and data\.test_size=0\.5 leaves none of 60"):
        held_out_counts(0.5, 0.5, 60)


WEIGHTS = st.lists(st.floats(0.05, 20), min_size=1, max_size=5)


@given(st.integers(0, 5000), WEIGHTS)
def test_largest_remainders_add_up_and_stay_within_one_of_their_quota(total: int, weights: list[float]) -> None:
    counts = largest_remainder(total, weights)
    assert sum(counts) == total
    assert all(
        abs(count - total * weight / sum(weights)) < 1 + 1e-9 for count, weight in zip(counts, weights, strict=True)
    )


@given(st.data(), st.lists(st.integers(1, 40), min_size=1, max_size=4), SEEDS)
def test_an_epoch_has_the_share_of_each_source_and_streams_go_on(
    data: st.DataObject, sizes: list[int], seed: int
) -> None:
    weights = data.draw(st.lists(st.floats(0.1, 10), min_size=len(sizes), max_size=len(sizes)))
    mix = mix_of(sizes, weights)
    bounds = np.cumsum([0, *sizes])
    seen: list[list[int]] = [[] for _ in sizes]
    for epoch in range(4):
        order = mixed_order(mix, seed, epoch)
        assert len(order) == sum(sizes)
        counts = np.histogram(order, bounds)[0]
        assert counts.tolist() == list(mix.shares)
    # No document of a source comes again before all others of it have come.
    stream = np.concatenate([mixed_order(mix, seed, epoch) for epoch in range(4)])
    for source, size in enumerate(sizes):
        own = stream[(stream >= bounds[source]) & (stream < bounds[source + 1])]
        times = np.bincount(own - bounds[source], minlength=size)
        assert times.max() - times.min() <= 2  # one pass may be spread over two epochs, which are shuffled
        seen[source] = times.tolist()
        assert sum(seen[source]) == 4 * mix.shares[source]


def test_without_weights_each_document_comes_once_an_epoch_in_the_order_of_one_source() -> None:
    mix = mix_of([3, 4], [])
    assert sorted(mixed_order(mix, 5, 1)) == list(range(7))
    assert np.array_equal(mixed_order(mix, 5, 1), mixed_order(mix_of([7], []), 5, 1))


def test_steps_go_through_the_epochs_of_a_mix() -> None:
    mix = mix_of([5, 20], [3, 1])
    stream = np.concatenate([documents_of_step(mix, 4, 9, step) for step in range(1, 14)])
    assert np.array_equal(stream[:50], np.concatenate([mixed_order(mix, 9, 0), mixed_order(mix, 9, 1)]))


def documents_of(
    rows: list[tuple[str, str]], labels: list[int] | None = None, lengths: list[int] | None = None
) -> Documents:
    count = len(rows)
    columns = fingerprints([[(given, False), (answer, True)] for given, answer in rows], near=True)
    if labels is not None:
        columns[LABELS] = np.array(labels, np.float32)[:, None]
    sizes = np.array(lengths or [10] * count, np.int32)
    return Documents([], [count], np.zeros(count, np.int64), sizes, sizes, columns)


ROWS = [("a b", " c"), ("a  b ", "c"), ("a b", " d"), ("A b", " c"), ("x", "y"), ("a b", " c")]


def test_exact_duplicates_keep_the_first_and_count_white_space_as_one() -> None:
    documents = documents_of(ROWS)
    kept, taken = clean(documents, np.arange(6), CleanConfig(deduplicate=Deduplicate.exact), [])
    assert kept.tolist() == [0, 2, 3, 4]
    assert taken == {"duplicates": 2}
    assert contradictions(documents) == 4


def test_the_same_text_with_another_label_is_no_duplicate() -> None:
    documents = documents_of([("a", ""), ("a", ""), ("a", "")], [0, 1, 0])
    assert clean(documents, np.arange(3), CleanConfig(deduplicate=Deduplicate.exact), [])[0].tolist() == [0, 1]
    assert contradictions(documents) == 3
    assert len(set(row_identity(documents).tolist())) == 2


def test_leaks_are_found_by_what_the_model_is_given() -> None:
    documents = documents_of(ROWS)
    others = [documents_of([("x", "another answer")]).columns[INPUT_HASH]]
    kept, taken = clean(documents, np.arange(6), CleanConfig(drop_leaks=True), others)
    assert kept.tolist() == [0, 1, 2, 3, 5]
    assert taken == {"leaks": 1}
    assert leaks(documents.columns[INPUT_HASH], []).sum() == 0


def test_rules_come_one_after_the_other_and_leave_the_order() -> None:
    documents = documents_of(ROWS, lengths=[10, 2, 10, 10, 10, 10])
    config = CleanConfig(min_length=5, deduplicate=Deduplicate.exact)
    kept, taken = clean(documents, np.array([1, 2, 3, 5]), config, [])
    assert (kept.tolist(), taken) == ([2, 3, 5], {"min_length": 1, "duplicates": 0})


SENTENCE = "the quick brown fox jumps over the lazy dog near the river bank while seven old farmers watch from a hill"


def test_near_duplicates_are_those_that_share_most_runs_of_five_words() -> None:
    texts = [SENTENCE, SENTENCE.replace("hill", "wall"), " ".join(reversed(SENTENCE.split())), SENTENCE.upper()]
    made = signatures(texts)
    assert np.array_equal(made, signatures(texts))
    found = near_duplicates(made, np.zeros(4, np.int64), 0.7)
    assert found.tolist() == [False, True, False, True]
    assert near_duplicates(made, np.array([0, 1, 0, 0]), 0.7).tolist() == [False, False, False, True]
    shared = set(shingles(SENTENCE)) & set(shingles(texts[1]))
    similarity = len(shared) / len(set(shingles(SENTENCE)) | set(shingles(texts[1])))
    assert abs(float((made[0] == made[1]).mean()) - similarity) < 0.2


def test_hashes_know_what_is_given_from_the_answer() -> None:
    columns = fingerprints([[("q", False), ("a", True)], [("q", False), ("b", True)], [("q", True)]], near=False)
    assert set(columns) == {ROW_HASH, INPUT_HASH}
    rows, inputs = (columns[name].tolist() for name in (ROW_HASH, INPUT_HASH))
    assert len(set(rows)) == 3
    assert inputs == [inputs[0]] * 3
    assert value_hash({"a": 1, "b": 2}) == value_hash({"b": 2, "a": 1}) != value_hash({"a": "1", "b": 2})
