"""Whether the command tesseract is on this machine, with the languages that gates ask of it.

Owns the mark of the tests that need it.
"""

from __future__ import annotations

import pytest

from safelight.client.gates.scripts import BY_COMMAND
from safelight.client.gates.tesseract import Missing, tesseract


def needs_tesseract(script: str) -> pytest.MarkDecorator:
    """Return the mark of a test about a script: skipped, with a word, where nothing reads it."""
    why = ""
    if script in BY_COMMAND:
        try:
            tesseract(BY_COMMAND[script], "eng")
        except Missing as error:
            why = f"{script} is read by tesseract: {error}"
    return pytest.mark.skipif(bool(why), reason=why)
