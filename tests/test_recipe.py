import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from omegaconf import OmegaConf

import lit_optim as lo
from lit_optim.rules import Rule

WHOLE: dict[str, Any] = {
    "optimizer": {"_target_": "torch.optim.AdamW", "lr": 1e-3, "betas": [0.9, 0.98]},
    "rules": {
        "no_decay": {"match": {"ndim": "<=1", "any": ["*.bias", {"module": "LayerNorm"}]}, "weight_decay": 0.0},
        "hidden": {
            "match": ["layer.0", {"not": "head"}],
            "optimizer": {"_target_": "torch.optim.Muon", "lr": 0.02},
            "momentum": 0.9,
            "multiply": {"lr": 0.1},
            "schedule": {"lr": None, "momentum": {"_target_": "S", "at": [1, "5%"]}},
        },
    },
    "schedule": {"lr": {"_target_": "lit_optim.schedules.Cosine", "final_factor": 0.1}},
}
READ = lo.Recipe(
    optimizer="torch.optim.AdamW",
    values={"lr": 1e-3, "betas": [0.9, 0.98]},
    rules=(
        Rule("no_decay", {"ndim": "<=1", "any": ["*.bias", {"module": "LayerNorm"}]}, values={"weight_decay": 0.0}),
        Rule(
            "hidden",
            ["layer.0", {"not": "head"}],
            values={"momentum": 0.9},
            multiply={"lr": 0.1},
            optimizer="torch.optim.Muon",
            arguments={"lr": 0.02},
            schedule={"lr": None, "momentum": {"_target_": "S", "at": [1, "5%"]}},
        ),
    ),
    schedule={"lr": {"_target_": "lit_optim.schedules.Cosine", "final_factor": 0.1}},
)


def sgd(arguments: dict[str, Any] | None = None, **parts: Any) -> dict[str, Any]:
    return {"optimizer": {"_target_": "torch.optim.SGD", "lr": 0.1, **(arguments or {})}, **parts}


def test_a_mapping_a_dictconfig_and_a_file_say_the_same(tmp_path: Path) -> None:
    path = tmp_path / "recipe.yaml"
    path.write_text(OmegaConf.to_yaml(OmegaConf.create(WHOLE)))
    for config in (WHOLE, OmegaConf.create(WHOLE), path, str(path)):
        assert lo.Recipe.from_config(config) == READ


def test_it_is_written_as_it_is_read() -> None:
    again = READ.to_config()
    assert lo.Recipe.from_config(again) == READ
    assert lo.Recipe.from_config(again).to_config() == again
    assert type(again["rules"]["hidden"]["schedule"]) is dict


def test_the_least_recipe_is_a_class() -> None:
    for empty in ({}, {"rules": None, "schedule": None}, {"rules": {}, "schedule": {}}):
        recipe = lo.Recipe.from_config({"optimizer": {"_target_": "torch.optim.SGD"}, **empty})
        assert recipe == lo.Recipe("torch.optim.SGD")


def test_null_removes_a_rule_and_a_schedule() -> None:
    config = sgd(rules={"a": None, "b": {"match": "x", "lr": 1}}, schedule={"lr": None, "momentum": {"_target_": "S"}})
    recipe = lo.Recipe.from_config(config)
    assert [rule.name for rule in recipe.rules] == ["b"]
    assert recipe.schedule == {"momentum": {"_target_": "S"}}


def test_rules_keep_their_order() -> None:
    names = ["z", "a", "_m", "k-2", "B"]
    recipe = lo.Recipe.from_config(sgd(rules={name: {"match": "x", "lr": 1} for name in names}))
    assert [rule.name for rule in recipe.rules] == names


def test_interpolations_are_resolved_from_where_they_stand() -> None:
    config = OmegaConf.create({"base": 0.1, "recipe": sgd({"lr": "${base}"})})
    assert lo.Recipe.from_config(config.recipe).values == {"lr": 0.1}
    assert lo.Recipe.from_config(sgd({"momentum": "${optimizer.lr}"})).values == {"lr": 0.1, "momentum": 0.1}


def test_the_mapping_given_stays_as_it_was() -> None:
    config = sgd(rules={"a": {"match": ["x"], "optimizer": {"_target_": "C", "lr": 1}}})
    before = repr(config)
    lo.Recipe.from_config(config)
    assert repr(config) == before


