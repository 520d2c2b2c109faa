"""`safelight demo`: the whole product once: serve, order through the official SDK, account for it.

It runs a gateway of its own as a subprocess, on a free loopback port and its own data folder, with
no configuration: pictures come from the built-in proof upstream and no account is touched.
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import msgspec
import pybase64
import typer

from safelight.cli import output, statement
from safelight.cli.errors import CliError, ExitCode
from safelight.cli.http import Gateway, Patience
from safelight.cli.picture import measure, write_atomically
from safelight.money import micros_to_dollars

_FOLDER = Path("demo")
_MODEL = "gpt-image-2-vip"
_SIZE = "2048x1152"
_PROMPT = (
    "Dark launch poster in the red light of a darkroom: a wide horizon, deep shadows, "
    'one warm beam from the left. Large centred title "SAFELIGHT", under it "安全灯 · 正式发布", '
    'small at the bottom left "one order · one image · one charge · 2026"'
)
_START_S = 60.0
_DRAW_S = 120.0
_STOP_S = 30.0


def demo(
    keep: Annotated[
        bool,
        typer.Option(
            "--keep",
            help="Keep the data in demo/data and go on there next time.",
            show_default=False,
        ),
    ] = False,
    as_json: Annotated[
        bool,
        typer.Option("--json", help="Print one JSON object instead of text.", show_default=False),
    ] = False,
) -> None:
    """Start a gateway, order a poster with the openai SDK, and show what it cost.

    Leaves [bold]demo/poster.png[/] in the current folder; the gateway is stopped again.
    """
    _require_sdk()
    _FOLDER.mkdir(exist_ok=True)
    poster = _FOLDER / "poster.png"
    with _data_folder(keep) as data, _Server(data) as server:
        if not as_json:
            output.print_facts([("gateway", server.url), ("data", str(data)), ("order", _PROMPT)])
        ordered = _draw(server)
        write_atomically(poster, ordered.picture)
        line = _statement_line(server, ordered.headers.get("x-safelight-job-id"))
        server.stop()
    report = _report(poster, ordered, line)
    if as_json:
        output.print_json(report)
    else:
        _print_report(report, line)
        if keep and not server.operated:
            output.out().print("\nTo operate this gateway, make an admin key, then serve it:\n")
            typer.echo(f"  safelight admin keys create NAME --role owner --data {_FOLDER / 'data'}")
            typer.echo(f"  safelight serve --data {_FOLDER / 'data'}")
    _check(report)


@dataclass(frozen=True)
class _Ordered:
    """The picture and the answer's headers, names in lower case."""

    picture: bytes
    headers: Mapping[str, str]


def _require_sdk() -> None:
    try:
        import openai  # noqa: F401, PLC0415 - an extra: only this command needs it
    except ImportError as error:
        raise CliError(
            "the demo orders through the official SDK, and the package openai is not installed",
            exit_code=ExitCode.USAGE,
            hint="Install it with: pip install 'safelight[demo]'",
        ) from error


@contextlib.contextmanager
def _data_folder(keep: bool) -> Iterator[Path]:
    if keep:
        folder = (_FOLDER / "data").absolute()
        folder.mkdir(parents=True, exist_ok=True)
        yield folder
        return
    with tempfile.TemporaryDirectory(prefix="safelight-demo-") as name:
        yield Path(name)


