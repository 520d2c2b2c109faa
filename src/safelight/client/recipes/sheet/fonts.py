"""Type for a PDF: small font files that hold only the letters of one document.

Owns which of the Noto faces (Python packages of the extra `recipes`) sets which letters, and the
cutting out of these letters. PDF readers know neither variable fonts nor CFF2 outlines (ISO
32000-2, 9.9), so each face becomes a static TrueType font of one weight. Letters that no face has
are left out of the document by the caller (`Faces.settable`).
"""

from __future__ import annotations

import importlib.util
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safelight.client.recipes.errors import MissingPart
from safelight.client.recipes.sheet.lines import Widths, needs_shaping

REGULAR, BOLD = 400, 650
_WEIGHTS = {"": REGULAR, "B": BOLD}

_CJK_RANGES = (
    *((0x1100, 0x11FF), (0x2E80, 0x9FFF), (0xAC00, 0xD7FF), (0xF900, 0xFAFF)),
    *((0xFE30, 0xFE4F), (0xFF00, 0xFFEF), (0x20000, 0x3FFFF)),
)
# The faces of the collection, by what gives the region away.
_JAPANESE, _KOREAN, _CHINESE = 0, 1, 2


@dataclass(frozen=True)
class Face:
    """One face of a document: a family name, and a font file for each style of fpdf2."""

    family: str
    files: dict[str, Path]


@dataclass(frozen=True)
class Faces:
    """All faces of a document; the first one sets whatever it can."""

    faces: tuple[Face, ...]
    #: By style, the width of each letter that one of the faces has, in shares of the size of type.
    widths: Mapping[str, Widths]

    def settable(self, text: str) -> str:
        """Return `text` without letters that no face has."""
        return "".join(char for char in text if ord(char) in self.widths[""] or char in "\n ")


def faces_for(texts: Iterable[str], folder: Path) -> Faces:
    """Write the font files that set `texts` into `folder` and return them.

    Args:
        texts: all that will be set.
        folder: for the files; they may be deleted when the document is written.

    Raises:
        MissingPart: a package with fonts is not installed.
    """
    left = {ord(char) for text in texts for char in text} | set(range(0x20, 0x7F))
    faces: list[Face] = []
    widths: dict[str, dict[int, float]] = {style: {} for style in _WEIGHTS}
    for index, source in enumerate(_sources(frozenset(left))):
        with source.opened() as font:
            here = left & font.getBestCmap().keys()
        if here:
            files = {
                style: source.cut(here, weight, folder / f"face-{index}-{weight}.ttf")
                for style, weight in _WEIGHTS.items()
            }
            faces.append(Face(f"face-{index}", files))
            for style, path in files.items():
                widths[style] |= _widths(path)
        left -= here
        if not any(chr(code).isprintable() and code > 0x20 for code in left):
            break
    return Faces(tuple(faces), widths)


def _widths(path: Path) -> dict[int, float]:
    from fontTools.ttLib import TTFont  # noqa: PLC0415 - heavy

    with TTFont(path) as font:
        units, advances = font["head"].unitsPerEm, font["hmtx"].metrics
        return {code: advances[name][0] / units for code, name in font.getBestCmap().items()}


def _sources(wanted: frozenset[int]) -> Iterator[_Source]:
    """Yield the faces in the order in which they are asked for letters."""
    noto = _package("manimgx_fonts", "manimgx-fonts")
    latin = noto / "NotoSans[wght].ttf"
    yield _Source(latin)
    if any(_is_cjk(code) for code in wanted):
        collection = next(_package("manimgx_fonts_cjk", "manimgx-fonts-cjk").glob("*.ttc"))
        yield _Source(collection, number=_region(wanted))
    for path in sorted(noto.glob("*.ttf")):
        if path != latin and "Italic" not in path.name:
            yield _Source(path)


def _package(module: str, package: str) -> Path:
    spec = importlib.util.find_spec(module)
    if spec is None or not spec.submodule_search_locations:
        raise MissingPart(package, "the PDF contact sheet")
    return Path(next(iter(spec.submodule_search_locations)))


