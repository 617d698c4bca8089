"""An operator's work on the data folder while the service goes on: check, backup, compact, embedding for a move.

Invariants:
- One is under way at a time, in a thread of its own whose niceness is that of the computing threads. The event
  loop never waits for a disk: a folder for backups may be on another machine, which may be away.
- A check reads only, and waits while there are requests. So does the embedding, which writes beside the galleries.
  A backup waits for nothing: an operator wants it most when there is always something to do.
- What came of each is kept until the next one of its kind, or the end of the process. Paths are in no answer.
"""

import contextlib
import logging
import os
import re
import time
from collections.abc import Callable, Mapping
from contextlib import closing
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

from sfsc_bundle.errors import SfscError
from sfsc_bundle.folder import MANIFEST, open_bundle
from sfsc_service.engine.alignment_file import ALIGNMENT_FILES
from sfsc_service.engine.blocking_calls import BlockingCalls
from sfsc_service.engine.embedder import Embedder
from sfsc_service.engine.offline_embedding import OfflineEmbedder
from sfsc_service.errors import Problem, StartError
from sfsc_service.lifecycle.copy_place import CopyPlace
from sfsc_service.lifecycle.reembed import (
    Reembedding,
    check_free_space,
    check_sources,
    needs_nothing,
    opened_width,
)
from sfsc_service.settings import Settings
from sfsc_service.store.collections import DEFAULT
from sfsc_service.store.embedded.backup import copy_folder
from sfsc_service.store.embedded.check import CheckReport, check_open_folder
from sfsc_service.store.embedded.rewriting import GallerySource
from sfsc_service.store.embedded.sqlite.schema import DatabaseError
from sfsc_service.store.embedded.store import EmbeddedStore
from sfsc_service.store.embedded.stores import collection_folder
from sfsc_service.store.errors import StoreClosedError, StoreError
from sfsc_service.store.open_stores import OpenStores

__all__ = ["Maintenance", "MaintenanceStatus", "MaintenanceTask", "check_backup_folder"]

IDLE_S = 0.25
LOOK_EVERY_S = 0.05
STOPPED = "it was stopped"
CLOSE_S = 2.0
"""Seconds that the end of the service waits for work to stop. Then it goes on in its thread until the process
ends: it only reads the galleries, and what it leaves is deleted by the next start or backup, or taken up."""
MAX_FINDINGS = 1_000
"""Findings of one collection that are kept and told; the others are counted."""
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}")
NAME_RULE = "must be 1 to 64 letters, digits, -, _ and ., the first a letter or a digit"

MaintenanceTask = Literal["check", "backup", "compact", "reembed"]

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class MaintenanceStatus:
    """What is under way, and what came of the last one of each kind.

    `done` of `total` items, images or collections, 0 while nobody knows. `results`: each has `finished` and
    `failure`, which is None where it went well.
    """

    running: MaintenanceTask | None
    paused: bool
    done: int
    total: int
    results: Mapping[MaintenanceTask, Mapping[str, Any]]


class _StoppedError(Exception):
    """The operator or the end of the process has stopped the work."""


def check_backup_folder(settings: Settings) -> None:
    """Raises StartError where backups would be taken for a part of the data, such as a collection."""
    data, backups = settings.data.resolve(), settings.backup_folder and settings.backup_folder.resolve()
    if backups is not None and (data == backups or data in backups.parents):
        rule = f"must lie outside of the data folder {settings.data}"
        raise StartError(f"backup_folder: {rule}, found {settings.backup_folder}")


