"""Networks over sound: augmentation of samples, convolutions over log-mel maps, a classifier."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from modelwright.models.logmel import LogMel, SpecAugment, mask


class Perturb(nn.Module):
    def __init__(
        self, *, speed=0.1, gain_db=6.0, noise_db=(-70.0, -30.0), shift=0.0, tilt=0.0
    ) -> None:
        super().__init__()
        self.speed, self.gain_db, self.noise_db = speed, gain_db, noise_db

    def forward(self, samples: Tensor, length: Tensor) -> tuple[Tensor, Tensor]:
        if not self.training:
            return samples, length
        n = len(samples)
        dev = samples.device
        draw = torch.rand(4, n, 1, device=dev)
        values = samples.float()
        if self.speed:
            factor = 1 + self.speed * (2 * draw[0] - 1)
            new = (length / factor[:, 0]).long().clamp(min=1)
            size = int(samples.shape[1] / (1 - self.speed))
            at = torch.arange(size, device=dev) * factor
            left = at.long()
            part = at - left
            left = left.clamp(max=samples.shape[1] - 1)
            right = (left + 1).clamp(max=samples.shape[1] - 1)
            values = values.gather(1, left) * (1 - part) + values.gather(1, right) * part
            length = new
        gain = 10 ** (self.gain_db * (2 * draw[1] - 1) / 20)
        low, high = self.noise_db
        noise = 32768 * 10 ** ((low + (high - low) * draw[2]) / 20)
        values = values * gain + noise * torch.randn_like(values)
        values = values * mask(length, values.shape[1])
        return values.clamp(-32768, 32767), length


class ConvFront(nn.Module):
    def __init__(
        self, widths: Sequence[int], *, time_pools: int, convs: int = 1, norm="bn"
    ) -> None:
        super().__init__()
        blocks = []
        c = 1
        for i, w in enumerate(widths):
            ls = nn.ModuleDict()
            for j in range(convs):
                ls[f"conv{j}"] = nn.Conv2d(c, w, 3, padding=1, bias=False)
                ls[f"norm{j}"] = nn.BatchNorm2d(w)
                c = w
            blocks.append(ls)
        self.blocks = nn.ModuleList(blocks)
        self.time_pools = time_pools
        self.convs = convs

    def forward(self, x: Tensor, frames: Tensor) -> tuple[Tensor, Tensor]:
        x = (x * mask(frames, x.shape[2])[:, None])[:, None]
        for i, b in enumerate(self.blocks):
            for j in range(self.convs):
                x = torch.relu(b[f"norm{j}"](b[f"conv{j}"](x)))
                x = x * mask(frames, x.shape[3])[:, None, None]
            if i < self.time_pools:
                x = nn.functional.max_pool2d(nn.functional.pad(x, (0, 1)), 2)
                frames = (frames + 1) // 2
            else:
                x = nn.functional.max_pool2d(x, (2, 1))
        return x, frames


class SoundClassifier(nn.Module):
    def __init__(
        self,
        num_outputs,
        *,
        sampling_rate,
        mels=64,
        widths=(32, 64, 96, 128),
        dropout=0.3,
        perturb=None,
        spec=None,
        time_pools=4,
        convs=1,
    ):
        super().__init__()
        self.perturb = Perturb(**(perturb or {}))
        self.logmel = LogMel(sampling_rate, mels=mels)
        self.spec = SpecAugment(**(spec or {}))
        self.front = ConvFront(widths, time_pools=time_pools, convs=convs)
        self.dropout = nn.Dropout(dropout)
        self.head = nn.Linear(widths[-1] * (mels >> len(widths)) * 2, num_outputs)
        self.cmn = False

    def forward(self, samples, length):
        samples, length = self.perturb(samples, length)
        x, frames = self.logmel(samples, length)
        if self.cmn:
            m = mask(frames, x.shape[2])[:, None]
            x = x - (x * m).sum(2, keepdim=True) / frames[:, None, None]
        x = self.spec(x, frames)
        x, steps = self.front(x, frames)
        x = x.flatten(1, 2)
        mean = x.sum(2) / steps[:, None]
        return self.head(self.dropout(torch.cat([mean, x.amax(2)], 1)))
