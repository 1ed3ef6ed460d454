"""How weights start: per layer as its nonlinearity asks for, drawn from torch's generator."""

from __future__ import annotations

from torch import nn

from modelwright.recipe.spec import Spec


def initialise(body: nn.Module, architecture: Spec) -> None:
    """Draw a body's weights anew: He et al. 2015 before rectifiers, Glorot and Bengio 2010 before tanh.

    The last layer, `head`, keeps torch's smaller uniform weights, so that training begins with
    nearly equal outputs.
    """
    is_tanh = getattr(architecture, "activation", "relu") == "tanh"
    for name, module in body.named_modules():
        if name == "head" or not isinstance(module, nn.Conv2d | nn.Linear):
            continue
        if is_tanh:
            nn.init.xavier_normal_(module.weight, gain=nn.init.calculate_gain("tanh"))
        else:
            nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
        if module.bias is not None:
            nn.init.zeros_(module.bias)
