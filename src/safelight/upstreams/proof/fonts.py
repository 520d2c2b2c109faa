"""Which font faces set which text, from the Noto families of two Python packages.

Owns finding and loading the fonts and choosing faces by script; it draws nothing. System fonts are
kept out, so that a picture is the same on every machine.
"""

from __future__ import annotations

import atexit
import importlib.util
import logging
import os
import re
import shutil
import struct
import tempfile
import threading
import unicodedata
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from functools import cache
from pathlib import Path

import pyvips

from safelight.upstreams.proof.coverage import Coverage, Range, font_ranges

_log = logging.getLogger(__name__)

_PACKAGES = ("manimgx_fonts", "manimgx_fonts_cjk")
_SUFFIXES = frozenset({".ttf", ".otf", ".ttc"})

# Fontconfig with nothing in it: no system folders, no hinting (shapes must not depend on size).
_CONFIG = """<?xml version="1.0"?>
<!DOCTYPE fontconfig SYSTEM "urn:fontconfig:fonts.dtd">
<fontconfig>
  <match target="pattern">
    <edit name="antialias" mode="assign"><bool>true</bool></edit>
    <edit name="hinting" mode="assign"><bool>false</bool></edit>
  </match>
</fontconfig>
"""

_lock = threading.Lock()

# First and last code point of the ranges that need a face of their own.
_RANGES: tuple[tuple[int, int, str], ...] = (
    (0x0370, 0x052F, "wide"),
    (0x0100, 0x024F, "wide"),
    (0x1E00, 0x1FFF, "wide"),
    (0x0900, 0x097F, "devanagari"),
    (0xA8E0, 0xA8FF, "devanagari"),
    (0x0980, 0x09FF, "bengali"),
    (0x3040, 0x30FF, "kana"),
    (0x31F0, 0x31FF, "kana"),
    (0xFF66, 0xFF9F, "kana"),
    (0x1100, 0x11FF, "hangul"),
    (0x3130, 0x318F, "hangul"),
    (0xAC00, 0xD7AF, "hangul"),
    (0x3400, 0x4DBF, "han"),
    (0x4E00, 0x9FFF, "han"),
    (0xF900, 0xFAFF, "han"),
    (0x20000, 0x3134F, "han"),
    (0x0600, 0x06FF, "rtl"),
    (0x0590, 0x05FF, "rtl"),
)

# Characters of everyday words that only the traditional script uses.
_TRADITIONAL = frozenset(
    "臺灣體學國語書畫風龍門開關電車飛馬鳥魚麥黃齊廣東藝術館車燈區樂歡慶節華麗點專業發現與說話讀寫請問們個時間對"
)
_SIMPLIFIED = frozenset(
    "体国语书画风龙门开关电车飞马鸟鱼麦黄齐广东艺术馆灯区乐欢庆节华丽点专业发现与说话读写请问们个时间对"
)


def scripts_of(text: str) -> frozenset[str]:
    """Return the names of the scripts in `text` that need faces of their own."""
    found: set[str] = set()
    for char in text:
        code = ord(char)
        if code > 0xFF:
            found.update(name for first, last, name in _RANGES if first <= code <= last)
    return frozenset(found)


def cjk_region(text: str, context: str = "") -> tuple[str, str]:
    """Return the CJK face (`SC`, `TC`, `JP`, `KR`) and the language tag for `text`.

    Han characters look different by country. Kana and hangul in the text decide, then those in its
    context (the whole prompt), then characters that only one of the Chinese scripts has.
    """
    for scripts in (scripts_of(text), scripts_of(context)):
        if "kana" in scripts:
            return "JP", "ja"
        if "hangul" in scripts:
            return "KR", "ko"
    letters = set(text)
    if len(letters & _TRADITIONAL - _SIMPLIFIED) > len(letters & _SIMPLIFIED - _TRADITIONAL):
        return "TC", "zh-tw"
    if "japan" in context or "tokyo" in context or "kyoto" in context:
        return "JP", "ja"
    if "korea" in context or "seoul" in context:
        return "KR", "ko"
    return "SC", "zh-cn"


