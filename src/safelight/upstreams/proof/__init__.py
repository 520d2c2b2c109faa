"""The proof upstream: draws every picture on this machine, with no account.

Owns the adapter: worker threads, the deadline, partial images, the spool file. What a picture looks
like is decided in the modules beside this one, from the text of the prompt to the pixels:

    brief, words      what the prompt asks for; word lists in several languages
    canvas            how many pixels
    palette, colour   its colours
    scene, scenes_*   its composition, on a drawing
    pictures          input pictures and masks
    staging           a product in a setting; a picture that lends its style
    fonts, lettering  its words (coverage: what a font can draw)
    sheet, painter    all of it laid out, then painted (raster: SVG to pixels)
    studio            the steps in order, and the file formats

A proof says on the picture that it is one. The same call content always gives the same picture.
"""

from __future__ import annotations

import asyncio
import logging
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import msgspec
import pyvips

from safelight.clock import Clock
from safelight.errors import FaultClass, UpstreamError
from safelight.types import Account, Received, UpstreamCall
from safelight.upstreams import PartialSink
from safelight.upstreams.options import read_options
from safelight.upstreams.proof.studio import Rendering
from safelight.upstreams.spool import Spool

__all__ = ["ProofUpstream"]

_log = logging.getLogger(__name__)

_WORKERS = 2
_CHUNK_BYTES = 256 * 1024


class _Options(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A renderer on this machine has nothing to choose."""


class _AbandonedError(Exception):
    """Nobody waits for this picture any more."""


def _late() -> UpstreamError:
    return UpstreamError(
        FaultClass.SLOW,
        "upstream_timeout",
        "The proof was not finished by the request's deadline.",
    )


class _Ticket:
    """The right to go on with one picture: until the deadline, and while somebody waits."""

    def __init__(self, clock: Clock, deadline: float) -> None:
        self._clock = clock
        self._deadline = deadline
        self._abandoned = threading.Event()

    @property
    def left_s(self) -> float:
        """Seconds until the deadline, negative when it has passed."""
        return self._deadline - self._clock.monotonic()

    @property
    def live(self) -> bool:
        """Whether somebody still waits."""
        return not self._abandoned.is_set()

    def abandon(self) -> None:
        """Tell the worker to stop at its next checkpoint."""
        self._abandoned.set()

    def check(self) -> None:
        """Return if the work is still wanted and in time."""
        if not self.live:
            raise _AbandonedError
        if self.left_s <= 0:
            raise _late()


def _draw(
    call: UpstreamCall, rendering: Rendering, spool: Path, announce: PartialSink | None
) -> bytes:
    """Return the picture's bytes; every failure leaves as an `UpstreamError`. Blocks."""
    try:
        return rendering.run(spool, announce)
    except (UpstreamError, _AbandonedError):
        raise
    except OSError as error:
        raise _local_fault(error) from error
    except pyvips.Error as error:
        _log.warning("libvips failed on job %s: %s", call.job_id, error)
        raise _bad_output() from error
    # The seam lets nothing but UpstreamError leave an adapter; a bug is logged with its traceback.
    except Exception as error:
        _log.exception("drawing failed on job %s", call.job_id)
        raise _bad_output() from error


def _bad_output() -> UpstreamError:
    return UpstreamError(
        FaultClass.BAD_OUTPUT, "upstream_bad_output", "The proof could not be drawn."
    )


def _local_fault(error: OSError) -> UpstreamError:
    _log.error("the proof upstream could not write a file: %s", error.strerror)
    return UpstreamError(
        FaultClass.LOCAL,
        "storage_failed",
        "The proof could not be written to disk.",
        final_status=503,
    )


def _store(spool: Path, data: bytes) -> Received:
    try:
        with Spool(spool) as target:
            for at in range(0, len(data), _CHUNK_BYTES):
                target.write(data[at : at + _CHUNK_BYTES])
            return target.commit()
    except OSError as error:
        raise _local_fault(error) from error


class ProofUpstream:
    """Draws labelled proofs with libvips, in two worker threads.

    Args:
        clock: for deadlines.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._workers = ThreadPoolExecutor(_WORKERS, thread_name_prefix="proof")

    def check(self, account: Account) -> Account:
        """Return the account as it is; see `Upstream.check`.

        Raises:
            ConfigError: it has options.
        """
        read_options(account, _Options)
        return account

    async def probe(self, account: Account, *, deadline: float) -> None:
        """Return: there is no credential to refuse; see `Upstream.probe`."""

    async def generate(
        self,
        account: Account,  # noqa: ARG002 - the seam's; a proof needs no credential
        call: UpstreamCall,
        *,
        spool: Path,
        deadline: float,
        on_partial: PartialSink | None = None,
    ) -> Received:
        """Draw one picture; see `Upstream.generate`.

        Raises:
            UpstreamError: CLIENT (`invalid_value` on size, `invalid_image`), SLOW past the
                deadline, BAD_OUTPUT when libvips fails, LOCAL when the disk does.
        """
        ticket = _Ticket(self._clock, deadline)
        ticket.check()
        loop = asyncio.get_running_loop()

        def deliver(index: int, path: Path) -> None:
            if on_partial is not None and ticket.live:
                on_partial(index, path)
            else:
                path.unlink(missing_ok=True)

        def announce(index: int, path: Path) -> None:
            ticket.check()
            loop.call_soon_threadsafe(deliver, index, path)

        rendering = Rendering(call, ticket.check)
        wanted = announce if on_partial is not None and call.partial_images > 0 else None
        future = loop.run_in_executor(self._workers, _draw, call, rendering, spool, wanted)
        # An abandoned worker still ends with an exception; somebody has to look at it.
        future.add_done_callback(lambda done: done.cancelled() or done.exception())
        try:
            await asyncio.wait({future}, timeout=max(0.0, ticket.left_s))
            if not future.done():
                raise _late()
            data = future.result()
            ticket.check()
        finally:
            ticket.abandon()
            future.cancel()
        return await asyncio.to_thread(_store, spool, data)

    async def close(self) -> None:
        """End the worker threads."""
        await asyncio.to_thread(self._workers.shutdown, cancel_futures=True)
