"""``lit-optim plan``: what the recipe will do, without a step of training and without a folder."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from omegaconf import DictConfig

from lit_optim.cli.app import run_app
from lit_optim.cli.look import look
from lit_optim.cli.parser import Parser
from lit_optim.cli.reporting import report
from lit_optim.errors import ConfigError, Mistake, PlanError

if TYPE_CHECKING:
    from lit_optim.plan import Plan

__all__ = ["run"]

_NO_FOLDER = ("hydra.run.dir=.", "hydra.output_subdir=null", "hydra.mode=RUN")


def run(arguments: Sequence[str]) -> int:
    """The verb; its own flags are read here, the rest is Hydra's.

    Returns:
        0 for a sound recipe, 1 for a refused one, whose mistakes are all on stderr.
    """
    parser = Parser("lit-optim plan", add_help=False, allow_abbrev=False)
    parser.add_argument("--json", action="store_true", help="print the plan as JSON")
    parser.add_argument("--plot", type=Path, metavar="FILE", help="draw the curves into an image file")
    parser.add_argument("--strict", action="store_true", help="refuse what is otherwise a warning")
    parser.add_argument("--explain", metavar="NAME", help="tell how the parameter of this name came to its settings")
    try:
        own, rest = parser.parse_known_args(list(arguments))
    except ConfigError as error:
        report(error)
        return 1
    if {"-m", "--multirun"} & {*rest}:
        remedy = "leave it out, and plan one choice at a time"
        report(ConfigError(Mistake("--multirun", "a plan is of one recipe", remedy=remedy)))
        return 1
    if {"-h", "--help"} & {*rest}:
        print(parser.format_help())
    return run_app(rest, lambda config: _show(config, own), _NO_FOLDER, [f"--{name}" for name in vars(own)])


def _show(config: DictConfig, own: argparse.Namespace) -> None:
    seen = look(config)
    plan = seen.plan
    if own.strict and plan.warnings:
        raise PlanError(*map(_as_mistake, plan.warnings))
    if own.plot is not None:
        _draw(plan, own.plot)
    if own.explain is not None:
        from lit_optim.explain import explain

        text = explain(seen.module, seen.recipe, seen.horizon, own.explain)
        print(text, file=sys.stderr if own.json else sys.stdout)
    if own.json:
        print(plan.to_json(), end="")
    elif own.explain is None:
        print(plan)


def _as_mistake(warning: str) -> Mistake:
    """A warning as a refusal; its text is ``key: what; what to do``."""
    key, _, text = warning.partition(": ")
    problem, _, remedy = text.rpartition("; ")
    return Mistake(key, problem, remedy=f"{remedy}; or leave --strict out")


def _draw(plan: Plan, path: Path) -> None:
    from lit_optim.render import save_figure

    try:
        save_figure(plan, path)
    except (OSError, ValueError) as error:  # ValueError: a suffix that stands for no format
        remedy = "give a file in a folder that you may write to, ending in .png, .svg or .pdf"
        raise ConfigError(Mistake("--plot", str(error), given=str(path), remedy=remedy)) from error
    print(f"drawn: {path}", file=sys.stderr)
