"""The course of a bench: start, look once, take turns, look at the books.

Owns the plan and the order of things; `turns` plays one turn. The contenders take turns round by
round, so that a machine that grows slower or faster does so for all of them; what is reported are
medians of the rounds.
"""

from __future__ import annotations

import base64
import json
import os
import platform
import shutil
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path

from safelight import __version__
from safelight.bench import bars, contenders, meter, result, turns
from safelight.bench.contenders import DIRECT, GATEWAY, NAIVE, NGINX, Contender, Places, Stage
from safelight.bench.errors import BenchError
from safelight.bench.load import connect
from safelight.bench.orders import Orders, Refused
from safelight.bench.picture import SIGNATURE, Replies
from safelight.bench.processes import Cores, divide_cores, on_cores
from safelight.bench.workloads import Workload

Progress = Callable[[str], None]

PHASE_S, QUICK_PHASE_S = 4.0, 1.0
"""After so many seconds a stretch of load sends no more, unless its length was asked for."""
_FREE_BYTES = 256 * 1024 * 1024
_FILES_BESIDE = 500
_SAID = 200
_MB = 2**20


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What to measure.

    `requests` is the orders of one contender in one stretch; None takes a number that suits the
    workload and ends a stretch after `limit_s` seconds.
    """

    workloads: tuple[Workload, ...]
    contenders: tuple[str, ...]
    places: Places = field(default_factory=Places)
    requests: int | None = None
    clients: int = 32
    rounds: int = 3
    quick: bool = False

    @property
    def limit_s(self) -> float:
        """Seconds after which a stretch of load sends no more."""
        if self.requests is not None:
            return float("inf")
        return QUICK_PHASE_S if self.quick else PHASE_S

    def rounds_of(self, workload: Workload) -> int:
        """Return how often contenders take turns at a workload."""
        return 1 if workload.once else self.rounds

    def clients_of(self, workload: Workload) -> int:
        """Return how many clients a workload has."""
        return workload.at_once or self.clients

    def taking_part(self, workload: Workload) -> tuple[str, ...]:
        """Return who plays a workload: all that can and that are installed."""
        by_hand = workload.kind == "load" and workload.shape == "b64_json"
        return tuple(
            name
            for name in self.contenders
            if (name == GATEWAY or not workload.ours_alone)
            and (name != NAIVE or by_hand)
            and not self.places.missing(name)
        )

    def skipped(self) -> dict[str, str]:
        """Return who is not installed, and what is missing."""
        missing = {name: self.places.missing(name) for name in self.contenders}
        return {name: word for name, word in missing.items() if word}


async def run(plan: Plan, progress: Progress) -> result.Report:
    """Measure every workload of the plan; `progress` is told what goes on, in a few words.

    Raises:
        BenchError: something did not start, or the gateway's books do not fit the load.
    """
    began = time.monotonic()
    cores = divide_cores()
    _allow_files(plan)
    played = []
    with on_cores(cores.rest):
        for workload in plan.workloads:
            with tempfile.TemporaryDirectory(prefix="safelight-bench-") as folder:
                _require_space(plan, workload, Path(folder))
                played.append(await _play(plan, workload, Path(folder), cores, progress))
        versions = await contenders.versions(plan.places, plan.contenders)
    return result.Report(
        version=__version__,
        versions=versions,
        machine=this_machine(),
        pinned=bool(cores.contender),
        rounds=plan.rounds,
        quick=plan.quick,
        took_s=round(time.monotonic() - began, 1),
        skipped=plan.skipped(),
        workloads=tuple(played),
        verdicts=() if plan.quick else bars.verdicts(played),
    )


async def _play(
    plan: Plan, workload: Workload, folder: Path, cores: Cores, progress: Progress
) -> result.WorkloadResult:
    """Play one workload; it has processes of its own, so that memory is its own, too."""
    progress(f"{workload.name}: starting")
    names = plan.taking_part(workload)
    async with contenders.staged(workload, names, folder, plan.places, cores) as stage:
        by_name = {name: _player(name, stage, workload) for name in names}
        # The mock itself knows neither links nor jobs.
        plain = replace(workload, shape="edit" if workload.shape == "edit" else "b64_json")
        direct = _player(DIRECT, stage, plain) if workload.kind == "load" else None
        progress(f"{workload.name}: looking at what each answers")
        for one in by_name.values():
            await _look(one, workload)
            await _warm_up(plan, workload, one)
        rounds = plan.rounds_of(workload)
        for number in range(1, rounds + 1):
            for one in by_name.values():
                progress(f"{workload.name}: round {number} of {rounds}, {one.counted.contender}")
                await _turn(plan, workload, stage, one, folder)
            if direct is not None:
                await _alone(plan, workload, direct)
        for one in by_name.values():
            one.note_peak(workload)
        books = None
        if GATEWAY in stage.contenders:
            books = await _books(stage, by_name[GATEWAY], workload)
    least = result.latency(direct.counted.latencies_ms) if direct is not None else None
    if workload.kind == "waiting":
        delay_ms = workload.delay_s * 1000
        least = result.Latency(p50=delay_ms, p99=delay_ms, samples=0)
    counted = [one.counted for one in by_name.values()]
    found = result.standings(counted, least, NGINX)
    return result.workload_result(workload, plan.clients_of(workload), found, books)


def _player(name: str, stage: Stage, workload: Workload) -> turns.Player:
    if name == NAIVE or name in stage.absent:
        counted = result.Counted(contender=name, error=stage.absent.get(name))
        return turns.Player(counted, None, None)
    contender = Contender(stage.upstream) if name == DIRECT else stage.contenders[name]
    idle = meter.memory(contender.running.pid)
    counted = result.Counted(contender=name, idle_mb=None if idle is None else idle.now / _MB)
    return turns.Player(counted, contender.running, Orders(workload, contender.headers))


async def _look(player: turns.Player, workload: Workload) -> None:
    """Look once at what a contender answers: what delivers nothing is not measured any further."""
    if player.running is None or player.orders is None:
        return
    try:
        await _look_at(player.running.port, player.orders, workload)
    except BenchError as error:
        player.counted.error = str(error)
    else:
        player.answered += 1
    warm = meter.memory(player.running.pid)
    player.warm_bytes = None if warm is None else warm.now


async def _warm_up(plan: Plan, workload: Workload, player: turns.Player) -> None:
    """Let a contender under load do some work first: engines compile what they do often."""
    if workload.kind == "load" and player.running is not None and player.counted.error is None:
        count = plan.requests or workload.load // 2
        await turns.warm_up(player, count, plan.limit_s / 2, plan.clients)


async def _look_at(port: int, orders: Orders, workload: Workload) -> None:
    """Order one picture and see that it comes.

    Raises:
        BenchError: it did not.
    """
    (connection,) = await connect(port, 1)
    try:
        answer = await connection.ask(orders.next(), keep=True)
        while (further := orders.follow(answer.status, answer.body)) is not None:
            answer = await connection.ask(further, keep=True)
    except Refused as refused:
        said = answer.body[:_SAID].decode("utf-8", "replace")
        raise BenchError(f"it answered {refused}: {said}") from None
    finally:
        connection.close()
    if not workload.ours_alone:
        _check_answer(answer.body, workload)
    elif workload.shape == "url" and not answer.body.startswith(SIGNATURE):
        raise BenchError("the link leads to something else than a picture")


def _check_answer(body: bytes, workload: Workload) -> None:
    """Refuse to measure what does not deliver the picture."""
    try:
        data = base64.b64decode(json.loads(body)["data"][0]["b64_json"], validate=True)
    except (ValueError, LookupError, TypeError) as error:
        raise BenchError("it answered something else than a picture") from error
    if len(data) != workload.weight.picture_bytes or not data.startswith(SIGNATURE):
        raise BenchError("it answered another picture than the upstream's")


async def _turn(
    plan: Plan, workload: Workload, stage: Stage, player: turns.Player, folder: Path
) -> None:
    """Play a contender's part of one round."""
    if player.counted.error is not None:
        return
    if player.running is None:
        count = plan.requests or workload.load // 4
        turn = turns.naive_turn(Replies(workload.weight), folder, count, plan.limit_s)
        player.counted.turns.append(turn)
    elif workload.kind == "waiting":
        await turns.waiting(player, stage, workload)
    elif workload.kind == "burst":
        await turns.burst(player, stage, workload.at_once)
    else:
        count = plan.requests or workload.load
        await turns.load(player, count, plan.limit_s, plan.clients)
        await _alone(plan, workload, player)


