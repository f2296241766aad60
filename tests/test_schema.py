"""The schema says what the reader says: the same keys, the same values, the same refusals, each where it stands."""

from __future__ import annotations

import dataclasses
import inspect
import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from jsonschema import Draft202012Validator
from omegaconf import OmegaConf
from torch.optim import Optimizer

import lit_optim as lo
from lit_optim import schedules
from lit_optim.durations import Duration, malformed
from lit_optim.kinds import KINDS
from lit_optim.matches import MATCH_KEYS, match_mistakes
from lit_optim.recipe import _LAYER_DECAY_KEYS, _RULE_KEYS, _TOP_KEYS
from lit_optim.schedules import Curve, Schedule
from lit_optim.schema import recipe_schema
from lit_optim.targets import instantiate, resolve

ROOT = Path(__file__).parent.parent
SCHEMA = recipe_schema()
DEFINED = SCHEMA["$defs"]
VALIDATOR = Draft202012Validator(SCHEMA)
OWN: dict[str, Any] = {
    f"lit_optim.schedules.{name}": cls
    for name, cls in vars(schedules).items()
    if inspect.isclass(cls) and issubclass(cls, Schedule) and cls is not Schedule
}

DESIGN = """
optimizer:
  _target_: torch.optim.AdamW
  lr: 1e-3
  weight_decay: 0.05
rules:
  no_decay: {match: {ndim: "<=1"}, weight_decay: 0.0}
  backbone: {match: "layer.[02]", multiply: {lr: 0.1}}
  head:     {match: "layer.4", lr: 1e-2}
  hidden:   {match: {module: Linear, ndim: 2, not: "layer.4"}, optimizer: {_target_: torch.optim.Muon, lr: 0.02}}
  stem:     {match: "layer.0", freeze_until: 20%}
schedule:
  lr: {_target_: lit_optim.schedules.WarmupCosine, warmup: 5%, final_factor: 0.0}
  weight_decay: {_target_: lit_optim.schedules.Linear, final_value: 0.2}
"""
EVERY_KEY = """
optimizer: {_target_: my_package.Lion, lr: 1e-4, betas: [0.9, 0.99], fused: null, mode: fast, mixed: [1, true, x, null]}
rules:
  removed: null
  everything:
    match:
      name: [head, "*.bias"]
      regex: '.*\\.weight'
      module: [norm, Linear, my_package.Block]
      ndim: [1, "<=2", " == 3 "]
      numel: ">1000"
      not: {any: [stem, {module: embedding}]}
      any: [{name: "^net.*", numel: 0}, [head, {not: head}]]
    multiply: {lr: 0.1, weight_decay: 2}
    optimizer: {_target_: torch.optim.SGD, lr: 1}
    schedule: {lr: null, momentum: {_target_: my_package.Own, at: [1, 5%], inner: {a: [b]}}}
    freeze_until: .5epochs
    clip_norm: 0.5
    layer_decay: {rate: 0.75, order: [stem, "blocks.#", head], min_factor: 0}
    weight_decay: 0.0
    betas: [0.9, 0.98]
  _frozen-1: {match: [stem], freeze: true}
  kept: {match: "*", freeze: false, freeze_until: null, layer_decay: null, multiply: null, optimizer: null}
  deep: {match: "*", layer_decay: 1, schedule: null, freeze: null}
  from_one_number: {match: "*", layer_decay: {rate: 0.5, order: null}}
schedule:
  lr: {_target_: lit_optim.schedules.Milestones, at: [10, 20steps, "50 %"], values: [0.1, 1], factors: null}
  momentum: {_target_: lit_optim.schedules.Exponential, rate: 2, every: 1 epoch, staircase: true}
  eps: null
lr_batch_size: 256
lr_batch_scaling: sqrt
"""
INTERPOLATED = """
optimizer: {_target_: torch.optim.SGD, lr: 0.1}
rules:
  a:
    match: {ndim: "${rules.a.layer_decay.rate}", name: "${rules.b.match}"}
    multiply: {lr: "${optimizer.lr}"}
    freeze_until: "${schedule.lr.duration}"
    layer_decay: {rate: 1, min_factor: "${optimizer.lr}"}
  b: {match: head, freeze: "${schedule.momentum.staircase}", layer_decay: "${optimizer.lr}"}
schedule:
  lr: {_target_: lit_optim.schedules.Linear, final_value: "${optimizer.lr}", duration: 50%}
  momentum: {_target_: lit_optim.schedules.Exponential, every: "${schedule.lr.duration}", staircase: true}
lr_batch_size: "${rules.a.layer_decay.rate}"
"""


