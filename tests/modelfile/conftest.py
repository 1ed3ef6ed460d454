"""Files that several tests of the model file read; none changes them."""

from __future__ import annotations

from pathlib import Path

import pytest

from modelwright import modelfile
from modelwright.models.candidate import Candidate
from tests.modelfile.making import CNN, candidate, decoder_candidate


@pytest.fixture(scope="session")
def cnn() -> Candidate:
    return candidate(CNN, size=8, channels=3)


@pytest.fixture(scope="session")
def packed(cnn: Candidate, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("packed") / "cnn.mw"
    modelfile.write_model(path, cnn, recipe="version: 1\n")
    return path


@pytest.fixture(scope="session")
def tied_decoder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("tied") / "model.mw"
    modelfile.write_model(path, decoder_candidate(tied=True))
    return path


@pytest.fixture(scope="session")
def untied_decoder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("untied") / "model.mw"
    modelfile.write_model(path, decoder_candidate(tied=False))
    return path
