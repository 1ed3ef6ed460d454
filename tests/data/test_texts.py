"""Texts and recordings from their sources to splits, and the odd ones among them."""

from __future__ import annotations

import gzip

import numpy as np
import pytest

from modelwright.data import labelled_split
from modelwright.data.waves import as_wav
from modelwright.errors import DataError, RecipeError
from modelwright.kinds import OutputKind
from modelwright.run import silent
from tests.data.making import prepared

TEXTS = "task: text-classification\n"
RECORDINGS = "task: audio-classification\n"


def lines(path, count=40, first=0, opener=open):
    with opener(path, "wb") as stream:
        for at in range(first, first + count):
            word = "sun" if at % 2 else "rain"
            stream.write(f"{at % 2} the {word} of day {at} is here\n".encode())


def kinds(found):
    return {item.kind: item for item in found.report.findings}


def test_lines_of_label_and_text(tmp_path):
    lines(tmp_path / "train.txt")
    lines(tmp_path / "test.txt.gz", 10, 100, gzip.open)
    found = prepared(tmp_path, "source: labelled_lines, path: train.txt, test: test.txt.gz", TEXTS)
    assert found.labels == ("0", "1")
    assert sum(found.counts["test"]) == 10
    split = found.test()
    assert found.store.original(int(split.rows[0])) == b"the rain of day 100 is here"
    assert split.gather(slice(0, 1))["length"].tolist() == [7]


def test_labels_get_other_names(tmp_path):
    lines(tmp_path / "a.txt")
    data = 'source: labelled_lines, path: a.txt, rename: {"0": wet, "1": dry}'
    assert prepared(tmp_path, data, TEXTS).labels == ("dry", "wet")
    with pytest.raises(RecipeError, match="names the label `2`"):
        prepared(tmp_path, 'source: labelled_lines, path: a.txt, rename: {"2": x}', TEXTS)


def test_the_tokenizer_is_made_from_the_training_split_alone(tmp_path):
    lines(tmp_path / "train.txt")
    (tmp_path / "test.txt").write_text("0 zyzzyva rain\n1 zyzzyva sun\n")
    found = prepared(tmp_path, "source: labelled_lines, path: train.txt, test: test.txt", TEXTS)
    assert found.input.tokenizer.id("zyzzyva") is None
    assert found.input.tokenizer.id("rain") is not None
    assert found.test().gather()["tokens"][0, 0] == 1


def test_texts_equal_but_for_case_and_blanks_are_a_leak(tmp_path):
    lines(tmp_path / "train.txt")
    (tmp_path / "test.txt").write_text("0 THE rain  of day 0 is here\n1 something new\n")
    data = "source: labelled_lines, path: train.txt, test: test.txt"
    with pytest.raises(DataError, match="1 text of the test split also"):
        prepared(tmp_path, data, TEXTS)
    found = prepared(tmp_path, data + ", leaks: allow", TEXTS)
    assert len(found.report.near_test_rows) == 1


def test_odd_texts_are_left_out_and_listed(tmp_path):
    lines(tmp_path / "a.txt")
    with (tmp_path / "a.txt").open("ab") as stream:
        stream.write(b"0 caf\xe9 noir\n1 \n0 a\0b\n1\n0 " + b"x" * 5_000_000 + b"\n")
    found = prepared(tmp_path, "source: labelled_lines, path: a.txt", TEXTS)
    errors = list(found.store.errors().values())
    assert len(errors) == 5
    for words, error in zip(("0xe9", "empty", "NUL", "empty", "characters"), errors, strict=True):
        assert words in error
    assert kinds(found)["broken"].rows[0] == "a.txt:41"


def test_a_class_of_one_text_is_not_called_a_picture(tmp_path):
    lines(tmp_path / "a.txt")
    with (tmp_path / "a.txt").open("a") as stream:
        stream.write("rare a text of its own\n")
    found = prepared(tmp_path, "source: labelled_lines, path: a.txt", TEXTS)
    assert "learned from one text and" in kinds(found)["single_sample"].fix


