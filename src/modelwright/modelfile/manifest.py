"""The manifest: which members a file has, their digests, and the digest of the model.

A member's digest is the SHA-256 of its bytes; one longer than 1 MiB has the digest of its chunks'
digests instead, so that a part can be checked without the rest and both can't disagree.
"""

from __future__ import annotations

import hashlib
import re
import zlib
from collections.abc import Mapping
from dataclasses import dataclass

from modelwright.errors import ModelFileError
from modelwright.files import Json, JsonObject, json_digest
from modelwright.modelfile.layout import FORMAT, Entry
from modelwright.modelfile.strict import field, json_member, only_keys, parse_json

CHUNK = 1 << 20
MANIFEST, SIGNATURE = "manifest.json", "signature.json"
SPEC, WEIGHTS, TOKENIZER = "model/spec.json", "model/weights.safetensors", "model/tokenizer.json"
GRAPHS, LANGUAGE_MODEL = "model/graphs/", "model/language_model.json"
NGRAMS = "model/ngrams.bin"
RECIPE, DATA_CARD, ENVIRONMENT = "recipe.yaml", "data_card.json", "environment.json"
SBOM = "sbom.json"
LINEAGE, LEDGER, GOLDEN = "lineage.json", "ledger.jsonl", "golden.safetensors"
ARTEFACTS = "artefacts/"
"""The folder of files that evidence names by digest: pictures, tables."""

_ORDER = (
    SPEC,
    WEIGHTS,
    GRAPHS,
    TOKENIZER,
    LANGUAGE_MODEL,
    NGRAMS,
    RECIPE,
    DATA_CARD,
    ENVIRONMENT,
    SBOM,
    LINEAGE,
    LEDGER,
    GOLDEN,
    ARTEFACTS,
)
_OPTIONAL = {TOKENIZER, LANGUAGE_MODEL, NGRAMS, SBOM, ARTEFACTS}
_FOLDERS = {
    GRAPHS: re.compile(rf"{GRAPHS}[a-z][a-z0-9_]{{0,63}}\.onnx"),
    ARTEFACTS: re.compile(rf"{ARTEFACTS}[a-z0-9][a-z0-9._-]{{0,99}}"),
}
"""Names of members of which there may be several."""
_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")
_CRC32 = re.compile(r"[0-9a-f]{8}")
_TREE = b"modelwright chunks\n"
_MOST_COUNTED = 1 << 63


@dataclass(frozen=True, slots=True)
class Member:
    """One member as the manifest holds it."""

    name: str
    size: int
    crc32: int
    digest: str
    chunks: tuple[str, ...] = ()
    """The digests of its 1 MiB chunks, where there are several."""

    @property
    def entry(self) -> Entry:
        """What the ZIP records say of it."""
        return Entry(self.name, self.size, self.crc32)

    def to_json(self) -> JsonObject:
        """Return it as plain JSON values."""
        value = {
            "name": self.name,
            "size": self.size,
            # Of one width, so that a file's size doesn't depend on its checksums.
            "crc32": f"{self.crc32:08x}",
            "digest": self.digest,
        }
        return value | ({"chunks": list(self.chunks)} if self.chunks else {})


@dataclass(frozen=True, slots=True)
class Manifest:
    """The members of a file, and its claims about the model beside the evidence."""

    members: tuple[Member, ...]
    parameters: int
    """The number of learnt parameters."""
    multiply_adds: int
    """Multiply-adds of one forward pass of one sample."""
    tolerance: float
    """The largest difference allowed from the golden outputs."""

    @property
    def digest(self) -> str:
        """The model digest: over the names, sizes and digests of all under `model/`."""
        return json_digest(
            {
                member.name: {"size": member.size, "digest": member.digest}
                for member in self.members
                if member.name.startswith("model/")
            }
        )

    @property
    def size_bytes(self) -> int:
        """The bytes of all members under `model/`."""
        return sum(member.size for member in self.members if member.name.startswith("model/"))

    def member(self, name: str) -> Member:
        """Return a member by its name."""
        for member in self.members:
            if member.name == name:
                return member
        raise ModelFileError(f"the model file has no member `{name}`")

    def to_json(self) -> JsonObject:
        """Return it as plain JSON values."""
        return {
            "format": FORMAT,
            "model": {
                "digest": self.digest,
                "size_bytes": self.size_bytes,
                "parameters": self.parameters,
                "multiply_adds": self.multiply_adds,
            },
            "golden": {"tolerance": self.tolerance},
            "members": [member.to_json() for member in self.members],
        }

    def to_bytes(self) -> bytes:
        """Return it as the file holds it."""
        return json_member(self.to_json(), name=MANIFEST)

    @staticmethod
    def from_bytes(data: bytes) -> Manifest:
        """Read what `to_bytes` returned."""
        value = parse_json(data, name=MANIFEST)
        model = field(value, "model", dict, name=MANIFEST)
        members = tuple(_read_member(item) for item in field(value, "members", list, name=MANIFEST))
        manifest = Manifest(
            members=members,
            parameters=field(model, "parameters", int, name=MANIFEST),
            multiply_adds=field(model, "multiply_adds", int, name=MANIFEST),
            tolerance=field(
                field(value, "golden", dict, name=MANIFEST), "tolerance", float, name=MANIFEST
            ),
        )
        check_names([member.name for member in members])
        counts = (manifest.parameters, manifest.multiply_adds)
        if not all(0 <= count < _MOST_COUNTED for count in counts) or not manifest.tolerance > 0:
            raise ModelFileError(f"`{MANIFEST}` claims an impossible figure")
        if manifest.to_bytes() != data:
            raise ModelFileError(f"`{MANIFEST}` contradicts itself, or holds more than it may")
        return manifest


