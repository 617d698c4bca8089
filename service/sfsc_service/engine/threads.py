"""Where networks and index compute: `SFSC_DEVICE` is checked once, at start, for both."""

import onnxruntime

from sfsc_bundle.errors import DeviceError
from sfsc_bundle.runner import Device

__all__ = ["check_device", "search_threads", "split_threads"]


def check_device(device: Device) -> None:
    """Refuse a device that this build of onnxruntime does not have. Raises DeviceError.

    The runner and the index check again with a probe of their own; this one costs nothing and comes first.
    """
    if device == "cuda" and "CUDAExecutionProvider" not in onnxruntime.get_available_providers():
        raise DeviceError(
            "device: cuda was asked for, but this onnxruntime has no CUDAExecutionProvider; "
            "install the gpu extra in place of cpu, or set the device to cpu"
        )


def split_threads(threads: int, device: Device) -> tuple[int, int]:
    """Split a thread budget into (workers, threads inside each worker's run).

    More workers use cores better than more threads inside one run, yet one request alone should profit
    from several cores: about the square root each way. On a GPU two workers keep one batch ahead: one
    stacks and copies while the other computes.

    >>> split_threads(1, "cpu"), split_threads(2, "cpu"), split_threads(4, "cpu"), split_threads(16, "cpu")
    ((1, 1), (2, 1), (2, 2), (4, 4))
    """
    if device == "cuda":
        return 2, 1
    workers = 1
    while workers * workers < threads:
        workers += 1
    return workers, max(1, threads // workers)


def search_threads(threads: int) -> tuple[int, int]:
    """Split the same budget into (searches at a time, threads inside each of them).

    Reading an item or a page takes a search's place, and should not wait for a long search: two at least.

    >>> search_threads(1), search_threads(2), search_threads(16)
    ((2, 1), (2, 1), (4, 4))
    """
    searches, inside = split_threads(threads, "cpu")
    return max(2, searches), inside
