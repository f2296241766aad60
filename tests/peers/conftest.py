"""Peers have an environment of their own: timm needs torchvision, whose operators don't load beside a CPU torch.

``pip install -c constraints.txt -e ".[peers]" && pytest tests/peers`` runs these tests.
"""

from __future__ import annotations

import importlib.util

import torch

if importlib.util.find_spec("torchvision") is not None and not hasattr(torch.ops.torchvision, "nms"):
    _SCHEMAS = torch.library.Library("torchvision", "DEF")  # kept: the schemas go with it
    for _name in ("nms", "qnms"):  # all that importing torchvision asks for
        _SCHEMAS.define(f"{_name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
