from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch

from lit_optim.data.module import InMemoryDataModule, Splits
from lit_optim.errors import DataError


class Numbers(InMemoryDataModule):
    """10 training, 7 validation and 5 test samples, each a number of its own."""

    in_dim = 1
    out_dim = 10
    loads = 0

    def load(self) -> Splits:
        self.loads += 1
        parts = torch.arange(22).split((10, 7, 5))
        return Splits(*((part.float(), part) for part in parts))


def samples(loader: Any) -> list[int]:
    return [number for batch in loader for number in batch[1].tolist()]


def test_each_loader_has_its_split_and_only_training_is_shuffled() -> None:
    data = Numbers(batch_size=4, eval_batch_size=5)
    data.setup("fit")
    train = samples(data.train_dataloader())
    assert sorted(train) == list(range(10))
    assert train != list(range(10))
    assert samples(data.val_dataloader()) == list(range(10, 17))
    assert samples(data.test_dataloader()) == list(range(17, 22))
    assert (len(data.train_dataloader()), len(data.val_dataloader()), len(data.test_dataloader())) == (3, 2, 1)


def test_the_seed_decides_the_training_order() -> None:
    orders = [samples(Numbers(seed=seed).train_dataloader()) for seed in (1, 2, 1)]
    assert orders[0] != orders[1]
    assert orders[0] == orders[2]


def test_it_loads_once_for_all_stages() -> None:
    data = Numbers()
    data.setup("fit")
    data.setup("test")
    data.val_dataloader()
    assert data.loads == 1


def test_the_dimensions_are_known_without_loading() -> None:
    assert (Numbers.in_dim, Numbers.out_dim, Numbers().loads) == (1, 10, 0)


def test_each_process_takes_its_share(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: dict[str, list[list[int]]] = {"train": [], "val": [], "test": []}
    for rank in range(3):
        data = Numbers(batch_size=2)
        data.trainer = SimpleNamespace(global_rank=rank, world_size=3, strategy=None, overfit_batches=0)  # type: ignore[assignment]
        seen["train"].append(samples(data.train_dataloader()))
        seen["val"].append(samples(data.val_dataloader()))
        seen["test"].append(samples(data.test_dataloader()))
    assert [len(rank) for rank in seen["train"]] == [3, 3, 3]
    assert len({number for rank in seen["train"] for number in rank}) == 9
    assert seen["val"] == [[10, 13, 16], [11, 14], [12, 15]]
    assert seen["test"] == [[17, 20], [18, 21], [19]]


@pytest.mark.parametrize("name", ["batch_size", "eval_batch_size"])
@pytest.mark.parametrize("given_size", [0, -1, 1.5, "64", None, False])
def test_a_batch_size_that_is_none_is_refused_at_once(name: str, given_size: Any) -> None:
    with pytest.raises(DataError, match=f"^data.{name}: {name} must be an integer of at least 1"):
        Numbers(**{name: given_size})


def test_all_mistakes_are_told_at_once() -> None:
    with pytest.raises(DataError) as refusal:
        Numbers(batch_size=0, eval_batch_size=0, seed=-1)
    assert [mistake.key for mistake in refusal.value.mistakes] == [
        "data.batch_size",
        "data.eval_batch_size",
        "data.seed",
    ]


def test_a_data_set_must_say_how_it_loads() -> None:
    with pytest.raises(TypeError, match="abstract"):
        InMemoryDataModule()  # type: ignore[abstract]
