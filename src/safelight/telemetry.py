"""Logs: one JSON object a line on standard error, by an allow-list of fields, without secrets.

Owns the shape of log lines, and that whatever ends up on standard error passes the last filter over
the finished text (`redaction`): also what Python itself would print there, which are the exceptions
that nobody catches and warnings. docs/metrics.md describes the line that each ended job is.
"""

from __future__ import annotations

import logging
import sys
import threading
from datetime import UTC, datetime
from types import TracebackType
from typing import TextIO

import msgspec

from safelight.redaction import redact

log = logging.getLogger("safelight.process")

FIELDS = (
    "request_id",
    "job_id",
    "jobs",
    "fault",
    "code",
    "account",
    "route",
    "status",
    "duration_ms",
    "customer_id",
    "key_id",
    "period",
    "share",
    "invariant",
    "check",
    "subject",
    "stored",
    "expected",
    "file",
    "backup",
    "worker",
    "channel",
    "size",
    "plan",
    "attempts",
    "queue_s",
    "generation_s",
    "total_s",
    "bytes",
    "price_micros",
    "cost_micros",
    "outcome",
    "prompt_length",
    "prompt_hash",
    "prompt",
    "alert_id",
    "rule",
    "value",
    "threshold",
    "address",
)
"""Extra fields that a line may carry; whatever else a record holds stays out."""


class JsonFormatter(logging.Formatter):
    """Formats a record as one line of JSON.

    Args:
        worker: number of this process, which every line then carries; None: it is the only one.
    """

    def __init__(self, worker: int | None = None) -> None:
        super().__init__()
        self._worker = worker

    def format(self, record: logging.LogRecord) -> str:
        """Return the line; a traceback goes in the field `trace`."""
        line: dict[str, object] = {
            "at": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        if self._worker is not None:
            line["worker"] = self._worker
        said = record.__dict__
        line.update({name: said[name] for name in FIELDS if said.get(name) is not None})
        if record.exc_info:
            line["trace"] = self.formatException(record.exc_info)
        return redact(msgspec.json.encode(line).decode())


class _Handler(logging.StreamHandler[TextIO]):
    """Writes to standard error; a line that cannot be made is said to be lost, and no more.

    The standard library would print the message and its arguments there, unfiltered.
    """

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802  (logging's name)
        """Say where the line would have come from."""
        sys.stderr.write(f'{{"level":"error","message":"a line of {record.name} is lost"}}\n')


def configure(level: str = "info", *, worker: int | None = None) -> None:
    """Send every log line of this process, and what Python itself says, to standard error.

    Args:
        level: the least that is told: debug, info, warning or error.
        worker: number of this process where several are one server.
    """
    # No line tells these, and finding them out is half of what a line costs (Python's HOWTO on
    # logging, "Optimization").
    logging.logThreads = logging.logProcesses = logging.logMultiprocessing = False
    handler = _Handler(sys.stderr)
    handler.setFormatter(JsonFormatter(worker))
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level.upper())
    for chatty in ("pyvips", "asyncio"):
        logging.getLogger(chatty).setLevel(logging.WARNING)
    # Malformed forms and requests are the caller's business and are answered; they are no event of
    # ours, and strangers without a key shall not fill the disk with lines.
    for telling_of_callers in ("python_multipart", "uvicorn.error"):
        logging.getLogger(telling_of_callers).setLevel(logging.ERROR)
    logging.captureWarnings(capture=True)
    sys.excepthook = _uncaught
    threading.excepthook = _uncaught_in_thread
    sys.unraisablehook = _unraisable


def _uncaught(kind: type[BaseException], error: BaseException, at: TracebackType | None) -> None:
    if issubclass(kind, KeyboardInterrupt):
        return
    log.critical("the process ends by an error", exc_info=(kind, error, at))


def _uncaught_in_thread(found: threading.ExceptHookArgs) -> None:
    if found.exc_value is not None and not isinstance(found.exc_value, SystemExit):
        told = (found.exc_type, found.exc_value, found.exc_traceback)
        log.error("a thread ended by an error", exc_info=told)


def _unraisable(found: sys.UnraisableHookArgs) -> None:
    # Not `found.object`: its repr is anybody's.
    if found.exc_value is not None:
        told = (found.exc_type, found.exc_value, found.exc_traceback)
        log.error("an error where none can be raised", exc_info=told)
