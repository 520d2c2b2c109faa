"""The live line while a picture is made: what happens and for how long, on standard error.

On a terminal one line that redraws itself; elsewhere only the remarks that a log needs: retries.
"""

from __future__ import annotations

from types import TracebackType
from typing import Self

from rich.markup import escape
from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

from safelight.cli import output


class Waiting:
    """Shows progress between entry and exit; `quiet` shows nothing, for `--json`."""

    def __init__(self, text: str, *, quiet: bool) -> None:
        self._console = output.err()
        self._quiet = quiet
        self._progress = Progress(
            SpinnerColumn(),
            TextColumn("{task.description}"),
            TimeElapsedColumn(),
            console=self._console,
            transient=True,
            disable=quiet or not self._console.is_terminal,
        )
        self._task = self._progress.add_task(escape(text), total=None)

    def stage(self, text: str) -> None:
        """Replace the text of the line."""
        self._progress.update(self._task, description=escape(text))

    def trying_again(self, reason: str, wait_s: float) -> None:
        """Remark that a try failed and another follows."""
        if self._quiet:
            return
        remark = f"{reason}; trying again in {wait_s:.1f} s"
        if self._console.is_terminal:
            self.stage(remark)
        else:
            self._console.print(escape(remark))

    def __enter__(self) -> Self:
        self._progress.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._progress.stop()
