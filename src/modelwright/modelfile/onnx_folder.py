"""A model as plain ONNX files, for those who want only that: no evidence, no checks, no host steps.

Each graph becomes one file with its weights inside, beside the tokenizer or vocabulary where there
is one, the declaration as JSON, and a README that says what the graph takes and gives, and what is
left to the program that calls it.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from modelwright.errors import ModelFileError, RequestError, require
from modelwright.files import Json, folder_aside, write_bytes
from modelwright.kinds import OutputKind
from modelwright.modelfile.contents import Contents, pick_weights, read
from modelwright.modelfile.inputs import open_input
from modelwright.modelfile.loading import check_golden
from modelwright.modelfile.outputs import FORMS
from modelwright.modelfile.session import Session
from modelwright.modelfile.spec import MAIN, GraphSpec
from modelwright.modelfile.tensors import Arrays
from modelwright.transforms import ImageInput
from modelwright.transforms.audio import AudioInput
from modelwright.transforms.ngrams import NgramInput
from modelwright.transforms.text import TextInput

if TYPE_CHECKING:
    import onnx

README, DECLARATION, VOCABULARY = "README.md", "model.json", "vocabulary.json"
_LARGEST = (1 << 31) - (1 << 20)
"""The most bytes of weights: a Protocol Buffers message holds 2 GB."""


def export_onnx(path: Path | str, folder: Path | str) -> list[Path]:
    """Write a model file's graphs as plain ONNX files in a folder, with a README.

    The main graph is loaded again and answers the golden samples before the folder gets its name.

    Returns:
        The files that were written.

    Raises:
        ModelFileError: it isn't a model file, the plain graph answers differently, or the weights
            are more than 2 GB, which one ONNX file can't hold.
        RequestError: there is something at `folder` already.
        ResourceError: the disk is full, or the folder can't be written.
        MissingExtraError: onnx isn't installed.
    """
    path, folder = Path(path), Path(folder)
    if folder.exists():
        raise RequestError(
            "there is something here already", where=str(folder), fix="Name a new folder"
        )
    require("onnx", extra="train", purpose="to write ONNX files")
    contents = read(path)
    with folder_aside(folder) as aside:
        for name, graph in contents.graphs.items():
            _write_graph(aside / f"{_file_name(name)}", graph, contents.weights)
        session = Session((aside / _file_name(MAIN)).read_bytes(), {})
        check_golden(contents.spec, session, contents.golden)
        for name, data in _assets(contents).items():
            write_bytes(aside / name, data)
        declaration = {
            key: value
            for key, value in contents.spec.to_json().items()
            if key in ("task", "input", "outputs", "inference", "graph_steps", "graphs")
        }
        text = json.dumps(declaration, indent=2, ensure_ascii=False) + "\n"
        write_bytes(aside / DECLARATION, text.encode())
        write_bytes(aside / README, _readme(contents, path.name).encode())
        written = sorted(item.name for item in aside.iterdir())
    return [folder / name for name in written]


def _file_name(graph: str) -> str:
    return "model.onnx" if graph == MAIN else f"{graph}.onnx"


def _write_graph(file: Path, graph: bytes, weights: Arrays) -> None:
    """Write a graph with its weights inside."""
    import onnx

    model = onnx.load_model_from_string(graph)
    chosen = pick_weights(graph, weights)
    for tensor in _tensors(model.graph):
        if tensor.data_location != onnx.TensorProto.EXTERNAL:
            continue
        tensor.raw_data = chosen[tensor.name].tobytes()
        tensor.ClearField("external_data")
        tensor.ClearField("data_location")
    if sum(array.nbytes for array in chosen.values()) >= _LARGEST:
        raise ModelFileError(
            "the weights are more than one ONNX file can hold (2 GB)",
            where=file.name,
            fix="Use the model file itself",
        )
    write_bytes(file, model.SerializeToString(deterministic=True))


def _tensors(graph: onnx.GraphProto) -> Iterator[onnx.TensorProto]:
    """Yield the initializers of a graph and of those within its nodes."""
    yield from graph.initializer
    for node in graph.node:
        for attribute in node.attribute:
            for inner in (attribute.g, *attribute.graphs):
                yield from _tensors(inner)


def _assets(contents: Contents) -> dict[str, bytes]:
    """Return what the host steps need, in forms that other programs read."""
    reader = open_input(contents.spec.input, contents.assets)
    if not isinstance(reader.spec, NgramInput):
        return dict(contents.assets)
    kinds = [
        {
            "analyzer": kind.analyzer,
            "ngram_range": [kind.shortest, kind.longest],
            "ngrams": [kind.text(number) for number in range(len(kind.codes))],
            "idf": [float(value) for value in kind.idf],
        }
        for kind in reader.spec.kinds
    ]
    return {VOCABULARY: json.dumps(kinds, ensure_ascii=False).encode()}


# -- the README ------------------------------------------------------------------------------

_EXAMPLE = """\
import numpy as np
import onnxruntime

