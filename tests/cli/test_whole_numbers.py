from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from lightning.pytorch import Trainer

from lit_optim.cli.whole_numbers import whole_number_mistakes

WHOLE = {
    "seed": "1.5",
    "trainer.max_epochs": "1.5",
    "trainer.max_steps": "2.5",
    "trainer.devices": "1.5",
    "trainer.accumulate_grad_batches": "2.0",
    "trainer.num_sanity_val_steps": "0.5",
    "trainer.num_nodes": "true",
    "+trainer.check_val_every_n_epoch": "two",
    "data.batch_size": "32.5",
    "data.eval_batch_size": "true",
    "callbacks.last.every_n_train_steps": "1.5",
    "schedule.lr.warmup": "2.5steps",
}


def keys(err: str) -> list[str]:
    return [line.partition(": ")[0] for line in err.splitlines()[1:] if not line.startswith(" ")]


def test_every_fraction_is_told_by_its_key_before_anything_is_made(lit_optim_: Any, tmp_path: Path) -> None:
    ended = lit_optim_("plan", "data=digits", *(f"{key}={value}" for key, value in WHOLE.items()))
    assert (ended.code, ended.out) == (1, "")
    assert sorted(keys(ended.err)) == sorted(key.lstrip("+") for key in WHOLE)
    said = (
        "callbacks.last.every_n_train_steps: a whole number is needed\n    given:   1.5\n    allowed: an integer\n"
        "    fix:     correct the value\n"
    )
    assert said in ended.err
    assert list(tmp_path.iterdir()) == []


def test_a_seed_of_the_data_s_own_is_told_beside_the_other(lit_optim_: Any) -> None:
    ended = lit_optim_("plan", "data=digits", "seed=1.5", "data.seed=2.5")
    assert keys(ended.err) == ["seed", "data.seed"]


def test_a_trainer_s_other_ways_to_say_it_pass() -> None:
    ways = {"max_epochs": 3, "devices": "auto", "max_steps": -1, "limit_val_batches": 0.5, "fast_dev_run": True}
    assert [*whole_number_mistakes(Trainer, {**ways, "min_epochs": None}, "trainer")] == []


def of_annotations(
    free: Any = None, whole: int = 0, some: int | None = None, number: int | float = 0, word: str = ""
) -> None: ...


@pytest.mark.parametrize("name", ["whole", "some"])
@pytest.mark.parametrize("value", [1.5, 2.0, float("nan"), True, "3"])
def test_what_is_annotated_as_a_whole_number_is_one(name: str, value: Any) -> None:
    [mistake] = whole_number_mistakes(of_annotations, {"free": 1.5, name: value}, "there")
    assert (mistake.key, mistake.problem, mistake.given) == (f"there.{name}", "a whole number is needed", repr(value))


def test_a_truth_value_is_no_number() -> None:
    [mistake] = whole_number_mistakes(of_annotations, {"number": True}, "there")
    assert str(mistake).splitlines()[0] == "there.number: a number is needed"


@pytest.mark.parametrize("sound", [{"whole": 3, "some": None, "number": 1.5, "word": "3"}, {"free": True}, {"no": 1.5}])
def test_what_fits_or_is_not_annotated_passes(sound: dict[str, Any]) -> None:
    assert [*whole_number_mistakes(of_annotations, sound, "there")] == []


def test_annotations_that_can_not_be_read_say_nothing() -> None:
    def of_an_unknown_name(whole: Nowhere) -> None:  # type: ignore[name-defined]  # noqa: F821
        ...

    for callee in (of_an_unknown_name, dict):
        assert [*whole_number_mistakes(callee, {"whole": 1.5}, "there")] == []
