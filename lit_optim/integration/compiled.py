"""Networks compiled in place, and weights of a compiled model for one that isn't, and the other way round."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any
from weakref import WeakSet

from torch import nn
from torchmetrics import Metric

from lit_optim.errors import ConfigError, Mistake, nearest

__all__ = ["accept_compiled", "compile_arguments", "compile_networks"]

_KINDS: dict[str, tuple[type, ...]] = {  # of the arguments of torch.compile that a config may say
    "mode": (str,),
    "dynamic": (bool, type(None)),
    "fullgraph": (bool,),
    "backend": (str,),
}
_LISTS = (nn.ModuleList, nn.ModuleDict)

_known: WeakSet[nn.Module] = WeakSet()
_WRAPPER = "_orig_mod"  # what torch.compile puts into the names below it


def compile_networks(module: nn.Module, how: object, key: str) -> None:
    """Have ``torch.compile`` run each network that a module holds, from its next call on.

    They are compiled in place, so that parameters keep their names: a recipe matches what it matched, and a checkpoint
    fits whether it was compiled or not. Metrics are left as they are.

    Args:
        module: Holds the networks as its attributes.
        how: As for `compile_arguments`.
        key: The config key that says so.

    Raises:
        ConfigError: Of `compile_arguments`.
    """
    arguments = compile_arguments(how, key)
    if arguments is not None:
        for network in _networks(module):
            network.compile(**arguments)


def compile_arguments(how: object, key: str) -> Mapping[str, Any] | None:
    """What a config says to ``torch.compile``, once that takes it; None where nothing is to be compiled.

    Args:
        how: True or False, or a mapping with ``mode``, ``dynamic``, ``fullgraph`` or ``backend``.
        key: The config key that says so.

    Raises:
        ConfigError: Another value; or there is no C++ compiler, which torch's own backend can't do without.
    """
    if how is None or how is False:
        return None
    arguments = {} if how is True else how
    if not isinstance(arguments, Mapping):
        remedy = f"for example {key}=true, or '{key}={{mode: max-autotune}}'"
        raise ConfigError(Mistake(key, "true, false or a mapping is needed", repr(how), remedy=remedy))
    mistakes = [*_argument_mistakes(arguments, key)]
    if not mistakes and arguments.get("backend", "inductor") == "inductor":
        mistakes += _compiler_mistakes(key)
    if mistakes:
        raise ConfigError(*mistakes)
    from torch._dynamo.exc import TorchDynamoException  # takes a second to import

    try:
        nn.Identity().compile(**arguments)  # which does nothing before its first call
    except (RuntimeError, TorchDynamoException) as error:  # of a mode or backend that it doesn't know
        problem = f"torch.compile refuses this: {str(error).splitlines()[0]}"
        raise ConfigError(Mistake(key, problem, repr(how), remedy="correct the value")) from error
    return arguments


def _networks(module: nn.Module) -> Iterator[nn.Module]:
    for child in module.children():
        if isinstance(child, _LISTS):
            yield from _networks(child)
        elif not isinstance(child, Metric):
            yield child


def _argument_mistakes(arguments: Mapping[Any, Any], key: str) -> list[Mistake]:
    mistakes = []
    for name, value in arguments.items():
        if name not in _KINDS:
            problem, near = "torch.compile has no such argument here", nearest(str(name), _KINDS)
            mistakes.append(
                Mistake(f"{key}.{name}", problem, repr(value), tuple(_KINDS), near, "correct the name or remove it")
            )
        elif not isinstance(value, _KINDS[name]):
            kinds = " or ".join(kind.__name__ for kind in _KINDS[name])
            mistakes.append(Mistake(f"{key}.{name}", f"a {kinds} is needed", repr(value), remedy="correct the value"))
    return mistakes


def _compiler_mistakes(key: str) -> list[Mistake]:
    from torch._inductor.cpp_builder import get_cpp_compiler  # takes a second to import
    from torch._inductor.exc import InvalidCxxCompiler

    try:
        get_cpp_compiler()
    except InvalidCxxCompiler:
        remedy = f"install g++, or name a compiler in the environment variable CXX, or train without ({key}=false)"
        return [Mistake(key, "torch.compile needs a C++ compiler, and none was found", remedy=remedy)]
    return []


def accept_compiled(module: nn.Module) -> None:
    """Let a module load a state dict whose names differ from its own by what ``torch.compile`` adds to them.

    Args:
        module: Parts of it may be compiled, or may have been when the state was saved.
    """
    if module not in _known:
        _known.add(module)
        module.register_load_state_dict_pre_hook(_rename)  # type: ignore[no-untyped-call]


def _rename(module: nn.Module, state: dict[str, Any], prefix: str, *_: Any) -> None:
    own = {_plain(prefix + name): prefix + name for name in module.state_dict()}
    for name in [*state]:
        mine = own.get(_plain(name), name)
        if mine != name and mine not in state:
            state[mine] = state.pop(name)


def _plain(name: str) -> str:
    return ".".join(part for part in name.split(".") if part != _WRAPPER)
