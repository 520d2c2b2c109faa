"""A plan file becomes items: templates filled, inputs found, gates made, every fault told.

Owns what columns and keys mean. The forms of files are `rows`', the syntax of templates is
`templates`'. Nothing is sent and no picture is opened here.
"""

from __future__ import annotations

import difflib
import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from safelight.client.errors import BadOrder, ClientError
from safelight.client.gates import Gate
from safelight.client.orders import DEFAULT_MODEL, Order
from safelight.client.runs.faults import Fault, PlanFaulty
from safelight.client.runs.items import Finished, Identities, Item, Plan
from safelight.client.runs.names import faulty_name, slug, stem_and_format
from safelight.client.runs.rows import Row, Sheet, read_sheet
from safelight.client.runs.templates import TemplateFaulty, filled, names_in

OWN = ("prompt", "model", "size", "inputs", "mask", "out", "gates", "parameters")
"""Columns that mean something here."""
PARAMETERS = (
    *("quality", "background", "moderation", "output_format", "output_compression"),
    *("input_fidelity", "style", "user", "metadata"),
)
"""Further fields of OpenAI's image requests; others are named `parameters.NAME`."""
INPUTS_MAX = 16
_PREFIX = "parameters."
_NUMBERS = frozenset({"output_compression"})
_NOT_HERE = {"n": "a row is one picture; repeat the row for more", "stream": "runs do not stream"}
_RUN_KEYS = (
    *("name", "prompt", "model", "size", "inputs", "mask", "gates", "parameters", "names"),
    *("out", "to", "rerolls", "max_cost", "concurrency"),
)

MakeGate = Callable[[str, Order], Gate]
"""Makes the gate of `name` or `name=value` for an order; raises BadGate and its like in words."""


@dataclass(frozen=True)
class Defaults:
    """What holds for rows that say nothing else; given on the command line, it stands above the
    file's `[run]` table.
    """

    model: str | None = None
    size: str | None = None
    #: A template for rows without a prompt.
    prompt: str | None = None
    gates: tuple[str, ...] = ()
    parameters: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Wishes:
    """How the file's `[run]` table wants the run carried out; None where it says nothing."""

    out: str | None = None
    to: str | None = None
    rerolls: int | None = None
    max_cost: str | None = None
    concurrency: int | None = None


@dataclass(frozen=True)
class PlanFile:
    """A plan, and how its file wants it carried out."""

    plan: Plan
    wishes: Wishes
    #: Where each item stands: the file and the line, by id.
    places: Mapping[str, tuple[str, int]]


def read_plan(path: Path, make_gate: MakeGate, defaults: Defaults | None = None) -> PlanFile:
    """Return the plan in a .csv, .jsonl or .toml file.

    Args:
        path: the file; inputs are looked for beside it.
        make_gate: makes gates of their text.
        defaults: of the command line.

    Raises:
        PlanFaulty: with every fault that was found, by file, line and column.
        BadOrder: the file cannot be read at all.
    """
    sheet = read_sheet(path)
    reader = _Reader(path, sheet, defaults or Defaults(), make_gate)
    items = [item for row in sheet.rows if (item := reader.item(row)) is not None]
    wishes = reader.wishes()
    if not sheet.rows and not reader.faults:
        reader.fault(sheet.run, "", "the plan has no rows")
    reader.check_names(items)
    if reader.faults:
        raise PlanFaulty(sorted(reader.faults, key=lambda fault: (fault.file, fault.line)))
    name = reader.text(sheet.run, "name") or path.stem
    plan = Plan(name, tuple(item for _, item in items), finish=_nothing_more)
    places = {item.id: (row.file, row.line) for row, item in items}
    return PlanFile(plan, wishes, places)


def _nothing_more(_finished: Finished) -> Sequence[Path]:
    return ()


