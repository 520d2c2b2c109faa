"""Gates: what a picture must pass before a run accepts it.

    verdict      what a gate is, and what it says
    parsing      gates by name, as in a run file
    size, weight, blank, background, duplicates, text    one gate each
    pixels       opening and shrinking (libvips)
    reading, models, tesseract, strips    text in pictures: who reads it, and how
    matching, scripts    comparing, and what is claimed
    errors       gates that cannot be made

A gate is a pure decision on measured values; the values are in its verdict. Nothing here talks to
a server or knows of runs. libvips and the reading models are loaded at the first picture.
"""

from safelight.client.gates.background import WhiteBackground
from safelight.client.gates.blank import NotBlank
from safelight.client.gates.duplicates import NearDuplicate
from safelight.client.gates.errors import BadGate, ReaderFailed, ReaderMissing, UnreadableScript
from safelight.client.gates.parsing import NAMES, gate
from safelight.client.gates.scripts import CLAIMED, unclaimed
from safelight.client.gates.size import Size
from safelight.client.gates.text import Text
from safelight.client.gates.verdict import Gate, Remembering, Verdict
from safelight.client.gates.weight import Weight

__all__ = [
    "CLAIMED",
    "NAMES",
    "BadGate",
    "Gate",
    "NearDuplicate",
    "NotBlank",
    "ReaderFailed",
    "ReaderMissing",
    "Remembering",
    "Size",
    "Text",
    "UnreadableScript",
    "Verdict",
    "Weight",
    "WhiteBackground",
    "gate",
    "unclaimed",
]
