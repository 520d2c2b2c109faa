"""What must not be seen in any log: the live secrets of this process by value, keys by their looks.

Owns the list of values that `types.Secret` notes here, the forms in which a value turns up in a
text, and the patterns of keys, of credentials in addresses, and of signatures. Who logs calls
`redact` on the finished text (`telemetry`); nothing here logs, stores or sends anything.

Two nets, because either has holes. A value is found however it is quoted, but only if it is a
secret of this process. A pattern finds a stranger's key, such as one that an upstream echoes, but
only if it looks like one.
"""

from __future__ import annotations

import base64
import json
import re
import threading
from collections.abc import Mapping
from typing import Final
from urllib.parse import quote, quote_plus, unquote

_PASSWORD: Final = re.compile(r"[a-z][a-z0-9+.-]*://[^\s/:@]*:(?P<password>[^\s/@]+)@")
VALUE_MIN: Final = 8
"""Shorter values are not noted: they would blot out words, and they protect nothing."""
BLOT: Final = "***"

_lock = threading.Lock()
_forms: dict[str, None] = {}
_longest_first: tuple[str, ...] = ()

_OURS = r"\bsl_(?:live|test|admin)_"
_VENDORS = (
    r"\bsk-|\bsess-|\borg-|\brk-|\bwhsec_|\bBearer |\bBasic |\bAIza|\b(?:AKIA|ASIA)(?=[A-Z0-9])"
)
_HEADERS = (
    r"(?:api[-_]key|authorization|cookie|x-amz-security-token|password|secret_access_key)"
    # A name and its value, as headers, dictionaries and pairs are written, in JSON or around it.
    r"[\\'\"]*\s*[:=,]\s*b?[\\'\"]*(?:Bearer |Basic )?"
)
_PATTERNS: Final = (
    re.compile(rf"({_OURS}|{_VENDORS})[A-Za-z0-9_\-+/=.]{{6,}}"),
    re.compile(rf"({_HEADERS})(?!\*\*\*)[^\s\\'\",;&)}}\]]{{6,}}", re.IGNORECASE),
    # Credentials in an address, and the signatures that make an address one.
    re.compile(r"(\b[a-z][a-z0-9+.\-]{0,20}://)[^\s/@\\'\"<>]{1,512}(?=@)", re.IGNORECASE),
    re.compile(r"([?&](?:s|sig|X-Amz-Signature|X-Amz-Security-Token)=)[A-Za-z0-9_\-%+/=]{16,}"),
)
_HINTS: Final = (
    *("sl_", "sk-", "sess-", "org-", "rk-", "whsec_", "bearer", "basic", "aiza", "akia", "asia"),
    *("api-key", "api_key", "authorization", "cookie", "password", "secret_access_key"),
    *("@", "&s=", "?s=", "sig=", "x-amz-"),
)
"""One of them is in every text that a pattern may match: looking for them is ten times quicker."""


def note(value: str) -> None:
    """Have every log blot out this secret from now on; values under VALUE_MIN are not noted.

    What is noted stays noted: this is for the secrets that an operator gives a process, which are
    few and live as long as it.
    """
    if len(value) < VALUE_MIN or value in _forms:
        return
    global _longest_first  # noqa: PLW0603  (one list for a process, as there is one log)
    with _lock:
        _forms.update(dict.fromkeys(_forms_of(value)))
        # The longest first: a secret may be a part of another one's other spelling.
        _longest_first = tuple(sorted(_forms, key=len, reverse=True))


def note_environment(environ: Mapping[str, str]) -> None:
    """Note the secrets that libraries read from the environment themselves."""
    for name in ("AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "PGPASSWORD"):
        note(environ.get(name, "").strip())
    for value in environ.values():
        if (found := _PASSWORD.match(value)) is not None:
            note(found["password"])
            note(unquote(found["password"]))


def redact(text: str) -> str:
    """Return text without any noted secret and without anything that looks like a credential."""
    for form in _longest_first:
        if form in text:
            text = text.replace(form, BLOT)
    plain = text.lower()
    if not any(hint in plain for hint in _HINTS):
        return text
    for pattern in _PATTERNS:
        text = pattern.sub(rf"\1{BLOT}", text)
    return text


def _forms_of(value: str) -> set[str]:
    """Return how a value turns up: as it is, in repr, an address, base64 or hex; in JSON, twice."""
    raw = value.encode()
    forms = {
        value,
        repr(value)[1:-1],
        quote(value, safe=""),
        quote_plus(value),
        base64.b64encode(raw).decode().rstrip("="),
        base64.urlsafe_b64encode(raw).decode().rstrip("="),
        raw.hex(),
    }
    for _ in range(2):
        forms |= {json.dumps(form, ensure_ascii=False)[1:-1] for form in forms}
    return forms
