from __future__ import annotations

import contextlib
import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from modelwright.data.coco import CocoImage, parse_coco
from modelwright.errors import DataError
from modelwright.tasks.boxes import BoxedImage, LabelledBox

IMAGES = [
    {"id": 7, "file_name": "a/one.jpg", "width": 40, "height": 30},
    {"id": 3, "file_name": "two.jpg", "width": 20, "height": 10},
]
CATEGORIES = [{"id": 18, "name": "dog"}, {"id": 1, "name": "cat"}]
BOX = {"id": 1, "image_id": 7, "category_id": 1, "bbox": [1.5, 2, 10, 20], "iscrowd": 0}


def coco(*annotations, **others):
    document = {"images": IMAGES, "annotations": list(annotations), "categories": CATEGORIES}
    return json.dumps({"info": {"year": 2017}, **document, **others}).encode()


def test_images_boxes_and_labels_are_read_in_order():
    crowd = {**BOX, "id": 2, "iscrowd": 1, "segmentation": {"counts": [1]}}
    more = {"image_id": 7, "category_id": 18, "bbox": [0, 0, 40, 30]}
    found = parse_coco(coco(BOX, crowd, more))
    assert found.labels == ("dog", "cat")
    assert found.crowds == 1
    boxes = (LabelledBox("cat", 1.5, 2.0, 11.5, 22.0), LabelledBox("dog", 0.0, 0.0, 40.0, 30.0))
    assert found.images == (
        CocoImage("a/one.jpg", BoxedImage(40, 30, boxes)),
        CocoImage("two.jpg", BoxedImage(20, 10, ())),
    )


def test_categories_of_one_name_are_one_label():
    twice = [*CATEGORIES, {"id": 2, "name": "cat"}]
    found = parse_coco(coco(BOX, {**BOX, "category_id": 2}, categories=twice))
    assert found.labels == ("dog", "cat")
    assert [box.label for box in found.images[0].boxed.boxes] == ["cat", "cat"]


@pytest.mark.parametrize(
    ("document", "message"),
    [
        (b"", "isn't JSON"),
        (b"{", "isn't JSON"),
        (b"\xff\xfe", "isn't JSON"),
        (b"[" * 100_000, "nested too deep"),
        (b'{"images": NaN}', "NaN isn't a number"),
        (b'{"images": ' + b"9" * 10_000 + b"}", "isn't JSON"),
        (b"[]", "isn't an object"),
        (b"{}", "its `images` isn't a list"),
        (coco(images=[3]), "its `images` isn't a list of objects"),
        (coco(annotations=None), "its `annotations` isn't a list"),
        (coco(BOX, {**BOX, "image_id": 99}), "`image_id` that stands for nothing: 99"),
        (
            coco(*({**BOX, "image_id": n} for n in range(80, 90))),
            "nothing: 80, 81, 82, 83, 84 and 5 more",
        ),
        (coco({**BOX, "category_id": 2}), "`category_id` that stands for nothing: 2"),
        (coco({"id": 1, "category_id": 1}), "annotation number 1 has no `image_id`"),
        (coco({**BOX, "image_id": "7"}), "`image_id` of annotation number 1 is '7'"),
        (coco({**BOX, "image_id": True}), "`image_id` of annotation number 1 is True"),
        (coco({**BOX, "bbox": [1, 2, 3]}), "`bbox` of annotation 1 is [1, 2, 3]"),
        (coco({**BOX, "bbox": [1, 2, 3, "4"]}), "`bbox` of annotation 1"),
        (coco({**BOX, "bbox": [1, 2, 3, True]}), "`bbox` of annotation 1"),
        (coco({**BOX, "bbox": [1, 2, 3, 1e300]}), "`bbox` of annotation 1"),
        (coco({**BOX, "bbox": [1, 2, 3, 10**400]}), "`bbox` of annotation 1"),
        (coco({**BOX, "bbox": {}}), "`bbox` of annotation 1"),
        (coco({k: v for k, v in BOX.items() if k != "bbox"}), "annotation 1 has no `bbox`"),
        (coco(images=[*IMAGES, IMAGES[0]]), "the id 7 is given twice in `images`"),
        (coco(categories=[*CATEGORIES, CATEGORIES[0]]), "the id 18 is given twice"),
        (coco(categories=[{"id": 1}]), "category 1 has no `name`"),
        (coco(images=[{**IMAGES[0], "width": 0}]), "image 7 has 0 × 30 pixels"),
        (coco(images=[{**IMAGES[0], "height": 1 << 30}]), "pixels"),
        (coco(images=[{**IMAGES[0], "height": 1.5}]), "`height` of image 7 is 1.5"),
        (coco(images=[{"id": 7, "width": 1, "height": 1}]), "image 7 has no `file_name`"),
    ],
)
def test_what_is_wrong_is_named(document, message):
    with pytest.raises(DataError) as caught:
        parse_coco(document, where="a.json")
    assert message in str(caught.value)
    assert str(caught.value).startswith("a.json: this isn't a COCO annotation file")


@pytest.mark.parametrize(
    "name", ["", "/etc/passwd", "../a.jpg", "a/../../b.jpg", "..\\a.jpg", "C:\\a.jpg", "a\0.jpg"]
)
def test_attack_by_files_outside_the_folder(name):
    with pytest.raises(DataError, match="isn't a file in the folder"):
        parse_coco(coco(images=[{**IMAGES[0], "file_name": name}]))


values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(
            st.sampled_from(
                ["id", "image_id", "category_id", "bbox", "name", "file_name", "width"]
            ),
            inner,
            max_size=5,
        )
    ),
    max_leaves=12,
)


@given(values, values, values)
def test_broken_documents_never_end_in_a_traceback(images, annotations, categories):
    document = {"images": images, "annotations": annotations, "categories": categories}
    with contextlib.suppress(DataError):
        parse_coco(json.dumps(document).encode())


def test_the_reference_reads_the_same_boxes(tmp_path):
    reference = pytest.importorskip("pycocotools.coco")
    random = np.random.default_rng(0)
    items = [
        {
            **BOX,
            "id": n,
            "image_id": int(random.choice([3, 7])),
            "bbox": random.uniform(0, 9, 4).tolist(),
        }
        for n in range(20)
    ]
    path = tmp_path / "a.json"
    path.write_bytes(coco(*items))
    theirs = reference.COCO(str(path))
    for image, key in zip(parse_coco(path.read_bytes()).images, (7, 3), strict=True):
        expected = [item["bbox"] for item in theirs.imgToAnns[key]]
        found = [[b.x1, b.y1, b.x2 - b.x1, b.y2 - b.y1] for b in image.boxed.boxes]
        np.testing.assert_allclose(found, expected)
