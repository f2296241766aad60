"""``lit-optim plan``: what the recipe will do, without a step of training and without a folder."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from omegaconf import DictConfig

from lit_optim.cli.app import report, run_app
from lit_optim.errors import ConfigError, Mistake

__all__ = ["run"]

_NO_FOLDER = ("hydra.run.dir=.", "hydra.output_subdir=null", "hydra.mode=RUN")


def run(arguments: Sequence[str]) -> int:
    """The verb; its own flags are read here, the rest is Hydra's.

    Returns:
        0 for a sound recipe, 1 for a refused one, whose mistakes are all on stderr.
    """
    parser = argparse.ArgumentParser("lit-optim plan", add_help=False, allow_abbrev=False)
    parser.add_argument("--json", action="store_true", help="print the plan as JSON")
    parser.add_argument("--plot", type=Path, metavar="FILE", help="draw the curves into an image file")
    own, rest = parser.parse_known_args(list(arguments))
    if {"-m", "--multirun"} & {*rest}:
        remedy = "leave it out, and plan one choice at a time"
        report(ConfigError(Mistake("--multirun", "a plan is of one recipe", remedy=remedy)))
        return 1
    if {"-h", "--help"} & {*rest}:
        print(parser.format_help())
    return run_app(rest, lambda config: _show(config, own), extra=_NO_FOLDER)


def _show(config: DictConfig, own: argparse.Namespace) -> None:
    from lit_optim.cli.assemble import callbacks_of, check_top, data_of, module_of, recipe_of, seed_of, trainer_of
    from lit_optim.cli.failures import translated
    from lit_optim.cli.quiet import quiet
    from lit_optim.integration.horizon import planned_horizon
    from lit_optim.integration.module import check_loop
    from lit_optim.planner import make_plan
    from lit_optim.render import save_figure

    quiet()
    check_top(config)
    seed_of(config)
    data = data_of(config)
    module = module_of(config, data)
    recipe = recipe_of(config)
    check_loop(module, recipe)
    try:
        horizon = planned_horizon(trainer_of(config, callbacks_of(config), []), data)
        module.configure_model()
    except Exception as error:
        told = translated(error, Path.cwd(), started=False)
        if told is error:
            raise
        raise told from error
    plan = make_plan(module, recipe, horizon)
    if own.plot is not None:
        try:
            save_figure(plan, own.plot)
        except (OSError, ValueError) as error:  # ValueError: a suffix that stands for no format
            remedy = "give a file in a folder that you may write to, ending in .png, .svg or .pdf"
            raise ConfigError(Mistake("--plot", str(error), given=str(own.plot), remedy=remedy)) from error
        print(f"drawn: {own.plot}", file=sys.stderr)
    print(plan.to_json() if own.json else plan, end="" if own.json else "\n")
