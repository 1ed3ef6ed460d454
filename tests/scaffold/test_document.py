"""A recipe as text."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from ruamel.yaml import YAML

from modelwright.scaffold.document import Setting, section, write_document


def test_settings_are_nested_and_commented():
    train = Setting("train", (Setting("epochs", "3", "at most"), Setting("lr", "0.1")), above="So:")
    assert write_document(["Head"], [Setting("version", "1"), train]).splitlines() == [
        "# Head",
        "version: 1",
        "# So:",
        "train:",
        "  epochs: 3  # at most",
        "  lr: 0.1",
    ]


VALUES = st.one_of(st.text(), st.booleans(), st.integers(), st.lists(st.text(), max_size=3))


@given(st.dictionaries(st.from_regex("[a-z_]{1,8}", fullmatch=True), VALUES, min_size=1))
def test_whatever_data_is_called_reads_back(values):
    values.pop("source", None)
    text = write_document([], [section("data", {"source": "table", **values})])
    assert YAML(typ="safe").load(text) == {"data": {"source": "table", **values}}
