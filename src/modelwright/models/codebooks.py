"""Codebooks for the weights of a layer: weighted k-means, in stages, and which weights go together.

The squared error of each weight counts as much as what it is multiplied with is large: the second
moment of its input over training samples (Stock et al. 2020, `And the bit goes down`, whose
equation 2 has the whole matrix, with its diagonal in place). Channels change places so that blocks
become more alike (Martinez et al. 2021, `Permute, quantize, and fine-tune`, section 3.2). Further
codebooks take what is left over, and all are refined in turn (residual, then additive, as in
Egiazarian et al. 2024, `AQLM`).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from modelwright.models.coded import decoded

_AT_ONCE = 1 << 22
"""So many distances between blocks and entries are in memory at once."""
_STEPS, _FEW_STEPS = 30, 8
"""Steps of k-means for a codebook, and where two arrangements are only compared."""
_ROUNDS = 2
"""How often each of several codebooks is refined while the others stand still."""
_COMPARED = 1 << 15
"""So many blocks tell which of two arrangements is better."""
_SWAPS = 200
"""How many swaps of two channels are tried."""
_GAIN = 0.02
"""The least part of the error that another order must save to be worth its bytes."""


@dataclass(frozen=True, slots=True)
class Coded:
    """What a layer's weights become."""

    codes: Tensor
    """uint8 `[S, O, blocks]`"""
    codebook: Tensor
    """fp32 `[S, K, block]`"""
    order: Tensor | None
    """`[I]`: where each weight of a row stands in the blocks, unless one by one."""
    error: float
    """The weighted squared error, as a share of the weights' own weighted square."""


def encode(
    weight: Tensor,
    importance: Tensor,
    *,
    block_size: int,
    codebook_size: int,
    codebooks: int,
    permute: bool,
    zero: int | None = None,
    seed: int,
) -> Coded:
    """Return codes and codebooks for a layer's weights.

    Args:
        weight: the weights `[O, C, …]`.
        importance: how much the squared error of each counts, of the same shape.
        block_size: how many weights share a code.
        codebook_size: how many entries a codebook has.
        codebooks: how many there are.
        permute: whether another order of the weights in a row is tried.
        zero: the output whose weights are 0, exactly: the first entry of each codebook then is.
        seed: of the first entries.
    """
    rows, counts = weight.flatten(1).float(), importance.flatten(1).float()
    size = codebook_size if zero is None else codebook_size - 1
    order = torch.arange(rows.shape[1])
    if permute and block_size > 1:
        found = arrangement(weight.float(), importance.float(), block_size, seed)
        errors = []
        for tried in (order, found):
            x, w = blocked(rows, counts, block_size, tried)
            few = torch.linspace(0, len(x) - 1, min(len(x), _COMPARED)).long()
            entries, taken = k_means(x[few], w[few], size, seed, steps=_FEW_STEPS)
            errors.append(float((w[few] * (x[few] - entries[taken]).square()).sum()))
        if errors[1] < (1 - _GAIN) * errors[0]:
            order = found
    x, w = blocked(rows, counts, block_size, order)
    codes, codebook = fit_codebooks(x, w, size, codebooks, seed)
    codes = codes.reshape(codebooks, len(rows), -1)
    if zero is not None:
        codes = codes + 1
        codes[:, zero] = 0
        codebook = torch.cat([torch.zeros_like(codebook[:, :1]), codebook], 1)
    rest = w * (x - decoded(codes, codebook).flatten(0, 1)).square()
    total = float((w * x.square()).sum())
    is_whole = codes.shape[2] * block_size == rows.shape[1]
    as_they_are = is_whole and torch.equal(order, torch.arange(len(order)))
    return Coded(
        codes=codes.to(torch.uint8),
        codebook=codebook,
        order=None if as_they_are else order,
        error=float(rest.sum()) / total if total > 0 else 0.0,
    )


