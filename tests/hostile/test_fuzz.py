"""Every parser of strangers' bytes refuses what it cannot read, in time, and never otherwise."""

from __future__ import annotations

import subprocess
import sys

import pytest

from hostile.fuzzing import TARGETS, mutate

SECONDS = 2.0
LONG_S = 600


@pytest.mark.parametrize("name", TARGETS)
def test_mutated_bytes_are_read_or_refused(name: str) -> None:
    """The same mutants at every run, as many as two seconds hold."""
    assert mutate(TARGETS[name], seconds=SECONDS, seed=1) > 200


@pytest.mark.campaign
@pytest.mark.parametrize("name", TARGETS)
def test_ten_minutes_of_fuzzing_find_nothing(name: str) -> None:
    """By coverage where atheris is there."""
    done = subprocess.run(
        [sys.executable, "-m", "hostile.fuzzing", name, "--seconds", str(LONG_S)],
        capture_output=True,
        text=True,
        check=False,
        timeout=3 * LONG_S,
    )
    assert done.returncode == 0, (done.stdout + done.stderr)[-4000:]
