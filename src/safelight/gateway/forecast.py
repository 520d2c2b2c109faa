"""When a job will have ended, as far as one can tell, and how fast many of them would be made.

Owns the guess: from how long pictures take here, how fast the accounts may make them, and how many
jobs wait before this one. Decides nothing; callers are told it as advice.
"""

from __future__ import annotations

import math

from safelight.clock import Clock
from safelight.gateway.orders import Outlook
from safelight.pool import Need, Pool
from safelight.types import ImageRequest, Job, Operation

FIRST_GUESS_S = 20.0
"""How long a picture takes while none has been measured."""


class Forecast:
    """Guesses by what the pool has measured."""

    def __init__(self, pool: Pool, clock: Clock) -> None:
        self._pool = pool
        self._clock = clock

    def outlook(self, request: ImageRequest, canvas: str, *, waiting: int) -> Outlook:
        """Return how fast pictures of this kind would be made now.

        Args:
            request: what is asked for.
            canvas: the size that accounts are asked for.
            waiting: jobs that come before new ones.
        """
        need = Need(
            request.channel,
            edits=request.operation is Operation.EDIT,
            size=canvas,
            inputs=len(request.inputs),
            mask=request.mask is not None,
        )
        pace = self._pool.pace(need)
        typical_s = self._pool.typical_s(need) or None
        if pace is None:
            return Outlook(generation_s=typical_s, waiting=waiting)
        return Outlook(
            serves=True,
            images_per_minute=_finite(pace.per_minute),
            burst=_whole(pace.burst),
            window_s=pace.window_s,
            at_once=_whole(pace.at_once),
            generation_s=typical_s,
            waiting=waiting,
        )

    def finish_at(self, job: Job, place: int | None) -> int:
        """Return when an open job will have ended, milliseconds since 1970.

        Most pictures are done in twice the median time. Of one that is not, or before anything was
        measured, the time it has run is the best guess at what is left.

        Args:
            job: as it stands.
            place: how many waiting jobs are before it; None: it waits in no line.
        """
        now_ms = self._clock.now_ms()
        need = Need(job.request.channel, size=job.size_plan.canvas)
        typical_s = self._pool.typical_s(need)
        began_ms = job.started_at
        if began_ms is None:
            began_ms = max(now_ms, job.not_before or 0)
            began_ms += round((place or 0) * self._pool.pace_s(need) * 1000)
        age_s = max(now_ms - began_ms, 0) / 1000
        if not typical_s:
            left_s = max(age_s, FIRST_GUESS_S)
        else:
            left_s = 2 * typical_s - age_s if age_s < typical_s else age_s
        return min(max(began_ms, now_ms) + round(left_s * 1000), max(job.deadline_at, now_ms))


def _finite(number: float) -> float | None:
    return number if math.isfinite(number) else None


def _whole(number: float) -> int | None:
    return int(number) if math.isfinite(number) else None
