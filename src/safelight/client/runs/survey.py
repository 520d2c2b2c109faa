"""What a run's folder holds of a plan: what is done, under way, gone, new, or no longer wanted.

Owns the look; it changes nothing, so that a forecast can be made of a folder nobody may touch. What
it finds is written down by `settle`, when the run begins.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

from safelight.client.runs.books import Books
from safelight.client.runs.history import History, Roll
from safelight.client.runs.items import Item, Plan
from safelight.client.runs.steps import Step, next_step

READERS = 4
"""Files that are hashed side by side."""


@dataclass
class Survey:
    """A plan, held against what a folder has. Items by what is to be done with them.

    Args:
        done: with an accepted file, whole.
        review: all of whose pictures were rejected.
        open: ordered, and not judged to the end: no new order is needed, as far as is known.
        fresh: to be ordered.
        gone: accepted once; the file is not there any more, or is not what it was. They are in
            `open`, too: their pictures are fetched again as long as they are kept.
        new: ids that the last start's plan did not have; all are new in a first start.
        dropped: ids that it had and this plan has not.
        first: whether nothing has run in the folder yet.
    """

    done: list[Item] = field(default_factory=list)
    review: list[Item] = field(default_factory=list)
    open: list[Item] = field(default_factory=list)
    fresh: list[Item] = field(default_factory=list)
    gone: list[Item] = field(default_factory=list)
    new: int = 0
    dropped: int = 0
    first: bool = True
    cost_micros: int = 0

    @property
    def left(self) -> list[Item]:
        """The items for which there is something to do."""
        return [*self.open, *self.fresh]


def survey(plan: Plan, folder: Path, history: History, *, rerolls: int, now: float) -> Survey:
    """Look at a folder; every accepted file is read and hashed.

    Args:
        plan: what is wanted.
        folder: where it may be already.
        history: of its journal.
        rerolls: how often a rejected picture may be rolled again.
        now: unix seconds.
    """
    ids = {item.id for item in plan.items}
    before = set(history.plan_ids)
    found = Survey(
        new=len(ids - before),
        dropped=len(before - ids),
        first=not history.run_id,
        cost_micros=history.cost_micros,
    )
    accepted = [(item, roll) for item in plan.items if (roll := _accepted(history, item))]
    with ThreadPoolExecutor(READERS) as readers:
        whole = list(readers.map(lambda pair: _is_whole(folder, pair[1]), accepted))
    good = {item.id for (item, _), is_good in zip(accepted, whole, strict=True) if is_good}
    for item in plan.items:
        story = history.stories.get(item.id)
        if item.id in good:
            found.done.append(item)
        elif story is None:
            found.fresh.append(item)
        elif story.accepted is not None:
            found.gone.append(item)
            found.open.append(item)
        else:
            step = next_step(story, rerolls=rerolls, now=now)
            lists = {Step.REVIEW: found.review, Step.ORDER: found.fresh}
            lists.get(step, found.open).append(item)
    return found


def _accepted(history: History, item: Item) -> Roll | None:
    story = history.stories.get(item.id)
    return None if story is None else story.accepted


def _is_whole(folder: Path, roll: Roll) -> bool:
    try:
        with (folder / roll.path).open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest() == roll.sha256
    except OSError:
        return False


async def settle(found: Survey, books: Books) -> None:
    """Write down what a survey found: files that are gone, and those that bear another name now.

    Raises:
        OSError: the folder cannot be written.
    """
    for item in found.gone:
        roll = books.history.story(item.id).accepted
        if roll is not None:
            await books.ask_again(item.id, roll)
    for item in found.done:
        await _rename(item, books)
    keep = {
        roll.path
        for story in books.history.stories.values()
        if (roll := story.last) is not None and roll.path
    }
    books.folder.sweep(frozenset(keep))


async def _rename(item: Item, books: Books) -> None:
    """Give an accepted picture the name that the plan has for it now."""
    roll = books.history.story(item.id).accepted
    if roll is None:
        return
    name = books.folder.accepted_name(item.out, roll.mime)
    if name != roll.path:
        await books.put_in_place(roll.path, name, roll.sha256)
        await books.note("accepted", item.id, roll.number, path=name)


def names_of(items: Sequence[Item], most: int = 5) -> str:
    """Return the names of a few items, for people."""
    names = [item.out for item in items[:most]]
    more = len(items) - len(names)
    return ", ".join(names) + (f" and {more} more" if more > 0 else "")
