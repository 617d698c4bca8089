"""Run a graph with inputs and outputs that stay at their places on a device, as a CUDA graph where that is wanted.

Invariants:
- A batch is padded to the next power of two, its *bucket*: a device prepares itself for each batch size anew.
- A lane, the buffers of one bucket, is used by one call at a time. Where CUDA graphs are off there are as many
  lanes as calls at the same time.
- A CUDA graph replays the very addresses and shapes of its capture, and onnxruntime allows no two threads in a
  session that has one. So a lane with a CUDA graph has a lock and a session of its own, of a fixed batch size.
- onnxruntime captures once for each thread that calls. The first result of each is compared with one that was
  computed without a CUDA graph.
- A CUDA graph that cannot be captured or differs is one line in the log; from then on all runs go without one.

On the CPU the same code runs, with onnxruntime's allocator for the CPU and nothing to capture: tests run it there.
"""

import functools
import logging
import threading
from collections import defaultdict
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import onnxruntime

from sfsc_bundle.session import Device

__all__ = ["LARGEST_CUDA_GRAPH", "DeviceRun", "bucket_of", "least_cosine"]

LARGEST_CUDA_GRAPH = 32
"""Larger batches run without one: there the device computes for longer than its work takes to launch."""
AGREEMENT = 0.999
"""The least cosine of a vector from a replay with the one that was computed without it."""

Images = npt.NDArray[np.uint8]
Floats = npt.NDArray[np.float32]

_log = logging.getLogger(__name__)


class DeviceRun:
    """Calls of one graph on one device, from any threads.

    Args:
        names: of the graph's input and output.
        session: of the graph with batches of any size.
        fixed: opens the graph for batches of one size, to be replayed; None: no CUDA graphs.
        shape: of an image, (H, W, 3).
        dimension: D.
    """

    def __init__(
        self,
        names: tuple[str, str],
        session: Any,
        fixed: Callable[[int], Any] | None,
        device: Device,
        shape: tuple[int, int, int],
        dimension: int,
    ) -> None:
        self._session, self._fixed = session, fixed
        self._names, self._device, self._shape, self._dimension = names, device, shape, dimension
        self._free: defaultdict[int, list[_Lane]] = defaultdict(list)
        self._replayed: dict[int, _ReplayedLane] = {}
        self._opening = threading.Lock()
        self._given_up: list[object] = []

    def __call__(self, images: Sequence[Images]) -> Floats:
        """Embed images, uint8 [H, W, 3] each, into float32 [n, D]."""
        bucket = bucket_of(len(images))
        if self._fixed is not None and bucket <= LARGEST_CUDA_GRAPH:
            try:
                return self._lane(bucket, self._fixed).run(images)
            except Exception as error:  # of a class per kind of refusal
                self._give_up(error)
        return self._run_plainly(images)

    def _run_plainly(self, images: Sequence[Images]) -> Floats:
        bucket = bucket_of(len(images))
        try:
            lane = self._free[bucket].pop()
        except IndexError:
            lane = self._make_lane(self._session, bucket)
        embeddings = lane.run(images, None)
        self._free[bucket].append(lane)  # not after an error: what its device memory is worth is not known then
        return embeddings

    def _make_lane(self, session: Any, bucket: int) -> "_Lane":
        return _Lane(self._names, session, self._device, (bucket, *self._shape), self._dimension)

    def _lane(self, bucket: int, fixed: Callable[[int], Any]) -> "_ReplayedLane":
        with self._opening:
            if bucket not in self._replayed:
                lane = self._make_lane(fixed(bucket), bucket)
                self._replayed[bucket] = _ReplayedLane(lane, bucket, self._run_plainly)
            return self._replayed[bucket]

    def _give_up(self, error: Exception) -> None:
        with self._opening:
            if self._fixed is None:
                return
            self._fixed = None
            # Destroying a session whose stream is still being captured ends the process (onnxruntime #32081).
            self._given_up.append(dict(self._replayed))
            self._replayed.clear()
        reason = str(error).partition("\n")[0]
        _log.warning("a network runs without CUDA graphs from now on: %s", reason)