def test_what_is_cut_off_is_counted(tmp_path):
    lines(tmp_path / "a.txt")
    said = []
    found = prepared(
        tmp_path,
        "source: labelled_lines, path: a.txt",
        TEXTS + "text: {max_length: 4}",
        observe=lambda progress: said.append(progress.note),
    )
    assert found.test().gather()["tokens"].shape[1] == 8
    assert found.test().gather()["length"].tolist() == [4] * len(found.test())
    note = "train split are longer than `text.max_length` allows, and their ends are cut off"
    assert sum(note in item for item in said) == 1
    cut = [item for item in found.report.findings if item.kind == "cut"]
    assert [item.message.split(" of the ")[1].split()[0] for item in cut] == list(found.rows)
    assert cut[0].message.endswith(f"{note}; the first is {cut[0].rows[0]}")
    assert len(cut[0].rows) == len(found.rows["train"])


def test_tables_of_texts_gzipped_too(tmp_path):
    rows = "".join(f'"day {at}, all of it",{"ab"[at % 2]}\n' for at in range(30))
    (tmp_path / "t.csv.gz").write_bytes(gzip.compress(f"text,label\n{rows}".encode()))
    found = prepared(tmp_path, "source: table, path: t.csv.gz", TEXTS)
    assert found.labels == ("a", "b")
    (tmp_path / "bad.csv.gz").write_bytes(gzip.compress(b"text,label\nx,y\n" * 99)[:-20])
    with pytest.raises(DataError, match="damaged"):
        prepared(tmp_path, "source: table, path: bad.csv.gz", TEXTS)
    (tmp_path / "torn.csv").write_text('text,label\n"a,b,c\nd,e\n')
    with pytest.raises(DataError, match=r"torn\.csv:2"):
        prepared(tmp_path, "source: table, path: torn.csv", TEXTS)


def test_tables_whose_columns_no_line_names(tmp_path):
    rows = [f'"Day {at}," he said.\tthing {at}\t{"ab"[at % 2]}' for at in range(30)]
    (tmp_path / "t.txt.gz").write_bytes(gzip.compress("\n".join(rows).encode()))
    found = prepared(
        tmp_path, "source: table, path: t.txt.gz, columns: ['text', '-', 'label']", TEXTS
    )
    assert found.labels == ("a", "b")
    assert found.store.original(0).decode() == '"Day 0," he said.'
    assert len(found.store) == 30
    with pytest.raises(DataError, match=r"t\.txt\.gz:1: this row has 3 cells and `data.columns` 2"):
        prepared(tmp_path, "source: table, path: t.txt.gz, columns: [text, label]", TEXTS)
    with pytest.raises(DataError, match="two columns have one name"):
        prepared(tmp_path, "source: table, path: t.txt.gz, columns: [text, text, label]", TEXTS)
    with pytest.raises(DataError, match="no column `text`"):
        prepared(tmp_path, "source: table, path: t.txt.gz, columns: [a, b, label]", TEXTS)
    (tmp_path / "t.jsonl").write_text('{"text": "a", "label": "b"}\n' * 9)
    with pytest.raises(DataError, match="names those of text tables"):
        prepared(tmp_path, "source: table, path: t.jsonl, columns: [text, label]", TEXTS)


def test_tab_separated_text_is_quoted_or_isnt(tmp_path):
    quoted = "text\tlabel\n" + "".join(f'"a ""word"" {at}"\t{"ab"[at % 2]}\n' for at in range(30))
    (tmp_path / "q.tsv").write_text(quoted)
    found = prepared(tmp_path, "source: table, path: q.tsv", TEXTS)
    assert found.store.original(1).decode() == 'a "word" 1'
    rows = [f"text {at}\t{'ab'[at % 2]}\n" for at in range(30)]
    rows[3], rows[20] = '"He said.\ta\n', 'She said."\tb\n'
    for name, sign in (("s.tsv", "\t"), ("s.csv", ",")):
        (tmp_path / name).write_text(("text\tlabel\n" + "".join(rows)).replace("\t", sign))
        assert len(prepared(tmp_path, f"source: table, path: {name}", TEXTS).store) == 30
    (tmp_path / "torn.tsv").write_text('text\tlabel\n"a\tb\nc\td\te\n')
    with pytest.raises(DataError, match=r"torn\.tsv"):
        prepared(tmp_path, "source: table, path: torn.tsv", TEXTS)


