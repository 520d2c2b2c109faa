"""How a run of many pictures stands, read from its folder beside whoever writes it.

Owns the summary. Reads the journal without its lock and changes nothing: a line that is being
written is left out. What the lines mean is `runs.history`'s business.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections import Counter
from pathlib import Path

from safelight.client.mcp.desk import Report
from safelight.client.mcp.faults import ToolFault
from safelight.client.mcp.folders import Folders
from safelight.client.mcp.purse import dollars
from safelight.client.runs.faults import FolderForeign
from safelight.client.runs.folder import JOURNAL
from safelight.client.runs.history import History, RollState, Story

_LISTED_MAX = 10
_STANDINGS = {
    RollState.ORDERED: "under way",
    RollState.RECEIVED: "under way",
    RollState.ACCEPTED: "done",
    RollState.REJECTED: "rejected by a gate",
    RollState.FAILED: "failed",
    RollState.LOST: "failed",
}


async def run_report(folders: Folders, name: str) -> Report:
    """Say how the run in a folder stands.

    Raises:
        ToolFault: no folder that may be read, or no run in it.
    """
    return await asyncio.to_thread(_read, folders.readable_folder(name))


def _read(folder: Path) -> Report:
    path = folder / JOURNAL
    try:
        raw, changed_at = path.read_bytes(), path.stat().st_mtime
    except OSError as error:
        raise ToolFault(f"{folder} holds no run: {path.name}: {error.strerror}.") from error
    try:
        history = History(json.loads(line) for line in raw.split(b"\n")[:-1])
    except (FolderForeign, ValueError) as error:
        raise ToolFault(f"{path} is no journal of a run: {error}") from error
    return _told(folder, history, time.time() - changed_at)


def _told(folder: Path, history: History, quiet_s: float) -> Report:
    stories = {item: history.stories.get(item, Story()) for item in history.plan_ids}
    counts = Counter(_standing(story) for story in stories.values())
    facts = {
        "run": history.run_id,
        "folder": str(folder),
        "pictures": f"{counts.pop('done', 0)} of {len(stories)} done",
        **{standing: str(count) for standing, count in counts.items()},
        "cost": f"{dollars(history.cost_micros)} dollars",
        "last change": f"{max(0, quiet_s):.0f} s ago",
    }
    problems = [
        f"{item}: {story.last.reason}"
        for item, story in stories.items()
        if story.last is not None and story.last.reason and story.accepted is None
    ]
    if problems:
        listed = problems[:_LISTED_MAX]
        if len(problems) > _LISTED_MAX:
            listed.append(f"and {len(problems) - _LISTED_MAX} more")
        facts["problems"] = "\n  " + "\n  ".join(listed)
    advice = ""
    if len(stories) > sum(1 for story in stories.values() if story.accepted is not None):
        advice = "If it is not running, a person goes on with it by the same `safelight run`."
    return Report(facts, advice)


def _standing(story: Story) -> str:
    return "not begun" if story.last is None else _STANDINGS[story.last.state]