class _Reader:
    """Reads the rows of one file and collects what is wrong with them."""

    def __init__(self, path: Path, sheet: Sheet, defaults: Defaults, make_gate: MakeGate) -> None:
        self.faults = list(sheet.faults)
        self._folder = path.parent
        self._run = sheet.run
        self._defaults = defaults
        self._make_gate = make_gate
        self._identities = Identities()
        self._readable: dict[Path, str | None] = {}
        self._templates = self._template_names()
        self._check_names_of_run()
        self._near: dict[str, str | None] = {}
        """What a column's name is probably a slip of; looked for once."""
        self._told: set[str] = set()
        """Columns whose name was found wrong: said once, not for each row."""

    def fault(self, row: Row, name: str, message: str) -> None:
        """Note a fault."""
        self.faults.append(Fault(row.file, row.line_of(name), name, message))

    # --- [run] -------------------------------------------------------------------------------

    def _check_names_of_run(self) -> None:
        known = (*_RUN_KEYS, *PARAMETERS)
        for name in self._run.values:
            if name not in known and not name.startswith(_PREFIX):
                near = difflib.get_close_matches(name, known, n=1)
                meant = f"did you mean {near[0]!r}?" if near else f"known: {', '.join(known)}"
                self.fault(self._run, name, f"[run] has no such key; {meant}")

    def wishes(self) -> Wishes:
        """Return how the run is to be carried out."""
        cost = self._run.values.get("max_cost")
        if cost is not None and not isinstance(cost, str | int | float):
            self.fault(self._run, "max_cost", "dollars, such as 5 or 4.50")
        return Wishes(
            out=self.text(self._run, "out"),
            to=self.text(self._run, "to"),
            rerolls=self._count("rerolls", 0),
            max_cost=None if cost is None else str(cost),
            concurrency=self._count("concurrency", 1),
        )

    def text(self, row: Row, name: str) -> str | None:
        """Return a value that must be text, or None where it is not there."""
        value = row.values.get(name)
        if value is None or isinstance(value, str):
            return value
        self.fault(row, name, "must be text")
        return None

    def _count(self, name: str, least: int) -> int | None:
        value = self._run.values.get(name)
        if value is None:
            return None
        if isinstance(value, bool) or not isinstance(value, int) or value < least:
            self.fault(self._run, name, f"must be a whole number from {least}")
            return None
        return value

    # --- a row -------------------------------------------------------------------------------

    def item(self, row: Row) -> tuple[Row, Item] | None:
        """Return a row's item, or None with its faults noted."""
        before = len(self.faults)
        values = self._texts(row)
        self._check_names(row)
        prompt = self._filled(row, "prompt", values, self._defaults.prompt)
        size = self._filled(row, "size", values, self._defaults.size)
        model = self._filled(row, "model", values, self._defaults.model)
        inputs = self._files(row, "inputs", values)
        mask = self._files(row, "mask", values)
        parameters = self._parameters(row, values)
        out, out_format = self._out(row, values)
        if prompt is None and len(self.faults) == before:
            self.fault(row, "prompt", "missing: a column, or a template in [run] or --prompt")
        if out_format is not None:
            parameters.setdefault("output_format", out_format)
        order = None
        if len(self.faults) == before and prompt is not None:
            order = self._order(
                row,
                prompt=prompt,
                model=model or DEFAULT_MODEL,
                size=size,
                inputs=tuple(inputs),
                mask=mask[0] if mask else None,
                parameters=parameters,
            )
        if order is None:
            return None
        gates = self._gates(row, values, order)
        if len(self.faults) > before:
            return None
        known = self._identities.of(order)
        details = {name: text for name, text in values.items() if self._is_detail(name)}
        return row, Item(known, order, out or slug(order.prompt, known), gates, details=details)

    def _order(self, row: Row, **fields: Any) -> Order | None:
        try:
            return Order(**fields)
        except BadOrder as error:
            self.fault(row, "", error.message)
            return None

    def _template_names(self) -> frozenset[str]:
        """Return the columns that templates of the whole run put in."""
        texts = [value for value in self._run.values.values() if isinstance(value, str)]
        texts += [text for text in (self._defaults.prompt, *self._defaults.gates) if text]
        return frozenset(name for text in texts for name in names_in(text))

    @staticmethod
    def _texts(row: Row) -> dict[str, str]:
        """Return the values that a template may put in."""
        return {
            name: value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
            for name, value in row.values.items()
            if isinstance(value, str | int | float)
        }

    def _is_detail(self, name: str) -> bool:
        return name not in OWN and name not in PARAMETERS and not name.startswith(_PREFIX)

    def _check_names(self, row: Row) -> None:
        """Find columns that are probably misspelt: they would be shown and not obeyed."""
        for name in row.values:
            if not self._is_detail(name) or name in self._told:
                continue
            if name in _NOT_HERE:
                self._told.add(name)
                self.fault(row, name, _NOT_HERE[name])
                continue
            if name not in self._near:
                found = difflib.get_close_matches(name, (*OWN, *PARAMETERS), n=1, cutoff=0.8)
                self._near[name] = found[0] if found else None
            near = self._near[name]
            if near is None:
                continue
            used = name in self._templates or any(
                isinstance(value, str) and name in names_in(value) for value in row.values.values()
            )
            if not used:
                self._told.add(name)
                self.fault(
                    row,
                    name,
                    f"did you mean {near!r}? A column that only templates use must stand in one",
                )

    def _filled(
        self, row: Row, name: str, values: Mapping[str, str], default: str | None
    ) -> str | None:
        """Return the text of a field: the row's own, the command line's, or that of `[run]`."""
        own = name in row.values
        template = self.text(row, name) if own else default
        if template is None and not own:
            template = self.text(self._run, name)
        if template is None:
            return None
        return self._fill(row, name, template, values)

    def _fill(self, row: Row, name: str, template: str, values: Mapping[str, str]) -> str | None:
        others = {other: text for other, text in values.items() if other != name}
        try:
            return filled(template, others)
        except TemplateFaulty as error:
            self.fault(row, name, str(error))
            return None

    def _files(self, row: Row, name: str, values: Mapping[str, str]) -> list[Path]:
        """Return the pictures of `inputs` or `mask`: paths beside the plan, which exist."""
        source = row if name in row.values else self._run
        raw = source.values.get(name)
        parts = raw.split(";") if isinstance(raw, str) else [] if raw is None else raw
        if not isinstance(parts, list) or not all(isinstance(part, str) for part in parts):
            self.fault(row, name, "paths, with ; between (in JSON and TOML also a list)")
            return []
        found = []
        for part in parts:
            text = self._fill(row, name, part.strip(), values)
            if not text:
                continue
            path = self._folder / text
            trouble = self._trouble(path)
            if trouble:
                self.fault(row, name, f"{text}: {trouble}")
            else:
                found.append(path)
        if len(found) > (INPUTS_MAX if name == "inputs" else 1):
            self.fault(row, name, f"at most {INPUTS_MAX if name == 'inputs' else 1}")
        return found

    def _trouble(self, path: Path) -> str | None:
        if path not in self._readable:
            trouble = None
            try:
                with path.open("rb") as file:
                    file.read(1)
            except OSError as error:
                trouble = (error.strerror or str(error)).lower()
            self._readable[path] = trouble
        return self._readable[path]

    def _parameters(self, row: Row, values: Mapping[str, str]) -> dict[str, Any]:
        """Return the further fields of the request: `[run]`'s, the command line's, the row's."""
        found: dict[str, Any] = {}
        for source in (self._run.values, self._defaults.parameters, row.values):
            table = source.get("parameters", {})
            if not isinstance(table, Mapping):
                self.fault(row, "parameters", "an object; in a .csv write columns parameters.NAME")
                table = {}
            found.update(table)
            for name, value in source.items():
                if name in PARAMETERS or name.startswith(_PREFIX):
                    key = name.removeprefix(_PREFIX)
                    found[key] = self._parameter(row, name, key, value, values)
        return found

    def _parameter(
        self, row: Row, name: str, key: str, value: Any, values: Mapping[str, str]
    ) -> Any:
        if not isinstance(value, str):
            return value
        text = self._fill(row, name, value, values)
        if text is None or (key in PARAMETERS and key not in _NUMBERS):
            return text
        if re.fullmatch(r"-?\d{1,15}(\.\d{1,15})?|true|false", text):
            return json.loads(text) if not re.match(r"-?0\d", text) else text
        if key in _NUMBERS:
            self.fault(row, name, f"{text!r} is no number")
        return text

    def _out(self, row: Row, values: Mapping[str, str]) -> tuple[str | None, str | None]:
        """Return the file stem and the format that its ending promises."""
        template = self.text(row, "out") or self.text(self._run, "names")
        if template is None:
            return None, None
        text = self._fill(row, "out", template, values)
        if text is None:
            return None, None
        stem, promised = stem_and_format(text)
        trouble = faulty_name(stem)
        if trouble:
            self.fault(row, "out", f"{text!r}: {trouble}")
        return stem, promised

    def _gates(self, row: Row, values: Mapping[str, str], order: Order) -> tuple[Gate, ...]:
        given = row.values.get("gates")
        specs: Any = given.split(";") if isinstance(given, str) else given
        if specs is None:
            specs = self._defaults.gates or self._run.values.get("gates", ())
        if not isinstance(specs, list | tuple) or not all(isinstance(one, str) for one in specs):
            self.fault(row, "gates", 'a list such as ["size", "text={headline}"]')
            return ()
        made = []
        for spec in specs:
            text = self._fill(row, "gates", spec.strip(), values)
            if not text:
                continue
            try:
                made.append(self._make_gate(text, order))
            except (ValueError, ClientError) as error:
                self.fault(row, "gates", str(error))
        return tuple(made)

    # --- all rows ----------------------------------------------------------------------------

    def check_names(self, items: Sequence[tuple[Row, Item]]) -> None:
        """Find two rows that would write the same file."""
        taken: dict[str, Row] = {}
        for row, item in items:
            # Some file systems do not tell upper case from lower case.
            name = item.out.casefold()
            if name in taken:
                self.fault(row, "out", f"{item.out!r} is the file of line {taken[name].line}, too")
            taken.setdefault(name, row)
