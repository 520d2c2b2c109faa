"""`safelight webhooks`: who is told about the ends of jobs, and what was told.

Speaks HTTP to the gateway, as the customer whose key it is given. Owns the tables; every field of
the answers is in the JSON as the gateway gave it.
"""

from __future__ import annotations

from typing import Annotated, Any

import typer
from rich.markup import escape

from safelight.cli import options, output
from safelight.cli.errors import AnswerError, CliError
from safelight.cli.forms import json_body
from safelight.cli.http import Gateway, in_path
from safelight.cli.table import Column

ROUTE = "/v1/webhooks"
OVERLAP_H = 24.0
CUSTOMER_SECRET = "customer"  # noqa: S105  (a word instead of an id)
_COLUMNS = (
    Column("id"),
    Column("address"),
    Column("events", rank=2, words=True),
    Column("of", rank=3),
    Column("state"),
    Column("made (UTC)", rank=4),
    Column("description", rank=5, words=True),
)
_DELIVERIES = (
    Column("id"),
    Column("event"),
    Column("of", rank=2),
    Column("state"),
    Column("attempts", right=True, rank=3),
    Column("made (UTC)", rank=4),
    Column("next (UTC)", rank=5),
    Column("last", words=True),
)

webhooks = typer.Typer(no_args_is_help=True, help="Tell your own server about the ends of jobs.")
WebhookId = Annotated[str, typer.Argument(metavar="ID", help="From `safelight webhooks list`.")]


@webhooks.command("list")
def list_webhooks(
    context: typer.Context,
    url: options.Url = "",
    api_key: options.ApiKey = "",
    timeout: options.Timeout = 60.0,
    as_json: options.Json = False,
) -> None:
    """List the webhooks that the key may see."""
    found = options.gateway(context, url, api_key, timeout).get(ROUTE)
    if as_json:
        output.print_json(found)
        return
    output.print_table(_COLUMNS, [_row(one) for one in _data(found)])


@webhooks.command()
def add(  # noqa: PLR0913, PLR0917  (the options of the command)
    context: typer.Context,
    address: Annotated[str, typer.Argument(metavar="ADDRESS", help="https://example.com/hook")],
    event: Annotated[
        list[str] | None,
        typer.Option("--event", help="Of what to be told: job.completed ...", show_default="all"),
    ] = None,
    description: Annotated[str, typer.Option(help="For people.", show_default=False)] = "",
    key_id: Annotated[
        str | None,
        typer.Option("--key-id", help="Only of jobs of this key, which must be the one given."),
    ] = None,
    url: options.Url = "",
    api_key: options.ApiKey = "",
    timeout: options.Timeout = 60.0,
    as_json: options.Json = False,
) -> None:
    """Register an address and print its secret, which is shown only now."""
    body = {"url": address, "description": description, "key_id": key_id, "events": event or None}
    gateway = options.gateway(context, url, api_key, timeout)
    _print_secret(_send(gateway, "POST", ROUTE, body), as_json=as_json)


@webhooks.command()
def remove(
    context: typer.Context,
    webhook_id: WebhookId,
    url: options.Url = "",
    api_key: options.ApiKey = "",
    timeout: options.Timeout = 60.0,
    as_json: options.Json = False,
) -> None:
    """Remove a webhook and what it was told."""
    gateway = options.gateway(context, url, api_key, timeout)
    answer = _send(gateway, "DELETE", f"{ROUTE}/{in_path(webhook_id)}")
    if as_json:
        output.print_json(answer)
    else:
        typer.echo(f"{webhook_id} is removed.")


@webhooks.command()
def rotate(
    context: typer.Context,
    webhook_id: Annotated[
        str,
        typer.Argument(
            metavar="ID",
            help="From `safelight webhooks list`; "
            f"`{CUSTOMER_SECRET}`: the secret for addresses in orders.",
        ),
    ],
    overlap: Annotated[
        float, typer.Option(min=0, max=168, help="Hours in which the old secret signs too.")
    ] = OVERLAP_H,
    url: options.Url = "",
    api_key: options.ApiKey = "",
    timeout: options.Timeout = 60.0,
    as_json: options.Json = False,
) -> None:
    """Make a new secret and print it."""
    gateway = options.gateway(context, url, api_key, timeout)
    which = "secret" if webhook_id == CUSTOMER_SECRET else in_path(webhook_id)
    answer = _send(gateway, "POST", f"{ROUTE}/{which}/rotate", {"overlap_s": round(overlap * 3600)})
    _print_secret(answer, as_json=as_json)


