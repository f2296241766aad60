"""Which ``_target_`` may be called: every name in a node is resolved, its kind checked, and only then is any called.

A config is data from elsewhere, so it may name classes of the kinds that its place calls for and nothing more:
``os.system``, ``torch.load`` or a method of an allowed class are refused before anything runs. A factory function such
as ``timm.create_model`` is called only where the project allows it by that exact name (`allow`). This guards calls;
importing an installed module to resolve a name is as safe as that module.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from lit_optim.errors import ConfigError, LitOptimError, Mistake, nearest
from lit_optim.names import dotted_name, find, is_dotted, names_of
from lit_optim.schedules import Schedule

__all__ = [
    "allow",
    "allowing",
    "argument_mistakes",
    "callee_of",
    "dotted_name",
    "instantiate",
    "node_mistakes",
    "parameters_of",
    "resolve",
    "target_mistakes",
]

_allowed: set[str] = set()  # factories, each by the one spelling that may be called
_CLASSES_ONLY = "name a class of that kind; a function or a method is never called from a config"
_HOW_TO_ALLOW = (
    "name a class of that kind; a function is called only where the project's pyproject.toml allows it by this very "
    'name: [tool.lit-optim] allow = ["{}"]'
)
_HYDRA_KEYS = {
    "_args_": "give the arguments by name, beside _target_",
    "_partial_": "remove it; the target is called once, with the arguments beside it",
    "_convert_": "remove it; arguments are plain lists and mappings as they are",
    "_recursive_": "remove it; nodes inside the arguments are built first, always",
}


def allow(*names: str) -> None:
    """Let configs call these factories for the rest of the process; `allowing` does so for a block.

    This is for the owner of the project to say: no config and no command line reaches it. A name allows this one
    spelling, so ``timm.create_model`` doesn't allow ``timm.models.create_model``. An allowed function gets whatever
    arguments a config holds, and what it returns can be checked only once it has run: allow what builds an object and
    does nothing else.

    Args:
        names: Dotted names, as a config would write them under ``_target_``.

    Raises:
        ConfigError: A name that is not dotted; none of the names is allowed then.
    """
    wrong = [name for name in names if not is_dotted(name)]
    if wrong:
        remedy = "for example timm.create_model"
        raise ConfigError(*(Mistake("allow", "this is no dotted name", repr(name), remedy=remedy) for name in wrong))
    _allowed.update(names)


@contextmanager
def allowing(*names: str) -> Iterator[None]:
    """`allow` inside a block; after it the allowed names are those of before, whatever the block allowed itself."""
    before = frozenset(_allowed)
    try:
        allow(*names)
        yield
    finally:
        _allowed.clear()
        _allowed.update(before)


def resolve(target: object, kinds: tuple[type, ...], key: str) -> type[Any]:
    """The class that a dotted name stands for, if it is of one of the kinds; never a function, allowed or not.

    Args:
        target: A dotted name, ``"torch.optim.AdamW"``.
        kinds: The class must be one of these or a subclass of one, and not abstract.
        key: The config key of the node, for the message.

    Raises:
        ConfigError: Nothing of that name, or something of another kind.
    """
    key = _below(key, "_target_")
    return _of_kind(find(target, kinds, key), target, kinds, key)


def instantiate(
    node: Mapping[str, Any], kinds: tuple[type, ...], key: str, nested: tuple[type, ...] | None = None, **more: Any
) -> Any:
    """Build what a config node names; nodes inside its arguments are built first, under the same check.

    Nothing is called before every target in the node has been checked, and the names of all arguments.

    Args:
        node: ``_target_`` and the arguments of the class or the allowed factory, as plain containers.
        kinds: What may be built here. What a factory returns is held against it after the call.
        key: The config key of the node, for messages.
        nested: What may be built inside its arguments; the same kinds if not given.
        more: Arguments that the caller supplies beside the node's own.

    Raises:
        ConfigError: Targets that may not be called, or arguments that they don't take or refuse; all that can be said
            without a call is said at once.
    """
    reader = _Reader(kinds if nested is None else nested)
    call = reader.node(node, kinds, key, more)
    if reader.refused or reader.unfit:
        raise ConfigError(*reader.refused, *reader.unfit)
    return _built(call)


def node_mistakes(
    node: Mapping[str, Any], kinds: tuple[type, ...], key: str, nested: tuple[type, ...] | None = None, **more: Any
) -> list[Mistake]:
    """All that `instantiate` would refuse before it calls anything."""
    reader = _Reader(kinds if nested is None else nested)
    reader.node(node, kinds, key, more)
    return [*reader.refused, *reader.unfit]


def callee_of(
    node: Mapping[str, Any], kinds: tuple[type, ...], key: str, nested: tuple[type, ...] | None = None
) -> Callable[..., Any]:
    """The class or the allowed factory that `instantiate` would call, its arguments not yet looked at.

    Raises:
        ConfigError: With every target in the node that may not be called.
    """
    reader = _Reader(kinds if nested is None else nested)
    call = reader.node(node, kinds, key, {})
    if reader.refused or call is None:
        raise ConfigError(*reader.refused)
    return call.callee


def target_mistakes(value: object, key: str) -> list[Mistake]:
    """Every ``_target_`` at any depth of a value that has to be plain data, such as a hyperparameter's."""
    mistakes: list[Mistake] = []
    if isinstance(value, Mapping) and "_target_" in value:
        problem = "a hyperparameter is plain data; nothing is called here"
        remedy = "write the value itself"
        mistakes.append(Mistake(_below(key, "_target_"), problem, repr(value["_target_"]), remedy=remedy))
    _mapped(value, lambda name, item: mistakes.extend(target_mistakes(item, _below(key, name))))
    return mistakes


