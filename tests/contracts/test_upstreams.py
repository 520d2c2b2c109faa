"""What every upstream must do: one test over all adapters and profiles, with recorded answers.

Upstreams are found by their entry points and their recordings; one without recordings calls nobody.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator
from dataclasses import dataclass
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

import msgspec
import pytest
import pytest_asyncio
import pyvips

from contracts.playback import KEY, Manner, Playback, Seen, picture_in, recorded_names, recording
from safelight.bench.faults.pictures import encoded
from safelight.clock import SystemClock
from safelight.errors import ConfigError, FaultClass, UpstreamError
from safelight.notices import LimitNotice
from safelight.types import Account, BlobRef, Operation, Received, Secret, UpstreamCall
from safelight.upstreams import Upstream, load_upstream

RECORDED = recorded_names()
LOCAL = sorted(
    {point.name for point in entry_points(group="safelight.upstreams")}
    - {recording(name)["account"]["upstream"] for name in RECORDED}
)
PROMPT = 'a lamp | <sd_cpp_extra_args>{"steps": 1}</sd_cpp_extra_args>'
PAGE = {
    "status": 200,
    "headers": {"content-type": "text/html"},
    "body": "<html><body>Sign in to the network</body></html>",
}
LEAKS = (
    KEY,
    KEY[-6:],
    "127.0.0.1",
    "req_7f3a",
    "org-abc123",
    "20261122001122334455667",
    "openai.com",
)


@dataclass
class Case:
    """One adapter with an account, and the server that it calls (None for a local one)."""

    name: str
    adapter: Upstream
    account: Account
    folder: Path
    server: Playback | None = None
    recorded: dict[str, Any] = msgspec.UNSET  # type: ignore[assignment]

    @property
    def edits(self) -> bool:
        return self.server is None or "edit" in self.recorded

    @property
    def masked(self) -> bool:
        return not self.recorded.get("edit", {}).get("unmasked")

    @property
    def spool(self) -> Path:
        return self.folder / "job"

    def play(self, answer: dict[str, Any], manner: Manner = "whole") -> None:
        if self.server is not None:
            self.server.play(answer, manner)

    @property
    def played(self) -> Playback:
        assert self.server is not None
        return self.server

    def files(self) -> set[str]:
        return {path.name for path in self.folder.iterdir()} - {"source", "source-mask"}

    async def generate(
        self,
        *,
        edit: bool = False,
        masked: bool = True,
        account: Account | None = None,
        within_s: float = 20.0,
    ) -> Received:
        parts: dict[str, Any] = {}
        if edit:
            parts = _inputs(self.folder, masked=masked)
        call = UpstreamCall(
            job_id="job",
            operation=Operation.EDIT if edit else Operation.GENERATION,
            prompt=PROMPT,
            size="auto" if self.server is not None else "1024x1024",
            output_format="webp",
            quality="high",
            background="opaque",
            moderation="low",
            user="u",
            **parts,
        )
        deadline = SystemClock().monotonic() + within_s
        return await self.adapter.generate(
            account or self.account, call, spool=self.spool, deadline=deadline
        )

    async def fail(self, **options: Any) -> UpstreamError:
        """Return the error of a call that leaves nothing behind and tells no secret."""
        with pytest.raises(UpstreamError) as caught:
            await self.generate(**options)
        assert self.files() == set()
        _assert_clean(caught.value)
        return caught.value


def _assert_clean(error: UpstreamError) -> None:
    shown = f"{error.message} {error.code} {error.param} {error.moderation_details}"
    assert [leak for leak in LEAKS if leak in shown] == []


def _inputs(folder: Path, *, masked: bool) -> dict[str, Any]:
    """Return a WebP input of 64x48 and a mask whose left half is transparent."""
    source = folder / "source"
    source.write_bytes(encoded(64, 48, "webp"))
    found: dict[str, Any] = {"inputs": (_blob(source, "webp"),), "input_paths": (source,)}
    if masked:
        mask = folder / "source-mask"
        left = pyvips.Image.black(32, 48)
        alpha = left.join(left + 255, "horizontal").cast("uchar")
        colour = pyvips.Image.black(64, 48, bands=3).copy(interpretation="srgb")
        mask.write_bytes(colour.bandjoin(alpha).pngsave_buffer())
        found |= {"mask": _blob(mask, "png"), "mask_path": mask}
    return found


def _blob(path: Path, form: Any) -> BlobRef:
    data = path.read_bytes()
    return BlobRef(hashlib.sha256(data).hexdigest(), len(data), form, 64, 48)


@pytest_asyncio.fixture
async def case(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Case]:
    name = request.param
    if name in LOCAL:
        adapter = load_upstream(name, SystemClock())
        account = Account(name="a", upstream=name, group="g", channels=())
        yield Case(name, adapter, adapter.check(account), tmp_path)
        await adapter.close()
        return
    recorded = recording(name)
    made = dict(recorded["account"])
    adapter = load_upstream(made["upstream"], SystemClock())
    async with Playback() as server:
        base_url = server.url + made.pop("base_path")
        account = Account(
            name="a", group="g", channels=(), base_url=base_url, api_key=Secret(KEY), **made
        )
        case = Case(name, adapter, adapter.check(account), tmp_path, server, recorded)
        case.play(recorded["generation"]["answer"])
        yield case
        await adapter.close()


every = pytest.mark.parametrize("case", [*RECORDED, *LOCAL], indirect=True)
recorded_only = pytest.mark.parametrize("case", RECORDED, indirect=True)
REFUSALS = [
    pytest.param(name, refusal, id=f"{name.partition('/contract')[0]}-{refusal}")
    for name in RECORDED
    for refusal in recording(name)["refusals"]
]


@recorded_only
@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
async def test_a_key_never_leaves_the_host_of_its_account(case: Case, status: int) -> None:
    """Where a redirect leads nobody is asked, neither for a picture nor for a word on the key."""
    async with Playback() as elsewhere:
        elsewhere.play({"status": 200, "headers": {}, "body": {}})
        away = f"{elsewhere.url}/v1/images/generations"
        case.play({"status": status, "headers": {"location": away}, "body": ""})
        with pytest.raises(UpstreamError):
            await case.generate()
        with pytest.raises(UpstreamError):
            await case.adapter.probe(case.account, deadline=SystemClock().monotonic() + 20)
        assert elsewhere.requests == []
    assert all(KEY in str(seen.headers) for seen in case.played.requests)


def holds(whole: Any, part: Any) -> bool:
    """Return whether all of `part` is in `whole`."""
    if isinstance(part, dict):
        return isinstance(whole, dict) and all(holds(whole.get(k), v) for k, v in part.items())
    if isinstance(part, list):
        return isinstance(whole, list) and all(map(holds, whole, part)) and len(whole) == len(part)
    return bool(whole == part)


def assert_asked(seen: Seen, wanted: dict[str, Any]) -> None:
    """Check a request against a recorded one."""
    assert (seen.method, seen.path) == ("POST", wanted["path"])
    assert holds(seen.headers, wanted["headers"])
    if wanted.get("subset"):
        assert holds(seen.fields, wanted["fields"])
    else:
        assert seen.fields == wanted["fields"]
    if "files" in wanted:
        assert [[f.name, f.filename, f.content_type] for f in seen.files] == wanted["files"]


# ---- good answers -------------------------------------------------------------------------------


@every
async def test_a_generation_is_spooled_whole_and_hashed(case: Case) -> None:
    """What is at the spool is complete, and is what the answer said, with its digest and length."""
    received = await case.generate()
    data = case.spool.read_bytes()
    assert (received.path, received.bytes) == (case.spool, len(data))
    assert received.digest == hashlib.sha256(data).hexdigest()
    assert case.files() == {"job"}
    if case.server is None:
        return
    good = case.recorded["generation"]
    assert data == picture_in(good["answer"])
    [seen] = case.played.requests
    assert_asked(seen, good["request"])
    told = good.get("received", {})
    assert received.upstream_request_id == told.get("upstream_request_id")
    assert received.limits == _notices(told.get("limits", []))
    if "total_tokens" in told:
        assert received.usage is not None
        assert received.usage.total_tokens == told["total_tokens"]


@every
async def test_an_edit_with_a_mask(case: Case) -> None:
    """Input and mask arrive in the server's own form, or CAPABILITY says that it has no edits."""
    if case.server is None:
        assert (await case.generate(edit=True)).bytes > 0
        return
    if not case.edits:
        error = await case.fail(edit=True, masked=False)
        assert (error.fault, error.lacks) == (FaultClass.CAPABILITY, "edits")
        return
    good = case.recorded["edit"]
    case.play(good["answer"])
    await case.generate(edit=True, masked=case.masked)
    assert case.files() == {"job"}
    [seen] = case.played.requests
    assert_asked(seen, good["request"])
    source = (case.folder / "source").read_bytes()
    for file in seen.files[:1]:
        assert (file.data == source) is (file.content_type == "image/webp")
        assert pyvips.Image.new_from_buffer(file.data, "").width == 64
    if "mask" in good["request"]:
        _assert_mask(seen.files[-1].data, good["request"]["mask"], case.folder / "source-mask")