async def _alone(plan: Plan, workload: Workload, player: turns.Player) -> None:
    """Send orders one after the other."""
    await turns.alone(player, plan.requests or workload.alone, plan.limit_s)


async def _books(stage: Stage, gateway: turns.Player, workload: Workload) -> result.Books | None:
    """Return what the gateway booked, after comparing it with what was sent and sold.

    A picture that was not paid, not kept or not its own makes the numbers mean nothing: then they
    are thrown away, and the reason stands in their place.
    """
    lines = [line for line in await stage.statement() if line["kind"] == "settle"]
    books = result.Books(
        answered=gateway.answered,
        sold_by_upstream=(await stage.state())["sold"].get(GATEWAY, 0),
        settled=len(lines),
        distinct_pictures=len({line["image_sha256"] for line in lines}),
        charged_micros=-sum(line["amount_micros"] for line in lines),
        stored_bytes=stage.stored_bytes(),
    )
    wrong = wrong_books(books, workload, failed=gateway.failed > 0)
    if not wrong:
        return books
    gateway.counted.error = f"its books do not fit the load: {wrong}; {books}"
    gateway.counted.turns.clear()
    gateway.counted.latencies_ms.clear()
    return None


def wrong_books(books: result.Books, workload: Workload, *, failed: bool) -> str:
    """Return in a few words what is wrong with the books; empty: nothing.

    Where calls have failed, more pictures may have been bought or settled than callers received:
    whoever hangs up can still collect them.
    """
    settled, answered, sold = books.settled, books.answered, books.sold_by_upstream
    kept = settled * workload.weight.picture_bytes
    more_bytes = books.stored_bytes > kept and workload.shape != "edit"
    faults = {
        "two orders have one picture": books.distinct_pictures != settled,
        "the charges are not the price of the pictures": (
            books.charged_micros != settled * contenders.PRICE_MICROS
        ),
        "not as many pictures were settled as delivered": (
            settled < answered or (settled > answered and not failed)
        ),
        "not as many pictures were settled as bought": (
            sold < settled or (sold > settled and not failed)
        ),
        "the store has not the bytes of the pictures": books.stored_bytes < kept or more_bytes,
    }
    return next((fault for fault, found in faults.items() if found), "")