def describe_member(name: str, data: bytes | memoryview) -> Member:
    """Return what the manifest says of a member with this content."""
    chunks = chunk_digests(memoryview(data))
    several = chunks if len(chunks) > 1 else ()
    return Member(name, len(data), zlib.crc32(data), _root(chunks), several)


def member_digest(data: bytes | memoryview) -> str:
    """Return the digest that the manifest gives a member with this content."""
    return _root(chunk_digests(memoryview(data)))


def chunk_digests(data: memoryview) -> tuple[str, ...]:
    """Return the digest of each 1 MiB of the content; of nothing, that of no bytes."""
    starts = range(0, len(data), CHUNK) if len(data) else (0,)
    return tuple(
        "sha256:" + hashlib.sha256(data[start : start + CHUNK]).hexdigest() for start in starts
    )


def _root(chunks: tuple[str, ...]) -> str:
    if len(chunks) == 1:
        return chunks[0]
    raw = b"".join(bytes.fromhex(chunk.removeprefix("sha256:")) for chunk in chunks)
    return "sha256:" + hashlib.sha256(_TREE + raw).hexdigest()


def order_members(members: Mapping[str, bytes]) -> list[str]:
    """Return the names in the order in which the file holds them."""
    names = sorted(members, key=lambda name: (_place(name), name))
    check_names(names)
    return names


def check_names(names: list[str]) -> None:
    """Refuse a list of members, without manifest and signature, that no file may have."""
    places = [(_place(name), name) for name in names]
    if len(set(names)) != len(names):
        raise ModelFileError("a member is there twice")
    if places != sorted(places):
        raise ModelFileError("the members aren't in their order")
    for place, kind in enumerate(_ORDER):
        if kind not in _OPTIONAL and place not in (index for index, _ in places):
            raise ModelFileError(f"the member `{kind}` is missing")


def _place(name: str) -> int:
    kind = next((folder for folder, names in _FOLDERS.items() if names.fullmatch(name)), name)
    if kind not in _ORDER or name in _FOLDERS:
        raise ModelFileError(f"{name[:80]!r} is no member of a model file")
    return _ORDER.index(kind)


def _read_member(value: Json) -> Member:
    name = field(value, "name", str, name=MANIFEST)
    only_keys(value, ("name", "size", "crc32", "digest", "chunks"), name=MANIFEST)
    crc32 = field(value, "crc32", str, name=MANIFEST)
    if not _CRC32.fullmatch(crc32):
        raise ModelFileError(f"`{MANIFEST}` holds a broken checksum: {crc32[:20]!r}")
    chunks = field(value, "chunks", list, name=MANIFEST) if "chunks" in value else []
    member = Member(
        name=name,
        size=field(value, "size", int, name=MANIFEST),
        crc32=int(crc32, 16),
        digest=field(value, "digest", str, name=MANIFEST),
        chunks=tuple(chunks),
    )
    parts = member.chunks or (member.digest,)
    if not all(isinstance(part, str) and _DIGEST.fullmatch(part) for part in parts):
        raise ModelFileError(f"`{MANIFEST}` holds a broken digest of `{name[:80]}`")
    expected = max(1, -(-member.size // CHUNK))
    if member.size < 0 or len(parts) != expected:
        raise ModelFileError(f"`{MANIFEST}` holds sizes of `{name[:80]}` that don't fit together")
    if _root(parts) != member.digest:
        raise ModelFileError(f"`{MANIFEST}` holds digests of `{name[:80]}` that don't agree")
    return member
