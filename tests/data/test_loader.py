"""The loader's laws: what each rank gets, in which order, and where it stands."""

from __future__ import annotations

import re
from collections.abc import Iterable
from itertools import chain, islice, zip_longest
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from lightning.fabric.utilities.types import _Stateful
from torch.utils.data import DistributedSampler

from lit_optim.data.loader import TensorLoader, epoch_order
from lit_optim.errors import DataError

LENGTHS = st.integers(1, 60)
BATCH_SIZES = st.integers(1, 20)
WORLDS = st.integers(1, 5)
SEEDS = st.integers(0, 2**40)
EPOCHS = st.integers(0, 1000)


def loader(length: int, batch_size: int = 4, **options: Any) -> TensorLoader:
    """Sample i is the number i."""
    return TensorLoader((torch.arange(length),), batch_size, **options)


def batches(source: Iterable[tuple[torch.Tensor, ...]]) -> list[list[int]]:
    return [batch[0].tolist() for batch in source]


def on_each_rank(length: int, batch_size: int, world: int, epoch: int = 0, **options: Any) -> list[list[list[int]]]:
    ranks = [loader(length, batch_size, rank=rank, world_size=world, **options) for rank in range(world)]
    for one in ranks:
        one.set_epoch(epoch)
    return [batches(one) for one in ranks]


def flat(nested: Iterable[Iterable[int]]) -> list[int]:
    return list(chain.from_iterable(nested))


