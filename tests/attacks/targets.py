"""What is changed at random, and used as its user would: models, tokenizers and recipes.

A target makes a file and uses it; it yields once what it made has passed the first checks, so that
the share of files that reach the code behind them is known.
"""

from __future__ import annotations

import functools
import json
import random
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch

from modelwright import modelfile
from modelwright.errors import ModelFileError
from modelwright.initialization import settled_input
from modelwright.kinds import InputKind, OutputKind
from modelwright.modelfile.session import Session
from modelwright.models.building import BUILDERS, architecture, build_network, rebuild
from modelwright.recipe import Draft, Recipe, check_composition, load_recipe, render_config
from modelwright.recipe.model import LinearModel
from modelwright.recipe.networks import EfficientNetLite0Model
from modelwright.run import RunRequest
from modelwright.training.constraints import build_averaging
from modelwright.training.optimizers import Optimizer
from modelwright.training.schedules import build_schedule
from modelwright.transforms import ImageInput
from modelwright.transforms.audio import AudioInput
from modelwright.transforms.hf_tokenizer import HFTokenizer, TokenIdMap, read_foreign
from modelwright.transforms.inputs import Input
from modelwright.transforms.text import TextInput, TextKind
from tests.attacks.graphs import mutated_graph, with_examples
from tests.attacks.models import KINDS, TOKENIZER, Parts, changed, sample_for
from tests.attacks.mutations import VALUES, mutated_bytes, mutated_json, places
from tests.attacks.tokenizers import TEXTS, drawn_tokenizer, long_text
from tests.whole.leaves.witnesses import BASES, WITNESSES, put

Target = Callable[[random.Random, Path], Iterator[None]]

# -- model files -------------------------------------------------------------------------------


@functools.cache
def _whole(kind: str) -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        return changed(kind).write(Path(folder) / "m.mw").read_bytes()


def _used(data: bytes, sample: Any) -> None:
    """Verify a model file, say what it is, and predict from it, as its user would."""
    modelfile.describe(data)
    modelfile.verify(data, sandbox=False)
    model = modelfile.load(data, threads=1)
    json.dumps(model.predict(sample), allow_nan=False)


def members(draw: random.Random, folder: Path) -> Iterator[None]:
    """Change what a file declares, or the bytes of a member; all digests are right, or few."""
    kind = draw.choice(list(KINDS))
    parts = changed(kind)
    sample = sample_for(parts)
    if draw.random() < 0.05:
        _used(mutated_bytes(_whole(kind), draw), sample)
        return
    _mutate_parts(parts, draw)
    try:
        data = parts.write(folder / "m.mw").read_bytes()
    except (TypeError, ValueError, UnicodeEncodeError):  # Canonical JSON can't hold it.
        return
    modelfile.describe(data)
    yield
    _used(data, sample)


def _mutate_parts(parts: Parts, draw: random.Random) -> None:
    match draw.randrange(6):
        case 0:
            parts.graphs = mutated_json(parts.graphs, draw)
        case 1:
            name = draw.choice(("input", "outputs", "inference"))
            setattr(parts, name, mutated_json(getattr(parts, name), draw))
        case 2:
            name = draw.choice(list(parts.bytes))
            parts.bytes[name] = mutated_bytes(parts.bytes[name], draw)
        case 3 | 4:
            name = draw.choice(list(parts.golden))
            array = parts.golden[name]
            flat = array.reshape(-1).copy()
            flat[draw.randrange(len(flat))] = draw.choice((0, 1, 100))
            parts.golden[name] = flat.reshape(array.shape)
        case _:
            parts.task = draw.choice(("regression", "translation", "x", "", parts.task))
            parts.inference = mutated_json(parts.inference, draw)


def graphs(draw: random.Random, folder: Path) -> Iterator[None]:
    """Change the nodes, attributes and constants of a graph; all digests are right."""
    parts = changed(draw.choice(list(KINDS)))
    sample = sample_for(parts)
    name = draw.choice(list(parts.bytes))
    data = mutated_graph(with_examples(parts.bytes[name], draw), draw)
    parts.bytes[name] = data
    Session(data, {}, threads=1)
    yield
    _used(parts.write(folder / "m.mw").read_bytes(), sample)


# -- tokenizers --------------------------------------------------------------------------------


