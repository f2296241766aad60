"""Histograms against numpy's."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import nn
from torch.optim import SGD

from lit_optim.histograms import LIMITS, Histogram, Histograms


def of(values: list[float], gradients: list[float] | None = None) -> list[Histogram]:
    parameter = nn.Parameter(torch.tensor(values))
    parameter.grad = None if gradients is None else torch.tensor(gradients)
    histograms = Histograms(SGD([parameter], lr=0.1), ["g"])
    histograms.take()
    vector = histograms.vector()
    assert len(vector) == histograms.size
    return histograms.read(vector.tolist())


def test_counts_are_those_of_numpy() -> None:
    values = torch.randn(10_000, generator=torch.Generator().manual_seed(0)).tolist()
    [one] = of(values)
    assert one.tag == "weights/g"
    edges = np.array([-math.inf, *LIMITS])
    expected = np.histogram(-np.float32(values), bins=-edges[::-1])[0][::-1]  # numpy's buckets hold their lower end
    assert one.counts == expected.tolist()
    assert one.total == pytest.approx(sum(values), abs=1e-3)
    assert one.squares == pytest.approx(sum(value**2 for value in values), rel=1e-5)


def test_each_value_is_in_the_bucket_that_ends_with_it_or_above() -> None:
    for value in (0.0, 1.0, -1.0, 0.75, -0.75, 2.0**-40, 2.0**20, 3e6, -3e6, math.inf, -math.inf, 1e-20):
        [one] = of([value])
        [place] = np.flatnonzero(one.counts)
        assert value <= LIMITS[place] or value == math.inf
        assert place == 0 or value > LIMITS[place - 1]


def test_nan_is_in_no_bucket() -> None:
    weights, gradients = of([1.0, 1.0], [math.nan, 1.0])[::-1]
    assert (weights.tag, gradients.tag) == ("weights/g", "gradients/g")
    assert (sum(weights.counts), sum(gradients.counts)) == (2, 1)


def test_a_scale_that_the_step_takes_off_is_taken_off() -> None:
    parameter = nn.Parameter(torch.ones(2))
    parameter.grad = torch.tensor([8.0, 16.0])
    optimizer = SGD([parameter], lr=0.1)
    optimizer.grad_scale = torch.tensor(8.0)  # type: ignore[attr-defined]
    histograms = Histograms(optimizer, ["g"])
    histograms.take()
    assert histograms.read(histograms.vector().tolist())[0].total == 3.0


def test_a_skipped_step_has_none() -> None:
    histograms = Histograms(SGD([nn.Parameter(torch.ones(2))], lr=0.1), ["g"])
    assert histograms.read(histograms.vector().tolist()) == []
