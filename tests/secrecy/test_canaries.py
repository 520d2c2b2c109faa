"""The campaign of canaries hears: what it finds when a secret comes out, each way and in each form.

A run of pytest with the plugin, over tests that leak on purpose; one that can find nothing would
prove nothing.
"""

from __future__ import annotations

import base64
import os
import re
import subprocess
import sys
import tempfile
import textwrap
from pathlib import Path

import pytest

from safelight import key_text
from secrecy.allowed import ALLOWED, reason
from secrecy.forms import forms, keys_in

TESTS = Path(__file__).resolve().parents[1]
LEAKY = '''
    """Tests that leak."""

    import base64, json, logging, sqlite3, subprocess, sys, tomllib, urllib.request

    import planting
    from e2e.process import GatewayProcess, accounts
    from safelight import key_text
    from safelight.keyring import Keyring
    from safelight.webhooks import shown_secret

    KEY = planting.secret("upstream key", "no canary")


    def test_quiet(tmp_path):
        (tmp_path / "file").write_text("upstream key")
        Keyring.load_or_create(tmp_path)
        planting.answer("POST /admin/v1/keys", 201, {}, key_text.new_key("sl_live_")[0].encode())


    def test_log():
        logging.getLogger("safelight.job").debug("sent %s", KEY)


    def test_traceback():
        try:
            raise ValueError(KEY)
        except ValueError:
            logging.getLogger("safelight.job").exception("failed")


    def test_process():
        subprocess.run([sys.executable, "-c", f"print({KEY!r})"], check=True, capture_output=True)


    def test_row(tmp_path):
        with sqlite3.connect(tmp_path / "some.db") as connection:
            connection.execute("PRAGMA journal_mode = WAL")
            connection.execute("CREATE TABLE job (note TEXT)")
            connection.execute("INSERT INTO job VALUES (?)", (f"<{KEY}>",))
        connection.close()


    def test_spool(tmp_path):
        (tmp_path / "spool").mkdir()
        (tmp_path / "spool" / "part").write_bytes(b"x" + base64.b64encode(b"ab" + KEY.encode()))


    def test_answer():
        planting.answer("GET /v1/jobs", 400, {}, json.dumps({"error": KEY}).encode())


    def test_header():
        planting.answer("GET /v1/jobs", 200, {"x-account": KEY}, b"")


    def test_metrics():
        planting.see("metrics", f'account{{key="{KEY}"}} 1'.encode())


    def test_trace():
        planted = tomllib.loads(planting.config(""))
        request = urllib.request.Request(planted["traces"]["endpoint"], data=KEY.encode())
        urllib.request.urlopen(request).close()


    def test_pepper(tmp_path):
        pepper = Keyring.load_or_create(tmp_path).pepper()
        (tmp_path / "notes").write_text(pepper.hex())


    def test_link_key(tmp_path):
        (tmp_path / "notes").write_bytes(Keyring.load_or_create(tmp_path).link_key("k1"))


    def test_webhook_secret(tmp_path):
        with sqlite3.connect(tmp_path / "some.db") as connection:
            connection.execute("CREATE TABLE webhook (id TEXT, note TEXT)")
            secret = shown_secret(Keyring.load_or_create(tmp_path).webhook_key("wh_1:2"))
            connection.execute("INSERT INTO webhook VALUES (?, ?)", ("wh_1", secret))
        connection.close()


    def test_key(tmp_path):
        key, _ = key_text.new_key(key_text.CUSTOMER)
        (tmp_path / "notes").write_text(key.encode().hex())


    def test_part_of_a_key(tmp_path):
        key = planting.learn("customer's key", key_text.new_key(key_text.CUSTOMER)[0])
        planting.answer("POST /admin/v1/keys", 201, {}, key.encode())
        (tmp_path / "notes").write_text(key[16:48])


    def test_server(tmp_path):
        gateway = GatewayProcess(tmp_path, accounts("http://127.0.0.1:9"))
        with gateway:
            gateway.kill()
        assert "Fatal Python error: Aborted" in gateway.log.read_text()
        planted = tomllib.loads(gateway.config.read_text())
        assert planted["logs"]["level"] == "debug"
        assert planted["metrics"]["token_env"] == "CANARY_METRICS_TOKEN"
        with gateway.log.open("a") as log:
            log.write(planting.environ()["CANARY_METRICS_TOKEN"])
'''
HEARD = {
    "test_log": "upstream key in log of safelight.job",
    "test_traceback": "upstream key in log of safelight.job",
    "test_process": "upstream key in output of -c",
    "test_row": r"upstream key in file test_row0/some\.db: table job",
    "test_spool": "upstream key in file test_spool0/spool/part",
    "test_answer": "upstream key in answer of GET /v1/jobs 400",
    "test_header": "upstream key in answer of GET /v1/jobs 200",
    "test_metrics": "upstream key in metrics",
    "test_trace": "upstream key in trace sent out",
    "test_pepper": "pepper p1 in file test_pepper0/notes",
    "test_link_key": "derived link key k1 in file test_link_key0/notes",
    "test_webhook_secret": r"webhook secret in file test_webhook_secret0/some\.db: table webhook",
    "test_key": "key of ours in file test_key0/notes",
    "test_part_of_a_key": "key of ours, its secret part in file test_part_of_a_key0/notes",
    "test_server": r"metrics token in file \S+/test_server0/serve\.log",
}


