"""The software that a model was trained with, as an SBOM: CycloneDX 1.6 in JSON.

It lists what modelwright needs of what is installed, extras and what these need included, and not
the rest of the environment: so the list stays short, and says nothing of the machine's other uses.
There is no path, no name of a user and no time in it, so the same environment gives the same bytes.
"""

from __future__ import annotations

import functools
import platform
import re
import uuid
from importlib import metadata
from urllib.parse import quote

from modelwright.files import JsonObject, json_digest

_EXTRAS = ("train", "text", "audio", "finetune", "timm", "hub", "pretrained")
"""The extras that training needs."""
_REQUIREMENT = re.compile(r"([A-Za-z0-9][A-Za-z0-9._-]*)\s*(?:\[([^\]]*)\])?[^;]*(?:;(.*))?")
_EXTRA = re.compile(r"""\bextra\s*==\s*["']([^"']+)["']""")
_LICENCE = "License :: OSI Approved :: "


@functools.cache
def training_sbom() -> JsonObject:
    """Return the SBOM of what this process trains with; it isn't to be changed."""
    found = installed(_EXTRAS)
    components = [
        {"type": "platform", "name": "Python", "version": platform.python_version()},
        *(_component(found[name]) for name in sorted(found)),
    ]
    digest = json_digest(components).removeprefix("sha256:")
    return {
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "serialNumber": f"urn:uuid:{uuid.uuid5(uuid.NAMESPACE_OID, digest)}",
        "version": 1,
        "components": components,
    }


def installed(extras: tuple[str, ...]) -> dict[str, metadata.Distribution]:
    """Return what modelwright with some extras needs and what is there, by their plain names."""
    found: dict[str, metadata.Distribution] = {}
    open_names: list[tuple[str, tuple[str, ...]]] = [("modelwright", extras)]
    seen: set[tuple[str, tuple[str, ...]]] = set()
    while open_names:
        name, wanted = open_names.pop()
        if (name, wanted) in seen:
            continue
        seen.add((name, wanted))
        try:
            distribution = metadata.distribution(name)
        except metadata.PackageNotFoundError:
            continue
        found[name] = distribution
        for text in distribution.requires or ():
            match = _REQUIREMENT.match(text)
            asked = _EXTRA.findall(match[3] or "") if match else []
            # Other conditions ask for a system or a Python, of which what is installed fits.
            if match and (not asked or set(asked) & set(wanted)):
                parts = tuple(part.strip() for part in (match[2] or "").split(",") if part.strip())
                open_names.append((_plain(match[1]), parts))
    return found


def _component(distribution: metadata.Distribution) -> JsonObject:
    name, version = _plain(distribution.metadata["Name"]), distribution.version
    component = {
        "type": "library",
        "name": name,
        "version": version,
        "purl": f"pkg:pypi/{name}@{quote(version, safe='')}",
    }
    licences = _licences(distribution.metadata)
    return component | ({"licenses": licences} if licences else {})


def _licences(fields: metadata.PackageMetadata) -> list[JsonObject]:
    """Return the licence as far as the metadata says it in a few words, not as a whole text."""
    if "License-Expression" in fields:
        return [{"expression": fields["License-Expression"]}]
    said = [
        item.removeprefix(_LICENCE)
        for item in fields.get_all("Classifier") or ()
        if item.startswith(_LICENCE)
    ]
    text = fields["License"].strip() if "License" in fields else ""
    if not said and 0 < len(text) <= 64 and text.isprintable() and text != "UNKNOWN":
        said = [text]
    return [{"license": {"name": name}} for name in sorted(set(said))]


def _plain(name: str) -> str:
    """Return a distribution's name as PEP 503 spells it."""
    return re.sub(r"[-_.]+", "-", name).lower()
