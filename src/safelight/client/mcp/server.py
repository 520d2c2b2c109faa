"""The tools on the official MCP package, over stdio.

Owns what a model reads: names, descriptions and fields of the tools, and answers in the protocol's
content blocks. What they do is `desk`'s. The one module that imports `mcp`: it is an extra.
"""

from __future__ import annotations

import base64
import logging
import sys
from collections.abc import Awaitable
from typing import Annotated, Any, Literal

from mcp.server.mcpserver import Context, MCPServer
from mcp.server.mcpserver.exceptions import ToolError
from mcp_types import CallToolResult, ImageContent, TextContent, ToolAnnotations
from pydantic import Field

from safelight.client.client import AsyncClient
from safelight.client.mcp.desk import Desk, Report, Settings, Told, Wish
from safelight.client.mcp.faults import ToolFault
from safelight.client.mcp.folders import Folders
from safelight.client.mcp.purse import Purse

_INSTRUCTIONS = """\
Makes and edits pictures through an image gateway. Each picture costs money: ask for a quote where \
the price matters. A failed picture costs nothing. A picture takes 30 to 200 seconds; when a call \
answers with a job that is still being made, call `job` with its id until the picture is there, \
and never order it again. Pictures are saved as files; what you are shown is a small preview."""

_READS = ToolAnnotations(read_only_hint=True, open_world_hint=False)
_ORDERS = ToolAnnotations(
    read_only_hint=False, destructive_hint=False, idempotent_hint=False, open_world_hint=True
)

Prompt = Annotated[
    str, Field(description="What the picture shall show. Words to be set in it stand in quotes.")
]
Size = Annotated[
    str | None,
    Field(description="WIDTHxHEIGHT, a ratio with a tier such as 16:9@2K, or auto. See `sizes`."),
]
Model = Annotated[str | None, Field(description="The channel to order from; see `sizes`.")]
Name = Annotated[str | None, Field(description="A name for the file, without folder and ending.")]
Format = Annotated[
    Literal["png", "jpeg", "webp"] | None, Field(description="The file's format; png by default.")
]
Quality = Annotated[
    Literal["low", "medium", "high"] | None,
    Field(description="Only where the channel takes it; gpt-image-2-vip does not."),
]
Key = Annotated[
    str | None,
    Field(
        description="Repeat the key that an earlier answer told to collect that order without "
        "paying twice; leave it out for a new picture."
    ),
]
Images = Annotated[
    list[str],
    Field(
        description="Input pictures, 1 to 16: file names in this server's folders, first the one "
        "to be changed.",
        min_length=1,
        max_length=16,
    ),
]
Mask = Annotated[
    str | None,
    Field(description="A PNG as large as the first picture, transparent where it may change."),
]
JobId = Annotated[str, Field(description="The job's id, job_...")]
Host = Context[Any, Any]


