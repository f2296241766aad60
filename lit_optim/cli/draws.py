"""The random draws of a search, each trial's its own, so that it doesn't matter which sweep of a study runs a trial."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

import numpy as np
from hydra.utils import get_class
from optuna.distributions import BaseDistribution
from optuna.samplers import BaseSampler
from optuna.study import Study
from optuna.trial import FrozenTrial, TrialState

__all__ = ["ByTrial"]


class ByTrial(BaseSampler):
    """Draws for each trial with a sampler that is seeded by the number of the trial in its study.

    A study gives every number once, to whoever asks. So sweeps that share one draw differently, at the same time or one
    after the other, and two in turn try what a single one with the trials of both would have tried.

    Args:
        sampler: Dotted name of a sampler of Optuna's that takes a ``seed``.
        seed: Of all trials together, 0 or more.
        arguments: Of the sampler, beside its seed.
    """

    def __init__(self, sampler: str, seed: int, **arguments: Any) -> None:
        self._seed, self._make = seed, partial(get_class(sampler), **arguments)
        self._make(seed=seed)  # what it refuses, it refuses before there is a trial
        self._samplers: dict[int, BaseSampler] = {}

    def _of(self, trial: FrozenTrial) -> BaseSampler:
        if trial.number not in self._samplers:
            # mixed, and not added up, or the second trial of one seed would be the first of the next
            seed = int(np.random.SeedSequence([self._seed, trial.number]).generate_state(1)[0])
            self._samplers[trial.number] = self._make(seed=seed)
        return self._samplers[trial.number]

    def infer_relative_search_space(self, study: Study, trial: FrozenTrial) -> dict[str, BaseDistribution]:
        """As the trial's own sampler; likewise below."""
        return self._of(trial).infer_relative_search_space(study, trial)

    def sample_relative(
        self, study: Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        """Draw what belongs together."""
        return self._of(trial).sample_relative(study, trial, search_space)

    def sample_independent(
        self, study: Study, trial: FrozenTrial, param_name: str, param_distribution: BaseDistribution
    ) -> Any:
        """Draw one by itself."""
        return self._of(trial).sample_independent(study, trial, param_name, param_distribution)

    def after_trial(self, study: Study, trial: FrozenTrial, state: TrialState, values: Sequence[float] | None) -> None:
        """Learn how it ended."""
        self._of(trial).after_trial(study, trial, state, values)
