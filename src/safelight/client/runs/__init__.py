"""Runs: many pictures planned, forecast, ordered, checked, resumed and handed over.

    items       what a plan is made of, and what became of each part
    reading     a plan file becomes items (rows, templates, names, gating)
    running     a run from plan to manifest (survey, forecast, pace, preparing)
    runner      items side by side; rolling brings one of them to its end (steps, judging, lookup)
    books       folder, journal and history: what has happened, on the disk
    manifest    what came of it
    deciding    a person overrules the gates

A run speaks to any address through `safelight.client`, and asks gates about each picture.
"""

from safelight.client.runs.deciding import Decided, accept, reject
from safelight.client.runs.faults import (
    DiskFull,
    Fault,
    FolderBusy,
    FolderForeign,
    GatewayLost,
    Interrupted,
    ItemFault,
    ItemsFaulty,
    PlanFaulty,
    RunStopped,
    Undecidable,
)
from safelight.client.runs.forecast import Forecast, Shape
from safelight.client.runs.gating import GateMaker, pixels_of
from safelight.client.runs.items import (
    Accepted,
    Finished,
    Identities,
    Item,
    Plan,
    Review,
    item_id,
)
from safelight.client.runs.reading import Defaults, PlanFile, Wishes, read_plan
from safelight.client.runs.runner import Control, Ended
from safelight.client.runs.running import Preview, Result, preview, run
from safelight.client.runs.settings import Settings, Snapshot, Watcher
from safelight.client.runs.stopping import Stop

__all__ = [
    "Accepted",
    "Control",
    "Decided",
    "Defaults",
    "DiskFull",
    "Ended",
    "Fault",
    "Finished",
    "FolderBusy",
    "FolderForeign",
    "Forecast",
    "GateMaker",
    "GatewayLost",
    "Identities",
    "Interrupted",
    "Item",
    "ItemFault",
    "ItemsFaulty",
    "Plan",
    "PlanFaulty",
    "PlanFile",
    "Preview",
    "Result",
    "Review",
    "RunStopped",
    "Settings",
    "Shape",
    "Snapshot",
    "Stop",
    "Undecidable",
    "Watcher",
    "Wishes",
    "accept",
    "item_id",
    "pixels_of",
    "preview",
    "read_plan",
    "reject",
    "run",
]
