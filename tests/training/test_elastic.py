"""Training by several processes, started by torchrun, of which some are killed or hang.

Whatever happens to them, the run ends with the weights of one process that was never interrupted: to 1e-9 in
double precision, running statistics of the normalisation included.
"""

import json
import multiprocessing
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from rich.console import Console
from torch import distributed

from sfsc_training import loop
from sfsc_training.checkpoint import read_checkpoint, read_step
from sfsc_training.config import load_recipe
from sfsc_training.data.read import read_dataset
from sfsc_training.distributed import World, agree, join_world
from sfsc_training.errors import CheckpointError, FailedError, TrainingError
from sfsc_training.loop import RunOptions, train
from sfsc_training.resume import start_or_resume
from sfsc_training.run_lock import locked

QUIET = Console(quiet=True)
EXACT = (
    "optimiser.kind=sgd", "optimiser.lr=0.05", "optimiser.steps=20", "optimiser.bf16=false",
    "optimiser.float64=true", "optimiser.micro_batches=4",
)  # fmt: skip


def run_alone(recipe_file, data, folder, *settings, checkpoint_every=250):
    recipe = load_recipe(str(recipe_file), [*EXACT, *settings])
    dataset = read_dataset(data, recipe.data, recipe.seed)
    train(recipe, dataset, folder, QUIET, RunOptions(threads=1, workers=0, checkpoint_every=checkpoint_every))


@pytest.fixture(scope="module")
def alone(small_recipe, small_data, tmp_path_factory):
    """The run of one process."""
    folder = tmp_path_factory.mktemp("alone") / "run"
    run_alone(small_recipe, small_data, folder)
    run_alone(small_recipe, small_data, folder.with_name("start"), "optimiser.steps=1")
    return folder


def at_once(count, function, *arguments):
    """Run a function in so many processes that know each other as those that torchrun starts; their exit codes."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["sfsc_training.loop"])  # the imports take longer than all the rest
    started = [
        context.Process(target=_as_one_of, args=(rank, count, port, function, arguments)) for rank in range(count)
    ]
    for process in started:
        process.start()
    started[0].join(200)
    for process in started[1:]:
        process.join(200 if started[0].exitcode == 0 else 1)
        process.kill()  # where it hangs
        process.join(60)
    return [process.exitcode for process in started]


def _as_one_of(rank, count, port, function, arguments):
    os.environ |= {
        "RANK": str(rank),
        "WORLD_SIZE": str(count),
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(port),
    }
    function(*arguments)


def assert_same_result(one, other):
    one, other = read_checkpoint(one), read_checkpoint(other)
    assert (one.step, one.finished) == (other.step, other.finished)
    for tensors, others in ((one.network, other.network), (one.classifier, other.classifier)):
        assert tensors.keys() == others.keys()
        for name, values in tensors.items():
            torch.testing.assert_close(
                values, others[name], rtol=0, atol=1e-9, msg=lambda m, name=name: f"{name}: {m}"
            )


# The first time, process 0 is in the middle of its second checkpoint when process 1 is killed;
# torchrun ends it there.
FAULTS = """
import io, os, signal, time, torch
from sfsc_training import loop
from sfsc_training.cli import main

rank, time_started = os.environ["RANK"], os.environ["TORCHELASTIC_RESTART_COUNT"]
save, compute, written = torch.save, loop.compute_gradients, []

