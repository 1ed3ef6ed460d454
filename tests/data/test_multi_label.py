"""Samples with several labels or none, from their cells to targets, and the odd ones among them."""

from __future__ import annotations

import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from modelwright.data import labelled_split
from modelwright.data.label_targets import label_set_targets
from modelwright.data.labels import count_labels, fit_labels, split_labels
from modelwright.data.multi_label import (
    FEWEST_ALIKE,
    are_lists,
    read_cells,
    read_labels,
    rename_labels,
    strata,
    write_labels,
)
from modelwright.errors import DataError, RecipeError
from modelwright.kinds import OutputKind
from modelwright.run import silent
from tests.data.making import prepared, recipe

TEXTS = "task: text-classification\n"
TABLE = "source: table, path: a.jsonl, label: labels, multi_label: true"
SETS = ([], ["cat"], ["cat", "dog"], ["dog"])


def rows(path, sets=SETS, count=80, first=0, **more):
    with path.open("w", encoding="utf-8") as stream:
        for at in range(first, first + count):
            row = {"text": f"sample number {at}", "labels": sets[at % len(sets)]}
            row |= {key: value(at) for key, value in more.items()}
            stream.write(json.dumps(row) + "\n")


def noted():
    """Return a list, and what puts into it all that is said."""
    notes = []
    return notes, lambda progress: notes.append(progress.note) if progress.note else None


def kinds(found):
    return {item.kind: item for item in found.report.findings}


# -- cells -----------------------------------------------------------------------------------


@given(st.lists(st.text(max_size=6).filter(str.strip), max_size=6))
def test_labels_come_back_once_each_and_in_order(names):
    stored = write_labels(names)
    whole = {name.encode("utf-8", "backslashreplace").decode() for name in names}
    assert read_labels(stored) == tuple(sorted(whole))
    assert write_labels(read_labels(stored)) == stored
    stored.encode()


@given(st.lists(st.lists(st.sampled_from(["a", "b c", "d"]), max_size=4), max_size=8))
def test_lists_and_separated_cells_say_the_same(sets):
    lists, _ = read_cells(sets, None, column="labels")
    kept, _ = read_cells([" | ".join(names) for names in sets], "|", column="labels")
    assert lists == kept


@given(
    st.lists(
        st.one_of(
            st.none(),
            st.booleans(),
            st.integers(),
            st.floats(),
            st.text(max_size=5),
            st.binary(max_size=3),
            st.lists(st.one_of(st.none(), st.text(max_size=3), st.integers(), st.floats())),
            st.dictionaries(st.text(max_size=2), st.integers()),
        ),
        max_size=10,
    ),
    st.sampled_from([None, "|", ", "]),
)
def test_whatever_cells_hold_is_read_or_left_out(cells, separator):
    try:
        found, _ = read_cells(cells, separator, column="labels")
    except DataError:  # Lists that were written out as text.
        assert separator is not None
        return
    assert len(found) == len(cells)
    for stored in found:
        assert all(label.strip() for label in read_labels(stored))


@pytest.mark.parametrize("cell", ["text", None, 3, {"a": 1}, [None], [["a"]], [1.5], [True]])
def test_what_is_no_list_of_labels_is_left_out(cell):
    assert read_cells([cell], None, column="labels")[0] == [""]
    assert not are_lists([cell])


def test_blank_and_repeated_labels_are_said():
    found, notes = read_cells(
        [["a", "", " "], ["a", "b", "a"], ["b", "b"], []], None, column="tags"
    )
    assert [read_labels(stored) for stored in found] == [("a",), ("a", "b"), ("b",), ()]
    repeated, blank = notes
    assert "2 cells name in `tags` a label twice" in repeated
    assert "one cell names in `tags` a blank label" in blank


def test_lists_written_out_as_text_are_refused():
    with pytest.raises(DataError, match="lists that were written out") as caught:
        read_cells(["['a', 'b']", "", "[]"], "|", column="labels")
    assert "JSONL" in caught.value.fix


def test_whole_numbers_are_labels():
    assert read_cells([[3, 11]], None, column="labels")[0] == ['["11", "3"]']


def test_other_names_may_join_labels():
    assert rename_labels('["a", "b"]', {"a": "b"}) == '["b"]'
    assert rename_labels("", {"a": "b"}) == ""


# -- splits and targets ----------------------------------------------------------------------


