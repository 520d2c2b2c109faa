"""Our own design of a deck: a 16:9 file with real layouts, placeholders and a theme.

Owns measures, type and colours, written as DrawingML where python-pptx has no words for it. It is
made of the blank file that python-pptx brings, so that what
a person changes later in the slide master changes every slide. Lengths are inches here, English
Metric Units in the file (914,400 to an inch, ECMA-376 20.1.2.1), sizes of type points.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from safelight.client.recipes.slides.colours import Colours
from safelight.client.recipes.slides.fitting import INDENT, LEVEL_STEP

if TYPE_CHECKING:
    from pptx.presentation import Presentation

WIDTH, HEIGHT = 13.333, 7.5
_MARGIN = 0.65
_FONT = "Calibri"
"""On nearly every machine with a program for slides; LibreOffice has Carlito of the same widths."""
BODY_SIZE = 22
TITLE_SIZE = 32

# What of python-pptx's blank file is kept, by its number there, and its new name.
_OPENING, _TEXT, _FULL, _SPLIT = 0, 1, 7, 8
_NAMES = {_OPENING: "Title", _TEXT: "Text", _FULL: "Picture", _SPLIT: "Text and picture"}
_WHITE = '<a:schemeClr val="bg1"/>'
_FLOW = 'defTabSz="914400" rtl="0" eaLnBrk="1" latinLnBrk="0" hangingPunct="1"'


def new_presentation(colours: Colours) -> Presentation:
    """Return an empty presentation in our design."""
    import pptx  # noqa: PLC0415 - loaded late: `safelight --help` must stay quick
    from pptx.util import Inches  # noqa: PLC0415

    deck = pptx.Presentation()
    deck.slide_width, deck.slide_height = Inches(WIDTH), Inches(HEIGHT)
    layouts = {number: deck.slide_layouts[number] for number in _NAMES}
    for layout in list(deck.slide_layouts):
        if layout not in layouts.values():
            deck.slide_layouts.remove(layout)
    _theme(deck, colours)
    _master(deck.slide_master)
    for number, layout in layouts.items():
        layout.name = _NAMES[number]
        _plain(layout)
    _opening(layouts[_OPENING])
    _text(layouts[_TEXT])
    _full(layouts[_FULL])
    _split(layouts[_SPLIT])
    return deck


# --- theme and master ---


def _theme(deck: Presentation, colours: Colours) -> None:
    """Set colours and fonts in the theme, which is a part that python-pptx does not open."""
    part = next(
        rel.target_part
        for rel in deck.slide_master.part.rels.values()
        if rel.reltype.endswith("/theme")
    )
    xml = part.blob.decode("utf-8")
    palette = {
        "dk1": "1A1A1E",
        "lt1": "FFFFFF",
        "dk2": colours.deep,
        "lt2": colours.tint,
        "accent1": colours.accent,
        "accent2": colours.deep,
        "hlink": colours.accent,
        "folHlink": colours.deep,
    }
    for name, value in palette.items():
        xml = re.sub(
            rf"(<a:{name}>).*?(</a:{name}>)",
            rf'\g<1><a:srgbClr val="{value}"/>\g<2>',
            xml,
            flags=re.DOTALL,
        )
    for group in ("majorFont", "minorFont"):
        xml = re.sub(
            rf'(<a:{group}>\s*<a:latin typeface=")[^"]*', rf"\g<1>{_FONT}", xml, flags=re.DOTALL
        )
    part._blob = xml.encode("utf-8")


def _master(master: Any) -> None:
    for shape in master.placeholders:
        kind = shape.placeholder_format.type
        name = kind.name if kind is not None else ""
        if name == "TITLE":
            _place(shape, _MARGIN, 0.82, WIDTH - 2 * _MARGIN, 0.98)
        elif name == "BODY":
            _place(shape, _MARGIN, 1.95, WIDTH - 2 * _MARGIN, 4.5)
        elif name == "FOOTER":
            _place(shape, _MARGIN, 6.93, 9.0, 0.3)
        elif name == "SLIDE_NUMBER":
            _place(shape, WIDTH - _MARGIN - 1.5, 6.93, 1.5, 0.3)
        elif name == "DATE":
            shape._element.getparent().remove(shape._element)
            continue
        _insets(shape, name)
    styles = master._element.find(_p("txStyles"))
    styles.find(_p("titleStyle")).replace(
        styles.find(_p("titleStyle"))[0], _parsed(_title_style(TITLE_SIZE))
    )
    body = styles.find(_p("bodyStyle"))
    for level in range(3):
        body.replace(body[level], _parsed(_body_style(level)))


def _insets(shape: Any, name: str) -> None:
    """Let text begin exactly at the margin, and stand where the eye expects it."""
    body = shape._element.txBody.bodyPr
    for side in ("lIns", "tIns", "rIns", "bIns"):
        body.set(side, "0")
    body.set("anchor", "ctr" if name in {"FOOTER", "SLIDE_NUMBER"} else "t")
    if name in {"FOOTER", "SLIDE_NUMBER"}:
        align = "l" if name == "FOOTER" else "r"
        style = _style_of(shape)
        for child in list(style):
            style.remove(child)
        style.append(
            _parsed(
                f'<a:lvl1pPr {_NS} algn="{align}"><a:defRPr sz="1200"><a:solidFill>'
                '<a:schemeClr val="tx1"><a:lumMod val="50000"/><a:lumOff val="50000"/>'
                '</a:schemeClr></a:solidFill><a:latin typeface="+mn-lt"/><a:ea typeface="+mn-ea"/>'
                '<a:cs typeface="+mn-cs"/></a:defRPr></a:lvl1pPr>'
            )
        )


def _title_style(size: int, colour: str = '<a:schemeClr val="tx1"/>') -> str:
    return (
        f'<a:lvl1pPr {_NS} algn="l" {_FLOW}>'
        '<a:lnSpc><a:spcPct val="95000"/></a:lnSpc><a:spcBef><a:spcPct val="0"/></a:spcBef>'
        f'<a:buNone/><a:defRPr sz="{size * 100}" b="1" kern="1200">'
        f"<a:solidFill>{colour}</a:solidFill>"
        '<a:latin typeface="+mj-lt"/><a:ea typeface="+mj-ea"/><a:cs typeface="+mj-cs"/>'
        "</a:defRPr></a:lvl1pPr>"
    )


def _body_style(level: int) -> str:
    size = round(BODY_SIZE * (1 - LEVEL_STEP * level))
    step = round(BODY_SIZE * INDENT * 12_700)
    return (
        f'<a:lvl{level + 1}pPr {_NS} marL="{step * (level + 1)}" indent="-{step}" algn="l" {_FLOW}>'
        '<a:lnSpc><a:spcPct val="100000"/></a:lnSpc>'
        f'<a:spcBef><a:spcPts val="{round(size * 42)}"/></a:spcBef>'
        '<a:buClr><a:schemeClr val="accent1"/></a:buClr><a:buFont typeface="Arial"/>'
        f'<a:buChar char="{"•–·"[level]}"/><a:defRPr sz="{size * 100}" kern="1200">'  # noqa: RUF001
        '<a:solidFill><a:schemeClr val="tx1"/></a:solidFill>'
        '<a:latin typeface="+mn-lt"/><a:ea typeface="+mn-ea"/><a:cs typeface="+mn-cs"/>'
        f"</a:defRPr></a:lvl{level + 1}pPr>"
    )


# --- layouts ---


def _plain(layout: Any) -> None:
    """Take away what the blank file says of type, place and dates; the master says it."""
    for shape in list(layout.placeholders):
        kind = shape.placeholder_format.type
        if kind is not None and kind.name == "DATE":
            shape._element.getparent().remove(shape._element)
            continue
        style = _style_of(shape)
        for child in list(style):
            style.remove(child)
        body = shape._element.txBody.bodyPr
        for name in list(body.attrib):
            del body.attrib[name]
        for child in list(body):
            body.remove(child)
        if kind is not None and kind.name in {"FOOTER", "SLIDE_NUMBER"}:
            properties = shape._element.spPr
            for child in list(properties):
                properties.remove(child)


def _opening(layout: Any) -> None:
    """A deep panel over the background, which is the talk's first picture."""
    _panel(layout, 0, 0, 7.6, HEIGHT, alpha=93)
    _bar(layout, _MARGIN + 0.1, 4.25)
    for shape in list(layout.placeholders):
        name = shape.placeholder_format.type.name
        if name == "CENTER_TITLE":
            _place(shape, _MARGIN + 0.1, 1.2, 6.2, 2.8)
            shape._element.txBody.bodyPr.set("anchor", "b")
            _style_of(shape).append(_parsed(_title_style(44, _WHITE)))
        elif name == "SUBTITLE":
            _place(shape, _MARGIN + 0.1, 4.55, 6.2, 1.7)
            _style_of(shape).append(
                _parsed(
                    f'<a:lvl1pPr {_NS} marL="0" indent="0">'
                    f'<a:spcBef><a:spcPts val="400"/></a:spcBef><a:buNone/>'
                    f'<a:defRPr sz="2000"><a:solidFill>{_WHITE}</a:solidFill>'
                    "</a:defRPr></a:lvl1pPr>"
                )
            )
        elif name in {"FOOTER", "SLIDE_NUMBER"}:
            shape._element.getparent().remove(shape._element)


