"""An optimizer step of a ViT-S under layer-wise decay, against the param groups that timm makes of the same tensors.

    python benchmarks/layer_decay.py

All hold the parameters of one model with the same gradients, in AdamW with a layer decay of 0.75 and no weight decay on
biases and norms: timm's groups in a fused AdamW, since ours is fused unless told otherwise, and the optimizer that timm
makes itself. The narrow model has the tensors of a ViT-S an eighth as wide, so that what groups cost is not hidden
behind the arithmetic. Needs the extra `peers`.
"""

from __future__ import annotations

import runpy
import time
from pathlib import Path

import paired
import torch
from torch import nn
from torch.optim import AdamW, Optimizer

import lit_optim as lo

_PEERS = Path(__file__).parents[1] / "tests" / "peers" / "conftest.py"
_DECLARED = runpy.run_path(str(_PEERS))  # operators of torchvision, which timm imports

LR, WEIGHT_DECAY, LAYER_DECAY = 1e-3, 0.05, 0.75
SPARED = ("cls_token", "pos_embed")  # no weight decay, as timm has it
WIDTHS = {"ViT-S": 384, "narrow": 48}


def with_gradients(width: int) -> nn.Module:
    """A ViT-S as timm makes it, or narrower."""
    import timm

    torch.manual_seed(0)
    model: nn.Module = timm.create_model("vit_small_patch16_224", embed_dim=width)
    for parameter in model.parameters():
        parameter.grad = torch.randn_like(parameter)
    return model


def ours(model: nn.Module) -> Optimizer:
    """As `lo.build` makes it of a recipe of two rules."""
    rules = {
        "no_decay": {"match": [{"ndim": "<=1"}, *(f"^{name}" for name in SPARED)], "weight_decay": 0.0},
        "layers": {"match": "*", "layer_decay": LAYER_DECAY},
    }
    node = {"_target_": "torch.optim.AdamW", "lr": LR, "weight_decay": WEIGHT_DECAY}
    return lo.build(model, lo.make_plan(model, {"optimizer": node, "rules": rules}, lo.Horizon(1000)))[0]


def contestants(width: int) -> dict[str, Optimizer]:
    """By what the table calls them."""
    from timm.optim import create_optimizer_v2, param_groups_layer_decay

    model = with_gradients(width)
    groups = param_groups_layer_decay(model, WEIGHT_DECAY, SPARED, layer_decay=LAYER_DECAY)
    made = {
        "timm's groups, fused": AdamW(groups, lr=LR, fused=True),
        "timm's optimizer": create_optimizer_v2(model, "adamw", LR, WEIGHT_DECAY, layer_decay=LAYER_DECAY),
        "lit-optim": ours(model),
    }
    assert {len(one.param_groups) for one in made.values()} == {28}
    return made


def main() -> None:
    """Measure, print and append."""
    given = paired.arguments(__doc__, 40)
    torch.set_num_threads(1)
    tables = []
    for name, width in WIDTHS.items():
        optimizers = contestants(width)
        takes = {who: paired.timed(one.step, clock=time.process_time) for who, one in optimizers.items()}
        table = paired.rounds(takes, given.rounds, warmup=3).table("timm's groups, fused", "ms", name)
        tables.append(table)
    paired.append("A step under layer-wise decay", __doc__, "\n\n".join(tables), given.dry_run)


if __name__ == "__main__":
    main()
