"""The model file: one ZIP that holds a model, its preprocessing and its evidence.

Writing is canonical and reading strict; predicting needs onnxruntime and NumPy, never torch. The
format stands in `docs/modelfile.md`. Names load on first use, since describing a file needs less
than running it, and only writing needs torch.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from modelwright.modelfile.contents import (
        Contents,
        Golden,
        describe,
        digest,
        neighbours,
        read,
        read_weights,
        with_inference,
        with_ledger,
        with_signature,
        write,
    )
    from modelwright.modelfile.llama import export_llama
    from modelwright.modelfile.loading import load
    from modelwright.modelfile.manifest import member_digest
    from modelwright.modelfile.model import Model
    from modelwright.modelfile.packing import PackReport, write_model
    from modelwright.modelfile.torch_runtime import declared, rebuild
    from modelwright.modelfile.verifying import VerifyReport, verify

__all__ = [
    "Contents",
    "Golden",
    "Model",
    "PackReport",
    "VerifyReport",
    "declared",
    "describe",
    "digest",
    "export_llama",
    "load",
    "member_digest",
    "neighbours",
    "read",
    "read_weights",
    "rebuild",
    "verify",
    "with_inference",
    "with_ledger",
    "with_signature",
    "write",
    "write_model",
]

_HOMES = {
    "Contents": "contents",
    "Golden": "contents",
    "Model": "model",
    "PackReport": "packing",
    "VerifyReport": "verifying",
    "declared": "torch_runtime",
    "describe": "contents",
    "digest": "contents",
    "export_llama": "llama",
    "load": "loading",
    "member_digest": "manifest",
    "neighbours": "contents",
    "read": "contents",
    "read_weights": "contents",
    "rebuild": "torch_runtime",
    "verify": "verifying",
    "with_inference": "contents",
    "with_ledger": "contents",
    "with_signature": "contents",
    "write": "contents",
    "write_model": "packing",
}


def __getattr__(name: str) -> object:
    if name in _HOMES:
        home = importlib.import_module(f"modelwright.modelfile.{_HOMES[name]}")
        value = getattr(home, name)
        globals()[name] = value
        return value
    raise AttributeError(f"module 'modelwright.modelfile' has no attribute {name!r}")
