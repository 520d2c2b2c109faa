"""The manifest: what came of a run, item by item and charge by charge, beside the pictures.

Owns the two files: `manifest.json` with everything, `manifest.csv` with one line for each picture
that was charged and for each item without one, which is what the statement has too.
"""

from __future__ import annotations

import csv
import io
import json
import time
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from safelight.client.figures import Figures
from safelight.client.runs.books import Books
from safelight.client.runs.history import Roll, RollState, Story, verdict_lines
from safelight.client.runs.items import Accepted, Finished, Item, Plan, Review
from safelight.client.runs.runner import Ended

MANIFEST, TABLE = "manifest.json", "manifest.csv"
STATES = ("accepted", "review", "failed", "left")
COLUMNS = (
    *("item", "out", "state", "roll", "path", "job_id", "request_id", "charge_micros", "sha256"),
    *("width", "height", "bytes", "generation_s", "reason", "model", "size", "prompt"),
)


def finished(plan: Plan, books: Books, ended: Ended) -> Finished:
    """Return what a recipe's last step is given; what was left counts as failed."""
    history, folder = books.history, books.folder.path
    by_id = {item.id: item for item in plan.items}
    return Finished(
        folder=folder,
        plan=plan,
        accepted={
            one: _accepted(folder, history.story(one)) for one in by_id if _is_in(books, one)
        },
        failed={**ended.failed, **ended.left},
        review={one: _review(folder, history.story(one)) for one in ended.review},
        cost_micros=history.cost_micros,
        figures=ended.figures,
    )


def _is_in(books: Books, item_id: str) -> bool:
    return books.history.story(item_id).accepted is not None


def _accepted(folder: Path, story: Story) -> Accepted:
    roll = story.accepted
    assert roll is not None
    return Accepted(
        path=folder / roll.path,
        sha256=roll.sha256,
        width=roll.width,
        height=roll.height,
        cost_micros=story.cost_micros,
        rolls=story.pictures,
        verdicts=roll.verdicts,
        job_id=roll.job_id,
    )


def _review(folder: Path, story: Story) -> Review:
    rejected = [roll for roll in story.rolls if roll.state is RollState.REJECTED]
    last = rejected[-1]
    return Review(
        paths=tuple(folder / roll.path for roll in rejected),
        reason=last.reason,
        cost_micros=story.cost_micros,
        rolls=story.pictures,
        verdicts=last.verdicts,
    )


def write(plan: Plan, books: Books, ended: Ended, products: tuple[Path, ...]) -> tuple[Path, Path]:
    """Write both files, and return where they are.

    Raises:
        OSError: they could not be written; the journal has everything all the same.
    """
    states = _states(plan, books, ended)
    document = _document(plan, books, ended, states, products)
    folder = books.folder
    return (
        folder.write(MANIFEST, _as_json(document)),
        folder.write(TABLE, _as_table(_lines(plan, books, states))),
    )


def amend(books: Books, item_id: str) -> tuple[Path, ...]:
    """Bring an item of the manifest up to what a person has decided; return the files.

    Where no manifest was written yet, or it is not whole, none is made: the next start writes both
    files anew from the journal.

    Raises:
        OSError: they could not be written; the journal has everything all the same.
    """
    folder = books.folder
    try:
        document = json.loads((folder.path / MANIFEST).read_bytes())
        (item,) = (one for one in document["items"] if one["id"] == item_id)
        _amend_item(item, books.history.story(item_id))
        states = [one["state"] for one in document["items"]]
        document["counts"].update({state: states.count(state) for state in STATES})
        with (folder.path / TABLE).open(newline="", encoding="utf-8") as file:
            rows = _amended(list(csv.DictReader(file)), item_id, books.history.story(item_id))
    except (FileNotFoundError, ValueError, KeyError, TypeError, AttributeError, csv.Error):
        return ()
    return (folder.write(MANIFEST, _as_json(document)), folder.write(TABLE, _as_table(rows)))


def _amend_item(item: dict[str, Any], story: Story) -> None:
    roll, last = story.accepted, story.last
    item["state"] = "review" if roll is None else "accepted"
    item["reason"] = last.reason if roll is None and last is not None else ""
    item["path"] = None if roll is None else roll.path
    item["sha256"] = None if roll is None else roll.sha256
    item["rolls"] = [_roll(one) for one in story.rolls]


def _amended(rows: list[dict[str, Any]], item_id: str, story: Story) -> list[dict[str, Any]]:
    """Return the table's rows with those of one item made anew, at the place of the first."""
    at, first = next((at, row) for at, row in enumerate(rows) if row["item"] == item_id)
    named = {name: first[name] for name in ("item", "out", "model", "size", "prompt")}
    made = [named | _charge(roll) for roll in story.rolls if _charged(roll)]
    after = [row for row in rows[at:] if row["item"] != item_id]
    return [*rows[:at], *made, *after]


def _as_json(document: Mapping[str, Any]) -> bytes:
    return (json.dumps(document, ensure_ascii=False, indent=1) + "\n").encode()


