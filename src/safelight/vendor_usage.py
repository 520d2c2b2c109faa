"""What a vendor says it sold: its usage export, read into calls or into sums over time.

Owns the forms that are accepted (docs/cli.md, "safelight reconcile") and every judgement about
their fields; compares nothing and knows no attempt of ours. Money is read as decimal numbers and
rounded up to whole micro-dollars, as our own costs are.
"""

from __future__ import annotations

import csv
import io
import itertools
import json
import re
from collections.abc import Iterable, Iterator, Mapping
from datetime import UTC, datetime
from decimal import ROUND_CEILING, Decimal, InvalidOperation
from typing import Any

import msgspec

from safelight.money import MICROS_MAX, MICROS_PER_DOLLAR
from safelight.types import Micros

ID_COLUMNS = (
    *("request_id", "x_request_id", "upstream_request_id", "vendor_request_id"),
    *("apim_request_id", "correlation_id", "correlationid", "call_id", "id"),
)
TIME_COLUMNS = (
    *("time", "timestamp", "at", "created_at", "created", "date", "datetime"),
    *("request_time", "start_time", "started_at"),
)
MODEL_COLUMNS = ("model", "model_name", "deployment", "deployment_name")
IMAGES_COLUMNS = ("images", "image_count", "num_images", "pictures", "quantity", "n")
COST_COLUMNS = ("cost", "cost_usd", "amount", "amount_usd", "total_cost", "price", "price_usd")
MICROS_COLUMNS = ("cost_micros", "amount_micros", "vendor_cost_micros", "price_micros")

_IMAGES_OBJECT, _COSTS_OBJECT = "organization.usage.images.result", "organization.costs.result"
_Time = tuple[int, int]
"""From when to before when, milliseconds since 1970."""
_MILLISECONDS_FROM = 10**11
"""A number of this size is milliseconds: as seconds it would be after the year 5000."""
_TIME_MAX = 253_402_300_799


class UnreadableExport(ValueError):
    """The file is no usage export of a known form; the text says what and where."""


class Call(msgspec.Struct, frozen=True, kw_only=True):
    """One call as the vendor billed it. `at` in milliseconds since 1970, `row` counts from 1.

    `images` 0: it was made but not sold. None: the export does not say.
    """

    row: int
    id: str | None = None
    at: int | None = None
    model: str | None = None
    images: int = 1
    cost_micros: Micros | None = None


class Bucket(msgspec.Struct, frozen=True, kw_only=True):
    """A sum over the time from `start` to before `end`, milliseconds since 1970."""

    start: int
    end: int
    amount: int
    """Pictures, or micro-dollars."""


class VendorUsage(msgspec.Struct, frozen=True, kw_only=True):
    """An export: single calls, or sums of pictures and of costs over time, each in order."""

    calls: tuple[Call, ...] = ()
    images: tuple[Bucket, ...] = ()
    costs: tuple[Bucket, ...] = ()
    remarks: tuple[str, ...] = ()

    @property
    def by_time(self) -> bool:
        """Whether it has sums over time in place of calls."""
        return bool(self.images or self.costs)


def read_usage(texts: Iterable[str]) -> VendorUsage:
    """Read the files of one export: CSV, JSON, JSON Lines, or pages of OpenAI's usage and costs.

    Raises:
        UnreadableExport: a file is none of these, or a field cannot be read.
    """
    calls: list[Mapping[str, Any]] = []
    sums: list[_Sums] = []
    for number, text in enumerate(texts, 1):
        rows = list(_rows(text))
        buckets = [row for row in rows if _is_bucket(row)]
        calls += [row for row in rows if not _is_bucket(row)]
        if buckets:
            sums.append(_Sums(buckets, f"file {number}"))
    if calls and sums:
        raise UnreadableExport("single calls and sums over time do not go together in one export")
    return _together_in_time(sums) if sums else _calls(calls)


# --- forms ---------------------------------------------------------------------------------------


def _rows(text: str) -> Iterator[Mapping[str, Any]]:
    """Yield the rows of one file, whatever its form: calls, or buckets."""
    text = text.removeprefix("\ufeff").strip()
    if text[:1] in ("{", "["):
        for document in _documents(text):
            yield from _json_rows(document)
    elif text:
        yield from _csv_rows(text)


def _documents(text: str) -> list[Any]:
    """Return the JSON of a file: one document, or one in each line."""
    try:
        return [_json(text)]
    except ValueError as whole:
        lines = [line for line in text.splitlines() if line.strip()]
        if len(lines) < 2:
            raise UnreadableExport(f"this is no JSON: {whole}") from whole
    documents = []
    for number, line in enumerate(lines, 1):
        try:
            documents.append(_json(line))
        except ValueError as error:
            raise UnreadableExport(f"line {number} is no JSON: {error}") from error
    return documents


def _json(text: str) -> Any:
    # Decimals: a float would not carry every amount.
    return json.loads(text, parse_float=Decimal)


