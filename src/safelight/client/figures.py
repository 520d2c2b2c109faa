"""The three numbers of a production team, and what they are made of.

Mean generation time, 5xx rate, download success. Owns the counts and the sums; the transport and
the saving of pictures report to it. Counts of several clients or runs add up.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any, Self


@dataclass(frozen=True)
class Figures:
    """What a client has seen so far.

    Args:
        pictures: orders that ended with a picture.
        generation_s: how long these took together, seconds.
        tries: requests sent for orders, repeats included.
        server_errors: those of them that were answered 5xx.
        downloads: tries to bring a picture home, repeats included.
        downloads_ok: those of them that ended with a whole, checked picture.
    """

    pictures: int = 0
    generation_s: float = 0.0
    tries: int = 0
    server_errors: int = 0
    downloads: int = 0
    downloads_ok: int = 0

    @property
    def mean_generation_s(self) -> float | None:
        """Seconds from the order to the answer that had the picture; None before the first."""
        return self.generation_s / self.pictures if self.pictures else None

    @property
    def server_error_rate(self) -> float | None:
        """Share of tries that were answered 5xx, 0 to 1; None before the first try."""
        return self.server_errors / self.tries if self.tries else None

    @property
    def download_success_rate(self) -> float | None:
        """Share of tries to bring a picture home that did, 0 to 1; None before the first."""
        return self.downloads_ok / self.downloads if self.downloads else None

    def __add__(self, other: Figures) -> Figures:
        return Figures(
            **{
                item.name: getattr(self, item.name) + getattr(other, item.name)
                for item in fields(self)
            }
        )

    def __sub__(self, earlier: Figures) -> Figures:
        return Figures(
            **{
                item.name: getattr(self, item.name) - getattr(earlier, item.name)
                for item in fields(self)
            }
        )

    def as_dict(self) -> dict[str, int | float]:
        """Return the counts, for a manifest; `Figures.of` reads them again."""
        return {item.name: getattr(self, item.name) for item in fields(self)}

    @classmethod
    def of(cls, counts: dict[str, Any]) -> Self:
        """Return the figures of `as_dict`; counts that are missing are zero."""
        return cls(**{item.name: counts.get(item.name, 0) for item in fields(cls)})

    def __str__(self) -> str:
        mean, failed, home = (
            self.mean_generation_s,
            self.server_error_rate,
            self.download_success_rate,
        )
        return (
            f"mean generation {'-' if mean is None else f'{mean:.1f} s'}, "
            f"5xx {'-' if failed is None else f'{failed:.1%}'}, "
            f"downloads {'-' if home is None else f'{home:.1%}'}"
        )


class Tally:
    """Counts for one client; used from one event loop."""

    def __init__(self) -> None:
        self.figures = Figures()
        self._jobs: set[str] = set()

    def tried(self, status: int | None) -> None:
        """Count one try of an order; None: nothing was answered."""
        failed = status is not None and status >= 500
        self.figures += Figures(tries=1, server_errors=int(failed))

    def made(self, generation_s: float | None, *, job_id: str | None = None) -> None:
        """Count one picture; that of a job once, however often it is waited for."""
        if generation_s is None or job_id in self._jobs:
            return
        if job_id is not None:
            self._jobs.add(job_id)
        self.figures += Figures(pictures=1, generation_s=generation_s)

    def downloaded(self, *, whole: bool) -> None:
        """Count one try to bring a picture home."""
        self.figures += Figures(downloads=1, downloads_ok=int(whole))
