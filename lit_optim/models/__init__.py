"""Models that the examples train."""

from lit_optim.models.mlp import MLP

__all__ = ["MLP"]
