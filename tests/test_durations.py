import math
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lit_optim.durations import Horizon, epoch_of, steps_before, steps_of
from lit_optim.errors import PlanError

RUN = Horizon(total_steps=1000, steps_per_epoch=100)


@pytest.mark.parametrize(
    ("duration", "steps"),
    [
        (0, 0),
        (500, 500),
        (1000, 1000),
        ("500steps", 500),
        ("1step", 1),
        ("500 steps", 500),
        (" 2epochs ", 200),
        ("1epoch", 100),
        ("0.5epochs", 50),
        (".25epochs", 25),
        ("10epochs", 1000),
        ("5%", 50),
        ("100%", 1000),
        ("0%", 0),
        ("2.5 %", 25),
        ("0.04%", 0),
        ("0.05%", 1),
        ("0.15%", 2),
        ("0.14%", 1),
    ],
)
def test_a_duration_is_so_many_steps(duration: int | str, steps: int) -> None:
    counted = steps_of(duration, RUN, "warmup")
    assert counted == steps
    assert type(counted) is int


@given(st.integers(1, 10**6), st.integers(0, 100))
def test_whole_percents_round_to_the_nearest_step(total: int, percent: int) -> None:
    assert steps_of(f"{percent}%", Horizon(total), "k") == (2 * total * percent + 100) // 200


@pytest.mark.parametrize("unknown", [-1, math.inf])
def test_steps_and_epochs_need_no_end(unknown: float) -> None:
    horizon = Horizon(unknown, steps_per_epoch=7)
    assert not horizon.is_bounded
    assert steps_of("3epochs", horizon, "k") == 21
    assert steps_of(10**9, horizon, "k") == 10**9


LENGTHS = "    allowed: 500 (optimizer steps), 500steps, 2epochs, 5%"
TO_EPOCHS = "    fix:     write it in steps, or set trainer.limit_train_batches to a number of batches"
TO_RUN = "    fix:     set trainer.max_steps (or trainer.max_epochs, if data has a length), beside max_time too"
SHORTEN = "    fix:     shorten it, write it as a percentage, or lengthen the run (trainer.max_epochs)"


@pytest.mark.parametrize(
    ("duration", "horizon", "text"),
    [
        ("5%%", RUN, ["k: this is not a length of training", "    given:   '5%%'", LENGTHS, "    fix:     add a unit"]),
        *(
            (
                text,
                RUN,
                [
                    "k: this is not a length of training",
                    f"    given:   {text!r}",
                    LENGTHS,
                    "    fix:     write a whole number of steps",
                ],
            )
            for text in ("2.5steps", ".5 step")
        ),
        (1.5, RUN, ["k: this is not a length of training", "    given:   1.5", LENGTHS, "    fix:     add a unit"]),
        (None, RUN, ["k: this is not a length of training", "    given:   None", LENGTHS, "    fix:     add a unit"]),
        (
            0.05,
            RUN,
            [
                "k: this is not a length of training",
                "    given:   0.05",
                LENGTHS,
                "    fix:     write 5% for that share of the run",
            ],
        ),
        (
            "50",
            RUN,
            [
                "k: this is not a length of training",
                "    given:   '50'",
                LENGTHS,
                "    fix:     write 50 without quotes, or 50steps",
            ],
        ),
        (
            -1,
            RUN,
            ["k: this is not a length of training", "    given:   -1", LENGTHS, "    fix:     write 0 or more steps"],
        ),
        (
            True,
            RUN,
            ["k: this is not a length of training", "    given:   True", LENGTHS, "    fix:     write 0 or more steps"],
        ),
        (
            "-5%",
            RUN,
            ["k: this is not a length of training", "    given:   '-5%'", LENGTHS, "    fix:     add a unit"],
        ),
        (
            1001,
            RUN,
            [
                "k: 1001 is 1001 steps, past the end of a run of 1000",
                "    given:   1001",
                "    allowed: 0% to 100%, 0 to 1000 steps",
                SHORTEN,
            ],
        ),
        (
            "4000epochs",
            RUN,
            [
                "k: '4000epochs' is 400000 steps, past the end of a run of 1000",
                "    given:   '4000epochs'",
                "    allowed: 0% to 100%, 0 to 1000 steps",
                SHORTEN,
            ],
        ),
        (
            "2epochs",
            Horizon(1000),
            ["k: '2epochs' can't be measured: nobody knows how long an epoch is", "    given:   '2epochs'", TO_EPOCHS],
        ),
        (
            "5%",
            Horizon(-1, 10),
            ["k: '5%' can't be measured: nobody knows how long the run is", "    given:   '5%'", TO_RUN],
        ),
        (
            "5%",
            Horizon(math.inf),
            ["k: '5%' can't be measured: nobody knows how long the run is", "    given:   '5%'", TO_RUN],
        ),
    ],
)
def test_what_is_no_length_here_is_refused(duration: Any, horizon: Horizon, text: list[str]) -> None:
    with pytest.raises(PlanError) as refused:
        steps_of(duration, horizon, "k")
    assert str(refused.value).splitlines() == text


