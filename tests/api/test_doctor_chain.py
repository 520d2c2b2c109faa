"""The doctor's look at a chain: a real uvicorn behind a proxy with manners that the test chose."""

from __future__ import annotations

import asyncio
import dataclasses
import itertools
import socket
from dataclasses import dataclass

import pytest

from api.conftest import Server
from api.cutting_proxy import FORMS, Manners, cutting_proxy, seeded
from api.fake_gateway import KEY
from safelight.api.context import Services
from safelight.api.places import KeyPlaces
from safelight.clock import ManualClock
from safelight.doctor import Check, State
from safelight.doctor.chain.manners import Facts
from safelight.doctor.chain.measuring import Wanted, look
from safelight.doctor.chain.silence import Measured, Plan, ladder, measure
from safelight.doctor.chain.verdicts import silences
from safelight.doctor.chain.wire import Answer, Ending, Origin, Request, ask
from safelight.types import Secret

FACTS = Facts(deadline_s=300.0, max_request_bytes=1, max_json_bytes=1, version="1")


@pytest.fixture
def services(services: Services) -> Services:
    """Places enough for all chains of a test at one time."""
    return dataclasses.replace(services, diagnosing=KeyPlaces(400))


USUAL = Plan(longest_s=2.5, every_s=0.3)


@dataclass(frozen=True)
class Case:
    """A proxy's manners and what they are measured with."""

    manners: Manners
    plan: Plan = USUAL

    async def measure(self, server: Server) -> Measured:
        key = Secret(KEY)
        async with cutting_proxy(server.port, self.manners) as url:
            direct = Origin.parse(server.url, key)
            return await measure(Origin.parse(url, key), direct, self.plan)


DROP = Case(Manners(cut_s=1.0, form="drop"), Plan(longest_s=2.0, every_s=0.2, grace_s=1.0))
TOTAL = Case(Manners(total_s=1.0, form="fin"), Plan(longest_s=2.0, every_s=0.2, grace_s=1.0))
POLITE = Case(Manners(), Plan(longest_s=2.0, every_s=0.3))


async def test_proxies_that_cut_are_named_with_their_seconds(server: Server) -> None:
    """All at one time: pages name their maker, a closed or reset connection names nobody."""
    cases = [Case(seeded(seed)) for seed in range(len(FORMS))]
    everything = [*cases, DROP, TOTAL, POLITE]
    found = await asyncio.gather(*(case.measure(server) for case in everything))
    for case, measured in zip(cases, found, strict=False):
        _says_who_and_when(case.manners, measured)
    _narrowed_down(found[-3])
    for form in ("plain", "blanks", "events"):
        # A limit on the whole answer cuts lively ones, too.
        assert found[-2].of(form).cut_s == pytest.approx(1.0, abs=0.5)
    _only_asked_too_little(found[-1])


def _says_who_and_when(manners: Manners, measured: Measured) -> None:
    assert manners.cut_s is not None
    checks = {check.name: check for check in silences(measured, FACTS)}
    found = checks["silence"]
    assert found.state is State.FAILED
    assert found.facts["cut_s"] == pytest.approx(manners.cut_s, abs=0.5)
    assert found.facts["passed_s"] <= found.facts["cut_s"]
    assert found.facts["sure"]
    if manners.form in ("fin", "rst"):
        assert found.facts["hop"] is None
        assert {"fin": "FIN", "rst": "RST"}[manners.form] in found.found
    else:
        assert found.facts["hop"] == manners.form
        assert found.found.startswith(manners.form)
        assert "360" in found.advice
    assert "keep-alive" in found.advice
    assert (checks["keep-alive"].state, checks["streams"].state) == (State.OK, State.OK)
    assert measured.direct is not None
    assert measured.direct.cut_s is None


