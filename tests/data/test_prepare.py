from __future__ import annotations

import io

import numpy as np
import pyarrow.parquet as pq
import pytest
from PIL import Image

from modelwright.data import labelled_split, prepare_again
from modelwright.data.audit import identical
from modelwright.data.hashing import perceptual_hashes
from modelwright.data.near_duplicates import _proposed, near_duplicate_pairs
from modelwright.errors import DataError
from modelwright.recipe import parse_recipe
from modelwright.run import silent
from tests.data.making import folder, picture, prepared


def findings(found):
    return {item.kind: item for item in found.report.findings}


def test_a_folder_becomes_splits_of_pixels(tmp_path):
    folder(tmp_path / "pets", each=20)
    found = prepared(tmp_path, "source: folder, path: pets", run_folder=tmp_path / "run")
    assert found.labels == ("cat", "dog")
    assert (found.input.height, found.input.width, found.input.channels) == (12, 12, 3)
    assert {name: sum(counts) for name, counts in found.counts.items()} == {
        "train": 29,
        "validation": 3,
        "test": 8,
    }
    written = pq.read_table(tmp_path / "run" / "splits.parquet").to_pydict()
    assert len(written["origin"]) == 40
    assert written["split"].count("test") == 8


@pytest.mark.parametrize(
    ("split", "key"), [("test: 0.3", "test"), ("val: 0", "val"), ("seed: 1", "seed")]
)
def test_a_split_that_is_there_is_not_drawn(tmp_path, split, key):
    for number, name in enumerate(("train", "val", "test")):
        folder(tmp_path / "pets" / name, each=4, first=100 * number)
    with pytest.raises(DataError, match=rf"`data.split.{key}` has no effect"):
        prepared(tmp_path, f"source: folder, path: pets, split: {{{split}}}")
    # A limit draws by the same seed.
    prepared(tmp_path, "source: folder, path: pets, limit: 3, split: {seed: 1}")


def test_statistics_come_from_the_training_split_alone(tmp_path):
    folder(tmp_path / "pets", each=20)
    found = prepared(tmp_path, "source: folder, path: pets")
    train = found.dataset().train.gather() / 255
    assert found.mean == pytest.approx(train.mean((0, 1, 2)), abs=1e-9)
    assert found.std == pytest.approx(train.std((0, 1, 2)), abs=1e-9)


def test_a_class_that_training_never_sees_is_named(tmp_path):
    folder(tmp_path / "pets" / "train", each=4)
    folder(tmp_path / "pets" / "test", classes=("cat", "emu"), each=3, first=50)
    found = findings(prepared(tmp_path, "source: folder, path: pets"))["untrained_class"]
    assert found.rows == ("emu",)
    assert "`emu` (3 test); such images count as wrong" in found.message


def test_classes_are_those_of_the_training_split(tmp_path):
    folder(tmp_path / "pets" / "train", each=6)
    folder(tmp_path / "pets" / "val", classes=("asp", "cat", "emu"), each=2, first=50)
    folder(tmp_path / "pets" / "test", classes=("Cat", "cat", "emu"), each=3, first=80)
    found = prepared(tmp_path, "source: folder, path: pets")
    assert (found.labels, found.num_outputs) == (("cat", "dog"), 2)
    dataset, test = found.dataset(), found.test()
    # Each split numbers what it has beyond the model's classes behind them.
    assert dataset.train.unknown == ()
    assert dataset.validation.unknown == ("asp", "emu")
    assert dataset.validation.targets.tolist() == [2, 2, 0, 0, 3, 3]
    assert test.unknown == ("Cat", "emu")
    assert sorted(test.targets.tolist()) == [0, 0, 0, 2, 2, 2, 3, 3, 3]
    assert {name: sum(counts) for name, counts in found.counts.items()} == {
        "train": 12,
        "validation": 6,
        "test": 9,
    }
    lost = findings(found)["untrained_class"].message
    assert "3 classes have no image in the training split" in lost
    assert "`Cat` (3 test), `asp` (2 validation), `emu` (2 validation, 3 test)" in lost
    assert "`Cat` (3), `cat`" in findings(found)["label_typo"].message


@pytest.mark.parametrize("split", ["val", "test"])
def test_a_split_without_any_class_of_training_is_refused(tmp_path, split):
    folder(tmp_path / "pets" / "train", each=6)
    folder(tmp_path / "pets" / split, classes=("Katze", "Hund"), each=3, first=50)
    wanted = rf"the {split}\w* split has no label that training has: .* `Hund`, `Katze`"
    with pytest.raises(DataError, match=wanted):
        prepared(tmp_path, "source: folder, path: pets")