@pytest.mark.parametrize("number", ["2", "<=1", ">= 3", "<1000", ">5", "==2", " 7 "])
def test_comparisons_are_written_like_this(number: str) -> None:
    recipe = lo.Recipe.from_config(sgd(rules={"a": {"match": {"ndim": [number, 0]}, "lr": 1}}))
    assert recipe.rules[0].match == {"ndim": [number, 0]}


@pytest.mark.parametrize(
    ("config", "text"),
    [
        pytest.param(
            sgd(rule={}),
            [
                "rule: a recipe has no such part",
                "    given:   {}",
                "    allowed: optimizer, rules, schedule, lr_batch_size, lr_batch_scaling",
                "    nearest: rules",
                "    fix:     correct the name or remove it",
            ],
            id="unknown top-level key",
        ),
        pytest.param(
            sgd(rules={"my rule": {"match": "*", "lr": 1.0}}),
            [
                "rules.my rule: this can't name a param group",
                "    given:   'my rule'",
                "    fix:     rename it: a letter first, then letters, digits, '_' and '-'",
            ],
            id="wrong rule name",
        ),
        pytest.param(
            sgd(rules={0: {"match": "*", "lr": 1.0}}),
            [
                "rules.0: this can't name a param group",
                "    given:   '0'",
                "    fix:     rename it: a letter first, then letters, digits, '_' and '-'",
            ],
            id="rule name of digits",
        ),
        pytest.param(
            sgd(rules={"a.b": {"match": "*", "lr": 1.0}}),
            [
                "rules.a.b: this can't name a param group",
                "    given:   'a.b'",
                "    fix:     rename it: a letter first, then letters, digits, '_' and '-'",
            ],
            id="rule with a dot",
        ),
        pytest.param(
            sgd(rules={"a": {"lr": 1.0}}),
            [
                "rules.a.match: the rule doesn't say which parameters it is for",
                "    fix:     add match: a name or a glob",
            ],
            id="no match",
        ),
        pytest.param(
            sgd(rules={"a": {"match": "head"}}),
            [
                "rules.a: the rule sets nothing",
                "    allowed: lr, weight_decay, …, multiply, optimizer, schedule, freeze, freeze_until, layer_decay, "
                "clip_norm",
                "    fix:     set a hyperparameter, multiply one, or remove the rule (rules.a=null)",
            ],
            id="empty rule",
        ),
        pytest.param(
            sgd(rules=[{"match": "head"}]),
            [
                "rules: a mapping is needed: rules by name, in the order they apply",
                "    given:   [{'match': 'head'}]",
                "    fix:     indent its parts under it",
            ],
            id="rules as a list",
        ),
        pytest.param(
            sgd(rules={"a": {"match": {"nmae": "x"}, "lr": 1.0}}),
            [
                "rules.a.match.nmae: a match has no key 'nmae'",
                "    given:   'x'",
                "    allowed: name, regex, module, ndim, numel, not, any",
                "    nearest: name, numel",
                "    fix:     correct the name or remove it",
            ],
            id="bad match key",
        ),
        pytest.param(
            sgd(rules={"a": {"match": [{"not": {"ndims": 1}}], "lr": 1.0}}),
            [
                "rules.a.match.0.not.ndims: a match has no key 'ndims'",
                "    given:   1",
                "    allowed: name, regex, module, ndim, numel, not, any",
                "    nearest: ndim",
                "    fix:     correct the name or remove it",
            ],
            id="bad match key below",
        ),
        pytest.param(
            sgd(rules={"a": {"match": {}, "lr": 1.0}}),
            [
                "rules.a.match: this selects nothing",
                "    given:   {}",
                "    allowed: "
                "a glob such as head or layer.[02], a mapping such as {module: Linear, ndim: 2}, a list "
                "of these",
                "    fix:     write one of these",
            ],
            id="empty match",
        ),
        pytest.param(
            sgd(rules={"a": {"match": None, "lr": 1.0}}),
            [
                "rules.a.match: this selects nothing",
                "    given:   None",
                "    allowed: "
                "a glob such as head or layer.[02], a mapping such as {module: Linear, ndim: 2}, a list "
                "of these",
                "    fix:     write one of these",
            ],
            id="null match",
        ),
        pytest.param(
            sgd(rules={"a": {"match": {"ndim": "=<1"}, "lr": 1.0}}),
            [
                "rules.a.match.ndim: a number or a comparison is needed",
                "    given:   '=<1'",
                "    allowed: 2, '<=1', '>1000'",
                "    fix:     write a number, or a comparison in quotes",
            ],
            id="bad comparison",
        ),
        pytest.param(
            sgd(rules={"a": {"match": {"numel": [3, True]}, "lr": 1.0}}),
            [
                "rules.a.match.numel: a number or a comparison is needed",
                "    given:   True",
                "    allowed: 2, '<=1', '>1000'",
                "    fix:     write a number, or a comparison in quotes",
            ],
            id="truth for a number",
        ),
        pytest.param(
            sgd(rules={"a": {"match": {"regex": "("}, "lr": 1.0}}),
            [
                "rules.a.match.regex: not a regular expression: missing ), unterminated subpattern at position 0",
                "    given:   '('",
                "    fix:     mend it, or use a glob",
            ],
            id="bad regex",
        ),
        pytest.param(
            sgd(rules={"a": {"match": {"module": 3}, "lr": 1.0}}),
            [
                "rules.a.match.module: a name is needed",
                "    given:   3",
                "    fix:     write a string",
            ],
            id="number for a name",
        ),
        pytest.param(
            sgd({"_partial_": True, "_convert_": "all"}),
            [
                "optimizer._partial_: not a hyperparameter",
                "    given:   True",
                "    fix:     remove it: the planner, not Hydra, builds the optimizer",
                "optimizer._convert_: not a hyperparameter",
                "    given:   'all'",
                "    fix:     remove it: the planner, not Hydra, builds the optimizer",
            ],
            id="two underscore keys",
        ),
        pytest.param(
            sgd(rules={"a": {"match": "x", "optimizer": {"_target_": "C", "_partial_": True}}}),
            [
                "rules.a.optimizer._partial_: not a hyperparameter",
                "    given:   True",
                "    fix:     remove it: the planner, not Hydra, builds the optimizer",
            ],
            id="partial in a rule",
        ),
        pytest.param(
            {"optimizer": {"lr": 0.1}},
            [
                "optimizer._target_: the optimizer's class is missing",
                "    fix:     name it, for example torch.optim.AdamW",
            ],
            id="missing target",
        ),
        pytest.param(
            {"optimizer": {"_target_": 3}},
            [
                "optimizer._target_: the optimizer's class is missing",
                "    given:   3",
                "    fix:     name it, for example torch.optim.AdamW",
            ],
            id="target of another kind",
        ),
        pytest.param(
            {"rules": {}},
            [
                "optimizer._target_: the optimizer's class is missing",
                "    fix:     name it, for example torch.optim.AdamW",
            ],
            id="missing optimizer",
        ),
        pytest.param(
            {"optimizer": "torch.optim.AdamW"},
            [
                "optimizer: the class goes under _target_",
                "    given:   'torch.optim.AdamW'",
                "    fix:     write optimizer: {_target_: torch.optim.AdamW}",
            ],
            id="optimizer as text",
        ),
        pytest.param(
            sgd(rules={"a": {"match": "x", "optimizer": "torch.optim.AdamW"}}),
            [
                "rules.a.optimizer: the class goes under _target_",
                "    given:   'torch.optim.AdamW'",
                "    fix:     write rules.a.optimizer: {_target_: torch.optim.AdamW}",
            ],
            id="a rule's optimizer as text",
        ),
        pytest.param(
            sgd(rules={"a": {"match": "x", "optimizer": "adamw"}, "b": {"match": "x", "optimizer": "soap"}}),
            [
                "rules.a.optimizer: the class goes under _target_",
                "    given:   'adamw'",
                "    fix:     write rules.a.optimizer: {_target_: torch.optim.AdamW}",
                "rules.b.optimizer: the class goes under _target_",
                "    given:   'soap'",
                "    fix:     write rules.b.optimizer: {_target_: torch.optim.AdamW}, say",
            ],
            id="a rule's optimizer by the name of a choice",
        ),
        pytest.param(
            {"optimizer": [1]},
            [
                "optimizer: a mapping is needed: a class (_target_) and its hyperparameters",
                "    given:   [1]",
                "    fix:     indent its parts under it",
                "optimizer._target_: the optimizer's class is missing",
                "    fix:     name it, for example torch.optim.AdamW",
            ],
            id="optimizer as a list",
        ),
        pytest.param(
            sgd(rules={"a": {"match": "x", "lr": 1, "eps": 2, "optimizer": {"_target_": "C", "eps": 3, "lr": 4}}}),
            [
                "rules.a.lr: set here and under the rule's optimizer",
                "    given:   1",
                "    fix:     keep one",
                "rules.a.eps: set here and under the rule's optimizer",
                "    given:   2",
                "    fix:     keep one",
            ],
            id="set twice",
        ),
        pytest.param(
            sgd(rules={"a": {"match": "x", "multiply": {"lr": "0.1"}}}),
            [
                "rules.a.multiply.lr: a factor is a number",
                "    given:   '0.1'",
                "    fix:     give a number",
            ],
            id="factor as text",
        ),
        pytest.param(
            sgd(rules={"a": {"match": "x", "multiply": {"lr": True}}}),
            [
                "rules.a.multiply.lr: a factor is a number",
                "    given:   True",
                "    fix:     give a number",
            ],
            id="factor of truth",
        ),
        pytest.param(
            sgd(rules={"a": {"match": "x", "lr": 1, "multiply": 0.1}}),
            [
                "rules.a.multiply: a mapping is needed: factors by hyperparameter",
                "    given:   0.1",
                "    fix:     indent its parts under it",
            ],
            id="factors without names",
        ),
        pytest.param(
            sgd(schedule={"lr": "cosine"}),
            [
                "schedule.lr: a schedule is a class (_target_) and its arguments",
                "    given:   'cosine'",
                "    fix:     for example schedule.lr._target_=lit_optim.schedules.Cosine",
            ],
            id="schedule as text",
        ),
        pytest.param(
            sgd(rules={"a": {"match": "x", "schedule": {"lr": {"warmup": 3}}}}),
            [
                "rules.a.schedule.lr: a schedule is a class (_target_) and its arguments",
                "    given:   {'warmup': 3}",
                "    fix:     for example rules.a.schedule.lr._target_=lit_optim.schedules.Cosine",
            ],
            id="schedule without target",
        ),
        pytest.param(
            sgd(schedule=[1]),
            [
                "schedule: a mapping is needed: schedules by hyperparameter",
                "    given:   [1]",
                "    fix:     indent its parts under it",
            ],
            id="schedules as a list",
        ),
        pytest.param(
            sgd({"lr": "${nope}"}),
            [
                "optimizer.lr: Interpolation key 'nope' not found",
                "    fix:     mend the interpolation or the value",
            ],
            id="unresolved interpolation",
        ),
        pytest.param(
            [1],
            [
                "recipe: a recipe is a mapping",
                "    given:   [1]",
                "    allowed: optimizer, rules, schedule, lr_batch_size, lr_batch_scaling",
            ],
            id="not a mapping",
        ),
        pytest.param(
            "no/such.yaml",
            [
                "recipe: no such file",
                "    given:   no/such.yaml",
                "    fix:     give a YAML file or a mapping",
            ],
            id="no such file",
        ),
        pytest.param(
            {"optimizr": {}, "rules": {"a b": {"lr": 1}}, "schedule": {"lr": 3}},
            [
                "optimizr: a recipe has no such part",
                "    given:   {}",
                "    allowed: optimizer, rules, schedule, lr_batch_size, lr_batch_scaling",
                "    nearest: optimizer",
                "    fix:     correct the name or remove it",
                "optimizer._target_: the optimizer's class is missing",
                "    fix:     name it, for example torch.optim.AdamW",
                "rules.a b: this can't name a param group",
                "    given:   'a b'",
                "    fix:     rename it: a letter first, then letters, digits, '_' and '-'",
                "rules.a b.match: the rule doesn't say which parameters it is for",
                "    fix:     add match: a name or a glob",
                "schedule.lr: a schedule is a class (_target_) and its arguments",
                "    given:   3",
                "    fix:     for example schedule.lr._target_=lit_optim.schedules.Cosine",
            ],
            id="all at once",
        ),
    ],
)
def test_a_refusal_reads_like_this(config: Any, text: list[str]) -> None:
    with pytest.raises(lo.RecipeError) as refused:
        lo.Recipe.from_config(config)
    assert str(refused.value).splitlines() == text


