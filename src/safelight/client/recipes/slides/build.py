"""The slides of a deck, in order, and the file.

Owns what goes where on a slide. Text goes into the layout's placeholders, so that it has the fonts
of its theme; pictures lie where the layout has its place for one, each with an alternative text.
"""

from __future__ import annotations

import copy
import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from safelight.client.recipes.errors import MissingPart
from safelight.client.recipes.outline import Line, Outline, Section
from safelight.client.recipes.slides.fitting import Box, Page, level_size, pages, title_size

if TYPE_CHECKING:
    from pptx.presentation import Presentation
    from pptx.slide import Slide

BODY_SIZE_MIN = 16
"""Smaller type is not read from the last row; what does not fit goes to another slide."""
TITLE_SIZE_MIN = 22
CROP_MAX = 0.3
"""A place of another shape may cut away this share of a picture; beyond it the whole is shown."""
HEAVY_BYTES = 900_000
"""A PNG above this goes in as a JPEG of the same pixels: a deck is sent by mail."""
_EMU_PER_POINT = 12_700
_INSETS = (14.4, 7.2)
"""Points, left and right, top and bottom: what a text box keeps free unless told otherwise."""


@dataclass(frozen=True)
class Illustration:
    """A section's picture, and what it shows in words, for those who do not see it."""

    path: Path
    alt: str


def write_deck(
    outline: Outline,
    pictures: Sequence[Illustration | None],
    path: Path,
    template: Path | None = None,
) -> None:
    """Write a talk as a .pptx.

    Args:
        outline: the talk.
        pictures: one for each section, None where there is none.
        path: the file; one that is there is replaced when the new one is whole.
        template: a company's .pptx, whose layouts, fonts and colours are used.

    Raises:
        MissingPart: python-pptx is not installed.
        BadRecipe: the template cannot be used.
        OSError: a picture cannot be read, or the file cannot be written.
    """
    require_pptx()
    from safelight.client.recipes.slides.base import new_presentation  # noqa: PLC0415 - pptx
    from safelight.client.recipes.slides.colours import colours_of  # noqa: PLC0415
    from safelight.client.recipes.slides.layouts import open_template  # noqa: PLC0415

    first = next((one for one in pictures if one is not None), None)
    if template is None:
        deck = new_presentation(colours_of(first.path if first else None))
    else:
        deck = open_template(template)
    builder = _Builder(deck, outline, is_ours=template is None)
    builder.opening(first)
    for section, picture in zip(outline.sections, pictures, strict=True):
        builder.section(section, picture)
    builder.sign()
    part = path.with_name(f".{path.name}.part")
    deck.save(str(part))
    part.replace(path)


def require_pptx() -> None:
    """Return if python-pptx is installed.

    Raises:
        MissingPart: it is not.
    """
    try:
        import pptx  # noqa: F401, PLC0415 - loaded late: `safelight --help` must stay quick
    except ImportError as error:
        raise MissingPart("python-pptx", "a deck") from error


