"""Where and how the commands log."""

import logging
import sys

from sfsc_service.settings import LogLevel

__all__ = ["log_to_stderr"]


def log_to_stderr(level: LogLevel) -> None:
    """Log messages of this level and above; httpx logs every request at info, which is too much."""
    logging.basicConfig(
        level=level.upper(), format="%(asctime)s %(levelname)s %(name)s: %(message)s", stream=sys.stderr
    )
    logging.getLogger("httpx").setLevel(logging.WARNING)
