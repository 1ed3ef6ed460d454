"""Verifying a model file: every byte, every member, every golden sample and its answer."""

from __future__ import annotations

import os
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

from modelwright.errors import ModelFileError, ModelwrightError
from modelwright.files import JsonObject
from modelwright.modelfile.container import FileLike, open_container, place_of
from modelwright.modelfile.contents import Golden, read_contents, whole_weights
from modelwright.modelfile.generation import GraphStepper
from modelwright.modelfile.loading import assemble, check_golden, check_names
from modelwright.modelfile.model import Model
from modelwright.modelfile.sandbox import SandboxedSession
from modelwright.modelfile.session import Session
from modelwright.modelfile.spec import MAIN
from modelwright.tasks import TASKS

if TYPE_CHECKING:
    from modelwright.security.trust import Policy

_DECODED = 2
"""How many golden samples are decoded: all of them have the same declared shapes."""
_NEW_TOKENS = 4
"""How many tokens of a text are generated: the state comes from a start, a step, and steps."""


@dataclass(frozen=True, slots=True)
class VerifyReport:
    """What was verified. Who wrote the file it says only where a trust policy was asked."""

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
    """Whether it holds a signature; without a trust policy it isn't looked at."""
    signed_by: str = ""
    """Who signed it, as the trust policy calls them; empty where none was asked."""
    key_id: str = ""
    """The fingerprint of the key."""
    signed_at: str = ""
    """When, by the signer's clock, in ISO 8601."""

    def to_json(self) -> JsonObject:
        """Return it as plain JSON values."""
        return asdict(self)


def verify(
    file: FileLike,
    *,
    sandbox: bool = True,
    trust: Policy | str | os.PathLike[str] | None = None,
) -> VerifyReport:
    """Check every byte of a model file, and that it answers its golden samples as recorded.

    What it answers is also decoded as `predict` does; of generated texts a few tokens.

    Args:
        file: its path, its bytes, or a binary stream that can seek.
        sandbox: run its graphs in a process of their own, with limits: see `sandbox`.
        trust: a trust policy, or the file of one: the file must be signed by one of its signers,
            and what they signed must be this file's model and evidence. By default that of the
            variable `MODELWRIGHT_TRUST`, if it is set.

    Raises:
        ModelFileError: it isn't a model file, is damaged, of another format, or answers otherwise.
        SignatureError: it isn't signed as the trust policy asks.
        RequestError: the trust policy can't be read, or isn't one.
    """
    with open_container(file, trust=trust) as container:
        contents = read_contents(container)
        weights = whole_weights(contents.spec, contents.weights)
        open_session = SandboxedSession if sandbox else Session
        sessions = {name: open_session(graph, weights) for name, graph in contents.graphs.items()}
        for name, session in sessions.items():
            check_names(contents.spec.graphs[name], session)
        model = assemble(
            container,
            contents.spec,
            weights=weights,
            assets=contents.assets,
            session=sessions[MAIN],
            open_stepper=lambda: GraphStepper(contents.spec.graphs, sessions),
        )
        is_signed, signed = contents.signature is not None, container.signed
        golden_difference = check_golden(contents.spec, sessions[MAIN], contents.golden)
        _check_answers(model, contents.golden)
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
            signed_by=signed[0].name if signed else "",
            key_id=signed[0].key.id if signed else "",
            signed_at=signed[1].isoformat() if signed else "",
        )


def _check_answers(model: Model, golden: Golden) -> None:
    """Decode what the model answers to golden samples, where this version knows the task.

    Raises:
        ModelFileError: it can't be decoded.
    """
    if (model.task, model.spec.output_kind) not in TASKS:
        return
    batch = {name: array[:_DECODED] for name, array in golden.inputs.items()}
    try:
        model.answer_batch(batch, max_new_tokens=_NEW_TOKENS)
    except ModelFileError:
        raise
    except ModelwrightError as error:
        raise ModelFileError(
            "what the model answers can't be decoded", why=error.what, fix=error.fix
        ) from error
