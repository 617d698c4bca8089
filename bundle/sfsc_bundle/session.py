"""Open an ONNX graph with onnxruntime; only this module knows which execution provider belongs to which device."""

import functools
from pathlib import Path
from typing import Any, Literal, assert_never

import onnxruntime

from sfsc_bundle.errors import BundleError, DeviceError

__all__ = ["Device", "open_session"]

Device = Literal["cpu", "cuda"]


def open_session(
    path: Path,
    device: Device,
    threads: int,
    *,
    content: bytes | None = None,
    batch: tuple[str, int] | None = None,
    cuda_graph: bool = False,
) -> Any:
    """An onnxruntime session of a graph.

    Args:
        path: the graph's file, which messages name.
        threads: threads that onnxruntime may use for one call.
        content: the graph, where it is not that of the file.
        batch: the name of the first axis and the length that it has in every call; None: any length.
        cuda_graph: replay the session's work as a CUDA graph.

    Raises:
        BundleError: onnxruntime refuses the graph.
        DeviceError: this machine or this build of onnxruntime does not have the device.
    """
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    # A spinning pool per width would take the cores that the other widths compute on.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    # An arena never shrinks. One per width, and again for each bundle swapped in, would each stay at its largest.
    _share_arena()
    options.add_session_config_entry("session.use_env_allocators", "1")
    options.log_severity_level = 3
    if batch is not None:
        options.add_free_dimension_override_by_name(*batch)
    providers = _providers(device, cuda_graph)
    try:
        session = onnxruntime.InferenceSession(
            str(path) if content is None else content, options, providers=providers
        )
    except Exception as error:  # onnxruntime raises a class of its own per kind of refusal
        raise BundleError(f"{path}: onnxruntime cannot open this graph: {error}") from error
    if device == "cuda" and "CUDAExecutionProvider" not in session.get_providers():
        raise DeviceError(_NO_CUDA)
    session.disable_fallback()  # onnxruntime would open the graph on the CPU when a run on the device fails
    return session


def _providers(device: Device, cuda_graph: bool) -> list[Any]:
    match device:
        case "cpu":
            return ["CPUExecutionProvider"]
        case "cuda":
            if "CUDAExecutionProvider" not in onnxruntime.get_available_providers():
                raise DeviceError(_NO_CUDA)
            onnxruntime.preload_dlls()
            # Exhaustive convolution search times every algorithm for every new batch size.
            options = {"cudnn_conv_algo_search": "HEURISTIC", "enable_cuda_graph": "1" if cuda_graph else "0"}
            return [("CUDAExecutionProvider", options), "CPUExecutionProvider"]
        case _:
            assert_never(device)


@functools.cache
def _share_arena() -> None:
    """Create the arena that all sessions of the process share; onnxruntime refuses a second one."""
    memory = onnxruntime.OrtMemoryInfo(
        "Cpu", onnxruntime.OrtAllocatorType.ORT_ARENA_ALLOCATOR, 0, onnxruntime.OrtMemType.DEFAULT
    )
    onnxruntime.create_and_register_allocator(memory, None)


_NO_CUDA = (
    "device is cuda, but onnxruntime offers no CUDAExecutionProvider here: "
    "install the gpu extra in place of cpu and check the driver, or set the device to cpu"
)
