"""CPU time and memory of a process and its descendants, from the kernel (Linux).

Owns the reading only. The clock ticks of /proc/<pid>/stat (10 ms) are too coarse for a relay that
takes 20 microseconds a request, so running processes are read through their CPU clock, in
nanoseconds; only children that have ended are in ticks. Elsewhere the answer is None: not measured.
"""

from __future__ import annotations

import contextlib
import os
import re
import time
from dataclasses import dataclass
from pathlib import Path

_PROC = Path("/proc")
_CPUCLOCK_SCHED = 2
_CLEAR_PEAK = "5"
"""What proc_pid_clear_refs(5) takes for VmHWM."""


@dataclass(frozen=True, slots=True)
class Memory:
    """Resident memory in bytes: now, and the highest since the process began."""

    now: int
    peak: int


def cpu_seconds(pid: int) -> float | None:
    """Return user and system seconds of a process, its threads and its descendants."""
    if not (_PROC / str(pid)).is_dir():
        return None
    return sum(_cpu_clock_s(one) + _ended_children_s(one) for one in _tree(pid))


def memory(pid: int) -> Memory | None:
    """Return the resident memory of a process and its descendants."""
    found = [_memory(one) for one in _tree(pid)] if (_PROC / str(pid)).is_dir() else []
    if not found:
        return None
    return Memory(sum(one.now for one in found), sum(one.peak for one in found))


def forget_peak(pid: int) -> None:
    """Let the highest resident memory of a process and its descendants begin anew.

    Where the kernel does not do that, the peak stays what it was: too high, never too low.
    """
    for one in _tree(pid):
        with contextlib.suppress(OSError):
            (_PROC / str(one) / "clear_refs").write_text(_CLEAR_PEAK)


def children(pid: int) -> list[int]:
    """Return the living children of a process, whichever of its threads began them."""
    lists = (_PROC / str(pid) / "task").glob("*/children")
    return [int(child) for one in lists for child in _read(one).split()]


def _tree(pid: int) -> list[int]:
    """Return the process and its living descendants."""
    found = [pid]
    for one in found:
        found += children(one)
    return found


def _cpu_clock_s(pid: int) -> float:
    # How Linux numbers the CPU clock of another process; clock_getcpuclockid(3) does the same.
    try:
        return time.clock_gettime_ns((~pid << 3) | _CPUCLOCK_SCHED) / 1e9
    except OSError:  # it has just ended
        return 0.0


def _ended_children_s(pid: int) -> float:
    # proc_pid_stat(5): cutime and cstime, fields 16 and 17; the name in field 2 may hold blanks.
    fields = _read(_PROC / str(pid) / "stat").rpartition(")")[2].split()
    return (int(fields[13]) + int(fields[14])) / os.sysconf("SC_CLK_TCK") if fields else 0.0


def _memory(pid: int) -> Memory:
    text = _read(_PROC / str(pid) / "status")
    return Memory(_kilobytes(text, "VmRSS") * 1024, _kilobytes(text, "VmHWM") * 1024)


def _kilobytes(text: str, name: str) -> int:
    match = re.search(rf"^{name}:\s+(\d+) kB$", text, re.MULTILINE)
    return int(match[1]) if match else 0


def _read(path: Path) -> str:
    try:
        return path.read_text()
    except OSError:
        return ""
