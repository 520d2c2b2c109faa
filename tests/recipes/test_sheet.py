"""Contact sheets: what they say of a run, as HTML and as PDF."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from pathlib import Path

import pytest

from recipes.made import ended, inflated
from safelight.client.recipes.sheet import contact_sheet
from safelight.client.recipes.sheet.cards import cost_line, dollars, shared_beginning
from safelight.client.recipes.sheet.paper import fitted

PROMPTS = {
    "neon": 'Product photo of one shoe, exactly as it is. Setting: neon <script>"x"</script>',
    "beach": "Product photo of one shoe, exactly as it is. Setting: beach",
    "velvet": "Product photo of one shoe, exactly as it is. Setting: 黑色天鹅绒 क्षत्रिय",
    "paper": "Product photo of one shoe, exactly as it is. Setting: paper",
}


class Page(HTMLParser):
    """What a page links to, shows and says."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.links: list[str] = []
        self.pictures: list[str] = []
        self.tags: list[str] = []
        self.words = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        found = dict(attrs)
        if tag == "a":
            self.links.append(found["href"] or "")
        if tag == "img":
            self.pictures.append(found["src"] or "")

    def handle_data(self, data: str) -> None:
        self.words += data


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a run with a picture for review and one that failed, and its sheets."""
    folder = tmp_path_factory.mktemp("run with blanks")
    finished = ended(
        folder,
        PROMPTS,
        review={"velvet": "reads “新晶”, “新品” wanted"},
        failed={"paper": "moderation_blocked"},
    )
    made = folder / "talk.pptx"
    assert list(contact_sheet(finished, made)) == [
        folder / "contact-sheet.html",
        folder / "contact-sheet.pdf",
    ]
    return folder


def test_the_page_shows_every_item_with_what_came_of_it(folder: Path) -> None:
    text = (folder / "contact-sheet.html").read_text(encoding="utf-8")
    page = Page(text)
    assert page.words.count("Product photo of one shoe") == 4
    for said in (
        *("Accepted", "For review", "Failed", "moderation_blocked", "reads “新晶”, “新品” wanted"),
        *("2 pictures · $0.12 for 4 rolls", "mean generation 1.5 s", "182 × 102", "黑色天鹅绒"),  # noqa: RUF001
    ):
        assert said in page.words
    assert (
        page.words.index("Accepted") < page.words.index("For review") < page.words.index("Failed")
    )


def test_the_page_needs_no_other_file_and_links_to_the_pictures(folder: Path) -> None:
    text = (folder / "contact-sheet.html").read_text(encoding="utf-8")
    page = Page(text)
    assert len(page.pictures) == 3
    assert all(one.startswith("data:image/jpeg;base64,") for one in page.pictures)
    assert page.links[0] == "talk.pptx"
    assert all((folder / link).is_file() for link in page.links[1:])
    assert "script" not in page.tags
    assert not re.search(r"(?:src|href)=\"?https?:|@import|url\(", text)


def test_the_pdf_embeds_the_letters_that_it_sets(folder: Path) -> None:
    """Letters of three scripts are in its maps from glyphs to text (ISO 32000-2, 9.10.3)."""
    data = (folder / "contact-sheet.pdf").read_bytes()
    opened = inflated(data)
    assert data.startswith(b"%PDF-")
    assert opened.count(b"/FontFile2") >= 3
    for letter in "品क$":
        assert f"{ord(letter):04x}".encode() in opened.lower()
    assert opened.count(b"/Subtype /Image") == 3
    assert len(data) < 400_000


def test_many_pictures_make_several_pages(tmp_path: Path) -> None:
    prompts = {f"p-{number:02d}": f"picture {number}" for number in range(20)}
    contact_sheet(ended(tmp_path, prompts))
    opened = inflated((tmp_path / "contact-sheet.pdf").read_bytes())
    assert len(re.findall(rb"/Type /Page\b", opened)) >= 3


def test_a_row_that_nearly_fits_a_page_stands_on_it() -> None:
    """All pictures of the page give way for it, alike; not by more than a quarter."""
    count, high = fitted([20.0] * 5, 50.0, 280.0)
    assert count == 4
    assert 4 * (high + 2 + 20) + 3 * 5 == pytest.approx(280.0)
    assert fitted([20.0] * 5, 50.0, 240.0) == (3, 50.0)
    assert fitted([20.0] * 2, 50.0, 240.0) == (2, 50.0)
    assert fitted([20.0], 50.0, 30.0) == (0, 50.0)


def test_a_run_without_a_single_picture_has_a_sheet(tmp_path: Path) -> None:
    finished = ended(tmp_path, {"a": "one"}, failed={"a": "refused"})
    contact_sheet(finished)
    assert "refused" in (tmp_path / "contact-sheet.html").read_text()


def test_the_cost_line_says_what_rolls_cost(tmp_path: Path) -> None:
    assert cost_line(ended(tmp_path, PROMPTS)) == "4 pictures · $0.12 ($0.03 each)"
    assert cost_line(ended(tmp_path, {"a": "x"})) == "1 picture · $0.03"
    assert cost_line(ended(tmp_path, PROMPTS, review={"neon": "blank"})) == (
        "3 pictures · $0.15 for 5 rolls"
    )


def test_amounts_keep_what_is_less_than_a_cent() -> None:
    assert [dollars(one) for one in (0, 30_000, 1_234_567_800, 4_500, -20_000)] == [
        *("$0.00", "$0.03", "$1,234.5678", "$0.0045", "-$0.02"),
    ]


def test_prompts_lose_the_beginning_that_all_of_them_have() -> None:
    beginning = "Product photo of one shoe, exactly as it is. Setting: "
    assert shared_beginning(list(PROMPTS.values())) == len(beginning)
    assert shared_beginning(["a cat", "a dog"]) == 0
    assert shared_beginning(["alone"]) == 0
