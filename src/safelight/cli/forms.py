"""Request bodies: JSON, and multipart/form-data with files (RFC 7578). Bytes in, bytes out."""

from __future__ import annotations

import secrets
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import msgspec


@dataclass(frozen=True)
class Body:
    """A request body and its content type."""

    data: bytes
    content_type: str


@dataclass(frozen=True)
class FilePart:
    """One file of a form: field name, file name, media type, bytes."""

    field: str
    filename: str
    media_type: str
    data: bytes


def json_body(fields: Mapping[str, Any]) -> Body:
    """Return `fields` as a JSON body, without those that are None."""
    present = {name: value for name, value in fields.items() if value is not None}
    return Body(msgspec.json.encode(present), "application/json")


def form_body(fields: Mapping[str, Any], files: Iterable[FilePart]) -> Body:
    """Return a multipart form: `fields` (without those that are None) first, then `files`.

    Numbers and booleans are written as the official SDK writes them: `2`, `true`.
    """
    boundary = secrets.token_hex(16)
    parts: list[bytes] = []
    for name, value in fields.items():
        if value is None:
            continue
        text = str(value).lower() if isinstance(value, bool) else str(value)
        head = f'Content-Disposition: form-data; name="{_quoted(name)}"'
        parts.append(_part(boundary, head, text.encode()))
    for file in files:
        head = (
            f'Content-Disposition: form-data; name="{_quoted(file.field)}"; '
            f'filename="{_quoted(file.filename)}"\r\nContent-Type: {file.media_type}'
        )
        parts.append(_part(boundary, head, file.data))
    parts.append(f"--{boundary}--\r\n".encode())
    return Body(b"".join(parts), f"multipart/form-data; boundary={boundary}")


def _part(boundary: str, head: str, data: bytes) -> bytes:
    return b"".join([f"--{boundary}\r\n{head}\r\n\r\n".encode(), data, b"\r\n"])


def _quoted(name: str) -> str:
    """Escape a name for a quoted parameter, as browsers do (WHATWG HTML, multipart/form-data)."""
    return name.replace("\r", "%0D").replace("\n", "%0A").replace('"', "%22")
