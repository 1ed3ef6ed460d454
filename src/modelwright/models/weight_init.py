"""How weights start: per layer as its nonlinearity asks for, drawn from torch's generator."""

from __future__ import annotations

from torch import nn

from modelwright.models.speednet import Speednet
from modelwright.models.timm_networks import TimmBody
from modelwright.recipe.spec import Spec


def initialise(body: nn.Module, architecture: Spec) -> None:
    """Draw a body's weights anew, all but those of the last layer, `head`.

    He et al. 2015 before rectifiers, Glorot and Bengio 2010 before tanh; speednet's filters start
    as the identity, and networks of timm's as it draws them. The last layer keeps torch's small
    uniform weights, so that training begins with nearly equal outputs.
    """
    if isinstance(body, Speednet):
        _as_identity(body)
        return
    if isinstance(body, TimmBody):
        return
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


def _as_identity(body: Speednet) -> None:
    """Let the first filters of each convolution hand their input on (Jordan 2024, section 3.2).

    Further filters keep torch's uniform weights.
    """
    for module in body.groups.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.dirac_(module.weight.data[: module.in_channels])
    nn.init.zeros_(body.whiten.bias)  # type: ignore[arg-type]