@given(LENGTHS, BATCH_SIZES, WORLDS, SEEDS, EPOCHS)
def test_training_ranks_share_an_epoch_equally_and_nothing_comes_twice(
    length: int, batch_size: int, world: int, seed: int, epoch: int
) -> None:
    ranks = on_each_rank(length, batch_size, world, epoch, shuffle=True, seed=seed)
    samples = [flat(rank) for rank in ranks]
    assert [len(rank) for rank in samples] == [length // world] * world
    assert set(flat(samples)) <= set(range(length))
    assert len(set(flat(samples))) == length - length % world
    assert set(flat(samples)) == set(epoch_order(length, seed, epoch)[: length - length % world].tolist())


@given(LENGTHS, BATCH_SIZES, WORLDS)
def test_evaluation_sees_every_sample_once(length: int, batch_size: int, world: int) -> None:
    ranks = on_each_rank(length, batch_size, world)
    samples = [flat(rank) for rank in ranks]
    assert sorted(flat(samples)) == list(range(length))
    assert max(map(len, samples)) - min(map(len, samples)) <= 1
    if batch_size > 1 and length >= world:
        assert len({len(rank) for rank in ranks}) == 1  # or a model that communicates in its forward pass would hang


@given(LENGTHS, BATCH_SIZES, WORLDS, st.booleans())
def test_batches_are_full_but_for_the_end(length: int, batch_size: int, world: int, shuffle: bool) -> None:
    for rank in range(world):
        one = loader(length, batch_size, shuffle=shuffle, rank=rank, world_size=world)
        sizes = [len(batch) for batch in batches(one)]
        assert len(sizes) == len(one)
        assert all(1 <= size <= batch_size for size in sizes)
        assert all(size == batch_size for size in sizes[: -1 if shuffle or world == 1 else -2])


@given(LENGTHS, BATCH_SIZES, WORLDS, SEEDS, EPOCHS)
def test_global_batches_are_those_of_one_process(
    length: int, batch_size: int, world: int, seed: int, epoch: int
) -> None:
    alone = loader(length, batch_size * world, shuffle=True, seed=seed)
    alone.set_epoch(epoch)
    left_out = set(epoch_order(length, seed, epoch)[length - length % world :].tolist())
    expected = [set(batch) - left_out for batch in batches(alone)]
    ranks = on_each_rank(length, batch_size, world, epoch, shuffle=True, seed=seed)
    together = [set(flat(parts)) for parts in zip(*ranks, strict=True)]
    assert together == [batch for batch in expected if batch]


@given(LENGTHS, st.sampled_from([1, 2, 3, 4, 6, 12]), SEEDS, EPOCHS)
def test_the_order_is_one_however_many_ranks_share_a_global_batch(
    length: int, world: int, seed: int, epoch: int
) -> None:
    ranks = on_each_rank(length, 12 // world, world, epoch, shuffle=True, seed=seed)
    together = [[sample for row in zip_longest(*parts) for sample in row] for parts in zip(*ranks, strict=True)]
    order = epoch_order(length, seed, epoch)[: length - length % world].tolist()
    assert together == [order[start : start + 12] for start in range(0, len(order), 12)]


@given(st.integers(1, 60), st.integers(1, 5), SEEDS, EPOCHS)
def test_ranks_are_those_of_torch_distributed_sampler(length: int, world: int, seed: int, epoch: int) -> None:
    if length < world:
        return  # where torch's repeats samples
    shuffled = epoch_order(length, seed, epoch)
    for rank in range(world):
        sampler = DistributedSampler(range(length), world, rank, shuffle=False, drop_last=True)  # type: ignore[arg-type]
        one = loader(length, shuffle=True, seed=seed, rank=rank, world_size=world)
        one.set_epoch(epoch)
        assert flat(batches(one)) == shuffled[list(sampler)].tolist()


@given(LENGTHS, BATCH_SIZES, SEEDS, EPOCHS, st.data())
def test_a_loaded_position_continues_there(
    length: int, batch_size: int, seed: int, epoch: int, data: st.DataObject
) -> None:
    one = loader(length, batch_size, shuffle=True, seed=seed)
    one.set_epoch(epoch)
    whole = batches(one)
    taken = data.draw(st.integers(0, len(one)))
    running = iter(one)
    list(islice(running, taken))
    state = one.state_dict()
    assert state == {"epoch": epoch, "batch": taken or len(one)}  # untouched iterators move nothing

    other = loader(length, batch_size, shuffle=True, seed=seed)
    other.load_state_dict({"epoch": epoch, "batch": taken})
    iter(other)  # as Lightning does, to see that it can
    other.set_epoch(epoch)
    assert batches(other) == whole[taken:]
    assert batches(other) == whole


def test_a_fresh_loader_stands_at_the_start() -> None:
    assert loader(10).state_dict() == {"epoch": 0, "batch": 0}


def test_another_epoch_begins_at_its_start() -> None:
    one = loader(10, shuffle=True)
    one.load_state_dict({"epoch": 3, "batch": 2})
    started = iter(one)  # before Lightning says which epoch it is
    one.set_epoch(4)
    assert one.state_dict() == {"epoch": 4, "batch": 0}
    assert flat(batches(started)) == epoch_order(10, 0, 4).tolist()


@pytest.mark.parametrize("batch", [-1, 4])
def test_a_position_past_the_epoch_is_refused(batch: int) -> None:
    with pytest.raises(DataError, match=f"the checkpoint stands at batch {batch} of an epoch that now has 3"):
        loader(10).load_state_dict({"epoch": 0, "batch": batch})


def test_orders_of_seeds_and_epochs_all_differ() -> None:
    orders = {tuple(epoch_order(50, seed, epoch).tolist()) for seed in range(20) for epoch in range(20)}
    assert len(orders) == 400


def test_the_order_is_pinned() -> None:
    """A release that changes it breaks every run that is resumed across it."""
    assert epoch_order(10, seed=0, epoch=0).tolist() == [6, 3, 1, 5, 8, 7, 0, 2, 9, 4]
    assert epoch_order(10, seed=3, epoch=7).tolist() == [6, 0, 3, 1, 7, 8, 4, 2, 9, 5]


def test_the_order_hangs_on_no_global_state() -> None:
    torch.manual_seed(1)
    before = epoch_order(20, 5, 2)
    state = torch.get_rng_state()
    torch.manual_seed(2)
    assert torch.equal(epoch_order(20, 5, 2), before)
    torch.manual_seed(1)
    assert torch.equal(torch.get_rng_state(), state)


def test_tensors_stay_together_and_keep_their_shape() -> None:
    x, y = torch.rand(10, 1, 2, 3), torch.arange(10)
    for images, labels in TensorLoader((x, y), 4, shuffle=True):
        assert images.shape[1:] == (1, 2, 3)
        assert torch.equal(images, x[labels])


def test_an_unshuffled_batch_is_a_slice_without_a_copy() -> None:
    x = torch.arange(10)
    first, second, *_ = (batch for (batch,) in TensorLoader((x,), 4))
    assert first.data_ptr() == x.data_ptr()
    assert second.data_ptr() == x[4:].data_ptr()
    assert second.is_contiguous()


def test_lightning_takes_it_for_a_stateful_loader_with_a_sampler() -> None:
    for shuffle in (True, False):
        one = loader(10, shuffle=shuffle)
        assert isinstance(one, _Stateful)
        one.sampler.set_epoch(6)
        assert one.epoch == 6


@pytest.mark.parametrize("given_size", [0, -3, 2.0, "128", None, True])
def test_a_batch_size_that_is_none_is_refused(given_size: Any) -> None:
    with pytest.raises(DataError) as refusal:
        loader(10, given_size)
    (mistake,) = refusal.value.mistakes
    assert str(mistake) == (
        "data.batch_size: batch_size must be an integer of at least 1\n"
        f"    given:   {given_size!r}\n"
        "    allowed: an integer of at least 1\n"
        "    fix:     write data.batch_size=1, say"
    )


def test_all_mistakes_are_told_at_once() -> None:
    with pytest.raises(DataError) as refusal:
        TensorLoader((torch.zeros(3), torch.zeros(4)), 0, seed=-1)
    assert [mistake.key for mistake in refusal.value.mistakes] == ["data.batch_size", "data.seed", "data"]
    assert "[3, 4]" in str(refusal.value)


@pytest.mark.parametrize(("rank", "world"), [(2, 2), (-1, 1), (0, 0)])
def test_a_rank_outside_its_world_is_refused(rank: int, world: int) -> None:
    with pytest.raises(ValueError, match=re.escape(f"rank {rank} is not one of world_size {world}")):
        loader(10, rank=rank, world_size=world)