{inputs}
session = onnxruntime.InferenceSession("model.onnx")
outputs = session.run(None, inputs)
{answer}"""


def _readme(contents: Contents, name: str) -> str:
    spec = contents.spec
    reader = open_input(spec.input, contents.assets)
    host, inputs = _host(reader.spec, spec.main)
    parts = [
        f"# {spec.task}: plain ONNX\n\n"
        f"Written by `modelwright export {name} --to onnx`. What the model file proves of itself "
        "(its evidence, its checks, its preprocessing) is not in here.",
        "## Files\n\n"
        + "\n".join(f"- `{_file_name(graph)}`{_role(graph)}" for graph in spec.graphs)
        + f"\n- `{DECLARATION}`: the same facts as JSON"
        + "".join(f"\n- `{asset}`" for asset in _assets(contents)),
        *(_tables(graph, declared) for graph, declared in spec.graphs.items()),
        "## Before the graph: what the program does\n\n" + "\n".join(f"- {line}" for line in host),
        "## In the graph\n\n" + _in_graph(contents),
        "## After the graph: what the program does\n\n"
        + "\n".join(f"- {line}" for line in _after(contents)),
        "## Labels\n\n" + _labels(contents),
        "## Example\n\n```python\n"
        + _EXAMPLE.format(inputs=inputs, answer=_answer(contents))
        + "\n```",
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def _role(graph: str) -> str:
    roles = {
        MAIN: ": answers",
        "encode": ": reads the source text, once an answer",
        "step": ": gives the logits of the next token from the tokens and the cache so far",
    }
    return roles.get(graph, "")


def _tables(name: str, graph: GraphSpec) -> str:
    rows = [
        f"| {side} | `{tensor.name}` | {tensor.dtype} | "
        f"[{', '.join(str(size) for size in tensor.shape)}] |"
        for side, tensors in (("input", graph.inputs), ("output", graph.outputs))
        for tensor in tensors
    ]
    head = f"## Inputs and outputs of `{_file_name(name)}`\n\nLetters stand for any size; N is the "
    head += "number of samples.\n\n| | name | type | shape |\n| --- | --- | --- | --- |\n"
    return head + "\n".join(rows)


def _host(input: Any, main: GraphSpec) -> tuple[list[str], str]:
    """Return the host steps in sentences, and lines of Python that make the example's inputs."""
    match input:
        case ImageInput():
            return _image(input)
        case TextInput():
            return _text(input, main)
        case NgramInput():
            return _ngrams(input)
        case AudioInput():
            seconds = f"{input.max_seconds:g}"
            return [
                f"Mix the recording to one channel and resample it to {input.sampling_rate} Hz.",
                f"Cut it off after {seconds} s; as int16, full scale is 32767.",
                "`samples` holds several recordings padded with 0 at the end, `length` the number "
                "of samples of each.",
            ], (
                f"samples = np.zeros((1, {input.sampling_rate}), np.int16)  # a recording\n"
                'inputs = {"samples": samples, "length": np.array([samples.shape[1]], np.int64)}'
            )
        case _:
            zeros = ", ".join(
                f'"{tensor.name}": np.zeros('
                f"{[size if isinstance(size, int) else 1 for size in tensor.shape]}, "
                f"np.{tensor.dtype})"
                for tensor in main.inputs
            )
            return ["Prepare the arrays as in training."], f"inputs = {{{zeros}}}"


