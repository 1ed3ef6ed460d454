from __future__ import annotations

import contextlib
import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from modelwright.data.voc import DEEPEST, MOST_BYTES, parse_voc
from modelwright.errors import DataError
from modelwright.tasks.boxes import BoxedImage, LabelledBox, check_boxes

DATA = os.environ.get("MODELWRIGHT_DATA")


def voc(*objects, width="200", height="100", size=True):
    sides = f"<size><width>{width}</width><height>{height}</height><depth>3</depth></size>"
    return f"<annotation>{sides if size else ''}{''.join(objects)}</annotation>"


def item(name="cat", xmin="1", ymin="2", xmax="200", ymax="100"):
    box = f"<xmin>{xmin}</xmin><ymin>{ymin}</ymin><xmax>{xmax}</xmax><ymax>{ymax}</ymax>"
    return f"<object><name>{name}</name><difficult>0</difficult><bndbox>{box}</bndbox></object>"


def test_size_and_boxes_are_read():
    found = parse_voc(voc(item(), item("big dog", "3", "4", "3", "4")))
    assert found == BoxedImage(
        200,
        100,
        (LabelledBox("cat", 0.0, 1.0, 200.0, 100.0), LabelledBox("big dog", 2.0, 3.0, 3.0, 4.0)),
    )


def test_a_box_over_the_whole_image_counts_pixels_from_one():
    found = check_boxes(parse_voc(voc(item(ymin="1"))), where="a.xml")
    assert found.messages == ()
    (box,) = found.image.boxes
    assert (box.x1, box.y1, box.x2, box.y2) == (0.0, 0.0, 200.0, 100.0)


def test_a_tool_that_counts_from_zero_hangs_over_by_a_pixel():
    found = check_boxes(parse_voc(voc(item(xmin="0"))), where="a.xml")
    assert (found.clipped, found.dropped, found.image.boxes[0].x1) == (1, 0, 0.0)


def test_an_image_may_have_no_boxes():
    assert parse_voc(voc()).boxes == ()


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "iso-8859-1"])
def test_bytes_are_read_as_they_say(encoding):
    head = f'<?xml version="1.0" encoding="{encoding.removesuffix("-sig")}"?>\n'
    found = parse_voc((head + voc(item("Tür"))).encode(encoding))
    assert found.boxes[0].label == "Tür"


def test_text_is_read_whatever_encoding_it_states():
    assert parse_voc('<?xml version="1.0" encoding="utf-16"?>' + voc(item("Tür &amp; Tor"))) == (
        parse_voc(voc(item("Tür &amp; Tor")))
    )


def test_parts_of_objects_are_no_objects():
    part = "<part><name>head</name><bndbox><xmin>1</xmin></bndbox></part>"
    whole = item("person").replace("</object>", part + "</object>")
    assert [box.label for box in parse_voc(voc(whole)).boxes] == ["person"]


@given(*[st.floats(-1e6, 1e6, allow_nan=False)] * 4)
def test_places_come_back(x1, y1, x2, y2):
    found = parse_voc(voc(item("a", *(repr(value) for value in (x1, y1, x2, y2))))).boxes[0]
    assert (found.x1, found.y1, found.x2, found.y2) == (x1 - 1, y1 - 1, x2, y2)


@pytest.mark.parametrize(
    ("document", "message"),
    [
        (voc(item(xmin="")), "`xmin` of `bndbox` of object 1 is empty"),
        (voc(item(), item(ymax="ten")), "`ymax` of `bndbox` of object 2 is `ten`"),
        (voc(item(xmin="nan")), "`xmin` of `bndbox` of object 1 is `nan`"),
        (voc(item(xmin="inf")), "is `inf`"),
        (voc(item(xmin="1_0")), "is `1_0`"),
        (voc(item(xmin="1e99")), "is `1e99`"),
        (voc(item(xmin="٣")), "is `٣`"),
        (voc(item(name=" ")), "`name` of object 1 is empty"),
        (voc(item().replace("name", "nom")), "object 1 has no `name`"),
        (voc(item().replace("bndbox", "polygon")), "object 1 has no `bndbox`"),
        (voc(item().replace("xmax", "right")), "`bndbox` of object 1 has no `xmax`"),
        (voc(size=False), "the annotation has no `size`"),
        (voc(width="0"), "`width` of `size` is 0"),
        (voc(height="10.5"), "`height` of `size` is 10.5"),
        (voc(height="-3"), "`height` of `size` is -3"),
        (voc(height="99999999999"), "`height` of `size` is `99999999999`"),
        ("<html/>", "outermost element is `html`"),
        ("<annotation>", "isn't XML"),
        ("", "isn't XML"),
        ("nothing", "isn't XML"),
        (b"\xff\xfe\x00", "isn't XML"),
        (b"<?xml version='1.0' encoding='klingon'?><annotation/>", "isn't XML"),
        (voc(item(name="&cat;")), "isn't XML"),
        (voc(item(name="\0")), "isn't XML"),
        ("<a>" * (DEEPEST + 1), "nested too deep"),
        (b" " * (MOST_BYTES + 1), "longer than 4 MiB"),
    ],
)
def test_what_is_wrong_is_named(document, message):
    with pytest.raises(DataError) as caught:
        parse_voc(document)
    assert message in str(caught.value)
    assert str(caught.value).startswith("this isn't a VOC annotation")


LAUGHS = "".join(f'<!ENTITY l{n} "{f"&l{n - 1};" * 10}">' for n in range(1, 10))


@pytest.mark.parametrize(
    "head",
    [
        f'<!DOCTYPE annotation [<!ENTITY l0 "ha">{LAUGHS}]>',
        '<!DOCTYPE annotation [<!ENTITY l9 SYSTEM "file:///etc/passwd">]>',
        '<!DOCTYPE annotation SYSTEM "http://localhost/a.dtd">',
        "<!DOCTYPE annotation>",
    ],
)
def test_attack_by_entities(head):
    """No document type is taken, so that nothing can be expanded or fetched."""
    with pytest.raises(DataError, match="document type"):
        parse_voc(head + voc(item(name="&l9;")))


@given(st.one_of(st.text(), st.binary(), st.text().map(lambda text: voc(item(text)))))
def test_broken_documents_never_end_in_a_traceback(document):
    with contextlib.suppress(DataError):
        parse_voc(document)


@pytest.mark.skipif(DATA is None, reason="MODELWRIGHT_DATA names no folder of real data")
def test_real_annotations():
    parquet = pytest.importorskip("pyarrow.parquet")
    table = parquet.read_table(Path(DATA) / "neu_det" / "neu_det.parquet", columns=["voc_xml"])
    images = [parse_voc(text) for text in table["voc_xml"].to_pylist()]
    checked = [check_boxes(image, where="") for image in images]
    assert len(images) == 1800
    assert sum(len(image.boxes) for image in images) == 4189
    assert {(image.width, image.height) for image in images} == {(200, 200)}
    assert sum(item.clipped + item.dropped for item in checked) == 0