def parameters_of(callee: Callable[..., Any]) -> Mapping[str, inspect.Parameter] | None:
    """The parameters by name; None of a built-in that doesn't tell."""
    try:
        return inspect.signature(callee).parameters
    except (TypeError, ValueError):
        return None


def argument_mistakes(
    callee: Callable[..., Any], arguments: Mapping[str, Any], key: str, name: str | None = None
) -> list[Mistake]:
    """What is wrong with the names of ``arguments``: those that it doesn't take, those that it needs and lacks.

    Args:
        callee: A class or a function.
        arguments: By name.
        key: The config key of the node.
        name: What to call it in messages; its dotted name if not given.
    """
    parameters = parameters_of(callee)
    if parameters is None:
        return []
    name = dotted_name(callee) if name is None else name
    any_name = any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters.values())
    takes = [
        parameter.name
        for parameter in parameters.values()
        if parameter.kind not in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD)
    ]
    unknown = [
        Mistake(
            _below(key, argument),
            f"{name} has no argument {argument!r}",
            given=repr(arguments[argument]),
            allowed=tuple(takes),
            nearest=nearest(argument, takes),
            remedy="rename or remove it",
        )
        for argument in arguments
        if argument not in takes and not any_name
    ]
    missing = [
        Mistake(_below(key, argument), f"{name} needs {argument!r}", remedy=f"set {_below(key, argument)}")
        for argument in takes
        if parameters[argument].default is inspect.Parameter.empty and argument not in arguments
    ]
    return unknown + missing


def _callee(target: object, kinds: tuple[type, ...], key: str) -> Callable[..., Any]:
    """The class of one of the kinds, or what is allowed by this very name."""
    key = _below(key, "_target_")
    is_allowed = isinstance(target, str) and target in _allowed
    found = find(target, kinds, key, through_objects=is_allowed)
    if is_allowed and callable(found) and not (isinstance(found, type) and issubclass(found, kinds)):
        return found
    return _of_kind(found, target, kinds, key, factories=True)


def _of_kind(found: object, target: object, kinds: tuple[type, ...], key: str, factories: bool = False) -> type[Any]:
    """``found``, if it is a class of one of the kinds that can be made."""
    _refuse_a_twin(found, kinds, key, str(target))
    if not isinstance(found, type) or not issubclass(found, kinds):
        near: tuple[str, ...] = ()
        remedy = _CLASSES_ONLY
        if factories and callable(found) and not isinstance(found, type):
            remedy, near = _HOW_TO_ALLOW.format(target), nearest(str(target), _allowed)
            if Schedule in kinds and inspect.isfunction(found):
                remedy = f"put @lit_optim.schedules.schedule above it if it is a function of the step, or {remedy}"
        problem = f"{target} is not a {names_of(kinds)}, so a config may not call it"
        raise ConfigError(Mistake(key, problem, given=str(target), nearest=near, remedy=remedy))
    if inspect.isabstract(found):
        lacking = ", ".join(sorted(getattr(found, "__abstractmethods__", ())))
        remedy = "name a subclass that implements it, or implement it"
        raise ConfigError(Mistake(key, f"{target} doesn't implement {lacking}", given=str(target), remedy=remedy))
    return found


