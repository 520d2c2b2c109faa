"""What programs and people meet is documented: error codes, events; and the site builds of it."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from codes import codes_in_source
from safelight.api import ROUTES
from safelight.types import JobState
from safelight.webhooks import EVENTS, TEST_EVENT

ROOT = Path(__file__).resolve().parents[1]
DOCS = ROOT / "docs"


def page(name: str) -> str:
    return (DOCS / name).read_text(encoding="utf-8")


def every_page() -> str:
    return "\n".join(path.read_text(encoding="utf-8") for path in sorted(DOCS.rglob("*.md")))


def test_every_error_code_is_documented() -> None:
    """docs/errors.md has a row for each code that the source can put on the wire."""
    found = codes_in_source()
    assert len(found) > 60
    text = page("errors.md")
    assert {code: names for code, names in found.items() if f"`{code}`" not in text} == {}


def test_no_error_code_is_documented_that_nothing_says() -> None:
    """A first cell of its tables names codes alone, and each of them is somewhere in the source."""
    source = "\n".join(
        path.read_text(encoding="utf-8") for path in (ROOT / "src/safelight").rglob("*.py")
    )
    rows = re.findall(r"^\| (`.*?) \|", page("errors.md"), re.MULTILINE)
    named = [code for row in rows for code in re.findall(r"`(\w+)`", row)]
    assert len(named) > 60
    assert [code for code in named if f'"{code}"' not in source] == []


def test_every_event_is_documented() -> None:
    """Webhooks' events, a job's, and those of image streams have their names in the docs."""
    watched = {"job.partial_image", "job.attempt_failed", "job.cancelling"}
    watched |= {f"job.{state}" for state in JobState}
    jobs = page("jobs.md")
    assert sorted(name for name in watched if f"`{name}`" not in jobs) == []
    webhooks = page("webhooks.md")
    told = {*EVENTS, TEST_EVENT}
    assert sorted(name for name in told if f"`{name}`" not in webhooks) == []


def test_every_event_that_the_source_names_is_one_of_those() -> None:
    """A new name in the source fails here until it is documented above."""
    names = re.compile(r'"((?:job|batch)\.[a-z_]+)"')
    found = {
        name
        for path in (ROOT / "src/safelight").rglob("*.py")
        if "bench" not in path.parts
        for name in names.findall(path.read_text(encoding="utf-8"))
    }
    text = every_page()
    assert sorted(name for name in found if f"`{name}`" not in text) == []


def test_every_route_of_diagnostics_is_documented() -> None:
    text = page("doctor.md")
    found = [f"{method} {path}" for method, path, _ in ROUTES if "/diagnostics/" in path]
    assert len(found) == 2
    assert [route for route in found if route not in text] == []


@pytest.mark.campaign
def test_the_site_builds_without_a_warning_and_without_the_network(tmp_path: Path) -> None:
    """A broken link is a warning, and a warning ends the build; no page fetches from elsewhere."""
    built = tmp_path / "site"
    done = subprocess.run(
        [sys.executable, str(DOCS / "site" / "build.py"), str(built)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    pages = {path.relative_to(built / "html"): path.read_text() for path in built.rglob("*.html")}
    assert {Path("index.html"), Path("search.html"), Path("docs/doctor.html")} <= set(pages)
    for name in ("configuration", "commands", "errors", "routes", "events"):
        assert Path(f"reference/{name}.html") in pages
    away = re.compile(r"""<(?:script|link|img|iframe)[^>]+(?:src|href)=["'](?:https?:)?//[^"']+""")
    assert {
        str(path): away.findall(text) for path, text in pages.items() if away.search(text)
    } == {}
    styles = "".join(path.read_text() for path in built.rglob("*.css"))
    assert re.findall(r"url\(\s*[\"']?(?:https?:)?//", styles) == []
    assert "proxy_read_timeout" in (built / "html/docs/doctor.html").read_text()
    # Search works on the disk: the index is a script, not something to be fetched.
    assert (built / "html/searchindex.js").stat().st_size > 10_000
