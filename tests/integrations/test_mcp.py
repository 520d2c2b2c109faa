"""The MCP server with the official client: in the same process, and once as a host starts it.

The gateway is real. Money is compared with the gateway's own books.
"""

from __future__ import annotations

import asyncio
import base64
import sys
import threading
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from e2e.books import check_sums
from e2e.process import GatewayProcess, accounts
from safelight.bench.faults.script import Kind, by_prompt
from safelight.bench.faults.server import FaultUpstream
from safelight.cli.picture import Measured, measure
from safelight.client.client import AsyncClient
from safelight.client.mcp.desk import Desk, Settings
from safelight.client.mcp.folders import Folders
from safelight.client.mcp.purse import Purse, dollars

if TYPE_CHECKING:  # a second to load, by every worker that collects the tests
    from mcp import Client, StdioServerParameters
    from mcp_types import CallToolResult

SETTINGS = Settings("gpt-image-2-vip", wait_s=60, preview=256)


@pytest.fixture(scope="module")
def upstream() -> Iterator[FaultUpstream]:
    """A vendor that is slow where the prompt says so, and blocks where it says so."""
    acts = by_prompt({"slowly": {"kind": "ok", "latency_s": 1.5}, "blocked": Kind.MODERATION})
    with FaultUpstream.in_thread(acts) as running:
        yield running


