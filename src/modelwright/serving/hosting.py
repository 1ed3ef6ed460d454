"""The models of a server by name and version: loading, looking for changed files, replacing."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from modelwright.errors import ModelwrightError, RequestError
from modelwright.files import Json
from modelwright.run import model_name
from modelwright.serving.config import ModelSpec
from modelwright.serving.pool import Pool

_SAME = ("task", "takes", "labels")
"""What a file that replaces another must have in common with it: clients rely on it."""


class UnknownModelError(ModelwrightError):
    """There is no model of this name or version."""


@dataclass(eq=False, slots=True)
class Hosting:
    """The models that answer, each with its workers."""

    log: Callable[..., None]
    observe_batch: Callable[[str, int], None]
    pools: dict[str, dict[str, Pool]] = field(default_factory=dict)
    """By name, then by version; the last version answers where none is asked for."""
    _tried: dict[str, tuple[int, int]] = field(default_factory=dict)
    _leaving: set[asyncio.Task[None]] = field(default_factory=set)

    def find(self, name: str, version: str | None = None) -> Pool:
        """Return the workers of a model.

        Raises:
            UnknownModelError: there is none.
        """
        versions = self.pools.get(name)
        if not versions or (version is not None and version not in versions):
            what = f"the model `{name}`" + (f" of version `{version}`" if version else "")
            raise UnknownModelError(f"{what} isn't served here")
        return versions[version] if version is not None else next(reversed(versions.values()))

    def all(self) -> list[Pool]:
        """Return the workers of every model."""
        return [pool for versions in self.pools.values() for pool in versions.values()]

    @property
    def is_ready(self) -> bool:
        """Whether every model has a worker that answers."""
        return bool(self.pools) and all(pool.is_ready for pool in self.all())

    async def load(self, spec: ModelSpec) -> None:
        """Start a model's workers, and put it beside or in place of what has its name.

        Raises:
            ModelwrightError: the file can't be loaded, or answers otherwise than that which it
                would replace.
        """
        spec = spec.model_copy(update={"name": spec.name or model_name(Path(spec.path))})
        pool = Pool(spec, lambda count: self.observe_batch(spec.name, count), self.log)
        await pool.start()
        version = spec.version or str(pool.info["digest"]).removeprefix("sha256:")[:12]
        versions = self.pools.setdefault(spec.name, {})
        replaced = [
            (key, old)
            for key, old in versions.items()
            if key == version or (old.spec.path == spec.path and not spec.version)
        ]
        for _, old in replaced:
            changed = [key for key in _SAME if old.info[key] != pool.info[key]]
            if changed:
                await pool.stop()
                raise RequestError(
                    f"the file has another {changed[0].replace('takes', 'input')} than the model "
                    "that it would replace, which goes on",
                    where=spec.path,
                    fix="Serve it under another name or version",
                )
        # The new one stands where the old one stood: the last answers where none is asked for.
        gone = {key: None for key, _ in replaced}
        first = next(iter(gone), None)
        kept = [(version, pool) if key == first else (key, old) for key, old in versions.items()]
        self.pools[spec.name] = {key: old for key, old in kept if key == version or key not in gone}
        self.pools[spec.name].setdefault(version, pool)
        for _, old in replaced:
            task = asyncio.ensure_future(old.drain())
            self._leaving.add(task)
            task.add_done_callback(self._leaving.discard)
        self.log("model_loaded", model=spec.name, version=version, digest=pool.info["digest"])

    async def reload_changed(self, name: str | None = None) -> list[str]:
        """Load the files anew that have changed, and return the names of their models.

        Without a name, what was refused before is tried again only once it changes again.

        Raises:
            ModelwrightError: one can't be loaded; the model before goes on.
        """
        loaded = []
        for pool in self.all():
            spec, stamp = pool.spec, _stamp(pool.spec.path)
            if name not in (None, spec.name) or stamp in (pool.stamp, _ABSENT):
                continue
            if name is None and self._tried.get(spec.path) == stamp:
                continue
            self._tried[spec.path] = stamp
            await self.load(spec)
            loaded.append(spec.name)
        return loaded

    async def watch(self, every_s: float) -> None:
        """Look at the files again and again, and load those that have changed; 0: never."""
        while every_s:
            await asyncio.sleep(every_s)
            try:
                await self.reload_changed()
            except (ModelwrightError, OSError) as error:
                self.log("reload_refused", why=str(error))

    async def drain(self) -> None:
        """End all workers once they have answered what was accepted."""
        await asyncio.gather(*(pool.drain() for pool in self.all()), *self._leaving)

    def card(self, name: str, pool: Pool) -> dict[str, Json]:
        """Return what clients are told of a model."""
        shown = ("task", "takes", "labels", "digest", "size_bytes", "goal", "evidence")
        versions = list(self.pools[name])
        return {"name": name, "versions": versions, **{key: pool.info[key] for key in shown}}


_ABSENT = (0, 0)


def _stamp(path: str) -> tuple[int, int]:
    try:
        found = os.stat(path)  # noqa: PTH116 (as often as every second)
    except OSError:  # It is being replaced.
        return _ABSENT
    return found.st_mtime_ns, found.st_ino
