"""Exporting a generative network as a folder that transformers, vLLM and llama.cpp load.

Our own decoder is written in Llama's layout; a pretrained network in the one it was loaded from.
"""

from __future__ import annotations

import json
from pathlib import Path

from modelwright.errors import ModelFileError, RequestError
from modelwright.files import folder_aside, write_bytes
from modelwright.modelfile.tensors import write_arrays
from modelwright.modelfile.torch_runtime import from_torch, rebuild
from modelwright.transforms.text import TOKENIZER

_WEIGHTS, _CONFIG = "model.safetensors", "config.json"


def export_llama(path: Path | str, folder: Path | str) -> list[Path]:
    """Write a model file's network as such a folder; weights are renamed and split, not computed.

    The folder holds `config.json`, `model.safetensors` and `tokenizer.json`, in the form of the
    library `tokenizers`. It is written aside, then renamed.

    Returns:
        The files that were written.

    Raises:
        ModelFileError: the model has no such layout.
        RequestError: there is something at `folder` already.
        ResourceError: the disk is full, or the folder can't be written.
        MissingExtraError: torch isn't installed.
    """
    folder = Path(folder)
    if folder.exists():
        raise RequestError(
            "there is something here already", where=str(folder), fix="Name a new folder"
        )
    candidate = rebuild(path)
    from modelwright.models.decoder import Decoder, llama_config, llama_state
    from modelwright.models.pretrained_generators import PretrainedGenerator

    network = candidate.network
    if "modifications" in candidate.architecture:
        raise ModelFileError(
            "a network whose layers were given other widths has no layout that transformers knows",
            where=str(path),
            fix="Export the model file that it was made from",
        )
    if isinstance(network, Decoder):
        state, settings = llama_state(network), llama_config(network)
    elif isinstance(network, PretrainedGenerator):
        state, settings = network.own_state(), network.own_config()
    else:
        raise ModelFileError(
            f"a network of the kind `{candidate.architecture.get('name')}` has no layout that "
            "transformers knows",
            where=str(path),
            fix="Only `model: decoder` has, and what came from a folder of transformers to write",
        )
    arrays = {name: from_torch(item, name=name) for name, item in state.items()}
    config = json.dumps(settings, indent=2) + "\n"
    with folder_aside(folder) as aside:
        write_bytes(aside / _WEIGHTS, write_arrays(arrays, name=_WEIGHTS))
        write_bytes(aside / _CONFIG, config.encode())
        write_bytes(aside / TOKENIZER, candidate.assets[TOKENIZER])
    return [folder / name for name in (_CONFIG, _WEIGHTS, TOKENIZER)]
