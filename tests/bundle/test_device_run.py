"""Lanes on a device, run on the CPU: the same code, with an allocator of the CPU and nothing to capture.

What a GPU adds, its memory and the capture itself, is checked by benchmarks/gpu.py on one.
"""

import logging
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import onnxruntime
import pytest

from sfsc_bundle import device_run
from sfsc_bundle.device_run import LARGEST_CUDA_GRAPH, DeviceRun, bucket_of, least_cosine
from sfsc_bundle.folder import Bundle
from sfsc_bundle.runner import INPUT, OUTPUT, Runner, make_runner
from sfsc_bundle.session import open_session
from tests.tiny_bundle import make_tiny_bundle

SIZES = (1, 2, 3, 5, 8, 31, 32, 33, 40)


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return make_tiny_bundle(tmp_path_factory.mktemp("models") / "tiny", ["0.5", "1.0"], nan_widths=["0.5"])


def pixels(count: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (count, 16, 16, 3), dtype=np.uint8)


class Faulty:
    """A session; `fault(calls)` decides what its runs as a CUDA graph do beside computing."""

    def __init__(self, session: Any, fault: Callable[["Faulty"], None]) -> None:
        self._session, self._fault = session, fault
        self.runs = 0
        self.threads: set[int] = set()
        self.busy = threading.Lock()

    def io_binding(self) -> Any:
        return self._session.io_binding()

    def run_with_iobinding(self, binding: Any, options: Any) -> None:
        assert self.busy.acquire(blocking=False), "two threads are in a session that has a CUDA graph"
        try:
            self.runs += 1
            self.threads.add(threading.get_ident())
            self._session.run_with_iobinding(binding, options)
            self._fault(self)
        finally:
            self.busy.release()


class Device:
    """A DeviceRun on the CPU, with what it opened."""

    def __init__(
        self,
        bundle: Bundle,
        fault: Callable[[Faulty], None] | None = None,
        *,
        width: str = "1.0",
        graphs: bool = True,
    ) -> None:
        self.opened: dict[int, Faulty] = {}
        path = bundle.graph(width)

        def fixed(batch: int) -> Faulty:
            session = open_session(path, "cpu", 1, batch=("n", batch))
            assert session.get_inputs()[0].shape[0] == batch, "the batch size is part of the graph"
            self.opened[batch] = Faulty(session, fault or (lambda _: None))
            return self.opened[batch]

        run = DeviceRun(
            (INPUT, OUTPUT), open_session(path, "cpu", 1), fixed if graphs else None, "cpu", (16, 16, 3), 16
        )
        self.run = Runner(run, 16, 16, 16)


@pytest.mark.parametrize("graphs", [False, True], ids=["lanes", "replayed lanes"])
@pytest.mark.parametrize("count", SIZES)
def test_vectors_are_those_of_a_plain_run(bundle: Bundle, graphs: bool, count: int) -> None:
    images, device = pixels(count), Device(bundle, graphs=graphs)
    expected = make_runner(bundle, "1.0")(images)
    for _ in range(2):
        np.testing.assert_allclose(device.run(images), expected, atol=1e-6)
    np.testing.assert_allclose(device.run(list(images)), expected, atol=1e-6)
    assert list(device.opened) == ([bucket_of(count)] if graphs and count <= LARGEST_CUDA_GRAPH else [])


def test_a_smaller_batch_sees_nothing_of_the_larger_one_before_it(bundle: Bundle) -> None:
    device = Device(bundle)
    expected = make_runner(bundle, "1.0")
    for count in (8, 5, 6, 7, 5):
        images = pixels(count, seed=count)
        np.testing.assert_allclose(device.run(images), expected(images), atol=1e-6)


def test_an_answer_stays_as_it_is_while_others_are_computed(bundle: Bundle) -> None:
    device = Device(bundle)
    first = device.run(pixels(4))
    kept = first.copy()
    device.run(pixels(4, seed=1))
    np.testing.assert_array_equal(first, kept)


def test_images_of_any_memory_order(bundle: Bundle) -> None:
    images = pixels(4)
    expected = Device(bundle).run(images)
    np.testing.assert_array_equal(Device(bundle).run(images[::-1]), expected[::-1])
    np.testing.assert_array_equal(Device(bundle).run(np.asfortranarray(images)), expected)


def test_no_images(bundle: Bundle) -> None:
    assert Device(bundle).run(pixels(0)).shape == (0, 16)


@pytest.mark.parametrize("graphs", [False, True], ids=["lanes", "replayed lanes"])
def test_many_threads_and_one_at_a_time_in_a_session_with_a_cuda_graph(bundle: Bundle, graphs: bool) -> None:
    device = Device(bundle, graphs=graphs)
    batches = [pixels(1 + seed % 5, seed) for seed in range(100)]
    reference = make_runner(bundle, "1.0")
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(device.run, batches))
    for one, images in zip(found, batches, strict=True):
        np.testing.assert_allclose(one, reference(images), atol=1e-6)


def test_every_thread_captures_and_checks_once(bundle: Bundle) -> None:
    device = Device(bundle)
    for _ in range(3):
        device.run(pixels(1))
    session = device.opened[1]
    assert session.runs == 1 + 1 + 2, "captured with other images, compared, and twice more"
    thread = threading.Thread(target=device.run, args=(pixels(1),))
    thread.start()
    thread.join()
    assert session.runs == 4 + 2


