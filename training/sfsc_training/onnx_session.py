"""Run an ONNX graph that is in memory."""

from typing import Any

import onnxruntime

__all__ = ["open_session"]

_ERRORS = 3


def open_session(content: bytes) -> Any:
    """An onnxruntime session on the processor; of what onnxruntime logs, only errors are shown."""
    options = onnxruntime.SessionOptions()
    options.log_severity_level = _ERRORS
    return onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
