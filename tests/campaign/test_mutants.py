"""The checks have teeth: each promise's guard is taken out once, and the suite must notice.

A mutant is a copy of the source with a few exact replacements; a few tests run against it in a
process of their own. A replacement whose text is not there any more fails, so that no mutant rots
unseen, and the copy as it is must pass the same tests.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

pytestmark = pytest.mark.campaign

ROOT = Path(__file__).resolve().parents[2]
PATIENCE_S = 120
LEDGER = "tests/unit/test_ledger.py"
POINTS = "tests/e2e/test_crash_points.py::test_dying_once"


@dataclass(frozen=True)
class Change:
    """One exact replacement; the text must stand exactly once in the file."""

    file: str
    old: str
    new: str


@dataclass(frozen=True)
class Mutant:
    """A safeguard taken out, and the tests that must notice."""

    changes: tuple[Change, ...]
    tests: tuple[str, ...]


def copy_of_the_source(folder: Path, changes: Sequence[Change] = ()) -> Path:
    """Copy `src` into `folder`, change it, and return it."""
    source = folder / "src"
    shutil.copytree(
        ROOT / "src", source, ignore=shutil.ignore_patterns("__pycache__", "*.egg-info")
    )
    for change in changes:
        path = source / "safelight" / change.file
        text = path.read_text()
        assert text.count(change.old) == 1, f"{change.file} does not hold once: {change.old!r}"
        path.write_text(text.replace(change.old, change.new))
    return source


def run_tests(source: Path, tests: Sequence[str]) -> tuple[int, str]:
    """Run tests against a copy; return pytest's exit code and its output."""
    environ: Mapping[str, str] = {**os.environ, "PYTHONPATH": str(source)}
    where = [sys.executable, "-c", "import safelight; print(safelight.__file__)"]
    found = subprocess.run(where, env=environ, capture_output=True, text=True, check=True, cwd=ROOT)
    assert Path(found.stdout.strip()).is_relative_to(source)
    done = subprocess.run(
        [
            *(sys.executable, "-m", "pytest", "-q", "-x", "-m", "not campaign"),
            *("-p", "no:cacheprovider", "--tb=line", *tests),
        ],
        cwd=ROOT,
        env=environ,
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
        check=False,
    )
    return done.returncode, done.stdout


WRITER = "db/sqlite_transaction.py"
SPINE = "db/migrations/0001_spine.sql"
GUARDS = "tests/contracts/test_guards.py"
RECOVERY = "tests/gateway/test_recovery.py"
ENDINGS = "tests/gateway/test_endings.py"

