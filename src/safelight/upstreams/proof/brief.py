"""What a prompt asks for: its quoted words, a title, hints of size, and its seed.

Owns reading text; it draws nothing. Everything that leaves this module as words to set is free of
control characters, lone surrogates and bidirectional overrides, but is not yet escaped for markup.
"""

from __future__ import annotations

import hashlib
import re
import unicodedata
from dataclasses import dataclass

from safelight.types import UpstreamCall
from safelight.upstreams.proof.fonts import settable

MAX_WORDS_CHARS = 280
"""Quoted words longer than this end in an ellipsis: a poster is not a page."""
MAX_QUOTES = 8

_BIDI_OVERRIDES = frozenset(
    "\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069\ufeff\ufe0f\ufe0e"
)
_DROPPED_CATEGORIES = frozenset({"Cc", "Cs", "Co", "Cn"})

# Opening and closing marks. Straight quotes need care: inches (5" x 7") and apostrophes
# (don't) are not quotes, so they must not touch a letter or a digit on the outer side.
_QUOTES = re.compile(
    r'(?<![0-9A-Za-z])"(?P<a>[^"]*)"(?![0-9A-Za-z])'
    r"|[“„‟](?P<b>[^“”„‟]+)[”“]"
    r"|«(?P<c>[^«»]+)»"
    r"|「(?P<d>[^「」]+)」"
    r"|『(?P<e>[^『』]+)』"
    r"|《(?P<f>[^《》]+)》"
    r"|\u2018(?P<g>[^\u2018\n]+?)\u2019(?!\w)"
    r"|(?<!\w)'(?=\S[^'])(?P<h>[^'\n]+(?:'\w[^'\n]*)*)(?<=\S)'(?!\w)"
)

_SEED = re.compile(r"\bseed\s*[:=#]?\s*\d{1,18}\b", re.IGNORECASE)
_SIZE_HINT = re.compile(r"\b(\d{2,5})\s*[x\u00d7*]\s*(\d{2,5})\b", re.IGNORECASE)
_RATIO_HINT = re.compile(r"\b(\d{1,2})\s*[:：]\s*(\d{1,2})\b")  # noqa: RUF001 - full-width colon
_WIDE_WORDS = re.compile(
    r"\b(landscape format|widescreen|banner|panorama)\b|横版|橫版", re.IGNORECASE
)
_TALL_WORDS = re.compile(
    r"\b(portrait format|story format|vertical|tall)\b|竖版|直式", re.IGNORECASE
)

# What people write before the thing itself; a title starts after it.
_OPENING = re.compile(
    r"^(?:please\s+)?"
    r"(?:(?:create|generate|draw|make|design|paint|render|illustrate|show|give me|i want)\s+)?"
    r"(?:me\s+)?(?:(?:an?|the|some)\s+)?"
    r"(?:(?:image|picture|photo|photograph|illustration|drawing|painting|poster|rendering)\s+"
    r"(?:of|for|showing|with)\s+)?(?:(?:an?|the|some)\s+)?",
    re.IGNORECASE,
)


@dataclass(frozen=True, slots=True)
class Brief:
    """A prompt, read.

    `words` are the quoted texts, headline first; `title` stands in when nothing is quoted (it may
    be empty). `subject` is the prompt without the quoted texts, in lower case, for word lists.
    `seed` decides everything the prompt leaves open.
    """

    words: tuple[str, ...]
    title: str
    subject: str
    whole: str
    seed: int


def clean(text: str) -> str:
    """Return `text` without what cannot be set: controls, lone surrogates, overrides."""
    kept = (
        char
        for char in text.replace("\r\n", "\n").replace("\t", " ")
        if char == "\n"
        or (unicodedata.category(char) not in _DROPPED_CATEGORIES and char not in _BIDI_OVERRIDES)
    )
    return unicodedata.normalize("NFC", "".join(kept))


def shorten(text: str, limit: int) -> str:
    """Return `text` with at most `limit` characters, cut at a space where there is one near."""
    if len(text) <= limit:
        return text
    cut = text[: limit - 1]
    space = cut.rfind(" ")
    if space > limit * 0.6:
        cut = cut[:space]
    # A combining mark must not be torn from its letter, nor a joiner be left hanging.
    while cut and unicodedata.category(text[len(cut)])[0] == "M":
        cut = cut[:-1]
    return cut.rstrip(" ,.;:-\u200d\u200c") + "…"


def _lines(text: str) -> str:
    lines = (re.sub(r"[^\S\n]+", " ", line).strip() for line in text.split("\n"))
    return "\n".join(line for line in lines if line)


def quoted(text: str) -> tuple[list[str], str]:
    """Return the quoted texts of cleaned `text`, in order, and the text without them."""
    text = text.replace('\\"', '"').replace("\\n", "\n")
    found: list[str] = []
    for match in _QUOTES.finditer(text):
        words = _lines(next(part for part in match.groups() if part is not None))
        if any(char.isalnum() or unicodedata.category(char) == "So" for char in words):
            found.append(shorten(words, MAX_WORDS_CHARS))
    return list(dict.fromkeys(found))[:MAX_QUOTES], _QUOTES.sub(" ", text)


def _title(text: str, *, instruction: bool) -> str:
    """Return the first words of a prompt; an instruction for an edit keeps its verb."""
    text = _SIZE_HINT.sub(" ", _SEED.sub(" ", text))
    text = re.sub(r"\s+", " ", text).strip()
    if not instruction:
        text = _OPENING.sub("", text, count=1) or text
    phrase = re.split(r"[.,;:!?。、，；：！？।\n(\[{]| - | – | — ", text, maxsplit=1)[0].strip()  # noqa: RUF001
    phrase = phrase or text
    words = phrase.split(" ")
    title = " ".join(words[:7]) if len(words) > 1 else phrase
    title = shorten(title, 44)
    return title[:1].upper() + title[1:] if any(char.isalnum() for char in title) else ""


def content_seed(call: UpstreamCall) -> int:
    """Return the seed of a call: equal prompt, size, inputs, mask and `n` give equal pictures."""
    digest = hashlib.sha256()
    prompt = call.prompt.encode("utf-8", "surrogatepass")
    for part in (call.operation.value.encode(), prompt, call.size.encode()):
        digest.update(len(part).to_bytes(8, "big") + part)
    for blob in (*call.inputs, call.mask):
        digest.update((blob.digest if blob else "-").encode() + b"\n")
    if call.n:  # the second picture of a request shall not be the first again
        digest.update(call.n.to_bytes(4, "big"))
    return int.from_bytes(digest.digest()[:8], "big")


def read_brief(call: UpstreamCall) -> Brief:
    """Read a call's prompt; any text is fine, however long or strange."""
    text = clean(call.prompt[:40_000])
    found, rest = quoted(text)
    words = [shown for shown in map(settable, found) if shown]
    return Brief(
        words=tuple(words),
        title="" if words else settable(_title(text[:2_000], instruction=bool(call.inputs))),
        subject=rest[:8_000].lower(),
        whole=text[:8_000].lower(),
        seed=content_seed(call),
    )


def hinted_ratio(prompt: str) -> float | None:
    """Return width / height that a prompt asks for in words, or None."""
    text = prompt[:8_000]
    for pattern in (_SIZE_HINT, _RATIO_HINT):
        match = pattern.search(text)
        if match and int(match.group(1)) and int(match.group(2)):
            ratio = int(match.group(1)) / int(match.group(2))
            if 1 / 3 <= ratio <= 3:
                return ratio
    if _WIDE_WORDS.search(text):
        return 1.5
    if _TALL_WORDS.search(text):
        return 1 / 1.5
    return None