def _refuse_a_twin(found: object, kinds: tuple[type, ...], key: str, given: str) -> None:
    """Refuse what derives from Lightning's other package, whose LightningModule is to this one a network like any."""
    names = {"LightningModule", *(kind.__name__ for kind in kinds)}
    for base in found.__mro__ if isinstance(found, type) else ():
        if base.__module__.startswith("pytorch_lightning.") and base.__name__ in names:
            problem = f"this is a {base.__name__} of pytorch_lightning"
            raise ConfigError(Mistake(key, problem, given, remedy="import it from lightning.pytorch"))


@dataclass(frozen=True)
class _Call:
    """A node whose target may be called; those inside its arguments are `_Call`s too."""

    callee: Callable[..., Any]
    name: str
    arguments: Mapping[str, Any]
    more: Mapping[str, Any]
    kinds: tuple[type, ...]
    key: str


@dataclass
class _Reader:
    """Walks a tree of nodes, calls nothing, and notes what is wrong."""

    nested: tuple[type, ...]
    refused: list[Mistake] = field(default_factory=list)  # what may not be called
    unfit: list[Mistake] = field(default_factory=list)  # names of arguments

    def node(self, node: Mapping[str, Any], kinds: tuple[type, ...], key: str, more: Mapping[str, Any]) -> _Call | None:
        if not isinstance(node, Mapping):
            remedy = "give a class (_target_) and its arguments, or null to leave it out"
            self.refused.append(Mistake(key, "a mapping is needed", repr(node), remedy=remedy))
            return None
        target = node.get("_target_")
        callee: Callable[..., Any] | None = None
        try:
            callee = _callee(target, kinds, key)
        except ConfigError as error:
            self.refused += error.mistakes
        problem = "this key is Hydra's, and it isn't Hydra that builds this"
        self.refused += [
            Mistake(_below(key, name), problem, repr(node[name]), remedy=remedy)
            for name, remedy in _HYDRA_KEYS.items()
            if name in node
        ]
        own = {str(name): item for name, item in node.items() if name != "_target_" and name not in _HYDRA_KEYS}
        arguments = {name: self._value(item, _below(key, name)) for name, item in own.items()}
        if callee is None:
            return None
        name = dotted_name(callee) if isinstance(callee, type) else str(target)
        self.unfit += argument_mistakes(callee, {**own, **more}, key, name)
        return _Call(callee, name, arguments, more, kinds, key)

    def _value(self, value: Any, key: str) -> Any:
        if isinstance(value, Mapping) and "_target_" in value:
            return self.node(value, self.nested, key, {})
        return _mapped(value, lambda name, item: self._value(item, _below(key, name)))


def _built(value: Any) -> Any:
    """``value`` with every call in it made, the innermost first."""
    if not isinstance(value, _Call):
        return _mapped(value, lambda _, item: _built(item))
    arguments = {name: _built(item) for name, item in value.arguments.items() if name not in value.more}
    try:
        built = value.callee(**arguments, **value.more)
    except LitOptimError as error:
        raise type(error)(*(m if "." in m.key else m.under(value.key) for m in error.mistakes)) from error
    except Exception as error:  # whatever a constructor may raise, the user needs to know which node it was
        problem = f"{value.name} refused its arguments: {type(error).__name__}: {error}"
        raise ConfigError(Mistake(value.key, problem, remedy="see its documentation for what it takes")) from error
    _refuse_a_twin(type(built), value.kinds, value.key, value.name)
    if not isinstance(built, value.kinds):
        problem = f"{value.name} returned {type(built).__name__}, which is no {names_of(value.kinds)}"
        raise ConfigError(Mistake(value.key, problem, remedy=f"name what makes a {names_of(value.kinds)}"))
    return built


def _mapped(value: Any, change: Callable[[object, Any], Any]) -> Any:
    """The value with its items changed, each given with its name or its place; what holds no items as it is."""
    if isinstance(value, Mapping):
        return {name: change(name, item) for name, item in value.items()}
    if isinstance(value, Sequence) and not isinstance(value, (str, bytes)):
        return [change(index, item) for index, item in enumerate(value)]
    return value


def _below(key: str, name: object) -> str:
    return f"{key}.{name}" if key else str(name)