def _narrowed_down(measured: Measured) -> None:
    """Nobody sees when a connection is dropped: what passes and what does not tells."""
    plain = measured.of("plain")
    assert plain.cut_s is not None
    assert plain.cut is not None
    assert plain.cut.answer.ending is Ending.SILENT
    # A busy machine is late for its own timers: by less than would put another limit in doubt.
    assert 0.5 <= plain.cut_s <= 1.6
    assert plain.passed_s < plain.cut_s
    assert plain.cut_s - plain.passed_s <= 0.5


def _only_asked_too_little(measured: Measured) -> None:
    """Nothing was cut; that says nothing about the 300 s that a channel may take."""
    checks = {check.name: check for check in silences(measured, FACTS)}
    assert checks["silence"].state is State.UNCHECKED
    assert "--silence 300" in checks["silence"].advice
    assert {one.state for name, one in checks.items() if name != "silence"} == {State.OK}


async def test_a_cut_behind_the_direct_address_too_is_no_proxys(server: Server) -> None:
    async with cutting_proxy(server.port, Manners(cut_s=0.5, form="fin")) as url:
        origin = Origin.parse(url, Secret(KEY))
        found = await measure(origin, origin, Plan(longest_s=1.0, every_s=0.2))
    (check, *_) = silences(found, FACTS)
    assert "no proxy" in check.found


async def seen(server: Server, url: str) -> dict[str, Check]:
    """Return what the doctor finds at an address, by the name of the check."""
    wanted = Wanted(public=Origin.parse(url, Secret(KEY)), longest_s=0.9, every_s=0.2)
    return {check.name: check async for check in look(wanted, ManualClock())}


async def test_limits_of_bodies_and_buffers_are_found_and_their_owner(server: Server) -> None:
    async with (
        cutting_proxy(server.port, Manners(most_bytes=200_000)) as small,
        cutting_proxy(server.port, Manners(holds_back=True)) as slow,
    ):
        refused, held, plain = await asyncio.gather(
            *(seen(server, url) for url in (small, slow, server.url))
        )
    found = refused["body"]
    assert found.state is State.FAILED
    assert found.found.startswith("nginx refuses")
    assert "client_max_body_size" in found.advice
    assert found.facts["refused_bytes"] == server.services.config.server.max_request_bytes
    assert held["buffering"].state is State.FAILED
    assert held["buffering"].facts["held_s"] == pytest.approx(1.75, abs=0.7)
    assert not [name for name, one in plain.items() if one.state is State.FAILED]
    assert plain["tls"].state is State.WARNING


async def test_a_wrong_key_and_a_closed_port_are_told_apart(server: Server) -> None:
    wrong = Wanted(public=Origin.parse(server.url, Secret("sl_live_wrong")))
    checks = {check.name: check async for check in look(wrong, ManualClock())}
    assert "no such key" in checks["address"].found
    assert checks["silence"].state is State.UNCHECKED
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    nobody = Wanted(public=Origin.parse(f"http://127.0.0.1:{port}"))
    checks = {check.name: check async for check in look(nobody, ManualClock())}
    assert checks["address"].state is State.FAILED
    assert "cannot be reached" in checks["address"].found


async def test_what_is_no_http_is_no_exception() -> None:
    async def babble(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"SSH-2.0-OpenSSH_9.6\r\n")
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(babble, "127.0.0.1", 0)
    async with server:
        port = server.sockets[0].getsockname()[1]
        answer = await ask(Origin(False, "127.0.0.1", port, ""), Request(), timeout_s=5)
    assert answer.ending is Ending.GARBAGE


def test_a_ladder_ends_with_the_longest_and_grows_by_one_factor() -> None:
    steps = ladder(300.0, 16)
    assert (steps[0], steps[-1], len(steps)) == (5.0, 300.0, 16)
    factors = [b / a for a, b in itertools.pairwise(steps)]
    assert max(factors) - min(factors) < 0.01


def test_the_key_is_in_no_repr() -> None:
    assert KEY not in repr(Origin.parse("http://x", Secret(KEY)))
    assert not Answer().from_gateway
