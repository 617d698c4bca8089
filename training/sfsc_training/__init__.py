"""Training: one run gives sub-models of several widths in one embedding space."""

import sfsc_bundle  # noqa: F401  imported before onnxruntime, whose telemetry it disables
