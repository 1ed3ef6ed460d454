"""A hub on this machine, and no other network."""

from __future__ import annotations

import pytest

from tests.initialization.hub_server import serving


@pytest.fixture
def fake_hub(tmp_path, monkeypatch):
    """Return a hub that the environment names, with a cache of one's own."""
    library = pytest.importorskip("huggingface_hub")
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "HF_TOKEN", "HF_HUB_OFFLINE"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)
    monkeypatch.setenv("MODELWRIGHT_CACHE", str(tmp_path / "cache"))
    library.close_session()  # It reads the proxies when it is opened.
    with serving() as hub:
        monkeypatch.setenv("HF_ENDPOINT", hub.url)
        yield hub
    library.close_session()
