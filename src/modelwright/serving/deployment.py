"""Files to run a server elsewhere: an image, and the objects of Kubernetes or KServe around it.

Nothing secret is written. Templates are given numbers, and names made here; what a model is called
stands in `serve.yaml` alone.
"""

from __future__ import annotations

import hashlib
import io
import math
import re
import sys
from importlib import resources
from pathlib import Path

from jinja2 import Environment, StrictUndefined
from ruamel.yaml import YAML

from modelwright import modelfile
from modelwright.errors import RequestError
from modelwright.files import copy_file, digest, file_digest, resource_errors, write_bytes
from modelwright.modelfile.sbom import installed
from modelwright.security.sealing import is_sealed_path
from modelwright.serving.config import ModelSpec, ServeConfig, as_replica
from modelwright.version import __version__

FORMS = {
    "docker": "compose.yaml",
    "kubernetes": "kubernetes.yaml",
    "kserve": "inferenceservice.yaml",
}
"""What is written for each, beside the image."""
_EXTRAS = {"text": "text", "prompt": "text", "source": "text", "audio": "audio"}
"""What asking a model needs, by its kind of input."""
_LEAVE_S = 10.0
"""So long a cluster may go on sending requests to a server that was told to end."""
_SERVER_BYTES, _WORKER_BYTES = 300 << 20, 200 << 20
"""What a server and each worker hold beside the models, with some room."""


def write_deployment(config: ServeConfig, form: str, folder: Path | None = None) -> list[Path]:
    """Write what runs a server elsewhere in one of the `FORMS`, and return the files.

    Raises:
        ModelwrightError: a setting can't be one of another machine, a model can't be read, or
            another file is in the way; then nothing is written.
    """
    config = as_replica(config)
    if config.port < 1024:
        raise RequestError("a server that isn't root's needs a port from 1024 on", where="--port")
    copies, memory = {}, _SERVER_BYTES
    for spec in config.models:
        path = Path(spec.path)
        version = modelfile.digest(path).removeprefix("sha256:")[:12]
        ending = ".mw.age" if path.suffix == ".age" else ".mw"
        copies[f"models/{dns_label(spec.name)}-{version}{ending}"] = spec
        memory += spec.count * (_WORKER_BYTES + 2 * path.stat().st_size)
    models = tuple(spec.model_copy(update={"path": place}) for place, spec in copies.items())
    drain_s = config.drain_s if form == "docker" else max(config.drain_s, _LEAVE_S)
    placed = config.model_copy(update={"models": models, "drain_s": drain_s, "store": None})
    extras, settings, name = _extras(config, form), _settings(placed), dns_label(models[0].name)
    facts = {
        "name": name,
        "image": f"{name}:{hashlib.sha256(settings.encode()).hexdigest()[:12]}",
        "package": f"modelwright[{','.join(extras)}]=={__version__}",
        "python": f"{sys.version_info.major}.{sys.version_info.minor}",
        "port": config.port,
        "sealed": "security" in extras,
        "cores": sum(spec.count * spec.threads for spec in models),
        "memory_mib": math.ceil(memory / (1 << 20)),
        "grace_s": math.ceil(drain_s + config.timeout_s) + 10,
    }
    # The image serves with the versions that this machine has.
    here = {key: item.version for key, item in installed(extras).items() if key != "modelwright"}
    pins = "".join(f"{key}=={here[key]}\n" for key in sorted(here))
    texts = {"serve.yaml": settings, "constraints.txt": pins}
    environment = Environment(undefined=StrictUndefined, keep_trailing_newline=True)
    for file in ("Dockerfile", ".dockerignore", FORMS[form]):
        template = resources.files(__package__).joinpath(f"templates/{file.lstrip('.')}.j2")
        texts[file] = environment.from_string(template.read_text("utf-8")).render(facts)
    files = {file: text.encode() for file, text in texts.items()}
    return _write(folder or Path(f"{name}-{form}"), files, copies)


def _extras(config: ServeConfig, form: str) -> tuple[str, ...]:
    paths = [Path(spec.path) for spec in config.models]
    needed = {"serve"} if form == "docker" else {"serve", "postgresql"}
    needed |= {_EXTRAS.get(modelfile.describe(path)["input"]["kind"], "serve") for path in paths}
    return tuple(sorted(needed | {"security" for path in paths if is_sealed_path(path)}))


def _settings(config: ServeConfig) -> str:
    stream, yaml = io.StringIO(), YAML(typ="safe", pure=True)
    yaml.default_flow_style = False
    yaml.dump(config.model_dump(mode="json", exclude_defaults=True), stream)
    return stream.getvalue()


def _write(folder: Path, files: dict[str, bytes], copies: dict[str, ModelSpec]) -> list[Path]:
    with resource_errors(folder):
        found = {file: digest(data) for file, data in files.items()}
        found |= {file: file_digest(Path(spec.path)) for file, spec in copies.items()}
        for place, new in ((folder / file, new) for file, new in found.items()):
            if place.exists() and file_digest(place) != new:
                fix = "Name another folder with --out, or remove it"
                raise RequestError("another file is here already", where=str(place), fix=fix)
    for file, data in files.items():
        write_bytes(folder / file, data)
    for file, spec in copies.items():
        copy_file(Path(spec.path), folder / file)
    return [folder / file for file in found]


def dns_label(name: str) -> str:
    """Return a name as objects of Kubernetes have it (RFC 1035), another one for each name.

    >>> dns_label("digits"), dns_label("My Model")
    ('digits', 'my-model-e84ac3f6')
    """
    label = re.sub("[^a-z0-9]+", "-", name.lower()).strip("-")[:40].strip("-")
    if label == name and label[:1].isalpha():
        return label
    label = label if label[:1].isalpha() else f"model-{label}".strip("-")
    return f"{label}-{hashlib.sha256(name.encode(errors='surrogatepass')).hexdigest()[:8]}"
