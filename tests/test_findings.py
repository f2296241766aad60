"""Series in, findings out."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable
from typing import Any

import pytest

from lit_optim.findings import Dead, Finding, Log, Watch, causes_in


def found(logs: Iterable[Log], watch: Watch | None = None) -> list[Finding]:
    watch = watch or Watch()
    return [finding for log in logs for finding in watch.look(log)]


def ratios(*values: float, lr: float = 0.1, **more: Any) -> list[Log]:
    return [Log(step, {"update_ratio": {"head": value}}, lrs={"head": lr}, **more) for step, value in enumerate(values)]


def test_one_or_two_logs_are_no_finding_and_the_third_in_a_row_is() -> None:
    assert found(ratios(0.2, 0.3, 0.01, 0.2, 0.3, 0.01)) == []
    [finding] = found(ratios(0.2, 0.3, 0.01, 0.2, 0.3, 0.4, 0.5, 0.01, 0.2, 0.2, 0.2))
    assert str(finding) == (
        "step 5: update_ratio/head too large: a step moves these weights by 0.4 of their norm, 3 logs in a row; "
        "lower its lr, 0.1, or warm up for longer"
    )


@pytest.mark.parametrize("ratio", [0.1, 1e-6, 0.01, math.nan, math.inf])
def test_what_is_in_range_or_unknown_is_no_finding(ratio: float) -> None:
    assert found(ratios(*[ratio] * 9)) == []


@pytest.mark.parametrize("lr", [0.0, 0.009])
def test_a_small_update_at_a_small_part_of_the_learning_rate_is_no_finding(lr: float) -> None:
    assert found(ratios(*[1e-9] * 9, lr=lr, built_with={"head": 0.1})) == []
    assert found([*ratios(0.01), *ratios(*[1e-9] * 9, lr=lr)]) == [], "the highest so far counts as well"


def test_logs_of_a_warm_up_neither_count_nor_break_the_row() -> None:
    low, high = ratios(1e-9, 1e-9, lr=0.1), ratios(1e-9, lr=0.0)
    assert len(found([*low, *high, *low])) == 1


def test_a_small_update_says_whether_there_is_any_gradient() -> None:
    logs = [Log(step, {"update_ratio": {"head": 0.0}, "grad_norm": {"head": 0.0}}) for step in range(3)]
    [finding] = found(logs)
    assert finding.cause == "update_ratio/head too small"
    assert finding.text == "all gradients are 0, 3 logs in a row"
    assert "raise its learning rate" in str(found([Log(step, {"update_ratio": {"head": 0.0}}) for step in range(3)])[0])


def gradients(step: int, *names: tuple[str, str], scaled: bool = False) -> Log:
    shares = {"stem": 0.0, "head": 0.0} | {group: 0.005 for group, _ in names}
    return Log(step, {"nonfinite_grads": shares}, nonfinite=names, scaled=scaled)


def test_gradients_that_are_not_finite_are_told_at_once_with_the_first_parameter_and_all_groups() -> None:
    names = (("stem", "layer.0.bias"), ("head", "layer.4.weight"))
    [finding] = found([gradients(0), gradients(7, *names), gradients(8, *names), gradients(9, names[1])])
    assert str(finding).startswith(
        "step 7: nonfinite_grads/stem: 5.0e-03 of the gradients are infinite or NaN, first those of layer.0.bias "
        "(also in head); lower the learning rate, clip (trainer.gradient_clip_val=1.0)"
    )


def test_a_scaler_may_overflow_now_and_then() -> None:
    bad, good = gradients(0, ("head", "w"), scaled=True), gradients(0, scaled=True)
    assert found([bad, bad, good, bad, bad, good]) == []
    assert [one.cause for one in found([bad, bad, bad, bad])] == ["nonfinite_grads/head"]


def losses(*values: float, first: tuple[float, ...] = (2.0, 2.5, 2.2)) -> list[Log]:
    return [Log(step, loss=value, first_losses=first) for step, value in enumerate(values)]


def test_a_loss_above_its_first_range_for_three_logs_has_diverged() -> None:
    assert found(losses(2.3, 4.9, 4.9, 4.9, 1.0, 6.0, 6.0, 1.0)) == [], "up to the highest one twice"
    [finding] = found(losses(2.3, 5.1, 6.0, 7.0, 8.0, 9.0))
    assert str(finding).startswith("step 3: train/loss diverged: the loss is 7, and began between 2 and 2.5; lower")
    assert found(losses(-3.0, 0.0, 0.1, first=(-4.0, -3.0, -5.0))) == []
    assert len(found(losses(0.1, 0.1, 0.1, first=(-4.0, -3.0, -5.0)))) == 1


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_a_loss_that_is_not_finite_is_told_at_once(bad: float) -> None:
    assert [one.step for one in found(losses(2.3, bad, bad))] == [1]
    assert [one.step for one in found(losses(2.3, first=(2.0, bad, 2.0)))] == [0]


def test_dead_units_are_told_from_half_of_a_hidden_layer_and_from_one_at_the_output() -> None:
    def logs(dead: int, is_output: bool) -> list[Log]:
        return [Log(step, dead={"net.relu": Dead(10, dead, is_output)}) for step in range(3)]

    assert found(logs(5, False)) == []
    assert found(logs(0, True)) == []
    [hidden], [output] = found(logs(6, False)), found(logs(1, True))
    assert str(hidden).startswith("step 2: dead_relu/net.relu: 6 of 10 units were 0 for every sample, 3 logs in a row;")
    assert output.remedy == "leave out the ReLU after the last layer (model.output_activation=null)"


def test_a_watch_goes_on_from_its_state_in_plain_containers() -> None:
    logs = [*losses(2.3, 6.0), *ratios(0.2, 0.2), *ratios(1e-9, lr=0.001)]
    whole, first = Watch(), Watch()
    assert found(logs, whole) == found(logs, first) == []
    second = Watch()
    second.restore(json.loads(json.dumps(first.state())))
    more = [*losses(6.0, 6.0, first=()), *ratios(0.2, 0.2)]
    expected = found(more, whole)
    assert found(more, second) == expected
    assert {one.cause for one in expected} == {"train/loss diverged", "update_ratio/head too large"}
    assert second.state() == whole.state()
    third = Watch()
    third.restore(second.state())
    assert found(more * 3, third) == []


def test_causes_are_read_from_the_lines_that_findings_write() -> None:
    lines = [Finding(step, f"dead_relu/{step}", "text: with a colon", "remedy") for step in (3, 5)]
    text = "\n".join([*map(str, lines), "a line of somebody else's", "step x: y", ""])
    assert causes_in(text, since=4) == {"dead_relu/5"}
    assert causes_in(text, since=0) == {"dead_relu/3", "dead_relu/5"}