def _text(layout: Any) -> None:
    _bar(layout, _MARGIN, 0.6)
    for shape in layout.placeholders:
        if shape.placeholder_format.type.name == "OBJECT":
            # A line of more than some eighty letters is hard to follow.
            _place(shape, _MARGIN, 1.95, 10.0, 4.7)


def _split(layout: Any) -> None:
    """Text on the left, the whole picture on the right up to the edge: 8.0 by 4.5 is 16:9."""
    _bar(layout, _MARGIN, 0.6)
    for shape in layout.placeholders:
        name = shape.placeholder_format.type.name
        if name == "TITLE":
            _place(shape, _MARGIN, 0.82, WIDTH - 2 * _MARGIN, 0.98)
        elif name == "PICTURE":
            _place(shape, WIDTH - 8.0, 1.95, 8.0, 4.5)
        elif name == "BODY":
            _place(shape, _MARGIN, 1.95, WIDTH - 8.0 - _MARGIN - 0.4, 4.7)


def _full(layout: Any) -> None:
    """The picture fills the slide; the title stands on a panel of its own in the lower part."""
    for shape in list(layout.placeholders):
        name = shape.placeholder_format.type.name
        if name == "TITLE":
            _place(shape, 0, 5.35, 8.4, 1.35)
            shape._element.spPr.append(_parsed(_fill(93)))
            body = shape._element.txBody.bodyPr
            inset = round(_MARGIN * 914_400)
            for side, value in (("lIns", inset), ("rIns", 300_000)):
                body.set(side, str(value))
            body.set("anchor", "ctr")
            _style_of(shape).append(_parsed(_title_style(TITLE_SIZE, _WHITE)))
        elif name == "OBJECT":
            _place(shape, 0, 0, WIDTH, HEIGHT)
            shape._element.nvSpPr.nvPr.find(_p("ph")).set("type", "pic")
            tree = shape._element.getparent()
            tree.remove(shape._element)
            # The first two children are the tree's own properties; the next one lies lowest.
            tree.insert(2, shape._element)
        else:
            shape._element.getparent().remove(shape._element)


