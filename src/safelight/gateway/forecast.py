"""When a job will have ended, as far as one can tell.

Owns the guess: from how long pictures take here, how fast the accounts may make them, and how many
jobs wait before this one. Decides nothing; callers are told it as advice.
"""

from __future__ import annotations

from safelight.clock import Clock
from safelight.pool import Need, Pool
from safelight.types import Job

FIRST_GUESS_S = 20.0
"""How long a picture takes while none has been measured."""


class Forecast:
    """Guesses by what the pool has measured."""

    def __init__(self, pool: Pool, clock: Clock) -> None:
        self._pool = pool
        self._clock = clock

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
