"""A measurement of the bench, run from the command line: progress, end by a signal, report kept.

Owns neither what is measured nor how it is shown.
"""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Callable, Coroutine, Mapping
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from safelight.cli import output
from safelight.cli.errors import CliError, ExitCode
from safelight.cli.picture import write_atomically

ReportT = TypeVar("ReportT")


def measured(
    run: Callable[[Callable[[str], None]], Coroutine[Any, Any, ReportT]],
    loop_factory: Callable[[], asyncio.AbstractEventLoop] | None = None,
) -> ReportT:
    """Measure with progress on standard error; SIGTERM ends it as Ctrl-C does.

    Args:
        run: the measurement; it is given what takes its progress, in a few words.
        loop_factory: makes its event loop; None: asyncio's own.
    """

    async def main() -> ReportT:
        task = asyncio.current_task()
        assert task is not None
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)
        with output.err().status("starting") as status:
            return await run(status.update)

    with asyncio.Runner(loop_factory=loop_factory) as runner:
        try:
            return runner.run(main())
        except asyncio.CancelledError:
            raise KeyboardInterrupt from None


def require_folders(chosen: Mapping[str, Path | None]) -> None:
    """Look, before minutes of measuring, whether there is a place for what comes of them.

    Args:
        chosen: by option, where its file or folder is to be; None: it was not asked for.

    Raises:
        CliError: the folder above one of them is not there.
    """
    for option, path in chosen.items():
        if path is not None and not path.absolute().parent.is_dir():
            raise CliError(f"{option}: there is no folder {path.parent}", exit_code=ExitCode.USAGE)


def keep(report: msgspec.Struct, out: Path | None) -> None:
    """Write a report as JSON, if that was asked for."""
    if out is not None:
        write_atomically(out, msgspec.json.format(msgspec.json.encode(report)) + b"\n")
