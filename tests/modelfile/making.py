"""Small candidates and hostile files for the tests of the model file.

`python -m tests.modelfile.making` writes the frozen example of the present format anew: only when
the format's number rises.
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from modelwright import models
from modelwright.files import canonical_json, digest
from modelwright.ledger import Evidence, Ledger
from modelwright.modelfile import layout, write_model
from modelwright.modelfile.container import open_container
from modelwright.modelfile.manifest import MANIFEST, describe_member
from modelwright.models.candidate import Candidate
from modelwright.recipe.model import CnnModel, MlpModel
from modelwright.transforms import ImageInput

FROZEN = Path(__file__).parent / "frozen" / "v1.mw"
LABELS = ("cat 🐈", "狗", "../../etc/passwd", "<b>&\"'</b>")


def candidate(
    spec: Any = None,
    *,
    size: int = 8,
    channels: int = 1,
    labels: tuple[str, ...] = LABELS,
    **more: Any,
) -> Candidate:
    """Return a small network with weights that never change."""
    spec = spec or MlpModel(name="mlp", hidden=(5,))
    input = ImageInput(size, size, channels)  # type: ignore[arg-type]
    network = models.build(
        spec,
        channels=channels,
        height=size,
        width=size,
        num_outputs=len(labels),
        mean=[0.5] * channels,
        std=[0.25] * channels,
    )
    fill(network)
    architecture = models.architecture(spec, input=input, num_outputs=len(labels))
    return Candidate(network, "image-classification", input, labels, architecture, **more)


def fill(network: torch.nn.Module) -> None:
    """Give every weight a value that depends on its name and place alone."""
    with torch.no_grad():
        for name, item in network.state_dict().items():
            if not item.is_floating_point() or name.startswith("steps."):
                continue
            places = torch.arange(item.numel(), dtype=torch.float64).reshape(item.shape)
            start = zlib.crc32(name.encode()) % 997 / 997
            values = torch.remainder(places * 0.6180339887 + start, 1.0) - 0.5
            item.copy_(values.abs() + 0.5 if "running_var" in name else values)


CNN = CnnModel(name="cnn", blocks=({"filters": 4, "convolutions": 2}, {"filters": 6}), head=(8,))  # type: ignore[arg-type]


def evidence(metric: str = "accuracy", value: float = 0.9, model: str = "") -> Evidence:
    return Evidence(
        metric=metric, value=value, low=0.8, high=0.95, n=100, method="counted", model=model
    )


def members_of(path: Path) -> dict[str, bytes]:
    with open_container(path) as container:
        return {item.name: container.read(item.name) for item in container.manifest.members}


def forge(
    path: Path,
    source: Path,
    *,
    change: Mapping[str, bytes | None] | None = None,
    manifest: Callable[[dict[str, Any]], Any] | None = None,
) -> Path:
    """Write a file as an attacker would who can compute every digest: only its content is wrong."""
    members = members_of(source) | dict(change or {})
    with open_container(source) as container:
        described = container.manifest.to_json()
    kept = {name: data for name, data in members.items() if data is not None}
    described["members"] = [describe_member(name, data).to_json() for name, data in kept.items()]
    parts = {
        item["name"]: {"size": item["size"], "digest": item["digest"]}
        for item in described["members"]
        if item["name"].startswith("model/")
    }
    described["model"]["digest"] = digest(canonical_json(parts))
    described["model"]["size_bytes"] = sum(part["size"] for part in parts.values())
    if manifest is not None:
        described = manifest(described)
    last = canonical_json(described)
    contents = {**kept, MANIFEST: last}
    entries = [describe_member(name, data).entry for name, data in contents.items()]
    if isinstance(described, dict) and len(described.get("members", [])) == len(kept):
        claimed = [item.get("crc32") for item in described["members"]]
        entries = [
            replace(entry, crc32=int(crc, 16)) if isinstance(crc, str) and len(crc) == 8 else entry
            for entry, crc in zip(entries, [*claimed, f"{entries[-1].crc32:08x}"], strict=True)
        ]
    plan = layout.lay_out(entries, layout.write_comment(digest(last), None))
    raw = b"".join(
        gap + data for (_, gap), data in zip(plan.gaps, [*contents.values(), b""], strict=True)
    )
    path.write_bytes(raw)
    return path


def edit_json(data: bytes, **changes: Any) -> bytes:
    return canonical_json(json.loads(data) | changes)


def freeze() -> None:
    report = write_model(
        FROZEN,
        candidate(
            MlpModel(name="mlp", hidden=(4,)),
            size=4,
            views="flip",
            lineage=({"step": "train", "steps": 3},),
        ),
        recipe="version: 1\ndata: {source: digits}\n",
        data_card={"train": 3, "labels": list(LABELS)},
        environment={"libraries": {}},
        ledger=Ledger([evidence()]),
    )
    print(report)  # noqa: T201 – a script's one line


if __name__ == "__main__":
    freeze()
