"""``lit-optim resume``: go on with a run in its own folder, with its own config, from its last checkpoint."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from hydra.core.global_hydra import GlobalHydra
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException
from yaml import YAMLError

from lit_optim.cli.app import run_app
from lit_optim.cli.composition import CONFIG_NAME
from lit_optim.cli.overrides import accept_new_keys, refuse_unknown_flags
from lit_optim.cli.rank_zero import is_rank_zero
from lit_optim.cli.reporting import report
from lit_optim.cli.train import train
from lit_optim.errors import ConfigError, Mistake, RunError, nearest

__all__ = ["run"]

_SETTINGS = ("config.yaml", "hydra.yaml", "overrides.yaml")
_EVENTS = "events.out.tfevents.*"  # which Lightning opens before there are settings
_ANEW = "start it anew with its command; this folder may be deleted"
_HELP = """\
usage: lit-optim resume FOLDER [overrides]

Goes on with the run in FOLDER from its checkpoints/last.ckpt, or from the start where there is none yet, with the
config that it was started with and whatever the overrides change in it.
"""


def run(arguments: Sequence[str]) -> int:
    """The verb.

    Returns:
        As `lit_optim.cli.train.run`.
    """
    if {"-h", "--help"} & {*arguments}:
        print(_HELP, end="")
        return 0
    folders = [one for one in arguments if "=" not in one and not one.startswith(("-", "~"))]
    rest = [one for one in arguments if one not in folders]
    try:
        if {"-m", "--multirun"} & {*arguments}:
            remedy = "resume each run by itself, or start new ones from a state: lit-optim train -m ckpt=PATH …"
            raise RunError(Mistake("--multirun", "resume goes on with one run, and is no sweep", remedy=remedy))
        refuse_unknown_flags(arguments, ("--help", "--multirun"), ())
        if len(folders) != 1 or any(one.startswith("-") for one in rest):
            problem, remedy = "the folder of one run is needed, then overrides", "lit-optim resume runs/default/DATE"
            raise RunError(Mistake("lit-optim resume", problem, given=" ".join(arguments) or None, remedy=remedy))
        before = _Before.read(Path(folders[0]))
    except (RunError, ConfigError) as error:
        report(error)
        return 1
    if before.directory.is_dir() and before.directory != Path.cwd():
        if is_rank_zero():
            print(f"in {before.directory}, where the run was started", file=sys.stderr)
        os.chdir(before.directory)
    overrides = _merged(before.overrides, accept_new_keys(rest))
    quoted = str(before.folder).replace("\\", "\\\\").replace('"', '\\"')
    own = (f'hydra.run.dir="{quoted}"', "hydra.output_subdir=null", "hydra.mode=RUN")
    return run_app([*before.config_dir, *overrides], lambda config: train(before.changed(config), True, overrides), own)


class _Before:
    """What a run's folder says of how it was started.

    Args:
        folder: The folder, absolute.
        config: The whole config, resolved.
        overrides: What was said on the command line.
        hydra: Hydra's own settings.
    """

    def __init__(self, folder: Path, config: DictConfig, overrides: Sequence[str], hydra: Any) -> None:
        self.folder = folder
        self.config = config
        self.overrides = list(overrides)
        self.directory = Path(str(OmegaConf.select(hydra, "hydra.runtime.cwd") or Path.cwd()))
        self._old_folder = str(OmegaConf.select(hydra, "hydra.runtime.output_dir") or folder)
        sources = OmegaConf.select(hydra, "hydra.runtime.config_sources") or []
        own = [str(one.path) for one in sources if one.provider == "command-line"]
        self.config_dir = [part for path in own for part in ("--config-dir", path)]

    @classmethod
    def read(cls, folder: Path) -> _Before:
        folder = folder.expanduser().absolute()
        settings = folder / ".hydra"
        if folder.is_file():
            remedy = "name the folder of a run: the one that holds .hydra/ and checkpoints/"
            raise RunError(Mistake("FOLDER", "this is a file", str(folder), remedy=remedy))
        if not folder.is_dir():
            others = [path.name for path in folder.parent.iterdir()] if folder.parent.is_dir() else []
            near = nearest(folder.name, others)
            raise RunError(Mistake("FOLDER", "no such folder", str(folder), nearest=near, remedy="correct the path"))
        missing = [name for name in _SETTINGS if not (settings / name).is_file()]
        if missing and settings.is_dir():
            problem = f"nothing can go on from here: .hydra/ lacks {' and '.join(missing)}"
            remedy = f"restore them; if the run was killed before it had them, {_ANEW}"
            raise RunError(Mistake("FOLDER", problem, str(folder), remedy=remedy))
        inside = [*folder.iterdir()]
        if not inside:
            problem = "this is not the folder of a run: it is empty"
            remedy = "if a run was killed here in its start-up, start it again with its own command"
            raise RunError(Mistake("FOLDER", problem, str(folder), remedy=remedy))
        if missing and all(path.match(_EVENTS) for path in inside):
            problem = "nothing can go on from here: a run that was killed here had not come to write its settings"
            raise RunError(
                Mistake("FOLDER", problem, str(folder), remedy=f"{_ANEW}; or name the folder of another run")
            )
        if missing:
            inside = sorted(path.parent.parent for path in folder.glob("*/*/.hydra/config.yaml"))
            inside += sorted(path.parent.parent for path in folder.glob("*/.hydra/config.yaml"))
            runs = tuple(str(path) for path in inside[:8])
            remedy = "name the folder of a run: the one that holds .hydra/ and checkpoints/"
            raise RunError(Mistake("FOLDER", "this is not the folder of a run", str(folder), runs, remedy=remedy))
        try:
            config = OmegaConf.load(settings / "config.yaml")
            overrides = OmegaConf.to_container(OmegaConf.load(settings / "overrides.yaml"))
            hydra = OmegaConf.load(settings / "hydra.yaml")
        except (OSError, UnicodeDecodeError, YAMLError, OmegaConfBaseException) as error:
            problem = f"its settings can't be read: {' '.join(str(error).split())}"
            raise RunError(Mistake("FOLDER", problem, str(settings), remedy="restore the files in it")) from error
        if not isinstance(config, DictConfig) or not isinstance(overrides, list):
            remedy = "restore config.yaml and overrides.yaml in it"
            raise RunError(Mistake("FOLDER", "its settings are no config", str(settings), remedy=remedy))
        return cls(folder, config, [str(one) for one in overrides], hydra)

    def changed(self, composed: DictConfig) -> DictConfig:
        """The run's own config with what the new overrides change: the package's defaults may have changed since."""
        loader = GlobalHydra.instance().config_loader()
        own = loader.load_configuration(CONFIG_NAME, self.overrides, run_mode=RunMode.RUN)
        own = OmegaConf.masked_copy(own, [str(key) for key in own if key != "hydra"])
        without, with_new = (OmegaConf.to_container(config, resolve=True) for config in (own, composed))
        moved = _moved(OmegaConf.to_container(self.config), self._old_folder, str(self.folder))
        config: DictConfig = OmegaConf.create(_patched(moved, without, with_new))
        return config


def _patched(kept: Any, old: Any, new: Any) -> Any:
    """What was kept, with the changes from ``old`` to ``new``; the order of keys is that of ``new``."""
    if old == new:
        return kept
    if not (isinstance(kept, Mapping) and isinstance(old, Mapping) and isinstance(new, Mapping)):
        return new
    if kept.get("_target_") != new.get("_target_") or old.get("_target_") != new.get("_target_"):
        return new  # another class; what was said to the one before means nothing to it
    inherited = {key: value for key, value in kept.items() if key not in old and key not in new}
    patched = {key: _patched(kept[key], old[key], new[key]) if key in kept and key in old else new[key] for key in new}
    return {**patched, **inherited}


def _moved(value: Any, old: str, new: str) -> Any:
    """The same where a run's folder has another place now."""
    if isinstance(value, Mapping):
        return {key: _moved(item, old, new) for key, item in value.items()}
    if isinstance(value, list):
        return [_moved(item, old, new) for item in value]
    inside = isinstance(value, str) and (value == old or value.startswith(f"{old}{os.sep}"))
    return new + value[len(old) :] if inside else value


def _merged(before: Sequence[str], new: Sequence[str]) -> list[str]:
    """Overrides of which a later one of a key replaces an earlier one; a key that was added by then is there to set."""
    by_key = {one.lstrip("+~").partition("=")[0]: one for one in before}
    for one in new:
        key = one.lstrip("+~").partition("=")[0]
        was_added = by_key.pop(key, "").startswith("+")
        by_key[key] = f"++{one}" if was_added and not one.startswith(("+", "~")) else one
    return list(by_key.values())
