"""Kill a real Milvus under acknowledged writes and look what is left; run it again to go on where it was stopped.

    python benchmarks/milvus_crash.py --python .venv-milvus/bin/python [--rounds 50]

A round takes about a minute: a server with a folder of its own, threads that write until it is killed, the same
server again, and every item compared with what was acknowledged last. `.crash/milvus.json` holds the rounds.
"""

import argparse
import json
import logging
import os
import random
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import numpy as np

from live_service import free_port
from result_file import Figure, write_result
from sfsc_bundle.atomic_file import write_file
from sfsc_service.store.errors import StoreError
from sfsc_service.store.milvus.address import MilvusAddress
from sfsc_service.store.milvus.store import MilvusStore

ROOT = Path(__file__).parents[1]
PROGRESS = ROOT / ".crash" / "milvus.json"
SERVER = ROOT / "tests" / "service" / "store" / "milvus_server.py"
RETURN_S = 180.0

sys.path.insert(0, str(ROOT))
from tests.service.store.embedded.crash_child import (  # noqa: E402
    THREADS,
    Operation,
    carry_out,
    draw_operation,
    version,
)
from tests.service.store.making import DIMENSION, SPACE  # noqa: E402

Versions = dict[str, int | None]
"""The seed of each item's version; None where it was deleted."""


@contextmanager
def server(python: Path, folder: Path, port: int) -> Iterator["subprocess.Popen[str]"]:
    """Milvus at a port, once it answers; at the end, all its processes are killed.

    PyPI's package starts Milvus as a child of the process that asks for it. While a child that outlives it has the
    folder, no other server starts there.
    """
    command = [python, SERVER, folder, str(port)]
    process = subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, start_new_session=True
    )
    try:
        assert process.stdout is not None
        assert process.stdout.readline().strip() == str(port), (
            f"Milvus did not start; {folder / 'logs'} may say why"
        )
        yield process
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.communicate()


class Writers:
    """Threads that write items of their own until a call fails. `acknowledged`, and what each was about to do."""

    def __init__(self, store: MilvusStore, seed: int) -> None:
        self._store, self._seed = store, seed
        self.acknowledged: Versions = {}
        self.pending: dict[int, Operation] = {}
        self._threads = [threading.Thread(target=self._write, args=(number,)) for number in range(THREADS)]
        for thread in self._threads:
            thread.start()

    def join(self) -> None:
        for thread in self._threads:
            thread.join()

    def _write(self, number: int) -> None:
        rng = np.random.default_rng([self._seed, number])
        while True:
            self.pending[number] = operation = draw_operation(rng, number)
            try:
                carry_out(self._store, operation)
            except StoreError:
                return
            self.acknowledged |= versions(operation)


def versions(operation: Operation) -> Versions:
    kind, drawn = operation
    return {name: None if kind == "delete" else seed for name, seed in drawn}


def wait_until_back(store: MilvusStore) -> float:
    """Seconds until the store has no fault, as a service looks for one."""
    began = time.monotonic()
    while (fault := store.fault()) is not None:
        assert time.monotonic() - began < RETURN_S, f"not back within {RETURN_S:g} s: {fault.detail}"
        time.sleep(0.5)
    return time.monotonic() - began


def changed_items(store: MilvusStore, writers: Writers) -> list[str]:
    """The items that are neither as they were acknowledged nor as a call wanted them that was not answered."""
    wanted = {name: seed for operation in writers.pending.values() for name, seed in versions(operation).items()}
    names = sorted(writers.acknowledged.keys() | wanted.keys())
    bad = []
    for name, found in zip(names, store.get(names), strict=True):
        allowed = {writers.acknowledged.get(name), wanted.get(name, writers.acknowledged.get(name))}
        seed = None if found is None else found.metadata["seed"]
        if seed not in allowed:
            bad.append(f"{name} is of {seed} and should be of {allowed}")
        elif found is not None and found.vector.tobytes() != version(name, seed).vector.tobytes():
            bad.append(f"{name} has a vector of another version")
    return bad


def run_round(python: Path, folder: Path, seed: int) -> dict[str, object]:
    """One kill: what was acknowledged before, which items are wrong after it, how long the store had a fault."""
    port = free_port()
    address = MilvusAddress("127.0.0.1", port, "default")
    with server(python, folder / "milvus", port):
        store = MilvusStore(address, "crash", folder / "images", SPACE, DIMENSION)
        writers = Writers(store, seed)
        time.sleep(random.Random(seed).uniform(1, 6))
    with closing(store):
        writers.join()
        with server(python, folder / "milvus", port):
            back_s = wait_until_back(store)
            bad = changed_items(store, writers)
            return {"acknowledged": len(writers.acknowledged), "bad": bad, "back_s": round(back_s, 1)}


def main() -> None:
    """Run what has not been run, print, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--python", type=Path, required=True, help="a Python that has PyPI's milvus")
    parser.add_argument("--rounds", type=int, default=50)
    options = parser.parse_args()
    logging.disable(logging.ERROR)
    rounds = json.loads(PROGRESS.read_bytes()) if PROGRESS.exists() else {}
    for seed in map(str, range(options.rounds)):
        if seed not in rounds:
            with tempfile.TemporaryDirectory() as folder:
                rounds[seed] = run_round(options.python, Path(folder), int(seed))
            PROGRESS.parent.mkdir(exist_ok=True)
            write_file(PROGRESS, json.dumps(rounds).encode())
            print(f"{seed}: {rounds[seed]}", flush=True)
    done = [rounds[str(seed)] for seed in range(options.rounds)]
    figures = [
        Figure("kills of Milvus", len(done), "", ">= 50"),
        Figure(
            "kills after which an acknowledged change was lost", sum(bool(one["bad"]) for one in done), "", "<= 0"
        ),
        Figure("longest time until the store answers again", max(one["back_s"] for one in done), "s"),
    ]
    for figure in figures:
        print(f"{figure.name}: {figure.value:g} {figure.goal} {figure.met}")
    write_result("milvus_crash", figures, {"rounds": done}, seed=0)


if __name__ == "__main__":
    main()
