"""The pages of the site that are made from code: what is here is so because the code says so.

Owns configuration keys, commands, error classes, HTTP routes and events as Markdown. What they are
for is told by the pages written by hand, to which each of these leads.
"""

from __future__ import annotations

import ast
import inspect
import re
from collections.abc import Iterable, Iterator
from typing import Any

import msgspec
from typer.main import get_command

from safelight import config, config_accounts, config_batches, config_queue, errors
from safelight.api.openapi import openapi_json
from safelight.cli import build
from safelight.types import JobState
from safelight.webhooks import EVENTS, TEST_EVENT

NAMES = ("configuration", "commands", "routes", "errors", "events")
_SECTIONS: dict[str, type[msgspec.Struct]] = {
    "server": config.ServerConfig,
    "storage": config.StorageConfig,
    "retention": config.RetentionConfig,
    "billing": config.BillingConfig,
    "limits": config.LimitsConfig,
    "queue": config_queue.QueueConfig,
    "webhooks": config.WebhooksConfig,
    "pool": config.PoolConfig,
    "files": config_batches.FilesConfig,
    "batches": config_batches.BatchesConfig,
    "vendor_batches": config_batches.VendorBatchesConfig,
    "accounts": config_accounts.AccountConfig,
    "channels": config.ChannelConfig,
}
_HEADINGS = {"accounts": "[[accounts]]", "channels": "[channels.NAME]"}


def pages() -> dict[str, str]:
    """Return every page by its name."""
    makers = (configuration, commands, routes, error_classes, events)
    return dict(zip(NAMES, ("\n".join(make()) + "\n" for make in makers), strict=True))


def table(head: Iterable[str], rows: Iterable[Iterable[str]]) -> Iterator[str]:
    """Yield a Markdown table."""
    names = list(head)
    yield f"| {' | '.join(names)} |"
    yield "|" + "---|" * len(names)
    for row in rows:
        yield f"| {' | '.join(_cell(one) for one in row)} |"
    yield ""


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")


# --- configuration --------------------------------------------------------------------------------


def configuration() -> Iterator[str]:
    """Yield every key of safelight.toml with its type, bounds and default."""
    yield "# Configuration keys\n"
    yield "What each is for: [configuration](../docs/configuration.md).\n"
    for name, kind in _SECTIONS.items():
        yield f"## `{_HEADINGS.get(name, f'[{name}]')}`\n"
        notes = _field_notes(kind)
        schema = msgspec.json.schema(kind)
        properties = schema["$defs"][kind.__name__]["properties"]
        rows = (
            (f"`{one.encode_name}`", _type(properties[one.encode_name]), _default(one),
             notes.get(one.name, ""))
            for one in msgspec.structs.fields(kind)
        )  # fmt: skip
        yield from table(("key", "type", "default", "note"), rows)


def _field_notes(kind: type[msgspec.Struct]) -> dict[str, str]:
    """Return the sentence under each field, which Python itself throws away."""
    (body,) = ast.parse(inspect.getsource(kind)).body
    assert isinstance(body, ast.ClassDef)
    found = {}
    for field, note in zip(body.body, body.body[1:], strict=False):
        match field, note:
            case (
                ast.AnnAssign(target=ast.Name(id=name)),
                ast.Expr(value=ast.Constant(value=str(text))),
            ):
                found[name] = text
    return found


def _type(schema: dict[str, Any]) -> str:
    if "anyOf" in schema:
        return " or ".join(_type(one) for one in schema["anyOf"])
    if "enum" in schema:
        return ", ".join(f"`{one}`" for one in schema["enum"])
    name = str(schema.get("type", "table"))
    if name == "array":
        return f"array of {_type(schema.get('items', {}))}"
    low, high = schema.get("minimum"), schema.get("maximum")
    if low is None and high is None:
        return name
    return f"{name}, {'' if low is None else f'{low:,} '}to {'' if high is None else f'{high:,}'}"


def _default(field: msgspec.structs.FieldInfo) -> str:
    if field.required:
        return "required"
    if field.default is None or field.default is msgspec.NODEFAULT:
        return "none"
    default = list(field.default) if isinstance(field.default, tuple) else field.default
    return f"`{msgspec.json.encode(default).decode()}`"


# --- commands -------------------------------------------------------------------------------------


def commands() -> Iterator[str]:
    """Yield every command with its arguments and options."""
    yield "# Commands\n"
    yield "With examples and exit codes: [the command line](../docs/cli.md).\n"
    program: Any = get_command(build())
    for name, command in sorted(program.commands.items()):
        yield from _command(f"safelight {name}", command)


