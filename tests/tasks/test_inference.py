"""What decides an answer beyond the weights: its round trip through JSON, and what is refused."""

from __future__ import annotations

import json
import math
from dataclasses import fields

import pytest
from hypothesis import given
from hypothesis import strategies as st

from modelwright.errors import ModelFileError
from modelwright.kinds import OutputKind
from modelwright.tasks.beam_search import BeamSearchConfig
from modelwright.tasks.inference import Inference, Threshold, generation_config
from modelwright.tasks.sampling import SamplingConfig

LABELS = ("cat", "dog")
SHARES = st.floats(0, 1)

thresholds = st.builds(Threshold, st.sampled_from(LABELS), SHARES)
samplings = st.builds(
    SamplingConfig,
    max_new_tokens=st.integers(1, 10_000),
    temperature=st.floats(0, 100) | st.just(0),
    top_k=st.none() | st.integers(1, 1000),
    top_p=st.none() | SHARES.filter(bool),
    repetition_penalty=st.floats(0.01, 100),
    stop=st.lists(st.text(min_size=1), max_size=3).map(tuple),
    seed=st.integers(0, 2**64 - 1),
)
searches = st.builds(
    BeamSearchConfig,
    num_beams=st.integers(1, 64),
    max_new_tokens=st.integers(1, 10_000),
    length_penalty=st.floats(0, 10),
)
cases = st.one_of(
    st.tuples(
        st.just(OutputKind.SINGLE_LABEL),
        st.builds(
            Inference,
            st.sampled_from(["none", "flip", "speeds"]),
            st.none() | thresholds,
            st.sampled_from([(), (0.05,), (1.25,)]),
        ),
    ),
    st.tuples(
        st.sampled_from([kind for kind in OutputKind if not kind.is_generative]),
        st.just(Inference("flip_shift")),
    ),
    st.tuples(st.just(OutputKind.CAUSAL_LM), st.builds(Inference, generate=samplings)),
    st.tuples(st.just(OutputKind.SEQ2SEQ), st.builds(Inference, generate=searches)),
)


def read(value, output_kind=OutputKind.SINGLE_LABEL):
    return Inference.from_json(value, output_kind=output_kind, labels=LABELS)


def test_exactly_the_generative_kinds_have_a_config():
    configured = {kind for kind in OutputKind if generation_config(kind) is not None}
    assert configured == {kind for kind in OutputKind if kind.is_generative}


@given(case=cases)
def test_inference_comes_back_from_json(case):
    output_kind, inference = case
    text = json.dumps(inference.to_json())
    assert read(json.loads(text), output_kind) == inference


def test_what_follows_from_the_tokenizer_is_not_written():
    written = Inference(generate=SamplingConfig(stop_ids=(7,), barred=(8,))).to_json()
    names = {item.name for item in fields(SamplingConfig)} - {"stop_ids", "barred"}
    assert set(written["generate"]) == names


NOTHING = {"tta": "none", "threshold": None, "temperature": [], "generate": None}


@pytest.mark.parametrize(
    "value",
    [
        None,
        [],
        "none",
        {},
        {"tta": "none"},
        {**NOTHING, "more": 1},
        {**NOTHING, "tta": None},
        {**NOTHING, "tta": 6},
        *({name: NOTHING[name] for name in NOTHING if name != left_out} for left_out in NOTHING),
    ],
)
def test_a_malformed_section_is_refused(value):
    with pytest.raises(ModelFileError, match="section `inference`"):
        read(value)


@pytest.mark.parametrize(
    "threshold",
    [
        0.5,
        [],
        {},
        {"label": "cat"},
        {"probability": 0.5},
        {"label": "cat", "probability": 0.5, "more": 1},
        {"label": "cow", "probability": 0.5},
        {"label": None, "probability": 0.5},
        {"label": 0, "probability": 0.5},
        *({"label": "cat", "probability": bad} for bad in (None, "0.5", True, -0.1, 1.1, math.nan)),
    ],
)
def test_a_malformed_threshold_is_refused(threshold):
    with pytest.raises(ModelFileError, match="threshold"):
        read({**NOTHING, "threshold": threshold})


