"""The compared methods (docs/method.md §4): the settings that a recipe with one of these method names must have.

A recipe with other settings must have a method name that is not listed here.
"""

from typing import Any

__all__ = ["METHODS"]

_ALONE = {"network.separate": True, "loss.classifier": "separate"}
_TAUGHT = {"network.separate": True, "teacher.full": True}
_EVIDENTIAL = {"loss.compatible": "evidential", "loss.evidential.prior_weight": "classes"}
_PROJECTION = {"aggregation.kind": "projection", "aggregation.scope": "flat"}
_SUM = {"aggregation.kind": "sum"}
_PLAIN = {
    "loss.cross_entropy": 0.0,
    "loss.distil": 0.0,
    "loss.soft_targets": 0.0,
    "loss.class_vectors": "learned",
    "loss.contrastive": 0.0,
    "aggregation.equal_norms": False,
    "optimiser.full_first": 0.0,
    "optimiser.sandwich": None,
}
_JOINT = {"network.separate": False, "loss.classifier": "shared", "teacher": None} | _PLAIN

METHODS: dict[str, dict[str, Any]] = {
    "unified": _PLAIN | {"one_width": True, "teacher": None},
    "independent": _PLAIN | _ALONE | {"loss.compatible": "base", "teacher": None},
    "bct": _PLAIN | _TAUGHT | {"loss.compatible": "cross-entropy", "teacher.classifier": True},
    "asymmetric": _PLAIN | _TAUGHT | {"loss.compatible": "triplet"},
    "bct-s": _JOINT | _SUM | {"loss.compatible": "base"},
    "asymmetric-s": _JOINT | _SUM | {"loss.compatible": "triplet"},
    "sfsc": _JOINT | _EVIDENTIAL | _PROJECTION,
    "sfsc-without-loss": _JOINT | _PROJECTION | {"loss.compatible": "base"},
    "sfsc-without-projection": _JOINT | _EVIDENTIAL | _SUM,
    "compact": _PLAIN | {"one_width": True, "teacher.classifier": True},
}