def test_one_class_in_training_is_refused_whatever_the_others_have(tmp_path):
    folder(tmp_path / "pets" / "train", classes=("cat",))
    folder(tmp_path / "pets" / "test", each=3, first=50)
    with pytest.raises(DataError, match="all training samples have one label, `cat`") as raised:
        prepared(tmp_path, "source: folder, path: pets")
    assert "at least two classes" in raised.value.fix


def test_samples_without_a_label_are_left_out(tmp_path):
    folder(tmp_path / "pets", each=6)
    rows = [f"pets/{label}/{at:03d}.png,{label}" for label in ("cat", "dog") for at in range(6)]
    rows[3], rows[4], rows[5] = "pets/cat/003.png,", "pets/cat/004.png,  ", "gone.png,cat"
    (tmp_path / "t.csv").write_text("\n".join(["image,label", *rows]))
    found = prepared(tmp_path, "source: table, path: t.csv")
    assert found.labels == ("cat", "dog")
    assert sum(map(sum, found.counts.values())) == 9
    unlabelled, gone = "it has no label", "there is no such file"
    assert list(found.store.errors().values()) == [unlabelled, unlabelled, gone]
    broken = findings(found)["broken"]
    assert broken.rows == ("t.csv:5", "t.csv:6", "t.csv:7")
    assert broken.message == (
        "3 rows can't be used and are left out: t.csv:5, t.csv:6, t.csv:7 "
        "(t.csv:5: pets/cat/003.png: it has no label)"
    )


def test_identical_images_across_splits_stop_the_run(tmp_path):
    root = tmp_path / "pets"
    folder(root / "train", each=4)
    folder(root / "test", each=4, first=50)
    (root / "test" / "cat" / "copy.png").write_bytes(picture(0))
    with pytest.raises(DataError, match="also stands in the train split") as raised:
        prepared(tmp_path, "source: folder, path: pets")
    assert "leaks" in raised.value.fix
    found = prepared(tmp_path, "source: folder, path: pets, leaks: allow")
    assert findings(found)["leak"].severity == "warning"
    assert findings(found)["leak"].rows == ("test/cat/copy.png",)
    assert len(found.report.near_test_rows) == 1


def test_every_copy_of_a_near_duplicate_counts(tmp_path):
    """Identical images are compared with the others once, and answered for all."""
    root = tmp_path / "pets"
    folder(root / "train", each=4)
    folder(root / "test", each=4, first=50)
    original = Image.open(io.BytesIO(picture(600, 48)))
    for name in ("train/cat/a.png", "test/cat/b.jpg", "test/cat/c.jpg", "test/dog/d.jpg"):
        original.save(root / name, quality=60)
    found = prepared(tmp_path, "source: folder, path: pets")
    near = [found.store.strings("origin")[row] for row in found.report.near_test_rows]
    assert near == ["test/cat/b.jpg", "test/cat/c.jpg", "test/dog/d.jpg"]
    assert findings(found)["near_leak"].message.startswith("1 pair of")


def test_identical_pixels_in_other_bytes_are_a_leak_too(tmp_path):
    root = tmp_path / "pets"
    folder(root / "train", each=4)
    folder(root / "test", each=4, first=50)
    (root / "test" / "cat" / "copy.bmp").write_bytes(picture(1, kind="BMP"))
    with pytest.raises(DataError, match="also stands"):
        prepared(tmp_path, "source: folder, path: pets")


def test_the_audit_names_what_is_odd(tmp_path):
    root = tmp_path / "pets"
    folder(root, classes=("cat", "Cat ", "dog", "emu"), each=12)
    for extra in sorted((root / "emu").iterdir())[1:]:
        extra.unlink()
    (root / "cat" / "again.png").write_bytes((root / "cat" / "000.png").read_bytes())
    (root / "dog" / "cat.png").write_bytes((root / "cat" / "001.png").read_bytes())
    (root / "dog" / "large.png").write_bytes(picture(400, 24))
    (root / "dog" / "broken.png").write_bytes(b"")
    found = findings(prepared(tmp_path, "source: folder, path: pets, leaks: allow"))
    assert found["broken"].rows == ("dog/broken.png",)
    assert "`Cat ` (12)" in found["label_typo"].message
    assert "`emu`" in found["single_sample"].message
    assert "contradiction" in found
    assert "2 sizes" in found["mixed_sizes"].message
    assert {"leak", "duplicate"} & set(found)


def test_a_clean_folder_has_no_findings(tmp_path):
    folder(tmp_path / "pets", each=20)
    assert prepared(tmp_path, "source: folder, path: pets").report.findings == ()


