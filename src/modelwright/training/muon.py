"""Muon: momentum whose matrices are orthogonalised before each step (Jordan et al. 2024).

A filter `[out, in, h, w]` is treated as the matrix `[out, in·h·w]`. The orthogonal factor is
approached by a Newton–Schulz iteration with the published coefficients. Each weight is also kept at
its natural length, √out, as the CIFAR-10 records do.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor

# The quintic's coefficients, from the published description: they push every singular value
# towards 1 in few steps, without settling there exactly.
_QUINTIC = (3.4445, -4.7750, 2.0315)


def orthogonalise(matrix: Tensor, *, steps: int) -> Tensor:
    """Return about the nearest matrix with all singular values near 1.

    Each step multiplies X from the left by a polynomial in its Gram matrix X·Xᵀ. The products are
    gathered on the small square side, and X is multiplied once, at the end. All of it in the
    matrix's own format: in bf16 the gathered products of a nearly singular matrix run away.

    Three steps bring most singular values of a matrix `[R, C]` into 0.5…1.2, five nearly all.
    """
    is_wide = matrix.shape[0] <= matrix.shape[1]
    x = matrix if is_wide else matrix.mT
    x = x / x.norm().clamp_min(1e-7)
    a, b, c = _QUINTIC
    gram = x @ x.mT
    factor: Tensor | None = None
    for step in range(steps):
        polynomial = torch.addmm(gram, gram, gram, beta=b, alpha=c)
        polynomial.diagonal().add_(a)
        factor = polynomial if factor is None else polynomial @ factor
        if step + 1 < steps:
            gram = polynomial @ gram @ polynomial
    result: Tensor = x if factor is None else factor @ x
    return result if is_wide else result.mT


class Muon(torch.optim.Optimizer):
    """Nesterov momentum, orthogonalised by so many Newton–Schulz steps, on matrices and filters.

    A step changes each weight by about the share `lr` of its length.
    """

    def __init__(
        self, groups: Iterable[dict[str, Any]], *, lr: float, momentum: float, steps: int
    ) -> None:
        super().__init__(groups, {"lr": lr, "momentum": momentum, "steps": steps})

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]
        """Take one step with the gradients in `.grad`."""
        for group in self.param_groups:
            for parameter in group["params"]:
                if parameter.grad is None or group["lr"] == 0.0:
                    continue
                state = self.state[parameter]
                if "momentum_buffer" not in state:
                    state["momentum_buffer"] = torch.zeros_like(parameter)
                buffer = state["momentum_buffer"]
                buffer.mul_(group["momentum"]).add_(parameter.grad)
                direction = parameter.grad.add(buffer, alpha=group["momentum"])
                update = orthogonalise(direction.flatten(1), steps=group["steps"])
                length = parameter.shape[0] ** 0.5
                parameter.mul_(length / parameter.norm().clamp_min(1e-7))
                parameter.add_(update.view_as(parameter), alpha=-group["lr"])
