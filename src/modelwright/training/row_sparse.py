"""Steps that move only some rows of a table: those of the words and n-grams in the batch.

A table of hashed n-grams has a vector for each of some 100,000 n-grams, and a batch a few thousand
of them. A step on the whole table would take most of the time, and move rows that say nothing of
the batch. So the gradient of a table (`nn.Embedding(sparse=True)`) is one of a few rows, and the
optimizer's arithmetic is done on these: their momentum, decay and regularisation stand still
between the batches that they are in, as in torch's `SparseAdam`.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import torch
from torch import Tensor, nn


def tables(network: nn.Module) -> frozenset[str]:
    """Return the names of the weights whose steps move rows."""
    return frozenset(
        f"{name}.weight".lstrip(".")
        for name, module in network.named_modules()
        if isinstance(module, nn.Embedding) and module.sparse
    )


@contextlib.contextmanager
def moved_rows(stepper: torch.optim.Optimizer) -> Iterator[None]:
    """Put the rows that have a gradient in the place of an optimizer's tables, for one step.

    Afterwards the rows of the tables, and of the optimizer's state, are what the step made of them.
    """
    tables_of = [settings["params"] for settings in stepper.param_groups]
    taken: list[tuple[nn.Parameter, Tensor, nn.Parameter]] = []
    for settings, whole in zip(stepper.param_groups, tables_of, strict=True):
        settings["params"] = []
        for table in whole:
            rows, gradient = rows_of(table.grad)
            if len(rows):
                part = nn.Parameter(table.detach().index_select(0, rows))
                part.grad = gradient
                settings["params"].append(part)
                taken.append((table, rows, part))
                for key, value in stepper.state[table].items():
                    of_rows = value.index_select(0, rows) if value.ndim else value
                    stepper.state[part][key] = of_rows
    yield
    for settings, whole in zip(stepper.param_groups, tables_of, strict=True):
        settings["params"] = whole
    for table, rows, part in taken:
        table.detach().index_copy_(0, rows, part.detach())
        state = stepper.state[table]
        for key, value in stepper.state.pop(part, {}).items():
            if value.ndim == 0:
                state[key] = value
            else:
                if key not in state:
                    state[key] = torch.zeros_like(table)
                state[key].index_copy_(0, rows, value)


def rows_of(gradient: Tensor) -> tuple[Tensor, Tensor]:
    """Return the rows `[R]` of a table's gradient that aren't zero, and the gradient `[R, D]`."""
    if gradient.is_sparse:
        gradient = gradient.coalesce()
        rows, values = gradient.indices()[0], gradient.values()
    else:
        rows, values = torch.arange(len(gradient), device=gradient.device), gradient
    is_moved = values.abs().amax(1) != 0
    return rows[is_moved], values[is_moved]
