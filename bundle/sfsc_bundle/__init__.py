"""What training and serving share: the bundle's format, preprocessing, runner and retrieval metrics."""

import os

# From 1.29 on onnxruntime reports models, errors and a device id to its maker unless this is set before import.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
