"""The supervisor of several server processes, over programs that only pretend to serve."""

from __future__ import annotations

import logging
import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from safelight.config import Config, load_config
from safelight.errors import ConfigError
from safelight.server_info import ServerInfo
from safelight.supervising import Settings, count_of, decode, encode, supervise
from safelight.types import Secret

READY = ServerInfo(
    url="http://127.0.0.1:1",
    first_key="sl_live_first",
    customer="default",
    credit_micros=10,
    channels=("gpt-image-2",),
    accounts=("proof",),
    recovered_jobs=2,
)
HEAD = """
import os, pathlib, signal, sys
number, folder = sys.argv[1], pathlib.Path(sys.argv[2])
length = int.from_bytes(os.read(0, 8), "big")
while length:
    length -= len(os.read(0, length))
def ready():
    os.write(1, READY + b"\\n")
def note(word):
    with (folder / "said").open("a") as file:
        file.write(f"{word} {number}\\n")
"""
STAY = """
signal.signal(signal.SIGTERM, lambda *_: (note("drained"), os._exit(0)))
note("started"); ready()
while os.read(0, 1):
    pass
os._exit(70)
"""


@pytest.fixture(autouse=True)
def _own_log() -> Iterator[None]:
    """Give the process its log back, which a supervisor takes for itself."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    root.handlers[:] = handlers
    root.setLevel(level)


@pytest.fixture
def config(tmp_path: Path) -> Config:
    """A configuration with an account, on a free port."""
    file = tmp_path / "safelight.toml"
    file.write_text(
        "[server]\nport = 0\n"
        '[[accounts]]\nname = "one"\nupstream = "openai"\napi_key_env = "KEY"\n'
        "options = { a = 1, b = true, c = 'x' }\n"
    )
    return load_config(file, tmp_path, environ={"KEY": "sk-secret"})


def program(body: str) -> tuple[str, ...]:
    said = msgspec.json.encode({"ready": READY})
    return (sys.executable, "-I", "-c", f"READY = {said!r}\n{HEAD}{body}")


def stop(_info: ServerInfo) -> None:
    os.kill(os.getpid(), signal.SIGTERM)


def noted(folder: Path) -> list[str]:
    return sorted((folder / "said").read_text().split("\n")[:-1])


def test_settings_arrive_as_they_were_checked(config: Config) -> None:
    """Also credentials and the path of the file, which no JSON shows by itself."""
    settings = Settings(3, config)
    sent = encode(settings)
    assert int.from_bytes(sent[:8], "big") == len(sent) - 8
    found = decode(sent[8:])
    assert found.number == 3
    assert found.config.path == config.path
    key = found.config.accounts[0].api_key
    assert isinstance(key, Secret)
    assert key.reveal() == "sk-secret"
    without = [
        msgspec.structs.replace(
            one, accounts=tuple(msgspec.structs.replace(a, api_key=None) for a in one.accounts)
        )
        for one in (config, found.config)
    ]
    assert without[0] == without[1]


def test_all_processes_start_and_end_together(
    config: Config, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """Ready is said once, when all are; what each has recovered is added up."""
    seen: list[ServerInfo] = []

    def ready(info: ServerInfo) -> None:
        seen.append(info)
        stop(info)

    assert supervise(config, 3, on_ready=ready, program=program(STAY)) == 0
    assert [(one.first_key, one.recovered_jobs) for one in seen] == [("sl_live_first", 6)]
    assert noted(tmp_path) == [f"{word} {n}" for word in ("drained", "started") for n in (1, 2, 3)]
    assert capfd.readouterr().err == ""


def test_a_process_that_ends_is_started_again(
    config: Config, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """The log says which one ended and how; the others never notice."""
    dying = (
        "if number == '2':\n"
        "    note('began')\n"
        "    if noted_before():\n"
        "        ready()\n"
        "        os.kill(os.getppid(), signal.SIGTERM)\n"
        "    else:\n"
        "        ready()\n"
        "        os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    before = "def noted_before():\n    return (folder / 'said').read_text().count('began 2') > 1\n"
    run = program(before + dying + STAY.replace('note("started"); ready()', READY_ONCE))
    assert supervise(config, 2, on_ready=lambda _: None, program=run) == 0
    assert noted(tmp_path).count("began 2") == 2
    log = [msgspec.json.decode(line) for line in capfd.readouterr().err.splitlines()]
    assert [(line["worker"], line.get("fault")) for line in log[:1]] == [
        (2, "was ended by SIGKILL")
    ]


READY_ONCE = "\nif number == '1':\n    ready()\n"


def test_a_process_that_refuses_ends_the_start(config: Config) -> None:
    """Its words are the supervisor's, and so the operator's."""
    refusing = 'os.write(1, b\'{"refused": "the data folder is on fire"}\\n\')'
    with pytest.raises(ConfigError, match="on fire"):
        supervise(config, 2, on_ready=stop, program=program(refusing))


def test_a_process_that_dies_before_it_is_ready_ends_the_start(config: Config) -> None:
    """Where it says nothing, its end is said, and where to look."""
    silent = "os._exit(7 if number == '2' else (ready(), os.read(0, 1), 0)[2])"
    with pytest.raises(ChildProcessError, match=r"worker 2 ended with code 7 .* see its log"):
        supervise(config, 2, on_ready=stop, program=program(silent))


def test_no_number_of_processes_is_one_for_each_core() -> None:
    """0 counts the cores this process may use; any other number is meant."""
    assert count_of(3) == 3
    assert count_of(0) == len(os.sched_getaffinity(0))