def _as_table(rows: Iterable[Mapping[str, Any]]) -> bytes:
    table = io.StringIO(newline="")
    writer = csv.writer(table)
    writer.writerow(COLUMNS)
    writer.writerows([row.get(column, "") for column in COLUMNS] for row in rows)
    return table.getvalue().encode()


def _states(plan: Plan, books: Books, ended: Ended) -> dict[str, tuple[str, str]]:
    """Return each item's state and the reason for it."""
    states: dict[str, tuple[str, str]] = {}
    for item in plan.items:
        if _is_in(books, item.id):
            states[item.id] = ("accepted", "")
        elif item.id in ended.failed:
            states[item.id] = ("failed", ended.failed[item.id])
        elif item.id in ended.left:
            states[item.id] = ("left", ended.left[item.id])
        else:
            last = books.history.story(item.id).last
            states[item.id] = ("review", "" if last is None else last.reason)
    return states


def _document(
    plan: Plan,
    books: Books,
    ended: Ended,
    states: Mapping[str, tuple[str, str]],
    products: tuple[Path, ...],
) -> dict[str, Any]:
    history = books.history
    words = [state for state, _ in states.values()]
    return {
        "run_id": history.run_id,
        "name": plan.name,
        "began_at": history.created_at,
        "ended_at": round(time.time(), 3),
        "starts": history.starts,
        "stopped": None if ended.stopped is None else ended.stopped.message,
        "counts": {
            "items": len(plan.items),
            **{state: words.count(state) for state in STATES},
        },
        "cost_micros": history.cost_micros,
        "figures": figures_view(ended.figures),
        "products": [shown(path, books) for path in products],
        "items": [_item(item, books, *states[item.id]) for item in plan.items],
        "dropped": [
            {"id": one, "rolls": [_roll(roll) for roll in story.rolls]}
            for one, story in history.stories.items()
            if one not in states and story.rolls
        ],
    }


def figures_view(figures: Figures) -> dict[str, Any]:
    """Return the three numbers with the counts they are made of."""
    return {
        "mean_generation_s": _rounded(figures.mean_generation_s, 3),
        "server_error_rate": _rounded(figures.server_error_rate, 6),
        "download_success_rate": _rounded(figures.download_success_rate, 6),
        "pictures": figures.pictures,
        "tries": figures.tries,
        "server_errors": figures.server_errors,
        "downloads": figures.downloads,
        "downloads_ok": figures.downloads_ok,
    }


def shown(path: Path, books: Books) -> str:
    """Return a path relative to the run's folder where it is in it, else as it is."""
    root = books.folder.path
    return path.relative_to(root).as_posix() if path.is_relative_to(root) else str(path)


def _rounded(number: float | None, digits: int) -> float | None:
    return None if number is None else round(number, digits)


def _item(item: Item, books: Books, state: str, reason: str) -> dict[str, Any]:
    story = books.history.story(item.id)
    roll = story.accepted
    return {
        "id": item.id,
        "out": item.out,
        "state": state,
        "reason": reason,
        "path": None if roll is None else roll.path,
        "sha256": None if roll is None else roll.sha256,
        "cost_micros": story.cost_micros,
        "prompt": item.order.prompt,
        "model": item.order.model,
        "size": item.order.size,
        "parameters": dict(item.order.parameters),
        "inputs": [str(one) for one in item.order.inputs if isinstance(one, Path)],
        "reference": item.reference,
        "details": dict(item.details),
        "rolls": [_roll(one) for one in story.rolls],
    }


def _roll(roll: Roll) -> dict[str, Any]:
    return {
        "roll": roll.number,
        "state": str(roll.state),
        "key": roll.key,
        "ordered_at": roll.ordered_at,
        "path": roll.path or None,
        "job_id": roll.job_id,
        "request_id": roll.request_id,
        "charge_micros": roll.cost_micros,
        "sha256": roll.sha256 or None,
        "bytes": roll.bytes,
        "width": roll.width,
        "height": roll.height,
        "mime": roll.mime or None,
        "generation_s": roll.generation_s,
        "reason": roll.reason,
        "by": roll.by or None,
        "by_at": roll.by_at,
        "verdicts": verdict_lines(roll.verdicts),
    }


def _lines(
    plan: Plan, books: Books, states: Mapping[str, tuple[str, str]]
) -> Iterator[dict[str, Any]]:
    """Yield a line for each roll that was charged, then one for each item without any."""
    for item in plan.items:
        named = {
            "item": item.id,
            "out": item.out,
            "model": item.order.model,
            "size": item.order.size or "",
            "prompt": item.order.prompt,
        }
        rolls = [roll for roll in books.history.story(item.id).rolls if _charged(roll)]
        yield from (named | _charge(roll) for roll in rolls)
        state, reason = states[item.id]
        if not rolls or state in ("failed", "left"):
            yield named | {"state": state, "reason": reason, "charge_micros": 0}
    for item_id, story in books.history.stories.items():
        if item_id not in states:
            yield from ({"item": item_id} | _charge(one) for one in story.rolls if _charged(one))


def _charged(roll: Roll) -> bool:
    return roll.has_picture or roll.state is RollState.LOST


def _charge(roll: Roll) -> dict[str, Any]:
    facts = _roll(roll)
    return {name: facts[name] for name in COLUMNS if facts.get(name) is not None}