class _Builder:
    """One presentation while its slides are made."""

    def __init__(self, deck: Presentation, outline: Outline, *, is_ours: bool) -> None:
        from safelight.client.recipes.slides.layouts import roles  # noqa: PLC0415 - pptx

        self._deck = deck
        self._outline = outline
        self._is_ours = is_ours
        self._roles = roles(deck)

    def opening(self, picture: Illustration | None) -> None:
        """Add the title slide; in our design the first picture lies behind its panel."""
        slide = self._slide(self._roles.opening)
        titles = _placeholders(slide, "TITLE", "CENTER_TITLE")
        rest = _placeholders(slide, "SUBTITLE", "BODY", "OBJECT")
        self._title(slide, self._outline.title)
        if rest:
            rest[0].text_frame.text = self._outline.subtitle
        elif titles and self._outline.subtitle:
            titles[0].text_frame.add_paragraph().text = self._outline.subtitle
        if self._is_ours and picture is not None:
            _background(slide, picture.path)
        self._end(slide, self._outline.notes, self._roles.opening)

    def section(self, section: Section, picture: Illustration | None) -> None:
        """Add the slides of a section: one, or more where its lines need them."""
        if not section.lines:
            self._illustrated(section, picture)
            return
        layout = self._roles.split if picture is not None else None
        layout = layout or self._roles.text
        slide = self._slide(layout)
        body, place = self._places(slide, picture is not None)
        largest = self._body_size(layout)
        found = pages(section.lines, _box(body), largest, min(BODY_SIZE_MIN, largest))
        if len(found) > 1:
            # What follows has no picture beside it, and so more room.
            rest = section.lines[len(found[0].lines) :]
            found = [found[0], *self._wide_pages(rest)]
        many = len(found) > 1
        self._title(slide, section.title + (f" (1/{len(found)})" if many else ""))
        self._lines(body, found[0], largest)
        if picture is not None:
            self._picture(slide, picture, place)
        self._end(slide, section.notes, layout)
        for number, page in enumerate(found[1:], start=2):
            self._continued(f"{section.title} ({number}/{len(found)})", page)

    def sign(self) -> None:
        """Say in the file's properties what it is; a template's author did not write it."""
        properties = self._deck.core_properties
        properties.title = self._outline.title
        properties.subject = self._outline.subtitle
        properties.author = properties.last_modified_by = ""
        properties.comments = properties.keywords = ""

    # --- slides ---

    def _illustrated(self, section: Section, picture: Illustration | None) -> None:
        """Add a slide of a title and a picture, as large as the layouts allow."""
        layout = (self._roles.full if picture is not None else None) or self._roles.text
        slide = self._slide(layout)
        self._title(slide, section.title)
        rest = _placeholders(slide, "BODY", "OBJECT", "PICTURE")
        if picture is not None:
            place = _frame(rest[0])
            self._picture(slide, picture, place, below=layout is self._roles.full)
        for shape in rest:
            _remove(shape)
        self._end(slide, section.notes, layout)

    def _continued(self, title: str, page: Page) -> None:
        slide = self._slide(self._roles.text)
        self._title(slide, title)
        body, *others = _placeholders(slide, "BODY", "OBJECT")
        self._lines(body, page, self._body_size(self._roles.text))
        for shape in (*others, *_placeholders(slide, "PICTURE")):
            _remove(shape)
        self._end(slide, "", self._roles.text)

    def _wide_pages(self, lines: Sequence[Line]) -> list[Page]:
        layout = self._roles.text
        size = self._body_size(layout)
        body = next(
            shape
            for shape in layout.placeholders
            if shape.placeholder_format.type.name in {"BODY", "OBJECT"}
        )
        return pages(lines, _box(body), size, min(BODY_SIZE_MIN, size))

    def _slide(self, layout: Any) -> Slide:
        slide: Slide = self._deck.slides.add_slide(layout)
        return slide

    def _body_size(self, layout: Any) -> float:
        from safelight.client.recipes.slides.layouts import body_size  # noqa: PLC0415 - pptx

        return body_size(layout)

    def _places(self, slide: Slide, pictured: bool) -> tuple[Any, tuple[int, int, int, int]]:
        """Return where the text goes and where the picture goes; other places are removed."""
        body, *others = _placeholders(slide, "BODY", "OBJECT")
        pictures = _placeholders(slide, "PICTURE")
        if not pictured:
            for shape in (*others, *pictures):
                _remove(shape)
            return body, (0, 0, 0, 0)
        taken = (pictures or others)[:1]
        if taken:
            place = _frame(taken[0])
            for shape in (*others, *pictures):
                _remove(shape)
            return body, place
        return body, self._divided(body)

    def _divided(self, body: Any) -> tuple[int, int, int, int]:
        """Give the right part of a wide text's place to the picture."""
        x, y, width, height = _frame(body)
        gap = width // 30
        text = round(width * 0.4)
        body.left, body.top, body.width, body.height = x, y, text, height
        return x + text + gap, y, width - text - gap, height

    # --- parts of slides ---

    def _title(self, slide: Slide, title: str) -> None:
        """Write the title, smaller than its layout says where it would not fit its place."""
        from pptx.util import Pt  # noqa: PLC0415

        from safelight.client.recipes.slides import layouts  # noqa: PLC0415 - pptx

        shapes = _placeholders(slide, "TITLE", "CENTER_TITLE")
        if not shapes:
            return
        frame = shapes[0].text_frame
        frame.text = title
        most = layouts.title_size(slide.slide_layout)
        size = title_size(title, _box(shapes[0]), most, min(TITLE_SIZE_MIN, most))
        if size < most:
            for run in frame.paragraphs[0].runs:
                run.font.size = Pt(size)

    def _lines(self, body: Any, page: Page, largest: float) -> None:
        from pptx.util import Pt  # noqa: PLC0415

        frame = body.text_frame
        for at, line in enumerate(page.lines):
            paragraph = frame.paragraphs[0] if at == 0 else frame.add_paragraph()
            paragraph.level = line.level
            if not line.bullet:
                _unbulleted(paragraph)
            for words, strong in line.runs:
                run = paragraph.add_run()
                run.text = words
                if strong:
                    run.font.bold = True
                if page.size < largest:
                    run.font.size = Pt(level_size(page.size, line.level))

    def _picture(
        self,
        slide: Slide,
        picture: Illustration,
        place: tuple[int, int, int, int],
        *,
        below: bool = False,
    ) -> None:
        """Put a picture into its place: filling it if little is cut away, else whole within it."""
        from pptx.util import Emu  # noqa: PLC0415

        x, y, width, height = place
        shape: Any = slide.shapes.add_picture(_light(picture.path), Emu(x), Emu(y))
        wide, high = shape.image.size
        scale = max(width / wide, height / high)
        shown = width * height / (wide * scale * high * scale)
        if 1 - shown <= CROP_MAX:
            shape.crop_left = shape.crop_right = max(0.0, (1 - width / (wide * scale)) / 2)
            shape.crop_top = shape.crop_bottom = max(0.0, (1 - height / (high * scale)) / 2)
            shape.left, shape.top, shape.width, shape.height = x, y, width, height
        else:
            scale = min(width / wide, height / high)
            shape.width, shape.height = round(wide * scale), round(high * scale)
            shape.left = x + (width - shape.width) // 2
            shape.top = y + (height - shape.height) // 2
        shape.name = "Illustration"
        shape._element.nvPicPr.cNvPr.set("descr", picture.alt)
        if below:
            tree = slide.shapes._spTree
            tree.remove(shape._element)
            # The first two children are the tree's own properties; the next one lies lowest.
            tree.insert(2, shape._element)

    def _end(self, slide: Slide, notes: str, layout: Any) -> None:
        """Write the notes, and bring over what python-pptx does not: foot and slide number."""
        if notes:
            frame = slide.notes_slide.notes_text_frame
            if frame is not None:
                frame.text = notes
        for shape in layout.placeholders:
            kind = shape.placeholder_format.type
            if kind is None or kind.name not in {"FOOTER", "SLIDE_NUMBER"}:
                continue
            element = copy.deepcopy(shape._element)
            for child in list(element.spPr):
                element.spPr.remove(child)
            element.nvSpPr.cNvPr.set("id", str(slide.shapes._next_shape_id))
            slide.shapes._spTree.append(element)
            if kind.name == "FOOTER":
                added = next(one for one in slide.placeholders if one._element is element)
                if not added.text_frame.text.strip():
                    added.text_frame.text = self._outline.title
                    if self._is_ours:
                        _left(added)