def tokenizers(draw: random.Random, folder: Path) -> Iterator[None]:
    """Change a tokenizer of ours, or draw one as other programs write them."""
    kind = draw.choice(("text", "prompt", "source"))
    if draw.random() < 0.12:
        spec = _changed_own(draw)
    else:
        data, size = drawn_tokenizer(draw), draw.choice((5, 300, 300, 2**20))
        names = ("padding", "unknown", "begin", "end")
        numbers = dict(zip(names, draw.sample((None, 0, 1, 2, 3, 4), 4), strict=True))
        is_mapped = draw.random() < 0.2
        token_ids = TokenIdMap.from_json(numbers | {"size": size}) if is_mapped else None
        found = TextInput(read_foreign(data, token_ids), draw.choice((2, 64, 64, 2**20)), kind)
        spec = TextInput.from_json(found.to_json(), found.assets())
        assert spec == found
    yield
    if isinstance(spec.tokenizer, HFTokenizer):
        assert len(spec.tokenizer.widths()) == spec.tokenizer.size
    texts = [*TEXTS, *([long_text(draw)] if draw.random() < 0.2 else [])]
    for row in spec.encode(texts)[0]:
        assert 1 <= len(row) <= spec.max_length
        assert 0 <= row.min() <= row.max() < spec.tokenizer.size
        spec.tokenizer.decode(row)


def _changed_own(draw: random.Random) -> TextInput:
    parts = changed("texts")
    document = json.loads(parts.assets["tokenizer.json"])
    if draw.random() < 0.3:
        data = mutated_bytes(parts.assets["tokenizer.json"], draw)
    else:
        value = mutated_json(document, draw)
        text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
        data = text.encode(errors="surrogatepass")
    declared = dict(parts.input) | {"tokenizer": modelfile.member_digest(data)}
    return TextInput.from_json(declared, {"tokenizer.json": data})


# -- networks ----------------------------------------------------------------------------------


@functools.cache
def _network(base: str) -> tuple[str, dict[str, torch.Tensor]] | None:
    """Return the architecture, as JSON, and the weights of the network of a recipe."""
    recipe = Draft.from_settings(BASES[base]).recipe()
    if not _is_own(recipe) or isinstance(recipe.model, EfficientNetLite0Model):
        return None
    input, outputs = _input_of(recipe), _num_outputs(recipe)
    network = _built(recipe)
    kept = architecture(recipe.model, input=input, num_outputs=outputs, audio=recipe.audio)
    return json.dumps(kept), network.state_dict()


def networks(draw: random.Random, folder: Path) -> Iterator[None]:
    """Change the architecture of a model file, or its weights, and build the network anew."""
    known = [found for base in sorted(BASES) if (found := _network(base)) is not None]
    kept, state = draw.choice(known)
    changed_kept, weights = json.loads(kept), dict(state)
    if draw.random() < 0.2:
        changed_kept["modifications"] = [_modification(draw, weights)]
    if draw.random() < 0.4:
        changed_kept = mutated_json(changed_kept, draw)
    elif draw.random() < 0.8:
        found = [(holder, key) for holder, key in places(changed_kept) if type(holder[key]) is int]
        holder, key = draw.choice(found)
        holder[key] = draw.choice((1, 2, holder[key] * 2, holder[key] + 1, 2**24))
    if draw.random() < 0.5:
        name = draw.choice(list(weights))
        item = weights[name]
        part = item.reshape(-1)[:1]
        weights[name] = draw.choice((item, part, item.double(), item[None], item * torch.nan))
    try:
        rebuild(changed_kept, weights)
    except ModelFileError as error:
        if "the weights" in error.what:  # The network was built.
            yield
        raise


def _modification(draw: random.Random, weights: dict[str, torch.Tensor]) -> dict[str, Any]:
    """Return a layer's other width, or codes; most often its weights have these as well."""
    layer = draw.choice([name for name in weights if name.endswith(".weight")])[: -len(".weight")]
    if draw.random() < 0.3:
        return _codes(draw, layer, weights)
    width = draw.choice((1, 2, 3, 3, 2**24))
    if draw.random() < 0.8:
        for name in [name for name in weights if name.rpartition(".")[0] == layer]:
            weights[name] = weights[name][:width] if weights[name].ndim else weights[name]
    widths = {"in_features": draw.choice((None, None, 2)), "out_features": width}
    return {"kind": "resize", "layer": layer, **widths}


