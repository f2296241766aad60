"""The stored study that a sweep takes part in: which of its trials are the sweep's runs, and which is the best."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from omegaconf import DictConfig

from lit_optim.cli.overrides import as_typed
from lit_optim.runs.reading import Run, Unreadable, config_folder_of, overrides_of
from lit_optim.tables import many

if TYPE_CHECKING:
    from optuna import Study
    from optuna.trial import FrozenTrial

__all__ = ["load_study", "told_of"]

_TABLES = 50  # more than Optuna makes


def load_study(sweeper: DictConfig, tries: int = _TABLES) -> Study:
    """The study that a search names; the storage gets its tables.

    Raises:
        KeyError: There is none yet.
        Exception: Of the database.
    """
    import optuna
    from sqlalchemy.exc import DBAPIError, IntegrityError

    try:
        return optuna.load_study(study_name=sweeper.study_name, storage=sweeper.storage)
    except DBAPIError as error:
        # sweeps that start at the same time make the same tables; whenever another is faster, there is one more
        is_behind = isinstance(error, IntegrityError) or "already exists" in str(error)
        if not is_behind or tries == 1:
            raise
    return load_study(sweeper, tries - 1)


def told_of(study: Study, runs: Sequence[Run]) -> Iterator[str]:
    """What the end of a sweep says of its study, a line each; nothing where the study is of this sweep alone.

    Args:
        study: Which other sweeps may have taken part in.
        runs: Of this one.
    """
    trials = study.get_trials(deepcopy=False)
    own = _own(trials, runs)
    if len(own) == len(trials):
        return
    pairs = [f"run {run.folder.name} is trial {trial.number}" for trial, run in own.values()]
    if len(pairs) > 1 and [*own] == [*range(min(own), max(own) + 1)]:
        first, last = ([*own.values()][place] for place in (0, -1))
        names = [f"{run.folder.name}" for _, run in (first, last)]
        pairs = [f"runs {' to '.join(names)} are trials {first[0].number} to {last[0].number}"]
    yield f"study      {study.study_name}, {many(len(trials), 'trial')} by now{': ' if pairs else ''}{', '.join(pairs)}"
    try:
        best = study.best_trial
    except ValueError:  # none has come to a result
        return
    run = own[best.number][1] if best.number in own else None
    where = "of another sweep" if run is None else f"run {run.folder.name}"
    yield f"its best   trial {best.number}, {where}, which has come to {best.value:.5g}"
    if run is None:
        folder = next((found for one in runs if (found := config_folder_of(one.folder)) is not None), None)
        flags = [] if folder is None else ["--config-dir", folder]
        yield f"again      {shlex.join(['lit-optim', 'train', *flags, *as_typed(_overrides(best))])}"


def _own(trials: Sequence[FrozenTrial], runs: Sequence[Run]) -> dict[int, tuple[FrozenTrial, Run]]:
    """By number: the trials that runs are, told by what both were given; of equal ones the latest."""
    free = [*reversed(trials)]
    own = []
    for run in reversed(runs):
        try:
            given = {*overrides_of(run.folder)}
        except Unreadable:
            continue
        trial = next((one for one in free if {*_overrides(one)} == given), None)
        if trial is not None:
            free.remove(trial)
            own.append((trial, run))
    return {trial.number: (trial, run) for trial, run in reversed(own)}


def _overrides(trial: FrozenTrial) -> list[str]:
    """What a trial was given, as the sweeper keeps it: what was drawn, and what was fixed."""
    return [f"{key}={value}" for key, value in (trial.params | trial.user_attrs).items()]