def _allow_files(plan: Plan) -> None:
    """Let this process and its children open as many files as the system grants.

    Raises:
        BenchError: that is not enough for the plan.
    """
    try:
        import resource  # noqa: PLC0415 - not on Windows
    except ImportError:
        return
    needed = 2 * max(plan.clients_of(workload) for workload in plan.workloads) + _FILES_BESIDE
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    if most != resource.RLIM_INFINITY and most < needed:
        raise BenchError(f"{needed} open files are needed, {most} are allowed: see ulimit -Hn")
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


def _require_space(plan: Plan, workload: Workload, folder: Path) -> None:
    if GATEWAY not in plan.contenders:
        return
    most = plan.requests or workload.load + workload.alone
    orders = workload.at_once or most
    # A warm-up is half a round.
    rounds = plan.rounds_of(workload) + 0.5
    needed = int(orders * rounds * workload.weight.picture_bytes) + _FREE_BYTES
    if shutil.disk_usage(folder).free < needed:
        raise BenchError(
            f"{workload.name} needs {needed // _MB} MB of free disk for its pictures; "
            "name a folder with more space in TMPDIR"
        )


def cpus() -> int:
    """Return how many CPUs this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def this_machine() -> result.Machine:
    """Return on what we run; nothing that names the machine."""
    return result.Machine(
        system=platform.system(),
        processor=platform.machine(),
        cpus=cpus(),
        python=platform.python_version(),
    )
