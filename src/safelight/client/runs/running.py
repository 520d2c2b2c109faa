"""A run from its plan to its manifest: surveyed, forecast, agreed to, carried out, finished.

Owns the order of these. It is what the command line and programs call.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import time
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from safelight.client.client import AsyncClient
from safelight.client.destinations import destination
from safelight.client.errors import ClientError, Misconfigured
from safelight.client.inputs import Prepared
from safelight.client.runs.books import Books
from safelight.client.runs.faults import ItemFault, ItemsFaulty
from safelight.client.runs.folder import JOURNAL, RunFolder
from safelight.client.runs.forecast import Forecast, forecast
from safelight.client.runs.history import History
from safelight.client.runs.items import Finished, Plan
from safelight.client.runs.journal import peek
from safelight.client.runs.judging import Judge
from safelight.client.runs.manifest import finished, write
from safelight.client.runs.names import faulty_name
from safelight.client.runs.preparing import Inputs
from safelight.client.runs.runner import Control, Ended, Runner
from safelight.client.runs.settings import Settings
from safelight.client.runs.survey import Survey, settle, survey


@dataclass(frozen=True)
class Preview:
    """What a start would do, before anything is spent."""

    forecast: Forecast
    survey: Survey
    #: Inputs that were made right for upload, with what that saved.
    prepared: tuple[Prepared, ...]


@dataclass(frozen=True)
class Result:
    """What came of a start."""

    preview: Preview
    ended: Ended
    finished: Finished
    #: What the plan's last step made: contact sheet, deck ...
    products: tuple[Path, ...]
    manifest: Path
    #: Why the plan's last step made nothing; empty: it did, or had nothing to do.
    product_fault: str = ""


Agree = Callable[[Preview], Awaitable[bool]]


async def run(
    plan: Plan,
    folder: Path,
    client: AsyncClient,
    settings: Settings | None = None,
    *,
    agree: Agree | None = None,
    control: Control | None = None,
) -> Result | None:
    """Carry out a plan in a folder, from where earlier starts in it stopped.

    Args:
        plan: what is to be made.
        folder: gets the pictures; made when it is not there.
        client: whom to order from.
        settings: its bounds.
        agree: is asked with the forecast before anything is spent; None: yes.
        control: who is told how it goes, and who may stop it.

    Returns:
        What came of it, or None: nobody agreed, and nothing was ordered.

    Raises:
        ItemsFaulty: items cannot be ordered as they are; nothing was ordered.
        FolderBusy, FolderForeign: the folder is not to be had.
        Misconfigured: a bound on the cost without prices.
        ClientError: the gateway cannot be asked.
        OSError: the folder cannot be written.
    """
    settings = settings or Settings()
    _check(plan)
    with (
        RunFolder(folder) as own,
        ThreadPoolExecutor(settings.threads, thread_name_prefix="run") as executor,
    ):
        books = Books(own)
        inputs = Inputs(own, executor, untouched=settings.untouched)
        told = await _preview(plan, folder, books.history, client, settings, inputs)
        if agree is not None and not await _agreed(agree, told, own, books):
            return None
        await settle(told.survey, books)
        await books.begin(plan.name, digest_of(plan), tuple(item.id for item in plan.items))
        runner = Runner(
            plan,
            books,
            client,
            inputs,
            Judge(executor),
            settings,
            told.forecast,
            control or Control(),
        )
        ended = await runner.run()
        return await _end(plan, books, told, ended, settings)


async def _agreed(agree: Agree, told: Preview, own: RunFolder, books: Books) -> bool:
    """Ask; a folder that nothing has run in is left as it was found where nobody agrees."""
    agreed = False
    try:
        agreed = await agree(told)
    finally:
        if not agreed and not books.history.run_id:
            own.discard()
    return agreed


async def preview(
    plan: Plan, folder: Path, client: AsyncClient, settings: Settings | None = None
) -> Preview:
    """Return what `run` would do, and change nothing, not even the folder. See `run`."""
    settings = settings or Settings()
    _check(plan)
    with ThreadPoolExecutor(settings.threads, thread_name_prefix="run") as executor:
        history = History(peek(folder / JOURNAL))
        inputs = Inputs(None, executor, untouched=settings.untouched)
        return await _preview(plan, folder, history, client, settings, inputs)


async def _preview(
    plan: Plan,
    folder: Path,
    history: History,
    client: AsyncClient,
    settings: Settings,
    inputs: Inputs,
) -> Preview:
    if settings.to is not None:
        destination(settings.to)  # a wrong address is told before anything is spent
    rerolls = settings.rerolls
    found = await asyncio.to_thread(survey, plan, folder, history, rerolls=rerolls, now=time.time())
    faults = await inputs.prepare(found.left)
    if faults:
        raise ItemsFaulty(faults)
    told = await forecast(
        client,
        found,
        concurrency=settings.concurrency,
        rerolls=rerolls,
        open_micros=sum(roll.at_risk_micros for _, roll in history.open_rolls()),
        price_micros=settings.price_micros,
    )
    if settings.max_cost_micros is not None and told.cost_micros is None:
        raise Misconfigured(
            "a bound on the cost needs prices, and this address tells none: give the price of one "
            "picture (--price), or leave the bound out"
        )
    return Preview(told, found, tuple(inputs.prepared))


def _check(plan: Plan) -> None:
    """Refuse a plan whose items share an id or a file, or refer to nothing.

    Raises:
        ItemsFaulty: with all of them.
    """
    faults, ids, outs = [], set[str](), set[str]()
    for item in plan.items:
        trouble = faulty_name(item.out)
        if trouble:
            faults.append(ItemFault(item.id, item.out, "out", trouble))
        if item.id in ids:
            faults.append(ItemFault(item.id, item.out, "id", "another item has it, too"))
        if item.out.casefold() in outs:
            faults.append(ItemFault(item.id, item.out, "out", "another item has this file, too"))
        if item.reference is not None and item.reference not in ids:
            message = "the item it refers to must stand before it in the plan"
            faults.append(ItemFault(item.id, item.out, "reference", message))
        ids.add(item.id)
        outs.add(item.out.casefold())
    if faults:
        raise ItemsFaulty(faults)


def digest_of(plan: Plan) -> str:
    """Return what tells one plan from another: its items, their files and their gates."""
    facts = [
        [item.id, item.out, item.reference, [gate.name for gate in item.gates]]
        for item in plan.items
    ]
    return hashlib.sha256(json.dumps(facts).encode()).hexdigest()


async def _end(
    plan: Plan, books: Books, preview: Preview, ended: Ended, settings: Settings
) -> Result:
    """Let the plan make its product, write the manifest, and carry both away."""
    done = finished(plan, books, ended)
    products: tuple[Path, ...] = ()
    fault = ""
    if ended.stopped is None:
        try:
            products = tuple(await asyncio.to_thread(plan.finish, done))
        except (ClientError, OSError) as error:
            fault = str(error)
    manifest, table = await asyncio.to_thread(write, plan, books, ended, products)
    if settings.to is not None:
        for path in (*products, manifest, table):
            await _carry(path, books, settings.to, ended)
    return Result(preview, ended, done, products, manifest, fault)


async def _carry(path: Path, books: Books, to: str, ended: Ended) -> None:
    root = books.folder.path
    name = path.relative_to(root).as_posix() if path.is_relative_to(root) else path.name
    digest = hashlib.sha256(await asyncio.to_thread(path.read_bytes)).hexdigest()
    try:
        await destination(to).put(name, path, digest)
    except (ClientError, OSError) as error:
        ended.not_put[name] = str(error)