class _Server:
    """`safelight serve` as a subprocess: ready when entered, gone when left."""

    def __init__(self, data: Path) -> None:
        self._data = data
        self._log = data / "demo-serve.log"
        # Neither the operator's configuration nor a real key may reach a demonstration.
        self._environ = {
            name: value
            for name, value in os.environ.items()
            if not name.startswith(("SAFELIGHT_", "OPENAI_"))
        }
        self.url = ""
        self.key = ""
        self.operated = False

    def __enter__(self) -> _Server:
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(  # noqa: S603 - our own program
                self._command("serve", "--port", "0", "--json"),
                stdout=subprocess.PIPE,
                stderr=log,
                cwd=self._data,
                env=self._environ,
            )
        try:
            ready = self._ready()
            self.url = str(ready["url"])
            self.key = str(ready.get("first_key") or self._another_key())
            self.operated = bool(ready.get("operated"))
        except BaseException:
            self._kill()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self._kill()

    def stop(self) -> None:
        """Ask the gateway to end, as an operator would, and wait for it.

        Raises:
            CliError: it did not end, or not well.
        """
        self._process.send_signal(signal.SIGTERM)
        try:
            code = self._process.wait(_STOP_S)
        except subprocess.TimeoutExpired as error:
            raise self._trouble(f"the gateway did not stop within {_STOP_S:g} s") from error
        if code != 0:
            raise self._trouble(f"the gateway ended with exit code {code}")

    def _command(self, *arguments: str) -> list[str]:
        return [sys.executable, "-m", "safelight", *arguments, "--data", str(self._data)]

    def _ready(self) -> dict[str, Any]:
        """Return the line of JSON by which `serve --json` says that it listens."""
        pipe = self._process.stdout
        assert pipe is not None, "Popen was given PIPE"
        os.set_blocking(pipe.fileno(), False)
        ends, received = time.monotonic() + _START_S, b""
        while b"\n" not in received:
            left = ends - time.monotonic()
            if left <= 0:
                raise self._trouble(f"the gateway was not ready within {_START_S:g} s")
            if select.select([pipe], [], [], left)[0]:
                chunk = os.read(pipe.fileno(), 65536)
                if not chunk:
                    raise self._trouble("the gateway ended before it was ready")
                received += chunk
        return msgspec.json.decode(received.partition(b"\n")[0], type=dict[str, Any])

    def _another_key(self) -> str:
        """Return a new key for a data folder that an earlier run has left."""
        made = subprocess.run(  # noqa: S603 - our own program
            self._command("keys", "create", "demo", "--credit", "1.00"),
            capture_output=True,
            text=True,
            check=False,
            cwd=self._data,
            env=self._environ,
            timeout=_START_S,
        )
        if made.returncode != 0:
            raise CliError(f"no key could be made: {made.stderr.strip()}")
        return made.stdout.strip()

    def _kill(self) -> None:
        if self._process.poll() is None:
            self._process.kill()
            self._process.wait()
        if self._process.stdout:
            self._process.stdout.close()

    def _trouble(self, what: str) -> CliError:
        tail = self._log.read_text(errors="replace").splitlines()[-20:]
        return CliError("\n".join([what, *tail]))


def _draw(server: _Server) -> _Ordered:
    """Order the poster as any user of the SDK would; the raw answer shows the headers too."""
    import openai  # noqa: PLC0415 - an extra: only this command needs it

    # Loopback is never behind the proxy that the environment may name.
    with (
        openai.DefaultHttpxClient(trust_env=False) as transport,
        openai.OpenAI(
            base_url=f"{server.url}/v1",
            api_key=server.key,
            timeout=_DRAW_S,
            http_client=transport,
        ) as client,
    ):
        try:
            raw = client.images.with_raw_response.generate(model=_MODEL, prompt=_PROMPT, size=_SIZE)
        except openai.OpenAIError as error:
            raise CliError(f"the order failed: {error}") from error
        images = raw.parse().data or []
        headers = {name.lower(): value for name, value in raw.headers.items()}
    encoded = images[0].b64_json if images else None
    if encoded is None:
        raise CliError("the gateway's answer holds no picture")
    return _Ordered(pybase64.b64decode(encoded, validate=True), headers)


def _statement_line(server: _Server, job_id: str | None) -> statement.Line:
    gateway = Gateway(server.url, server.key, Patience(30.0))
    for line in statement.lines(gateway):
        if line.get("job_id") == job_id:
            return line
    raise CliError(f"the statement has no line for job {job_id}")


def _report(poster: Path, ordered: _Ordered, line: statement.Line) -> dict[str, Any]:
    price = int(ordered.headers.get("x-safelight-price-micros", "0"))
    return {
        "path": str(poster),
        "size": measure(ordered.picture).size,
        "job_id": ordered.headers.get("x-safelight-job-id"),
        "size_plan": ordered.headers.get("x-safelight-size-plan"),
        "price_micros": price,
        "price": micros_to_dollars(price),
        "statement": line,
    }


def _print_report(report: dict[str, Any], line: statement.Line) -> None:
    output.print_facts(
        [
            ("picture", report["path"]),
            ("size", f"{report['size']} (measured)"),
            ("job", report["job_id"]),
            ("size plan", report["size_plan"]),
            ("price", report["price"]),
        ]
    )
    output.out().print("\nThe statement's line:\n")
    statement.print_lines([line])


def _check(report: dict[str, Any]) -> None:
    """Fail if the demonstration did not show what safelight promises."""
    if report["size"] != _SIZE:
        raise CliError(f"{report['path']} measures {report['size']}, not {_SIZE}")
    charged = -report["statement"]["amount_micros"]
    if charged != report["price_micros"]:
        raise CliError(f"{micros_to_dollars(charged)} was charged, {report['price']} was the price")
