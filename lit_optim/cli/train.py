"""``lit-optim train``: fit, test, and leave a run folder from which both can be told."""

from __future__ import annotations

import math
import re
import shlex
import sys
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf

from lit_optim.cli.app import NewFolders, run_app
from lit_optim.cli.job import hydra_files, is_sweep
from lit_optim.cli.launched import Launched, check_started, no_folder_elsewhere
from lit_optim.cli.look import with_all_else
from lit_optim.cli.rank_zero import is_rank_zero
from lit_optim.cli.reporting import report, shown
from lit_optim.cli.start import starting_point
from lit_optim.errors import ConfigError, LitOptimError, RecipeError, RunError
from lit_optim.integration.terminated import is_told_to_end
from lit_optim.lr_scaling import SIZE, WAY

if TYPE_CHECKING:
    from lightning.pytorch import LightningDataModule, LightningModule, Trainer

    from lit_optim.cli.ranks import Ranks
    from lit_optim.integration.callbacks import RunFiles
    from lit_optim.integration.callbacks.stop_together import StopTogether
    from lit_optim.integration.run_folder import RunFolder

__all__ = ["run"]

_COMPARED = ("seed", "data", "model", "optimizer", "rules", "schedule", "trainer", SIZE, WAY)


def run(arguments: Sequence[str]) -> int:
    """The verb; every argument is Hydra's."""
    extra = ("hydra.output_subdir=null", *no_folder_elsewhere())  # .hydra/ is written once the run is sound
    return run_app(arguments, train, extra)


def train(
    config: DictConfig,
    goes_on: bool = False,
    overrides: Sequence[str] | None = None,
    rank: StopTogether | None = None,
) -> float | None:
    """One run; returns ``optimized_metric``.

    Args:
        config: What to train.
        goes_on: Whether Hydra's output folder holds the run already; it goes on from its last checkpoint.
        overrides: What made the config, for ``.hydra/``; Hydra's own if not given.
        rank: Of a process that `lit_optim.cli.ranks` has started as one of several: what has them stop together.
    """
    from lit_optim.cli.assemble import (
        callbacks_of,
        check_monitors,
        check_top,
        data_of,
        loggers_of,
        module_of,
        no_such_metric,
        read_recipe,
        seed_of,
        trainer_of,
    )
    from lit_optim.cli.failures import translated
    from lit_optim.cli.quiet import quiet
    from lit_optim.cli.ranks import Ranks
    from lit_optim.cli.workers import spare_workers
    from lit_optim.integration.callbacks import RunFiles
    from lit_optim.integration.callbacks.stop_together import StopTogether
    from lit_optim.integration.run_folder import RunFolder
    from lit_optim.runs.reading import LAST
    from lit_optim.state_types import trust

    quiet()
    spare_workers()
    output = Path(HydraConfig.get().runtime.output_dir)
    last = output / LAST if goes_on else None
    folder = RunFolder(output, NewFolders.of(output), goes_on)
    if last is not None:  # which is to find its checkpoints there
        held = re.escape(str(last.parent))
        warnings.filterwarnings("ignore", message=f"Checkpoint directory {held} exists and is not empty")
    of_one = rank is None  # and not of ranks, of which the process that has started them tells
    launched = Launched.here()
    files: RunFiles | None = None
    ranks: Ranks | None = None
    try:
        if is_rank_zero():
            folder.check_free()
        recipe, mistakes = read_recipe(config)
        if mistakes:
            raise RecipeError(*mistakes)
        check_top(config)
        if launched is None:
            check_started(config)
        seed_of(config)
        ranks = None if rank is not None else Ranks.of(config)
        if ranks is not None:
            folder.release()  # rank 0 will hold it
            return _objective(config, ranks.train(config, folder, overrides))
        data = data_of(config)
        module = module_of(config, data, recipe)
        check_monitors(config, module)
        trust(recipe)
        checkpoint = starting_point(config, module, last)
        if launched is not None:
            output = folder.path = launched.agree(output)
            rank = StopTogether(launched.watch(lambda cause: _end(cause, folder, files)), 0, everywhere=True)
        files = RunFiles(folder, hydra_files(config, overrides), _hparams(config), checkpoint, config.resume.on_change)
        own = [files] if rank is None else [files, rank]
        trainer = trainer_of(config, [*callbacks_of(config), *own], loggers_of(config))
        if launched is not None:
            launched.check_fits(trainer)
        start_from = None if checkpoint is None else checkpoint.path
        trainer.fit(module, datamodule=data, ckpt_path=start_from, weights_only=True)
        best = _test(config, trainer, module, data)
        if launched is not None:
            launched.close()
    except BaseException as error:
        started = bool(folder.read_metrics()) if ranks is not None else files is not None and files.has_started
        folder.release()
        if not started:
            folder.withdraw()
        told = translated(error, output, started)
        if isinstance(told, LitOptimError) and not started and of_one and not (launched and launched.has_met):
            told = with_all_else(told, config, last=last)
        if launched is not None:
            lost, told = told, launched.fail(told, together=rank is not None and rank.has_stopped)
            if told is not lost:
                _note_end(told, folder, files)
        if started and of_one and is_told_to_end(told):
            told.add_note(_way_on(output))
        if told is error:
            raise
        raise told from error
    files.finish(trainer, best)
    if trainer.is_global_zero:
        _print_result(files, trainer, best)
        said = config.optimized_metric
        if not (is_sweep() or said in (None, *files.final) or hasattr(module, "logged")):  # which was checked before
            print("lit-optim: warning", no_such_metric(said, files.final), sep="\n", file=sys.stderr)
    return _objective(config, files.final)


