"""Manifests for the tests of the format: the files they name need be no graphs."""

import hashlib
from collections.abc import Mapping
from typing import Any

from sfsc_bundle.manifest import Manifest


def document(files: Mapping[str, bytes], **changes: Any) -> dict[str, Any]:
    """A valid `manifest.json` as a dict, with one width per file (0.5 and then 1.0), and changes at the top."""
    widths = ["0.5", "1.0"][-len(files) :]
    mean_ap, rank1 = ([[50.0 for _ in files] for _ in files] for _ in range(2))
    submodels = [
        {
            "width": width,
            "file": name,
            "sha256": hashlib.sha256(content).hexdigest(),
            "parameters": 10,
            "macs": 10,
            "opset": 18,
            "normalisation": {"mean": [0.5], "deviation": [0.5]},
            "parity": {"sliced_max_abs": 0.0, "onnx_min_cosine": 1.0, "images": 1},
        }
        for width, (name, content) in zip(widths, files.items(), strict=True)
    ]
    mixed = {
        "draws": 2,
        **{name: [50.0 for _ in files] for name in ("mean_ap", "mean_ap_spread", "rank1", "rank1_spread")},
        "shares": [0.0, 1.0],
        "curve": [[50.0 for _ in files] for _ in range(2)],
    }
    quality = {"dataset": "none", "protocol": "none", "widths": widths, "mean_ap": mean_ap, "rank1": rank1}
    provenance = {
        "kind": "trained",
        "recipe": {},
        "recipe_sha256": "0" * 64,
        "data_sha256": "0" * 64,
        "seed": 0,
        "steps": 0,
    }
    return {
        "schema_version": 2,
        "name": "test",
        "space": "test-space",
        "dimension": 4,
        "preprocessing": {"height": 16, "width": 16},
        "submodels": submodels,
        "quality": quality | {"queries": 1, "gallery": 1, "skipped_queries": 0, "mixed": mixed},
        "alignment": {"base": None},
        "provenance": provenance | {"versions": {}, "data_licence": "none"},
    } | changes


def manifest(files: Mapping[str, bytes], **changes: Any) -> Manifest:
    """The same, checked."""
    return Manifest.model_validate(document(files, **changes))
