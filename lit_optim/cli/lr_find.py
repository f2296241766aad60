"""``lit-optim lr-find``: a short sweep of the learning rate, a picture of it, and the overrides that it suggests."""

from __future__ import annotations

import argparse
import json
import shlex
import sys
from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from omegaconf import DictConfig, OmegaConf, open_dict

from lit_optim.cli.app import run_app
from lit_optim.cli.look import look
from lit_optim.cli.parser import Parser
from lit_optim.cli.refusals import Refusals
from lit_optim.cli.reporting import report
from lit_optim.cli.start import starting_point
from lit_optim.cli.work import Work
from lit_optim.errors import ConfigError, Mistake
from lit_optim.progress_line import Field
from lit_optim.tables import table

if TYPE_CHECKING:
    from lightning.pytorch import Callback, Trainer

    from lit_optim.sweep import Sweep

__all__ = ["run"]

_NO_FOLDER = ("hydra.run.dir=.", "hydra.output_subdir=null", "hydra.mode=RUN")
_FORMATS = (".png", ".svg", ".pdf")
_DEFAULTS = {"low": "1e-5", "high": "1e3", "steps": "100", "stop": "4"}
_NUMBERS = {
    "low": "the first factor of every learning rate",
    "high": "the last factor",
    "steps": "optimizer steps, 20 or more",
    "stop": "end above this many times the lowest loss",
}


def run(arguments: Sequence[str]) -> int:
    """The verb; its own flags are read here, the rest is Hydra's.

    Returns:
        0 with suggestions, 1 where something is wrong or the sweep tells nothing.
    """
    parser = Parser("lit-optim lr-find", add_help=False, allow_abbrev=False)
    for name, what in _NUMBERS.items():
        parser.add_argument(f"--{name}", default=_DEFAULTS[name], help=f"{what} ({_DEFAULTS[name]})")
    parser.add_argument("--plot", type=Path, metavar="FILE", help="the picture (runs/NAME/lr-find/DATE.png)")
    parser.add_argument("--json", action="store_true", help="print factors, losses and suggestions as JSON")
    try:
        own, rest = parser.parse_known_args(list(arguments))
    except ConfigError as error:
        report(error)
        return 1
    if {"-m", "--multirun"} & {*rest}:
        remedy = "leave it out, and sweep one choice at a time"
        report(ConfigError(Mistake("--multirun", "a learning rate is found for one recipe", remedy=remedy)))
        return 1
    if {"-h", "--help"} & {*rest}:
        print(parser.format_help())
    return run_app(rest, lambda config: _find(config, own, rest), _NO_FOLDER, [f"--{name}" for name in vars(own)])


def _find(config: DictConfig, own: argparse.Namespace, typed: Sequence[str]) -> None:
    from lit_optim.cli.assemble import data_of, module_of, seed_of, trainer_of
    from lit_optim.cli.failures import translated
    from lit_optim.integration.lr_finder import find_lr, learning_rates

    refusals = Refusals()
    with refusals.noted():
        _refuse_state(config)
    with refusals.noted():
        numbers = _numbers(own)
    with refusals.noted():
        path = _plot_path(config, own.plot)
    with refusals.noted():
        seen = look(config)
    refusals.told()
    rates = learning_rates(seen.module, seen.recipe)
    seed_of(config)
    data = data_of(config)
    module = module_of(config, data, seen.recipe)
    starting_point(config, module)
    plain = OmegaConf.to_container(config, resolve=True)
    assert isinstance(plain, dict)

    def trainer(callbacks: Sequence[Callback], **more: Any) -> Trainer:
        changed = OmegaConf.create({"trainer": plain["trainer"]})
        with open_dict(changed):
            changed.trainer.update({key: value for key, value in more.items() if key not in _OF_GROUPS})
        return trainer_of(changed, callbacks, [])

    def on_step(step: int, factor: float, loss: float) -> None:
        work(fields=[Field(f"factor {factor:<8.3g}"), Field(f"loss {loss:.3g}")])

    try:
        with Work("step", numbers["steps"]) as work:
            sweep = find_lr(module, seen.recipe, trainer, datamodule=data, on_step=on_step, **numbers)
    except Exception as error:
        told = translated(error, Path.cwd(), started=False)
        if told is error:
            raise
        raise told from error
    suggestions = sweep.suggestions
    _draw(sweep, path)
    overrides = {name: _overrides(rates, factor) for name, factor in suggestions.items()}
    print(_as_json(sweep, overrides) if own.json else _as_text(sweep, overrides, typed, rates))