class Maintenance:
    """Works on the stores of one data folder. What begins work is to be called in the event loop."""

    def __init__(self, stores: OpenStores, embedder: Embedder, settings: Settings) -> None:
        self._stores, self._embedder = stores, embedder
        # In messages, an absolute path is nothing else; "data" is part of many words.
        self._data, self._backups = (
            settings.data.absolute(),
            settings.backup_folder and settings.backup_folder.absolute(),
        )
        self._bundles, self._device = settings.bundle.absolute().parent, settings.device
        self._is_shared = settings.store != "embedded"
        self._calls = BlockingCalls("maintenance", 1, 1, settings.nice)
        self._running: MaintenanceTask | None = None
        self._paused = self._stop = self._closing = False
        self._done = self._total = 0
        self._results: dict[MaintenanceTask, Mapping[str, Any]] = {}

    def status(self) -> MaintenanceStatus:
        """Never waits."""
        return MaintenanceStatus(self._running, self._paused, self._done, self._total, dict(self._results))

    def notes(self) -> list[str]:
        """What an operator should know."""
        notes = []
        for task, result in self._results.items():
            if result["failure"] not in (None, STOPPED):
                notes.append(f"the last {task} failed: {result['failure']}")
        check = self._results.get("check", {})
        if check.get("whole") is False:
            notes.append(f"the check of {check['finished']} found damage; GET /maintenance names it")
        return notes

    def check(self) -> None:
        """Begin to check every row, vector and image. Raises Problem: maintenance_running, gallery_shared."""
        self._begin("check", self._check)

    async def backup(self, name: str | None = None) -> str:
        """Begin a copy in the folder for backups; its name, made of the time where none is given.

        Raises:
            Problem: maintenance_running, gallery_shared, no_backup_folder, backup_exists, invalid_parameter,
                shutting_down.
        """
        if self._backups is None:
            raise Problem("no_backup_folder", "backup: SFSC_BACKUP_FOLDER must name a folder; it is not set")
        name = name or datetime.now(UTC).strftime("%Y-%m-%dT%H-%M-%SZ")
        if not NAME.fullmatch(name):
            raise Problem("invalid_parameter", f"name: {NAME_RULE}, found {name[:80]!r}", "name")
        target = self._backups / name
        self._claim("backup")
        try:
            is_there = await self._calls.run(os.path.lexists, target)
            if is_there:
                raise Problem(
                    "backup_exists", f"name: must be none of those that are there, found {name!r}", "name"
                )
            self._calls.run(self._carry_out, "backup", lambda: self._backup(target))
        except BaseException:
            self._running = None
            raise
        return name

    def compact(self) -> None:
        """Begin to write vectors anew. Raises Problem: maintenance_running, gallery_shared."""
        self._begin("compact", self._compact)

    def reembed(self, name: str, width: str | None, to: str | None) -> None:
        """Begin to embed all images, in idle moments, for a move to another bundle (lifecycle/reembed.py).

        Args:
            name: of a bundle in the folder that has the one being served.
            to: a folder in the data folder for the new gallery; None: it is to take the data folder's place.

        Raises Problem: maintenance_running, gallery_shared, invalid_parameter.
        """
        for parameter, given in (("bundle", name), ("to", to)):
            if given is not None and not NAME.fullmatch(given):
                raise Problem("invalid_parameter", f"{parameter}: {NAME_RULE}, found {given[:80]!r}", parameter)
        folder = self._bundles / name
        if not (folder / MANIFEST).is_file():
            rule = "must be the name of a bundle in the folder of the one that is served"
            raise Problem("invalid_parameter", f"bundle: {rule}, found {name!r}", "bundle")
        place = CopyPlace(self._data, None if to is None else self._data / to)
        self._begin("reembed", lambda: self._reembed(folder, width, place))

    def stop(self) -> None:
        """Stop what is under way, soon; a compaction goes on. What was embedded is kept, else nothing is left."""
        self._stop = True

    def begin_close(self) -> None:
        """Stop what is under way, and begin nothing more. A compaction ends with its store."""
        self._closing = True

    def close(self) -> None:
        """Wait for what was under way, for a while."""
        self._closing = True
        self._calls.close(CLOSE_S)

    def _begin(self, task: MaintenanceTask, work: Callable[[], Mapping[str, Any]]) -> None:
        self._claim(task)
        try:
            self._calls.run(self._carry_out, task, work)
        except Problem:
            self._running = None
            raise

    def _claim(self, task: MaintenanceTask) -> None:
        if self._is_shared:
            rule = "a gallery in Milvus has tools of its own"
            raise Problem("gallery_shared", f"{task}: {rule}")
        if self._closing:
            raise Problem("shutting_down", "the service is shutting down and begins no maintenance")
        if self._running is not None:
            rule = f"one may be under way at a time, and a {self._running} is"
            raise Problem("maintenance_running", f"{task}: {rule}")
        self._running, self._stop, self._done, self._total = task, False, 0, 0

    def _carry_out(self, task: MaintenanceTask, work: Callable[[], Mapping[str, Any]]) -> None:
        """In the thread."""
        began, found, failure = time.monotonic(), dict[str, Any](), None
        try:
            found = dict(work())
        except BaseException as error:
            failure = self._failure_of(task, error)
        seconds, finished = time.monotonic() - began, datetime.now(UTC).isoformat(timespec="seconds")
        self._results = {
            **self._results,
            task: {"finished": finished, "seconds": round(seconds, 3), "failure": failure, **found},
        }
        if failure is None:
            log.info("the %s that was asked for took %.1f s", task, seconds)
        self._paused, self._running = False, None

    def _failure_of(self, task: MaintenanceTask, error: BaseException) -> str:
        if isinstance(error, _StoppedError) or self._closing:  # then the parts that it works with end, too
            return STOPPED
        if isinstance(error, StoreError | StartError | SfscError | OSError | DatabaseError):
            log.warning("the %s that was asked for failed: %s", task, error)
            return self._without_paths(error)
        log.error("the %s that was asked for failed", task, exc_info=error)
        return "it ended with an error, which the log names"

    def _check(self) -> Mapping[str, Any]:
        reports = {}
        for name in sorted(self._stores.by_name, key=lambda name: name != DEFAULT):
            try:
                reports[name] = check_open_folder(
                    collection_folder(self._data, name), self._wait_for_idle, self._look
                )
            except (StoreError, OSError, DatabaseError):
                if name in self._stores.by_name:  # else it was removed meanwhile
                    raise
        documents = {name: _document(report) for name, report in reports.items()}
        default = documents.pop(DEFAULT)
        whole = all(report.whole for report in reports.values())
        if not whole:
            log.error("the check that was asked for found damage; GET /maintenance names it")
        return default | {"collections": documents, "whole": whole}

    def _backup(self, target: Path) -> Mapping[str, Any]:
        copied = copy_folder(self._data, target, self._note, ALIGNMENT_FILES, self._look)
        return {"name": target.name, **copied._asdict()}

    def _compact(self) -> Mapping[str, Any]:
        before = after = 0
        stores = dict(self._stores.by_name)
        for number, store in enumerate(stores.values()):
            self._note(number, len(stores))
            assert isinstance(store, EmbeddedStore)
            with contextlib.suppress(StoreClosedError):  # its collection was removed, or the service ends
                found = store.compact()
                before, after = before + found.before, after + found.after
        if self._closing:
            raise _StoppedError
        return {"bytes_before": before, "bytes_after": after}

    def _reembed(self, folder: Path, width: str | None, place: CopyPlace) -> Mapping[str, Any]:
        bundle = open_bundle(folder)
        names = sorted(self._stores.by_name, key=lambda name: name != DEFAULT)
        sources = {name: GallerySource(collection_folder(self._data, name)) for name in names}
        if needs_nothing(sources, bundle.manifest):
            raise StartError("the bundle can serve this gallery as it is")
        check_sources(sources)
        place.check()
        check_free_space(sources, place.unfinished, bundle.manifest.dimension)
        embedder = OfflineEmbedder(
            bundle,
            opened_width(bundle, width),
            self._device,
            1,
            self._embedder.decode_here,
            batch=1,
            pause=lambda: self._wait_for_idle(self._done, self._total),
        )
        with closing(embedder), closing(Reembedding(sources, place.unfinished, embedder)) as work:
            left = work.embed_images(self._note)
            embedded = work.items
        return {
            "bundle": folder.name,
            "space": bundle.manifest.space,
            "width": embedder.width,
            "embedded": embedded,
            "images": sum(len(source.with_image) for source in sources.values()),
            "without_image": sum(len(source.without_image) for source in sources.values()),
            "not_embedded": [item._asdict() for item in left[:MAX_FINDINGS]],
            "further_not_embedded": max(0, len(left) - MAX_FINDINGS),
        }

    def _note(self, done: int, total: int) -> None:
        self._done, self._total = done, total
        self._look()

    def _look(self) -> None:
        if self._stop or self._closing:
            raise _StoppedError

    def _wait_for_idle(self, done: int, total: int) -> None:
        self._note(done, total)
        while self._embedder.idle_s < IDLE_S:
            self._paused = True
            time.sleep(LOOK_EVERY_S)
            self._note(done, total)
        self._paused = False

    def _without_paths(self, error: Exception) -> str:
        text = str(error) or type(error).__name__
        places = [(self._data, "the data folder"), (self._data.resolve(), "the data folder")]
        places += [(self._bundles, "the folder of the bundles")]
        places += [] if self._backups is None else [(self._backups, "the folder for backups")]
        known = {folder: name for folder, name in places if folder.name}  # not the root, which is in every path
        beside = self._data.resolve().parent
        if isinstance(error, OSError) and error.strerror:
            # Of the paths that it names, one may be above these folders.
            named = [Path(path) for path in (error.filename, error.filename2) if path is not None]
            inside = all(beside in path.parents or known.keys() & {path, *path.parents} for path in named)
            text = ": ".join([error.strerror, *map(str, named)]) if inside else error.strerror
        for folder in sorted(known, key=lambda folder: -len(str(folder))):
            text = text.replace(str(folder), known[folder])
        return text.replace(f"{beside}/", "") if beside.name else text


def _document(report: CheckReport) -> dict[str, Any]:
    return {
        "items": report.items,
        "images": report.images,
        "vector_files": report.vector_files,
        "findings": [asdict(finding) for finding in report.findings[:MAX_FINDINGS]],
        "further_findings": max(0, len(report.findings) - MAX_FINDINGS),
        "whole": report.whole,
    }
