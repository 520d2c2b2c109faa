"""A talk as a .pptx: titles, bullets, notes and one illustration a section, on 16:9 slides.

    base          our own design, made of python-pptx's blank file: real layouts and placeholders
    colours       an accent that goes with the pictures
    layouts       what the layouts of any file are good for: our own, or a company's template
    fitting       how much text a box takes; sizes of type, and what goes to a second slide
    build         the slides, in order

Only this folder knows python-pptx (extra `recipes`).
"""

from __future__ import annotations

from safelight.client.recipes.slides.build import Illustration, write_deck

__all__ = ["Illustration", "write_deck"]