SOME_SETS = st.lists(st.sets(st.sampled_from("abc")), min_size=1, max_size=40)


@given(SOME_SETS, st.lists(st.sets(st.sampled_from("abde")), max_size=9))
def test_targets_say_which_labels_a_row_has(train, more):
    train, test = [{"c"}, *train], [{"c"}, *more]
    stored = [write_labels(names) for names in (*train, *test)]
    splits = {"train": np.arange(len(train)), "test": np.arange(len(train), len(stored))}
    known = fit_labels(stored[: len(train)], read_labels)
    counts = count_labels(read_labels, stored, splits)
    labels = split_labels(known, counts, is_model=False, where="data")
    targets = label_set_targets(stored, splits, labels)
    assert known == tuple(sorted(set().union(*train)))
    assert targets.shape == (len(stored), len(labels.known) + len(labels.unknown["test"]))
    assert not targets[splits["train"], len(labels.known) :].any()
    for names, row in zip((*train, *test), targets, strict=True):
        assert {labels.in_split("test")[at] for at in np.flatnonzero(row)} == names


@given(st.lists(st.integers(0, 6), min_size=1, max_size=120))
def test_rare_sets_are_one_stratum(numbers):
    stored = [f'["{number}"]' for number in numbers]
    found, note = strata(stored, np.arange(len(stored)))
    for row, stratum in zip(stored, found, strict=True):
        assert stratum == (row if stored.count(row) >= FEWEST_ALIKE else "")
    assert bool(note) == ("" in found)


def test_lists_of_labels_become_targets_and_counts(tmp_path):
    rows(tmp_path / "a.jsonl")
    found = prepared(tmp_path, TABLE, TEXTS)
    assert (found.output_kind, found.labels) == (OutputKind.MULTI_LABEL, ("cat", "dog"))
    assert found.num_outputs == 2
    test = found.test()
    assert test.targets.shape == (16, 2)
    assert test.targets.dtype == np.bool_
    # Each set keeps its share.
    assert np.unique(test.targets, axis=0, return_counts=True)[1].tolist() == [4, 4, 4, 4]
    assert (
        found.record["training_counts"] == found.targets.values[found.rows["train"]].sum(0).tolist()
    )
    assert found.record["splits"]["test"]["samples"] == 16
    assert found.report.findings == ()


@pytest.mark.parametrize(
    ("name", "separator", "between"), [("a.csv", "", "|"), ("a.tsv", ', separator: ";"', " ; ")]
)
def test_cells_hold_labels_with_a_separator(tmp_path, name, separator, between):
    delimiter = "\t" if name.endswith("tsv") else ","
    lines = [delimiter.join(("text", "label"))]
    lines += [f"sample {at}{delimiter}{between.join(SETS[at % 4])}" for at in range(40)]
    (tmp_path / name).write_text("\n".join(lines) + "\n")
    data = f"source: table, path: {name}, multi_label: true{separator}"
    found = prepared(tmp_path, data, TEXTS)
    assert found.labels == ("cat", "dog")
    assert found.targets.values.sum(axis=0).tolist() == [20, 20]
    assert found.store.errors() == {}


def test_a_separator_that_never_occurs_is_said(tmp_path):
    rows_of = [f"sample {at},{'cat;dog' if at % 2 else 'cat'}" for at in range(40)]
    (tmp_path / "a.csv").write_text("\n".join(["text,label", *rows_of]) + "\n")
    notes, observe = noted()
    prepared(tmp_path, "source: table, path: a.csv, multi_label: true", TEXTS, observe=observe)
    assert any("no cell of `label` holds the separator `|`" in note for note in notes)


def test_parquet_lists_and_named_classes(tmp_path):
    features = {
        "text": {"dtype": "string", "_type": "Value"},
        "labels": {"feature": {"names": ["cat", "dog"], "_type": "ClassLabel"}, "_type": "List"},
    }
    table = pa.table(
        {
            "text": [f"sample {at}" for at in range(40)],
            "labels": [[int(name == "dog") for name in SETS[at % 4]] for at in range(40)],
        }
    ).replace_schema_metadata({"huggingface": json.dumps({"info": {"features": features}})})
    pq.write_table(table, tmp_path / "a.parquet")
    data = "source: table, path: a.parquet, label: labels, multi_label: true"
    assert prepared(tmp_path, data, TEXTS).labels == ("cat", "dog")


