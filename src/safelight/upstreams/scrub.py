"""Upstream text made safe to show: no credentials, ids, addresses or hosts.

Owns the patterns. Upstream messages name the operator's organisation, echo parts of keys and link
to the vendor; a caller of safelight must see none of it, but still which parameter was wrong.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Final

from safelight.redaction import redact
from safelight.types import Account

MESSAGE_MAX: Final = 500
"""Characters of upstream text that are passed on."""
_REQUEST_ID: Final = re.compile(r"[!-~]{1,200}")
_TREE_DEPTH_MAX = 4
_TREE_ITEMS_MAX = 32

# File names and format names look like hosts; everything else of that form is taken for one.
_NO_HOST = r"(?!(?:png|jpe?g|webp|gif|svg|json|bin)\b)"
_LABEL = r"[a-z0-9](?:[a-z0-9-]*[a-z0-9])?"

# Ordered: whole addresses before the hosts in them, named ids before anonymous long tokens.
_RULES: Final = (
    # A page in the place of a sentence: somebody may show our message in one of theirs.
    (r"<[a-z!/?][^<>]{0,400}>?", "[markup]"),
    (r"[\w.+-]+@[\w-]+(?:\.[\w-]+)+", "[address]"),
    (r"\bdata:[\w/+.;=-]*,\S*", "[data]"),
    (r"\b[a-z][a-z0-9+.-]*://[^\s\"'<>]+", "[link]"),
    (r"\bBearer\s+\S+", "[key]"),
    (r"\b(?:sk|pk|rk|sess|key|ak)-[\w*.\u2022-]{3,}", "[key]"),
    (r"\b(?:organi[sz]ation|project)[ :]+(?:org|proj)[-_][\w-]+", "[id]"),
    (r"\b(?:org|proj|req)[-_][\w-]+", "[id]"),
    (
        r"\b(?:project|user|acct|asst|resp|file|batch|ig|run|key|trace|sub)[-_](?=[\w-]*\d)[\w-]{6,}",
        "[id]",
    ),
    (r"\b((?:request|trace|correlation)[ _-]?id)\b[\s:=]*[\w-]{6,}", r"\1 [id]"),
    (r"\b[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}\b", "[id]"),
    (r"(?<![\w.])\d{1,3}(?:\.\d{1,3}){3}(?::\d+)?(?![\w.]*\d)", "[host]"),
    (r"\[?(?<![\w:])(?:[0-9a-f]{0,4}:){3,7}[0-9a-f]{0,4}(?![\w:])\]?(?::\d+)?", "[host]"),
    (r"\[?(?<![\w:])::1(?![\w:])\]?(?::\d+)?", "[host]"),
    (rf"\b(?:{_LABEL}\.)+{_NO_HOST}[a-z]{{2,}}\b(?::\d+)?(?:/[^\s\"'<>]*)?", "[host]"),
    (r"\blocalhost\b(?::\d+)?", "[host]"),
    # A long token with a digit in it is a credential or an id; a long word is an error's name.
    (r"(?<![\w-])(?=[\w+/=-]*\d)[\w+/=-]{32,}", "[id]"),
)
_PATTERNS: Final = tuple((re.compile(rule, re.IGNORECASE), instead) for rule, instead in _RULES)


def account_secrets(account: Account) -> tuple[str, ...]:
    """Return what no message about a call of this account may show: its key and its host."""
    key = account.api_key.reveal() if account.api_key is not None else ""
    _, _, rest = account.base_url.partition("://")
    host = rest.partition("/")[0].rpartition("@")[2]
    return tuple(filter(None, (key, host, host.partition(":")[0])))


def request_id(headers: Mapping[str, str]) -> str | None:
    """Return the vendor's id of a call, which customers see in receipts; None where it is none.

    It is shown as it came, so that the vendor finds the call by it. One that holds a credential, as
    a server may echo it, is not kept.
    """
    found = headers.get("x-request-id", "").strip()
    if not _REQUEST_ID.fullmatch(found) or redact(found) != found:
        return None
    return found


def scrub(text: str, known: Iterable[str] = ()) -> str:
    """Return `text` without anything that names the operator's account, at most MESSAGE_MAX long.

    Args:
        text: what the upstream wrote.
        known: secrets of this account to remove by value (its key, its host).
    """
    text = " ".join("".join(c if c.isprintable() else " " for c in text[: 8 * MESSAGE_MAX]).split())
    for secret in sorted(filter(None, known), key=len, reverse=True):
        text = re.sub(
            rf"(?<!\w){re.escape(secret)}(?!\w)(?::\d+)?", "[removed]", text, flags=re.IGNORECASE
        )
    for pattern, instead in _PATTERNS:
        text = pattern.sub(instead, text)
    return text if len(text) <= MESSAGE_MAX else text[: MESSAGE_MAX - 3] + "..."


def scrub_tree(value: object, known: Iterable[str] = (), *, depth: int = 0) -> object:
    """Return JSON data with every text in it scrubbed and its size bounded."""
    known = tuple(known)
    if isinstance(value, str):
        return scrub(value, known)
    if value is None or isinstance(value, bool | int | float):
        return value
    if depth == _TREE_DEPTH_MAX:
        return None
    if isinstance(value, list):
        return [scrub_tree(item, known, depth=depth + 1) for item in value[:_TREE_ITEMS_MAX]]
    if isinstance(value, dict):
        pairs = list(value.items())[:_TREE_ITEMS_MAX]
        return {scrub(str(k), known): scrub_tree(v, known, depth=depth + 1) for k, v in pairs}
    return None