def _way_on(output: Path) -> str:
    """What goes on with a run that was told to end, for whoever reads the terminal."""
    from lit_optim.integration.checkpoint import Checkpoint
    from lit_optim.runs.reading import LAST

    command = shlex.join(["lit-optim", "resume", str(shown(output))])
    try:
        return f"{command} goes on from step {Checkpoint.read('FOLDER', str(output / LAST)).step:,}"
    except RunError:
        return f"{command} goes on with it"


def _note_end(cause: BaseException, folder: RunFolder, files: RunFiles | None) -> None:
    """Let the folder say what another process has failed by."""
    if is_rank_zero() and files is not None and files.has_started:
        folder.note_crash(f"{type(cause).__name__}: {cause}")


def _end(cause: LitOptimError, folder: RunFolder, files: RunFiles | None) -> None:
    """The last of a process that waits for one which has failed."""
    report(cause)
    _note_end(cause, folder, files)


def _hparams(config: DictConfig) -> dict[str, Any]:
    """What may differ between two runs that are worth comparing: no paths, nothing twice."""
    parts = {part: node for part, node in _plain(config).items() if part in _COMPARED}
    return {name: value for name, value in _flat(parts).items() if name != "data.seed"}


def _plain(config: DictConfig) -> dict[str, Any]:
    return cast("dict[str, Any]", OmegaConf.to_container(config, resolve=True))


def _flat(node: Any, prefix: str = "") -> dict[str, Any]:
    """``{"optimizer.lr": 0.1, …}``: a name for every leaf, lists as text."""
    if isinstance(node, Mapping):
        return {name: leaf for key, item in node.items() for name, leaf in _flat(item, f"{prefix}{key}.").items()}
    name = prefix.removesuffix(".")
    return {name: node if node is None or isinstance(node, (bool, int, float, str)) else str(node)}


def _test(config: DictConfig, trainer: Trainer, module: LightningModule, data: LightningDataModule) -> str | None:
    """Test with the best checkpoint where there is one, else with the last weights; returns the checkpoint's name."""
    from lightning.pytorch.utilities.model_helpers import is_overridden

    if not config.test or trainer.limit_test_batches == 0:
        return None
    if not is_overridden("test_step", module) or not is_overridden("test_dataloader", data):
        return None
    best = getattr(trainer.checkpoint_callback, "best_model_path", "") or None
    if best is not None and not Path(best).is_relative_to(HydraConfig.get().runtime.output_dir):
        best = None  # of the run that this one started from
    trainer.test(module, datamodule=data, ckpt_path=best, verbose=False, weights_only=True)
    return Path(best).name if best else None


def _print_result(files: RunFiles, trainer: Trainer, best: str | None) -> None:
    from lit_optim.cli.dashboards import dashboards
    from lit_optim.integration.callbacks.run_files import skipped_steps

    metrics = "  ".join(f"{tag} {value:.4f}" for tag, value in sorted(files.final.items()))
    tested = f" (tested: {best})" if best else ""
    print(f"\nresult     {metrics or 'no metric was logged'}{tested}")
    skipped = skipped_steps(trainer)
    but = f" ({skipped:,} of them not taken: gradients overflowed, or there was no loss)" if skipped else ""
    print(f"run        {trainer.global_step:,} steps{but}, {shown(files.folder.path)}")
    for dashboard in dashboards(trainer.loggers, files.folder.path):
        print(f"dashboard  {dashboard}", flush=True)


def _objective(config: DictConfig, final: Mapping[str, float]) -> float | None:
    """The final value of ``optimized_metric``, which a sweep can't do without; None where it is not finite.

    (A search takes None for a trial that failed; a NaN would end it.)
    """
    from lit_optim.cli.assemble import no_such_metric

    name = str(config.optimized_metric)
    if name in final:
        return final[name] if math.isfinite(final[name]) else None
    if is_sweep() and config.optimized_metric is not None:
        raise ConfigError(no_such_metric(name, final))
    return None