def read(text: str) -> Any:
    """As the reader would read a file, except that interpolations stay."""
    return OmegaConf.to_container(OmegaConf.create(text))


def with_rule(rule: Any, name: str = "a") -> dict[str, Any]:
    return {"optimizer": {"_target_": "C"}, "rules": {name: rule}}


def with_match(match: Any) -> dict[str, Any]:
    return with_rule({"match": match, "lr": 1})


def with_schedule(target: str, **arguments: Any) -> dict[str, Any]:
    return {"optimizer": {"_target_": "C"}, "schedule": {"lr": {"_target_": target, **arguments}}}


def refusals(recipe: Any) -> list[tuple[str, str | None, str]]:
    """Where the schema refuses a recipe, by which keyword, and with what words."""
    return [
        (".".join(map(str, error.absolute_path)), error.validator, error.message)
        for error in VALIDATOR.iter_errors(recipe)
    ]


def parts_of(node: Any, path: str = "#") -> Iterator[tuple[str, dict[str, Any]]]:
    """Every schema inside a schema; a condition (``if``, ``not``) describes nothing, and is left out."""
    if isinstance(node, bool):
        return
    yield path, node
    for keyword in ("properties", "patternProperties", "$defs"):
        for name, part in node.get(keyword, {}).items():
            yield from parts_of(part, f"{path}/{keyword}/{name}")
    for keyword in ("additionalProperties", "propertyNames", "items"):
        if keyword in node:
            yield from parts_of(node[keyword], f"{path}/{keyword}")
    for number, part in enumerate(node.get("anyOf", [])):
        yield from parts_of(part, f"{path}/anyOf/{number}")
    for number, part in enumerate(node.get("allOf", [])):
        yield from parts_of(part["then"], f"{path}/allOf/{number}/then")


# --- the schema itself -----------------------------------------------------------------------------------------------


def test_it_is_a_schema_in_json() -> None:
    Draft202012Validator.check_schema(SCHEMA)
    assert SCHEMA["$schema"] == Draft202012Validator.META_SCHEMA["$id"]
    assert json.loads(json.dumps(SCHEMA, allow_nan=False)) == SCHEMA


def test_it_is_the_same_each_time_and_nobody_else_s() -> None:
    one = recipe_schema()
    assert json.dumps(one) == json.dumps(SCHEMA)
    one["properties"]["rules"].clear()
    one["$defs"]["value"]["items"].clear()
    assert recipe_schema() == SCHEMA


def test_everything_is_described_in_plain_words() -> None:
    parts = dict(parts_of(SCHEMA))
    assert len(parts) > 100
    for path, part in parts.items():
        described = part if "description" in part else DEFINED[part["$ref"].removeprefix("#/$defs/")]
        text = described["description"]
        assert re.fullmatch(r"\S.{3,}[.…]", text), path
        assert not re.search(r"``|:math:|\\|\n|  ", text), (path, text)


def test_every_definition_is_used_and_every_reference_leads_somewhere() -> None:
    references = [part["$ref"].removeprefix("#/$defs/") for _, part in parts_of(SCHEMA) if "$ref" in part]
    assert {*references} == DEFINED.keys()


