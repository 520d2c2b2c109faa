"""Months of the books: their lines make up the change of the balance, whatever happened around."""

from __future__ import annotations

import asyncio
import csv
import io
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from attempt_books import VIP, AttemptBooks
from safelight import ledger
from safelight.cli import main
from safelight.clock import ManualClock
from safelight.db import Transaction
from safelight.db.address import DATABASE_FILE
from safelight.gateway.exports import PAGE, CustomerSum, ExportLine, MonthSums, month_lines
from safelight.gateway.reading import statement_page
from safelight.keyring import Keyring
from safelight.months import month_span
from safelight.office_books import OfficeBooks, UnknownAccount
from safelight.types import JobFailure
from safelight.vendor_usage import read_usage

MONTHS = ("2026-10", "2026-11", "2026-12", "2027-01")
BORDERS_MS = [month_span(month)[0] * 1000 for month in MONTHS]

Step = tuple[str, int, int]
"""What happens, how many milliseconds after the border before, and an amount."""

STEPS = st.lists(
    st.tuples(
        st.sampled_from(["topup", "adjust", "deliver", "fail", "refund", "border"]),
        st.sampled_from([0, 1, 999, 1000, 3_600_000]),
        st.integers(1, 10**7),
    ),
    max_size=25,
)


class History(AttemptBooks):
    """Books in which things happen at moments of a test's choosing."""

    def __init__(self, folder: Path, clock: ManualClock, *, url: str = "") -> None:
        super().__init__(folder, clock, url=url)
        self.wall = clock
        self._settled: list[str] = []
        self._borders = iter(BORDERS_MS[1:])

    async def play(self, number: int, step: Step) -> None:
        what, later_ms, amount = step
        self.wall.advance(later_ms / 1000)
        match what:
            case "border":
                at = next(self._borders, None)
                if at is not None and at > self.wall.now_ms():
                    # To the last millisecond before it: the next step may be the first after.
                    self.wall.advance((at - 1 - self.wall.now_ms()) / 1000)
            case "topup":
                await self.write(lambda tx: _topup(tx, number, amount))
            case "adjust":
                signed = amount if amount % 2 else -amount
                await self.write(lambda tx: _adjust(tx, number, signed))
            case "deliver":
                await self.deliver("a", price_micros=amount, cost_micros=amount // 3, took_s=0.5)
                self._settled.append(f"tr_{self._jobs}_settle")
            case "fail":
                await self.fail(amount)
            case "refund" if self._settled:
                settled = self._settled.pop()
                await self.write(lambda tx: _refund(tx, number, settled))

    async def fail(self, price_micros: int) -> None:
        job = await self.job(price_micros=price_micros)
        await self.send(job, "a")
        await self.end(job, "fast", sold=None)

        def release(tx: Transaction) -> None:
            tx.execute(
                "UPDATE job SET state = 'failed', completed_at = :now, failure = :failure "
                "WHERE id = :id",
                {
                    "id": job.id,
                    "now": tx.now_ms,
                    "failure": msgspec.json.encode(
                        JobFailure(status=503, type="server_error", code="gone", message="Gone.")
                    ).decode(),
                },
            )
            ledger.release(
                tx,
                transfer_id=f"{job.reserve_id}_release",
                reserve_id=job.reserve_id,
                actor="test",
                reason="gone",
            )

        await self.write(release)


def _topup(tx: Transaction, number: int, amount: int) -> None:
    ledger.topup(
        tx,
        transfer_id=f"tr_topup_{number}",
        customer_id="cus_1",
        amount_micros=amount,
        actor="test",
        reason="credit",
    )


def _adjust(tx: Transaction, number: int, amount: int) -> None:
    ledger.adjust(
        tx,
        transfer_id=f"tr_adjust_{number}",
        customer_id="cus_1",
        amount_micros=amount,
        actor="test",
        reason="corrected",
    )


def _refund(tx: Transaction, number: int, settle_id: str) -> None:
    ledger.refund(
        tx, transfer_id=f"tr_refund_{number}", settle_id=settle_id, actor="test", reason="blurred"
    )


async def open_history(folder: Path, url: str = "") -> History:
    clock = ManualClock()
    clock.advance(BORDERS_MS[0] / 1000 - clock.now_ms() / 1000)
    history = History(folder, clock, url=url)
    await history.open()
    return history


def month_csv(tx: Transaction, month: str) -> list[dict[str, str]]:
    """Return the lines that the statement's CSV has for a month, read back from text."""
    from_s, to_s = month_span(month)
    text = io.StringIO()
    writer: csv.DictWriter[str] | None = None
    after: str | None = None
    while True:
        page = statement_page(tx, "cus_1", after=after, limit=7, from_s=from_s, to_s=to_s)
        for line in page.lines:
            values = msgspec.structs.asdict(line)
            writer = writer or csv.DictWriter(text, list(values))
            if not text.tell():
                writer.writeheader()
            writer.writerow(values)
        if not page.has_more:
            return list(csv.DictReader(io.StringIO(text.getvalue())))
        after = page.lines[-1].id


@settings(
    max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(STEPS)
def test_the_lines_of_each_month_make_up_the_change_of_the_balance(
    tmp_path_factory: pytest.TempPathFactory, steps: list[Step]
) -> None:
    """To the micro-dollar, in the statement and in the export, and months leave nothing out."""
    folder = tmp_path_factory.mktemp("books")

    async def play() -> None:
        history = await open_history(folder)
        try:
            for number, step in enumerate(steps):
                await history.play(number, step)
            await history.db.read(check)
        finally:
            await history.db.close()

    def check(tx: Transaction) -> None:
        seen = 0
        for month in MONTHS:
            from_s, to_s = month_span(month)
            rows = month_csv(tx, month)
            before = ledger.posted_before(tx, "cus_1", from_s * 1000)
            after = ledger.posted_before(tx, "cus_1", to_s * 1000)
            assert before == seen
            assert sum(int(row["amount_micros"]) for row in rows) == after - before
            if rows:
                assert int(rows[-1]["balance_micros"]) == after
            sums = MonthSums()
            lines = list(month_lines(tx, sums, customer=None, from_s=from_s, to_s=to_s))
            assert [made.line.id for made in lines] == [row["id"] for row in rows]
            assert sums.adds_up
            assert sums.lines_micros == after - before
            assert (sums.opening_micros, sums.closing_micros) == (before, after)
            seen = after
        assert seen == ledger.balance(tx, "cus_1").posted_micros

    asyncio.run(play())


async def test_a_jobs_attempts_and_costs_stand_on_one_line_only(
    tmp_path: Path, database_url: str
) -> None:
    """On the line that ended the job; a refund in a later month costs the vendor nothing more."""
    history = await open_history(tmp_path, database_url)
    await history.play(0, ("deliver", 0, 30_000))
    await history.play(1, ("fail", 1000, 30_000))
    await history.play(2, ("border", 0, 0))
    await history.play(3, ("refund", 1000, 0))

    def month(name: str) -> tuple[list[ExportLine], MonthSums]:
        from_s, to_s = month_span(name)
        sums = MonthSums()

        def read(tx: Transaction) -> list[ExportLine]:
            return list(month_lines(tx, sums, customer="one", from_s=from_s, to_s=to_s))

        return asyncio.run_coroutine_threadsafe(history.db.read(read), loop).result(), sums

    loop = asyncio.get_running_loop()
    lines, sums = await asyncio.to_thread(month, MONTHS[0])
    assert [made.line.kind for made in lines] == ["settle", "release"]
    assert [len(made.attempts) for made in lines] == [1, 1]
    assert [made.margin_micros for made in lines] == [20_000, 0]
    assert lines[1].line.reason == "gone"
    channel = sums.channels[VIP]
    assert (channel.charged, channel.free, channel.attempts) == (1, 1, 2)
    assert (channel.cost_micros, channel.cost_complete) == (10_000, False)
    lines, sums = await asyncio.to_thread(month, MONTHS[1])
    assert [(made.line.kind, made.attempts, made.cost.micros) for made in lines] == [
        ("refund", (), 0)
    ]
    assert sums.channels[VIP].amount_micros == 30_000
    await history.db.close()


async def test_an_unknown_customer_is_an_error(tmp_path: Path, database_url: str) -> None:
    history = await open_history(tmp_path, database_url)
    books = OfficeBooks(history.db, b"pepper")

    def take(lines: Iterator[ExportLine], _sums: MonthSums) -> None:
        list(lines)

    with pytest.raises(LookupError, match="nobody"):
        await books.export(take, customer="nobody", from_s=0, to_s=1)
    await history.db.close()


async def test_receipts_and_reconciliation_read_both_databases(
    tmp_path: Path, database_url: str
) -> None:
    """The same answers, whichever keeps the books."""
    history = await open_history(tmp_path, database_url)
    await history.play(0, ("deliver", 0, 30_000))
    await history.play(1, ("refund", 1000, 0))
    await history.play(2, ("fail", 1000, 30_000))
    books = OfficeBooks(history.db, b"pepper")
    receipt = await books.receipt("job_1")
    assert [one.kind for one in receipt.movements] == ["reserve", "settle", "refund"]
    assert (receipt.charged_micros, receipt.free_reason) == (0, "blurred")
    assert receipt.cost.micros == 10_000
    with pytest.raises(LookupError):
        await books.receipt("job_none")
    found = await books.reconcile(read_usage(["request_id\n"]), group="org")
    assert (found.waste, found.settled, found.unknown) == (0, 1, 1)
    assert sorted(one.what for one in found.differences) == ["missing", "unknown_unsold"]
    with pytest.raises(UnknownAccount, match="known: a"):
        await books.reconcile(read_usage([""]), account="b")
    await history.db.close()


class Counting:
    """A transaction that notes how many rows each read gave."""

    def __init__(self, tx: Transaction) -> None:
        self._tx = tx
        self.now_ms = tx.now_ms
        self.most = 0

    def all(self, sql: str, params: object = None) -> list[object]:
        rows = self._tx.all(sql, params)  # type: ignore[arg-type]
        self.most = max(self.most, len(rows))
        return list(rows)

    def one(self, sql: str, params: object = None) -> object:
        return self._tx.one(sql, params)  # type: ignore[arg-type]


async def test_a_long_month_is_read_in_pages(tmp_path: Path) -> None:
    """Lines come while they are taken: no read is longer than a page, no page before its time."""
    history = await open_history(tmp_path)
    count = 3 * PAGE + 7

    def fill(tx: Transaction) -> None:
        for number in range(count):
            _topup(tx, number, 1)

    await history.write(fill)
    from_s, to_s = month_span(MONTHS[0])

    def read(tx: Transaction) -> tuple[int, int, int]:
        counting, sums = Counting(tx), MonthSums()
        lines = month_lines(
            counting,  # type: ignore[arg-type]
            sums,
            customer=None,
            from_s=from_s,
            to_s=to_s,
        )
        next(lines)
        first = sums.customers[0].lines
        rest = sum(1 for _ in lines)
        return first, rest, counting.most

    first, rest, most = await history.db.read(read)
    assert (first, rest) == (1, count - 1)
    assert most <= PAGE + 1
    await history.db.close()


# --- the command ---------------------------------------------------------------------------------


async def _played(folder: Path) -> None:
    history = await open_history(folder)
    steps: list[Step] = [
        ("topup", 0, 1_000_000),
        ("deliver", 1000, 30_000),
        ("fail", 1000, 30_000),
        ("border", 0, 0),
        ("deliver", 1, 40_000),
        ("refund", 1000, 0),
    ]
    for number, step in enumerate(steps):
        await history.play(number, step)
    await history.db.close()
    Keyring.load_or_create(folder)


@pytest.fixture
def played(tmp_path: Path) -> Path:
    asyncio.run(_played(tmp_path))
    assert (tmp_path / DATABASE_FILE).is_file()
    return tmp_path


def test_the_csv_on_standard_output_is_a_file_and_nothing_more(
    played: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The sums are a remark beside it."""
    assert main(["export", "--month", "2026-10", "--data", str(played)]) == 0
    shown = capsys.readouterr()
    rows = list(csv.DictReader(io.StringIO(shown.out)))
    assert [row["kind"] for row in rows] == ["topup", "settle", "release"]
    assert sum(int(row["amount_micros"]) for row in rows) == 970_000
    assert (rows[1]["vendor_cost_micros"], rows[1]["margin_micros"]) == ("10000", "20000")
    assert (rows[2]["amount_micros"], rows[2]["reason"]) == ("0", "gone")
    (call,) = msgspec.json.decode(rows[2]["attempt_details"])
    assert (call["account"], call["outcome"], call["sold"]) == ("a", "fast", None)
    assert "opening 0.000000 + lines 0.970000 = closing 0.970000" in shown.err
    assert "(topup)" in shown.err


def test_the_json_has_lines_and_sums(played: Path, tmp_path: Path) -> None:
    out = tmp_path / "november.json"
    argv = ["export", "--month", "2026-11", "--customer", "one", "--format", "json"]
    assert main([*argv, "--out", str(out), "--data", str(played)]) == 0
    found = msgspec.json.decode(out.read_bytes())
    assert (found["object"], found["month"], found["adds_up"]) == ("export", "2026-11", True)
    assert [line["kind"] for line in found["data"]] == ["settle", "refund"]
    assert [line["vendor_cost_micros"] for line in found["data"]] == [13_333, 0]
    assert [len(line["attempt_details"]) for line in found["data"]] == [1, 0]
    assert found["customers"] == [
        {
            "customer": "one",
            "opening_micros": 970_000,
            "lines": 2,
            "lines_micros": 0,
            "closing_micros": 970_000,
            "adds_up": True,
        }
    ]
    (channel,) = found["channels"]
    assert (channel["charged"], channel["refunded"], channel["amount_micros"]) == (1, 1, 0)
    assert not list(tmp_path.glob(".export-*"))


def test_a_month_without_lines_is_an_empty_export(
    played: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["export", "--month", "2025-01", "--format", "json", "--data", str(played)]) == 0
    found = msgspec.json.decode(capsys.readouterr().out)
    assert (found["data"], found["adds_up"]) == ([], True)


@pytest.mark.parametrize(
    ("argv", "code", "says"),
    [
        (["--month", "2026-13"], 2, "2026-11"),
        (["--month", "9999-12"], 2, "2026-11"),
        (["--month", "2026-10", "--customer", "nobody"], 1, "nobody"),
        (["--month", "2026-10", "--out", "no-such-folder/x.csv"], 1, "no-such-folder"),
    ],
)
def test_what_cannot_be_exported_is_said(
    played: Path, capsys: pytest.CaptureFixture[str], argv: list[str], code: int, says: str
) -> None:
    """And nothing stands on standard output."""
    assert main(["export", *argv, "--data", str(played)]) == code
    shown = capsys.readouterr()
    assert says in shown.err
    assert shown.out == ""


def test_lines_that_do_not_make_up_the_balances_do_not_pass() -> None:
    """The check compares what was written with what the ledger says, customer by customer."""
    sums = MonthSums()
    for name, lines in (("one", 5), ("two", -5)):
        sums.customers.append(CustomerSum(customer=name, opening_micros=0, closing_micros=0))
        sums.customers[-1].lines_micros = lines
    assert sum(one.lines_micros for one in sums.customers) == 0
    assert not sums.adds_up
