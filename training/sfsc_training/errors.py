"""The errors of training. Every message is one sentence that names the cause.

TrainingError         also by itself: the device or the processes
├── RecipeError       the recipe is missing, has an unknown key or a value out of range
├── DataError         the data folder, an identity or an image cannot be used
├── NetworkError      the backbone cannot be built, or not be made switchable at these widths
├── CheckpointError   a run folder cannot be used: damaged, or of another recipe, network, data set or teacher
│   └── StaleAlignmentError    the alignment in it belongs to other weights
├── AlignmentError    there are too few images or identities to fit the maps of an alignment
├── AdoptionError     a foreign graph cannot become a width of a bundle
├── FailedError       the work itself failed: a process ended, a disk is full
│   └── DivergenceError        a loss is no longer finite, or far too large
└── ExportError       an exported sub-model does not reproduce the trained network
"""

__all__ = [
    "AdoptionError",
    "AlignmentError",
    "CheckpointError",
    "DataError",
    "DivergenceError",
    "ExportError",
    "FailedError",
    "NetworkError",
    "RecipeError",
    "StaleAlignmentError",
    "TrainingError",
]


class TrainingError(Exception):
    """Base class of all errors of training."""


class RecipeError(TrainingError):
    """The recipe cannot be used."""


class DataError(TrainingError):
    """The data cannot be used."""


class NetworkError(TrainingError):
    """The network cannot be built."""


class CheckpointError(TrainingError):
    """A run folder cannot be used."""


class StaleAlignmentError(CheckpointError):
    """The alignment of a run was fitted to other weights than it has now."""


class AlignmentError(TrainingError):
    """The maps of an alignment cannot be fitted."""


class AdoptionError(TrainingError):
    """A foreign graph cannot become a width of a bundle."""


class FailedError(TrainingError):
    """What was asked for is right, and the work failed."""


class DivergenceError(FailedError):
    """Training has diverged."""


class ExportError(TrainingError):
    """An exported sub-model differs from the trained network."""
