"""The HTTP service: width policy, batching, gallery store, page and command."""

import sfsc_bundle  # noqa: F401  before onnxruntime, whose telemetry it turns off