def test_one_class_is_refused(tmp_path):
    folder(tmp_path / "pets", classes=("cat",))
    with pytest.raises(DataError, match="all training samples have one label, `cat`"):
        prepared(tmp_path, "source: folder, path: pets")


def test_nothing_but_broken_files_is_refused(tmp_path):
    for name in ("cat", "dog"):
        (tmp_path / "pets" / name).mkdir(parents=True)
        (tmp_path / "pets" / name / "a.png").write_text("no")
    with pytest.raises(DataError, match="none of the 2 images can be used"):
        prepared(tmp_path, "source: folder, path: pets")


def test_very_many_classes(tmp_path):
    count = 3000
    lines = ["image,label"]
    for number in range(count):
        (tmp_path / f"{number}.png").write_bytes(picture(number, 4))
        lines.append(f"{number}.png,class {number}")
    (tmp_path / "t.csv").write_text("\n".join(lines))
    found = prepared(tmp_path, "source: table, path: t.csv, leaks: allow")
    assert len(found.labels) == count
    assert "3,000" in findings(found)["single_sample"].message


def test_a_limit_keeps_few(tmp_path):
    folder(tmp_path / "pets", each=20)
    found = prepared(tmp_path, "source: folder, path: pets, limit: 5")
    assert {name: len(rows) for name, rows in found.rows.items()} == {
        "train": 5,
        "validation": 3,
        "test": 5,
    }


@pytest.mark.parametrize(
    ("more", "shape"),
    [
        ("transforms: {size: 8}", (8, 8, 3)),
        ("transforms: {size: [8, 10]}", (8, 10, 3)),
        ("transforms: {color_mode: grayscale}", (12, 12, 1)),
    ],
)
def test_the_declared_size_is_decoded(tmp_path, more, shape):
    folder(tmp_path / "pets", each=20)
    found = prepared(tmp_path, "source: folder, path: pets", more)
    assert found.inputs.shape[1:] == shape


def test_grey_images_take_one_channel(tmp_path):
    for name in ("cat", "dog"):
        (tmp_path / "pets" / name).mkdir(parents=True)
        for number in range(10):
            grey = np.random.default_rng(hash(name) % 99 + number).integers(0, 256, (9, 9))
            Image.fromarray(grey.astype(np.uint8)).convert("RGB").save(
                tmp_path / "pets" / name / f"{number}.png"
            )
    found = prepared(tmp_path, "source: folder, path: pets, leaks: allow")
    assert found.input.channels == 1


def test_labelled_data_is_mapped_to_a_models_labels(tmp_path):
    folder(tmp_path / "pets", each=3)
    known = prepared(folder(tmp_path / "x", each=20, first=100).parent, "source: folder, path: x")
    split, mark, *_ = labelled_split(
        tmp_path / "pets", input=known.input, labels=("dog", "cat"), observe=silent
    )
    assert split.targets.tolist() == [1, 1, 1, 0, 0, 0]
    assert mark.startswith("sha256:")


def test_labels_that_a_model_does_not_know_stay_and_are_said(tmp_path):
    folder(tmp_path / "pets", each=3)
    known = prepared(folder(tmp_path / "x", each=20, first=100).parent, "source: folder, path: x")
    said = []
    split, *_ = labelled_split(
        tmp_path / "pets", input=known.input, labels=("cat", "dogs"), observe=said.append
    )
    assert split.unknown == ("dog",)
    assert split.targets.tolist() == [0, 0, 0, 2, 2, 2]
    (note,) = [item.note for item in said if item.note]
    assert "doesn't know 1 of the labels: `dog` (3); such images count as wrong" in note
    assert note.endswith(". Perhaps `dogs` by `dog` is meant")
    with pytest.raises(DataError, match="there is no label that the model knows") as raised:
        labelled_split(tmp_path / "pets", input=known.input, labels=("a", "b"), observe=silent)
    assert raised.value.why == "Known are `a`, `b`"
    assert raised.value.where == str(tmp_path / "pets")


def photograph(number, side=64):
    """Return smooth random pixels, as photographs have them."""
    chance = np.random.default_rng(number)
    waves = chance.normal(size=(6, 6))
    image = Image.fromarray(waves.astype(np.float32)).resize((side, side), Image.Resampling.BICUBIC)
    pixels = np.asarray(image)
    return (255 * (pixels - pixels.min()) / np.ptp(pixels)).astype(np.uint8)


