"""Gates as people write them: a name, and often a value, in a run file or on the command line.

Owns the names, the forms of values and the messages about wrong ones.
"""

from __future__ import annotations

import re
from collections.abc import Callable, MutableMapping
from typing import Any

from safelight.client.gates.background import SHARE_MIN, WhiteBackground
from safelight.client.gates.blank import SPREAD_MIN, NotBlank
from safelight.client.gates.duplicates import DISTANCE, NearDuplicate
from safelight.client.gates.errors import BadGate
from safelight.client.gates.size import Size
from safelight.client.gates.text import Text
from safelight.client.gates.verdict import Gate
from safelight.client.gates.weight import Weight

_FORMS = {
    "size": "size, or size=1820x1024",
    "not-blank": "not-blank, or not-blank=5",
    "near-duplicate": "near-duplicate, or near-duplicate=6",
    "white-background": "white-background, or white-background=95%",
    "text": "text=NEW ARRIVALS, or text=TITLE|BUTTON, or text~1=... to allow one wrong character",
    "weight": "weight=3MB, or weight=500kB",
}
NAMES = tuple(_FORMS)
"""The gates that can be named in a run file."""

_UNITS = {"": 1, "b": 1, "kb": 1000, "mb": 1_000_000, "kib": 1024, "mib": 1024 * 1024}

Wanted = str | tuple[int, int] | None
"""The pixels an order asks for: `1820x1024`, (1820, 1024), or None where it leaves them open."""


def gate(
    name: str,
    value: str | None = None,
    *,
    wanted: Wanted = None,
    shared: MutableMapping[str, Gate] | None = None,
) -> Gate:
    """Return the gate that a run file or the command line names.

    Args:
        name: one of `NAMES`; `text~2` allows two wrong characters.
        value: what stands behind the equals sign, or None.
        wanted: the size that the item's order asks for, for the gate `size` without a value.
        shared: gates with a memory are taken from here, and put here: give one mapping for a run,
            so that all its items share what was accepted.

    Raises:
        BadGate: no such gate, or a value it cannot have; the message shows the right form.
        ReaderMissing: the gate `text` without the extra `recipes`.
    """
    kind, _, option = name.strip().lower().partition("~")
    value = value.strip() if value is not None else ""
    makers: dict[str, Callable[[], Gate]] = {
        "size": lambda: _size(value, wanted),
        "not-blank": lambda: NotBlank(_number(kind, value, SPREAD_MIN, 0.1, 127.0)),
        "near-duplicate": lambda: _near_duplicate(value, shared),
        "white-background": lambda: WhiteBackground(_share(value)),
        "text": lambda: _text(value, option),
        "weight": lambda: Weight(_bytes(value)),
    }
    if kind not in makers:
        raise BadGate(f"there is no gate {name!r}; there are: {', '.join(NAMES)}")
    if option and kind != "text":
        raise _bad(kind, f"~{option} is only for the gate text")
    return makers[kind]()


def _bad(kind: str, why: str) -> BadGate:
    return BadGate(f"gate {kind}: {why}; write it as {_FORMS[kind]}")


def _size(value: str, wanted: Wanted) -> Size:
    asked = value or wanted
    if isinstance(asked, tuple):
        return Size(*asked)
    if not asked:
        raise _bad("size", "the order names no size, so there is none to compare with")
    found = re.fullmatch(r"(\d{1,5})\s*[x*\u00d7]\s*(\d{1,5})", asked.strip().lower())
    if found is None:
        raise _bad("size", f"{asked!r} is no WIDTHxHEIGHT in pixels")
    return Size(int(found[1]), int(found[2]))


def _near_duplicate(value: str, shared: MutableMapping[str, Gate] | None) -> Gate:
    distance = round(_number("near-duplicate", value, DISTANCE, 0, 32, whole=True))
    kept: Any = {} if shared is None else shared
    made: Gate = kept.setdefault(f"near-duplicate={distance}", NearDuplicate(distance))
    return made


def _text(value: str, option: str) -> Text:
    mistakes = round(_number("text", option, 0, 0, 99, whole=True))
    texts = [one.replace("\\|", "|") for one in re.split(r"(?<!\\)\||\n", value)]
    return Text([one for one in texts if one.strip()], mistakes=mistakes)


def _share(value: str) -> float:
    if not value:
        return SHARE_MIN
    percent = value.endswith("%")
    number = _number("white-background", value.rstrip("% "), 0, 0, 100)
    share = number / 100 if percent or number > 1 else number
    if not share:
        raise _bad("white-background", f"{value!r} of the border would let everything pass")
    return share


def _bytes(value: str) -> int:
    found = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([kKmM]?i?[bB]?)", value)
    unit = found[2].lower() if found else "-"
    unit = unit if unit.endswith("b") or not unit else unit + "b"
    if found is None or unit not in _UNITS:
        raise _bad("weight", f"{value!r} is no file size" if value else "it needs a file size")
    size_bytes = round(float(found[1]) * _UNITS[unit])
    if size_bytes < 1:
        raise _bad("weight", "no picture weighs nothing")
    return size_bytes


def _number(
    kind: str, value: str, default: float, least: float, most: float, *, whole: bool = False
) -> float:
    if not value:
        return default
    if not re.fullmatch(r"\d+" if whole else r"\d+(?:\.\d+)?", value):
        raise _bad(kind, f"{value!r} is no {'whole ' * whole}number")
    if not least <= float(value) <= most:
        raise _bad(kind, f"{value} is not between {least:g} and {most:g}")
    return float(value)
