"""Verifying a model file: every byte, every member, every golden sample."""

from __future__ import annotations

from dataclasses import asdict, dataclass

from modelwright.files import JsonObject
from modelwright.modelfile.container import FileLike, open_container, place_of
from modelwright.modelfile.contents import read_contents, whole_weights
from modelwright.modelfile.inputs import open_input
from modelwright.modelfile.loading import check_golden, check_interface
from modelwright.modelfile.sandbox import SandboxedSession
from modelwright.modelfile.session import Session
from modelwright.modelfile.spec import MAIN


@dataclass(frozen=True, slots=True)
class VerifyReport:
    """What was verified. It says nothing about who wrote the file, signed or not."""

    path: str
    """Where the file was read from."""
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
    artefacts: int
    """How many artefacts the evidence names, all of which are there."""
    is_signed: bool
    """Whether it holds a signature, as its comment says; whose, and of what, isn't looked at."""

    def to_json(self) -> JsonObject:
        """Return it as plain JSON values."""
        return asdict(self)


def verify(file: FileLike, *, sandbox: bool = True) -> VerifyReport:
    """Check every byte of a model file, and that it answers its golden samples as recorded.

    Args:
        file: its path, its bytes, or a binary stream that can seek.
        sandbox: run its graphs in a process of their own, with limits: see `sandbox`.

    Raises:
        ModelFileError: it isn't a model file, is damaged, of another format, or answers otherwise.
    """
    with open_container(file) as container:
        contents = read_contents(container)
        weights = whole_weights(contents.spec, contents.weights)
        open_session = SandboxedSession if sandbox else Session
        sessions = {name: open_session(graph, weights) for name, graph in contents.graphs.items()}
        reader = open_input(contents.spec.input, contents.assets)
        check_interface(contents.spec, sessions[MAIN], reader)
        is_signed = contents.signature is not None
        golden_difference = check_golden(contents.spec, sessions[MAIN], contents.golden)
        return VerifyReport(
            path=place_of(file),
            digest=container.manifest.digest,
            members=len(container.manifest.members) + 1 + is_signed,
            file_bytes=container.file_bytes,
            golden_samples=len(next(iter(contents.golden.inputs.values()))),
            golden_difference=golden_difference,
            tolerance=contents.golden.tolerance,
            evidence=len(contents.ledger),
            artefacts=len(contents.artefacts),
            is_signed=is_signed,
        )