# --- its keys are the reader's ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("node", "keys"),
    [
        pytest.param(SCHEMA, _TOP_KEYS, id="recipe"),
        pytest.param(DEFINED["rule"], _RULE_KEYS, id="rule"),
        pytest.param(DEFINED["match"], MATCH_KEYS, id="match"),
        pytest.param(DEFINED["layer_decay"], _LAYER_DECAY_KEYS, id="layer decay"),
    ],
)
def test_it_has_the_keys_of_the_reader_in_their_order(node: Any, keys: Sequence[str]) -> None:
    assert tuple(node["properties"]) == tuple(keys)


def test_it_offers_the_kinds_of_modules_that_a_match_knows() -> None:
    for node in (DEFINED["match"]["properties"]["module"], DEFINED["match"]["properties"]["module"]["items"]):
        assert {one["const"] for one in node["anyOf"] if "const" in one} == {*KINDS, "head"}


def test_the_optimizers_that_it_offers_exist() -> None:
    examples = DEFINED["optimizer"]["properties"]["_target_"]["examples"]
    assert len(examples) >= 3
    for name in examples:
        assert issubclass(resolve(name, (Optimizer,), "optimizer"), Optimizer)


# --- schedules -------------------------------------------------------------------------------------------------------


def test_every_schedule_is_there_with_its_arguments() -> None:
    assert {name for name in DEFINED if "." in name} == OWN.keys()
    assert len(OWN) >= 7
    offered = DEFINED["schedule"]["properties"]["_target_"]["anyOf"]
    assert [one.get("const") for one in offered] == [*sorted(OWN), None]
    for name, cls in OWN.items():
        properties = DEFINED[name]["properties"]
        assert [*properties] == ["_target_", *(field.name for field in dataclasses.fields(cls))]
        assert all(
            "type" in argument or "$ref" in argument for key, argument in properties.items() if key != "_target_"
        ), name


def test_an_argument_is_said_as_its_class_says_it() -> None:
    assert DEFINED["lit_optim.schedules.WarmupCosine"]["properties"]["warmup"] == {
        "description": "How long the value rises before anything else happens. "
        '500 or "500steps" (optimizer steps), "2epochs", or "5%" of the run.',
        "type": ["integer", "string"],
        "minimum": 0,
        "pattern": r"^\s*(([0-9]+(\.0*)?|\.0+)\s*steps?|([0-9]+(\.[0-9]*)?|\.[0-9]+)\s*(epochs?|%))\s*$|\$\{.+\}",
        "patternErrorMessage": 'Expected 500 or "500steps" (optimizer steps), "2epochs", or "5%" of the run.',
        "default": "5%",
    }
    staircase = DEFINED["lit_optim.schedules.Exponential"]["properties"]["staircase"]
    assert staircase["description"] == (
        "Whether the value moves only at the end of a stretch ((t - w) / n is rounded down). True or false."
    )
    assert staircase["type"] == ["boolean", "string"]
    assert staircase["default"] is False
    final = DEFINED["lit_optim.schedules.Cosine"]["properties"]["final_factor"]
    assert final["type"] == ["number", "string", "null"]
    assert "default" not in final


@pytest.mark.parametrize("cls", OWN.values(), ids=OWN.keys())
def test_the_defaults_of_a_schedule_are_accepted(cls: Any) -> None:
    fields = dataclasses.fields(cls)
    defaults = {field.name: "x" if field.default is dataclasses.MISSING else field.default for field in fields}
    needed = {"schedule": {"_target_": "my_package.Mine"}, "schedules": [{"_target_": "my_package.Mine"}]}
    arguments: dict[str, Any] = {name: [] if default == () else default for name, default in defaults.items()}
    arguments |= {name: value for name, value in needed.items() if name in arguments}
    assert refusals(with_schedule(f"lit_optim.schedules.{cls.__name__}", **arguments)) == []