def test_the_split_is_by_group_or_time_where_that_is_asked(tmp_path):
    rows(tmp_path / "a.jsonl", who=lambda at: f"guest {at // 8}", day=lambda at: at)
    found = prepared(tmp_path, f"{TABLE}, split: {{by: group, column: who}}", TEXTS)
    groups = [{found.store.metadata["who"][row] for row in of} for of in found.rows.values()]
    assert sum(map(len, groups)) == len(set().union(*groups)) == 10
    found = prepared(tmp_path, f"{TABLE}, split: {{by: time, column: day}}", TEXTS)
    assert found.rows["test"].tolist() == list(range(64, 80))


def test_sets_that_are_rare_are_split_at_random_and_said(tmp_path):
    sets = [[f"tag {at % 7}", f"topic {at % 11}"] for at in range(77)]
    rows(tmp_path / "a.jsonl", sets, 77)
    notes, observe = noted()
    found = prepared(tmp_path, TABLE, TEXTS, observe=observe)
    assert any("77 of 77 sets of labels occur fewer than 10 times" in note for note in notes)
    assert {name: len(of) for name, of in found.rows.items()} == {
        "train": 56,
        "validation": 6,
        "test": 15,
    }


# -- what is odd -----------------------------------------------------------------------------


def test_cells_that_are_no_lists_are_left_out_and_listed(tmp_path):
    rows(tmp_path / "a.jsonl")
    with (tmp_path / "a.jsonl").open("a") as stream:
        stream.write('{"text": "one", "labels": "cat"}\n{"text": "two"}\n')
    found = prepared(tmp_path, TABLE, TEXTS)
    assert len(found.store.errors()) == 2
    broken = kinds(found)["broken"]
    assert broken.rows == ("a.jsonl:81", "a.jsonl:82")
    assert "aren't a list of texts (empty where it has none)" in broken.message


def test_a_column_without_any_list_is_an_error(tmp_path):
    rows(tmp_path / "a.jsonl", ["cat", "dog"])
    with pytest.raises(DataError, match="none of the 80 texts can be used") as caught:
        prepared(tmp_path, TABLE, TEXTS)
    assert "aren't a list of texts" in caught.value.why


@pytest.mark.parametrize(
    ("sets", "words"),
    [
        ([[]], "no training sample has a label"),
        ([["cat", "dog"]], "have the same labels, `cat`, `dog`"),
    ],
)
def test_nothing_to_learn_is_an_error(tmp_path, sets, words):
    rows(tmp_path / "a.jsonl", sets)
    with pytest.raises(DataError, match=words):
        prepared(tmp_path, TABLE, TEXTS)


def test_lists_under_a_task_of_one_label_are_refused(tmp_path):
    rows(tmp_path / "a.jsonl")
    with pytest.raises(DataError, match="the column `labels` holds lists") as caught:
        prepared(tmp_path, "source: table, path: a.jsonl, label: labels", TEXTS)
    assert caught.value.where == "a.jsonl:1"
    assert "multi_label: true" in caught.value.fix


def test_the_audit_looks_at_each_label(tmp_path):
    rows(tmp_path / "train.jsonl", [["cat"], ["Cat ", "dog"], ["dog"], []])
    rows(tmp_path / "test.jsonl", [["cat", "owl"], ["dog"]], 10, first=1000)
    data = "source: table, path: ., label: labels, multi_label: true"
    found = prepared(tmp_path, data, TEXTS)
    assert kinds(found)["label_typo"].rows == ("Cat ", "cat")
    lost = kinds(found)["untrained_class"]
    assert lost.rows == ("owl",)
    assert "`owl` (5 test); such labels count as missed, and the log loss leaves" in lost.message


def test_labels_are_those_of_the_training_split(tmp_path):
    rows(tmp_path / "train.jsonl", [["cat"], ["dog"], []])
    rows(tmp_path / "val.jsonl", [["cat", "asp"], ["dog"], ["cat", "gnu"]], 9, first=1000)
    rows(tmp_path / "test.jsonl", [["cat", "owl"], ["dog"]], 10, first=2000)
    data = "source: table, path: ., label: labels, multi_label: true"
    found = prepared(tmp_path, data, TEXTS)
    assert (found.labels, found.num_outputs) == (("cat", "dog"), 2)
    dataset, test = found.dataset(), found.test()
    assert dataset.train.targets.shape[1] == 2
    assert (dataset.validation.unknown, test.unknown) == (("asp", "gnu"), ("owl",))
    assert dataset.validation.targets.sum(axis=0).tolist() == [6, 3, 3, 3]
    assert test.targets.sum(axis=0).tolist() == [5, 5, 5]
    assert len(found.record["training_counts"]) == 2


