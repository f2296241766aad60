"""The multilayer perceptron of the worked example."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

from torch import Tensor, nn

from lit_optim.errors import nearest

__all__ = ["MLP"]

_ACTIVATIONS: dict[str, type[nn.Module]] = {
    "relu": nn.ReLU,
    "leaky_relu": nn.LeakyReLU,
    "gelu": nn.GELU,
    "silu": nn.SiLU,
    "elu": nn.ELU,
    "tanh": nn.Tanh,
    "sigmoid": nn.Sigmoid,
}


class MLP(nn.Module):
    """Linear layers with an activation between each two, in one ``nn.Sequential`` called ``layer``.

    With 784, (300, 200) and 10 the linear layers are ``layer.0``, ``layer.2`` and ``layer.4``.

    Args:
        in_dim: Numbers in one sample; a sample of any shape is flattened.
        hidden_dims: Units of each hidden layer; empty for a linear model.
        out_dim: Classes.
        activation: Between layers: relu, leaky_relu, gelu, silu, elu, tanh or sigmoid.
        output_activation: After the last layer, one of the same, or None. ``"relu"`` is the tutorial's last layer. It
            is off by default because cross-entropy takes logits of either sign: a ReLU before it cuts away the negative
            ones, and a unit that is negative for every sample gets no gradient any more: its class is never learned.
        dropout: Share of hidden units that are 0 in each training step, in [0, 1). It stands within the activation's
            place, so the linear layers keep their names.

    Shapes:
        (batch, *) with ``in_dim`` numbers a sample → (batch, ``out_dim``)

    Raises:
        ValueError: A dimension below 1, a dropout out of its range, or an unknown activation.

    >>> MLP(784, (300, 200), 10)
    MLP(
      (layer): Sequential(
        (0): Linear(in_features=784, out_features=300, bias=True)
        (1): ReLU()
        (2): Linear(in_features=300, out_features=200, bias=True)
        (3): ReLU()
        (4): Linear(in_features=200, out_features=10, bias=True)
      )
    )
    """

    def __init__(
        self,
        in_dim: int,
        hidden_dims: Sequence[int],
        out_dim: int,
        activation: str = "relu",
        output_activation: str | None = None,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        wrong = []
        dims = [in_dim, *(() if isinstance(hidden_dims, (str, int)) else hidden_dims), out_dim]
        if isinstance(hidden_dims, (str, int)):
            wrong.append(f"hidden_dims is a list of integers, not {hidden_dims!r}")
        no_dims = [repr(dim) for dim in dims if isinstance(dim, bool) or not isinstance(dim, int) or dim < 1]
        if no_dims:
            wrong.append(f"in_dim, hidden_dims and out_dim are integers of at least 1, not {', '.join(no_dims)}")
        if isinstance(dropout, bool) or not isinstance(dropout, (int, float)) or not 0 <= dropout < 1:
            wrong.append(f"dropout is a number from 0 up to but not 1, not {dropout!r}")
        for argument, name in {"activation": activation, "output_activation": output_activation}.items():
            if name not in _ACTIVATIONS and not (name is None and argument == "output_activation"):
                near = nearest(str(name), _ACTIVATIONS, 1)
                hint = f"; did you mean {near[0]}?" if near else ""
                wrong.append(f"{argument} is one of {', '.join(_ACTIVATIONS)}, not {name!r}{hint}")
        if wrong:
            raise ValueError("; ".join(wrong))
        layers: list[nn.Module] = []
        for fan_in, fan_out in pairwise(dims):
            between = _ACTIVATIONS[activation]()
            layers += [nn.Linear(fan_in, fan_out), nn.Sequential(between, nn.Dropout(dropout)) if dropout else between]
        layers[-1:] = [] if output_activation is None else [_ACTIVATIONS[output_activation]()]
        self.layer = nn.Sequential(*layers)

    def forward(self, x: Tensor) -> Tensor:
        """Logits (after ``output_activation``) of shape (batch, out_dim)."""
        logits: Tensor = self.layer(x.flatten(1))
        return logits