def test_folders_of_texts(tmp_path):
    for label in ("glad", "sad"):
        (tmp_path / "t" / label).mkdir(parents=True)
        for at in range(6):
            (tmp_path / "t" / label / f"{at}.txt").write_text(f"{label} number {at}")
    found = prepared(tmp_path, "source: folder, path: t", TEXTS)
    assert found.labels == ("glad", "sad")
    with pytest.raises(DataError, match="there are no images in this folder"):
        prepared(tmp_path, "source: folder, path: t")


def test_images_are_no_texts(tmp_path):
    with pytest.raises(DataError, match="holds images, and the task takes texts"):
        prepared(tmp_path, "source: digits", TEXTS)


def tone(pitch, seconds=0.3, rate=8000):
    time = np.arange(int(seconds * rate)) / rate
    return (np.sin(2 * np.pi * pitch * time) * 8000).astype(np.int16)


def recordings(root, rate=8000, each=6):
    for label, pitch in (("low", 200), ("high", 1500)):
        (root / label).mkdir(parents=True)
        for at in range(each):
            held = tone(pitch + 7 * at, 0.2 + 0.02 * at, rate)
            (root / label / f"{at}.wav").write_bytes(as_wav(held, rate))


def test_folders_of_sounds(tmp_path):
    recordings(tmp_path / "s")
    (tmp_path / "s" / "low" / "other.wav").write_bytes(as_wav(tone(333, 0.4, 16000), 16000))
    (tmp_path / "s" / "low" / "torn.wav").write_bytes(as_wav(tone(300), 8000)[:900])
    (tmp_path / "s" / "low" / "text.wav").write_text("no recording")
    found = prepared(tmp_path, "source: folder, path: s", RECORDINGS)
    assert found.input.sampling_rate == 8000
    assert len(found.store.errors()) == 2
    assert set(kinds(found)) == {"broken", "mixed_rates"}
    row = found.store.strings("origin").index("low/other.wav")
    assert found.inputs.lengths[row] == 3200  # resampled


def test_plain_pcm_in_a_table(tmp_path):
    import pyarrow as pa
    import pyarrow.parquet as pq

    table = pa.table(
        {
            "pcm": [tone(200 + at).tobytes() for at in range(12)],
            "digit": [at % 2 for at in range(12)],
            "speaker": [f"s{at // 3}" for at in range(12)],
        }
    )
    pq.write_table(table, tmp_path / "t.parquet")
    data = (
        "source: table, path: t.parquet, audio: pcm, sampling_rate: 8000, label: digit, "
        "split: {by: group, column: speaker, test: 0.25, val: 0.25}"
    )
    found = prepared(tmp_path, data, RECORDINGS)
    speakers = found.store.metadata["speaker"]
    by_split = {name: {speakers[row] for row in rows} for name, rows in found.rows.items()}
    assert not by_split["train"] & by_split["test"]
    assert not by_split["train"] & by_split["validation"]


def test_identical_sounds_across_splits_are_a_leak(tmp_path):
    recordings(tmp_path / "s" / "train")
    (tmp_path / "s" / "test" / "low").mkdir(parents=True)
    copy = (tmp_path / "s" / "train" / "low" / "0.wav").read_bytes()
    (tmp_path / "s" / "test" / "low" / "copy.wav").write_bytes(copy)
    with pytest.raises(DataError, match="1 recording of the test split also"):
        prepared(tmp_path, "source: folder, path: s", RECORDINGS)


def test_archives_of_images(tmp_path):
    random = np.random.default_rng(0)
    arrays = {
        f"{name}_{part}": value
        for name, count in (("train", 30), ("val", 6), ("test", 8))
        for part, value in (
            ("images", random.integers(0, 256, (count, 12, 12), dtype=np.uint8)),
            ("labels", (np.arange(count) % 2)[:, None]),
        )
    }
    np.savez(tmp_path / "a.npz", **arrays)
    found = prepared(tmp_path, "source: arrays, path: a.npz")
    assert {name: sum(of) for name, of in found.counts.items()} == {
        "train": 30,
        "validation": 6,
        "test": 8,
    }
    assert (found.test().gather()[..., 0] == arrays["test_images"]).all()
    (tmp_path / "text.npz").write_text("no archive")
    np.savez(tmp_path / "odd.npz", images=np.zeros((2, 3)), labels=np.zeros(2))
    np.savez(tmp_path / "object.npz", images=np.array([{}], dtype=object), labels=np.zeros(1))
    np.savez(tmp_path / "other.npz", pixels=np.zeros(3))
    for name in ("text", "odd", "object", "other"):
        with pytest.raises(DataError):
            prepared(tmp_path, f"source: arrays, path: {name}.npz")


