"""Profiles of machines, and times told by them."""

from __future__ import annotations

import json

import hypothesis.strategies as st
import pytest
from hypothesis import given

from modelwright.errors import DataError
from modelwright.ledger import Evidence
from modelwright.modelfile.kernels import INTEGER_OPERATORS, KINDS, OTHER
from modelwright.planning import host
from modelwright.planning.host import CALL, REFERENCES, HostProfile, predicted, profile_from

HERE = HostProfile("here", "onnxruntime", 1, dict.fromkeys(REFERENCES, 1.0), True)


def there(**times):
    return HostProfile(
        "there", "onnxruntime", 2, {**dict.fromkeys(REFERENCES, 1.0), **times}, False
    )


def record(metric, value):
    return Evidence(metric=metric, value=value, low=value / 2, high=2 * value, n=9, method="timed")


def test_each_kind_of_work_is_scaled_by_its_own_ratio():
    times = [record("latency_p50_ms", 10.0), record("throughput_per_s", 400.0)]
    spent = {"convolution": 0.006, "product": 0.002, OTHER: 0.001}  # And 0.001 in calling.
    found = predicted(times, spent, there(convolution=3.0, product=0.5, **{CALL: 10.0}), HERE)
    assert found[0].value == pytest.approx(18 + 1 + 1 + 10)
    assert found[0].low == pytest.approx(15)
    assert found[1].value == pytest.approx(400 / 3)
    assert {item.basis for item in found} == {"derived"}
    assert {(item.hardware, item.threads) for item in found} == {("there", 2)}


def test_the_same_machine_tells_the_same_times():
    (found,) = predicted([record("latency_p50_ms", 4.0)], {"product": 0.001}, there(), HERE)
    assert (found.value, found.low, found.high) == (4.0, 2.0, 8.0)


def test_every_reference_runs_and_is_of_its_kind(monkeypatch):
    monkeypatch.setattr(host, "_SECONDS", 0.0)
    assert all(time > 0 for time in host.measure_profile(1).milliseconds.values())
    for name in KINDS:
        session, _ = host._reference(name, 1)
        operators = {operator for operator, _ in session.operators()}
        assert operators & set(KINDS[name]), name
        assert bool(operators & INTEGER_OPERATORS) is name.endswith("int8")


def test_a_profile_is_read_as_it_was_written(tmp_path):
    profile = there(product=0.25)
    profile.write(tmp_path / "host.json")
    assert host.read_profile(tmp_path / "host.json") == profile


BAD = [
    "",
    "[]",
    "{}",
    "[" * 100_000,
    '{"format": 2}',
    json.dumps({**HERE.to_json(), "threads": True}),
    json.dumps({**HERE.to_json(), "threads": 0}),
    json.dumps({**HERE.to_json(), "hardware": "x" * 301}),
    json.dumps({**HERE.to_json(), "milliseconds": {"call": 1.0}}),
    json.dumps({**HERE.to_json(), "has_vnni": 1}),
    json.dumps({**HERE.to_json(), "milliseconds": {**HERE.milliseconds, CALL: 0}}),
    json.dumps({**HERE.to_json(), "milliseconds": {**HERE.milliseconds, CALL: float("nan")}}),
    json.dumps({**HERE.to_json(), "milliseconds": {**HERE.milliseconds, CALL: True}}),
]


@pytest.mark.parametrize("text", BAD, ids=range(len(BAD)))
def test_what_is_no_profile_is_refused(text, tmp_path):
    (tmp_path / "host.json").write_text(text)
    with pytest.raises(DataError, match="isn't the profile of a machine") as caught:
        host.read_profile(tmp_path / "host.json")
    assert "profile --save" in caught.value.fix
    with pytest.raises(DataError):
        host.read_profile(tmp_path)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["format", *REFERENCES]), inner)
    ),
    max_leaves=8,
)


@given(
    st.dictionaries(
        st.sampled_from(["format", "hardware", "runtime", "threads", "milliseconds"]), json_values
    )
)
def test_any_other_values_are_no_profile(value):
    with pytest.raises(ValueError):
        profile_from({**value, "hardware": None})