def _is_cjk(code: int) -> bool:
    return any(first <= code <= last for first, last in _CJK_RANGES)


def _region(wanted: frozenset[int]) -> int:
    """Return the collection's face: Han characters look different by country.

    A sheet with several of these languages has one face for all Han characters.
    """
    if any(0x4E00 <= code <= 0x9FFF for code in wanted) and not _kana(wanted):
        return _CHINESE
    return _JAPANESE if _kana(wanted) else _KOREAN


def _kana(wanted: frozenset[int]) -> bool:
    return any(0x3041 <= code <= 0x30FF for code in wanted)


class _Source:
    """A variable font file, or one face of a collection."""

    def __init__(self, path: Path, number: int = -1) -> None:
        self._path = path
        self._number = number

    @contextmanager
    def opened(self) -> Iterator[Any]:
        """Open the file for a while; its tables are read as they are asked for."""
        from fontTools.ttLib import TTFont  # noqa: PLC0415 - heavy

        font = TTFont(self._path, fontNumber=self._number, lazy=True)
        try:
            yield font
        finally:
            font.close()

    def cut(self, letters: set[int], weight: int, path: Path) -> Path:
        """Write a static TrueType font of these letters in this weight; return its path."""
        with self.opened() as font:
            if "CFF2" in font:
                _as_truetype(font, letters, weight, path)
            else:
                _subset(font, letters, weight, path)
        return path


def _subset(font: Any, letters: set[int], weight: int, path: Path) -> None:
    """Keep the letters, and the layout rules of those that join or stack."""
    from fontTools import subset  # noqa: PLC0415 - heavy
    from fontTools.varLib import instancer  # noqa: PLC0415 - heavy

    options = subset.Options()
    if needs_shaping("".join(map(chr, letters))):
        options.layout_features = ["*"]
    else:
        options.drop_tables += ["GSUB", "GPOS", "GDEF"]
    options.notdef_outline = True
    cutter = subset.Subsetter(options)
    cutter.populate(unicodes=letters)
    cutter.subset(font)
    if "fvar" in font:
        axes = {
            axis.axisTag: weight if axis.axisTag == "wght" else axis.defaultValue
            for axis in font["fvar"].axes
        }
        font = instancer.instantiateVariableFont(font, axes, inplace=True)
    font.save(path)


def _as_truetype(font: Any, letters: set[int], weight: int, path: Path) -> None:
    """Draw each letter anew: CJK letters need no layout rules when set in a line."""
    from fontTools.fontBuilder import FontBuilder  # noqa: PLC0415 - heavy
    from fontTools.pens.cu2quPen import Cu2QuPen  # noqa: PLC0415 - heavy
    from fontTools.pens.ttGlyphPen import TTGlyphPen  # noqa: PLC0415 - heavy

    cmap = font.getBestCmap()
    drawn = font.getGlyphSet(location={"wght": weight})
    names = [".notdef", *sorted({cmap[code] for code in letters} - {".notdef"})]
    builder = FontBuilder(font["head"].unitsPerEm, isTTF=True)
    builder.setupGlyphOrder(names)
    builder.setupCharacterMap({code: cmap[code] for code in letters})
    glyphs = {}
    for name in names:
        pen = TTGlyphPen(None)
        # One unit of a thousand is finer than any printer; TrueType outlines run the other way.
        drawn[name].draw(Cu2QuPen(pen, 1.0, reverse_direction=True))
        glyphs[name] = pen.glyph()
    builder.setupGlyf(glyphs)
    builder.setupHorizontalMetrics(
        {name: (round(drawn[name].width), getattr(glyphs[name], "xMin", 0)) for name in names}
    )
    above, below = font["hhea"].ascent, font["hhea"].descent
    builder.setupHorizontalHeader(ascent=above, descent=below)
    builder.setupNameTable({"familyName": "Noto Sans CJK", "styleName": str(weight)})
    builder.setupOS2(
        sTypoAscender=above, sTypoDescender=below, usWinAscent=above, usWinDescent=-below
    )
    builder.setupPost()
    builder.save(path)
