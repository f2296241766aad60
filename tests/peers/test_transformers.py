"""The split into decayed and undecayed parameters is that of transformers' Trainer."""

from __future__ import annotations

from typing import Any

import pytest
from torch import nn

import lit_optim as lo

transformers = pytest.importorskip("transformers", reason="the extra peers has an environment of its own")

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::UserWarning", "ignore::FutureWarning")

SMALL: dict[str, Any] = {"hidden_size": 32, "num_hidden_layers": 3, "num_attention_heads": 2, "intermediate_size": 64}
MODELS = {
    "bert": lambda: transformers.BertForSequenceClassification(transformers.BertConfig(**SMALL, vocab_size=99)),
    "bert_lm": lambda: transformers.BertForMaskedLM(transformers.BertConfig(**SMALL, vocab_size=99)),
    "gpt2": lambda: transformers.GPT2LMHeadModel(
        transformers.GPT2Config(n_embd=32, n_layer=3, n_head=2, vocab_size=99)
    ),
    "llama": lambda: transformers.LlamaForCausalLM(transformers.LlamaConfig(**SMALL, vocab_size=99)),
    "t5": lambda: transformers.T5ForConditionalGeneration(
        transformers.T5Config(d_model=32, d_ff=64, d_kv=16, num_layers=2, num_heads=2, vocab_size=99)
    ),
}
NO_DECAY = {"no_decay": {"match": ["*bias*", {"module": "norm"}], "weight_decay": 0.0}}
NO_DECAY_WITHOUT_BIAS = {"no_decay": {"match": {"module": "norm"}, "weight_decay": 0.0}}


def planned(model: nn.Module, rules: dict[str, Any]) -> lo.Plan:
    optimizer = {"_target_": "torch.optim.AdamW", "lr": 1e-3, "weight_decay": 0.1}
    recipe = lo.Recipe.from_config({"optimizer": optimizer, "rules": rules})
    return lo.make_plan(model, recipe, lo.Horizon(total_steps=100))


def having(plan: lo.Plan, name: str, value: float) -> set[str]:
    return {p for group in plan.groups if group.hyperparameters[name] == value for p in group.parameters}


@pytest.mark.parametrize("name", MODELS)
def test_the_split_is_the_trainers(name: str) -> None:
    model = MODELS[name]()
    held = {known for known, _ in model.named_parameters()}
    decayed = {*transformers.Trainer.get_decay_parameter_names(None, model)} & held
    plan = planned(model, NO_DECAY if any("bias" in known for known in held) else NO_DECAY_WITHOUT_BIAS)
    assert having(plan, "weight_decay", 0.1) == decayed
    assert having(plan, "weight_decay", 0.0) == held - decayed
    assert decayed
    assert held - decayed


@pytest.mark.parametrize(
    ("name", "heads", "embeddings"),
    [
        ("bert", {"classifier.weight", "classifier.bias"}, 3),
        ("bert_lm", {"bert.embeddings.word_embeddings.weight", "cls.predictions.bias"}, 3),
        ("gpt2", {"transformer.wte.weight"}, 2),
        ("llama", {"lm_head.weight"}, 1),
        ("t5", {"shared.weight"}, 3),
    ],
)
def test_head_and_embeddings_are_found_also_where_they_are_one(name: str, heads: set[str], embeddings: int) -> None:
    rules = {
        "embeddings": {"match": {"module": "embedding"}, "multiply": {"lr": 0.5}},
        "head": {"match": {"module": "head"}, "weight_decay": 0.3},
    }
    plan = planned(MODELS[name](), rules)
    assert having(plan, "weight_decay", 0.3) == heads
    assert len(having(plan, "lr", 5e-4)) == embeddings


def test_layer_decay_follows_the_blocks() -> None:
    plan = planned(MODELS["bert"](), {"layers": {"match": "*", "layer_decay": 0.5}})
    rates = {name: group.hyperparameters["lr"] for group in plan.groups for name in group.parameters}
    for name, rate in rates.items():
        block = name.split("layer.")[1].split(".")[0] if "encoder.layer." in name else None
        depth = int(block) + 1 if block is not None else 0 if ".embeddings." in name else 4
        assert rate == 1e-3 * 0.5 ** (4 - depth), name