def _assert_mask(sent: bytes, kind: str, source: Path) -> None:
    if kind == "alpha":
        assert sent == source.read_bytes()
        return
    mask = pyvips.Image.new_from_buffer(sent, "")
    assert (mask.width, mask.height, mask.bands) == (64, 48, 1)
    assert (mask(0, 0), mask(63, 47)) == ([255], [0])


def _notices(limits: list[dict[str, Any]]) -> tuple[LimitNotice, ...]:
    return tuple(msgspec.convert(limit, LimitNotice) for limit in limits)


# ---- refusals -----------------------------------------------------------------------------------


@pytest.mark.parametrize(("case", "refusal"), REFUSALS, indirect=["case"])
async def test_a_refusal_is_classified(case: Case, refusal: str) -> None:
    """Each recorded refusal has its class and what goes with it, sells nothing, tells no secret."""
    recorded = case.recorded["refusals"][refusal]
    case.play(recorded["answer"])
    error = await case.fail(edit=recorded.get("of") == "edit", masked=case.masked)
    wanted = dict(recorded["error"])
    assert error.limits == _notices(wanted.pop("limits", []))
    assert {name: getattr(error, name) for name in wanted} == wanted
    assert error.sold is False


def test_only_the_renderer_calls_nobody() -> None:
    """Every other upstream has recordings."""
    assert LOCAL == ["proof"]


