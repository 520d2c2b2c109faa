"""Builds the documentation as a site: `build.py FOLDER` writes FOLDER/html, from docs/ as it is.

Owns the gathering of pages and of what they link to, the navigation (by the sections of
docs/README.md) and the call of Sphinx, for which every warning is an error: a broken link ends the
build. Nothing is fetched. The pages made from code are `reference.py`'s.
"""

from __future__ import annotations

import re
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

import reference

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
DOCS = ROOT / "docs"
_LINK = re.compile(r"(?<=\]\()([^)#\s]+)(?=[)#])")
_SECTION = re.compile(r"^## (.+)$", re.MULTILINE)
_FENCED = re.compile(r"^(```.*?^```)", re.MULTILINE | re.DOTALL)


def main(target: Path) -> int:
    """Build the site in a folder and return Sphinx's exit code."""
    from sphinx.cmd.build import build_main  # noqa: PLC0415 - gathering needs no Sphinx

    source = target / "source"
    shutil.rmtree(target, ignore_errors=True)
    source.mkdir(parents=True)
    gather(source)
    options = ["-q", "-W", "--keep-going", "-b", "html", "-c", str(HERE)]
    return build_main([*options, "-d", str(target / "doctrees"), str(source), str(target / "html")])


def gather(source: Path) -> None:
    """Put all pages in place, as they lie in the repository, and the index above them."""
    pages = set(_copied(source))
    for name, text in reference.pages().items():
        path = source / "reference" / f"{name}.md"
        path.parent.mkdir(exist_ok=True)
        path.write_text(text, encoding="utf-8")
    (source / "index.md").write_text(_index(pages), encoding="utf-8")


def _copied(source: Path) -> Iterator[str]:
    """Copy the pages of docs/ and, from page to page, every file that they link to."""
    waiting = sorted(DOCS.rglob("*.md"))
    done: set[Path] = set()
    while waiting:
        path = waiting.pop()
        if path in done:
            continue
        done.add(path)
        place = source / path.relative_to(ROOT)
        place.parent.mkdir(parents=True, exist_ok=True)
        if path.suffix != ".md":
            shutil.copyfile(path, place)
            continue
        text = _without_folders(path.read_text(encoding="utf-8"), path)
        place.write_text(text, encoding="utf-8")
        waiting += _linked(text, path)
        yield path.relative_to(ROOT).with_suffix("").as_posix()


def _linked(text: str, page: Path) -> Iterator[Path]:
    for target in _LINK.findall(_FENCED.sub("", text)):
        found = (page.parent / target).resolve()
        if "://" not in target and found.is_file() and found.is_relative_to(ROOT):
            yield found


def _without_folders(text: str, page: Path) -> str:
    """Return a page whose links to folders lead to the files in them: a site has no folders."""

    def listed(match: re.Match[str]) -> str:
        words, target = match[1], match[2]
        folder = (page.parent / target).resolve()
        if "://" in target or not folder.is_dir():
            return match[0]
        links = [f"[{_title(one)}]({target.rstrip('/')}/{one.name})" for one in _files(folder)]
        return f"{words}: {', '.join(links)}"

    return re.sub(r"\[([^\]]+)\]\(([^)#\s]+)\)", listed, text)


def _files(folder: Path) -> list[Path]:
    return sorted(one for one in folder.iterdir() if one.is_file() and one.suffix != ".pyc")


def _title(path: Path) -> str:
    return path.stem.replace("-", " ") if path.suffix == ".md" else path.name


# --- navigation -----------------------------------------------------------------------------------


def _index(pages: set[str]) -> str:
    """Return the first page: what docs/README.md sorts as it sorts it, then everything else."""
    groups = dict(_groups(pages))
    sorted_away = {page for group in groups.values() for page in group}
    decisions = sorted(page for page in pages if "/decisions/" in page)
    rest = sorted(pages - sorted_away - set(decisions) - {"docs/README"})
    groups["Reference, from the code"] = [f"reference/{name}" for name in reference.NAMES]
    if rest:
        groups["More"] = rest
    groups["Decisions"] = [page for page in decisions if page not in sorted_away]
    first = "docs/README" if "docs/README" in pages else "docs/architecture"
    parts = ["# safelight\n", _INTRODUCTION, f"Where to begin: [the documents]({first}.md).\n"]
    for caption, names in groups.items():
        listing = "\n".join(names)
        parts.append(f"```{{toctree}}\n:caption: {caption}\n:maxdepth: 1\n\n{listing}\n```\n")
    if first == "docs/README":
        parts.append("```{toctree}\n:hidden:\n\ndocs/README\n```\n")
    return "\n".join(parts)


_INTRODUCTION = (
    "A self-hosted, OpenAI-compatible image gateway: one order, one image, one charge.\n"
)


def _groups(pages: set[str]) -> Iterator[tuple[str, list[str]]]:
    """Yield the sections of docs/README.md with the pages that they name, each page once."""
    readme = DOCS / "README.md"
    if not readme.is_file():
        return
    _, *parts = _SECTION.split(readme.read_text(encoding="utf-8"))
    seen: set[str] = set()
    for caption, body in zip(parts[::2], parts[1::2], strict=True):
        names = []
        for target in _LINK.findall(body):
            name = (DOCS / target).resolve()
            if name.suffix == ".md" and name.is_relative_to(ROOT):
                page = name.relative_to(ROOT).with_suffix("").as_posix()
                if page in pages and page not in seen:
                    seen.add(page)
                    names.append(page)
        if names:
            yield caption, names


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1] if len(sys.argv) > 1 else ROOT / "build" / "docs")))
