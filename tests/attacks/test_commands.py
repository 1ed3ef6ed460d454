"""Commands on names, pipes, links, settings and limits that break them: each ends in a sentence."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from modelwright.cli import main
from modelwright.data.folder import list_folder
from modelwright.data.table_reader import open_table
from modelwright.data.table_stream import stream_table
from modelwright.errors import DataError
from modelwright.recipe.data import FolderData
from modelwright.transforms.audio import AudioInput, read_audio
from tests.attacks.models import changed
from tests.attacks.running import Outcome, run_command

LONG = "a" * 300
CHINESE = "这家餐厅的汤非常好喝服务员也很友好" * 6 + "/" + "下次还会再来"
RECIPE = "version: 1\ntask: image-classification\ndata: {source: digits}\n"


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    for kind in ("classifier", "texts"):
        changed(kind).write(tmp_path / f"{kind}.mw")
    (tmp_path / "recipe.yaml").write_text(RECIPE)
    os.mkfifo(tmp_path / "pipe.png")
    (tmp_path / "loop").symlink_to("loop")
    return tmp_path


def told(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str]:
    code = main(list(arguments))
    return code, capsys.readouterr().err


REFUSED = {
    "a long model": ("inspect", LONG),
    "a long model to verify": ("verify", LONG),
    "a long model to predict from": ("predict", LONG, "x"),
    "a long recipe": ("config", LONG),
    "long data": ("new", LONG),
    "a link to itself": ("inspect", "loop"),
    "data that is a link to itself": ("new", "loop"),
    "a thousand levels": ("config", "recipe.yaml", "--set", ".".join(["train"] * 1000) + "=1"),
    "many levels": ("config", "recipe.yaml", "--set", ".".join(["a"] * 50_000) + "=1"),
    "an image that is a pipe": ("predict", "classifier.mw", "pipe.png"),
    "an image without an end": ("predict", "classifier.mw", "/dev/zero"),
    "a text that is a pipe": ("predict", "texts.mw", "./pipe.png"),
    "data that is a pipe": ("new", "pipe.png"),
    "a model that is a pipe": ("verify", "pipe.png"),
    "a name that isn't UTF-8": ("run", "recipe.yaml", "--name", "\udc80"),
    "a folder that isn't UTF-8": ("run", "recipe.yaml", "--out", "o\udc80"),
    "a folder that is a link to itself": ("run", "recipe.yaml", "--out", "loop"),
    "a folder below a device": ("run", "recipe.yaml", "--out", "/dev/null"),
    "a folder of a long name": ("run", "recipe.yaml", "--out", LONG),
    "a run of a long name": ("run", "recipe.yaml", "--name", LONG),
}


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="pipes with names are POSIX")
@pytest.mark.parametrize("case", REFUSED)
def test_it_is_refused_with_a_sentence(case: str, here: Path, capsys) -> None:
    code = main(list(REFUSED[case]))
    captured = capsys.readouterr()
    said = captured.err + captured.out
    assert code in (1, 2)
    assert said.strip().endswith((".", "?"))
    assert "our fault" not in said


def test_a_text_without_blanks_is_no_long_path(here: Path, capsys) -> None:
    assert main(["predict", "texts.mw", CHINESE]) == 0


def test_a_recording_that_is_a_pipe(here: Path) -> None:
    with pytest.raises(DataError, match="no plain file"):
        read_audio(Path("pipe.png"), AudioInput(8000, 1.0))


@pytest.mark.parametrize(
    ("number", "says"),
    [
        (24, "Allow more open files"),
        (2, "run the same command again"),
        (5, "The disk may be failing"),
        (36, "File name too long"),
        (28, "the disk is full"),
    ],
)
def test_errors_of_the_system_are_no_fault_of_ours(number: int, says: str, capsys) -> None:
    def fails(args: object) -> None:
        raise OSError(number, os.strerror(number), "somewhere")

    assert main(["inspect", "x"], carry_out={"inspect": fails}) == 1  # type: ignore[dict-item]
    said = capsys.readouterr().err
    assert says in said
    assert "somewhere" in said
    assert "our fault" not in said


def test_a_link_to_itself_is_one_broken_sample(tmp_path: Path) -> None:
    for name in ("cat", "dog"):
        (tmp_path / name).mkdir()
        for number in range(2):
            pixels = np.full((4, 4), number, np.uint8)
            Image.fromarray(pixels).save(tmp_path / name / f"{number}.png")
    (tmp_path / "cat" / "self.png").symlink_to("self.png")
    (tmp_path / "cat" / "up").symlink_to("..")
    (tmp_path / "self").symlink_to("self")
    listing = list_folder(
        FolderData(source="folder", path=str(tmp_path)), base=tmp_path, group=None
    )
    assert [file for file in listing.origins if "self" in file] == ["cat/self.png"]
    assert len(listing.origins) == 5
    with pytest.raises(OSError, match="symbolic links"):
        listing.read(list(listing.origins).index("cat/self.png"))


def limited(name: str, value: int) -> Callable[[], None]:
    import resource

    return lambda: resource.setrlimit(getattr(resource, name), (value, value))


def test_a_command_ends_within_limits(here: Path) -> None:
    ended = run_command(["inspect", "texts.mw", "--json"], folder=here)
    assert ended.outcome == Outcome.ANSWERED, ended
    ended = run_command(["verify", "texts.mw"], folder=here, before=limited("RLIMIT_NOFILE", 10))
    assert ended.outcome in (Outcome.ANSWERED, Outcome.REFUSED), ended


TIMES = {
    "before the calendar": pa.array([-(2**60), 0] * 3, pa.timestamp("ms")),
    "microseconds": pa.array([-(2**62), 0] * 3, pa.timestamp("us", tz="Europe/Berlin")),
    "nowhere": pa.array([10**18, 0] * 3, pa.timestamp("us", tz="No/Where")),
    "days": pa.array([-(2**31), 2**31 - 1] * 3, pa.date32()),
    "a list of times": pa.array([[-(2**60)], []] * 3, pa.list_(pa.timestamp("ms"))),
}


@pytest.mark.parametrize("name", TIMES)
def test_extreme_times_in_parquet(name: str, tmp_path: Path) -> None:
    """As a label they are refused; of a table that is answered, they are text or refused."""
    path = tmp_path / "t.parquet"
    pq.write_table(pa.table({"text": ["soup"] * 6, "label": TIMES[name]}), path)
    with pytest.raises(DataError, match="holds values that can't be read"):
        open_table(path).columns["label"]()
    for chunk in stream_table(path).chunks(4):
        try:
            assert len(chunk.records([0, 1])) == 2
        except DataError as error:
            assert "holds values that can't be read" in str(error)  # noqa: PT017 (either is right)
