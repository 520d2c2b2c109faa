"""How far a run is, on standard error: bars on a terminal, a plain line now and then elsewhere.

Owns the look alone; the numbers are the runner's snapshots.
"""

from __future__ import annotations

import time
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, Progress, SpinnerColumn, TaskID, TextColumn

from safelight.cli import output
from safelight.cli.run_report import count, dollars, duration
from safelight.client.runs import Snapshot

LINE_S = 10.0
"""How often a line is written where there is no terminal."""


class Display:
    """Shows snapshots between entry and exit; `quiet` shows nothing, for `--json`."""

    def __init__(self, *, quiet: bool, console: Console | None = None) -> None:
        self.begun = False
        self._quiet = quiet
        self._console = console or output.err()
        self._live = self._console.is_terminal and not quiet
        self._progress = Progress(
            SpinnerColumn(finished_text=" "),
            TextColumn("[bold]{task.completed:.0f}[/]/{task.total:.0f}"),
            BarColumn(bar_width=None),
            TextColumn("{task.percentage:>3.0f}%"),
            TextColumn("{task.fields[pace]}"),
            TextColumn("[bold]{task.fields[cost]}[/]"),
            TextColumn("{task.fields[left]}"),
            TextColumn("[dim]{task.fields[trouble]}[/]"),
            console=self._console,
            expand=True,
            disable=not self._live,
            transient=True,
        )
        self._task: TaskID | None = None
        self._total = 0
        self._told_at = 0.0
        self._told_share = -1

    def begin(self, total: int, done: int) -> None:
        """Show the bar: the run begins."""
        self.begun = True
        self._total = total
        self._told_at = time.monotonic()
        self._task = self._progress.add_task(
            "", total=total, completed=done, pace="", cost="", left="", trouble=""
        )
        self._progress.start()

    def changed(self, now: Snapshot) -> None:
        """Show how far the run is."""
        if self._quiet or self._task is None:
            return
        if self._live:
            self._progress.update(
                self._task,
                completed=now.done,
                pace=_pace(now),
                cost=dollars(now.cost_micros),
                left=_left(now),
                trouble=_trouble(now),
            )
            return
        share = 10 * now.done // max(now.total, 1)
        moment = time.monotonic()
        if moment - self._told_at < LINE_S and (share == self._told_share or not now.done):
            return
        self._told_at, self._told_share = moment, share
        facts = (_pace(now), dollars(now.cost_micros), _left(now), _trouble(now))
        told = ", ".join(fact for fact in facts if fact)
        self._console.print(f"{now.done} of {now.total} done, {told}", markup=False)

    def said(self, remark: str) -> None:
        """Print what happened, above the bar."""
        if not self._quiet:
            self._progress.console.print(f"[dim]{escape(remark)}[/]")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._progress.stop()


def _pace(now: Snapshot) -> str:
    running = f"{now.running} running" if now.running else ""
    rate = f"{now.per_minute:.0f}/min" if now.per_minute >= 1 else ""
    judged = f"{now.judging} checked" if now.judging else ""
    return ", ".join(fact for fact in (running, judged, rate) if fact)


def _left(now: Snapshot) -> str:
    if now.stopping:
        return "stopping"
    if now.left_s is None or now.done >= now.total:
        return ""
    return f"{duration(now.left_s)} left"


def _trouble(now: Snapshot) -> str:
    facts = (
        (now.retries, "retry", "retries"),
        (now.rerolls, "re-roll", "re-rolls"),
        (now.review, "to review", "to review"),
        (now.failed, "failed", "failed"),
    )
    return ", ".join(count(number, one, many) for number, one, many in facts if number)
