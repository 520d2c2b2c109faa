"""What a person decides about a run's pictures, whatever its gates have said.

Owns which pictures can be accepted or rejected by hand, and the journal's line about it. Orders
nothing: a picture that is rejected is bought anew by the next start, within its bounds.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from safelight.client.destinations import destination
from safelight.client.pictures import ENDINGS
from safelight.client.runs.books import Books
from safelight.client.runs.faults import Undecidable
from safelight.client.runs.folder import HIDDEN, JOURNAL, REVIEW, RunFolder
from safelight.client.runs.history import Roll, RollState, Story
from safelight.client.runs.manifest import amend

_NAMED_MAX = 10
"""Items that a message names."""


@dataclass(frozen=True)
class Decided:
    """What was decided.

    Args:
        item_id: of which item.
        out: its name, as in the plan of the last start.
        roll: the number of the picture.
        path: where the picture is now.
        by: who has decided it; empty: its gates.
        at: when, unix seconds; None: its gates.
        changed: whether this call has changed anything; False: it was so before.
        carried: files that were put to the destination.
    """

    item_id: str
    out: str
    roll: int
    path: Path
    by: str
    at: float | None
    changed: bool
    carried: int = 0


async def accept(
    folder: Path, item: str, *, by: str, roll: int | None = None, to: str | None = None
) -> Decided:
    """Accept a picture that its gates have rejected; nothing is bought. Twice is once.

    Args:
        folder: of the run.
        item: its id, its name, or the picture's file.
        by: who accepts it.
        roll: which of its pictures; None: the one whose file was named, else the newest.
        to: a folder or `s3://bucket/prefix` that gets it, too; None: the next start's.

    Raises:
        Undecidable: there is no such item or picture, or its order may be under way.
        FolderBusy, FolderForeign: the folder is not to be had.
        Misconfigured, DestinationFailed: it could not be carried away; it is accepted all the same.
        OSError: the folder cannot be written.
    """
    place = None if to is None else destination(to)
    with _opened(folder) as own:
        books = Books(own)
        found = _find(books, item)
        picture = _picture(found, roll)
        changed = picture.state is not RollState.ACCEPTED
        if changed:
            await _take(books, found, picture, by)
        files = await asyncio.to_thread(amend, books, found.item_id)
        carried = 0
        if to is not None and place is not None:
            for path in (own.path / picture.path, *files):
                name = own.relative(path)
                digest = hashlib.sha256(await asyncio.to_thread(path.read_bytes)).hexdigest()
                await place.put(name, path, digest)
                carried += 1
            await books.note_of_run(
                "put", item=found.item_id, to=to, name=picture.path, sha256=picture.sha256
            )
        return _decided(own, found, picture, changed=changed, carried=carried)


async def reject(folder: Path, item: str, *, by: str) -> Decided:
    """Reject the accepted picture of an item: the next start orders another, within its re-rolls.

    Args:
        folder: of the run.
        item: its id, its name, or the picture's file.
        by: who rejects it.

    Raises:
        Undecidable: there is no such item or picture, or its order may be under way.
        FolderBusy, FolderForeign: the folder is not to be had.
        OSError: the folder cannot be written.
    """
    with _opened(folder) as own:
        books = Books(own)
        found = _find(books, item)
        picture = found.story.accepted or _picture(found, None)
        changed = picture.state is RollState.ACCEPTED
        if changed:
            name = own.review_name(found.out, picture.number, picture.mime)
            await _moved(own, picture, name)
            await books.note(
                "rejected",
                found.item_id,
                picture.number,
                durable=True,
                path=name,
                reason=f"rejected by hand, by {by}",
                by=by,
            )
        await asyncio.to_thread(amend, books, found.item_id)
        return _decided(own, found, picture, changed=changed)


@dataclass(frozen=True)
class _Found:
    """An item with its past, and the roll whose file was named."""

    item_id: str
    out: str
    story: Story
    roll: int | None


def _opened(folder: Path) -> RunFolder:
    if not (folder / JOURNAL).is_file():
        raise Undecidable(f"{folder}: no run has worked here: name the folder of its pictures")
    return RunFolder(folder)


def _find(books: Books, wanted: str) -> _Found:
    """Return the item that is meant; one of the last start's plan goes before others.

    Raises:
        Undecidable: there is none, or there are several.
    """
    history, root = books.history, books.folder.path
    names = {wanted}
    path = Path(wanted).resolve()
    if path.is_relative_to(root.resolve()):
        names.add(path.relative_to(root.resolve()).as_posix())
    found = [
        _Found(item_id, _out_of(story), story, roll)
        for item_id, story in history.stories.items()
        for roll in _meant(item_id, story, names)
    ]
    planned = [one for one in found if one.item_id in history.plan_ids]
    found = planned or found
    if len(found) > 1:
        ids = ", ".join(one.item_id for one in found[:_NAMED_MAX])
        raise Undecidable(f"{wanted!r} is the name of several items: give the id ({ids})")
    if not found:
        known = [_out_of(one) for one in history.stories.values() if _for_review(one)]
        listed = ", ".join(sorted(filter(None, known))[:_NAMED_MAX])
        raise Undecidable(
            f"{wanted!r} is no item of this run that has a picture; "
            + (f"for review: {listed}" if listed else "none is for review")
        )
    return found[0]


def _meant(item_id: str, story: Story, names: set[str]) -> Iterator[int | None]:
    """Yield once if the item is meant: the roll whose file it is, None for the item as a whole."""
    rolls = [roll.number for roll in story.rolls if roll.path and roll.path in names]
    if rolls or item_id in names or _out_of(story) in names:
        yield rolls[0] if rolls else None


def _for_review(story: Story) -> bool:
    return story.last is not None and story.last.state is RollState.REJECTED


def _out_of(story: Story) -> str:
    """Return the name that the plan gave the item, as its files tell it; empty: it has none."""
    for roll in reversed(story.rolls):
        if not roll.mime or roll.path.startswith(f"{HIDDEN}/"):
            continue
        stem = roll.path.removesuffix(ENDINGS[roll.mime])
        if roll.state is RollState.REJECTED:
            return stem.removeprefix(f"{REVIEW}/").removesuffix(f"-{roll.number}")
        return stem
    return ""


def _picture(found: _Found, wanted: int | None) -> Roll:
    """Return the roll that is to be accepted, or is accepted already.

    Raises:
        Undecidable: it has no picture, its order may be under way, or another one is accepted.
    """
    name, story = found.out or found.item_id, found.story
    if story.last is None or story.last.state in (RollState.ORDERED, RollState.RECEIVED):
        raise Undecidable(
            f"{name}: an order of it may be under way, or its picture is not judged yet: run the "
            "plan again first"
        )
    number = wanted or found.roll
    if number is None:
        pictures = [roll for roll in story.rolls if roll.state is RollState.REJECTED]
        picture = story.accepted or (pictures[-1] if pictures else None)
    else:
        picture = story.rolls[number - 1] if number <= len(story.rolls) else None
    if picture is None or picture.state not in (RollState.ACCEPTED, RollState.REJECTED):
        what = "it has no picture" if number is None else f"there is no picture of roll {number}"
        raise Undecidable(f"{name}: {what}: run the plan again to have one made")
    if story.accepted not in (None, picture):
        raise Undecidable(
            f"{name}: its picture of roll {story.last.number} is accepted: reject that one first"
        )
    return picture


async def _take(books: Books, found: _Found, picture: Roll, by: str) -> None:
    name = books.folder.accepted_name(found.out, picture.mime)
    if not await asyncio.to_thread(books.folder.holds, name, picture.sha256):
        await _held(books.folder, picture)
        await books.put_in_place(picture.path, name, picture.sha256)
    await books.note(
        "accepted",
        found.item_id,
        picture.number,
        durable=True,
        path=name,
        reason=f"accepted by hand, by {by}; before: {picture.reason}",
        by=by,
    )


async def _moved(folder: RunFolder, picture: Roll, name: str) -> None:
    if not await asyncio.to_thread(folder.holds, name, picture.sha256):
        await _held(folder, picture)
        await asyncio.to_thread(folder.move, picture.path, name)


async def _held(folder: RunFolder, picture: Roll) -> None:
    if not await asyncio.to_thread(folder.holds, picture.path, picture.sha256):
        raise Undecidable(
            f"{folder.path / picture.path}: the picture is not there, or is not what it was: put "
            "it back, or run the plan again"
        )


def _decided(
    folder: RunFolder, found: _Found, picture: Roll, *, changed: bool, carried: int = 0
) -> Decided:
    path = folder.path / picture.path
    at = picture.by_at if picture.by else None
    return Decided(found.item_id, found.out, picture.number, path, picture.by, at, changed, carried)
