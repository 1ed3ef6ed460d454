from __future__ import annotations

import errno
import os
import threading

import numpy as np
import pytest

from modelwright.data import checksums
from modelwright.data import store as store_module
from modelwright.data.inputs import INPUTS
from modelwright.data.sources import list_source
from modelwright.data.store import open_store
from modelwright.data.views import derived_view
from modelwright.errors import DataError, ResourceError
from modelwright.files import cache_folder
from modelwright.run import silent
from modelwright.transforms import ImageInput, decode_image
from tests.data.making import folder, picture, recipe

INPUT = ImageInput(height=6, width=6, channels=3)


def opened(base, observe=silent):
    listing = list_source(recipe("source: folder, path: pets").data, base=base, observe=silent)
    return open_store(listing, INPUTS[listing.kind].facts, observe=observe)


def test_the_store_holds_the_original_bytes_and_what_was_seen(tmp_path):
    folder(tmp_path / "pets", each=3)
    found = opened(tmp_path)
    assert found.strings("label") == ["cat"] * 3 + ["dog"] * 3
    assert [found.original(row) for row in range(6)] == [picture(number) for number in range(6)]
    assert found.numbers("width").tolist() == [12] * 6
    assert found.errors() == {}
    assert len({row.tobytes() for row in found.fixed("content_digest")}) == 6


def test_opening_again_reads_nothing_anew(tmp_path):
    folder(tmp_path / "pets", each=3)
    first = opened(tmp_path)
    seen = []
    again = opened(tmp_path, observe=seen.append)
    assert again.digest == first.digest
    assert not seen


def test_a_changed_file_makes_another_store(tmp_path):
    folder(tmp_path / "pets", each=3)
    first = opened(tmp_path)
    (tmp_path / "pets" / "cat" / "000.png").write_bytes(picture(77))
    assert opened(tmp_path).digest != first.digest


def test_broken_files_are_kept_with_the_reason(tmp_path):
    folder(tmp_path / "pets", each=2)
    (tmp_path / "pets" / "cat" / "empty.png").write_bytes(b"")
    (tmp_path / "pets" / "cat" / "text.png").write_text("no image")
    (tmp_path / "pets" / "dog" / "cut.jpg").write_bytes(picture(5, 400, "JPEG")[:900])
    found = opened(tmp_path)
    reasons = {found.strings("origin")[row]: why for row, why in found.errors().items()}
    assert set(reasons) == {"cat/empty.png", "cat/text.png", "dog/cut.jpg"}
    assert "empty" in reasons["cat/empty.png"]
    assert "isn't an image" in reasons["cat/text.png"]


def test_a_build_that_was_broken_off_goes_on(tmp_path, monkeypatch):
    monkeypatch.setattr(store_module, "PART", 4)
    folder(tmp_path / "pets", each=10)

    def stop(progress):
        if progress.stage == "store" and progress.done > 8:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        opened(tmp_path, observe=stop)
    done = []
    found = opened(tmp_path, observe=lambda p: done.append(p.done))
    assert min(done) > 8
    assert len(found) == 20
    monkeypatch.setenv("MODELWRIGHT_CACHE", str(tmp_path / "other"))
    assert opened(tmp_path).digest == found.digest


def test_many_small_batches_are_the_same_store(tmp_path, monkeypatch):
    folder(tmp_path / "pets", each=40)
    whole = opened(tmp_path)
    monkeypatch.setenv("MODELWRIGHT_CACHE", str(tmp_path / "other"))
    monkeypatch.setattr(store_module, "_CHUNK", 3)
    monkeypatch.setattr(store_module, "_BATCH_BYTES", 1000)
    found = opened(tmp_path)
    assert found.table["bytes"].num_chunks > whole.table["bytes"].num_chunks == 1
    assert found.table.to_pylist() == whole.table.to_pylist()
    assert np.array_equal(found.fixed("thumbnail"), whole.fixed("thumbnail"))


