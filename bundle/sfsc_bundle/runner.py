"""One width's ONNX graph, ready to run: uint8 [n, H, W, 3] → float32 [n, D] of unit length.

Only this module knows which execution provider belongs to which device.
A runner may be called from several threads at once.
"""

import functools
from pathlib import Path
from typing import Any, Literal, assert_never

import numpy as np
import numpy.typing as npt
import onnxruntime

from sfsc_bundle.errors import BundleError, DeviceError
from sfsc_bundle.folder import Bundle
from sfsc_bundle.linear_maps import apply_map

__all__ = ["INPUT", "OUTPUT", "Device", "Runner", "make_runner"]

Device = Literal["cpu", "cuda"]
INPUT, OUTPUT = "images", "embeddings"


class Runner:
    """A session of one graph whose names, shapes and types are those of the manifest.

    Args:
        map: what embeddings are multiplied by, float32 [D, D]; None: nothing.
    """

    def __init__(
        self, session: Any, height: int, width: int, dimension: int, map: npt.NDArray[np.float32] | None = None
    ) -> None:
        self._session = session
        self._map = map
        self._shape = (height, width, 3)
        self.dimension = dimension

    def __call__(self, images: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
        """Embed a batch: uint8 [n, H, W, 3] → float32 [n, D], every row of unit length.

        Raises:
            ValueError: another type or shape.
        """
        if images.dtype != np.uint8 or images.ndim != 4 or images.shape[1:] != self._shape:
            wanted = "n×" + "×".join(map(str, self._shape))
            raise ValueError(f"images must be uint8 {wanted}, found {images.dtype} {images.shape}")
        embeddings: npt.NDArray[np.float32] = self._session.run([OUTPUT], {INPUT: images})[0]
        return embeddings if self._map is None else apply_map(embeddings, self._map)


def make_runner(
    bundle: Bundle,
    width: str,
    *,
    device: Device = "cpu",
    threads: int = 1,
    map: npt.NDArray[np.float32] | None = None,
) -> Runner:
    """Open the graph of a width and check it against the manifest.

    Args:
        width: canonical name of a width of the bundle.
        threads: threads that onnxruntime may use for one call.
        map: what embeddings are multiplied by, float32 [D, D].

    Raises:
        BundleError: onnxruntime refuses the graph, or names, shapes or types differ from the manifest.
        DeviceError: this machine or this build of onnxruntime does not have the device.
    """
    path = bundle.graph(width)
    session = _open_session(path, device, threads)
    manifest = bundle.manifest
    height, columns = manifest.preprocessing.height, manifest.preprocessing.width
    _check_signature(path, session, [height, columns, 3], manifest.dimension)
    return Runner(session, height, columns, manifest.dimension, map)


def _open_session(path: Path, device: Device, threads: int) -> Any:
    providers = _providers(device)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    # A spinning pool per width would take the cores that the other widths compute on.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    # An arena never shrinks. One per width, and again for each bundle swapped in, would each stay at its largest.
    _share_arena()
    options.add_session_config_entry("session.use_env_allocators", "1")
    options.log_severity_level = 3
    try:
        session = onnxruntime.InferenceSession(str(path), options, providers=providers)
    except Exception as error:  # onnxruntime raises a class of its own per kind of refusal
        raise BundleError(f"{path}: onnxruntime cannot open this graph: {error}") from error
    if device == "cuda" and "CUDAExecutionProvider" not in session.get_providers():
        raise DeviceError(_NO_CUDA)
    return session


def _providers(device: Device) -> list[Any]:
    match device:
        case "cpu":
            return ["CPUExecutionProvider"]
        case "cuda":
            if "CUDAExecutionProvider" not in onnxruntime.get_available_providers():
                raise DeviceError(_NO_CUDA)
            onnxruntime.preload_dlls()
            # Exhaustive convolution search times every algorithm for every new batch size.
            return [("CUDAExecutionProvider", {"cudnn_conv_algo_search": "HEURISTIC"}), "CPUExecutionProvider"]
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


def _check_signature(path: Path, session: Any, image: list[int], dimension: int) -> None:
    inputs, outputs = session.get_inputs(), session.get_outputs()
    names = ([node.name for node in inputs], [node.name for node in outputs])
    if names != ([INPUT], [OUTPUT]):
        raise BundleError(f"{path}: the graph must have the input {INPUT} and output {OUTPUT}, found {names}")
    for node, kind, rest in ((inputs[0], "tensor(uint8)", image), (outputs[0], "tensor(float)", [dimension])):
        if node.type != kind or list(node.shape[1:]) != rest or isinstance(node.shape[0], int):
            raise BundleError(
                f"{path}: {node.name} must be {kind} [n, {', '.join(map(str, rest))}], found "
                f"{node.type} {node.shape}"
            )
