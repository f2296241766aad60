"""JSON Schema of a recipe, by which an editor completes, explains and checks it while it is written.

It is as strict as one key at a time can be, and refuses nothing sound: what depends on two keys is for the recipe to
refuse, what depends on a model for the planner. An interpolation (``${optimizer.lr}``) may stand for any value. A node
lists several types, each with its own limits, in place of ``anyOf``: mistakes are then told where they stand.
"""

from __future__ import annotations

import copy
import dataclasses
import inspect
import re
from collections.abc import Mapping, Sequence
from types import NoneType, UnionType
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

from lit_optim import schedules
from lit_optim.durations import Duration
from lit_optim.schedules import Schedule

__all__ = ["recipe_schema"]

_Node = dict[str, Any]


def recipe_schema() -> dict[str, Any]:
    """The JSON Schema of a recipe (draft 2020-12), as plain containers.

    The classes of `lit_optim.schedules`, their arguments and what is said of them are read off the classes themselves.

    Returns:
        A new mapping at each call, always the same; whatever a recipe may hold has a ``description`` in it.
    """
    public = [getattr(schedules, name) for name in schedules.__all__]
    classes = [item for item in public if inspect.isclass(item) and not inspect.isabstract(item)]
    own = {f"{schedules.__name__}.{cls.__name__}": cls for cls in classes if issubclass(cls, Schedule)}
    arguments = {name: _arguments(name, cls) for name, cls in own.items()}
    return copy.deepcopy({**_RECIPE, "$defs": {**_DEFINITIONS, "schedule": _schedule(arguments), **arguments}})


def _ref(name: str, description: str | None = None) -> _Node:
    return {"$ref": f"#/$defs/{name}"} | ({} if description is None else {"description": description})


def _name(description: str) -> _Node:
    return {"description": description, "type": ["string"], "minLength": 1}


def _form(what: str, kind: str, pattern: str | None = None, **limits: Any) -> _Node:
    """A value of one kind, or text: that of the pattern, or an interpolation."""
    return {
        "description": f"{what[0].upper()}{what[1:]}.",
        "type": [kind, "string"],
        "pattern": r"\$\{.+\}" if pattern is None else rf"^\s*{pattern}\s*$|\$\{{.+\}}",
        "patternErrorMessage": f"Expected {what}.",  # what editors show in place of the pattern
        **limits,
    }


def _or_null(node: _Node) -> _Node:
    return {**node, "type": [*node["type"], "null"]}


def _or_list(node: _Node) -> _Node:
    text = f"{node['description']} Of a list, one must hold."
    return {**node, "description": text, "type": [*node["type"], "array"], "minItems": 1, "items": node}


def _by_name(description: str, node: _Node, **limits: Any) -> _Node:
    return {"description": description, "type": ["object", "null"], "additionalProperties": node, **limits}


def _suggesting(known: Mapping[str, str], other: str, **limits: Any) -> _Node:
    """Words that an editor offers, each with its description, beside any other within the limits."""
    offered = [{"const": word, "description": text} for word, text in known.items()]
    return {"anyOf": [*offered, {"description": other, **limits}]}


_LENGTHS = '500 or "500steps" (optimizer steps), "2epochs", or "5%" of the run'
_DURATION = _form(
    _LENGTHS, "integer", r"(([0-9]+(\.0*)?|\.0+)\s*steps?|([0-9]+(\.[0-9]*)?|\.[0-9]+)\s*(epochs?|%))", minimum=0
)
_COUNT = _form('a number, or a comparison such as "<=1"', "integer", r"(<=|>=|<|>|==)?\s*[0-9]+", minimum=0)
_BOOLEAN = _form("true or false", "boolean")
_NUMBER = _form("a number", "number")