def _image(input: ImageInput) -> tuple[list[str], str]:
    mode = "L" if input.channels == 1 else "RGB"
    colour = "grey" if input.channels == 1 else "red, green and blue"
    size = f"{input.width} × {input.height} pixels"
    method = input.interpolation.upper()
    how = {
        "stretch": (f"Resize it to {size}, whatever its own shape.", "image.resize(size, method)"),
        "shorter": (
            f"Cut its largest centre part of the shape {input.width} : {input.height}, and resize "
            f"that to {size} in one step.",
            "ImageOps.fit(image, size, method)",
        ),
        "letterbox": (
            f"Resize it to fit into {size}, and put it in the middle of a ground of the value "
            f"{input.background}.",
            f"ImageOps.pad(image, size, method, color={input.background!r})"
            if input.channels == 1
            else f"ImageOps.pad(image, size, method, color=({input.background},) * 3)",
        ),
    }
    sentence, call = how[input.resize]
    return [
        "Decode the first frame, and turn it as EXIF says.",
        f"Put transparent parts over the value {input.background}; make it {colour}, 8 bits a "
        "channel.",
        f"{sentence} The filter is {input.interpolation}, as Pillow has it.",
        f"`pixels` are uint8, [N, {input.height}, {input.width}, {input.channels}]: rows, columns, "
        "channels; not scaled.",
    ], (
        "from PIL import Image, ImageOps\n\n"
        f"size, method = ({input.width}, {input.height}), Image.Resampling.{method}\n"
        f'image = ImageOps.exif_transpose(Image.open("image.png")).convert("{mode}")\n'
        f"if image.size != size:\n    image = {call}\n"
        f"pixels = np.asarray(image).reshape(1, {input.height}, {input.width}, {input.channels})\n"
        'inputs = {"pixels": pixels}'
    )


def _text(input: TextInput, main: GraphSpec) -> tuple[list[str], str]:
    before, after = list(input.tokenizer.before), list(input.tokenizer.after)
    first = main.inputs[0].name
    ends = " The end of longer texts is cut off."
    if input.kind == "prompt":
        ends = " Of longer texts the last are taken."
    lines = [
        "Cut the text into tokens by `tokenizer.json`, which the library `tokenizers` reads, "
        "without its special tokens.",
        f"Take at most {input.room} of them.{ends}",
        *([f"Put the ids {before} before and {after} after them."] if before or after else []),
        f"`{first}` holds several texts padded with 0 at the end"
        + ("." if len(main.inputs) == 1 else "; the lengths are the ids of each without padding."),
    ]
    if input.kind == "source":
        lines.append("`target` holds the tokens written so far, and begins with the id 2.")
    code = [
        "from tokenizers import Tokenizer\n",
        'tokenizer = Tokenizer.from_file("tokenizer.json")',
        'ids = tokenizer.encode("A text.", add_special_tokens=False).ids',
        f"ids = {before} + ids[{'-' if input.kind == 'prompt' else ':'}{input.room}"
        f"{':' if input.kind == 'prompt' else ''}] + {after}",
    ]
    values = {
        "tokens": "np.array([ids], np.int64)",
        "source": "np.array([ids], np.int64)",
        "length": "np.array([len(ids)], np.int64)",
        "source_length": "np.array([len(ids)], np.int64)",
        "target": "np.array([[2]], np.int64)",
    }
    entries = ", ".join(f'"{tensor.name}": {values[tensor.name]}' for tensor in main.inputs)
    return lines, "\n".join([*code, f"inputs = {{{entries}}}"])


