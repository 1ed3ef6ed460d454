"""One process of several, started by `torchrun`: trains 50 steps and writes its weights."""

from __future__ import annotations

import sys
from pathlib import Path

import torch

from tests.training import small

if __name__ == "__main__":
    torch.set_num_threads(1)
    folder, dtype = Path(sys.argv[1]), sys.argv[2]
    torch.set_default_dtype(getattr(torch, dtype))
    network = small.candidate(batch_norm=False, dropout=0.0)
    found, report = small.trained(folder, start=network, epochs=50 / 7, select="last")
    assert report.steps == 50
    if report.world == 1 or torch.distributed.get_rank() == 0:
        torch.save(found.network.state_dict(), folder / "final.pt")
    if report.world > 1:
        torch.distributed.destroy_process_group()