def test_what_is_no_plain_file_is_a_broken_image(tmp_path):
    """A pipe or a device could be read for ever."""
    folder(tmp_path / "pets", each=2)
    os.mkfifo(tmp_path / "pipe.png")
    (tmp_path / "t.csv").write_text(
        "image,label\npets/cat/000.png,cat\npipe.png,cat\n/dev/zero,dog\npets/dog/001.png,dog\n"
    )
    spec = recipe("source: table, path: t.csv").data
    listing = list_source(spec, base=tmp_path, observe=silent)
    found = open_store(listing, INPUTS[listing.kind].facts, observe=silent)
    assert found.errors() == dict.fromkeys((1, 2), "this isn't a plain file")


def test_two_at_once_build_it_once(tmp_path):
    folder(tmp_path / "pets", each=10)
    built, found = [], []

    def work():
        found.append(opened(tmp_path, observe=lambda p: built.append(p.done)))

    threads = [threading.Thread(target=work) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found[0].digest == found[1].digest
    assert built.count(20) == 1


def test_a_full_disk_leaves_nothing_half_written(tmp_path, monkeypatch):
    folder(tmp_path / "pets", each=4)

    class Full:
        def __init__(self, *_):
            raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(store_module.pa.ipc, "new_file", Full)
    with pytest.raises(ResourceError, match="disk is full"):
        opened(tmp_path)
    monkeypatch.undo()
    monkeypatch.setenv("MODELWRIGHT_CACHE", str(tmp_path / "cache"))
    left = [p for p in (tmp_path / "cache").rglob("*") if p.is_file() and p.suffix != ".lock"]
    assert left == []
    assert len(opened(tmp_path)) == 8


def flip(path, at):
    """Turn one bit of a file, whose time stays."""
    facts = path.stat()
    data = bytearray(path.read_bytes())
    data[at] ^= 1
    path.write_bytes(data)
    os.utime(path, ns=(facts.st_atime_ns, facts.st_mtime_ns))
    checksums._checked.clear()


def test_a_damaged_part_is_named_and_built_anew(tmp_path):
    folder(tmp_path / "pets", each=4)
    found = opened(tmp_path)
    part = next(found.folder.glob("part-*.arrow"))
    flip(part, 2000)
    with pytest.raises(DataError, match=r"damaged.*part-00000.arrow.*Remove the file"):
        opened(tmp_path)
    part.unlink()
    assert opened(tmp_path).digest == found.digest


@pytest.mark.parametrize("record", [b"", b"{", b"[]", b"{}", b'{"digest": "x"}'])
def test_a_torn_record_is_written_anew(tmp_path, record):
    folder(tmp_path / "pets", each=4)
    found = opened(tmp_path)
    (found.folder / "store.json").write_bytes(record)
    assert opened(tmp_path).digest == found.digest


def test_a_turned_bit_of_a_view_is_noticed(tmp_path):
    folder(tmp_path / "pets", each=3)
    found = opened(tmp_path)
    pixels = derived_view(found, INPUT, observe=silent).copy()
    (view,) = (cache_folder() / "views").glob("*.npy")
    flip(view, -5)
    with pytest.raises(DataError, match=r"damaged.*Remove the file"):
        derived_view(found, INPUT, observe=silent)
    view.unlink()
    assert np.array_equal(derived_view(found, INPUT, observe=silent), pixels)


def test_a_view_is_every_image_decoded(tmp_path):
    folder(tmp_path / "pets", each=3)
    (tmp_path / "pets" / "cat" / "broken.png").write_bytes(b"x")
    found = opened(tmp_path)
    pixels = derived_view(found, INPUT, observe=silent)
    for row in range(len(found)):
        if row in found.errors():
            assert not pixels[row].any()
        else:
            assert np.array_equal(pixels[row], decode_image(found.original(row), INPUT))
    seen = []
    again = derived_view(found, INPUT, observe=seen.append)
    assert np.array_equal(again, pixels)
    assert not seen