def families(text: str, context: str = "") -> tuple[str, str]:
    """Return Pango's family list and the language tag for `text`.

    The Latin of the CJK faces has the wider range of weights, so it sets plain text; a text with
    letters it lacks goes to Noto Sans as a whole, because two designs in one word look wrong.
    """
    scripts = scripts_of(text)
    region, language = cjk_region(text, context)
    cjk = f"Noto Sans CJK {region}"
    names = []
    if "devanagari" in scripts:
        names.append("Noto Sans Devanagari")
        language = "hi"
    if "bengali" in scripts:
        names.append("Noto Sans Bengali")
        language = "hi" if "devanagari" in scripts else "bn"
    if names or "wide" in scripts or "rtl" in scripts:
        names.insert(0, "Noto Sans")
    if scripts & {"kana", "hangul", "han"}:
        language = cjk_region(text, context)[1]
    elif not names:
        # The Korean face is the one whose quotation marks and ellipsis have Latin width.
        cjk, language = "Noto Sans CJK KR", "en"
    return ", ".join([*names, cjk, "Noto Emoji", "Noto Sans Symbols"]), language


def _font_files() -> list[Path]:
    files: list[Path] = []
    for package in _PACKAGES:
        spec = importlib.util.find_spec(package)
        for folder in (spec.submodule_search_locations or ()) if spec else ():
            files += sorted(path for path in Path(folder).iterdir() if path.suffix in _SUFFIXES)
    return files


@contextmanager
def _isolated() -> Iterator[None]:
    """Give fontconfig an empty configuration, unless the operator has chosen one.

    It reads its environment once, at the first text of the process; child processes shall not
    inherit the change, so it is taken back.
    """
    if os.environ.get("FONTCONFIG_FILE"):
        yield
        return
    folder = tempfile.mkdtemp(prefix="safelight-fonts-")
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    config = Path(folder) / "fonts.conf"
    config.write_text(_CONFIG, encoding="utf-8")
    os.environ["FONTCONFIG_FILE"] = str(config)
    try:
        yield
    finally:
        del os.environ["FONTCONFIG_FILE"]


@cache
def _load() -> bool:
    missing = [name for name in _PACKAGES if importlib.util.find_spec(name) is None]
    if missing:
        _log.warning(
            "the proof upstream has no %s: words are set with system fonts or not at all; "
            "install the extra safelight[proof]",
            " and no ".join(missing),
        )
    with nullcontext() if missing else _isolated():
        for path in _font_files():
            pyvips.Image.text("a", font="Noto Sans 8", fontfile=str(path))
    return not missing or _anything_set()


def _anything_set() -> bool:
    """Return whether letters come out: with no font at all Pango draws the same box for each."""
    try:
        one, two = (pyvips.Image.text(letter, font="Sans 40", dpi=72) for letter in "IM")
    except pyvips.Error:
        return False
    return bool(one.width != two.width)


@cache
def _coverage() -> Coverage | None:
    files = _font_files()
    if not files:
        return None
    ranges: list[Range] = []
    for path in files:
        try:
            ranges += font_ranges(path)
        except (OSError, struct.error):
            _log.warning("the font file %s cannot be read", path.name)
    return Coverage(ranges)


def settable(text: str) -> str:
    """Return cleaned `text` without the characters that no font has.

    Without the font packages nothing is known and the text comes back as it is.
    """
    with _lock:
        coverage = _coverage()
    if coverage is None:
        return text
    kept = "".join(
        char
        for char in text
        if char in "\n " or char in coverage or unicodedata.category(char) == "Cf"
    )
    return re.sub(r" {2,}", " ", kept).strip()


def load_fonts() -> bool:
    """Load the font files once per process; return whether text can be set at all.

    Missing packages are logged once. Blocks for about 0.2 s the first time.
    """
    with _lock:
        return _load()