def _json_rows(document: Any) -> Iterator[Mapping[str, Any]]:
    if isinstance(document, list):
        for element in document:
            yield from _json_rows(element)
    elif isinstance(document, dict):
        data = document.get("data")
        if isinstance(data, list):
            yield from _json_rows(data)
        else:
            yield document
    else:
        raise UnreadableExport("an export's rows are JSON objects")


def _csv_rows(text: str) -> Iterator[Mapping[str, Any]]:
    head = text.splitlines()[0]
    delimiter = max(",;\t", key=head.count)
    reader = csv.DictReader(io.StringIO(text, newline=""), delimiter=delimiter, restkey="")
    try:
        yield from reader
    except csv.Error as error:
        raise UnreadableExport(f"line {reader.line_num} is no CSV: {error}") from error


# --- calls ---------------------------------------------------------------------------------------


def _calls(rows: list[Mapping[str, Any]]) -> VendorUsage:
    calls: list[Call] = []
    place_of: dict[str, int] = {}
    merged = 0
    for number, row in enumerate(rows, 1):
        call, counted = _call(number, row)
        place = None if call.id is None else place_of.get(call.id)
        if place is not None:
            calls[place] = _as_one(calls[place], call, counted=counted)
            merged += 1
            continue
        if call.id is not None:
            place_of[call.id] = len(calls)
        calls.append(call)
    remarks = (f"{merged} rows share the id of another one and were added to it",) if merged else ()
    return VendorUsage(calls=tuple(calls), remarks=remarks)


def _as_one(first: Call, other: Call, *, counted: bool) -> Call:
    """Return a call that stands in two rows: its items, or the call and a correction of it."""
    costs = [call.cost_micros for call in (first, other) if call.cost_micros is not None]
    return msgspec.structs.replace(
        first,
        images=first.images + other.images if counted else first.images,
        cost_micros=sum(costs) if costs else None,
    )


def _call(number: int, row: Mapping[str, Any]) -> tuple[Call, bool]:
    """Return a row as a call, and whether the row says how many pictures it had."""
    fields = {_name(name): value for name, value in row.items() if value not in (None, "")}
    where = f"row {number}"
    call_id, moment = _first(fields, ID_COLUMNS), _first(fields, TIME_COLUMNS)
    if call_id is None and moment is None:
        raise UnreadableExport(
            f"{where} has neither a call's id ({', '.join(ID_COLUMNS)}) nor a time "
            f"({', '.join(TIME_COLUMNS)})"
        )
    currency = fields.get("currency")
    if currency is not None and str(currency).lower() != "usd":
        raise UnreadableExport(f"{where}: costs are read in USD, not {str(currency)[:16]!r}")
    images = _first(fields, IMAGES_COLUMNS)
    model = _first(fields, MODEL_COLUMNS)
    call = Call(
        row=number,
        id=None if call_id is None else str(call_id).strip(),
        at=None if moment is None else _moment(moment, where),
        model=None if model is None else str(model),
        images=1 if images is None else _count(images, where),
        cost_micros=_cost(fields, where),
    )
    return call, images is not None


def _name(column: object) -> str:
    """Return a column's name as it is looked up: `X-Request-ID` is `x_request_id`."""
    return re.sub(r"[^a-z0-9]+", "_", str(column).strip().lower()).strip("_")


def _first(fields: Mapping[str, Any], names: tuple[str, ...]) -> Any:
    return next((fields[name] for name in names if name in fields), None)


def _cost(fields: Mapping[str, Any], where: str) -> Micros | None:
    micros = _first(fields, MICROS_COLUMNS)
    if micros is not None:
        return _count(micros, where)
    dollars = _first(fields, COST_COLUMNS)
    return None if dollars is None else _micros(dollars, where)


# --- sums over time ------------------------------------------------------------------------------


def _is_bucket(row: Mapping[str, Any]) -> bool:
    return row.get("object") == "bucket" or isinstance(_results(row), list)


def _results(bucket: Mapping[str, Any]) -> Any:
    """Return a bucket's results; older documents of OpenAI call them `result`."""
    return bucket.get("results", bucket.get("result"))


class _Sums:
    """The buckets of one file, which is of one kind: pictures or costs.

    A bucket without results has sold nothing, of whatever kind the file is. A file that has no
    result at all does not tell its kind.
    """

    def __init__(self, rows: list[Mapping[str, Any]], file: str) -> None:
        self.images: dict[_Time, int] = {}
        self.dollars: dict[_Time, Decimal] = {}
        self.empty: list[_Time] = []
        self.left_out: set[str] = set()
        seen: set[_Time] = set()
        for number, row in enumerate(rows, 1):
            where = f"{file}, bucket {number}"
            time = _moment(row.get("start_time"), where), _moment(row.get("end_time"), where)
            results = _results(row)
            if time[0] >= time[1] or not isinstance(results, list):
                raise UnreadableExport(f"{where} needs start_time, a later end_time and results")
            if time in seen:
                raise UnreadableExport(f"{where} is there twice: was a page read twice?")
            seen.add(time)
            self._take(time, results, where)
        for time in self.empty:
            if self.images:
                self.images[time] = 0
            if self.dollars:
                self.dollars[time] = Decimal(0)

    def _take(self, time: _Time, results: list[Any], where: str) -> None:
        counted, spent, others = _add_up(results, where)
        self.left_out |= others
        if not results:
            self.empty.append(time)
        if counted is not None:
            self.images[time] = counted
        if spent is not None:
            self.dollars[time] = spent


