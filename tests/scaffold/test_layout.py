"""Labels in folders and in names of files."""

from __future__ import annotations

import re

import pytest

from modelwright.scaffold.layout import class_folders, name_pattern


def test_the_first_level_that_tells_classes_apart():
    plain = class_folders(["cat/1.jpg", "dog/1.jpg"])
    assert plain is not None
    assert (plain.below, plain.classes, plain.has_splits) == ("", ("cat", "dog"), False)
    nested = class_folders(["a/b/cat/Imgs/1.jpg", "a/b/dog/Imgs/2.jpg"])
    assert nested is not None
    assert (nested.below, nested.classes, nested.deeper) == ("a/b", ("cat", "dog"), "cat/Imgs")
    split = class_folders(["x/train/cat/1.jpg", "x/train/dog/1.jpg", "x/test/cat/2.jpg", "x/a.jpg"])
    assert split is not None
    assert (split.below, split.classes, split.loose) == ("x", ("cat", "dog"), ("x/a.jpg",))
    assert split.has_splits
    assert class_folders(["1.jpg", "2.jpg"]) is None
    assert class_folders(["cat/1.jpg", "cat/2.jpg"]) is None


@pytest.mark.parametrize(
    ("names", "labels"),
    [
        (["cat_001.jpg", "cat_002.jpg", "dog_001.jpg", "dog_002.jpg"], ["cat", "dog"]),
        (["cat.0.jpg", "cat.1.jpg", "dog.0.jpg", "dog.1.jpg"], ["cat", "dog"]),
        (["cat (1).jpg", "cat (2).jpg", "dog (1).jpg", "dog (2).jpg"], ["cat", "dog"]),
        (["great_dane_1.jpg", "great_dane_2.jpg", "pug_1.jpg", "pug_2.jpg"], ["great_dane", "pug"]),
        (["0_ann_0.wav", "0_bob_1.wav", "1_ann_0.wav", "1_bob_1.wav"], ["0", "1"]),
        (["a-happy.wav", "b-happy.wav", "a-sad.wav", "b-sad.wav"], ["a", "b"]),
    ],
)
def test_names_that_tell_classes_apart(names, labels):
    found = name_pattern(names)
    assert found is not None
    assert list(found.classes) == labels
    stems = [name.rpartition(".")[0] for name in names]
    matches = [re.search(found.pattern, f"some/folder/{stem}") for stem in stems]
    assert sorted({match[1] for match in matches if match}) == labels


def test_names_that_tell_nothing_apart():
    assert name_pattern([f"IMG_{at}.jpg" for at in range(9)]) is None
    assert name_pattern(["a.jpg", "b.jpg", "c.jpg"]) is None


def test_another_part_could_be_meant():
    found = name_pattern([f"{at % 3}_{'ab'[at // 3 % 2]}_{at}.wav" for at in range(18)])
    assert found is not None
    assert found.others == ("a, b",)
