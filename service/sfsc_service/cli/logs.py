"""Where and how the commands log: lines for people or JSON for collectors, a flood of like lines cut short."""

import logging
import sys
import time
from datetime import UTC, datetime
from typing import TextIO, assert_never

import orjson

from sfsc_service.http.audit import AUDIT
from sfsc_service.http.request_log import REQUEST_ID
from sfsc_service.settings import LogFormat, LogLevel

__all__ = ["log_handler", "log_to_stderr"]

WINDOW_S = 10.0
LINES_PER_WINDOW = 10
"""Lines that one statement of the code may log in a window; anybody can cause lines by sending requests."""
CONTROLS = {code: repr(chr(code))[1:-1] for code in (*range(0x20), *range(0x7F, 0xA0), 0x2028, 0x2029)}
"""Characters that end a line or steer a terminal, and what is written in their place."""


def log_to_stderr(level: LogLevel, format: LogFormat = "console") -> None:
    """Log messages of this level and above; httpx logs every request at info, which is too much."""
    logging.basicConfig(level=level.upper(), handlers=[log_handler(sys.stderr, format)])
    logging.getLogger("httpx").setLevel(logging.WARNING)


def log_handler(stream: TextIO, format: LogFormat) -> logging.Handler:
    """A handler that writes lines of a format, each with the id of the request that it belongs to."""
    handler = logging.StreamHandler(stream)
    match format:
        case "console":
            handler.setFormatter(_ConsoleFormatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
        case "json":
            handler.setFormatter(_JsonFormatter())
        case _:
            assert_never(format)
    handler.addFilter(_FloodFilter())
    return handler


class _ConsoleFormatter(logging.Formatter):
    """One line per message, whatever a caller has put into it; tracebacks follow."""

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802 - logging's name
        line = super().formatMessage(record).translate(CONTROLS)
        request = REQUEST_ID.get()
        return line if request is None else f"{line} [request {request}]"


class _JsonFormatter(logging.Formatter):
    """One JSON object per line."""

    def format(self, record: logging.LogRecord) -> str:
        document = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage().encode("utf-8", "replace").decode(),
        }
        if (request := REQUEST_ID.get()) is not None:
            document["request_id"] = request
        if record.exc_info:
            document["exception"] = self.formatException(record.exc_info).encode("utf-8", "replace").decode()
        return orjson.dumps(document).decode()


class _FloodFilter(logging.Filter):
    """Passes `LINES_PER_WINDOW` lines of a statement in a window; the next window tells how many were left out.

    Where a line has a `kind`, of which there are few, each kind counts by itself.

    Lines of the audit pass, all of them.
    """

    def __init__(self) -> None:
        super().__init__()
        self._windows: dict[tuple[str, int, object], tuple[float, int]] = {}
        """Statement → when its window began, lines in it."""

    def filter(self, record: logging.LogRecord) -> bool:
        if record.name == AUDIT:
            return True
        statement = (record.pathname, record.lineno, getattr(record, "kind", None))
        now = time.monotonic()
        began, lines = self._windows.get(statement, (now, 0))
        if now - began >= WINDOW_S:
            if lines > LINES_PER_WINDOW:
                record.msg = f"{record.getMessage()} ({lines - LINES_PER_WINDOW} lines like this were left out)"
                record.args = None
            began, lines = now, 0
        self._windows[statement] = began, lines + 1
        return lines < LINES_PER_WINDOW
