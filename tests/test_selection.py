import itertools
from typing import Any

import pytest
import torch
from hypothesis import example, given
from hypothesis import strategies as st
from torch import nn

import lit_optim as lo
from lit_optim.errors import Mistake, nearest
from lit_optim.matches import compiled_glob
from lit_optim.models import MLP
from lit_optim.selection import ParameterIndex, entries_of


class Block(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.attn = nn.Linear(3, 3)
        self.norm = nn.LayerNorm(3)
        self.scale = nn.Parameter(torch.tensor(1.0))


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.blocks = nn.ModuleList([Block(), Block()])
        self.conv = nn.Conv2d(1, 2, 3)
        self.head = nn.Linear(3, 5)
        self.header = nn.Linear(5, 1, bias=False)


def chosen(match: Any, model: nn.Module | None = None) -> list[str]:
    names, mistakes = looked_for(match, model)
    if any("places" in mistake.problem for mistake in mistakes):
        raise lo.PlanError(*mistakes)
    return names


def looked_for(match: Any, model: nn.Module | None = None) -> tuple[list[str], list[Mistake]]:
    index = ParameterIndex(Net() if model is None else model)
    mistakes: list[Mistake] = []
    places = index.select(match, "rules.a.match", mistakes)
    return [index.entries[position].name for position in sorted(index.entries_at(places))], mistakes


def wrapped(model: nn.Module, name: str = "net") -> nn.Module:
    return nn.ModuleDict({name: model})


FIRST = ["layer.0.weight", "layer.0.bias"]
SECOND = ["layer.2.weight", "layer.2.bias"]
THIRD = ["layer.4.weight", "layer.4.bias"]
BIASES = ["layer.0.bias", "layer.2.bias", "layer.4.bias"]


@pytest.mark.parametrize(
    ("glob", "names"),
    [
        ("layer.4", THIRD),
        ("layer.4.*", THIRD),
        ("layer.4.bias", ["layer.4.bias"]),
        ("layer.[02]", FIRST + SECOND),
        ("layer.[!4]", FIRST + SECOND),
        ("layer.?", FIRST + SECOND + THIRD),
        ("^layer.4", THIRD),
        ("^layer", FIRST + SECOND + THIRD),
        ("^4", []),
        ("4", THIRD),
        ("*.bias", BIASES),
        ("*bias", BIASES),
        ("^*.bias", BIASES),
        ("*.4", THIRD),
        ("*", FIRST + SECOND + THIRD),
        ("layer", FIRST + SECOND + THIRD),
        ("layer.4.b", []),
        ("ayer.4", []),
        ("Layer.4", []),
        ("layer.40", []),
    ],
)
def test_a_glob_on_the_name(glob: str, names: list[str]) -> None:
    assert chosen(glob, MLP(2, (2, 2), 2)) == names


@pytest.mark.parametrize("glob", ["layer.4", "layer.[02]", "4.bias", "*.bias", "*", "layer"])
def test_a_bare_name_survives_a_wrapper(glob: str) -> None:
    inside = chosen(glob, MLP(2, (2, 2), 2))
    assert inside
    assert chosen(glob, wrapped(MLP(2, (2, 2), 2))) == [f"net.{name}" for name in inside]
    assert chosen(glob, wrapped(wrapped(MLP(2, (2, 2), 2)), "module")) == [f"module.net.{name}" for name in inside]


def test_an_anchored_name_does_not() -> None:
    assert chosen("^layer.4", wrapped(MLP(2, (2, 2), 2))) == []


def test_a_name_is_of_whole_parts() -> None:
    assert chosen("head") == ["head.weight", "head.bias"]
    assert chosen("head*") == ["head.weight", "head.bias", "header.weight"]


@pytest.mark.parametrize("match", ["norm", ["head", "norm"], {"name": "norm"}, {"not": {"any": ["norm"]}}])
def test_a_name_that_fits_in_several_places_is_refused_with_the_list(match: Any) -> None:
    keys = {str: "", list: ".1", dict: ".name" if "name" in match else ".not.any.0"}
    with pytest.raises(lo.PlanError) as refused:
        chosen(match)
    assert str(refused.value).splitlines() == [
        f"rules.a.match{keys[type(match)]}: 'norm' fits in 2 places",
        "    given:   norm",
        "    allowed: ^blocks.0.norm, ^blocks.1.norm",
        "    fix:     choose one of these, or write '*.norm' for all",
    ]


def test_each_way_out_that_is_offered_works() -> None:
    assert chosen("^blocks.1.norm") == ["blocks.1.norm.weight", "blocks.1.norm.bias"]
    assert len(chosen("*.norm")) == 4


def test_the_root_is_a_place_too() -> None:
    model = nn.ModuleDict({"layer": nn.Linear(1, 1), "b": nn.ModuleDict({"layer": nn.Linear(1, 1)})})
    with pytest.raises(lo.PlanError) as refused:
        chosen("layer", model)
    assert "    allowed: ^layer, ^b.layer" in str(refused.value).splitlines()
    assert chosen("^layer", model) == ["layer.weight", "layer.bias"]


NORMS = [f"blocks.{i}.norm.{kind}" for i in (0, 1) for kind in ("weight", "bias")]
SCALES = ["blocks.0.scale", "blocks.1.scale"]


@pytest.mark.parametrize(
    ("match", "names"),
    [
        ({"module": "LayerNorm"}, NORMS),
        ({"module": "torch.nn.modules.normalization.LayerNorm"}, NORMS),
        ({"module": "Block"}, SCALES),
        ({"module": "_ConvNd"}, ["conv.weight", "conv.bias"]),
        ({"module": ["LayerNorm", "Conv2d"]}, [*NORMS, "conv.weight", "conv.bias"]),
        ({"module": "layernorm"}, []),
        ({"ndim": 0}, SCALES),
        ({"ndim": "==4"}, ["conv.weight"]),
        ({"ndim": ">2"}, ["conv.weight"]),
        ({"ndim": ">=4"}, ["conv.weight"]),
        ({"ndim": "<1"}, SCALES),
        ({"ndim": [0, 4]}, [*SCALES, "conv.weight"]),
        ({"numel": "<= 1"}, SCALES),
        ({"numel": 18}, ["conv.weight"]),
        ({"numel": "15"}, ["head.weight"]),
        ({"numel": ["<2", ">15"]}, [*SCALES, "conv.weight"]),
        ({"regex": r"blocks\.\d\.scale"}, SCALES),
        ({"regex": "scale"}, []),
        ({"regex": "blocks"}, []),
        ({"regex": [r".*\.scale", r"conv\..*t"]}, [*SCALES, "conv.weight"]),
        ({"name": "conv"}, ["conv.weight", "conv.bias"]),
        ({"name": ["conv", "head"]}, ["conv.weight", "conv.bias", "head.weight", "head.bias"]),
        ({"module": "Linear", "ndim": 1}, ["blocks.0.attn.bias", "blocks.1.attn.bias", "head.bias"]),
        ({"module": "Linear", "ndim": 2, "not": ["blocks", "header"]}, ["head.weight"]),
        ({"not": {"any": ["blocks", {"module": "Linear"}]}}, ["conv.weight", "conv.bias"]),
        (
            {"any": ["conv", {"module": "Linear", "ndim": 1}], "not": "blocks"},
            ["conv.weight", "conv.bias", "head.bias"],
        ),
        (["^conv.bias", {"ndim": 0}], [*SCALES, "conv.bias"]),
        ([{"ndim": 4}, {"ndim": 4, "module": "Linear"}], ["conv.weight"]),
    ],
    ids=repr,
)
def test_mappings_and_lists(match: Any, names: list[str]) -> None:
    order = [entry.name for entry in entries_of(Net())]
    assert chosen(match) == sorted(names, key=order.index)


def test_names_and_order_are_the_models_own() -> None:
    assert [entry.name for entry in entries_of(Net())] == [name for name, _ in Net().named_parameters()]


def compiled_inside() -> nn.Module:
    model = MLP(2, (2, 2), 2)
    model.layer[2] = torch.compile(model.layer[2])  # type: ignore[assignment]
    return model


@pytest.mark.filterwarnings("ignore:`torch.jit.script_method` is deprecated:DeprecationWarning")  # by torch.compile
@pytest.mark.parametrize(
    "wrap",
    [
        lambda: torch.compile(MLP(2, (2, 2), 2)),
        lambda: nn.DataParallel(MLP(2, (2, 2), 2)),
        lambda: torch.compile(nn.DataParallel(MLP(2, (2, 2), 2))),
        lambda: nn.DataParallel(torch.compile(MLP(2, (2, 2), 2))),
        compiled_inside,
    ],
)
def test_wrappers_leave_no_trace(wrap: Any) -> None:
    model = wrap()
    entries = entries_of(model)
    assert [entry.name for entry in entries] == FIRST + SECOND + THIRD
    assert {id(entry.parameter) for entry in entries} == {id(parameter) for parameter in model.parameters()}
    assert chosen("^layer.2", model) == SECOND
    assert chosen({"module": "Linear"}, model) == FIRST + SECOND + THIRD


def test_a_users_own_attribute_called_module_is_no_wrapper() -> None:
    assert [entry.name for entry in entries_of(wrapped(nn.Linear(1, 1), "module"))] == ["module.weight", "module.bias"]


def test_a_tied_parameter_is_one_entry_with_all_its_names() -> None:
    model = nn.ModuleDict({"embed": nn.Embedding(5, 3), "head": nn.Linear(3, 5)})
    model["head"].weight = model["embed"].weight
    entries = entries_of(model)
    assert [entry.names for entry in entries] == [("embed.weight", "head.weight"), ("head.bias",)]
    assert [type(owner) for owner in entries[0].owners] == [nn.Embedding, nn.Linear]
    for match in ("head", {"module": "Linear"}, {"regex": "head.*"}):
        assert chosen(match, model) == ["embed.weight", "head.bias"]
    assert chosen({"module": "Embedding"}, model) == ["embed.weight"]


def test_a_shared_module_is_listed_once() -> None:
    shared = nn.Linear(2, 2)
    assert [entry.names for entry in entries_of(nn.Sequential(shared, nn.ReLU(), shared))] == [
        ("0.weight", "2.weight"),
        ("0.bias", "2.bias"),
    ]


def test_absent_parameters_are_no_entries() -> None:
    assert [entry.name for entry in entries_of(nn.Linear(1, 1, bias=False))] == ["weight"]


def test_lazy_parameters_say_so() -> None:
    assert [entry.is_lazy for entry in entries_of(nn.Sequential(nn.LazyLinear(2), nn.Linear(2, 2)))] == [
        True,
        True,
        False,
        False,
    ]


GLOBS = st.text(st.sampled_from("ab01.*?[]!#^"), min_size=1, max_size=6).filter(
    lambda glob: glob.lstrip("^") and not glob.lstrip("^").startswith(".")
)


@given(GLOBS)
@example("[.x.a]0")
def test_the_quick_look_finds_what_the_slow_one_finds(glob: str) -> None:
    model = nn.ModuleDict(
        {"a": nn.ModuleDict({"b": nn.Linear(1, 1), "b0": nn.ModuleDict({"a1": nn.Linear(1, 1)})}), "b": nn.Linear(1, 1)}
    )
    index = ParameterIndex(nn.ModuleDict({"a0": model, "b": nn.ModuleList([nn.Linear(1, 1), nn.Linear(1, 1)])}))
    slow = {place for place, name in enumerate(index.names) if compiled_glob(glob).fullmatch(name)}
    assert index.select(glob, "key", []) == slow


PLAIN = st.sampled_from(["blocks", "head", "*.bias", {"ndim": 1}, {"module": "linear"}, {"numel": ">9"}])
NESTED = (
    PLAIN
    | st.lists(PLAIN, min_size=1, max_size=3)
    | st.builds(lambda one: {"not": one}, PLAIN)
    | st.builds(lambda one, other: {"any": one, "not": other}, PLAIN, PLAIN)
)
MATCHES = NESTED | st.lists(NESTED, min_size=1, max_size=2) | st.builds(lambda one: {"not": one}, NESTED)


@given(MATCHES, MATCHES)
def test_lists_are_unions_mappings_intersections_and_not_the_rest(one: Any, other: Any) -> None:
    index = ParameterIndex(Net())

    def entries(match: Any) -> set[int]:
        return index.entries_at(index.select(match, "key", []))

    whole = {*range(len(index.entries))}
    assert entries([one, other]) == entries(one) | entries(other)
    assert entries({"any": one, "not": {"not": other}}) == entries(one) & entries(other)
    assert entries({"not": one}) == whole - entries(one)


def test_in_a_large_model_one_of_each_block_is_compared(monkeypatch: pytest.MonkeyPatch) -> None:
    compared: list[int] = []
    monkeypatch.setattr(
        "lit_optim.selection.nearest", lambda text, known: (compared.append(len([*known])), nearest(text, known))[1]
    )
    with torch.device("meta"):
        model = nn.ModuleDict({"blocks": nn.ModuleList(nn.Linear(1, 1) for _ in range(3000)), "head": nn.Linear(1, 1)})
    assert looked_for("haed", model)[1][0].nearest == ("head",)
    assert looked_for("block.7.wieght", model)[1][0].nearest[0] == "blocks.7.weight"
    assert looked_for("block.3001.weight", model)[1][0].nearest[0] == "blocks.0.weight"
    assert max(compared) < 20


def test_in_a_large_model_without_numbers_those_of_about_its_length_are(monkeypatch: pytest.MonkeyPatch) -> None:
    compared: list[int] = []
    monkeypatch.setattr(
        "lit_optim.selection.nearest", lambda text, known: (compared.append(len([*known])), nearest(text, known))[1]
    )
    letters = "abcdefgh"
    names = ["".join(word) for word in itertools.product(letters, repeat=4)]
    model = nn.ParameterDict({name: torch.zeros(1) for name in [*names, "quite_another_one"]})
    assert looked_for("quite_anohter_one", model)[1][0].nearest == ("quite_another_one",)
    assert compared == [2000]


@pytest.mark.parametrize(("given", "nearest"), [("blokcs", "blocks"), ("bloks.1", "blocks.1")])
def test_a_misspelled_module_is_known_also_where_it_holds_nothing_itself(given: str, nearest: str) -> None:
    model = nn.ModuleDict({"blocks": nn.ModuleList(nn.Sequential(nn.Linear(1, 1)) for _ in range(2))})
    assert looked_for(given, model)[1][0].nearest[0] == nearest


def test_behind_a_parametrization_a_weight_is_still_its_layers() -> None:
    model = nn.Sequential(nn.utils.parametrizations.weight_norm(nn.Linear(2, 3)), nn.LayerNorm(3))
    assert [entry.name for entry in entries_of(model)] == [name for name, _ in model.named_parameters()]
    behind = [f"0.parametrizations.weight.original{i}" for i in (0, 1)]
    assert chosen({"module": "Linear"}, model) == chosen({"module": "linear"}, model) == ["0.bias", *behind]
    assert chosen({"module": "head"}, model) == ["0.bias", *behind]


def test_an_entry_knows_its_place_name_and_shape() -> None:
    entries = entries_of(nn.Sequential(nn.LazyLinear(2, bias=False), nn.Linear(2, 3)))
    assert [(one.position, one.name, one.shape, one.numel) for one in entries] == [
        (0, "0.weight", None, 0),
        (1, "1.weight", (3, 2), 6),
        (2, "1.bias", (3,), 3),
    ]