def _command(path: str, command: Any) -> Iterator[str]:
    children = getattr(command, "commands", None) or {}
    if not children or command.callback is not None:
        yield f"## `{path}`\n"
        yield f"{_plain(command.help or '')}\n"
        rows = [_parameter(one) for one in command.params if one.name != "help"]
        if rows:
            yield from table(("option", "meaning", "variable"), rows)
    for name, child in sorted(children.items()):
        yield from _command(f"{path} {name}", child)


def _parameter(one: Any) -> tuple[str, str, str]:
    names = ", ".join(f"`{name}`" for name in (*one.opts, *one.secondary_opts))
    if not one.opts[0].startswith("-"):
        names = f"`{(one.metavar or one.name).upper()}`"
    variable = one.envvar if isinstance(one.envvar, str) else ", ".join(one.envvar or ())
    return names, _plain(getattr(one, "help", None) or ""), f"`{variable}`" if variable else ""


def _plain(text: str) -> str:
    """Return help without rich's markup, and with nothing that Markdown would read."""
    text = re.sub(r"(?<!\\)\[/?(?:bold|dim|italic)?\]", "", text).replace("\\[", "[")
    return text.replace("<", "&lt;").replace("*", "\\*").replace("[", "\\[")


# --- errors ---------------------------------------------------------------------------------------


def error_classes() -> Iterator[str]:
    """Yield the classes of errors that callers may see."""
    yield "# Error classes\n"
    yield "Each code, and what to do: [error codes](../docs/errors.md).\n"
    yield from table(("class", "status", "type", "default code", "again", "means"), _errors())


def _errors() -> Iterator[tuple[str, ...]]:
    waiting = [errors.SafelightError]
    while waiting:
        kind = waiting.pop(0)
        waiting += kind.__subclasses__()
        yield (
            f"`{kind.__name__}`",
            str(kind.status),
            f"`{kind.type}`",
            f"`{kind.default_code}`" if kind.default_code else "",
            "yes" if kind.default_should_retry else "no",
            inspect.cleandoc(kind.__doc__ or "").split("\n\n", maxsplit=1)[0],
        )


# --- routes ---------------------------------------------------------------------------------------


def routes() -> Iterator[str]:
    """Yield every HTTP route of /openapi.json."""
    yield "# HTTP routes\n"
    yield "The same as a document for programs: `GET /openapi.json` of a running gateway.\n"
    document = msgspec.json.decode(openapi_json())
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            yield f"## `{method.upper()} {path}`\n"
            yield f"{operation['summary']}{_access(operation)}\n"
            given = operation.get("parameters", [])
            rows = [(f"`{one['name']}`", one["in"], one.get("description", "")) for one in given]
            if rows:
                yield from table(("parameter", "in", "meaning"), rows)
            answers = operation["responses"].items()
            rows = [(status, _schema_of(one), one["description"]) for status, one in answers]
            yield from table(("status", "body", "means"), rows)


def _access(operation: dict[str, Any]) -> str:
    return " Needs no key." if operation.get("security") == [] else ""


def _schema_of(answer: dict[str, Any]) -> str:
    names = []
    for kind, content in answer.get("content", {}).items():
        reference = content.get("schema", {}).get("$ref", "")
        names.append(f"`{reference.rpartition('/')[2] or kind}`")
    return ", ".join(dict.fromkeys(names))


# --- events ---------------------------------------------------------------------------------------


def events() -> Iterator[str]:
    """Yield the names of events."""
    yield "# Events\n"
    yield "## Of webhooks\n"
    yield "What they carry, and how they are signed: [webhooks](../docs/webhooks.md).\n"
    yield from (f"- `{name}`" for name in (*EVENTS, TEST_EVENT))
    yield "\n## Of a job that is watched\n"
    yield "`GET /v1/jobs/{id}/events` and its WebSocket: [jobs](../docs/jobs.md).\n"
    watched = [f"job.{state}" for state in JobState]
    yield from (
        f"- `{name}`"
        for name in (*watched, "job.attempt_failed", "job.cancelling", "job.partial_image")
    )
    yield "\n## Of image streams\n"
    yield "With `stream=true`, as OpenAI names them.\n"
    yield from (
        f"- `image_{family}.{what}`"
        for family in ("generation", "edit")
        for what in ("partial_image", "completed")
    )