def _placeholders(slide: Slide, *kinds: str) -> list[Any]:
    return [
        shape
        for shape in slide.placeholders
        if shape.placeholder_format.type is not None and shape.placeholder_format.type.name in kinds
    ]


def _frame(shape: Any) -> tuple[int, int, int, int]:
    return shape.left, shape.top, shape.width, shape.height


def _box(shape: Any) -> Box:
    """Return the room for text in a shape, points."""
    across, down = _INSETS
    return Box(shape.width / _EMU_PER_POINT - across, shape.height / _EMU_PER_POINT - down)


def _remove(shape: Any) -> None:
    element = shape._element
    element.getparent().remove(element)


def _left(footer: Any) -> None:
    """Say on the slide what its master says: LibreOffice centres footers, in a font of its own."""
    from pptx.enum.text import PP_ALIGN  # noqa: PLC0415
    from pptx.util import Pt  # noqa: PLC0415

    paragraph = footer.text_frame.paragraphs[0]
    paragraph.alignment = PP_ALIGN.LEFT
    for run in paragraph.runs:
        run.font.size, run.font.name = Pt(12), "+mn-lt"


def _unbulleted(paragraph: Any) -> None:
    from pptx.oxml.ns import qn  # noqa: PLC0415

    properties = paragraph._p.get_or_add_pPr()
    properties.set("marL", "0")
    properties.set("indent", "0")
    properties.append(properties.makeelement(qn("a:buNone"), {}))


def _background(slide: Slide, picture: Path) -> None:
    """Fill the slide's background with a picture."""
    from pptx.oxml import parse_xml  # noqa: PLC0415

    _, link = slide.part.get_or_add_image_part(_light(picture))
    xml = (
        '<p:bg xmlns:p="http://schemas.openxmlformats.org/presentationml/2006/main" '
        'xmlns:a="http://schemas.openxmlformats.org/drawingml/2006/main" '
        'xmlns:r="http://schemas.openxmlformats.org/officeDocument/2006/relationships">'
        f'<p:bgPr><a:blipFill dpi="0" rotWithShape="1"><a:blip r:embed="{link}"/><a:srcRect/>'
        "<a:stretch><a:fillRect/></a:stretch></a:blipFill><a:effectLst/></p:bgPr></p:bg>"
    )
    slide._element.cSld.insert(0, parse_xml(xml))


def _light(path: Path) -> io.BytesIO:
    """Return a picture's file; a heavy opaque PNG and a WebP as a JPEG of the same pixels."""
    import pyvips  # noqa: PLC0415 - loaded late

    data = path.read_bytes()
    is_webp = data[8:12] == b"WEBP"
    if not is_webp and not (data.startswith(b"\x89PNG") and len(data) > HEAVY_BYTES):
        return io.BytesIO(data)
    try:
        picture = pyvips.Image.new_from_buffer(data, "")
        if picture.hasalpha():
            return io.BytesIO(picture.write_to_buffer(".png") if is_webp else data)
        return io.BytesIO(picture.write_to_buffer(".jpg[Q=90,optimize-coding]"))
    except pyvips.Error as error:
        raise OSError(f"{path}: not readable as a picture: {error}") from error