_HYDRAS_OWN = "_(.*_)?$"  # _partial_, _convert_ and the like
_VALUE: _Node = {
    "description": "The value of a hyperparameter: a number, text, true, false, null, or a list of these.",
    "type": ["number", "string", "boolean", "null", "array"],
    "items": {"description": "One item of the list.", "type": ["number", "string", "boolean", "null"]},
}
_OPTIMIZER: _Node = {
    "description": "An optimizer: its class and its hyperparameters.",
    "type": ["object", "null"],
    "required": ["_target_"],
    "properties": {
        "_target_": {
            "description": "The dotted name of the class: torch.optim.AdamW, or one of your own.",
            "type": "string",
            "examples": ["torch.optim.AdamW", "torch.optim.SGD", "torch.optim.Muon", "torch.optim.Adam"],
        }
    },
    "patternProperties": {f"^(?!_target_$){_HYDRAS_OWN}": False},
    "additionalProperties": _ref("value", "A hyperparameter of the class: lr, weight_decay, betas, …"),
}
_KINDS = {
    "norm": "Normalization layers: BatchNorm, LayerNorm, GroupNorm, RMSNorm and their like.",
    "embedding": "Embedding tables.",
    "linear": "Linear layers.",
    "conv": "Convolutions of any number of dimensions.",
    "depthwise_conv": "Convolutions in which each channel has filters of its own.",
    "head": "The layer that makes the model's output.",
}
_CLASS = "The name of a class (LayerNorm) or its dotted name (torch.nn.LayerNorm); subclasses count too."
_MODULE = _name("What kind of module holds the parameter: a class, or one of the words that stand for several.")
_MATCH: _Node = {
    "description": "A glob on the parameter's name (head, layer.[02], *.bias), in which a module's name stands for all "
    "below it and ^ for the root; a mapping, whose keys must all hold; or a list, of which one must.",
    "type": ["string", "object", "array"],
    "minLength": 1,
    "minItems": 1,
    "items": _ref("match"),
    "minProperties": 1,
    "properties": {
        "name": _or_list(_name("A glob on the parameter's name.")),
        "regex": _or_list(_name("A regular expression for the whole of the parameter's name.")),
        "module": _or_list(_MODULE | _suggesting(_KINDS, _CLASS)),
        "ndim": _or_list({**_COUNT, "description": 'How many dimensions the parameter has: 2, or "<=1".'}),
        "numel": _or_list({**_COUNT, "description": 'How many elements the parameter has: 10, or ">1000".'}),
        "not": _ref("match", "What must not match."),
        "any": _ref("match", "A further match, usually a list, of which one must hold."),
    },
    "additionalProperties": False,
}
_RATE = _form("a number above 0, at most 1", "number", exclusiveMinimum=0, maximum=1)
_ORDER = "The layers from the input to the output; where they are not given, the model itself tells them."
_LAYER = _name("A glob, in which # stands for a number: stem, blocks.#, head.")
_LEAST = _form("a number from 0 to 1: the least factor that a layer gets", "number", minimum=0, maximum=1)
_LAYER_DECAY: _Node = {
    **_RATE,
    "description": "A learning rate that shrinks by this factor, such as 0.75, with every layer away from the output; "
    "or a mapping that says more.",
    "type": ["number", "string", "object", "null"],
    "required": ["rate"],
    "properties": {
        "rate": {**_RATE, "description": "The factor from one layer to the one before it, above 0 and at most 1."},
        "order": {"description": _ORDER, "type": ["array", "null"], "minItems": 1, "items": _LAYER},
        "min_factor": _LEAST,
    },
    "additionalProperties": False,
}
_FACTOR = {**_NUMBER, "description": "What the hyperparameter is multiplied by."}
_NORM = {
    **_form("a number above 0", "number", exclusiveMinimum=0),
    "description": "What the norm of the gradients of each of its groups is clipped to, above 0; .inf for not at all.",
}
_UNTIL = f"How long these parameters stay as they are before they train: {_LENGTHS}."
_RULE: _Node = {
    "description": "Which parameters it is for, and what it sets for them: hyperparameters (lr: 0.01) and the keys "
    "below. null removes the rule.",
    "type": ["object", "null"],
    "required": ["match"],
    "minProperties": 2,
    "properties": {
        "match": _ref("match", "Which parameters the rule is for."),
        "multiply": _by_name("Factors by hyperparameter, applied once all rules have set their values.", _FACTOR),
        "optimizer": _ref("optimizer", "The optimizer of these parameters."),
        "schedule": _by_name("Schedules by hyperparameter, in place of the recipe's.", _ref("schedule")),
        "freeze": {**_or_null(_BOOLEAN), "description": "true keeps these parameters as they are all run long."},
        "freeze_until": {**_or_null(_DURATION), "description": _UNTIL},
        "layer_decay": _ref("layer_decay"),
        "clip_norm": _or_null(_NORM),
    },
    "patternProperties": {f"^{_HYDRAS_OWN}": False},
    "additionalProperties": _ref("value", "A hyperparameter that the rule sets: lr, weight_decay, betas, …"),
}
_RULES = "Rules by name. All that match a parameter apply, from top to bottom; a later value wins over an earlier one."
_NAMING = "letters, digits, _ and -, no digit or - in front, and neither default nor frozen"
_RULE_NAME = "^(?!(default|frozen)$)[A-Za-z_][A-Za-z0-9_-]*$"
_NAMED = {**_name(f"A rule's name: {_NAMING}."), "pattern": _RULE_NAME, "patternErrorMessage": f"Expected {_NAMING}."}
_SIZE = "The global batch that the learning rates are written for; they are scaled to that of the run. null: they stay."
_WAY: _Node = {
    "description": "How they are scaled: linear (by the ratio of the batches) or sqrt (by its square root).",
    "type": ["string"],
    "pattern": r"^(linear|sqrt)$|\$\{.+\}",
    "patternErrorMessage": "Expected linear or sqrt.",
    "default": "linear",
}
_RECIPE: _Node = {
    "$schema": "https://json-schema.org/draft/2020-12/schema",
    "title": "lit-optim recipe",
    "description": "With which optimizers, hyperparameters and schedules the parts of a model are trained.",
    "type": "object",
    "properties": {
        "optimizer": _ref("optimizer", "The optimizer of all parameters for which no rule names another."),
        "rules": _by_name(_RULES, _ref("rule"), propertyNames=_NAMED),
        "schedule": _by_name("Schedules by hyperparameter, for every group that has it.", _ref("schedule")),
        "lr_batch_size": _or_null(
            {**_form("a whole number of at least 1", "integer", minimum=1), "description": _SIZE}
        ),
        "lr_batch_scaling": _or_null(_WAY),
    },
    "additionalProperties": False,
}
_TORCH_SCHEDULER: _Node = {
    "description": "A scheduler of torch's with its arguments but for the optimizer, and what steps it.",
    "properties": {
        "interval": {
            "description": "What it is stepped by: optimizer steps, or epochs of them.",
            "type": ["string"],
            "pattern": r"^(step|epoch)$|\$\{.+\}",
            "patternErrorMessage": "Expected step or epoch.",
            "default": "step",
        },
        "frequency": {
            **_form("a whole number", "integer", minimum=1),
            "description": "After how many optimizer steps, or epochs, it is stepped again.",
            "default": 1,
        },
        "monitor": _name("The metric that ReduceLROnPlateau looks at, as it is logged: val/loss."),
        "optimizer": False,
        "last_epoch": False,
    },
}
_DEFINITIONS = {
    "optimizer": _OPTIMIZER,
    "value": _VALUE,
    "rule": _RULE,
    "match": _MATCH,
    "layer_decay": _LAYER_DECAY,
    "torch_scheduler": _TORCH_SCHEDULER,
}