def test_a_new_schedule_appears_by_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    @dataclass(frozen=True)
    class Restarts(Schedule):
        r"""Fall :math:`n \cdot 2` times
        to ``least``.

        Args:
            times: How many
                falls, :math:`\mathrm{at\_least}` one.
            least: The lowest value.
            every: Their lengths.
            shape: What a fall looks like.

        A further section.
        """

        times: int
        least: float | None = None
        every: Sequence[Duration] | None = None
        shape: Literal["cosine", "linear"] = "cosine"

        def curve(self, start: float, horizon: lo.Horizon) -> Curve:
            raise NotImplementedError

    monkeypatch.setattr(schedules, "Restarts", Restarts, raising=False)
    monkeypatch.setattr(schedules, "__all__", [*schedules.__all__, "Restarts"])
    schema = recipe_schema()
    node = schema["$defs"]["lit_optim.schedules.Restarts"]
    assert node["description"] == "Fall n · 2 times to `least`."
    assert node["required"] == ["_target_", "times"]
    assert {name: argument["description"] for name, argument in node["properties"].items()} == {
        "_target_": "Fall n · 2 times to `least`.",
        "times": "How many falls, at_least one. A whole number.",
        "least": "The lowest value. A number.",
        "every": "Their lengths. A list.",
        "shape": "What a fall looks like. Cosine or linear.",
    }
    validator = Draft202012Validator(schema)
    target = "lit_optim.schedules.Restarts"
    assert validator.is_valid(with_schedule(target, times=2, least=None, every=["5%"], shape="linear"))
    for wrong in (
        {},
        {"times": 1.5},
        {"times": 2, "every": ["5"]},
        {"times": 2, "least": True},
        {"times": 2, "no": 1},
        {"times": 2, "shape": "sqrt"},
    ):
        assert not validator.is_valid(with_schedule(target, **wrong)), wrong
        assert VALIDATOR.is_valid(with_schedule("my_package.Restarts", **wrong))


# --- what it accepts -------------------------------------------------------------------------------------------------


def _readme() -> list[Any]:
    blocks = re.findall(r"^```yaml\n(.*?)^```", (ROOT / "README.md").read_text(encoding="utf-8"), re.M | re.S)
    return [recipe for recipe in map(read, blocks) if recipe.keys() <= {*_TOP_KEYS}]


def _config(group: str) -> dict[str, Any]:
    return {path.stem: read(path.read_text(encoding="utf-8")) for path in (ROOT / "conf" / group).glob("*.yaml")}


ACCEPTED: dict[str, Any] = {
    "least": {"optimizer": {"_target_": "torch.optim.SGD"}},
    "no more than a rule's optimizer": {
        "optimizer": None,
        "rules": {"a": {"match": "*", "optimizer": {"_target_": "C"}}},
        "schedule": None,
    },
    "empty parts": {"optimizer": {"_target_": "C"}, "rules": {}, "schedule": {}},
    "design": read(DESIGN),
    "every key": read(EVERY_KEY),
    "interpolations": read(INTERPOLATED),
    **{f"README {number}": recipe for number, recipe in enumerate(_readme())},
    **{
        f"optimizer={name}": {"optimizer": node}
        if "_target_" in node
        else {part: node[part] for part in ("optimizer", "rules") if part in node}
        for name, node in _config("optimizer").items()
    },
    **{f"rules={name}": {"optimizer": {"_target_": "C"}, "rules": node} for name, node in _config("rules").items()},
    **{
        f"schedule={name}": {"optimizer": {"_target_": "C"}, "schedule": node}
        for name, node in _config("schedule").items()
    },
}


def test_the_examples_say_what_they_claim() -> None:
    assert "README 0" in ACCEPTED
    assert "schedule=warmup_cosine" in ACCEPTED
    every = ACCEPTED["every key"]
    assert {key for rule in every["rules"].values() for key in rule or ()} >= {*_RULE_KEYS}
    assert every["rules"]["everything"]["match"].keys() == {*MATCH_KEYS}
    assert every["rules"]["everything"]["layer_decay"].keys() == {*_LAYER_DECAY_KEYS}