def _together_in_time(files: list[_Sums]) -> VendorUsage:
    images: dict[_Time, int] = {}
    dollars: dict[_Time, Decimal] = {}
    for file in files:
        if (images.keys() & file.images.keys()) | (dollars.keys() & file.dollars.keys()):
            raise UnreadableExport("a bucket is there twice: was a page read twice?")
        images |= file.images
        dollars |= file.dollars
    for file in files:
        if not (file.images or file.dollars):
            # Of which kind it would be nobody can say; that nothing was sold is news of pictures.
            images |= {time: 0 for time in file.empty if time not in images}
    kinds = ", ".join(sorted(set[str]().union(*(file.left_out for file in files))))
    if not (images or dollars):
        raise UnreadableExport(f"no sum is of pictures or of costs, but of {kinds}")
    return VendorUsage(
        images=_in_order(images),
        costs=_in_order({time: _whole_micros(spent) for time, spent in dollars.items()}),
        remarks=(f"left out, as they count no pictures: {kinds}",) if kinds else (),
    )


def _add_up(results: list[Any], where: str) -> tuple[int | None, Decimal | None, set[str]]:
    """Return a bucket's pictures, its dollars (None: it tells none) and what else is in it."""
    images: int | None = None
    dollars: Decimal | None = None
    others: set[str] = set()
    for result in results:
        if not isinstance(result, dict):
            raise UnreadableExport(f"{where}: a result is no object")
        kind = str(result.get("object"))
        if kind == _IMAGES_OBJECT:
            images = (images or 0) + _count(result.get("images"), where)
        elif kind == _COSTS_OBJECT:
            dollars = (dollars or Decimal(0)) + _amount(result.get("amount"), where)
        else:
            others.add(kind[:64])
    return images, dollars, others


def _amount(amount: Any, where: str) -> Decimal:
    if not isinstance(amount, dict) or "value" not in amount:
        raise UnreadableExport(f"{where}: a cost has an amount with value and currency")
    currency = str(amount.get("currency", "usd")).lower()
    if currency != "usd":
        raise UnreadableExport(f"{where}: costs are read in USD, not {currency[:16]!r}")
    return _decimal(amount["value"], where)


def _in_order(sums: Mapping[_Time, int]) -> tuple[Bucket, ...]:
    found = [Bucket(start=start, end=end, amount=sums[start, end]) for start, end in sorted(sums)]
    for one, following in itertools.pairwise(found):
        if following.start < one.end:
            raise UnreadableExport("the buckets overlap: fetch all pages with one bucket_width")
    return tuple(found)


# --- values --------------------------------------------------------------------------------------


def _decimal(value: Any, where: str) -> Decimal:
    try:
        # A bool is no number either: its text is none.
        number = Decimal(str(value).strip().removeprefix("$"))
    except InvalidOperation as error:
        raise UnreadableExport(f"{where}: {str(value)[:40]!r} is no number") from error
    if not number.is_finite() or abs(number) > MICROS_MAX:
        raise UnreadableExport(f"{where}: {str(value)[:40]!r} is no number that could be one here")
    return number


def _count(value: Any, where: str) -> int:
    number = _decimal(value, where)
    if number != int(number) or number < 0:
        raise UnreadableExport(f"{where}: {str(value)[:40]!r} is no whole number")
    return int(number)


def _micros(dollars: Any, where: str) -> Micros:
    return _whole_micros(_decimal(dollars, where))


def _whole_micros(dollars: Decimal) -> Micros:
    return int((dollars * MICROS_PER_DOLLAR).to_integral_value(rounding=ROUND_CEILING))


def _moment(value: Any, where: str) -> int:
    """Return a time in milliseconds since 1970; without a zone it is UTC."""
    text = str(value).strip()
    if re.fullmatch(r"[0-9]{9,13}(\.[0-9]+)?", text):
        number = Decimal(text)
        seconds = number if number < _MILLISECONDS_FROM else number / 1000
        if seconds <= _TIME_MAX:
            return int(seconds * 1000)
    try:
        moment = datetime.fromisoformat(text.removesuffix(" UTC"))
    except ValueError as error:
        raise UnreadableExport(
            f"{where}: {text[:40]!r} is no time in unix seconds and no ISO date and time"
        ) from error
    moment = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
    return round(moment.timestamp() * 1000)
