"""What an answer without a picture means: its error body read and classified.

Owns the reading of refusals for all adapters that speak HTTP; `faults.py` owns the classes.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence

from safelight.clock import Clock
from safelight.errors import UpstreamError
from safelight.upstreams.faults import Setting, classify, read_error
from safelight.upstreams.http_transport import Answer
from safelight.upstreams.reply import IMAGES_PLACES, Places, ReplyError, ReplyScanner
from safelight.upstreams.scrub import scrub

log = logging.getLogger(__name__)


def _as_it_is(document: object) -> object:
    return document


class Judge:
    """Says what error bodies mean.

    Args:
        clock: for waiting times that are dates.
        known: the account's secrets, to keep out of messages.
        setting: what was asked of which kind of server.
        places: where the API's answers hold pictures; they are not kept.
        translated: puts a refusal's document into the words of the Images API.
    """

    def __init__(
        self,
        clock: Clock,
        known: Sequence[str],
        setting: Setting,
        *,
        places: Places = IMAGES_PLACES,
        translated: Callable[[object], object] = _as_it_is,
    ) -> None:
        self._clock = clock
        self._known = known
        self._setting = setting
        self._places = places
        self._translated = translated

    async def refusal(self, answer: Answer) -> UpstreamError:
        """Read an answer of status 400 and more, and return what it means."""
        document: object = None
        scanner = ReplyScanner(_drop, self._places)
        try:
            while piece := await answer.read(flowing=True):
                scanner.feed(piece)
            document = scanner.document()
        except (ReplyError, UpstreamError):
            pass  # the status alone will have to do
        return self.classified(answer, answer.status, self._translated(document))

    def classified(self, answer: Answer, status: int, document: object) -> UpstreamError:
        """Return the error for a body in the words of the Images API."""
        facts = read_error(document)
        if facts is not None:
            # Callers see the text of refusals of their own requests only; operators need it all.
            log.info(
                "upstream error (HTTP %d): %s", answer.status, scrub(facts.message, self._known)
            )
        return classify(
            status,
            answer.headers,
            document,
            now_ms=self._clock.now_ms(),
            known=self._known,
            setting=self._setting,
        )


def _drop(data: bytes) -> None:
    """Take a picture that nobody wants."""
    del data