def refuse(_: Faulty) -> None:
    raise RuntimeError("CUDA failure 900: operation not permitted when stream is capturing\nmore")


def break_after(runs: int) -> Callable[[Faulty], None]:
    def fault(session: Faulty) -> None:
        if session.runs > runs:
            raise RuntimeError("CUDA failure 719: unspecified launch failure")

    return fault


@pytest.mark.parametrize("fault", [refuse, break_after(1), break_after(3)], ids=["capture", "replay", "later"])
def test_a_cuda_graph_that_fails_costs_one_line_and_no_answer(
    bundle: Bundle, caplog: pytest.LogCaptureFixture, fault: Callable[[Faulty], None]
) -> None:
    device, images = Device(bundle, fault), pixels(3)
    expected = make_runner(bundle, "1.0")(images)
    for _ in range(5):
        np.testing.assert_allclose(device.run(images), expected, atol=1e-6)
    assert [record.levelno for record in caplog.records] == [logging.WARNING]
    assert caplog.records[0].message.startswith("a network runs without CUDA graphs from now on: CUDA failure")
    assert "\n" not in caplog.records[0].message
    device.run(pixels(1))
    assert list(device.opened) == [4], "no other one is tried"


def test_a_graph_that_cannot_be_opened_with_cuda_graphs_runs_without(
    bundle: Bundle, caplog: pytest.LogCaptureFixture
) -> None:
    def fixed(_: int) -> Any:
        raise RuntimeError("This session cannot use the CUDA Graph feature as requested by the user")

    session = open_session(bundle.graph("1.0"), "cpu", 1)
    run = DeviceRun((INPUT, OUTPUT), session, fixed, "cpu", (16, 16, 3), 16)
    np.testing.assert_allclose(run(pixels(2)), make_runner(bundle, "1.0")(pixels(2)), atol=1e-6)
    assert [record.message for record in caplog.records] == [
        "a network runs without CUDA graphs from now on: "
        "This session cannot use the CUDA Graph feature as requested by the user"
    ]


class Stale:
    """A session that, like a CUDA graph with the wrong addresses, gives what it gave at its first run."""

    def __init__(self, session: Any) -> None:
        self._session, self._done = session, False

    def io_binding(self) -> Any:
        return self._session.io_binding()

    def run_with_iobinding(self, binding: Any, options: Any) -> None:
        if not self._done:
            self._session.run_with_iobinding(binding, options)
        self._done = True


@pytest.mark.parametrize("images", [pixels(2), np.zeros((2, 16, 16, 3), np.uint8)], ids=["drawn", "black"])
def test_a_replay_that_gives_other_vectors_is_found_before_anyone_gets_them(
    bundle: Bundle, caplog: pytest.LogCaptureFixture, images: np.ndarray
) -> None:
    path = bundle.graph("1.0")
    run = DeviceRun(
        (INPUT, OUTPUT),
        open_session(path, "cpu", 1),
        lambda batch: Stale(open_session(path, "cpu", 1, batch=("n", batch))),
        "cpu",
        (16, 16, 3),
        16,
    )
    np.testing.assert_allclose(run(images), make_runner(bundle, "1.0")(images), atol=1e-6)
    assert "replaying a CUDA graph of 2 images gives other vectors, with a cosine of" in caplog.text


def test_a_network_that_gives_nan_is_no_fault_of_its_cuda_graph(
    bundle: Bundle, caplog: pytest.LogCaptureFixture
) -> None:
    assert np.isnan(Device(bundle, width="0.5").run(pixels(2))).all()
    assert not caplog.records


def test_cosines_of_rows() -> None:
    rows = np.eye(3, dtype=np.float32)
    broken = rows.copy()
    broken[1] = np.nan
    assert least_cosine(rows, rows) == 1.0
    assert least_cosine(broken, broken) == 1.0
    assert not least_cosine(rows, broken) >= 0.0
    assert least_cosine(rows, rows[::-1]) == 0.0


def test_without_pinned_memory_it_runs_all_the_same(
    bundle: Bundle, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    expected = Device(bundle).run(pixels(3))

    def missing() -> None:
        raise AttributeError("this release has no devices")

    monkeypatch.setattr(onnxruntime, "get_ep_devices", missing, raising=False)
    device_run._log_unpinned.cache_clear()
    with caplog.at_level(logging.INFO):
        device = Device(bundle)
        for count in (1, 2, 3):
            device.run(pixels(count))
        np.testing.assert_array_equal(device.run(pixels(3)), expected)
    assert [record.message for record in caplog.records] == [
        "images are copied to cpu from memory that is not pinned, which is slower: this release has no devices"
    ]
    device_run._log_unpinned.cache_clear()


def test_a_run_that_fails_raises_and_its_lane_is_not_used_again(bundle: Bundle) -> None:
    session = open_session(bundle.graph("1.0"), "cpu", 1)
    faults = [RuntimeError("out of memory")]

    class Once(Faulty):
        def run_with_iobinding(self, binding: Any, options: Any) -> None:
            if faults:
                raise faults.pop()
            super().run_with_iobinding(binding, options)

    run = DeviceRun((INPUT, OUTPUT), Once(session, lambda _: None), None, "cpu", (16, 16, 3), 16)
    with pytest.raises(RuntimeError, match="out of memory"):
        run(pixels(2))
    np.testing.assert_allclose(run(pixels(2)), make_runner(bundle, "1.0")(pixels(2)), atol=1e-6)