# --- means ---

_NS = (
    'xmlns:a="http://schemas.openxmlformats.org/drawingml/2006/main" '
    'xmlns:p="http://schemas.openxmlformats.org/presentationml/2006/main"'
)


def _p(name: str) -> str:
    return "{http://schemas.openxmlformats.org/presentationml/2006/main}" + name


def _parsed(xml: str) -> Any:
    from pptx.oxml import parse_xml  # noqa: PLC0415

    return parse_xml(xml)


def _style_of(shape: Any) -> Any:
    from pptx.oxml.ns import qn  # noqa: PLC0415

    body = shape._element.txBody
    style = body.find(qn("a:lstStyle"))
    if style is None:
        style = _parsed(f"<a:lstStyle {_NS}/>")
        body.insert(1, style)
    return style


def _place(shape: Any, x: float, y: float, width: float, height: float) -> None:
    from pptx.util import Inches  # noqa: PLC0415

    shape.left, shape.top = Inches(x), Inches(y)
    shape.width, shape.height = Inches(width), Inches(height)


def _fill(alpha: int) -> str:
    return (
        f'<a:solidFill {_NS}><a:schemeClr val="tx2"><a:alpha val="{alpha * 1000}"/>'
        "</a:schemeClr></a:solidFill>"
    )


def _panel(layout: Any, x: float, y: float, width: float, height: float, *, alpha: int) -> None:
    _shape(layout, "Panel", (x, y, width, height), _fill(alpha))


def _bar(layout: Any, x: float, y: float) -> None:
    """A short bar in the accent colour above a title."""
    _shape(
        layout,
        "Accent",
        (x, y, 0.6, 0.07),
        f'<a:solidFill {_NS}><a:schemeClr val="accent1"/></a:solidFill>',
    )


def _shape(layout: Any, name: str, box: tuple[float, float, float, float], fill: str) -> None:
    """Add a rectangle below everything else of a layout."""
    tree = layout.shapes._spTree
    x, y, width, height = (round(part * 914_400) for part in box)
    number = max((int(one.get("id")) for one in tree.iter(_p("cNvPr"))), default=1) + 1
    xml = (
        f'<p:sp {_NS}><p:nvSpPr><p:cNvPr id="{number}" name="{name}"/><p:cNvSpPr/>'
        '<p:nvPr userDrawn="1"/></p:nvSpPr><p:spPr>'
        f'<a:xfrm><a:off x="{x}" y="{y}"/><a:ext cx="{width}" cy="{height}"/></a:xfrm>'
        f'<a:prstGeom prst="rect"><a:avLst/></a:prstGeom>{fill}<a:ln><a:noFill/></a:ln></p:spPr>'
        "</p:sp>"
    )
    below = [one for one in tree if one.tag == _p("sp") and one.find(f".//{_p('ph')}") is None]
    tree.insert(2 + len(below), _parsed(xml))