@pytest.mark.parametrize(
    ("written", "problem"),
    [
        ("- 3", "a recipe is a mapping"),
        ("3", "this is not a recipe in YAML: Invalid loaded object type: int"),
        (b"optimizer: {_target_: caf\xe9}", "this file is not text in UTF-8: invalid continuation byte at byte 25"),
        ("x".encode("utf-16"), "this file is not text in UTF-8: invalid start byte at byte 0"),
        ("optimizer: {_target_: x", "this is not a recipe in YAML: while parsing a flow mapping"),
    ],
)
def test_a_file_that_is_no_recipe_is_refused(tmp_path: Path, written: str | bytes, problem: str) -> None:
    path = tmp_path / "recipe.yaml"
    path.write_bytes(written if isinstance(written, bytes) else written.encode())
    with pytest.raises(lo.RecipeError) as refused:
        lo.Recipe.from_config(path)
    assert str(refused.value).startswith(f"recipe: {problem}")


def test_an_empty_file_lacks_an_optimizer(tmp_path: Path) -> None:
    path = tmp_path / "recipe.yaml"
    path.touch()
    with pytest.raises(lo.RecipeError, match=r"^optimizer\._target_: the optimizer's class is missing"):
        lo.Recipe.from_config(path)


@pytest.mark.parametrize("seed", ["0", "1", "2"])
def test_mistakes_come_in_the_order_of_the_text_in_every_process(seed: str) -> None:
    keys = ["eps", "lr", "momentum", "alpha", "weight_decay", "centered"]
    code = f"""
import lit_optim as lo
own = dict.fromkeys({keys}, 1)
node = {{"match": "x", **own, "optimizer": {{"_target_": "C", **own}}}}
try:
    lo.Recipe.from_config({{"optimizer": {{"_target_": "C"}}, "rules": {{"a": node}}}})
except lo.RecipeError as error:
    print(*(mistake.key for mistake in error.mistakes))
"""
    ran = subprocess.run(
        [sys.executable, "-c", code], env={"PYTHONHASHSEED": seed}, capture_output=True, text=True, check=True
    )
    assert ran.stdout.split() == [f"rules.a.{key}" for key in keys]