def blocked(rows: Tensor, counts: Tensor, block_size: int, order: Tensor) -> tuple[Tensor, Tensor]:
    """Return the blocks of rows `[O, I]` in an order, and of their counts, each `[blocks, block]`.

    What fills up a row counts nothing.
    """
    width = -(-(int(order.max()) + 1) // block_size) * block_size
    parts = []
    for item in (rows, counts):
        whole = item.new_zeros(len(item), width)
        whole[:, order] = item
        parts.append(whole.reshape(-1, block_size))
    return parts[0], parts[1]


def fit_codebooks(x: Tensor, w: Tensor, size: int, number: int, seed: int) -> tuple[Tensor, Tensor]:
    """Return the codes `[S, blocks]` and the codebooks `[S, K, block]` of blocks `x`.

    Each codebook is fitted to what those before it leave, then each anew to what the others leave.
    """
    codebooks = x.new_zeros(number, size, x.shape[1])
    codes = torch.zeros(number, len(x), dtype=torch.long)
    rest = x
    for at in range(number):
        codebooks[at], codes[at] = k_means(rest, w, size, seed + at)
        rest = rest - codebooks[at][codes[at]]
    for _ in range(_ROUNDS if number > 1 else 0):
        for at in range(number):
            rest = rest + codebooks[at][codes[at]]
            codebooks[at], codes[at] = k_means(
                rest, w, size, seed, steps=_FEW_STEPS, start=codebooks[at]
            )
            rest = rest - codebooks[at][codes[at]]
    return codes, codebooks


def k_means(
    x: Tensor,
    w: Tensor,
    size: int,
    seed: int,
    *,
    steps: int = _STEPS,
    start: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """Return entries `[K, d]` for blocks `[N, d]`, and the nearest entry of each block `[N]`.

    Each number's squared error counts by `w` `[N, d]`. No step makes their sum larger. An entry
    that no block takes becomes a block, drawn the likelier the farther it is from its own entry
    (as Arthur and Vassilvitskii 2007 draw the first ones).

    Args:
        x: the blocks.
        w: how much the error of each number counts.
        size: K.
        seed: of the blocks that are drawn.
        steps: how many steps are made at most.
        start: the first entries.
    """
    draw = torch.Generator().manual_seed(seed)
    if start is None:
        picked = torch.randperm(len(x), generator=draw)[:size]
        start = x[picked.repeat(-(-size // len(picked)))[:size]]
    entries = start.clone()
    codes, distances = nearest_entries(x, w, entries)
    for _ in range(steps):
        sums = torch.zeros_like(entries).index_add_(0, codes, w * x)
        weights = torch.zeros_like(entries).index_add_(0, codes, w)
        entries = torch.where(weights > 0, sums / weights.clamp_min(1e-30), entries)
        empty = (torch.bincount(codes, minlength=size) == 0).nonzero()[:, 0]
        if len(empty):
            bounds = distances.double().cumsum(0)
            at = torch.rand(len(empty), dtype=torch.float64, generator=draw) * bounds[-1]
            entries[empty] = x[torch.searchsorted(bounds, at).clamp_max_(len(x) - 1)]
        before = codes
        codes, distances = nearest_entries(x, w, entries)
        if torch.equal(codes, before):
            break
    return entries, codes


def nearest_entries(x: Tensor, w: Tensor, entries: Tensor) -> tuple[Tensor, Tensor]:
    """Return for blocks `[N, d]` the entry of least weighted squared distance, and the distance."""
    codes, distances = [], []
    step = max(_AT_ONCE // len(entries), 1)
    squares = entries.square().T
    for start in range(0, len(x), step):
        part, counts = x[start : start + step], w[start : start + step]
        products = torch.addmm(counts @ squares, part * counts, entries.T, alpha=-2)
        least = products.min(1)
        codes.append(least.indices)
        distances.append(least.values + (counts * part.square()).sum(1))
    return torch.cat(codes), torch.cat(distances).clamp_min_(0)


def arrangement(weight: Tensor, importance: Tensor, block_size: int, seed: int) -> Tensor:
    """Return an order of the weights of a row `[I]` in which blocks hold channels that go together.

    Blocks hold channels at one place of the kernel. Channels are sorted so that the numbers at a
    place of the blocks vary alike, which makes the determinant of the blocks' covariance small;
    then two channels change places as long as that makes it smaller.
    """
    channels = weight.shape[1]
    scaled = (weight * importance.sqrt()).reshape(len(weight), channels, -1)
    scaled = scaled.movedim(1, -1).flatten(0, 1)
    covariance = (scaled.T @ scaled).double()
    number = -(-channels // block_size)
    # By place in the block, then by block; the last blocks lack their last places.
    by_variance = covariance.diagonal().argsort(descending=True)
    places = torch.arange(number * block_size).reshape(number, block_size).T.flatten()
    holders = torch.full((number * block_size,), -1)
    holders[places[:channels]] = by_variance
    holders = _swapped(holders.reshape(number, block_size), covariance, seed)
    order = torch.empty(channels, dtype=torch.long)
    flat = holders.flatten()
    order[flat[flat >= 0]] = (flat >= 0).nonzero()[:, 0]
    kernel = weight[0, 0].numel()
    return (order[:, None] + torch.arange(kernel) * number * block_size).flatten()


def _swapped(holders: Tensor, covariance: Tensor, seed: int) -> Tensor:
    """Return which channel stands where `[blocks, block]` after swaps that lower a determinant."""
    whole = torch.zeros(len(covariance) + 1, len(covariance) + 1, dtype=covariance.dtype)
    whole[:-1, :-1] = covariance  # Where no channel stands, nothing varies.
    damping = covariance.diagonal().mean().clamp_min(1e-30) * 1e-6
    number, size = holders.shape

    def between(held: Tensor) -> Tensor:
        return whole[held[:, :, None], held[:, None, :]].sum(0)

    total = between(holders) + damping * torch.eye(size, dtype=whole.dtype)
    least = float(torch.logdet(total))
    draw = torch.Generator().manual_seed(seed)
    pairs = torch.randint(number * size, (_SWAPS, 2), generator=draw)
    for one, other in pairs.tolist():
        rows = torch.tensor(sorted({one // size, other // size}))
        tried = holders.clone()
        tried.view(-1)[[one, other]] = tried.view(-1)[[other, one]]
        changed = total - between(holders[rows]) + between(tried[rows])
        found = float(torch.logdet(changed))
        if found < least:
            holders, total, least = tried, changed, found
    return holders
