"""The phases of a batch, each from what its rows say to what they say next.

Owns their order: the file is read, lines become orders, ends are noted, files are written. Every
transaction is under `batches.hold`, so an older visit ends with its next one. `Batching` decides
when a visit comes.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from contextlib import aclosing
from functools import partial
from pathlib import Path

from safelight import batches
from safelight.batches import BatchRow, BatchStatus, lines
from safelight.batches.lines import LineEnd, LineRow, LineState
from safelight.config_batches import BatchesConfig
from safelight.db import Transaction
from safelight.errors import UnknownModel
from safelight.gateway import notifying
from safelight.gateway.batching.feeding import Feeder
from safelight.gateway.batching.forms import Forms
from safelight.gateway.batching.intake import Found, Intake, lines_of
from safelight.gateway.batching.results import LocalFile, Results
from safelight.gateway.filing import OUTPUT_PURPOSE, Filing
from safelight.gateway.parts import Parts

OUT_OF_TIME = "deadline_exceeded"
"""The code of a job whose deadline, here the end of its batch's window, has passed."""

CancelJob = Callable[[str, str], Awaitable[object]]
"""Cancels a customer's job: `Gateway.cancel`."""


class Phases:
    """Goes on with batches in this process.

    Args:
        parts: rooms below.
        feeder: makes orders of lines.
        cancel_job: cancels one.
        forms: answers lines.
        filing: names files.
        config: the operator's bounds.
        folder: where files are written before they are kept; emptied by others after a crash.
    """

    def __init__(
        self,
        parts: Parts,
        feeder: Feeder,
        *,
        cancel_job: CancelJob,
        forms: Forms,
        filing: Filing,
        config: BatchesConfig,
        folder: Path,
    ) -> None:
        self._parts = parts
        self._feeder = feeder
        self._cancel_job = cancel_job
        self._forms = forms
        self._filing = filing
        self._config = config
        self._folder = folder

    async def go_on(self, batch: BatchRow, visit: str) -> bool:
        """Do what is next; False when that must wait."""
        match batch.status:
            case BatchStatus.VALIDATING:
                await self._validate(batch, visit)
                return True
            case BatchStatus.IN_PROGRESS:
                return await self._feed(batch, visit)
            case BatchStatus.CANCELLING:
                return await self._wind_up(batch, visit)
            case _:
                await self._write_files(batch, visit)
                return True

    # --- validating ------------------------------------------------------------------------

    async def _validate(self, batch: BatchRow, visit: str) -> None:
        intake = Intake(
            batch.endpoint,
            max_lines=self._config.max_lines,
            max_line_bytes=self._config.max_line_bytes,
        )
        await self._parts.db.write(partial(self._keep_lines, batch, visit, None))
        page: list[LineRow] = []
        chunks = self._parts.storage.read(batch.input_digest)
        async with aclosing(lines_of(chunks, self._config.max_line_bytes)) as found_lines:
            async for found in found_lines:
                custom_id = intake.take(found)
                if intake.full:
                    break
                if custom_id is None or intake.faults:
                    continue
                page.append(self._row(found, custom_id))
                if len(page) == lines.INSERT_LINES:
                    await self._parts.db.write(partial(self._keep_lines, batch, visit, page))
                    page = []
        intake.end()
        self._check_model(intake)
        await self._parts.db.write(lambda tx: self._end_validation(tx, batch, visit, intake, page))
        self._parts.news.set()

    def _row(self, found: Found, custom_id: str) -> LineRow:
        return LineRow(
            line=found.line,
            id=self._parts.new_id("batch_req"),
            custom_id=custom_id,
            start=found.start,
            length=found.length,
        )

    def _keep_lines(
        self, batch: BatchRow, visit: str, added: list[LineRow] | None, tx: Transaction
    ) -> None:
        """Insert lines; None: begin anew, without those of an earlier visit."""
        batches.hold(tx, batch, visit)
        if added is None:
            lines.forget_lines(tx, batch.id)
        else:
            lines.add_lines(tx, batch.id, added)

    def _check_model(self, intake: Intake) -> None:
        if intake.model is None:
            return
        try:
            self._parts.channels.get(intake.model)
        except UnknownModel as error:
            intake.fault("model_not_found", error.message, param="body.model")

    def _end_validation(
        self, tx: Transaction, batch: BatchRow, visit: str, intake: Intake, last: list[LineRow]
    ) -> None:
        batches.hold(tx, batch, visit)
        batches.note_progress(tx, batch.id)
        if intake.faults:
            lines.forget_lines(tx, batch.id)
            batches.fail(tx, batch.id, intake.faults)
            _tell(tx, batch, BatchStatus.FAILED)
            return
        lines.add_lines(tx, batch.id, last)
        batches.begin(tx, batch.id, model=intake.model, total=intake.total)

    # --- in progress -----------------------------------------------------------------------

    async def _feed(self, batch: BatchRow, visit: str) -> bool:
        over = self._parts.clock.now_ms() >= batch.expires_at
        if not over and (await self._feeder.feed(batch, visit)).lines:
            return True  # ends are noted when nothing more is fed: the look is long where many wait
        ends = await self._parts.db.read(
            lambda tx: lines.ends_under_way(tx, batch.id, limit=lines.INSERT_LINES)
        )
        collected = 0
        if ends or over:
            collected = await self._parts.db.write(
                lambda tx: self._collect(tx, batch, visit, ends, over=over)
            )
        if over:
            await self._cancel_jobs(batch)
        done = await self._parts.db.write(lambda tx: self._finalize(tx, batch, visit))
        return done or collected > 0

    def _collect(
        self, tx: Transaction, batch: BatchRow, visit: str, ends: Sequence[LineEnd], *, over: bool
    ) -> int:
        """Note how lines have ended; with `over` let those that wait end, too."""
        batches.hold(tx, batch, visit)
        for end in ends:
            lines.end_line(tx, batch.id, end.line, _state_of(end, over=over))
        dropped = lines.drop_waiting(tx, batch.id, LineState.EXPIRED) if over else 0
        if ends or dropped:
            batches.note_progress(tx, batch.id)
        return len(ends) + dropped

    def _finalize(self, tx: Transaction, batch: BatchRow, visit: str) -> bool:
        batches.hold(tx, batch, visit)
        if _unended(tx, batch.id):
            return False
        batches.finalize(tx, batch.id)
        return True

    async def _cancel_jobs(self, batch: BatchRow) -> None:
        """Cancel what is queued; of a call under way the picture is still taken."""
        await self._feeder.unwant(batch)
        for job_id in await self._parts.db.read(lambda tx: lines.open_jobs_under_way(tx, batch.id)):
            await self._cancel_job(batch.customer_id, job_id)

    # --- the end ---------------------------------------------------------------------------

    async def _wind_up(self, batch: BatchRow, visit: str) -> bool:
        await self._cancel_jobs(batch)

        def work(tx: Transaction) -> bool:
            batches.hold(tx, batch, visit)
            if batch.in_progress_at is None:
                lines.forget_lines(tx, batch.id)
            lines.drop_waiting(tx, batch.id, LineState.CANCELLED)
            for end in lines.ends_under_way(tx, batch.id, limit=lines.INSERT_LINES):
                lines.end_line(tx, batch.id, end.line, _state_of(end, over=False))
            return not _unended(tx, batch.id)

        if not await self._parts.db.write(work):
            return False
        await self._write_files(batch, visit)
        return True

    async def _write_files(self, batch: BatchRow, visit: str) -> None:
        """Write the files, keep them, and end the batch with them in one transaction."""
        paths = [self._folder / f"{visit}-{kind}" for kind in ("output", "error")]
        try:
            await self._write_files_at(batch, visit, paths[0], paths[1])
        finally:
            for path in paths:
                path.unlink(missing_ok=True)

    async def _write_files_at(
        self, batch: BatchRow, visit: str, output_path: Path, error_path: Path
    ) -> None:
        results = Results(self._parts, self._forms, batch, inline_bytes=self._config.inline_bytes)

        def still_ours(tx: Transaction) -> None:
            batches.hold(tx, batch, visit)

        with LocalFile(output_path) as output, LocalFile(error_path) as errors:
            await results.write(output, errors, still_ours=still_ours)
        kept = [
            await self._filing.stage(
                file.path, purpose=OUTPUT_PURPOSE, filename=f"{batch.id}_{kind}.jsonl"
            )
            if file.lines
            else None
            for file, kind in ((output, "output"), (errors, "error"))
        ]

        def work(tx: Transaction) -> None:
            self._filing.claim(tx, [staged for staged in kept if staged is not None])
            batches.hold(tx, batch, visit)
            names: list[str | None] = []
            for staged in kept:
                if staged is not None:
                    self._filing.insert(tx, batch.customer_id, staged, keep_s=batch.keep_output_s)
                names.append(None if staged is None else staged.id)
            status = _end_of(tx, batch)
            batches.finish(
                tx,
                batch,
                status=status,
                output_file_id=names[0],
                error_file_id=names[1],
                usage=results.usage_object(),
            )
            _tell(tx, batch, status)

        await self._parts.db.write(work)
        self._parts.news.set()


def _tell(tx: Transaction, batch: BatchRow, status: BatchStatus) -> None:
    """Let whoever subscribed hear of the end, if this transaction is committed."""
    notifying.batch_ended(
        tx,
        batch_id=batch.id,
        customer_id=batch.customer_id,
        key_id=batch.key_id,
        status=status,
    )


def _unended(tx: Transaction, batch_id: str) -> bool:
    unended = (LineState.WAITING, LineState.UNDER_WAY)
    return bool(lines.lines_in(tx, batch_id, unended, after=0, limit=1))


def _state_of(end: LineEnd, *, over: bool) -> LineState:
    if end.pictures:
        return LineState.COMPLETED
    if end.cancelled:
        return LineState.EXPIRED if over else LineState.CANCELLED
    if end.failure is not None and end.failure.code == OUT_OF_TIME:
        return LineState.EXPIRED
    return LineState.FAILED


def _end_of(tx: Transaction, batch: BatchRow) -> BatchStatus:
    if batch.status is BatchStatus.CANCELLING:
        return BatchStatus.CANCELLED
    if lines.count_in(tx, batch.id, LineState.EXPIRED):
        return BatchStatus.EXPIRED
    return BatchStatus.COMPLETED
