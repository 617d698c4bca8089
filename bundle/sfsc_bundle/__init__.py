"""What training and serving share: the bundle's format, preprocessing, runner and retrieval metrics."""

import os

# From 1.29 on, onnxruntime sends telemetry (models, errors, a device id) unless this is set before its import.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
