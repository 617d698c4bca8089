"""Run tests in forks of a process that has imported everything, with the source of one module replaced.

A test process of its own costs 2 to 5 s before the first test (torch, faiss, pytest's plugins); a fork costs
milliseconds. Tests that start processes of their own run unmutated code there.
"""

import contextlib
import gc
import importlib
import importlib.util
import os
import resource
import select
import signal
import sys
import tempfile
import time
import warnings
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec, SourceFileLoader
from pathlib import Path
from types import CodeType, ModuleType

import grimp
import pytest
from hypothesis import Phase, settings

__all__ = ["Outcome", "Replacement", "preload", "run_forked", "stale_modules"]

MEMORY_BYTES = 6 * 2**30
"""Address space that a fork may add, so that a mutant with a huge allocation fails instead of swapping."""

EXAMPLES = 30
"""Of a property, where its test does not say how many."""

_PYTEST = ("-x", "-q", "--no-header", "--assert=plain", "-p", "no:cacheprovider", "-o", "timeout=0")
_DESELECT = ("-m", "not slow and not containers and not browser and not data")


@dataclass(frozen=True, slots=True)
class Replacement:
    """Other source for one module; `stale`: the loaded modules that have to be imported again with it."""

    module: str
    source: str
    stale: Collection[str]


@dataclass(frozen=True, slots=True)
class Outcome:
    """`code`: pytest's exit status, −signal where one ended it, None after a timeout. `last`: its last line."""

    code: int | None
    seconds: float
    last: str


def preload(tests: Sequence[str], packages: Sequence[str]) -> Outcome:
    """Run the tests once in a fork, then import what they imported, so that later forks have it.

    Args:
        packages: the project's own packages, imported too; modules of tests are not.
    """
    with tempfile.TemporaryDirectory() as folder:
        listing = Path(folder) / "modules"
        outcome = run_forked(tests, 900.0, listing=listing)
        names = listing.read_text().split() if listing.is_file() else []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for name in names:
            if name.partition(".")[0] not in ("tests", "__main__", "conftest") and name not in sys.modules:
                _import_if_possible(name)
    for package in packages:
        _import_if_possible(package)
    gc.freeze()
    return outcome


def stale_modules(module: str, packages: Sequence[str]) -> frozenset[str]:
    """The module and all of the packages that import it, directly or not."""
    graph = grimp.build_graph(packages[0], *packages[1:], cache_dir=None)
    return frozenset(graph.find_downstream_modules(module)) | {module}


def run_forked(
    tests: Sequence[str],
    timeout_s: float,
    replaced: Replacement | None = None,
    listing: Path | None = None,
) -> Outcome:
    """Run pytest on some paths in a fork of this process.

    Args:
        listing: a file that gets the names of all modules that were imported in the end.
    """
    with tempfile.TemporaryFile() as output:
        start = time.monotonic()
        pid = os.fork()
        if pid == 0:
            _run_in_child(tests, replaced, listing, output.fileno())
        code = _wait(pid, timeout_s)
        seconds = time.monotonic() - start
        output.seek(0)
        lines = output.read().decode(errors="replace").strip().splitlines()
    telling = [line for line in lines if line.startswith(("FAILED", "ERROR"))] or lines[-1:]
    return Outcome(code, seconds, telling[-1][:300] if telling else "")


def _run_in_child(tests: Sequence[str], replaced: Replacement | None, listing: Path | None, output: int) -> None:
    """Never returns: a fork that went on would be a second runner."""
    code = 70
    try:
        os.setpgid(0, 0)
        os.dup2(output, 1)
        os.dup2(output, 2)
        used = int(Path("/proc/self/statm").read_text().split()[0]) * os.sysconf("SC_PAGE_SIZE")
        resource.setrlimit(resource.RLIMIT_AS, (used + MEMORY_BYTES, used + MEMORY_BYTES))
        # Reproducible, quick, and without the search for a smaller example, which only a reader needs.
        settings.register_profile(
            "mutation",
            derandomize=True,
            database=None,
            deadline=None,
            max_examples=EXAMPLES,
            phases=(Phase.explicit, Phase.generate),
        )
        settings.load_profile("mutation")
        if replaced is not None:
            _install(replaced)
        code = int(pytest.main([*_PYTEST, *_DESELECT, *tests]))
        if listing is not None:
            listing.write_text("\n".join(sys.modules))
        sys.stdout.flush()
        sys.stderr.flush()
    finally:
        os._exit(code)


def _wait(pid: int, timeout_s: float) -> int | None:
    """Wait for a fork; after the timeout, end it and every process that it started."""
    handle = os.pidfd_open(pid)
    try:
        poll = select.poll()
        poll.register(handle, select.POLLIN)
        ended = bool(poll.poll(1000 * timeout_s))
        with contextlib.suppress(ProcessLookupError):  # it may have left no process behind
            os.killpg(pid, signal.SIGKILL)
        _, status = os.waitpid(pid, 0)
        return os.waitstatus_to_exitcode(status) if ended else None
    finally:
        os.close(handle)


class _Finder(MetaPathFinder):
    def __init__(self, replaced: Replacement, path: str) -> None:
        self._module, self._loader = replaced.module, _Loader(replaced.module, path)
        self._loader.text = replaced.source

    def find_spec(self, fullname: str, path: object, target: ModuleType | None = None) -> ModuleSpec | None:  # noqa: ARG002
        if fullname != self._module:
            return None
        return importlib.util.spec_from_file_location(fullname, self._loader.path, loader=self._loader)


class _Loader(SourceFileLoader):
    text = ""

    def get_code(self, fullname: str) -> CodeType:  # noqa: ARG002
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return compile(self.text, self.path, "exec", dont_inherit=True)


def _install(replaced: Replacement) -> None:
    spec = importlib.util.find_spec(replaced.module)
    assert spec is not None
    assert spec.origin is not None
    for name in replaced.stale:
        sys.modules.pop(name, None)
        parent, _, child = name.rpartition(".")
        vars(sys.modules[parent]).pop(child, None) if parent in sys.modules else None
    sys.meta_path.insert(0, _Finder(replaced, spec.origin))


def _import_if_possible(name: str) -> None:
    try:
        importlib.import_module(name)
    except Exception:  # an optional part of some library; the fork imports what it needs
        sys.modules.pop(name, None)
