"""Small candidates and hostile files for the tests of the model file.

The frozen example of the present format, and what is known of it, are made anew by one line:

    python -m tests.modelfile.making

Only where the format changes: the difference of `frozen/` is reviewed as the format's own.
"""

from __future__ import annotations

import itertools
import json
import zlib
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch

from modelwright import modelfile, models
from modelwright.files import canonical_json, digest, write_json
from modelwright.kinds import OutputKind
from modelwright.ledger import Evidence, Ledger
from modelwright.modelfile import layout, write_model
from modelwright.modelfile.container import open_container
from modelwright.modelfile.manifest import MANIFEST, SIGNATURE, describe_member, order_members
from modelwright.models.candidate import Candidate
from modelwright.recipe.networks import BowModel, CnnModel, DecoderModel, MlpModel
from modelwright.tasks.inference import Inference
from modelwright.transforms import ImageInput
from modelwright.transforms.text import TextInput
from modelwright.transforms.tokenizing import train_tokenizer

FROZEN = Path(__file__).parent / "frozen" / f"v{layout.FORMAT}.mw"
KNOWN = FROZEN.with_suffix(".json")
"""What is known of the frozen example: its digests and an answer."""
PICTURE = b"<svg xmlns='http://www.w3.org/2000/svg'/>"
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


def arrays_candidate(network: torch.nn.Module, *tensors: dict[str, Any]) -> Candidate:
    """Return a network that takes arrays and gives numbers."""
    declared = {"kind": "arrays", "tensors": list(tensors)}
    return Candidate(
        network=network,
        task="arrays-to-numbers",
        input=SimpleNamespace(to_json=lambda: declared),  # type: ignore[arg-type]
        labels=(),
        architecture={"name": "none of ours"},
        output_kind=OutputKind.REGRESSION,
    )


def text_candidate() -> Candidate:
    """Return a small network over texts, with a vector for each word."""
    tokenizer = train_tokenizer(
        ["the cat sat on the mat", "a dog ran"], kind="word", size=30, lowercase=True
    )
    input, spec = TextInput(tokenizer, 32), BowModel(name="bow", width=4, buckets=64)
    network = models.build_network(spec, input=input, num_outputs=2).eval()
    fill(network)
    return Candidate(
        network=network,
        task="text-classification",
        input=input,
        labels=("a", "b"),
        architecture=models.architecture(spec, input=input, num_outputs=2),
        assets=input.assets(),
    )


TALES = ["the fox ran to the lake", "a crow slept by the inn", "the old king found a lamp"]


def decoder_candidate(*, tied: bool) -> Candidate:
    """Return a small language model with fresh weights."""
    tokenizer = train_tokenizer(TALES, kind="bpe", size=280, lowercase=False)
    input = TextInput(tokenizer, 32, "prompt")
    spec = DecoderModel(name="decoder", width=32, layers=2, heads=4, kv_heads=2, tied=tied)
    torch.manual_seed(0)
    network = models.build_network(spec, input=input, num_outputs=tokenizer.size).eval()
    with torch.no_grad():
        for weight in network.parameters():
            weight.mul_(5 if weight.ndim == 2 else 1)
    return Candidate(
        network=network,
        task="language-modeling",
        input=input,
        labels=(),
        architecture=models.architecture(spec, input=input, num_outputs=tokenizer.size),
        output_kind=OutputKind.CAUSAL_LM,
        assets=input.assets(),
    )


def signed(path: Path, signature: bytes) -> Path:
    """Write the frozen example with a signature."""
    path.write_bytes(FROZEN.read_bytes())
    modelfile.with_signature(path, signature)
    return path


def evidence(
    metric: str = "accuracy", value: float = 0.9, model: str = "", **artefacts: bytes
) -> Evidence:
    return Evidence(
        metric=metric,
        value=value,
        low=0.8,
        high=0.95,
        n=100,
        method="counted",
        model=model,
        artefacts={
            f"{name}.svg": modelfile.member_digest(data) for name, data in artefacts.items()
        },
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
    signature: bytes | None = None,
    claimed: bytes | None = None,
    in_order: bool = False,
) -> Path:
    """Write a file as an attacker would who can compute every digest: only its content is wrong.

    New members come last, or with `in_order` where they belong.

    A signature stands in it as `signature`, and in its comment as the digest of `claimed`.
    """
    members = members_of(source) | dict(change or {})
    with open_container(source) as container:
        described = container.manifest.to_json()
    kept = {name: data for name, data in members.items() if data is not None}
    if in_order:
        kept = {name: kept[name] for name in order_members(kept)}
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
    beside = {} if signature is None else {SIGNATURE: signature}
    contents = {**kept, **beside, MANIFEST: last}
    entries = [describe_member(name, data).entry for name, data in contents.items()]
    if isinstance(described, dict) and len(described.get("members", [])) == len(kept):
        said = [item.get("crc32") for item in described["members"]]
        entries = [
            replace(entry, crc32=int(crc, 16)) if isinstance(crc, str) and len(crc) == 8 else entry
            for entry, crc in itertools.zip_longest(entries, said)
        ]
    comment = layout.write_comment(digest(last), digest(claimed) if claimed is not None else None)
    plan = layout.lay_out(entries, comment)
    raw = b"".join(
        gap + data for (_, gap), data in zip(plan.gaps, [*contents.values(), b""], strict=True)
    )
    path.write_bytes(raw)
    return path


def edit_json(data: bytes, **changes: Any) -> bytes:
    return canonical_json(json.loads(data) | changes)


def freeze() -> None:
    write_model(
        FROZEN,
        candidate(
            MlpModel(name="mlp", hidden=(4,)),
            size=4,
            inference=Inference("flip"),
            lineage=({"step": "train", "steps": 3},),
        ),
        recipe="version: 1\ndata: {source: digits}\n",
        data_card={"train": 3, "labels": list(LABELS)},
        environment={"libraries": {}},
        sbom={"bomFormat": "CycloneDX", "specVersion": "1.6", "version": 1, "components": []},
        codecs={"body.head.weight": "zstd"},
    )
    modelfile.with_ledger(
        FROZEN, Ledger([evidence(curve=PICTURE)]), artefacts={"curve.svg": PICTURE}
    )
    answers = modelfile.load(FROZEN).predict(np.full((4, 4, 1), 200, np.uint8))
    write_json(
        KNOWN,
        {
            "digest": modelfile.digest(FROZEN),
            "bytes": digest(FROZEN.read_bytes()),
            "answers": {str(LABELS.index(item["label"])): item["probability"] for item in answers},
        },
    )


if __name__ == "__main__":
    freeze()
