from __future__ import annotations

import doctest
import hashlib

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lit_optim.data import split
from lit_optim.data.split import stratified_split


@given(st.lists(st.integers(0, 5), min_size=1, max_size=80), st.data())
def test_parts_partition_the_samples(labels: list[int], data: st.DataObject) -> None:
    cut = data.draw(st.integers(0, len(labels)))
    parts = stratified_split(np.array(labels), (cut, len(labels) - cut))
    assert [len(part) for part in parts] == [cut, len(labels) - cut]
    assert sorted(np.concatenate(parts).tolist()) == list(range(len(labels)))
    assert all((np.diff(part) > 0).all() for part in parts)


@given(st.integers(1, 20), st.integers(2, 6), st.integers(1, 9), st.randoms(use_true_random=False))
def test_equal_classes_are_shared_out_equally(per_part: int, classes: int, parts: int, random: object) -> None:
    labels = np.repeat(np.arange(classes), per_part * parts)
    random.shuffle(labels)  # type: ignore[attr-defined]
    for part in stratified_split(labels, [per_part * classes] * parts):
        assert np.bincount(labels[part], minlength=classes).tolist() == [per_part] * classes


def test_unequal_classes_keep_their_shares_within_one() -> None:
    counts = np.array([5923, 6742, 5958, 6131, 5842, 5421, 5918, 6265, 5851, 5949])  # MNIST's
    labels = np.random.default_rng(0).permutation(np.repeat(np.arange(10), counts))
    train, val = stratified_split(labels, (55_000, 5_000))
    assert (len(train), len(val)) == (55_000, 5_000)
    assert np.abs(np.bincount(labels[val]) - counts / 12).max() <= 1


def test_a_rare_class_is_not_put_first() -> None:
    labels = np.array([0] + [1] * 9)
    first, rest = stratified_split(labels, (4, 6))
    assert labels[first].tolist() == [1, 1, 1, 1]
    assert labels[rest].tolist().count(0) == 1


def test_samples_of_a_class_are_drawn_from_all_over_it() -> None:
    _, val = stratified_split(np.zeros(10_000, int), (9_000, 1_000))
    assert np.histogram(val, bins=10, range=(0, 10_000))[0].min() > 50


def test_it_depends_on_the_seed_and_on_nothing_else() -> None:
    labels = np.arange(200) % 7
    np.random.seed(1)
    before = stratified_split(labels, (100, 100))
    np.random.seed(2)
    assert all(map(np.array_equal, before, stratified_split(labels, (100, 100))))
    assert not np.array_equal(before[0], stratified_split(labels, (100, 100), seed=1)[0])


def test_the_split_is_pinned() -> None:
    """Results on one split can't be compared with those on another."""
    labels = np.arange(5_000) * 7 % 10
    indices = np.concatenate(stratified_split(labels, (4_000, 500, 500))).astype("<i8")
    assert hashlib.sha256(indices.tobytes()).hexdigest()[:16] == "79aacaa7764832f2"


@pytest.mark.parametrize("sizes", [(3, 3), (3, 1), (6, -1)])
def test_sizes_that_do_not_add_up_are_refused(sizes: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=r"parts of .* do not add up to 5 samples"):
        stratified_split(np.zeros(5, int), sizes)


def test_the_example_of_the_docstring_runs() -> None:
    assert doctest.testmod(split, globs={"np": np, "stratified_split": stratified_split}) == (0, 1)
