"""How gates cannot be made; all of it is said before anything is spent.

Owns the gates' branch of the client's tree of errors.
"""

from __future__ import annotations

from safelight.client.errors import ClientError


class BadGate(ClientError, ValueError):
    """A gate that cannot be made as it is written; the message shows how to write it."""


class UnreadableScript(BadGate):
    """A text in a script, or with a character, that the gate `text` does not claim to read.

    Args:
        text: the wanted text.
        what: the scripts, or characters, in words.
        remedy: what makes it readable; empty: nothing does.
    """

    def __init__(self, text: str, what: str, remedy: str = "") -> None:
        reads = "it reads Latin, Chinese and Japanese, and Korean with tesseract"
        super().__init__(
            f"the text gate cannot vouch for {text!r}: {reads}, but not {what}; "
            f"{f'{remedy}, or ' if remedy else ''}"
            "leave the gate out for this text and look at the pictures yourself"
        )
        self.text = text
        self.what = what


class ReaderMissing(ClientError):
    """The packages that read text in pictures are not installed."""

    def __init__(self, package: str) -> None:
        super().__init__(
            f"the text gate needs {package}, which is not installed: "
            "pip install 'safelight[recipes]', or leave the gate out"
        )


class ReaderFailed(ClientError):
    """The command that reads text in pictures does not work; nothing is said about the picture.

    Args:
        command: the command.
        why: what it did.
    """

    def __init__(self, command: str, why: str) -> None:
        super().__init__(
            f"the text gate cannot read: {command}: {why}; try `{command} --list-langs`, then run "
            "again: pictures that are here are judged then, and not bought again"
        )