def test_training_texts_that_all_have_the_same_labels_are_refused(tmp_path):
    rows(tmp_path / "train.jsonl", [["cat"]])
    rows(tmp_path / "test.jsonl", [["cat"], ["dog"]], 10, first=1000)
    data = "source: table, path: ., label: labels, multi_label: true"
    with pytest.raises(DataError, match="all training samples have the same labels, `cat`"):
        prepared(tmp_path, data, TEXTS)


def test_a_frequent_and_a_rare_label_are_told_without_a_loss_that_weighs(tmp_path):
    rows(tmp_path / "a.jsonl", [*[["cat"]] * 39, ["cat", "dog"]], 400)
    fix = kinds(prepared(tmp_path, TABLE, TEXTS))["imbalance"].fix
    assert "class_weights" not in fix


def test_equal_texts_under_other_labels_contradict(tmp_path):
    rows(tmp_path / "a.jsonl", split=lambda at: "train" if at < 60 else "test")
    with (tmp_path / "a.jsonl").open("a") as stream:
        for labels in (["cat"], ["cat", "dog"]):
            row = {"text": "the same", "labels": labels, "split": "train"}
            stream.write(json.dumps(row) + "\n")
    found = prepared(tmp_path, f"{TABLE}, split_column: split", TEXTS)
    assert kinds(found)["contradiction"].rows == ("a.jsonl:81", "a.jsonl:82")


def test_labels_get_other_names(tmp_path):
    rows(tmp_path / "a.jsonl")
    found = prepared(tmp_path, f"{TABLE}, rename: {{cat: pet, dog: pet}}", TEXTS)
    assert found.labels == ("pet",)
    with pytest.raises(RecipeError, match="names the label `cow`"):
        prepared(tmp_path, f"{TABLE}, rename: {{cow: pet}}", TEXTS)


def test_halves_of_signs_are_kept_as_their_escapes(tmp_path):
    rows(tmp_path / "a.jsonl", [["caf\udce9"], ["dog"]])
    assert prepared(tmp_path, TABLE, TEXTS).labels == ("caf\\udce9", "dog")


# -- another table for a model that exists ---------------------------------------------------


def of_model(tmp_path, path, observe=silent, **update):
    """Return a path as data for a model of the labels `cat` and `dog`."""
    rows(tmp_path / "a.jsonl")
    found = prepared(tmp_path, TABLE, TEXTS)
    return labelled_split(
        path,
        input=found.input,
        labels=("cat", "dog"),
        observe=observe,
        like=recipe(TABLE, TEXTS).data.model_copy(update=update),
        output_kind=OutputKind.MULTI_LABEL,
    )[0]


def test_other_data_is_read_as_the_models_own(tmp_path):
    rows(tmp_path / "b.jsonl", [["Katze"], []], 6)
    found = of_model(tmp_path, tmp_path / "b.jsonl", rename={"Katze": "cat"})
    assert found.targets.tolist() == [[True, False], [False, False]] * 3


def test_labels_that_the_model_does_not_know_stay_and_are_said(tmp_path):
    rows(tmp_path / "b.jsonl", [["cat"], ["cat", "cow"]], 6)
    notes, observe = noted()
    found = of_model(tmp_path, tmp_path / "b.jsonl", observe)
    assert found.unknown == ("cow",)
    assert found.targets.tolist() == [[True, False, False], [True, False, True]] * 3
    (note,) = notes
    assert "doesn't know 1 of the labels: `cow` (3); such labels count as missed" in note


def test_data_without_any_label_that_the_model_knows_is_refused(tmp_path):
    rows(tmp_path / "b.jsonl", [["cow"], ["emu"], []], 6)
    with pytest.raises(DataError, match=r"is no label that the model knows: .* `cow`, `emu`"):
        of_model(tmp_path, tmp_path / "b.jsonl")


def test_what_is_no_table_is_an_error(tmp_path):
    (tmp_path / "lines.txt").write_text("cat a text\n")
    for path in (tmp_path / "lines.txt", tmp_path):
        with pytest.raises(DataError, match="this is no table"):
            of_model(tmp_path, path)