@webhooks.command("test")
def try_out(
    context: typer.Context,
    webhook_id: WebhookId,
    url: options.Url = "",
    api_key: options.ApiKey = "",
    timeout: options.Timeout = 60.0,
    as_json: options.Json = False,
) -> None:
    """Send a test message now and say what came of it; ends with 1 if it was not taken."""
    gateway = options.gateway(context, url, api_key, timeout)
    sent = _send(gateway, "POST", f"{ROUTE}/{in_path(webhook_id)}/test", {})
    good = sent.get("state") == "delivered"
    if as_json:
        output.print_json(sent)
    elif good:
        typer.echo(f"{sent.get('id')} was taken (status {sent.get('last_status')}).")
    if not good:
        raise CliError(f"the receiver did not take the message: {sent.get('last_error')}")


@webhooks.command()
def deliveries(
    context: typer.Context,
    webhook_id: Annotated[
        str | None,
        typer.Argument(metavar="[ID]", help="One webhook's.", show_default="all messages"),
    ] = None,
    limit: Annotated[int, typer.Option(min=1, help="At most so many, newest first.")] = 100,
    url: options.Url = "",
    api_key: options.ApiKey = "",
    timeout: options.Timeout = 60.0,
    as_json: options.Json = False,
) -> None:
    """List what was told, what was not taken and when it is tried again."""
    gateway = options.gateway(context, url, api_key, timeout)
    route = f"{ROUTE}/{in_path(webhook_id)}/deliveries" if webhook_id else f"{ROUTE}/deliveries"
    found = _pages(gateway, route, limit)
    if as_json:
        output.print_json({"object": "list", "data": found})
        return
    output.print_table(_DELIVERIES, [_delivery_row(one) for one in found])


@webhooks.command()
def redeliver(
    context: typer.Context,
    delivery_id: Annotated[
        str, typer.Argument(metavar="ID", help="From `safelight webhooks deliveries`.")
    ],
    url: options.Url = "",
    api_key: options.ApiKey = "",
    timeout: options.Timeout = 60.0,
    as_json: options.Json = False,
) -> None:
    """Send a message again, under its old id."""
    gateway = options.gateway(context, url, api_key, timeout)
    again = _send(gateway, "POST", f"{ROUTE}/deliveries/{in_path(delivery_id)}/redeliver", {})
    if as_json:
        output.print_json(again)
    else:
        typer.echo(f"{delivery_id} is sent again.")


@webhooks.command()
def secret(
    context: typer.Context,
    url: options.Url = "",
    api_key: options.ApiKey = "",
    timeout: options.Timeout = 60.0,
    as_json: options.Json = False,
) -> None:
    """Print the secret that signs what goes to the addresses in orders (`webhook_url`)."""
    found = options.gateway(context, url, api_key, timeout).get(f"{ROUTE}/secret")
    if as_json:
        output.print_json(found)
    else:
        typer.echo(found["secret"])


# --- asking ----------------------------------------------------------------------------------


def _send(
    gateway: Gateway, method: str, target: str, fields: dict[str, Any] | None = None
) -> dict[str, Any]:
    """Ask once: what makes, rotates or sends is not to be repeated unasked."""
    body = None if fields is None else json_body(fields)
    with gateway.send(method, target, body) as reply:
        answer = reply.json()
    if not isinstance(answer, dict):
        raise AnswerError({"message": "the gateway's answer is no webhook"}, status=None)
    return answer


def _pages(gateway: Gateway, route: str, limit: int) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    after: str | None = None
    while len(found) < limit:
        page = gateway.get(route, {"limit": min(100, limit - len(found)), "after": after})
        data = _data(page)
        found += data
        if not page.get("has_more") or not data:
            break
        after = data[-1]["id"]
    return found


def _data(answer: Any) -> list[dict[str, Any]]:
    if not isinstance(answer, dict) or not isinstance(answer.get("data"), list):
        raise AnswerError({"message": "the gateway's answer is no list"}, status=None)
    data: list[dict[str, Any]] = answer["data"]
    return data


# --- showing ---------------------------------------------------------------------------------


def _print_secret(answer: dict[str, Any], *, as_json: bool) -> None:
    if as_json:
        output.print_json(answer)
        return
    about = answer.get("id")
    words = f"Secret of {escape(about)}; it is shown only now." if about else "The new secret."
    output.err().print(words)
    typer.echo(answer["secret"])


def _row(one: dict[str, Any]) -> tuple[str, ...]:
    state = "on"
    if not one["enabled"]:
        state = f"off: {one['disabled_reason']}"
    elif one["failing_since"]:
        state = "failing"
    return (
        one["id"],
        one["url"],
        " ".join(one["events"]),
        one["key_id"] or "all keys",
        state,
        output.moment(one["created_at"]),
        one["description"],
    )


def _delivery_row(one: dict[str, Any]) -> tuple[str, ...]:
    last = one["last_error"] or ("" if one["last_status"] is None else str(one["last_status"]))
    return (
        one["id"],
        one["event"],
        one["job_id"] or one["batch_id"] or "",
        one["state"],
        str(one["attempts"]),
        output.moment(one["created_at"]),
        output.moment(one["next_attempt_at"]),
        last,
    )
