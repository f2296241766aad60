"""The ``lit-optim`` command: its verbs, each in a file of its own that is imported when it is called."""

from __future__ import annotations

import importlib
import io
import os
import sys
from collections.abc import Sequence

__all__ = ["main"]

_VERBS = {
    "train": "train and test a model, recording every step",
    "plan": "show what a recipe will do, and train nothing",
    "resume": "go on with a run, in its own folder",
    "lr-find": "sweep the learning rate, and suggest one",
    "compare": "tell which of your runs was best, and what differed",
    "schema": "print the JSON Schema of a recipe, for editors",
}


def main(argv: Sequence[str] | None = None) -> int:
    """Run one verb.

    Args:
        argv: The command line after the program's name; that of the process if not given.

    Returns:
        The exit code: 0 for success, 1 for a refusal or a failed run.
    """
    arguments = list(sys.argv[1:] if argv is None else argv)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")  # an arrow in the plan must not end a run
    verb = arguments[0] if arguments else "--help"
    if verb in _VERBS:
        run = importlib.import_module(f"lit_optim.cli.{verb.replace('-', '_')}").run
        try:
            code = int(run(arguments[1:]))
            sys.stdout.flush()
        except BrokenPipeError:  # whoever reads, `head` say, has seen enough
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # or the interpreter's last flush fails too
            return 1
        return code
    if verb in ("-h", "--help", "help"):
        print(_usage())
        return 0
    if verb == "--version":
        from importlib.metadata import version

        print(version("lit-optim"))
        return 0
    from lit_optim.errors import Mistake, nearest

    near = nearest(verb, _VERBS)
    remedy = "name the verb first: lit-optim train [overrides]; lit-optim --help tells more"
    print(Mistake("lit-optim", "no such verb", verb, tuple(_VERBS), near, remedy), file=sys.stderr)
    return 1


def _usage() -> str:
    lines = [f"  {verb:<8} {purpose}" for verb, purpose in _VERBS.items()]
    return "\n".join(
        [
            "usage: lit-optim VERB [options] [overrides]",
            "",
            *lines,
            "",
            "Overrides are Hydra's: lit-optim train optimizer=sgd optimizer.lr=0.1 trainer.max_epochs=5",
            "New keys under optimizer., rules. and schedule. need no '+'. A sweep: lit-optim train -m seed=1,2,3",
            "lit-optim VERB --help lists the config groups; lit-optim train --cfg job prints the config.",
        ]
    )