MUTANTS: dict[str, Mutant] = {
    "no transaction: each statement is committed by itself": Mutant(
        (
            Change(
                WRITER,
                "            return self._connection.execute(sql, params or _NOTHING).rowcount\n",
                "            count = self._connection.execute(sql, params or _NOTHING).rowcount\n"
                "            if self._writing:\n"
                "                for step in ('COMMIT', 'BEGIN IMMEDIATE', 'SAVEPOINT work'):\n"
                "                    self._connection.execute(step)\n"
                "            return count\n",
            ),
        ),
        (POINTS,),
    ),
    "no unique index: a reserve may be resolved twice": Mutant(
        (Change(SPINE, "CREATE UNIQUE INDEX one_resolution", "CREATE INDEX one_resolution"),),
        (LEDGER, GUARDS),
    ),
    "no unique index: a job may hold its price twice": Mutant(
        (Change(SPINE, "CREATE UNIQUE INDEX one_reserve", "CREATE INDEX one_reserve"),),
        (GUARDS,),
    ),
    "no guard: a reserve asks for no balance": Mutant(
        (Change("ledger.py", "AND posted_micros - held_micros - floor_micros >= :amount ", ""),),
        (LEDGER,),
    ),
    "no guard: a balance is changed whatever is there": Mutant(
        (
            Change(
                "ledger.py",
                '"AND held_micros + :held >= 0 "\n'
                '        "AND (posted_micros + :posted) - (held_micros + :held) >= floor_micros"',
                '""',
            ),
        ),
        (LEDGER,),
    ),
    "no guard: a key's budget is counted and not asked": Mutant(
        (
            Change(
                "budgets.py",
                "WHERE key_id = :key AND {_USED} + :amount <= limit_micros",
                "WHERE key_id = :key",
            ),
        ),
        ("tests/unit/test_budgets.py",),
    ),
    "settle before store": Mutant(
        (
            Change(
                "gateway/running.py",
                "            await self._store(received.path, received.digest, proof)\n",
                "            _LATER[self._job.id] = received.path\n"
                "            with received.path.open('rb') as opened:\n"
                "                proof(opened.fileno())\n",
            ),
            Change(
                "gateway/running.py",
                "        await self._ended(ended, ours=ours)\n"
                "\n        self._watch_margin(answer)\n",
                "        if self._job.id in _LATER:\n"
                "            await self._store(_LATER[self._job.id], blob.digest)\n"
                "        await self._ended(ended, ours=ours)\n",
            ),
            Change(
                "gateway/running.py",
                'log = logging.getLogger("safelight.gateway")\n',
                'log = logging.getLogger("safelight.gateway")\n_LATER = {}\n',
            ),
        ),
        (POINTS,),
    ),
    "a picture settled on bytes that were removed": Mutant(
        (
            Change(
                "gateway/originals.py",
                "removals.claim(tx, digest, mark=mark, in_use=blobs_in_use)\n",
                "pass\n",
            ),
        ),
        ("tests/gateway/test_retention.py",),
    ),
    "bytes removed that a row names": Mutant(
        (Change("removals.py", "named = bool(in_use(tx, [digest]))", "named = False"),),
        ("tests/gateway/test_retention.py",),
    ),
    "failure without epoch": Mutant(
        (
            Change(
                "jobs.py",
                "\"(state = 'queued' OR state = 'in_progress') AND epoch = :epoch\",",
                "\"(state = 'queued' OR state = 'in_progress') AND :epoch = :epoch\",",
            ),
        ),
        (RECOVERY,),
    ),
    "refund without compare-and-set": Mutant(
        (Change(SPINE, "CREATE UNIQUE INDEX one_refund", "CREATE INDEX one_refund"),),
        (LEDGER,),
    ),
    "release without guard": Mutant(
        (
            Change(
                "gateway/ending.py",
                "    if not jobs.fail(tx, job, failure, cancelled=failures.cancelled()):\n"
                "        return False\n",
                "    jobs.fail(tx, job, failure, cancelled=failures.cancelled())\n",
            ),
        ),
        (ENDINGS,),
    ),
    "recovery adopts nothing": Mutant(
        (Change("gateway/recovery.py", "    path = newest_answer(files)\n", "    path = None\n"),),
        (POINTS,),
    ),
    "an attempt is journalled after its call": Mutant(
        (
            Change("gateway/calling.py", "            await self._begin(lease, k)\n", ""),
            Change(
                "gateway/calling.py",
                "            cost = self._cost(account, received)\n",
                "            await self._begin(lease, k)\n"
                "            cost = self._cost(account, received)\n",
            ),
        ),
        (POINTS,),
    ),
    "a request is claimed without compare-and-set": Mutant(
        (
            Change(
                "jobs.py",
                '"WHERE id = :id AND retry_count = :seen AND delivered_at IS NULL",',
                '"WHERE id = :id AND :seen = :seen",',
            ),
        ),
        (GUARDS,),
    ),
    "an Idempotency-Key may be taken twice": Mutant(
        (
            Change(
                SPINE,
                "CREATE UNIQUE INDEX request_idempotency",
                "CREATE INDEX request_idempotency",
            ),
        ),
        (GUARDS,),
    ),
    "an unfinished answer has the name of a complete one": Mutant(
        (
            Change(
                "upstreams/spool.py",
                'f"{path}.part"',
                "str(path)",
            ),
        ),
        (POINTS,),
    ),
}


@pytest.mark.parametrize("name", MUTANTS)
def test_the_suite_notices_a_missing_safeguard(tmp_path: Path, name: str) -> None:
    mutant = MUTANTS[name]
    begin = time.monotonic()
    code, output = run_tests(copy_of_the_source(tmp_path, mutant.changes), mutant.tests)
    seconds = time.monotonic() - begin
    failed = [line for line in output.splitlines() if line.startswith("FAILED ")]
    assert code == 1, f"{name}: nobody noticed\n{output}"
    assert failed, output
    noticed = failed[0].removeprefix("FAILED ").partition(" - ")[0]
    print(f"{name}: noticed by {noticed} in {seconds:.1f} s")


def test_the_same_tests_pass_on_the_source_as_it_is(tmp_path: Path) -> None:
    tests = sorted({test for mutant in MUTANTS.values() for test in mutant.tests})
    code, output = run_tests(copy_of_the_source(tmp_path), tests)
    assert code == 0, output
