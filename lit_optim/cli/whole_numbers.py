"""Numbers of epochs, steps, devices and samples are whole: what a constructor says so of is held to it."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Mapping
from typing import Any, get_args

from lit_optim.errors import Mistake

__all__ = ["whole_number_mistakes"]


def whole_number_mistakes(callee: Callable[..., Any], arguments: Mapping[str, Any], key: str) -> Iterator[Mistake]:
    """Fractions, truth values and text where the annotation takes ``int`` and nothing like them.

    Most constructors don't look: a Trainer of 1.5 epochs, or of ``true`` epochs, fails late or trains for one.

    Args:
        callee: A class or a function; what it doesn't annotate, or annotates with names that can't be read, may be
            anything.
        arguments: By name.
        key: The config key of the node.
    """
    try:
        parameters = inspect.signature(callee, eval_str=True).parameters
    except (TypeError, ValueError, NameError, AttributeError, SyntaxError):
        return
    for name, value in arguments.items():
        annotation = parameters[name].annotation if name in parameters else None
        kinds = get_args(annotation) or (annotation,)
        if int in kinds and type(value) in (bool, float, str) and type(value) not in kinds:
            problem, allowed = "a whole number is needed", "an integer"
            if float in kinds:
                problem, allowed = "a number is needed", "a number"
            yield Mistake(f"{key}.{name}", problem, repr(value), (allowed,), remedy="correct the value")
