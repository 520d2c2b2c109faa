"""No log shows a secret: not by its value, not by its looks, not in a traceback or a crash."""

from __future__ import annotations

import base64
import io
import json
import logging
import subprocess
import sys
import textwrap
from urllib.parse import quote

import pytest

from safelight import redaction, telemetry
from safelight.redaction import redact
from safelight.types import Secret

KEY = 'live "secret"\\with/odd+letters=4711'
_RUNS = [
    "sl_live_0123abcdABCDabcdABCDabcdABCDabcdABCDabcd012345",
    "sl_admin_0123abcdABCDabcdABCDabcdABCDabcdABCD",
    "sk-proj-abcDEF0123456789",
    "sess-abcDEF0123456789",
    "org-abcDEF0123456789",
    "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw",
    "AKIAIOSFODNN7EXAMPLE",
    "AIzaSyA-0123456789abcdefghijklmnopqrstu",
]


@pytest.mark.parametrize("key", _RUNS)
def test_what_looks_like_a_key_is_blotted_out_wherever_it_stands(key: str) -> None:
    for text in (key, f"Bearer {key}", f'{{"k":"{key}"}}', f"x={key}&y=1", f"({key!r}, 1)"):
        assert key[10:] not in redact(text), text


@pytest.mark.parametrize(
    ("text", "hidden", "kept"),
    [
        ("{'api-key': '0f9e8d7c6b5a'}", "0f9e8d7c6b5a", "api-key"),
        ("('Authorization', 'Basic dXNlcjpwYXNz')", "dXNlcjpwYXNz", "Authorization"),
        (r"{\"api_key\": \"0f9e8d7c6b5a\"}", "0f9e8d7c6b5a", "api_key"),
        ("b'x-api-key', b'0f9e8d7c6b5a'", "0f9e8d7c6b5a", "x-api-key"),
        ("postgresql://me:hunter22@db:5432/x", "hunter22", "db:5432"),
        ("https://me@x.test:pw@h.example/x", "me@x.test:pw", "h.example"),
        (f"GET /i/{'a' * 32}.png?e=1&k=k1&s={'Q' * 43}", "Q" * 43, "k=k1"),
        ("https://b.example/x?X-Amz-Signature=0f9e8d7c6b5a43210f9e", "0f9e8d7c6b5a", "b.example"),
        ("https://b.example/x?sv=1&sig=0f9e8d7c6b5a4321%3D", "0f9e8d7c6b5a", "sv=1"),
    ],
)
def test_credentials_in_headers_and_addresses_are_blotted_out(
    text: str, hidden: str, kept: str
) -> None:
    shown = redact(text)
    assert hidden not in shown
    assert kept in shown


@pytest.mark.parametrize(
    "text",
    [
        '{"message":"job completed","job_id":"job_0123456789abcdef","size":"1820x1024"}',
        "https://api.openai.com/v1/images",
        "the account has no credentials; ask for some",
        "bytes=0-99, s=1, e=2",
    ],
)
def test_ordinary_lines_stay_as_they_are(text: str) -> None:
    assert redact(text) == text


def test_a_secrets_value_is_found_however_it_is_written() -> None:
    Secret(KEY)
    forms = {
        "plain": KEY,
        "json": json.dumps({"k": KEY}),
        "json in json": json.dumps(json.dumps({"k": KEY})),
        "repr": repr({"k": KEY}),
        "bytes": repr(KEY.encode()),
        "address": f"https://h.example/?key={quote(KEY, safe='')}",
        "base64": base64.b64encode(KEY.encode()).decode(),
        "hex": KEY.encode().hex(),
    }
    assert [name for name, text in forms.items() if redact(text) == text] == []
    assert [name for name, text in forms.items() if "with/odd" in redact(text)] == []


def test_words_too_short_to_protect_anything_are_not_blotted_out() -> None:
    Secret("job")
    assert redact("job completed") == "job completed"


def test_passwords_that_libraries_read_from_the_environment_are_noted() -> None:
    redaction.note_environment(
        {
            "DATABASE": "postgresql://me:p%40ssphrase-9@db/x",
            "AWS_SECRET_ACCESS_KEY": "aws-secret-77",
        }
    )
    assert "p@ssphrase-9" not in redact("connection as me with p@ssphrase-9")
    assert "aws-secret-77" not in redact("signed with aws-secret-77")


def _logged(work: object) -> str:
    stream = io.StringIO()
    handler = logging.StreamHandler(stream)
    handler.setFormatter(telemetry.JsonFormatter())
    log = logging.getLogger("tests.secrecy")
    log.addHandler(handler)
    log.propagate = False
    assert callable(work)
    work(log)
    log.removeHandler(handler)
    return stream.getvalue()


def test_a_traceback_with_causes_notes_and_groups_shows_no_secret() -> None:
    Secret(KEY)

    def work(log: logging.Logger) -> None:
        try:
            try:
                raise ValueError(KEY)  # noqa: TRY301  (the cause of the next)
            except ValueError as error:
                error.add_note(f"noted: {KEY}")
                raise ExceptionGroup(KEY, [OSError(5, KEY, KEY)]) from error
        except ExceptionGroup:
            log.exception("failed with %s", KEY, extra={"code": KEY})

    text = _logged(work)
    assert "Traceback" in text
    assert "4711" not in text
    assert json.loads(text)["message"] == "failed with ***"


def test_a_line_break_in_a_message_makes_no_second_line() -> None:
    text = _logged(lambda log: log.error("a\r\n%s", '{"level":"info"}'))
    assert text.count("\n") == 1
    assert json.loads(text)["message"] == 'a\r\n{"level":"info"}'


_DYING = """
    import asyncio, logging, sys, threading, warnings
    from safelight import telemetry
    from safelight.types import Secret
    KEY = "live-secret-" + "4711-of-a-process"
    Secret(KEY)
    telemetry.configure("debug")
    class Odd:
        def __str__(self): raise RuntimeError(KEY)
        def __del__(self): raise RuntimeError(KEY)
    logging.getLogger("x").error("%s", Odd())
    logging.getLogger("x").error("%d", KEY)
    warnings.warn(KEY)
    def run(): raise RuntimeError(KEY)
    thread = threading.Thread(target=run); thread.start(); thread.join()
    async def main():
        asyncio.get_running_loop().call_soon(run)
        asyncio.ensure_future(asyncio.sleep(0))
        await asyncio.sleep(0)
    asyncio.run(main())
    raise SystemError(KEY)
"""


def test_whatever_a_dying_process_says_passes_the_filter() -> None:
    """Lines that cannot be made, warnings, threads, callbacks, finalisers, the last error."""
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(_DYING)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 1
    assert "4711" not in done.stdout + done.stderr
    said = [json.loads(line)["message"] for line in done.stderr.splitlines()]
    assert "the process ends by an error" in said
    assert "a thread ended by an error" in said
    assert "an error where none can be raised" in said
    assert said.count("a line of x is lost") == 2
