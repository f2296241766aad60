"""A schedule out of a function."""

from __future__ import annotations

import dataclasses
import inspect
from collections.abc import Callable
from typing import Any, cast

from lit_optim.durations import Horizon
from lit_optim.schedules.base import Curve, Schedule

__all__ = ["schedule"]

_GIVEN = ("step", "start", "horizon")  # what a function may ask for; all other parameters are for the config to set


def schedule(function: Callable[..., float]) -> type[Schedule]:
    """Make a `Schedule` of a function from the step to the value, as a decorator: a config can name it then.

    Args:
        function: Takes ``step`` and, if it wants them, ``start`` (the group's own value) and ``horizon`` (the run), by
            these names; returns the value that the step uses. Its other parameters are what a config may set. It has to
            be pure: the plan calls it in any order.

    Returns:
        A class of the function's name and module, to be named as ``_target_``, with the other parameters as fields.

    Raises:
        TypeError: No parameter ``step``, or one that can't be given by name.

    >>> @schedule
    ... def halving(step, start, every=50):
    ...     return start * 0.5 ** (step // every)
    >>> halving(every=10).curve(1.0, Horizon(100))(20)
    0.25
    """
    parameters = inspect.signature(function).parameters
    by_name = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
    fits = all(parameter.kind in by_name and not hasattr(Schedule, name) for name, parameter in parameters.items())
    if "step" not in parameters or not fits:
        raise TypeError(
            f"{function.__qualname__}{inspect.signature(function)} can't be a schedule: it needs a parameter 'step', "
            "may have 'start' and 'horizon', and takes all others by name, none of them called 'curve'"
        )
    given = [name for name in _GIVEN if name in parameters]

    def curve(self: Any, start: float, horizon: Horizon) -> Curve:
        known = {"start": start, "horizon": horizon}
        fixed = {name: known[name] for name in given if name in known} | {
            field.name: getattr(self, field.name) for field in dataclasses.fields(self)
        }
        return lambda step: function(step=step, **fixed)

    own = [
        (name, Any, dataclasses.field(**_default(parameter)))
        for name, parameter in parameters.items()
        if name not in given
    ]
    kept = {name: getattr(function, name) for name in ("__doc__", "__module__", "__qualname__")}
    made = dataclasses.make_dataclass(
        function.__name__,
        own,
        bases=(Schedule,),
        namespace={**kept, "curve": curve},
        frozen=True,
        kw_only=True,
    )
    return cast("type[Schedule]", made)


def _default(parameter: inspect.Parameter) -> dict[str, Any]:
    value = parameter.default
    if value is inspect.Parameter.empty:
        return {}
    return {"default_factory": lambda: value}  # also where it is a list, which a dataclass refuses as a default
