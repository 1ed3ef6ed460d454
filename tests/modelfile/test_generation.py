"""Writing texts with the graphs of a model file."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from modelwright import modelfile
from modelwright.cli import main
from modelwright.errors import DataError, ModelFileError
from modelwright.modelfile.generation import GraphStepper, TextGenerator, prompts
from modelwright.modelfile.inputs import Sample
from modelwright.modelfile.spec import GraphSpec, TensorSpec
from modelwright.tasks.beam_search import BeamSearchConfig
from modelwright.tasks.generation import collect
from modelwright.tasks.sampling import SamplingConfig
from modelwright.transforms.text import BEGIN, END


@pytest.fixture(scope="module")
def written(tied_decoder: Path) -> Path:
    return tied_decoder


def test_it_goes_on_from_a_text_and_streams_the_same(written):
    model = modelfile.load(written)
    whole = model.predict("the fox")[0]["text"]
    pieces = list(model.generate("the fox"))
    assert "".join(piece.text for piece in pieces) == whole
    assert whole == model.predict("the fox")[0]["text"]


def test_a_text_has_one_answer_wherever_it_stands(written):
    model = modelfile.load(written)
    asked = ["a crow", "the fox", "", "the fox"]
    together = model.predict(asked)
    assert together == [model.predict(text) for text in asked]
    assert together[0] != together[1]
    how = SamplingConfig(max_new_tokens=40, seed=0)
    texts = {
        seed: [item.text for item in collect(model.generate(asked, replace(how, seed=seed)), 4)]
        for seed in (0, 1)
    }
    assert texts[0] != texts[1]
    assert texts[0][1] == texts[0][3]


def test_a_text_that_cannot_be_read_fails_alone(written):
    model = modelfile.load(written)
    found = model.read(["the fox", b"\xff", 3, "a crow"])
    assert [type(item) for item in found] == [Sample, DataError, DataError, Sample]
    assert [item.where for item in found if isinstance(item, DataError)] == ["input 2", "input 3"]
    texts = model.answer([item for item in found if isinstance(item, Sample)])
    assert texts == model.predict(["the fox", "a crow"])
    for ask in (model.predict, model.generate):
        with pytest.raises(DataError) as caught:
            ask(["the fox", b"\xff", 3])
        assert caught.value.where == "input 2"


def test_a_mistyped_file_is_no_text(written, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    Path("tales.txt").write_text("the fox")
    assert main(["predict", str(written), "tales.txt"]) == 0
    capsys.readouterr()
    for name in ("tails.txt", "here/tales", "./tales.csv"):
        assert main(["predict", str(written), "the crow", name]) == 1
        told = capsys.readouterr()
        assert told.out == ""
        assert f"{name}: there is no such file" in told.err
        assert "standard input" in told.err
    assert main(["predict", str(written), "tails.txt"]) == 1
    assert "Did you mean `tales.txt`?" in capsys.readouterr().err
    asked = ["a / b", "fox.", "https://example.org/fox"]
    assert main(["predict", str(written), *asked]) == 0


def test_a_table_is_said_to_be_read_as_one_text(written, tmp_path, capsys):
    (tmp_path / "tales.csv").write_text("text\nthe fox\n")
    assert main(["predict", str(written), str(tmp_path / "tales.csv")]) == 0
    assert "tales.csv: the whole file is one text here" in capsys.readouterr().err


def test_a_long_prompt_is_said_to_be_cut(written, capsys):
    assert main(["predict", str(written), "the fox " * 90]) == 0
    assert "the model reads 32: its beginning is left out" in capsys.readouterr().err
    assert main(["predict", str(written), "the fox " * 90, "--quiet"]) == 0
    assert capsys.readouterr().err == ""


def test_steps_are_the_whole_text(written):
    """What the graph `step` says after each token is what `main` says of the whole text."""
    model = modelfile.load(written)
    greedy = SamplingConfig(max_new_tokens=6, temperature=0, barred=())
    ids = [piece.token for piece in model.generate("a crow", greedy) if piece.token is not None]
    begun = [2, *model.input.tokenizer.encode(["a crow"])[0].tolist()]
    for at, token in enumerate(ids):
        tokens = np.array([begun + ids[:at]], dtype=np.int64)
        assert model.outputs({"tokens": tokens})[0, -1].argmax() == token


def test_the_file_holds_the_graph_of_a_step(written):
    assert set(modelfile.read(written).spec.graphs) == {"main", "step"}


def test_prompts_are_padded_before_their_first_token() -> None:
    begun, tokens = prompts([[2, 7], [2], [2, 8, 9]])
    assert tokens.tolist() == [[0, 2, 7], [0, 0, 2], [2, 8, 9]]
    assert begun["padding"].tolist() == [1, 2, 0]


class Counting:
    """A graph by hand: the state holds the tokens so far, the logits their sum."""

    def __init__(self) -> None:
        self.fed: list[dict[str, np.ndarray]] = []

    def run(self, inputs):
        self.fed.append(dict(inputs))
        grown = np.concatenate([inputs["cache"], inputs["tokens"].astype(np.float32)], 1)
        return [grown.sum(1, keepdims=True), grown]


STEP = GraphSpec(
    (
        TensorSpec("tokens", "int64", ("N", "S")),
        TensorSpec("padding", "int64", ("N",)),
        TensorSpec("cache", "float32", ("N", "P")),
    ),
    (TensorSpec("next", "float32", ("N", 1)), TensorSpec("grown", "float32", ("N", "Q"))),
)


def test_a_state_goes_in_and_out_and_follows_its_text() -> None:
    graph = Counting()
    stepper = GraphStepper({"step": STEP}, {"step": graph})  # type: ignore[dict-item]
    state = stepper.start({"padding": np.array([0, 1])})
    assert state.state.shape == (2, 0)
    logits, state = stepper.step(np.array([[1], [10]]), state)
    assert logits.tolist() == [[1], [10]]
    state = stepper.reorder(state, np.array([1, 1, 0]))
    logits, state = stepper.step(np.array([[1], [2], [3]]), state)
    assert logits.tolist() == [[11], [12], [4]]
    assert graph.fed[-1]["padding"].tolist() == [1, 1, 0]
    assert state.origin.tolist() == [1, 1, 0]


class Endless:
    """A network by hand that never ends a text, and counts what it has read of each."""

    def __init__(self) -> None:
        self.read: dict[int, int] = {}

    def start(self, inputs):
        return inputs["padding"], np.arange(len(inputs["padding"]))

    def step(self, tokens, state):
        padding, texts = state
        for row, text in enumerate(texts.tolist()):
            self.read[text] = self.read.get(text, 0) + tokens.shape[1] - int(padding[row])
        logits = np.tile(np.arange(9, dtype=np.float32), (len(tokens), 1))
        return logits, (np.zeros_like(padding), texts)

    def reorder(self, state, rows):
        return tuple(part[rows] for part in state)


def test_a_text_ends_where_the_network_has_no_place_for_another_token() -> None:
    network = Endless()
    tokenizer = SimpleNamespace(decode=lambda ids: "x" * len(ids))
    batch = {"tokens": np.array([[4, 5, 6, 7], [4, 0, 0, 0], [0, 0, 0, 0]])}
    config = SamplingConfig(max_new_tokens=6, temperature=0)
    limited = SimpleNamespace(kind="prompt", places=7, tokenizer=tokenizer)
    texts = TextGenerator(limited, config, lambda: network).write(batch, 3)  # type: ignore[arg-type]
    # Each is read after the id that begins it, and the last token is never read.
    assert network.read == {0: 7, 1: 7, 2: 6}
    assert [len(text) for text in texts] == [3, 6, 6]
    free = SimpleNamespace(kind="prompt", places=None, tokenizer=tokenizer)
    writer = TextGenerator(free, config, Endless)  # type: ignore[arg-type]
    for asked, most in ((None, 6), (2, 2), (9, 6)):  # Never more than the file says.
        texts = writer.write(batch, 3, max_new_tokens=asked)
        assert [len(text) for text in texts] == [most] * 3


class Echo:
    """A network by hand that writes its source, then ends."""

    def start(self, inputs):
        return inputs["source"], inputs["source_length"], np.zeros(len(inputs["source"]), np.int64)

    def step(self, tokens, state):
        source, length, at = state
        logits = np.full((len(tokens), 9), -30.0, np.float32)
        for row in range(len(tokens)):
            assert (tokens[row, -1] == BEGIN) == (at[row] == 0)
            is_over = at[row] == length[row]
            logits[row, END if is_over else source[row, at[row]]] = 30.0
        return logits, (source, length, at + 1)

    def reorder(self, state, rows):
        return tuple(part[rows] for part in state)


@pytest.mark.parametrize(
    "config",
    [
        BeamSearchConfig(num_beams=2, max_new_tokens=5),
        SamplingConfig(max_new_tokens=5, temperature=0),
    ],
)
def test_a_text_is_written_from_each_source(config) -> None:
    tokenizer = SimpleNamespace(decode=lambda ids: "".join(map(str, ids)))
    source = SimpleNamespace(kind="source", places=None, tokenizer=tokenizer)
    batch = {
        "source": np.array([[5, 6, 7], [8, 0, 0], [4, 4, 0]]),
        "source_length": np.array([3, 1, 2]),
    }
    writer = TextGenerator(source, config, Echo)  # type: ignore[arg-type]
    assert writer.write(batch, 3) == ["567", "8", "44"]
    assert writer.write(batch, 3, max_new_tokens=2)[0] == "56"
    pieces = writer.sample(batch, None)
    assert [item.text for item in collect(pieces, 3)] == ["567", "8", "44"]


class Memorising:
    """A graph by hand that reads a source of 4 tokens as so many places."""

    def __init__(self, places: int) -> None:
        self.places = places

    def run(self, inputs):
        count = len(inputs["source"])
        return [np.zeros((count, self.places, 2), np.float32), np.zeros((count, 3), np.float32)]


def test_what_a_source_is_read_as_is_no_longer_than_it() -> None:
    encode = GraphSpec(
        (TensorSpec("source", "int64", ("N", "T")), TensorSpec("source_length", "int64", ("N",))),
        (TensorSpec("memory", "float32", ("N", "M", 2)), TensorSpec("state", "float32", ("N", 3))),
    )
    inputs = {"source": np.ones((2, 4), np.int64), "source_length": np.array([4, 1])}
    for places in (1, 4):
        graphs = {"encode": encode, "step": STEP}
        stepper = GraphStepper(graphs, {"encode": Memorising(places)})  # type: ignore[dict-item]
        standing = stepper.start(inputs)
        assert standing.fixed["memory"].shape == (2, places, 2)
        assert standing.origin.tolist() == [0, 1]
    stepper = GraphStepper(graphs, {"encode": Memorising(5)})  # type: ignore[dict-item]
    with pytest.raises(ModelFileError, match=r"makes \[2, 5, 2\] of a source of 4 tokens"):
        stepper.start(inputs)