def _codes(draw: random.Random, layer: str, weights: dict[str, torch.Tensor]) -> dict[str, Any]:
    """Return what says that a layer is looked up in codebooks; its weights are drawn so."""
    weight = weights.pop(f"{layer}.weight")
    inputs = weight[0].numel()
    size = draw.choice((1, 2, inputs, draw.randint(1, 256)))
    blocks = draw.choice((-(-inputs // size), -(-inputs // size), 1, 2**24))
    entries, number = draw.choice((2, 16, 256)), draw.choice((1, 1, 2, 8))
    if number * len(weight) * blocks < 1 << 20:
        codes = torch.randint(0, draw.choice((entries, 256)), (number, len(weight), blocks))
        weights[f"{layer}.coded.codes"] = codes.to(torch.uint8)
    weights[f"{layer}.coded.codebook"] = torch.randn(number, entries, size).half()
    ordered = draw.random() < 0.5
    if ordered:
        most = draw.choice((blocks * size, 2**15)) % 2**15 or 1
        weights[f"{layer}.coded.order"] = torch.randint(-1, most, (inputs,)).to(torch.int16)
    return {
        "kind": "code",
        "layer": layer,
        "block_size": size,
        "blocks": blocks,
        "codebook_size": entries,
        "codebooks": number,
        "ordered": ordered,
    }


# -- recipes -----------------------------------------------------------------------------------

_WRITING: dict[OutputKind, TextKind] = {
    OutputKind.SEQ2SEQ: "source",
    OutputKind.CAUSAL_LM: "prompt",
}
_NUMBERS = (0, 1, 2, 3, 7, 64, 1000, 2**16, 2**31, 2**63, -1, 0.5, 1e-12, 0.999, 1e18)


@functools.cache
def _full(base: str) -> str:
    """Return a recipe with every default written out."""
    return json.dumps(Draft.from_settings(BASES[base]).recipe().document())


def recipes(draw: random.Random, folder: Path) -> Iterator[None]:
    """Exchange a few settings of a valid recipe; build what it asks for, as far as without data."""
    base = draw.choice(sorted(BASES))
    document = json.loads(json.dumps(BASES[base]) if draw.random() < 0.7 else _full(base))
    for _ in range(draw.choice((1, 1, 2, 3))):
        _exchange(document, base, draw)
    data = json.dumps(document).encode()
    path = folder / "recipe.yaml"
    path.write_bytes(mutated_bytes(data, draw, most=1) if draw.random() < 0.1 else data)
    recipe = load_recipe(path)
    yield
    assert Draft.from_text(render_config(recipe), where="config").recipe() == recipe
    check_composition(recipe)
    if recipe.model == "auto" or getattr(recipe.model, "hub", None):
        return
    settled_input(RunRequest(recipe, base=folder))
    if _is_own(recipe):
        _build(recipe)


def _exchange(document: dict[str, Any], base: str, draw: random.Random) -> None:
    """Set a setting to a value that it has elsewhere, to another of its kind, or to anything."""
    if draw.random() < 0.5:
        alike = [item for item in WITNESSES if item.base == base]
        witness = draw.choice(alike if draw.random() < 0.7 and alike else WITNESSES)
        section, _, key = witness.path.rpartition(".")
        try:
            put(document, section if key in ("name", "source") else witness.path, witness.value)
        except (TypeError, AttributeError, KeyError, ValueError, IndexError):
            return  # There is no such place in this one.
        return
    holder, key = draw.choice(list(places(document)))
    value = holder[key]
    match value:
        case bool():
            holder[key] = not value
        case int() | float() if draw.random() < 0.9:
            holder[key] = draw.choice((*_NUMBERS, value * 2, value + 1))
        case list() if draw.random() < 0.7:
            holder[key] = draw.choice((value * 2, value[:-1], value[::-1], value * 100))
        case dict() if draw.random() < 0.5:
            del holder[key]
        case _:
            holder[key] = draw.choice((*VALUES, "auto", "none"))


def _is_own(recipe: Recipe) -> bool:
    """Say whether a recipe names a network of ours that is trained by steps."""
    return type(recipe.model) in BUILDERS and not isinstance(recipe.model, LinearModel)


def _num_outputs(recipe: Recipe) -> int:
    return TOKENIZER.size if recipe.output_kind in _WRITING else 3


def _built(recipe: Recipe) -> torch.nn.Module:
    model: Any = recipe.model
    return build_network(
        model,
        input=_input_of(recipe),
        num_outputs=_num_outputs(recipe),
        mean=[0.5] * 3,
        std=[0.5] * 3,
        audio=recipe.audio,
    )


def _build(recipe: Recipe) -> None:
    """Build a recipe's network without memory for it, and what trains it."""
    with torch.device("meta"):
        network = _built(recipe)
        Optimizer(network, recipe.train)
        build_averaging(recipe.train.average, network)
    schedule = build_schedule(recipe.train.schedule)
    assert all(0.0 <= schedule(step / 64) <= 1.0 for step in range(65))


def _input_of(recipe: Recipe) -> Input:
    match recipe.input_kind:
        case InputKind.IMAGE:
            size = 32 if recipe.transforms.size == "auto" else recipe.transforms.size
            height, width = (size, size) if isinstance(size, int) else size
            return ImageInput(height, width, 3)
        case InputKind.AUDIO:
            rate = recipe.audio.sampling_rate
            return AudioInput(8000 if rate == "auto" else rate, recipe.audio.max_seconds)
        case _:
            kind = _WRITING.get(recipe.output_kind, "text")
            return TextInput(TOKENIZER, recipe.text.max_length, kind)