def test_labelled_texts_for_a_model(tmp_path):
    lines(tmp_path / "a.txt")
    found = prepared(tmp_path, "source: labelled_lines, path: a.txt", TEXTS)
    split, mark, *_ = labelled_split(
        tmp_path / "a.txt", input=found.input, labels=found.labels, observe=silent
    )
    assert len(split) == 40
    assert mark.startswith("sha256:")
    (tmp_path / "b.csv").write_text("sentence,class\nthe sun,1\nthe rain,0\n")
    split, *_ = labelled_split(
        tmp_path / "b.csv",
        input=found.input,
        labels=found.labels,
        observe=silent,
        guess=lambda path, kind: {"text": "sentence", "label": "class"},
    )
    assert split.targets.tolist() == [1, 0]


NUMBERS = "task: regression\n"


def test_numbers_from_a_table(tmp_path):
    rows = "".join(f"a text of day {at},{at / 2},{-at}\n" for at in range(40))
    (tmp_path / "t.csv").write_text("text,first,second\n" + rows)
    data = "source: table, path: t.csv, input_kind: text, target_columns: [first, second]"
    found = prepared(tmp_path, data, NUMBERS)
    assert found.labels == ("first", "second")
    assert not found.has_classes
    assert sum(sum(of) for of in found.counts.values()) == 40
    train = found.dataset().train
    text = found.store.original(int(train.rows[0])).decode()
    day = int(text.split()[-1])
    assert train.targets[0].tolist() == [day / 2, -day]
    assert found.record["numbers"] == ["first", "second"]


def test_targets_that_are_no_numbers_are_left_out_and_listed(tmp_path):
    rows = "".join(f"a text of day {at},{at}\n" for at in range(20))
    (tmp_path / "t.csv").write_text(
        "text,target\n" + rows + "odd,nan\nodder,inf\noddest,\nno,1e999\nwords,many\n"
    )
    found = prepared(tmp_path, "source: table, path: t.csv, input_kind: text", NUMBERS)
    errors = found.store.errors()
    assert list(errors) == [20, 21, 22, 23, 24]
    assert set(errors.values()) == {"its target isn't a finite number"}
    assert kinds(found)["broken"].rows[0] == "t.csv:22"


def test_a_number_that_never_changes_is_refused(tmp_path):
    (tmp_path / "t.csv").write_text("text,target\n" + "".join(f"t{at},3\n" for at in range(9)))
    with pytest.raises(DataError, match="nothing to learn"):
        prepared(tmp_path, "source: table, path: t.csv, input_kind: text", NUMBERS)


def test_numbers_are_kept_in_all_their_digits(tmp_path):
    rows = "".join(f"t{at},{1e9 + at * 0.001:.3f}\n" for at in range(30))
    (tmp_path / "t.csv").write_text(f"text,target\n{rows}t,1e39\nu,{'9' * 400}\n")
    found = prepared(tmp_path, "source: table, path: t.csv, input_kind: text", NUMBERS)
    assert len(np.unique(found.targets.values[np.concatenate(list(found.rows.values()))])) == 30
    assert len(found.store.errors()) == 2


def test_a_column_of_numbers_that_is_missing_is_named(tmp_path):
    (tmp_path / "t.csv").write_text("text,price\na,1\nb,2\n")
    with pytest.raises(DataError, match="no column `prise`"):
        prepared(
            tmp_path,
            "source: table, path: t.csv, input_kind: text, target_columns: [prise]",
            NUMBERS,
        )


def test_the_model_is_told_apart_by_its_kind_of_target(tmp_path):
    (tmp_path / "t.csv").write_text("text,price\n" + "".join(f"t{at},{at}\n" for at in range(9)))
    first = prepared(
        tmp_path, "source: table, path: t.csv, input_kind: text, target_columns: [price]", NUMBERS
    )
    split, *_ = labelled_split(
        tmp_path / "t.csv",
        input=first.input,
        labels=("price",),
        observe=silent,
        output_kind=OutputKind.REGRESSION,
    )
    assert split.targets[:, 0].tolist() == list(range(9))
