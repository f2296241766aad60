from __future__ import annotations

import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.optim import SGD, Optimizer

from lit_optim.integration.group_names import group_names


@given(st.lists(st.lists(st.sampled_from([None, "", "head", "group0", "group1", "head.1"]), min_size=1), max_size=3))
def test_group_names_are_unique(names: list[list[str | None]]) -> None:
    def with_names(of_groups: list[str | None]) -> Optimizer:
        groups = [{"params": [torch.nn.Parameter(torch.zeros(1))], "name": name} for name in of_groups]
        return SGD(groups, lr=0.1)

    made = group_names([with_names(of_groups) for of_groups in names])
    assert len(made) == len(set(made)) == sum(map(len, names))