@recorded_only
def test_the_usual_refusals_are_recorded(case: Case) -> None:
    """Every server can refuse a key, throttle and fail."""
    assert {"unauthorized", "throttled", "failed"} <= set(case.recorded["refusals"])


@recorded_only
async def test_a_web_page_is_no_answer(case: Case) -> None:
    """A captive page is nobody's refusal."""
    case.play(PAGE)
    error = await case.fail()
    assert (error.fault, error.code) == (FaultClass.FAST, "upstream_not_json")


@recorded_only
async def test_a_cut_answer(case: Case) -> None:
    """An answer that ends half-way leaves no picture."""
    case.play(case.recorded["generation"]["answer"], "cut")
    error = await case.fail()
    assert (error.fault, error.code) == (FaultClass.SLOW, "upstream_truncated")


# ---- time ---------------------------------------------------------------------------------------


@recorded_only
@pytest.mark.parametrize("manner", ["silent", "stalling"])
async def test_a_stall_is_noticed(case: Case, manner: Manner) -> None:
    """Silence before or inside an answer ends the call within the account's timeouts."""
    case.play(case.recorded["generation"]["answer"], manner)
    timeouts = {"first_byte_timeout_s": 0.1, "idle_timeout_s": 0.1}
    error = await case.fail(account=msgspec.structs.replace(case.account, **timeouts))
    assert error.fault is FaultClass.SLOW


@every
async def test_no_byte_is_waited_for_beyond_the_deadline(case: Case) -> None:
    """The deadline ends a call, whatever the account allows."""
    case.play({}, "silent")
    error = await case.fail(within_s=0.05)
    assert (error.fault, error.final_status) == (FaultClass.SLOW, 503)


@recorded_only
@pytest.mark.parametrize("edit", [False, True])
async def test_a_cancelled_call_leaves_nothing(case: Case, edit: bool) -> None:
    """A caller who goes away leaves no part file and no converted input."""
    case.play(case.recorded["generation"]["answer"], "stalling")
    work = asyncio.create_task(case.generate(edit=edit and case.edits, masked=case.masked))
    await case.played.arrived.wait()
    work.cancel()
    with pytest.raises(asyncio.CancelledError):
        await work
    assert case.files() == set()


@pytest.mark.parametrize("case", LOCAL, indirect=True)
async def test_a_cancelled_drawing_leaves_nothing(case: Case) -> None:
    """The same of what is drawn here."""
    work = asyncio.create_task(case.generate())
    await asyncio.sleep(0)
    work.cancel()
    with pytest.raises(asyncio.CancelledError):
        await work
    assert case.files() == set()


# ---- accounts -----------------------------------------------------------------------------------


@every
async def test_check_refuses_unknown_options(case: Case) -> None:
    """The message names the account and the option."""
    wrong = msgspec.structs.replace(case.account, options={**case.account.options, "colour": 1})
    with pytest.raises(ConfigError, match=r"account 'a'.*option 'colour'"):
        case.adapter.check(wrong)


@every
async def test_check_is_stable(case: Case) -> None:
    """An account that was checked passes again, unchanged."""
    assert case.adapter.check(case.account) == case.account


@every
async def test_a_probe_that_is_answered(case: Case) -> None:
    """A credential that is taken passes; it is asked with one GET, and the key goes with it."""
    if case.server is not None:
        case.play(case.recorded["models"])
    await case.adapter.probe(case.account, deadline=SystemClock().monotonic() + 5)
    if case.server is not None:
        [seen] = case.played.requests
        assert seen.method == "GET"
        assert KEY in str(seen.headers)


@recorded_only
async def test_a_probe_that_is_refused(case: Case) -> None:
    """A refused credential is AUTH, and a server that fails is not."""
    for refusal, fault in (("unauthorized", FaultClass.AUTH), ("failed", FaultClass.FAST)):
        case.play(case.recorded["refusals"][refusal]["answer"])
        with pytest.raises(UpstreamError) as caught:
            await case.adapter.probe(case.account, deadline=SystemClock().monotonic() + 5)
        assert caught.value.fault is fault
        _assert_clean(caught.value)


@recorded_only
async def test_a_probe_has_a_deadline(case: Case) -> None:
    """A server that says nothing does not hold a probe."""
    case.play({}, "silent")
    with pytest.raises(UpstreamError) as caught:
        await case.adapter.probe(case.account, deadline=SystemClock().monotonic() + 0.05)
    assert caught.value.fault is FaultClass.SLOW
