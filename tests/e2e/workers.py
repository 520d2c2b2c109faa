"""What tests know of the processes of one server: who they are, and what their logs have said."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from e2e.process import GatewayProcess


def children(gateway: GatewayProcess) -> list[int]:
    """Return the process ids of the server's processes, as the kernel lists them."""
    assert gateway.process is not None
    tasks = Path(f"/proc/{gateway.process.pid}/task").glob("*/children")
    return sorted(int(word) for task in tasks for word in task.read_text().split())


def log_lines(gateway: GatewayProcess) -> list[dict[str, Any]]:
    """Return what the server has logged so far."""
    lines = gateway.log.read_text().splitlines()
    return [json.loads(line) for line in lines if line.startswith("{")]


def said(gateway: GatewayProcess, message: str) -> list[dict[str, Any]]:
    """Return the log lines with a message."""
    return [line for line in log_lines(gateway) if line["message"] == message]


def until(condition: Callable[[], object], seconds: float = 60) -> None:
    """Look again and again until a condition holds; fail when it does not in time."""
    deadline = time.monotonic() + seconds
    pause = threading.Event()
    while not condition():
        assert time.monotonic() < deadline, f"not within {seconds} s: {condition}"
        pause.wait(0.05)


def gone(pid: int) -> bool:
    """Return whether a process has ended; one that nobody has waited for yet counts as ended."""
    try:
        status = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return True
    return status.rpartition(")")[2].split()[0] in "ZX"