@pytest.mark.parametrize(
    ("numbers", "field"),
    [
        ((0,), "total_steps"),
        ((-2,), "total_steps"),
        ((1.5,), "total_steps"),
        ((1000.0,), "total_steps"),
        ((math.nan,), "total_steps"),
        (("5",), "total_steps"),
        ((None,), "total_steps"),
        ((True,), "total_steps"),
        ((10, 0), "steps_per_epoch"),
        ((10, -1), "steps_per_epoch"),
        ((10, math.inf), "steps_per_epoch"),
        ((10, 10, 0), "global_batch"),
    ],
)
def test_a_horizon_counts_whole_things(numbers: tuple[Any, ...], field: str) -> None:
    with pytest.raises(PlanError) as refused:
        Horizon(*numbers)
    assert str(refused.value).splitlines() == [
        f"horizon.{field}: a horizon counts whole things, at least one",
        f"    given:   {numbers[-1]!r}",
        f"    allowed: an integer of at least 1, {'-1 where nobody knows' if field == 'total_steps' else 'None'}",
        "    fix:     raise trainer.max_epochs, trainer.max_steps or trainer.limit_train_batches, or give more data",
    ]


def test_all_that_is_wrong_with_a_horizon_is_told_at_once() -> None:
    with pytest.raises(PlanError) as refused:
        Horizon(0, 0, 0)
    assert [mistake.key for mistake in refused.value.mistakes] == [
        "horizon.total_steps",
        "horizon.steps_per_epoch",
        "horizon.global_batch",
    ]


# --- epochs that differ -----------------------------------------------------------------------------------------------

CHANGING = Horizon(total_steps=56, steps_per_epoch=9, epoch_steps=((0, 9), (4, 5)))


@pytest.mark.parametrize(
    ("duration", "steps"),
    [
        ("0epochs", 0),
        ("0.5epochs", 5),
        ("1epoch", 9),
        ("4epochs", 36),
        ("4.2epochs", 37),
        ("4.5epochs", 39),
        ("6epochs", 46),
        ("8epochs", 56),
        ("50%", 28),
        ("10steps", 10),
    ],
)
def test_epochs_that_differ_end_where_they_end(duration: str, steps: int) -> None:
    assert steps_of(duration, CHANGING, "k") == steps


def test_past_the_end_of_epochs_that_differ_is_refused() -> None:
    with pytest.raises(PlanError, match="k: '9epochs' is 61 steps, past the end of a run of 56"):
        steps_of("9epochs", CHANGING, "k")


@given(st.lists(st.tuples(st.integers(1, 5), st.integers(1, 50)), min_size=1, max_size=5), st.integers(0, 30))
def test_epochs_add_up_one_by_one(stretches: list[tuple[int, int]], epoch: int) -> None:
    firsts = [sum(epochs for epochs, _ in stretches[:number]) for number in range(len(stretches))]
    pieces = [(first, steps) for first, (_, steps) in zip(firsts, stretches, strict=True)]
    by_epoch = [[steps for first, steps in pieces if first <= number][-1] for number in range(epoch)]
    assert steps_before(epoch, pieces) == sum(by_epoch)
    assert type(steps_before(epoch, pieces)) is int
    if all(one[1] != two[1] for one, two in pairwise(pieces)):
        horizon = Horizon(-1, pieces[0][1], None, tuple(pieces) if len(pieces) > 1 else ())
        assert [epoch_of(step, horizon) for step in range(sum(by_epoch))] == [
            number for number, steps in enumerate(by_epoch) for _ in range(steps)
        ]
    half = steps_before(epoch + 0.5, pieces)
    assert half == (steps_before(epoch, pieces) + steps_before(epoch + 1, pieces)) / 2


@pytest.mark.parametrize(
    "epochs",
    [
        ((0, 9),),  # all alike
        ((0, 9), (4, 9)),
        ((0, 8), (4, 5)),  # not steps_per_epoch
        ((1, 9), (4, 5)),
        ((0, 9), (4, 5), (4, 3)),
        ((0, 9), (4, 0)),
        ((0, 9), (4, 5.5)),
        ((0, 9), (4, True)),
        ((0, 9), (4,)),
        [[0, 9], [4, 5]],
        None,
        5,
    ],
)
def test_epochs_that_are_none_are_refused(epochs: Any) -> None:
    with pytest.raises(PlanError) as refused:
        Horizon(56, 9, None, epochs)
    assert str(refused.value).splitlines() == [
        "horizon.epoch_steps: these are no epochs that differ",
        f"    given:   {epochs!r}",
        "    allowed: () where all are alike, ((0, steps_per_epoch), (first epoch, steps an epoch from then on), …)",
        "    fix:     count epochs from 0 in rising order, each with another number of steps than the one before it",
    ]


def test_a_horizon_with_an_end_knows_it() -> None:
    assert Horizon(1).is_bounded


@given(st.integers(1, 9), st.integers(1, 9), st.integers(1, 6), st.integers(0, 12))
def test_a_part_of_a_run_that_begins_with_an_epoch_keeps_the_lengths_of_its_epochs(
    first: int, then: int, change: int, begin: int
) -> None:
    if first == then:
        return
    run = Horizon(1000, first, epoch_steps=((0, first), (change, then)))
    step = int(steps_before(begin, run.epoch_steps))
    part = run.stretch(step)
    assert part.total_steps == 1000 - step
    for epochs in range(5):
        mine = steps_before(epochs, part.epoch_steps) if part.epoch_steps else epochs * (part.steps_per_epoch or 0)
        assert mine == steps_before(begin + epochs, run.epoch_steps) - step


def test_a_part_that_begins_within_an_epoch_has_none() -> None:
    run = Horizon(100, 9, 64, epoch_steps=((0, 9), (4, 5)))
    assert run.stretch(10) == Horizon(90, None, 64)
    assert run.stretch(10, 30) == Horizon(20, None, 64)
    assert run.stretch(0) == run
    assert run.stretch(36) == Horizon(64, 5, 64)
    assert Horizon(100, 10).stretch(95, 95) == Horizon(1, 10)
    assert Horizon(-1, 10).stretch(5) == Horizon(-1, 10)
    assert run.without_end().total_steps == -1