@pytest.mark.parametrize(
    ("temperature", "output_kind"),
    [
        ([1.0, 1.0], OutputKind.SINGLE_LABEL),
        ([1.0], OutputKind.MULTI_LABEL),
        ([1.0, 1.0, 1.0], OutputKind.MULTI_LABEL),
        ([1.0], OutputKind.REGRESSION),
        *(
            (pair, OutputKind.MULTI_LABEL)
            for bad in (1, "1.0", None, True, 0.0, -1.0, 1e9, math.nan)
            for pair in ([bad, 1.0], [1.0, bad])
        ),
    ],
)
def test_a_malformed_temperature_is_refused(temperature, output_kind):
    with pytest.raises(ModelFileError, match="temperature"):
        read({**NOTHING, "temperature": temperature}, output_kind)
    good = read({**NOTHING, "temperature": [1.0, 2.0]}, OutputKind.MULTI_LABEL)
    assert good.temperature == (1.0, 2.0)


@pytest.mark.parametrize("output_kind", [k for k in OutputKind if k != OutputKind.SINGLE_LABEL])
def test_a_threshold_is_for_one_label(output_kind):
    config = generation_config(output_kind)
    inference = Inference(threshold=Threshold("cat", 0.5), generate=config() if config else None)
    with pytest.raises(ModelFileError, match="threshold"):
        read(inference.to_json(), output_kind)


@pytest.mark.parametrize(
    ("output_kind", "generate"),
    [
        (OutputKind.SINGLE_LABEL, SamplingConfig()),
        (OutputKind.CTC, BeamSearchConfig()),
        (OutputKind.CAUSAL_LM, None),
        (OutputKind.CAUSAL_LM, BeamSearchConfig()),
        (OutputKind.SEQ2SEQ, None),
        (OutputKind.SEQ2SEQ, SamplingConfig()),
    ],
)
def test_a_config_of_another_kind_is_refused(output_kind, generate):
    with pytest.raises(ModelFileError, match=r"`inference\.generate` "):
        read(Inference(generate=generate).to_json(), output_kind)


@pytest.mark.parametrize(
    ("name", "bad"),
    [
        *(("max_new_tokens", bad) for bad in (None, 0, -1, 1.5, 2.0, True, "9", [9], 10**30)),
        *(("temperature", bad) for bad in (None, -0.1, math.nan, math.inf, True, "1", [1.0])),
        *(("top_k", bad) for bad in (0, -1, 1.5, True, "9")),
        *(("top_p", bad) for bad in (0.0, 1.1, math.nan, True, "1")),
        *(("repetition_penalty", bad) for bad in (None, 0.0, -1.0, math.nan, math.inf, "1")),
        *(("stop", bad) for bad in (None, "end", [""], [1], [None], [["a"]])),
        *(("seed", bad) for bad in (None, -1, 2**64, 1.0, True, "1")),
    ],
)
def test_a_malformed_sampling_value_is_refused(name, bad):
    value = Inference(generate=SamplingConfig()).to_json()
    value["generate"][name] = bad
    with pytest.raises(ModelFileError, match=rf"`inference\.generate\.?{name}`|: `{name}`"):
        read(value, OutputKind.CAUSAL_LM)


@pytest.mark.parametrize(
    ("name", "bad"),
    [
        *(("num_beams", bad) for bad in (None, 0, -1, 1.5, True, "4", 65)),
        *(("max_new_tokens", bad) for bad in (None, 0, 1.5, True, "9", 100_001)),
        *(("length_penalty", bad) for bad in (None, -1.0, 1e4, math.nan, math.inf, True, "1")),
    ],
)
def test_a_malformed_search_value_is_refused(name, bad):
    value = Inference(generate=BeamSearchConfig()).to_json()
    value["generate"][name] = bad
    with pytest.raises(ModelFileError, match=rf"`inference\.generate\.?{name}`|: `{name}`"):
        read(value, OutputKind.SEQ2SEQ)


@pytest.mark.parametrize("config", [SamplingConfig(), BeamSearchConfig()])
def test_a_setting_that_is_missing_or_unknown_is_refused(config):
    kinds = {generation_config(kind): kind for kind in OutputKind if kind.is_generative}
    whole = Inference(generate=config).to_json()
    for name in whole["generate"]:
        rest = {key: value for key, value in whole["generate"].items() if key != name}
        with pytest.raises(ModelFileError, match=name):
            read({**whole, "generate": rest}, kinds[type(config)])
    more = {**whole["generate"], "stop_ids": [3]}
    with pytest.raises(ModelFileError, match=r"`inference\.generate` isn't"):
        read({**whole, "generate": more}, kinds[type(config)])
