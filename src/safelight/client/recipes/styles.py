"""The styles of product pictures: thirty that ship with safelight, and files of one's own.

Owns the form of such a file (one line a style, `name: description`, `#` begins a remark) and the
reading of `--styles`. The ready-made ones are in `styles.txt` beside this module.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from importlib import resources
from pathlib import Path

from safelight.client.recipes.errors import BadRecipe
from safelight.client.recipes.reading import read_text


@dataclass(frozen=True)
class Style:
    """One way to show a product: a name for files and lists, and what the prompt says."""

    name: str
    description: str


@cache
def ready_made() -> Mapping[str, Style]:
    """Return the styles that ship with safelight, by name."""
    text = resources.files(__package__).joinpath("styles.txt").read_text(encoding="utf-8")
    return {style.name: style for _, style in _read(text, Path("styles.txt"), {})}


def chosen(wish: str) -> tuple[Style, ...]:
    """Return the styles that `--styles` asks for.

    Args:
        wish: a number (so many ready-made ones, spread over all kinds), names of ready-made ones
            with commas between them, or a file.

    Raises:
        BadRecipe: nothing of these, or a fault in the file, named with its line.
    """
    wish = wish.strip()
    known = ready_made()
    if wish.isdecimal():
        return _spread(int(wish), tuple(known.values()))
    names = [name.strip() for name in wish.split(",") if name.strip()]
    if names and all(name in known for name in names):
        return tuple(known[name] for name in dict.fromkeys(names))
    path = Path(wish)
    if path.is_file() or (len(names) <= 1 and path.suffix):
        return read_styles(path)
    unknown = ", ".join(name for name in names if name not in known) or wish
    raise BadRecipe(
        f"--styles: {unknown!r} is neither a file nor a ready-made style. The ready-made ones: "
        + ", ".join(known)
    )


def read_styles(path: Path) -> tuple[Style, ...]:
    """Return the styles of a file, in its order.

    Raises:
        BadRecipe: the file cannot be read, has no style, has one twice, or has a line without a
            description whose name is no ready-made style.
    """
    found: dict[str, tuple[int, Style]] = {}
    for line, style in _read(read_text(path, "the list of styles"), path, ready_made()):
        if style.name in found:
            first = found[style.name][0]
            raise BadRecipe(
                f"{style.name!r} stands in line {first} already: give it another name",
                file=path,
                line=line,
            )
        found[style.name] = (line, style)
    if not found:
        raise BadRecipe("no style in it: write one line a style, `name: description`", file=path)
    return tuple(style for _, style in found.values())


def _read(text: str, path: Path, known: Mapping[str, Style]) -> Iterator[tuple[int, Style]]:
    for number, line in enumerate(text.splitlines(), start=1):
        content = line.strip()
        if not content or content.startswith("#"):
            continue
        name, colon, description = (part.strip() for part in content.partition(":"))
        if description and name:
            yield number, Style(name, description)
        elif not colon and name in known:
            yield number, known[name]
        else:
            raise BadRecipe(
                f"{content!r} says no more than a name, and none of the ready-made styles has it: "
                "write `name: how the picture shall look`",
                file=path,
                line=number,
            )


def _spread(count: int, every: tuple[Style, ...]) -> tuple[Style, ...]:
    if not 1 <= count <= len(every):
        raise BadRecipe(
            f"--styles: {count} is not between 1 and {len(every)}, the number of ready-made styles;"
            " a file of your own may have more"
        )
    return tuple(every[index * len(every) // count] for index in range(count))
