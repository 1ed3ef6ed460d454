"""The model file: one ZIP that holds a model, its preprocessing and its evidence.

Writing is canonical and reading strict; predicting needs onnxruntime and NumPy, never torch. The
format stands in `docs/modelfile.md`. Whatever a file may not hold is refused by a `ModelFileError`,
which every function here may raise. Names load on first use, since describing a file needs less
than running it, and only writing needs torch.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from modelwright.modelfile.contents import (
        Contents,
        Golden,
        data_card,
        describe,
        digest,
        neighbours,
        read,
        read_weights,
        recipe_text,
        with_inference,
        with_ledger,
        with_signature,
        write,
    )
    from modelwright.modelfile.kernels import integer_layers, kind_seconds
    from modelwright.modelfile.llama import export_llama
    from modelwright.modelfile.loading import load
    from modelwright.modelfile.manifest import member_digest
    from modelwright.modelfile.model import Model
    from modelwright.modelfile.onnx_folder import export_onnx, export_triton
    from modelwright.modelfile.packing import PackReport, write_model
    from modelwright.modelfile.signing import sign
    from modelwright.modelfile.torch_runtime import declared, rebuild
    from modelwright.modelfile.verifying import VerifyReport, verify

__all__ = [
    "Contents",
    "Golden",
    "Model",
    "PackReport",
    "VerifyReport",
    "data_card",
    "declared",
    "describe",
    "digest",
    "export_llama",
    "export_onnx",
    "export_triton",
    "integer_layers",
    "kind_seconds",
    "load",
    "member_digest",
    "neighbours",
    "read",
    "read_weights",
    "rebuild",
    "recipe_text",
    "sign",
    "verify",
    "with_inference",
    "with_ledger",
    "with_signature",
    "write",
    "write_model",
]

_MODULES = {
    "contents": (
        "Contents Golden data_card describe digest neighbours read read_weights recipe_text "
        "with_inference with_ledger with_signature write"
    ),
    "kernels": "integer_layers kind_seconds",
    "llama": "export_llama",
    "loading": "load",
    "manifest": "member_digest",
    "model": "Model",
    "onnx_folder": "export_onnx export_triton",
    "packing": "PackReport write_model",
    "signing": "sign",
    "torch_runtime": "declared rebuild",
    "verifying": "VerifyReport verify",
}
"""The public names of each module."""


def __getattr__(name: str) -> object:
    for module, names in _MODULES.items():
        if name in names.split():
            value = getattr(importlib.import_module(f"modelwright.modelfile.{module}"), name)
            globals()[name] = value
            return value
    raise AttributeError(f"module 'modelwright.modelfile' has no attribute {name!r}")
