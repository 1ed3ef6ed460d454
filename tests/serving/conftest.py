"""Model files that the tests of the server share, and one server of them all."""

from __future__ import annotations

import io
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from modelwright import modelfile
from tests.modelfile.making import CNN, candidate, decoder_candidate, text_candidate
from tests.serving.running import Running, serving


@pytest.fixture(scope="session")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with a model of images, one of texts, and one that writes."""
    folder = tmp_path_factory.mktemp("models")
    made = {
        "images": candidate(CNN, size=8, channels=3),
        "texts": text_candidate(),
        "writer": decoder_candidate(tied=True),
    }
    for name, each in made.items():
        (folder / name).mkdir()
        modelfile.write_model(folder / name / "model.mw", each, recipe="version: 1\n")
    return folder


@pytest.fixture(scope="session")
def server(models: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """Return a server of the three models without keys; no test changes it."""
    files = [models / name / "model.mw" for name in ("images", "texts", "writer")]
    with serving(
        tmp_path_factory.mktemp("server"), *files, "--workers", "1", settings=LIMITS
    ) as running:
        yield running


LIMITS = "max_body_bytes: 300000\nmax_inputs: 8\nread_timeout_s: 1\n"


@pytest.fixture(scope="session")
def png() -> bytes:
    """Return a picture."""
    pixels = np.random.default_rng(0).integers(0, 256, (20, 24, 3), dtype=np.uint8)
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, "PNG")
    return stream.getvalue()