def test_a_leak_fails_its_test_whichever_way_and_form_it_takes() -> None:
    with tempfile.TemporaryDirectory() as folder:  # where the campaign itself does not look
        _check_leaks(Path(folder))


def _check_leaks(folder: Path) -> None:
    (folder / "test_leaky.py").write_text(textwrap.dedent(LEAKY))
    environ = {**os.environ, "PYTHONPATH": os.pathsep.join([str(TESTS.parent / "src"), str(TESTS)])}
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "secrecy.canaries", "-p", "no:cacheprovider",
         "--show-capture=no", "--tb=short", "--basetemp", str(folder / "base"),
         "-c", str(TESTS.parent / "pyproject.toml"), "--rootdir", str(folder), str(folder)],
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
        env=environ,
    )  # fmt: skip
    assert done.returncode == 1, done.stdout + done.stderr
    told = dict(
        re.findall(
            r"^_+ ERROR at teardown of (\w+) _+$(.*?)(?=^_+ ERROR|^=+)",
            done.stdout,
            re.MULTILINE | re.DOTALL,
        )
    )
    assert sorted(told) == sorted(HEARD), done.stdout
    assert [
        name for name, said in HEARD.items() if not re.search(f"{said}$", told[name], re.MULTILINE)
    ] == []
    assert f"{len(HEARD) + 1} passed, {len(HEARD)} errors" in done.stdout
    assert "cnry/" not in done.stdout  # a report of a leak is none itself


@pytest.mark.parametrize("before", [b"", b"x", b"xy", b"xyz"])
@pytest.mark.parametrize("prefix", [key_text.CUSTOMER, key_text.ADMIN])
def test_a_key_of_ours_is_known_by_its_checksum_however_it_is_written(
    before: bytes, prefix: str
) -> None:
    key, _ = key_text.new_key(prefix)
    raw = before + key.encode() + b"&more=of the line"
    written = {
        "plain": raw,
        "hex": raw.hex().encode(),
        "HEX": raw.hex().upper().encode(),
        "base64": base64.b64encode(raw),
        "for addresses": base64.urlsafe_b64encode(raw),
    }
    assert [name for name, text in written.items() if keys_in(text) != {key}] == []
    wrong = key[:-1] + ("0" if key[-1] != "0" else "1")
    assert keys_in(wrong.encode()) == set()


def test_a_value_is_found_in_the_middle_of_anything_that_was_encoded_whole() -> None:
    secret = b'cnry/"\\ +=' + bytes(range(250, 256)) + b"x"
    known = forms(secret)
    for before in range(7):
        text = b"y" * before + secret + b"z" * 5
        for encoded in (base64.b64encode(text), base64.urlsafe_b64encode(text), text):
            assert any(form in encoded for form in known)


def test_each_permission_has_its_reason_and_none_is_for_everything() -> None:
    assert all(len(one.why) > 20 for one in ALLOWED)
    assert reason("key of ours", "log of safelight.job") is None
    assert reason("upstream key", "answer of POST /admin/v1/keys 201") is None
    assert reason("key of ours", "answer of POST /admin/v1/keys 201") is not None