class _Lane:
    """The buffers of one bucket and their binding to a session."""

    def __init__(
        self, names: tuple[str, str], session: Any, device: Device, shape: tuple[int, ...], dimension: int
    ) -> None:
        self._session = session
        self.host, self.kept = _host_buffer(shape, device)
        self._bytes = self.host.data.cast("B")
        make = onnxruntime.OrtValue.ortvalue_from_shape_and_type
        self._input = make(shape, np.uint8, device, 0)
        self._output = make((shape[0], dimension), np.float32, device, 0)
        self._binding = session.io_binding()
        self._binding.bind_ortvalue_input(names[0], self._input)
        self._binding.bind_ortvalue_output(names[1], self._output)

    def run(self, images: Sequence[Images], options: Any) -> Floats:
        """What stands behind the images in their bucket is left from earlier ones, and its vectors are dropped."""
        size = images[0].nbytes
        for number, image in enumerate(images):
            # numpy would release the GIL for a copy this large, and then have to wait for it.
            self._bytes[number * size : (number + 1) * size] = np.ascontiguousarray(image).data.cast("B")
        self._input.update_inplace(self.host)
        self._session.run_with_iobinding(self._binding, options)
        return np.array(self._output.numpy()[: len(images)])


class _ReplayedLane:
    """A lane whose session is replayed as a CUDA graph.

    Args:
        check: computes the same without one.
    """

    def __init__(self, lane: _Lane, bucket: int, check: Callable[[Sequence[Images]], Floats]) -> None:
        self._lane, self._check, self._bucket = lane, check, bucket
        self._lock = threading.Lock()
        self._checked: set[int] = set()
        self._options = onnxruntime.RunOptions()
        self._options.add_run_config_entry("gpu_graph_id", str(bucket))

    def run(self, images: Sequence[Images]) -> Floats:
        """Raises RuntimeError where the replay gives other vectors; whatever onnxruntime raises."""
        with self._lock:
            thread = threading.get_ident()
            if thread in self._checked:
                return self._lane.run(images, self._options)
            # Captured with other images than it is compared with: a replay that reads what it read then is found.
            self._lane.run([~image for image in images], self._options)
            found = self._lane.run(images, self._options)
            if not (cosine := least_cosine(found, self._check(images))) >= AGREEMENT:
                raise RuntimeError(
                    f"replaying a CUDA graph of {self._bucket} images gives other vectors, with a cosine of "
                    f"{cosine:.4f} to those without it"
                )
            self._checked.add(thread)
            return found


def bucket_of(images: int) -> int:
    """The batch size to which so many images are padded.

    >>> [bucket_of(images) for images in (1, 2, 3, 32, 33)]
    [1, 2, 4, 32, 64]
    """
    return 1 << (images - 1).bit_length()


def least_cosine(one: Floats, other: Floats) -> float:
    """The smallest cosine of rows [n, D] of unit length; rows that are not finite in both count as equal."""
    finite = np.isfinite(one).all(axis=1) | np.isfinite(other).all(axis=1)
    return float(np.einsum("nd,nd->n", one[finite], other[finite]).min(initial=1.0))


def _host_buffer(shape: tuple[int, ...], device: Device) -> tuple[Images, object]:
    """Zeros uint8 from which the device copies fastest, and what keeps their memory; None: it is not pinned."""
    try:
        provider, kind = _HOST_MEMORY[device]
        place = next(one for one in onnxruntime.get_ep_devices() if one.ep_name == provider)
        memory = place.memory_info(getattr(onnxruntime.OrtDeviceMemoryType, kind))
        if memory is None and device != "cpu":
            raise LookupError("onnxruntime names no such memory")
        kept = onnxruntime.OrtValue.ortvalue_from_shape_and_type(shape, np.uint8, memory_info=memory)
        view: Images = kept.numpy()
        if view.ctypes.data != kept.data_ptr() or not view.flags.writeable:
            raise LookupError("numpy gets a copy of it")
    except Exception as error:  # an older onnxruntime lacks one of these
        _log_unpinned(device, str(error))
        return np.zeros(shape, np.uint8), None
    view[:] = 0
    return view, kept


@functools.cache
def _log_unpinned(device: Device, reason: str) -> None:
    """Once, not for every lane."""
    _log.info("images are copied to %s from memory that is not pinned, which is slower: %s", device, reason)


_HOST_MEMORY: dict[Device, tuple[str, str]] = {
    "cpu": ("CPUExecutionProvider", "DEFAULT"),
    "cuda": ("CUDAExecutionProvider", "HOST_ACCESSIBLE"),
}
