"""A measurement of the bench, run from the command line: its progress, and its end by a signal.

Owns neither what is measured nor how it is shown.
"""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

from safelight.cli import output

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