_OF_GROUPS = ("logger", "enable_checkpointing", "enable_progress_bar")  # which `trainer_of` itself sets


def _numbers(own: argparse.Namespace) -> dict[str, Any]:
    """The range as numbers."""
    from lit_optim.integration.lr_finder import range_mistakes

    numbers: dict[str, Any] = {}
    mistakes = []
    for name, kind in (("low", float), ("high", float), ("steps", int), ("stop", float)):
        try:
            numbers[name] = kind(getattr(own, name))
        except ValueError:
            numbers[name] = kind(_DEFAULTS[name])
            what = "a whole number" if kind is int else "a number"
            mistakes.append(Mistake(f"--{name}", f"{what} is needed", repr(getattr(own, name)), remedy="correct it"))
    wrong = {mistake.key for mistake in mistakes} | ({"--high"} if mistakes else set())  # which low may stand above
    mistakes += [mistake for mistake in range_mistakes(**numbers) if mistake.key not in wrong]
    if mistakes:
        raise ConfigError(*mistakes)
    return numbers


def _plot_path(config: DictConfig, given: Path | None) -> Path:
    """Where the picture goes; refused before the sweep, not after."""
    if given is None:
        return Path("runs", str(config.name), "lr-find", f"{datetime.now():%Y-%m-%d_%H-%M-%S-%f}.png")
    problem = None
    if given.exists():
        problem, remedy = "this is there already, and is not written over", "give another name, or remove it"
    elif given.suffix not in _FORMATS:
        problem, remedy = "no format for this suffix", "give a file that ends in .png, .svg or .pdf"
    elif not given.parent.is_dir():
        problem, remedy = "there is no such folder", "make it first, or give another"
    if problem is not None:
        raise ConfigError(Mistake("--plot", problem, str(given), remedy=remedy))
    return given


def _refuse_state(config: DictConfig) -> None:
    given, config.ckpt = config.ckpt, None
    if given is not None:
        remedy = f"sweep from its weights alone: weights={given}"
        raise ConfigError(Mistake("ckpt", "a sweep starts with a fresh optimizer", str(given), remedy=remedy))


def _draw(sweep: Sweep, path: Path) -> None:
    from lit_optim.sweep_figure import save_sweep

    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        save_sweep(sweep, path)
    except OSError as error:
        remedy = "give a file in a folder that you may write to: --plot FILE"
        raise ConfigError(Mistake("--plot", str(error), given=str(path), remedy=remedy)) from error
    print(f"drawn: {path}", file=sys.stderr)


def _overrides(rates: Mapping[str, float], factor: float) -> list[str]:
    return [f"{key}={rate * factor:.3g}" for key, rate in rates.items()]


def _as_json(sweep: Sweep, overrides: Mapping[str, Sequence[str]]) -> str:
    told = {
        "factors": sweep.factors,
        "losses": sweep.losses,
        "stopped_early": sweep.stopped_early,
        "suggestions": sweep.suggestions,
        "overrides": overrides,
    }
    return json.dumps(told, indent=2)


def _as_text(
    sweep: Sweep, overrides: Mapping[str, Sequence[str]], typed: Sequence[str], rates: Mapping[str, float]
) -> str:
    kept = [argument for argument in typed if argument.lstrip("+").partition("=")[0] not in rates]
    rows = [
        [name, f"{factor:.3g}", *(override.partition("=")[2] for override in overrides[name])]
        for name, factor in sweep.suggestions.items()
    ]
    end = "diverged" if sweep.stopped_early else "done"
    lines = [
        table(["suggestion", "factor", *rates], rows),
        "",
        f"{len(sweep.losses):,} steps, factors {sweep.factors[0]:.3g} to {sweep.factors[-1]:.3g} ({end})",
        *(f"{name:<9} {shlex.join(['lit-optim', 'train', *kept, *ours])}" for name, ours in overrides.items()),
    ]
    return "\n".join(lines)
