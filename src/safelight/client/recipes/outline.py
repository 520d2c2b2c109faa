"""A talk's outline in Markdown, read into title, sections, bullets and notes.

Owns the form (docs/recipes.md): one `#` heading is the talk, every further `#` or `##` heading a
section; `###` headings and paragraphs are lines of the slide; list items are bullets, indented ones
below them; block quotes, and all after a line `Notes:`, are the speaker's notes; `Picture:` says
what the illustration shows. What has no place on a slide (tables, code, pictures) is an error, not
a silent loss. The block structure is a small part of CommonMark (spec 0.31).
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path

from safelight.client.recipes.errors import BadRecipe
from safelight.client.recipes.reading import read_text

LEVELS_MAX = 3
"""Bullets nested deeper are unreadable on a slide; they are set on the third level."""

_HEADING = re.compile(r"(#{1,6})[ \t]+(.*?)(?:[ \t]+#+)?[ \t]*$")
_BULLET = re.compile(r"([ \t]*)(?:[-*+]|\d{1,9}[.)])[ \t]+(.*)$")
_QUOTE = re.compile(r"[ ]{0,3}>[ ]?(.*)$")
_NOTES = re.compile(r"(?:speaker )?notes?[ \t]*:[ \t]*(.*)$", re.IGNORECASE)
_PICTURE = re.compile(r"(?:picture|illustration|image)[ \t]*:[ \t]*(.*)$", re.IGNORECASE)
_RULE = re.compile(r"[ ]{0,3}([-*_])(?:[ \t]*\1){2,}[ \t]*$")
_UNPLACED = (
    (re.compile(r"[ ]{0,3}(```|~~~)"), "code blocks are not set on slides: write bullets"),
    (re.compile(r"\s*\|.*\|\s*$"), "tables are not set on slides: write bullets"),
    (re.compile(r"!\[[^\]]*\]\("), "pictures are made, not linked: write a line `Picture: ...`"),
)
_STRONG = re.compile(r"(\*\*|__)(?=\S)(.+?)(?<=\S)\1")
_EMPHASIS = re.compile(r"(?<![\w*_\\])([*_])(?=\S)([^*_]+?)(?<=\S)\1(?![\w*_])")
_CODE = re.compile(r"`([^`]+)`")
_LINK = re.compile(r"\[([^\]]+)\]\([^)\s]+(?:\s+\"[^\"]*\")?\)")
_ESCAPE = re.compile(r"\\([!-/:-@\[-`{-~])")


@dataclass(frozen=True)
class Line:
    """One line of a slide: text in runs of normal and strong words, and how deep it stands."""

    runs: tuple[tuple[str, bool], ...]
    level: int = 0
    #: False for paragraphs and small headings, which have no bullet.
    bullet: bool = True

    @property
    def text(self) -> str:
        """The words alone."""
        return "".join(words for words, _ in self.runs)


@dataclass(frozen=True)
class Section:
    """One section: a slide, or several when its lines do not fit on one."""

    title: str
    lines: tuple[Line, ...] = ()
    #: The speaker's notes, paragraphs with line feeds between them.
    notes: str = ""
    #: What the illustration shall show, if the outline says so.
    picture: str = ""


@dataclass(frozen=True)
class Outline:
    """A whole talk."""

    title: str
    subtitle: str
    sections: tuple[Section, ...]
    #: Notes of the title slide.
    notes: str = ""


@dataclass
class _Draft:
    """A section while it is read."""

    title: str
    lines: list[Line] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    picture: list[str] = field(default_factory=list)
    indents: list[int] = field(default_factory=list)
    in_notes: bool = False
    #: Whether the line above may be continued by a plain one (CommonMark's lazy continuation).
    open: bool = False

    def done(self) -> Section:
        notes = "\n".join(self.notes).strip()
        picture = " ".join(" ".join(self.picture).split())
        return Section(self.title, tuple(self.lines), notes, picture)


def read_outline(path: Path) -> Outline:
    """Return the talk that a Markdown file outlines.

    Raises:
        BadRecipe: the file cannot be read, has no section, or has what no slide can show; the
            line is named.
    """
    drafts = [_Draft("")]
    for number, line in enumerate(_body(read_text(path, "the outline")), start=1):
        _take(line, drafts, path, number)
    return _assembled(drafts, path)


def _body(text: str) -> list[str]:
    """Return the lines, with front matter between `---` lines blanked: it is not the talk."""
    lines = text.expandtabs(4).splitlines()
    if lines and lines[0].strip() == "---":
        for index in range(1, len(lines)):
            if lines[index].strip() in {"---", "..."}:
                return [""] * (index + 1) + lines[index + 1 :]
    return lines


def _take(line: str, drafts: list[_Draft], path: Path, number: int) -> None:
    """Take one line into the section it belongs to, or begin the next section."""
    draft = drafts[-1]
    heading = _HEADING.match(line)
    if heading is not None and len(heading[1]) <= 2:
        title = plain(heading[2])
        if not title:
            raise BadRecipe("a heading without words: name the section", file=path, line=number)
        if len(drafts) == 1 and len(heading[1]) == 2:
            raise BadRecipe(
                "a section before the talk has a title: begin with `# The talk's title`",
                file=path,
                line=number,
            )
        drafts.append(_Draft(title))
        return
    if not line.strip() or _RULE.match(line):
        draft.open = False
        if draft.in_notes:
            draft.notes.append("")
        return
    quote = _QUOTE.match(line)
    notes = _NOTES.match(line.strip())
    if quote is not None:
        draft.notes.append(plain(quote[1]))
        draft.open = False
    elif notes is not None:
        draft.in_notes = True
        draft.notes.append(plain(notes[1]))
    elif draft.in_notes:
        draft.notes.append(plain(line.strip()))
    else:
        _take_content(line, heading, draft, path, number)


def _take_content(
    line: str, heading: re.Match[str] | None, draft: _Draft, path: Path, number: int
) -> None:
    """Take a line that is shown, or says what the picture shows."""
    for pattern, complaint in _UNPLACED:
        if pattern.match(line):
            raise BadRecipe(complaint, file=path, line=number)
    picture = _PICTURE.match(line.strip())
    bullet = _BULLET.match(line)
    if picture is not None:
        draft.picture.append(plain(picture[1]))
    elif heading is not None:
        draft.lines.append(Line(((plain(heading[2]), True),), bullet=False))
        draft.indents.clear()
        draft.open = False
    elif bullet is not None:
        level = _level(draft, len(bullet[1]))
        draft.lines.append(Line(runs(bullet[2]), level))
        draft.open = True
    elif draft.open and draft.lines:
        last = draft.lines[-1]
        draft.lines[-1] = Line(_joined(last.runs, runs(line.strip())), last.level, last.bullet)
    else:
        draft.lines.append(Line(runs(line.strip()), bullet=False))
        draft.indents.clear()
        draft.open = True


def _level(draft: _Draft, indent: int) -> int:
    """Return how deep a bullet stands: one level for each wider indent above it."""
    while draft.indents and draft.indents[-1] >= indent:
        draft.indents.pop()
    draft.indents.append(indent)
    return min(len(draft.indents), LEVELS_MAX) - 1


def _assembled(drafts: list[_Draft], path: Path) -> Outline:
    before, *sections = drafts
    if before.lines or before.picture:
        raise BadRecipe("text before the first heading: begin with `# The talk's title`", file=path)
    if not sections:
        raise BadRecipe("no heading in it: write `# Title`, then `## Section` for each", file=path)
    talk, *rest = (draft.done() for draft in sections)
    if not rest:
        raise BadRecipe("no section in it: write a `## Section` heading for each slide", file=path)
    subtitle = "\n".join(line.text for line in talk.lines)
    return Outline(talk.title, subtitle, tuple(rest), talk.notes)


def _joined(
    first: tuple[tuple[str, bool], ...], second: tuple[tuple[str, bool], ...]
) -> tuple[tuple[str, bool], ...]:
    return (*first, (" ", False), *second)


def runs(text: str) -> tuple[tuple[str, bool], ...]:
    """Return inline Markdown as runs of words and whether they are strong."""
    parts: list[tuple[str, bool]] = []
    at = 0
    for match in _STRONG.finditer(text):
        parts.append((plain(text[at : match.start()]), False))
        parts.append((plain(match[2]), True))
        at = match.end()
    parts.append((plain(text[at:]), False))
    return tuple(part for part in parts if part[0])


def plain(text: str) -> str:
    """Return inline Markdown without its marks: links keep their words, code its letters."""
    text = _CODE.sub(r"\1", _LINK.sub(r"\1", text))
    text = _EMPHASIS.sub(r"\2", _STRONG.sub(r"\2", text))
    return _ESCAPE.sub(r"\1", text)
