"""Verifying a model file: every byte, every member, every golden sample."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from modelwright.modelfile.container import open_container
from modelwright.modelfile.contents import read_contents, whole_weights
from modelwright.modelfile.inputs import open_input
from modelwright.modelfile.loading import check_golden, check_interface
from modelwright.modelfile.session import Session
from modelwright.modelfile.spec import MAIN


@dataclass(frozen=True, slots=True)
class VerifyReport:
    """What was verified. Without a signature it says nothing about who wrote the file."""

    path: str
    digest: str
    """The model digest."""
    members: int
    file_bytes: int
    golden_samples: int
    golden_difference: float
    """How far the answers are from the recorded ones, on this machine."""
    tolerance: float
    evidence: int
    """How many records the ledger holds."""
    is_signed: bool

    def to_json(self) -> dict[str, Any]:
        """Return it as plain JSON values."""
        return asdict(self)


def verify(path: Path | str) -> VerifyReport:
    """Check every byte of a model file, and that it answers its golden samples as recorded.

    Raises:
        ModelFileError: it isn't a model file, is damaged, of a newer format, or answers otherwise.
    """
    path = Path(path)
    with open_container(path) as container:
        contents = read_contents(container)
        weights = whole_weights(contents.spec, contents.weights)
        sessions = {name: Session(graph, weights) for name, graph in contents.graphs.items()}
        reader = open_input(contents.spec.input, contents.assets)
        check_interface(contents.spec, sessions[MAIN], reader)
        found = check_golden(contents.spec, sessions[MAIN], contents.golden)
        return VerifyReport(
            path=str(path),
            digest=container.manifest.digest,
            members=len(container.manifest.members) + 1 + container.is_signed,
            file_bytes=container.file_bytes,
            golden_samples=len(next(iter(contents.golden.inputs.values()))),
            golden_difference=found,
            tolerance=contents.golden.tolerance,
            evidence=len(contents.ledger),
            is_signed=container.is_signed,
        )
