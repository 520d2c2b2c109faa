"""Gates of a run, asked in a bounded pool of threads.

Owns who is asked when: gates one after the other until one fails, and those that remember once more
in the moment of acceptance, so that of two twins judged side by side one is refused.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence
from concurrent.futures import Executor
from pathlib import Path

from safelight.client.gates import Gate, Remembering, Verdict


class Judge:
    """Asks gates.

    Args:
        executor: where they work; its width bounds how many pictures are looked at together.
    """

    def __init__(self, executor: Executor) -> None:
        self._executor = executor

    async def judge(self, gates: Sequence[Gate], picture: Path) -> tuple[Verdict, ...]:
        """Return the verdicts on a picture, the first refusal last."""
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._executor, _verdicts, tuple(gates), picture)

    async def recall(self, accepted: Iterable[tuple[Sequence[Gate], Path]]) -> None:
        """Let gates that remember know what earlier starts accepted."""
        loop = asyncio.get_running_loop()
        known = list(accepted)
        await loop.run_in_executor(self._executor, _recall, known)


def _verdicts(gates: Sequence[Gate], picture: Path) -> tuple[Verdict, ...]:
    found: list[Verdict] = []
    for gate in gates:
        found.append(gate.check(picture))
        if not found[-1].passed:
            return tuple(found)
    for at, gate in enumerate(gates):
        if isinstance(gate, Remembering):
            found[at] = gate.remember(picture)
            if not found[at].passed:
                return (*found[:at], *found[at + 1 :], found[at])
    return tuple(found)


def _recall(accepted: Sequence[tuple[Sequence[Gate], Path]]) -> None:
    for gates, picture in accepted:
        for gate in gates:
            if isinstance(gate, Remembering):
                gate.remember(picture)


def refusal(verdicts: Sequence[Verdict]) -> Verdict | None:
    """Return the verdict that refused a picture, or None where all passed."""
    return next((verdict for verdict in verdicts if not verdict.passed), None)