def _ngrams(input: NgramInput) -> tuple[list[str], str]:
    return [
        "Fold the text to lower case, and each run of blanks to one.",
        f"Count its n-grams, {input.describe()}; words are `\\w+` or a single mark "
        "(`[^\\w\\s]`), and an n-gram of words is written with blanks between them.",
        f"`{VOCABULARY}` lists those of each kind with their `idf`. The weight of one that occurs "
        "n times is (1 + ln n) · idf; those of a kind are scaled to length 1 together. Others are "
        "left out.",
        "`ngrams` holds the numbers, which go on from one kind to the next, and `weights` the "
        "weights; both are padded with 0.",
    ], (
        "import json\nimport re\nfrom collections import Counter\nfrom pathlib import Path\n\n"
        'text = " ".join("A text.".lower().split())\n'
        "ngrams, weights, first = [], [], 0\n"
        f'for kind in json.loads(Path("{VOCABULARY}").read_text(encoding="utf-8")):\n'
        '    is_word = kind["analyzer"] == "word"\n'
        '    tokens = re.findall(r"\\w+|[^\\w\\s]", text) if is_word else list(text)\n'
        '    shortest, longest = kind["ngram_range"]\n'
        "    counts = Counter(\n"
        '        (" " if is_word else "").join(tokens[at : at + size])\n'
        "        for size in range(shortest, longest + 1)\n"
        "        for at in range(len(tokens) - size + 1)\n"
        "    )\n"
        '    known = {ngram: at for at, ngram in enumerate(kind["ngrams"])}\n'
        "    found = {known[ngram]: count for ngram, count in counts.items() if ngram in known}\n"
        "    values = np.array(\n"
        '        [(1 + np.log(count)) * kind["idf"][at] for at, count in found.items()]\n'
        "    )\n"
        "    ngrams += [first + at for at in found]\n"
        "    weights += list(values / np.linalg.norm(values)) if len(values) else []\n"
        '    first += len(kind["ngrams"])\n'
        'inputs = {"ngrams": np.array([ngrams], np.int64), '
        '"weights": np.array([weights], np.float32)}'
    )


def _in_graph(contents: Contents) -> str:
    import onnx

    steps = [str(step.get("kind", step.get("name", ""))) for step in contents.spec.graph_steps]
    scaling = f"The graph's first layers are {', '.join(filter(None, steps))}; " if steps else ""
    if contents.spec.input.get("kind") == "image":
        scaling += "pixels are scaled and normalised in it. "
    elif contents.spec.input.get("kind") == "audio":
        scaling += "waveforms go in: spectrograms are computed in it. "
    domains = {
        item.domain or "ai.onnx": item.version
        for graph in contents.graphs.values()
        for item in onnx.load_model_from_string(graph).opset_import
    }
    shown = ", ".join(f"{domain} {version}" for domain, version in sorted(domains.items()))
    more = " `com.microsoft` holds operators of onnxruntime's own." * ("com.microsoft" in domains)
    return f"{scaling}It needs the operator sets {shown}.{more}"


def _after(contents: Contents) -> list[str]:
    inference, kind = contents.spec.inference, contents.spec.output_kind
    found = [" ".join(form.meaning for form in FORMS[kind])]
    if inference.threshold is not None:
        share, label = inference.threshold.probability, inference.threshold.label
        found.append(
            f"`{label}` is predicted wherever its probability is at least {share:.6g}, else the "
            "likeliest of the others."
        )
    if inference.tta != "none":
        found.append(
            f"The model file also averages the outputs of several variants of each input "
            f"({inference.tta}); a single pass, as here, answers a little differently."
        )
    settings: Mapping[str, Json] = contents.spec.inference.to_json()
    others = {
        key: value
        for key, value in settings.items()
        if key not in ("threshold", "tta") and value is not None
    }
    if others:
        found.append(f"The model file's own settings: `{json.dumps(others, ensure_ascii=False)}`.")
    return found


def _labels(contents: Contents) -> str:
    labels = contents.spec.labels
    if not labels:
        return ""
    shown = json.dumps(list(labels[:100]), ensure_ascii=False)
    more = f" (the first of {len(labels):,})" if len(labels) > 100 else ""
    where = f"all of them in `{DECLARATION}` (`outputs.labels`)"
    return f"In the order of the outputs, {where}{more}:\n\n    {shown}"


def _answer(contents: Contents) -> str:
    if contents.spec.output_kind != OutputKind.SINGLE_LABEL:
        return "print([output.shape for output in outputs])"
    return (
        "logits = outputs[0][0]\n"
        "probabilities = np.exp(logits - logits.max())\n"
        "probabilities /= probabilities.sum()\n"
        "print(probabilities)"
    )