def _schedule(arguments: Mapping[str, _Node]) -> _Node:
    elsewhere = {"not": {"pattern": rf"^{re.escape(schedules.__name__)}\.\w+$"}}  # or it is one of ours, misspelled
    summaries = {name: node["description"] for name, node in arguments.items()}
    target = _suggesting(summaries, "A Schedule of your own.", **elsewhere)
    description = (
        "The dotted name of the class: lit_optim.schedules.Cosine, torch.optim.lr_scheduler.StepLR, or one of your own."
    )
    return {
        "description": "How the hyperparameter moves over the run: a class and its arguments; null for not at all.",
        "type": ["object", "null"],
        "required": ["_target_"],
        "properties": {"_target_": {"description": description, "type": "string", **target}},
        "allOf": [
            *(_where({"const": name}, name) for name in arguments),
            _where({"pattern": r"^torch\.optim\.lr_scheduler\."}, "torch_scheduler"),
        ],
    }


def _where(target: _Node, definition: str) -> _Node:
    return {"if": {"properties": {"_target_": target}, "required": ["_target_"]}, "then": _ref(definition)}


def _arguments(name: str, cls: Any) -> _Node:
    """What may stand beside ``_target_``: the fields of the dataclass, as its docstring describes them."""
    summary, texts = _told(cls)
    hints, required = get_type_hints(cls), ["_target_"]
    properties: _Node = {"_target_": {"const": name, "description": summary}}
    for field in dataclasses.fields(cls):
        node = _accepted(hints[field.name])
        properties[field.name] = {**node, "description": f"{texts[field.name]} {node['description']}"}
        if isinstance(field.default, (bool, int, float, str)):
            properties[field.name]["default"] = field.default
        elif field.default is field.default_factory is dataclasses.MISSING:
            required.append(field.name)
    return {"description": summary, "required": required, "properties": properties, "additionalProperties": False}


