"""The contact sheet of a run: every picture on one page, for a person to look at.

    cards          what is shown, from a finished run
    thumbnails     the small pictures
    page           the HTML file
    paper          the PDF file; fonts, lines: the type it is set in, and where its lines break

A recipe gives `contact_sheet` to its plan as `finish`, or calls it at the end of its own.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

from safelight.client.recipes.sheet.cards import gather
from safelight.client.recipes.sheet.page import write_page
from safelight.client.recipes.sheet.paper import write_paper
from safelight.client.recipes.sheet.thumbnails import thumbnails
from safelight.client.runs.items import Finished

__all__ = ["contact_sheet"]


def contact_sheet(finished: Finished, *made: Path) -> Sequence[Path]:
    """Write `contact-sheet.html` and `contact-sheet.pdf` into the run's folder.

    Args:
        finished: the run.
        made: files that the recipe made of the pictures, to be named on the sheet.

    Returns:
        Both files.

    Raises:
        MissingPart: a package of the extra `recipes` is not installed.
        OSError: a picture cannot be read, or a file cannot be written.
    """
    sheet = gather(finished, made, datetime.now(UTC).astimezone())
    html = finished.folder / "contact-sheet.html"
    pdf = finished.folder / "contact-sheet.pdf"
    small = thumbnails([path for card in sheet.cards for path in card.pictures])
    write_page(sheet, small, html)
    write_paper(sheet, small, pdf)
    return html, pdf
