"""Whether a picture file carries a signed statement of its origin (C2PA).

Owns where such a statement stands in each format. It is looked for, not judged: who trusts a signer
reads it with a tool of C2PA.

Source: C2PA Technical Specification 2.1, appendix A.3 "Embedding manifests into various file
formats": PNG chunk caBX, JPEG APP11 segments with JUMBF boxes (ISO/IEC 19566-5), RIFF chunk C2PA.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

HEAD_BYTES: Final = 4 * 1024 * 1024
"""How much of a file's beginning and of its end is searched; manifests stand there."""
_MARKS: Final = {
    b"\x89PNG": (b"caBX",),
    b"\xff\xd8\xff": (b"jumb", b"c2pa"),
    b"RIFF": (b"C2PA",),
}


def signed(path: Path) -> bool:
    """Return whether the file has the marks of a C2PA manifest.

    A file that has them by chance is kept for nothing, which costs its bytes and no more.

    Raises:
        OSError: it cannot be read.
    """
    with path.open("rb") as file:
        data = file.read(HEAD_BYTES)
        size = file.seek(0, 2)
        if size > HEAD_BYTES:
            file.seek(max(HEAD_BYTES, size - HEAD_BYTES))
            data += file.read()
    marks = next((marks for magic, marks in _MARKS.items() if data.startswith(magic)), None)
    return marks is not None and all(mark in data for mark in marks)