def test_no_rule_is_called_like_the_group_that_no_rule_shapes() -> None:
    config = {"optimizer": {"_target_": "torch.optim.SGD"}, "rules": {"default": {"match": "a", "lr": 0.1}}}
    with pytest.raises(lo.RecipeError) as refused:
        lo.Recipe.from_config(config)
    assert str(refused.value).splitlines() == [
        "rules.default: this names the group that no rule shapes",
        "    given:   'default'",
        "    fix:     rename it",
    ]


@pytest.mark.parametrize("norm", [0, -1, True, "1.0", float("nan"), [1.0]])
def test_a_norm_is_above_zero(norm: Any) -> None:
    with pytest.raises(lo.RecipeError) as refused:
        lo.Recipe.from_config(sgd(rules={"a": {"match": "x", "clip_norm": norm}}))
    assert str(refused.value).splitlines() == [
        "rules.a.clip_norm: a norm above 0 is needed",
        f"    given:   {norm!r}",
        "    fix:     for example 1.0; .inf takes back what an earlier rule says",
    ]


@pytest.mark.parametrize("norm", [1, 0.5, float("inf"), None])
def test_a_norm_is_read_and_written(norm: Any) -> None:
    recipe = lo.Recipe.from_config(sgd(rules={"a": {"match": "x", "lr": 1.0, "clip_norm": norm}}))
    assert recipe.rules[0].clip_norm == norm
    assert lo.Recipe.from_config(recipe.to_config()) == recipe


def test_an_optimizer_inside_of_another_is_named_by_its_class() -> None:
    node = {"_target_": "C", "base_optimizer": {"_target_": "torch.optim.SGD"}}
    with pytest.raises(lo.RecipeError) as refused:
        lo.Recipe.from_config({"optimizer": node})
    assert str(refused.value).splitlines()[-1] == (
        "    fix:     an optimizer inside of another is named by its class: base_optimizer: torch.optim.SGD"
    )
