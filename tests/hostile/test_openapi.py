"""Our own OpenAPI document against a real server: every check of schemathesis.

The document says what may be asked and what is answered; generated requests, good ones and broken
ones, find where that is not so.
"""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from e2e.process import GatewayProcess, accounts
from safelight.bench.faults.server import FaultUpstream

RULES = Path(__file__).with_name("schemathesis.toml")
SLOW = "/v1/diagnostics/silence"
"""Left out: its answer is a silence, as long as was asked for."""


OPERATORS = "^/admin/"
ENDLESS = "/admin/v1/events"
"""Left out as well: a stream that goes on for minutes."""
WHOSE = {
    "customer": ("--exclude-path-regex", OPERATORS),
    # A wrong key is slowed there (429), which the check of keys cannot know: the access matrix.
    "operator": ("--include-path-regex", OPERATORS, "--exclude-checks", "ignored_auth"),
}


@pytest.mark.parametrize(
    ("who", "examples", "phases", "cases"),
    [
        pytest.param("customer", 5, "examples,coverage,fuzzing", 1_000, id="1000"),
        pytest.param(
            "customer",
            400,
            "examples,coverage,fuzzing,stateful",
            10_000,
            id="10000",
            marks=pytest.mark.campaign,
        ),
        pytest.param(
            "operator",
            20,
            "examples,coverage,fuzzing",
            1_000,
            id="operators",
            marks=pytest.mark.campaign,
        ),
    ],
)
def test_no_generated_request_is_answered_otherwise_than_the_document_says(
    tmp_path: Path, who: str, examples: int, phases: str, cases: int
) -> None:
    """No 5xx, no undocumented status, header, type or shape, no way around a key."""
    with (
        FaultUpstream.in_thread() as upstream,
        GatewayProcess(tmp_path, accounts(upstream.base_url)) as gateway,
    ):
        key = gateway.key("generated", "1000.00")
        if who == "operator":
            key = gateway.command("admin", "keys", "create", "Ada", "--role", "owner").strip()
        done = subprocess.run(
            [
                *(str(Path(sys.executable).with_name("st")), "--config-file", str(RULES), "run"),
                *(f"{gateway.url}/openapi.json", "--header", f"Authorization: Bearer {key}"),
                *("--max-examples", str(examples), "--phases", phases, "--checks", "all"),
                *(
                    "--exclude-path",
                    SLOW,
                    "--exclude-path",
                    ENDLESS,
                    *WHOSE[who],
                    "--request-timeout",
                    "20",
                    "--no-color",
                ),
                "--generation-deterministic",
            ],
            cwd=tmp_path,
            capture_output=True,
            text=True,
            check=False,
        )
        assert "failed inside the gateway" not in gateway.log.read_text()
    made = re.search(r"(\d+) generated", done.stdout)
    print(f"{who}: {made and made[1]} cases")
    assert done.returncode == 0, done.stdout[-6000:]
    assert made is not None, done.stdout[-3000:]
    assert int(made[1]) >= cases
