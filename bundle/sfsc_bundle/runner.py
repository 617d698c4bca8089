"""One width's ONNX graph, ready to run: uint8 [n, H, W, 3] → float32 [n, D] of unit length.

A runner may be called from several threads at once.
"""

import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from sfsc_bundle.device_run import DeviceRun
from sfsc_bundle.errors import BundleError
from sfsc_bundle.folder import Bundle
from sfsc_bundle.half import check_half, half_graph
from sfsc_bundle.linear_maps import apply_map
from sfsc_bundle.session import Device, open_session

__all__ = ["INPUT", "OUTPUT", "Acceleration", "Device", "Runner", "make_runner"]

INPUT, OUTPUT = "images", "embeddings"

Images = npt.NDArray[np.uint8]
Floats = npt.NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Acceleration:
    """What makes a device faster.

    Attributes:
        cuda_graphs: replay batches of up to 32 images as CUDA graphs; nothing where the device is the CPU.
        half: compute in half precision, as far as its vectors are those of full precision (`half.check_half`).
    """

    cuda_graphs: bool = False
    half: bool = False


class Runner:
    """A session of one graph whose names, shapes and types are those of the manifest.

    Args:
        run: images uint8 [H, W, 3], one or more of them → embeddings float32 [n, D].
        map: what embeddings are multiplied by, float32 [D, D]; None: nothing.
    """

    def __init__(
        self,
        run: Callable[[Sequence[Images]], Floats],
        height: int,
        width: int,
        dimension: int,
        map: Floats | None = None,
    ) -> None:
        self._run = run
        self._map = map
        self._shape = (height, width, 3)
        self.dimension = dimension

    def __call__(self, images: Images | Sequence[Images]) -> Floats:
        """Embed a batch, uint8 [n, H, W, 3] or n images [H, W, 3] → float32 [n, D], every row of unit length.

        Raises:
            ValueError: another type or shape.
        """
        found: Sequence[Images] = [images] if isinstance(images, np.ndarray) else images
        rest = 4 if isinstance(images, np.ndarray) else 3
        for one in found:
            if one.dtype != np.uint8 or one.ndim != rest or one.shape[-3:] != self._shape:
                wanted = "n×" * (rest - 3) + "×".join(map(str, self._shape))
                raise ValueError(f"images must be uint8 {wanted}, found {one.dtype} {one.shape}")
        if not len(images):
            return np.empty((0, self.dimension), np.float32)
        embeddings = self._run(images)  # type: ignore[arg-type] # an array is a sequence of its rows
        return embeddings if self._map is None else apply_map(embeddings, self._map)


def make_runner(
    bundle: Bundle,
    width: str,
    *,
    device: Device = "cpu",
    threads: int = 1,
    map: Floats | None = None,
    acceleration: Acceleration | None = None,
) -> Runner:
    """Open the graph of a width and check it against the manifest.

    Args:
        width: canonical name of a width of the bundle.
        threads: threads that onnxruntime may use for one call.
        map: what embeddings are multiplied by, float32 [D, D].
        acceleration: None: none.

    Raises:
        BundleError: onnxruntime refuses the graph, names, shapes or types differ from the manifest, or the graph
            cannot be computed in half precision.
        DeviceError: this machine or this build of onnxruntime does not have the device.
    """
    wanted = acceleration or Acceleration()
    path = bundle.graph(width)
    content = half_graph(path.read_bytes(), path.name) if wanted.half else None
    session = open_session(path, device, threads, content=content)
    manifest = bundle.manifest
    height, columns = manifest.preprocessing.height, manifest.preprocessing.width
    _check_signature(path, session, [height, columns, 3], manifest.dimension)
    axis = session.get_inputs()[0].shape[0]

    def fixed(batch: int) -> Any:
        override = (axis, batch) if axis else None
        return open_session(path, device, threads, content=content, batch=override, cuda_graph=True)

    run: Callable[[Sequence[Images]], Floats]
    if device == "cpu":
        run = functools.partial(_run_on_host, session)
    else:
        replayed = fixed if wanted.cuda_graphs else None
        run = DeviceRun((INPUT, OUTPUT), session, replayed, device, (height, columns, 3), manifest.dimension)
    runner = Runner(run, height, columns, manifest.dimension, map)
    if wanted.half:
        full = make_runner(bundle, width, threads=threads, map=map)
        check_half(runner, full, height, columns, path.name)
    return runner


def _run_on_host(session: Any, images: Images | Sequence[Images]) -> Floats:
    if not isinstance(images, np.ndarray):
        # For a copy this large numpy would release the GIL, and then have to wait for it.
        joined = np.frombuffer(b"".join([image.data for image in images]), np.uint8)
        images = joined.reshape(len(images), *images[0].shape)
    embeddings: Floats = session.run([OUTPUT], {INPUT: images})[0]
    return embeddings


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