@pytest.mark.parametrize("name", ACCEPTED)
def test_what_the_reader_takes_is_accepted(name: str) -> None:
    assert refusals(ACCEPTED[name]) == []
    lo.Recipe.from_config(ACCEPTED[name])


# --- what it refuses -------------------------------------------------------------------------------------------------

REFUSED: dict[str, tuple[Any, str, str | None, str]] = {  # recipe, where, by which keyword, words of the message
    "not a mapping": ([1], "", "type", "'object'"),
    "unknown part": ({"optimizer": {"_target_": "C"}, "rule": {}}, "", "additionalProperties", "'rule'"),
    "optimizer as text": ({"optimizer": "C"}, "optimizer", "type", "'C'"),
    "optimizer without a class": ({"optimizer": {"lr": 1}}, "optimizer", "required", "'_target_'"),
    "class of another kind": ({"optimizer": {"_target_": 3}}, "optimizer._target_", "type", "3"),
    "partial": ({"optimizer": {"_target_": "C", "_partial_": True}}, "optimizer", None, "True"),
    "nested class": ({"optimizer": {"_target_": "C", "lr": {"_target_": "D"}}}, "optimizer.lr", "type", "'D'"),
    "rules as a list": ({"optimizer": {"_target_": "C"}, "rules": [1]}, "rules", "type", "[1]"),
    "rule of two words": (with_rule({"match": "x", "lr": 1}, "my rule"), "rules", "pattern", "'my rule'"),
    "rule that begins with a digit": (with_rule({"match": "x", "lr": 1}, "1st"), "rules", "pattern", "'1st'"),
    "rule called default": (with_rule({"match": "x", "lr": 1}, "default"), "rules", "pattern", "'default'"),
    "rule called frozen": (with_rule({"match": "x", "lr": 1}, "frozen"), "rules", "pattern", "'frozen'"),
    "rule as text": (with_rule("x"), "rules.a", "type", "'x'"),
    "rule without match": (with_rule({"lr": 1, "eps": 1}), "rules.a", "required", "'match'"),
    "rule that sets nothing": (with_rule({"match": "x"}), "rules.a", "minProperties", "enough properties"),
    "target in a rule": (with_rule({"match": "x", "_target_": "C"}), "rules.a", None, "'C'"),
    "rule's optimizer as text": (with_rule({"match": "x", "optimizer": "C"}), "rules.a.optimizer", "type", "'C'"),
    "factor as text": (with_rule({"match": "x", "multiply": {"lr": "0.1"}}), "rules.a.multiply.lr", "pattern", "0.1"),
    "factor of truth": (with_rule({"match": "x", "multiply": {"lr": True}}), "rules.a.multiply.lr", "type", "True"),
    "factors without names": (with_rule({"match": "x", "multiply": 0.1}), "rules.a.multiply", "type", "0.1"),
    "empty match": (with_match(""), "rules.a.match", "minLength", "''"),
    "no match": (with_match(None), "rules.a.match", "type", "None"),
    "match of nothing": (with_match({}), "rules.a.match", "minProperties", "{}"),
    "match of no alternative": (with_match([]), "rules.a.match", "minItems", "[]"),
    "unknown match key": (with_match({"nmae": "x"}), "rules.a.match", "additionalProperties", "'nmae'"),
    "unknown match key below": (
        with_match(["x", {"not": {"any": [{"dims": 1}]}}]),
        "rules.a.match.1.not.any.0", "additionalProperties", "'dims'",
    ),
    "name of a number": (with_match({"name": 3}), "rules.a.match.name", "type", "3"),
    "empty name": (with_match({"name": ["x", ""]}), "rules.a.match.name.1", "minLength", "''"),
    "no name": (with_match({"name": []}), "rules.a.match.name", "minItems", "[]"),
    "empty expression": (with_match({"regex": ""}), "rules.a.match.regex", "minLength", "''"),
    "module of another kind": (with_match({"module": ["norm", 3]}), "rules.a.match.module.1", "type", "3"),
    "wrong comparison": (with_match({"ndim": "=<1"}), "rules.a.match.ndim", "pattern", "'=<1'"),
    "fewer than none": (with_match({"numel": -1}), "rules.a.match.numel", "minimum", "-1"),
    "truth for a number": (with_match({"numel": [3, True]}), "rules.a.match.numel.1", "type", "True"),
    "half a dimension": (with_match({"ndim": 1.5}), "rules.a.match.ndim", "type", "1.5"),
    "freeze in words": (with_rule({"match": "x", "freeze": "yes"}), "rules.a.freeze", "pattern", "'yes'"),
    "freeze as a number": (with_rule({"match": "x", "freeze": 1}), "rules.a.freeze", "type", "1"),
    "duration without unit": (with_rule({"match": "x", "freeze_until": "5"}), "rules.a.freeze_until", "pattern", "'5'"),
    "duration as a share": (with_rule({"match": "x", "freeze_until": 0.2}), "rules.a.freeze_until", "type", "0.2"),
    "negative duration": (with_rule({"match": "x", "freeze_until": -1}), "rules.a.freeze_until", "minimum", "-1"),
    "decay above 1": (with_rule({"match": "x", "layer_decay": 1.5}), "rules.a.layer_decay", "maximum", "1.5"),
    "decay of 0": (with_rule({"match": "x", "layer_decay": 0}), "rules.a.layer_decay", "exclusiveMinimum", "0"),
    "decay as text": (with_rule({"match": "x", "layer_decay": "0.75"}), "rules.a.layer_decay", "pattern", "'0.75'"),
    "decay without rate": (
        with_rule({"match": "x", "layer_decay": {"min_factor": 0.1}}),
        "rules.a.layer_decay", "required", "'rate'",
    ),
    "unknown key of a decay": (
        with_rule({"match": "x", "layer_decay": {"rate": 1, "floor": 0.1}}),
        "rules.a.layer_decay", "additionalProperties", "'floor'",
    ),
    "rate above 1": (
        with_rule({"match": "x", "layer_decay": {"rate": 2}}),
        "rules.a.layer_decay.rate", "maximum", "2",
    ),
    "order as text": (
        with_rule({"match": "x", "layer_decay": {"rate": 1, "order": "stem"}}),
        "rules.a.layer_decay.order", "type", "'stem'",
    ),
    "order of nothing": (
        with_rule({"match": "x", "layer_decay": {"rate": 1, "order": []}}),
        "rules.a.layer_decay.order", "minItems", "[]",
    ),
    "least factor below 0": (
        with_rule({"match": "x", "layer_decay": {"rate": 1, "min_factor": -0.1}}),
        "rules.a.layer_decay.min_factor", "minimum", "-0.1",
    ),
    "no least factor": (
        with_rule({"match": "x", "layer_decay": {"rate": 1, "min_factor": None}}),
        "rules.a.layer_decay.min_factor", "type", "None",
    ),
    "batch of none": ({"optimizer": {"_target_": "C"}, "lr_batch_size": 0}, "lr_batch_size", "minimum", "0"),
    "half a sample": ({"optimizer": {"_target_": "C"}, "lr_batch_size": 1.5}, "lr_batch_size", "type", "1.5"),
    "misspelt scaling": (
        {"optimizer": {"_target_": "C"}, "lr_batch_size": 1, "lr_batch_scaling": "sqr"},
        "lr_batch_scaling", "pattern", "'sqr'",
    ),
    "schedules as a list": ({"optimizer": {"_target_": "C"}, "schedule": [1]}, "schedule", "type", "[1]"),
    "schedule as text": (
        {"optimizer": {"_target_": "C"}, "schedule": {"lr": "cosine"}},
        "schedule.lr", "type", "'cosine'",
    ),
    "schedule without a class": (
        {"optimizer": {"_target_": "C"}, "schedule": {"lr": {"warmup": 3}}},
        "schedule.lr", "required", "'_target_'",
    ),
    "rule's schedule without a class": (
        with_rule({"match": "x", "schedule": {"lr": {"warmup": 3}}}),
        "rules.a.schedule.lr", "required", "'_target_'",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_what_the_reader_refuses_is_refused_where_it_stands(name: str) -> None:
    recipe, where, by, words = REFUSED[name]
    [(path, keyword, message)] = refusals(recipe)
    assert (path, keyword) == (where, by)
    assert words in message
    with pytest.raises(lo.RecipeError) as refused:
        lo.Recipe.from_config(recipe)
    key = refused.value.mistakes[0].key  # which names the missing or unknown key too, and a list as a whole
    assert key.startswith(path) or path.startswith(key)


UNFIT: dict[str, tuple[str, dict[str, Any], str, str]] = {  # class, arguments, where, by which keyword
    "misspelled argument": ("WarmupCosine", {"warmpu": "5%"}, "schedule.lr", "additionalProperties"),
    "another class's argument": ("Cosine", {"rate": 0.5}, "schedule.lr", "additionalProperties"),
    "misspelled class": ("Cosin", {}, "schedule.lr._target_", "anyOf"),
    "abstract class": ("Schedule", {}, "schedule.lr._target_", "anyOf"),
    "text for a number": ("Linear", {"start_factor": "half"}, "schedule.lr.start_factor", "pattern"),
    "truth for a number": ("Linear", {"start_factor": True}, "schedule.lr.start_factor", "type"),
    "nothing for a number": ("Constant", {"factor": None}, "schedule.lr.factor", "type"),
    "share for a duration": ("Cosine", {"duration": 0.5}, "schedule.lr.duration", "type"),
    "duration without unit": ("Cosine", {"duration": "5"}, "schedule.lr.duration", "pattern"),
    "duration for a list": ("Milestones", {"at": "5%", "values": [1]}, "schedule.lr.at", "type"),
    "number for a list": ("Milestones", {"at": ["5%"], "values": 1}, "schedule.lr.values", "type"),
    "wrong duration in a list": ("Milestones", {"at": [1, "5"], "values": [1, 2]}, "schedule.lr.at.1", "pattern"),
    "another shape": ("Piecewise", {"shape": "cubic", "at": [1], "values": [1]}, "schedule.lr.shape", "pattern"),
    "misspelled argument inside": (
        "Warmup",
        {"schedule": {"_target_": "lit_optim.schedules.Cosine", "wramup": 1}},
        "schedule.lr.schedule",
        "additionalProperties",
    ),
    "no schedule inside": ("Joined", {"schedules": ["cosine"]}, "schedule.lr.schedules.0", "type"),
    "text in a list": ("Milestones", {"at": ["5%"], "factors": ["x"]}, "schedule.lr.factors.0", "pattern"),
}


@pytest.mark.parametrize("name", UNFIT)
def test_an_argument_that_a_schedule_would_refuse_is_refused(name: str) -> None:
    cls, arguments, *expected = UNFIT[name]
    recipe = with_schedule(f"lit_optim.schedules.{cls}", **arguments)
    [(path, keyword, _)] = refusals(recipe)
    assert [path, keyword] == expected
    in_rule = with_rule({"match": "x", "schedule": recipe["schedule"]})
    assert [(path, keyword) for path, keyword, _ in refusals(in_rule)] == [(f"rules.a.{expected[0]}", expected[1])]
    with pytest.raises(lo.LitOptimError):
        instantiate(recipe["schedule"]["lr"], (Schedule,), "schedule.lr").curve(0.1, lo.Horizon(100, 10))


def test_a_schedule_of_one_s_own_takes_any_argument() -> None:
    assert refusals(with_schedule("my_package.Cosine", warmpu="5", inner={"_target_": "x", "of": [None, True]})) == []


def test_a_scheduler_of_torch_s_may_say_what_steps_it() -> None:
    target = "torch.optim.lr_scheduler.StepLR"
    sound = {"step_size": 3, "gamma": 0.1, "interval": "epoch", "frequency": 2}
    assert refusals(with_schedule(target, **sound)) == []
    assert refusals(with_schedule(target, interval="${a.b}", frequency="${a.c}", monitor="val/loss")) == []
    inner = [{"_target_": "torch.optim.lr_scheduler.ConstantLR"}]
    assert refusals(with_schedule("torch.optim.lr_scheduler.ChainedScheduler", schedulers=inner)) == []
    for name, value, keyword in (
        ("interval", "batch", "pattern"),
        ("interval", 3, "type"),
        ("frequency", 0, "minimum"),
        ("frequency", 1.5, "type"),
        ("monitor", None, "type"),
    ):
        [(path, by, _)] = refusals(with_schedule(target, **{name: value}))
        assert (path, by) == (f"schedule.lr.{name}", keyword)
        assert refusals(with_schedule("my_package.StepLR", **{name: value})) == []
    for name in ("optimizer", "last_epoch"):
        assert not VALIDATOR.is_valid(with_schedule(target, **{name: 3}))
        assert VALIDATOR.is_valid(with_schedule("my_package.StepLR", **{name: 3}))


# --- its patterns are the reader's -----------------------------------------------------------------------------------

printable = st.text(st.characters(codec="ascii", categories=("L", "N", "P", "S", "Zs"), exclude_characters="$"))


@given(
    printable | st.from_regex(r" ?([0-9]{0,2}(\.[0-9]?)?) ?(steps?|epochs?|%|min|) ?", fullmatch=True) | st.integers()
)
@example("5")
@example(".5 epochs")
@example("5.%")
@example("5.0steps")
@example("5.01steps")
@example(".0 steps")
@example("steps")
def test_a_duration_is_what_the_reader_takes_for_one(duration: int | str) -> None:
    refused = refusals(with_rule({"match": "x", "freeze_until": duration}))
    assert (refused == []) == (malformed(duration, "key") is None)


@given(printable | st.from_regex(r" ?[<>=]{0,2} ?[0-9]{0,2} ?", fullmatch=True) | st.integers())
@example("=>1")
@example("== 2")
def test_a_comparison_is_what_the_reader_takes_for_one(comparison: int | str) -> None:
    match = {"ndim": comparison, "numel": [comparison]}
    assert (refusals(with_match(match)) == []) == ([*match_mistakes(match, "key")] == [])


@given(printable | st.from_regex(r"[A-Za-z0-9_ -]{1,4}", fullmatch=True))
@example("default")
@example("frozen")
@example("defaults")
@example("_")
def test_a_rule_s_name_is_what_the_reader_takes_for_one(name: str) -> None:
    recipe = with_rule({"match": "x", "lr": 1}, name)
    refused = False
    try:
        lo.Recipe.from_config(recipe)
    except lo.RecipeError:
        refused = True
    assert (refusals(recipe) != []) == refused


@given(st.text("_a", min_size=1, max_size=4) | st.sampled_from(["_target_", "_target", "target_", "_target__"]))
def test_a_hyperparameter_s_name_is_what_the_reader_takes_for_one(name: str) -> None:
    for recipe in (with_rule({"match": "x", "eps": 1, name: "C"}), {"optimizer": {"_target_": "C", name: "C"}}):
        refused = False
        try:
            lo.Recipe.from_config(recipe)
        except lo.RecipeError:
            refused = True
        assert (refusals(recipe) != []) == refused