_FORMS = {
    frozenset({float}): _NUMBER,
    frozenset({int}): _form("a whole number", "integer"),
    frozenset({bool}): _BOOLEAN,
    frozenset({str}): _name("Text."),
    frozenset(get_args(Duration)): _DURATION,
    frozenset({Schedule}): _ref("schedule", "A schedule of its own: a class and its arguments."),
}


def _accepted(hint: Any) -> _Node:
    """What an annotation stands for; one that is not foreseen here, for anything."""
    kinds = frozenset(get_args(hint) if get_origin(hint) in (Union, UnionType) else (hint,)) - {NoneType}
    if kinds in _FORMS:
        node = _FORMS[kinds]
    elif len(kinds) == 1 and get_origin(*kinds) is Literal:
        words = get_args(*kinds)
        node = {**_form(" or ".join(words), "string", f"({'|'.join(words)})"), "type": ["string"]}
    elif len(kinds) == 1 and get_origin(*kinds) in (Sequence, list, tuple):
        node = {"description": "A list.", "type": ["array"], "items": _accepted(get_args(*kinds)[0])}
    else:
        return {"description": "Any value."}
    return _or_null(node) if NoneType in get_args(hint) else node


def _told(cls: type) -> tuple[str, dict[str, str]]:
    """The first sentence of a class's docstring and what it says of each argument, without marks."""
    texts: dict[str, str] = {}
    for base in reversed(cls.__mro__):
        section = _unmarked(base).partition("\nArgs:\n")[2].partition("\n\n")[0]
        found = re.findall(r"^ {4}(\w+): (.+(?:\n {8}.+)*)", section, re.MULTILINE)
        texts |= {name: " ".join(text.split()) for name, text in found}
    return " ".join(_unmarked(cls).partition("\n\n")[0].split()), texts


def _unmarked(cls: type) -> str:
    """The docstring of a class, its formulas as text."""
    doc = re.sub(r":math:`([^`]*)`", r"\1", inspect.cleandoc(cls.__doc__ or ""))
    doc = doc.replace(r"\cdot", "·").replace("``", "`")
    return re.sub(r"\\mathrm\{([^}]*)\}", r"\1", doc).replace(r"\_", "_")