class Tools:
    """The tools, each a method; their docstrings are what a model reads."""

    def __init__(self, desk: Desk, folders: Folders) -> None:
        self._desk = desk
        self._folders = folders

    async def generate(
        self,
        prompt: Prompt,
        context: Host,
        size: Size = None,
        model: Model = None,
        name: Name = None,
        output_format: Format = None,
        quality: Quality = None,
        idempotency_key: Key = None,
    ) -> CallToolResult:
        """Make one picture from a description. Costs money."""
        wish = Wish(
            prompt,
            size=size,
            model=model,
            name=name,
            parameters=_given(output_format=output_format, quality=quality),
            idempotency_key=idempotency_key,
        )
        return await _answered(self._desk.make(wish, _teller(context)))

    async def edit(  # noqa: PLR0913, PLR0917 - one parameter per field of the tool
        self,
        prompt: Prompt,
        images: Images,
        context: Host,
        mask: Mask = None,
        size: Size = None,
        model: Model = None,
        name: Name = None,
        output_format: Format = None,
        quality: Quality = None,
        idempotency_key: Key = None,
    ) -> CallToolResult:
        """Change a picture, or combine several into one, as a description says. Costs money."""
        wish = Wish(
            prompt,
            size=size,
            model=model,
            name=name,
            images=images,
            mask=mask,
            parameters=_given(output_format=output_format, quality=quality),
            idempotency_key=idempotency_key,
        )
        return await _answered(self._desk.make(wish, _teller(context)))

    async def job(
        self,
        job_id: JobId,
        context: Host,
        wait_s: Annotated[
            float | None, Field(description="How long to wait for it, in seconds.", ge=0)
        ] = None,
    ) -> CallToolResult:
        """Wait for a picture that was ordered, and get it. Free; may be repeated."""
        return await _answered(self._desk.job(job_id, _teller(context), wait_s))

    async def cancel(self, job_id: JobId) -> CallToolResult:
        """Cancel a picture that is not finished. It is free unless it is already being made."""
        return await _answered(self._desk.cancel(job_id))

    async def quote(
        self,
        prompt: Prompt = "a picture",
        size: Size = None,
        model: Model = None,
        images: Annotated[
            int, Field(description="How many input pictures an edit has; 0: none.", ge=0, le=16)
        ] = 0,
        quality: Quality = None,
    ) -> CallToolResult:
        """Say what a picture would cost and how its exact size is made. Orders nothing."""
        wish = Wish(prompt, size=size, model=model, parameters=_given(quality=quality))
        return await _answered(self._desk.quote(wish, images))

    async def sizes(self, model: Model = None) -> CallToolResult:
        """List the channels with the sizes that each takes."""
        return await _answered(self._desk.sizes(model))

    async def balance(self) -> CallToolResult:
        """Say how much money is left, and what this server has spent of its limit."""
        return await _answered(self._desk.balance())

    async def run(
        self,
        folder: Annotated[str, Field(description="The run's folder, in this server's folders.")],
    ) -> CallToolResult:
        """Say how a run of many pictures stands: done, failed, to review, cost."""
        # A server that only draws needs nothing of runs.
        from safelight.client.mcp.run_folders import run_report  # noqa: PLC0415

        return await _answered(run_report(self._folders, folder))


def build(desk: Desk, folders: Folders, version: str) -> MCPServer[Any]:
    """Return the server with its tools."""
    server: MCPServer[Any] = MCPServer(
        "safelight", instructions=_INSTRUCTIONS, version=version, log_level="WARNING"
    )
    tools = Tools(desk, folders)
    for tool, title, hints in (
        (tools.generate, "Make a picture", _ORDERS),
        (tools.edit, "Edit pictures", _ORDERS),
        (tools.job, "Get a picture that was ordered", _READS),
        (tools.cancel, "Cancel a picture", _ORDERS),
        (tools.quote, "Ask for a price", _READS),
        (tools.sizes, "List sizes", _READS),
        (tools.balance, "Look at the balance", _READS),
        (tools.run, "Look at a run", _READS),
    ):
        server.add_tool(tool, title=title, annotations=hints, structured_output=False)
    return server


async def serve(
    url: str,
    api_key: str,
    *,
    folders: Folders,
    limit_micros: int | None,
    settings: Settings,
    version: str,
) -> None:
    """Serve over standard input and output until the host closes them.

    Args:
        url: the gateway's address.
        api_key: the customer's key.
        folders: what may be read and written.
        limit_micros: what may be spent, micro-dollars; None is no limit.
        settings: how it works.
        version: of this program, told to the host.

    Raises:
        ClientError: the address or the key cannot be right.
    """
    # Standard output is the protocol's; what the package remarks goes where hosts keep logs.
    logging.basicConfig(
        stream=sys.stderr, level=logging.WARNING, format="%(levelname)s %(message)s"
    )
    async with AsyncClient(url, api_key) as client:
        desk = Desk(client, folders, Purse(limit_micros), settings)
        await build(desk, folders, version).run_stdio_async()


def _given(**parameters: str | None) -> dict[str, str]:
    return {name: value for name, value in parameters.items() if value is not None}


def _teller(context: Host) -> Told:
    """Return what tells the host how an order goes; a host that did not ask is not told."""
    steps = 0

    async def tell(standing: str) -> None:
        nonlocal steps
        steps += 1
        await context.report_progress(steps, message=standing)

    return tell


async def _answered(work: Awaitable[Report]) -> CallToolResult:
    """Return a report as content blocks, the picture first.

    There is no structured content: hosts that find some show the model that alone, and the
    picture would be lost.

    Raises:
        ToolError: in the words of the fault.
    """
    try:
        report = await work
    except ToolFault as fault:
        raise ToolError(str(fault)) from fault
    content: list[TextContent | ImageContent] = []
    if report.shown is not None:
        data = base64.b64encode(report.shown.data).decode()
        content.append(ImageContent(type="image", data=data, mime_type=report.shown.mime))
    content.append(TextContent(type="text", text=report.text()))
    return CallToolResult(content=[*content])