@pytest.fixture(scope="module")
def gateway(
    upstream: FaultUpstream, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[GatewayProcess]:
    folder = tmp_path_factory.mktemp("gateway")
    with GatewayProcess(folder, accounts(upstream.base_url, 1)) as running:
        yield running
        running.stop()


@pytest.fixture
def key(gateway: GatewayProcess) -> str:
    return gateway.first_key or ""


class Host:
    """A host with a connected server: calls tools and reads their answers."""

    def __init__(self, client: Client) -> None:
        self.client = client
        self.told: list[str] = []

    async def call(self, tool: str, **arguments: Any) -> CallToolResult:
        return await self.client.call_tool(tool, arguments, progress_callback=self._progress)

    async def facts(self, tool: str, **arguments: Any) -> dict[str, str]:
        return facts(await self.call(tool, **arguments))

    async def fault(self, tool: str, **arguments: Any) -> str:
        answer = await self.call(tool, **arguments)
        assert answer.is_error, answer
        return text(answer)

    async def _progress(  # the protocol gives all three
        self,
        progress: float,  # noqa: ARG002
        total: float | None,  # noqa: ARG002
        message: str | None,
    ) -> None:
        self.told.append(message or "")


@asynccontextmanager
async def host(
    url: str, key: str, folders: Folders, limit: int | None = None, settings: Settings = SETTINGS
) -> AsyncIterator[Host]:
    from mcp import Client

    from safelight.client.mcp.server import build

    async with AsyncClient(url, key) as gateway_client:
        desk = Desk(gateway_client, folders, Purse(limit), settings)
        async with Client(build(desk, folders, "test")) as client:
            yield Host(client)


def text(answer: CallToolResult) -> str:
    from mcp_types import TextContent

    return "\n".join(one.text for one in answer.content if isinstance(one, TextContent))


def facts(answer: CallToolResult) -> dict[str, str]:
    assert not answer.is_error, text(answer)
    lines = (line.partition(": ") for line in text(answer).splitlines())
    return {name: value for name, separator, value in lines if separator}


def shown(answer: CallToolResult) -> Measured:
    from mcp_types import ImageContent

    [picture] = [one for one in answer.content if isinstance(one, ImageContent)]
    found = measure(base64.b64decode(picture.data))
    assert picture.mime_type == f"image/{found.format}"
    return found


async def test_a_picture_is_saved_whole_shown_small_and_charged_once(
    gateway: GatewayProcess, key: str, tmp_path: Path
) -> None:
    """A name that leads out of the folder stays in; the key collects the picture again, free."""
    before = check_sums(gateway.url, key)["posted_micros"]
    async with host(gateway.url, key, Folders(tmp_path / "out")) as assistant:
        answer = await assistant.call(
            "generate", prompt="a lamp", size="16:9@2K", name="../../etc/lamp.png"
        )
        first = facts(answer)
        assert Path(first["file"]) == tmp_path / "out" / "lamp.png"
        assert measure(Path(first["file"]).read_bytes()) == Measured("png", 2048, 1152)
        assert shown(answer) == Measured("jpeg", 256, 144)
        assert first["cost"] == "0.03 dollars"
        assert first["link"].startswith(gateway.url)
        again = await assistant.facts(
            "generate", prompt="a lamp", size="16:9@2K", idempotency_key=first["idempotency key"]
        )
        assert (again["file"], again["job"]) == (first["file"], first["job"])
        assert again["money"] == "0.03 dollars spent since this server started"
        assert [path.name for path in (tmp_path / "out").iterdir()] == ["lamp.png"]
    assert check_sums(gateway.url, key)["posted_micros"] == before - 30_000


async def test_an_edit_takes_pictures_of_its_folders_alone(
    gateway: GatewayProcess, key: str, tmp_path: Path
) -> None:
    """A file beside the folders is refused by name, and so is a link that leads there."""
    outside, inside = tmp_path / "outside", tmp_path / "inside"
    outside.mkdir()
    inside.mkdir()
    folders = Folders(tmp_path / "out", (inside,))
    async with host(gateway.url, key, folders) as assistant:
        made = await assistant.facts("generate", prompt="a lamp", size="1024x1024")
        picture = Path(made["file"]).read_bytes()
        (inside / "table.png").write_bytes(picture)
        (outside / "secret.png").write_bytes(picture)
        (inside / "link.png").symlink_to(outside / "secret.png")
        edited = await assistant.call(
            "edit",
            prompt="put it on the table",
            images=[Path(made["file"]).name, str(inside / "table.png")],
            size="1820x1024",
            output_format="webp",
            name="both",
        )
        assert measure(Path(facts(edited)["file"]).read_bytes()) == Measured("webp", 1820, 1024)
        for name in (str(outside / "secret.png"), "link.png", "../outside/secret.png", "a\0b"):
            said = await assistant.fault("edit", prompt="x", images=[name])
            assert str(inside) in said
        assert (
            "no such file" in (await assistant.fault("edit", prompt="x", images=["no.png"])).lower()
        )
        (inside / "words.png").write_text("no picture")
        assert "words.png" in await assistant.fault("edit", prompt="x", images=["words.png"])


async def test_the_limit_is_never_passed(gateway: GatewayProcess, key: str, tmp_path: Path) -> None:
    """With 0.07 dollars two pictures are made, and the third is refused before it is ordered."""
    before = check_sums(gateway.url, key)["posted_micros"]
    async with host(gateway.url, key, Folders(tmp_path), 70_000) as assistant:
        for number in range(2):
            await assistant.facts("generate", prompt=f"a lamp {number}", size="1024x1024")
        said = await assistant.fault("generate", prompt="one more", size="1024x1024")
        assert "0.06 of 0.07 are spent or held" in said
        assert "--max-cost" in said
        money = await assistant.facts("balance")
        assert money["available"] == f"{dollars(before - 60_000)} dollars"
    assert check_sums(gateway.url, key)["posted_micros"] == before - 60_000


async def test_calls_together_share_the_limit(
    gateway: GatewayProcess, key: str, tmp_path: Path
) -> None:
    """Of five calls at once with 0.10 dollars three get a picture, and the books say so, too."""
    before = check_sums(gateway.url, key)["posted_micros"]
    async with host(gateway.url, key, Folders(tmp_path), 100_000) as assistant:
        answers = await asyncio.gather(
            *(assistant.call("generate", prompt=f"cup {n}", size="1024x1024") for n in range(5))
        )
    assert sorted(answer.is_error for answer in answers) == [False] * 3 + [True] * 2
    assert len(list(tmp_path.iterdir())) == 3
    assert check_sums(gateway.url, key)["posted_micros"] == before - 90_000


async def test_prices_sizes_and_refusals_are_told(
    gateway: GatewayProcess, key: str, tmp_path: Path
) -> None:
    """A quote names price and plan; a refusal names the parameter, and nothing was charged."""
    async with host(gateway.url, key, Folders(tmp_path)) as assistant:
        quote = await assistant.facts("quote", size="1820x1024", images=2)
        assert quote["price"] == "0.03 dollars"
        assert quote["size"].startswith("1820x1024 (crop")
        sizes = await assistant.facts("sizes", model="gpt-image-2-vip")
        assert "2048x1152 (16:9 2K)" in sizes["gpt-image-2-vip"]
        said = await assistant.fault("generate", prompt="x", size="1234x999")
        assert "Nothing was charged. Change 'size'" in said
        said = await assistant.fault("generate", prompt="x", quality="high")
        assert "Nothing was charged. Change 'quality'" in said
        assert "job_none" in await assistant.fault("job", job_id="job_none")
    assert list(tmp_path.iterdir()) == []


async def test_a_slow_picture_is_a_job_to_come_back_for(
    gateway: GatewayProcess, upstream: FaultUpstream, key: str, tmp_path: Path
) -> None:
    """The call answers in time with the job; its price stays held; later calls get the picture."""
    hasty = Settings("gpt-image-2-vip", wait_s=0.2, preview=0)
    sales = len(upstream.books.sales)
    async with host(gateway.url, key, Folders(tmp_path), 30_000, hasty) as assistant:
        answer = await assistant.call("generate", prompt="a lamp, slowly", size="1024x1024")
        job = facts(answer)["job"]
        assert f'call job with job_id="{job}"' in text(answer)
        assert "0.03 held" in facts(answer)["money"]
        assert "0.03 of 0.03" in await assistant.fault("generate", prompt="another")
        while "file" not in facts(answer):
            answer = await assistant.call("job", job_id=job)
        assert [one.type for one in answer.content] == ["text"]
        assert facts(answer)["money"].startswith("0.03 dollars of 0.03 spent")
        assert any("queued" in told or "in_progress" in told for told in assistant.told)
    assert len(upstream.books.sales) == sales + 1


async def test_a_job_can_be_cancelled(gateway: GatewayProcess, key: str, tmp_path: Path) -> None:
    """Cancelled before its call is out or after, the purse agrees with the books about its cost."""
    hasty = Settings("gpt-image-2-vip", wait_s=0.2, preview=0)
    before = check_sums(gateway.url, key)["posted_micros"]
    async with host(gateway.url, key, Folders(tmp_path), 30_000, hasty) as assistant:
        made = await assistant.facts("generate", prompt="a cup, slowly", size="1024x1024")
        assert (await assistant.facts("cancel", job_id=made["job"]))["job"] == made["job"]
        answer = await assistant.call("job", job_id=made["job"])
        while not answer.is_error and "file" not in facts(answer):
            answer = await assistant.call("job", job_id=made["job"])
        spent = before - check_sums(gateway.url, key)["posted_micros"]
        told = (await assistant.facts("balance"))["money"]
        assert told == f"{dollars(spent)} dollars of 0.03 spent since this server started"


async def test_a_blocked_prompt_says_what_to_change_and_frees_its_price(
    gateway: GatewayProcess, key: str, tmp_path: Path
) -> None:
    """A refusal by a safety system is free, here and in the books, and says what to do."""
    before = check_sums(gateway.url, key)
    async with host(gateway.url, key, Folders(tmp_path), 30_000) as assistant:
        for number in range(2):
            said = await assistant.fault("generate", prompt=f"blocked {number}", size="1024x1024")
            assert "Nothing was charged. Change the prompt" in said
        assert (await assistant.facts("balance"))["money"].startswith("0.00 dollars of 0.03")
    assert check_sums(gateway.url, key) == before


async def test_any_server_of_the_images_api_will_do(
    upstream: FaultUpstream, tmp_path: Path
) -> None:
    """Without quotes the limit needs a price; with one it is kept, and jobs are no topic."""
    async with host(upstream.base_url, "sk-any", Folders(tmp_path), 50_000) as assistant:
        assert "starts this server with --price" in await assistant.fault("generate", prompt="x")
    priced = Settings("gpt-image-2", wait_s=60, preview=128, price_micros=40_000)
    async with host(upstream.base_url, "sk-any", Folders(tmp_path), 50_000, priced) as assistant:
        made = await assistant.facts("generate", prompt="a lamp", size="1024x1024")
        assert measure(Path(made["file"]).read_bytes()).size == "1024x1024"
        assert made["cost"] == "not told"
        assert made["money"].startswith("0.04 dollars of 0.05 spent")
        assert "0.04 of 0.05" in await assistant.fault("generate", prompt="another")
        assert "no safelight" in await assistant.fault("balance")


@pytest.mark.campaign
async def test_a_killed_gateway_costs_no_second_picture(tmp_path: Path) -> None:
    """Killed while the vendor draws and started again: one picture comes, and one charge."""
    asked = threading.Event()

    def slowly(_: object) -> dict[str, object]:
        asked.set()
        return {"kind": "ok", "latency_s": 2}

    with FaultUpstream.in_thread(slowly) as slow:
        house = GatewayProcess(tmp_path / "gateway", accounts(slow.base_url, 1))
        with house:
            key = house.first_key or ""
            async with host(house.url, key, Folders(tmp_path / "out")) as assistant:
                call = asyncio.create_task(assistant.facts("generate", prompt="a lamp"))
                assert await asyncio.to_thread(asked.wait, 30)
                await asyncio.to_thread(house.kill)
                await asyncio.to_thread(house.start)
                made = await call
            assert Path(made["file"]).is_file()
            balance = check_sums(house.url, key)
            assert (balance["posted_micros"], balance["held_micros"]) == (9_970_000, 0)
            house.stop()


async def test_as_a_host_starts_it(gateway: GatewayProcess, key: str, tmp_path: Path) -> None:
    """`safelight mcp` over stdio, with the handshake that most hosts use: tools, picture, error."""
    from mcp import Client

    server = parameters(tmp_path, {"SAFELIGHT_URL": gateway.url, "SAFELIGHT_API_KEY": key})
    async with Client(server, mode="legacy") as client:
        assistant = Host(client)
        listed = (await client.list_tools()).tools
        assert {tool.name for tool in listed} == {
            "generate",
            "edit",
            "job",
            "cancel",
            "quote",
            "sizes",
            "balance",
            "run",
        }
        assert all(tool.description and tool.annotations for tool in listed)
        answer = await assistant.call("generate", prompt="a lamp", size="1024x1024")
        assert shown(answer) == Measured("jpeg", 128, 128)
        assert Path(facts(answer)["file"]).parent == tmp_path / "pictures"
        assert "outside" in await assistant.fault("edit", prompt="x", images=["/etc/hostname"])
    assert (tmp_path / "mcp.log").read_text() == ""


def parameters(folder: Path, environ: Mapping[str, str]) -> StdioServerParameters:
    """Return how a host starts the server; what it writes to stderr goes to mcp.log."""
    from mcp import StdioServerParameters

    command = f'exec "{sys.executable}" -m safelight mcp --preview 128 --max-cost 1 2>mcp.log'
    return StdioServerParameters(command="sh", args=["-c", command], env=dict(environ), cwd=folder)
