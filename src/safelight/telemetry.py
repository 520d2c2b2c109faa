"""Logs: one JSON object a line on standard error, by an allow-list of fields, without secrets.

Owns the shape of log lines and the last filter over the finished text. docs/metrics.md describes
the line that each ended job is.
"""

from __future__ import annotations

import logging
import re
import sys
from datetime import UTC, datetime

import msgspec

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

_SECRETS = re.compile(r"\b(sl_live_|sl_admin_|sk-|sess-|org-|Bearer )[A-Za-z0-9_\-]{6,}")


def redact(text: str) -> str:
    """Return text with everything that looks like a credential blotted out."""
    return _SECRETS.sub(r"\1***", text)


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


def configure(level: int = logging.INFO, *, worker: int | None = None) -> None:
    """Send every log line of this process to standard error.

    Args:
        level: the least that is told.
        worker: number of this process where several are one server.
    """
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonFormatter(worker))
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level)
    for chatty in ("uvicorn.error", "pyvips", "asyncio"):
        logging.getLogger(chatty).setLevel(logging.WARNING)
    # A malformed form is the caller's business and is answered; it is no event of ours.
    logging.getLogger("python_multipart").setLevel(logging.ERROR)
