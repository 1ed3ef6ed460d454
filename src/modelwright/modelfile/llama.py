"""A network that writes as a folder that transformers, vLLM and llama.cpp take.

Our own decoder goes into Llama's layout; a network that came from such a folder goes back.
"""

from __future__ import annotations

import json
import shutil
import tempfile
from pathlib import Path

from modelwright.errors import ModelFileError, RequestError
from modelwright.files import ASIDE, as_resource_error, write_bytes
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
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise as_resource_error(error, folder.parent) from error
    aside = Path(tempfile.mkdtemp(prefix=ASIDE, dir=folder.parent))
    try:
        write_bytes(aside / _WEIGHTS, write_arrays(arrays, name=_WEIGHTS))
        config = json.dumps(settings, indent=2) + "\n"
        write_bytes(aside / _CONFIG, config.encode())
        write_bytes(aside / TOKENIZER, candidate.assets[TOKENIZER])
        aside.chmod(0o755)
        aside.rename(folder)
    except BaseException:
        shutil.rmtree(aside, ignore_errors=True)
        raise
    return [folder / name for name in (_CONFIG, _WEIGHTS, TOKENIZER)]
