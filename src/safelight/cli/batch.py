"""`safelight batch`: many orders in one file, sent, watched, cancelled and fetched.

Speaks HTTP to the gateway, as the customer whose key it is given; the forms are those of the OpenAI
Batch API. Owns the table and the files that are written.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import msgspec
import typer

from safelight.cli import options, output
from safelight.cli.errors import AnswerError, CliError, ExitCode
from safelight.cli.forms import FilePart, form_body, json_body
from safelight.cli.http import Gateway, in_path
from safelight.cli.progress import Waiting
from safelight.cli.table import Column

ROUTE = "/v1/batches"
WINDOW = "24h"
DAY_S = 86_400.0
ENDED = ("completed", "failed", "expired", "cancelled")
_PAUSE_FIRST_S, _PAUSE_MAX_S = 1.0, 30.0
_COLUMNS = (
    Column("id"),
    Column("status"),
    Column("done", right=True),
    Column("failed", right=True),
    Column("of", right=True),
    Column("made (UTC)", rank=2),
    Column("until (UTC)", rank=3),
    Column("model", rank=4),
)

batch = typer.Typer(no_args_is_help=True, help="Many orders in one file, within a day.")
BatchId = Annotated[str, typer.Argument(metavar="ID", help="From `safelight batch list`.")]
Target = Annotated[
    Path | None,
    typer.Option(
        "--output",
        "-o",
        dir_okay=False,
        help="Where the output goes; errors go beside it, with -errors before the ending.",
        show_default="ID.jsonl",
    ),
]
WaitTime = Annotated[
    float,
    typer.Option("--timeout", min=1, help="Seconds for everything.", rich_help_panel="Gateway"),
]


@batch.command()
def submit(  # noqa: PLR0913, PLR0917  (the options of the command)
    context: typer.Context,
    source: Annotated[
        Path,
        typer.Argument(metavar="FILE", help="JSON lines.", exists=True, dir_okay=False),
    ],
    window: Annotated[str, typer.Option(help="When it must be done.")] = WINDOW,
    wait: Annotated[
        bool, typer.Option("--wait", help="Wait for its end, then fetch.", show_default=False)
    ] = False,
    target: Target = None,
    url: options.Url = "",
    api_key: options.ApiKey = "",
    timeout: WaitTime = DAY_S,
    as_json: options.Json = False,
) -> None:
    """Upload FILE and make a batch of it; all lines must name the route of the first."""
    endpoint = _endpoint_of(source)
    gateway = options.gateway(context, url, api_key, timeout)
    data = source.read_bytes()
    part = FilePart("file", source.name, "application/jsonl", data)
    with gateway.send("POST", "/v1/files", form_body({"purpose": "batch"}, [part])) as reply:
        file = _object(reply.json())
    body = {"input_file_id": file["id"], "endpoint": endpoint, "completion_window": window}
    with gateway.send("POST", ROUTE, json_body(body)) as reply:
        made = _object(reply.json())
    if not wait:
        _show(made, as_json=as_json)
        return
    made = _ended(gateway, made, quiet=as_json)
    _fetch(gateway, made, target, quiet=as_json)
    _show(made, as_json=as_json)
    _check_end(made)


@batch.command()
def status(
    context: typer.Context,
    batch_id: BatchId,
    url: options.Url = "",
    api_key: options.ApiKey = "",
    timeout: options.Timeout = 60.0,
    as_json: options.Json = False,
) -> None:
    """Show how far a batch is, and what is wrong with its file."""
    gateway = options.gateway(context, url, api_key, timeout)
    _show(_batch(gateway, batch_id), as_json=as_json)


@batch.command("list")
def list_batches(
    context: typer.Context,
    limit: Annotated[int, typer.Option(min=1, max=100, help="At most so many.")] = 20,
    url: options.Url = "",
    api_key: options.ApiKey = "",
    timeout: options.Timeout = 60.0,
    as_json: options.Json = False,
) -> None:
    """List your batches, newest first."""
    found = _object(options.gateway(context, url, api_key, timeout).get(ROUTE, {"limit": limit}))
    if as_json:
        output.print_json(found)
        return
    output.print_table(_COLUMNS, [_row(one) for one in found.get("data", [])])


@batch.command()
def cancel(
    context: typer.Context,
    batch_id: BatchId,
    url: options.Url = "",
    api_key: options.ApiKey = "",
    timeout: options.Timeout = 60.0,
    as_json: options.Json = False,
) -> None:
    """Let nothing more of a batch begin; calls that are out at a vendor still end."""
    gateway = options.gateway(context, url, api_key, timeout)
    with gateway.send("POST", f"{ROUTE}/{in_path(batch_id)}/cancel") as reply:
        _show(_object(reply.json()), as_json=as_json)


@batch.command()
def download(
    context: typer.Context,
    batch_id: BatchId,
    target: Target = None,
    url: options.Url = "",
    api_key: options.ApiKey = "",
    timeout: WaitTime = DAY_S,
    as_json: options.Json = False,
) -> None:
    """Fetch the output and the errors of a batch that has ended."""
    gateway = options.gateway(context, url, api_key, timeout)
    found = _batch(gateway, batch_id)
    if found.get("status") not in ENDED:
        raise CliError(
            f"the batch is {found.get('status')}", hint="Wait: safelight batch status ID"
        )
    written = _fetch(gateway, found, target, quiet=as_json)
    if as_json:
        output.print_json({"files": [str(path) for path in written]})


# --- steps ---------------------------------------------------------------------------------------


def _endpoint_of(source: Path) -> str:
    """Return the route that the first line of a file names.

    Raises:
        CliError: it names none (exit code 2).
    """
    try:
        with source.open("rb") as file:
            first = next((line for line in file if line.strip()), b"")
        found = msgspec.json.decode(first)
    except (OSError, msgspec.DecodeError):
        found = None
    url = found.get("url") if isinstance(found, dict) else None
    if not isinstance(url, str):
        raise CliError(
            f"the first line of {source} names no route",
            exit_code=ExitCode.USAGE,
            hint='Write {"custom_id": "a", "method": "POST", "url": "/v1/images/generations", '
            '"body": {...}} on each line.',
        )
    return url


def _batch(gateway: Gateway, batch_id: str) -> dict[str, Any]:
    return _object(gateway.get(f"{ROUTE}/{in_path(batch_id)}"))


def _ended(gateway: Gateway, made: dict[str, Any], *, quiet: bool) -> dict[str, Any]:
    pause_s = _PAUSE_FIRST_S
    with Waiting(f"{made['id']}", quiet=quiet) as waiting:
        while made.get("status") not in ENDED:
            gateway.patience.left()
            gateway.patience.sleep(pause_s)
            pause_s = min(pause_s * 1.5, _PAUSE_MAX_S)
            made = _batch(gateway, made["id"])
            counts = made.get("request_counts") or {}
            waiting.stage(
                f"{made['id']}: {made['status']}, {counts.get('completed', 0)} done and "
                f"{counts.get('failed', 0)} failed of {counts.get('total', 0)}"
            )
    return made


def _fetch(
    gateway: Gateway, made: dict[str, Any], target: Path | None, *, quiet: bool
) -> list[Path]:
    target = target or Path(f"{made['id']}.jsonl")
    beside = target.with_name(f"{target.stem}-errors{target.suffix}")
    written = []
    for name, path in (("output_file_id", target), ("error_file_id", beside)):
        file_id = made.get(name)
        if file_id is None:
            continue
        gateway.persist(_download(gateway, f"/v1/files/{in_path(file_id)}/content", path))
        written.append(path)
        if not quiet:
            typer.echo(f"{path}")
    return written


def _download(gateway: Gateway, route: str, path: Path) -> Callable[[], None]:
    def attempt() -> None:
        part = path.with_name(path.name + ".part")
        try:
            with gateway.send("GET", route) as reply, part.open("wb") as file:
                for chunk in reply.chunks():
                    file.write(chunk)
            part.replace(path)
        except OSError as error:
            raise CliError(f"{path} cannot be written: {error.strerror}") from error
        finally:
            part.unlink(missing_ok=True)

    return attempt


def _check_end(made: dict[str, Any]) -> None:
    if made.get("status") != "completed":
        raise CliError(f"the batch is {made.get('status')}")


# --- what is shown -------------------------------------------------------------------------------


def _show(made: dict[str, Any], *, as_json: bool) -> None:
    if as_json:
        output.print_json(made)
        return
    counts = made.get("request_counts") or {}
    facts = [
        ("batch", str(made.get("id"))),
        ("status", str(made.get("status"))),
        ("lines", str(counts.get("total", 0))),
        ("done", str(counts.get("completed", 0))),
        ("failed", str(counts.get("failed", 0))),
        ("until", output.moment(made.get("expires_at"))),
    ]
    output.print_facts(facts)
    for fault in (made.get("errors") or {}).get("data") or []:
        place = f"line {fault['line']}: " if fault.get("line") else ""
        output.print_paragraph(f"{place}{fault.get('code')}: {fault.get('message')}")


def _row(made: dict[str, Any]) -> tuple[str, ...]:
    counts = made.get("request_counts") or {}
    return (
        str(made.get("id")),
        str(made.get("status")),
        str(counts.get("completed", 0)),
        str(counts.get("failed", 0)),
        str(counts.get("total", 0)),
        output.moment(made.get("created_at")),
        output.moment(made.get("expires_at")),
        str(made.get("model") or ""),
    )


def _object(answer: Any) -> dict[str, Any]:
    if not isinstance(answer, dict):
        raise AnswerError({"message": "the gateway's answer is no batch"}, status=None)
    return answer