def changed(pixels, how):
    image = Image.fromarray(pixels)
    if how == "recompressed":
        stream = io.BytesIO()
        image.save(stream, "JPEG", quality=30)
        image = Image.open(stream)
    elif how == "brighter":
        image = Image.fromarray(np.clip(pixels.astype(int) + 25, 0, 255).astype(np.uint8))
    elif how == "smaller":
        image = image.resize((40, 40))
    elif how == "shifted":
        image = Image.fromarray(np.roll(pixels, 1, axis=1))
    return image


@pytest.mark.parametrize("how", ["recompressed", "brighter", "smaller", "shifted"])
def test_near_duplicates_are_found_and_others_not(how):
    images = [Image.fromarray(photograph(number)) for number in range(120)]
    images += [changed(photograph(number), how) for number in range(20)]
    small = np.stack([np.asarray(image.convert("L").resize((16, 16), 5)) for image in images])
    found = near_duplicate_pairs(perceptual_hashes(small), small.reshape(len(small), -1))
    true = {(number, 120 + number) for number in range(20)}
    pairs = {tuple(pair) for pair in found.tolist()}
    assert len(pairs & true) >= 18
    assert not pairs - true


@pytest.mark.parametrize("count", [100, 1000])
@pytest.mark.parametrize("kinds", [1, 50])
def test_comparisons_of_near_duplicates_grow_with_the_images(count, kinds):
    """However many hashes are alike, each is compared with a bounded number of others."""
    random = np.random.default_rng(0)
    hashes = random.choice(random.integers(0, 1 << 63, kinds, dtype=np.uint64), count)
    compared = sum(len(first) for first, _ in _proposed(hashes))
    assert compared <= 16 * 64 * count


class Digests:
    """A store of which only the digests are known."""

    def __init__(self, **columns):
        self._columns = columns

    def fixed(self, name):
        return self._columns[name]


@pytest.mark.parametrize("seed", range(5))
def test_identical_samples_are_those_with_a_digest_in_common(seed):
    random = np.random.default_rng(seed)
    kinds = random.integers(0, 256, (40, 16), dtype=np.uint8)
    contents, pixels = random.integers(0, 40, (2, 60))
    store = Digests(content_digest=kinds[pixels], bytes_digest=kinds[contents])
    used = np.sort(random.permutation(60)[:50])
    groups = {int(row): {int(row)} for row in used}
    for a in used:
        for b in used:
            if contents[a] == contents[b] or pixels[a] == pixels[b]:
                joined = groups[int(a)] | groups[int(b)]
                groups |= dict.fromkeys(joined, joined)
    expected = sorted({tuple(sorted(group)) for group in groups.values() if len(group) > 1})
    assert [tuple(group) for group in identical(store, used)] == expected


def test_many_classes_of_a_few_samples_are_told(tmp_path):
    (tmp_path / "t.csv").write_text(
        "text,label\n" + "".join(f"text number {at},kind {at // 2}\n" for at in range(60)), "utf-8"
    )
    more = "task: text-classification"
    found = findings(prepared(tmp_path, "source: table, path: t.csv, text: text", more))
    assert "30 of 30 classes have fewer than 5 texts" in found["few_samples"].message
    (tmp_path / "t.csv").write_text(
        "text,label\n" + "".join(f"text number {at},kind {at // 5}\n" for at in range(150)), "utf-8"
    )
    found = findings(prepared(tmp_path, "source: table, path: t.csv, text: text", more))
    assert "few_samples" not in found


def test_the_same_samples_are_prepared_for_another_model(tmp_path):
    rows = [f"the {word} text number {at},{word}\n" for at in range(30) for word in ("red", "blue")]
    (tmp_path / "t.csv").write_text("text,label\n" + "".join(rows), "utf-8")
    data, task = "source: table, path: t.csv, text: text", "task: text-classification"
    first = prepared(tmp_path, data, f"{task}\nmodel: {{name: bow}}")
    linear = f"{task}\nmodel: {{name: linear}}"
    (tmp_path / "t.csv").unlink()  # Nothing is read again.
    recipe = parse_recipe(f"version: 1\ndata: {{{data}}}\n{linear}\n", where="r.yaml")
    again = prepare_again(first, recipe, observe=silent)
    (tmp_path / "t.csv").write_text("text,label\n" + "".join(rows), "utf-8")
    expected = prepared(tmp_path, data, linear)
    assert again.input.digest() == expected.input.digest()
    assert again.report.findings == expected.report.findings
    for name, split in expected.rows.items():
        np.testing.assert_array_equal(again.rows[name], split)
        np.testing.assert_array_equal(again.split(name).gather(), expected.split(name).gather())
        np.testing.assert_array_equal(again.split(name).targets, expected.split(name).targets)
