"""Everything that training raises on purpose; each message is one sentence that names the cause.

TrainingError
├── RecipeError       the recipe is missing, has an unknown key or a value out of range
├── DataError         the folder, an identity or an image is not as it must be
├── NetworkError      the backbone cannot be made switchable at these widths
├── CheckpointError   a run folder or checkpoint that does not belong to this recipe or network
├── DivergenceError   a loss stopped being a number
└── ExportError       a sub-model that does not reproduce the network that was trained
"""

__all__ = [
    "CheckpointError",
    "DataError",
    "DivergenceError",
    "ExportError",
    "NetworkError",
    "RecipeError",
    "TrainingError",
]


class TrainingError(Exception):
    """Base of all."""


class RecipeError(TrainingError):
    """The recipe cannot be used."""


class DataError(TrainingError):
    """The images cannot be used."""


class NetworkError(TrainingError):
    """The network cannot be made switchable."""


class CheckpointError(TrainingError):
    """A run that cannot be continued or read."""


class DivergenceError(TrainingError):
    """Training has diverged."""


class ExportError(TrainingError):
    """A sub-model failed its parity check."""