def half(content, file, **options):
    written.extend([] if options else [file])  # tensors on their way to other processes have options
    if time_started != "0" or len(written) < 2:
        return save(content, file, **options)
    whole = io.BytesIO()
    save(content, whole)
    file.write(whole.getvalue()[: whole.tell() // 2])
    file.flush()
    time.sleep(100)

def killed(setup, micro_batches, step):
    if (time_started, rank, step) == ("0", "1", 10):
        os.kill(os.getpid(), signal.SIGKILL)
    return compute(setup, micro_batches, step)

torch.save, loop.compute_gradients = half, killed
main()
"""


def test_a_run_with_a_killed_process_ends_with_the_weights_of_one_that_was_not(
    small_recipe, small_data, alone, tmp_path
):
    (tmp_path / "faults.py").write_text(FAULTS)
    settings = [word for setting in EXACT for word in ("--set", setting)]
    command = [
        Path(sys.executable).with_name("torchrun"), "--standalone", "--nproc-per-node", 2, "--max-restarts", 1,
        tmp_path / "faults.py", "train", small_recipe, "--data", small_data, "--out", tmp_path / "run",
        "--threads", 1, "--workers", 0, "--checkpoint-every", 5, "--no-align", *settings,
    ]  # fmt: skip
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONWARNINGS": "ignore"}
    done = subprocess.run(
        [*map(str, command)], capture_output=True, text=True, env=environment, timeout=280, check=False
    )
    assert done.returncode == 0, done.stderr
    (line,) = [line for line in done.stdout.splitlines() if "goes on after step" in line]
    assert line.startswith("torchrun has started the processes again (1 of at most 1 times); the run in ")
    assert line.endswith(" goes on after step 5")
    assert_same_result(tmp_path / "run", alone)
    lines = (tmp_path / "run/history.jsonl").read_text().splitlines()
    assert [json.loads(line)["step"] for line in lines] == [0, 19]
    start = read_checkpoint(alone.with_name("start")).network["embedding.weight"]
    assert (start - read_checkpoint(tmp_path / "run").network["embedding.weight"]).abs().max() > 1e-2


def test_a_run_of_one_process_goes_on_with_four(small_recipe, small_data, alone, tmp_path, monkeypatch):
    write = loop.write_checkpoint

    def write_and_die(folder, checkpoint):
        write(folder, checkpoint)
        raise KeyboardInterrupt

    monkeypatch.setattr(loop, "write_checkpoint", write_and_die)
    with pytest.raises(KeyboardInterrupt):
        run_alone(small_recipe, small_data, tmp_path / "run", checkpoint_every=7)
    assert read_step(tmp_path / "run") == 7
    monkeypatch.undo()
    assert at_once(4, run_alone, small_recipe, small_data, tmp_path / "run") == [0] * 4
    assert_same_result(tmp_path / "run", alone)


def test_micro_batches_that_do_not_divide_are_refused_before_the_run_begins(
    small_recipe, small_data, tmp_path, monkeypatch
):
    @contextmanager
    def three(*_):
        yield World(0, 3)

    monkeypatch.setattr(loop, "join_world", three)
    with pytest.raises(TrainingError, match=r"optimiser.micro_batches = 4 must divide among 3 processes"):
        run_alone(small_recipe, small_data, tmp_path / "run")
    assert not (tmp_path / "run/recipe.json").exists()


def meet(fault, timeout_s, said):
    with join_world("cpu", timeout_s) as world:
        world.average([torch.ones(3)])
        if world.rank == 1:
            os.kill(os.getpid(), fault)
        try:
            world.from_first(world.from_all(world.rank))
        except FailedError as error:
            said.write_text(str(error))
            os._exit(1)


@pytest.mark.parametrize(
    ("fault", "timeout_s", "found"),
    [
        (signal.SIGKILL, 60.0, r".*Connection (closed|reset) by peer"),
        (signal.SIGSTOP, 4.0, "Timed out waiting 4000ms"),
    ],
)
def test_a_process_that_ends_or_hangs_ends_the_others_with_a_sentence(tmp_path, fault, timeout_s, found):
    assert at_once(2, meet, fault, timeout_s, tmp_path / "said") == [1, -signal.SIGKILL]
    said = (tmp_path / "said").read_text()
    assert said.startswith("process 0 of 2 on ")
    assert re.search(rf"another process has ended, or did not answer for {timeout_s:g} s \({found}", said)
    assert said.endswith("the run can be resumed from its last checkpoint")
    assert "\n" not in said


def test_processes_that_find_a_word_of_earlier_ones_wait_for_their_own():
    store = distributed.HashStore()
    store.set("sfsc/word", "old")
    store.set("sfsc/old/all", "of another start")
    with ThreadPoolExecutor(3) as pool:
        others = [pool.submit(agree, store, rank, 3, 20.0) for rank in (1, 2)]
        while store.num_keys() < 4:  # both have found the old word
            time.sleep(0.01)
        first = agree(store, 0, 3, 20.0)
        assert [other.result() for other in others] == [first, first]
    assert first != "old"
    with pytest.raises(RuntimeError):
        agree(distributed.HashStore(), 0, 2, 0.1)
    with pytest.raises(RuntimeError, match=r"the first process did not come within 0\.1 s"):
        agree(store, 3, 4, 0.1)


class Apart(World):
    """Two machines that do not share the run folder: the other one has it after step 99."""

    def from_first(self, value):
        return value

    def from_all(self, value):
        return [value, (99, "other-machine")]


@pytest.mark.parametrize("step", [0, 7])
def test_a_folder_that_machines_do_not_share_is_found(
    small_recipe, small_data, alone, tmp_path, step, monkeypatch
):
    recipe = load_recipe(str(small_recipe), EXACT)
    dataset = read_dataset(small_data, recipe.data, recipe.seed)
    earlier = replace(read_checkpoint(alone), step=step) if step else None
    monkeypatch.setattr("sfsc_training.resume.read_checkpoint", lambda _: earlier)
    folder = shutil.copytree(alone, tmp_path / "run") if step else tmp_path / "run"
    where = "after step 7" if step else "not at all"
    with pytest.raises(
        CheckpointError, match=rf"on other-machine has the run after step 99, .* is now, {where}: "
    ):
        start_or_resume(None, folder, recipe, dataset, None, Apart(0, 2))


def test_two_trainings_do_not_write_one_folder(tmp_path):
    script = (
        "import sys; from pathlib import Path; from sfsc_training.run_lock import locked\n"
        "with locked(Path(sys.argv[1])): print('held', flush=True); sys.stdin.read()"
    )
    command = [sys.executable, "-c", script, str(tmp_path / "run")]
    other = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert other.stdout.readline() == "held\n"
    with (
        pytest.raises(CheckpointError, match=r"another process trains in .*run; wait for it, end it"),
        locked(tmp_path / "run"),
    ):
        pass
    other.kill()  # the lock ends with its holder
    other.communicate()
    with locked(tmp_path / "run"):
        pass
