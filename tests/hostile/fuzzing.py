"""Parsers under arbitrary bytes: what each may raise, seeds for it, and the loop that makes bytes.

`python -m hostile.fuzzing TARGET --seconds 600` fuzzes by coverage where atheris is installed, and
by mutation of the seeds elsewhere; `make fuzz` does so for all targets. The default tests mutate.
"""

from __future__ import annotations

import argparse
import base64
import io
import json
import logging
import random
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from types import FunctionType
from typing import Any

from hostile import texts
from hostile.bombs import bombs, polyglots, sample
from safelight.api.multipart import FormReader, SpoolFolder
from safelight.api.strict_json import LENIENT, STRICT, parse_object
from safelight.errors import InvalidImage, SafelightError
from safelight.images.foreign import check_plain
from safelight.images.structure import probe, verify
from safelight.upstreams.event_stream import EventScanner
from safelight.upstreams.reply import ReplyError, ReplyScanner

PARSERS = [
    "python_multipart.multipart",
    *(f"safelight.api.{name}" for name in ("multipart", "strict_json")),
    *(f"safelight.images.{name}" for name in ("foreign", "jpeg", "png", "reading", "structure")),
    *("safelight.images.webp", "safelight.upstreams.event_stream", "safelight.upstreams.reply"),
]
LONGEST_S = 2.0
"""One input that takes longer is a finding."""
MOST_BYTES = 65_536


@dataclass(frozen=True)
class Target:
    """A parser: `run` takes any bytes and raises only what callers are told; `seeds` begin it."""

    run: Callable[[bytes], None]
    seeds: Callable[[], list[bytes]]


class Found(Exception):
    """A parser did what it may not."""


def _json(data: bytes) -> None:
    for limits in (STRICT, LENIENT):
        with suppress(SafelightError):
            # What passed can be written again: no half of a pair, no NaN, no endless number.
            json.dumps(parse_object(data, limits), allow_nan=False).encode()


def _multipart(data: bytes) -> None:
    step, folder = 1 + (data[0] if data else 0) * 7, _folder()
    with (
        suppress(SafelightError),
        SpoolFolder(folder) as spool,
        FormReader(
            b"edge", spool=spool, picture_fields=lambda name: name == "image", max_file_bytes=9000
        ) as reader,
    ):
        for at in range(0, len(data), step):
            reader.feed(data[at : at + step])
        form = reader.finish()
        if any(file.path.parent != folder for file in form.files):
            raise Found("a name of the form's reached the disk")
    if any(folder.iterdir()):
        raise Found("a file of a form stayed on the disk")


@cache
def _scratch() -> tempfile.TemporaryDirectory[str]:
    return tempfile.TemporaryDirectory()


def _folder() -> Path:
    """Return an empty folder, one for all inputs: making one takes longer than most of them."""
    return Path(_scratch().name)


def _image(data: bytes) -> None:
    with tempfile.NamedTemporaryFile(dir=_folder()) as file:
        file.write(data)
        file.flush()
        path = Path(file.name)
        with suppress(InvalidImage):
            check_plain(file.fileno())
        first = second = None
        with suppress(InvalidImage):
            first = probe(path)
        with suppress(InvalidImage):
            second = verify(path)
        # A file is never held to the limits of one picture and shown as another.
        if second is not None and (
            first is None or (first.width, first.height) != (second.width, second.height)
        ):
            raise Found(f"its header says {first}, its structure {second}")


def _reply(data: bytes) -> None:
    out = io.BytesIO()
    with suppress(ReplyError):
        scanner = ReplyScanner(out.write)
        step = 1 + (data[0] if data else 0) * 3
        for at in range(0, len(data), step):
            scanner.feed(data[at : at + step])
        if scanner.complete:
            scanner.document()


def _stream(data: bytes) -> None:
    def sink() -> Any:
        return io.BytesIO().write

    with suppress(ReplyError):
        scanner = EventScanner(sink)
        step = 1 + (data[0] if data else 0) * 3
        for at in range(0, len(data), step):
            for frame in scanner.feed(data[at : at + step]):
                frame.document()
        for frame in scanner.finish():
            frame.document()


def _json_seeds() -> list[bytes]:
    return [b'{"model": "x", "n": 1, "a": [1.5, null, "\\u00e9"]}', *texts.documents().values()]


def _form_seeds() -> list[bytes]:
    return list(texts.forms(sample("png")).values())


def _image_seeds() -> list[bytes]:
    made = [sample(kind) for kind in ("png", "jpeg", "webp")]
    return [*made, sample("jpeg", progressive=True), *bombs().values(), *polyglots().values()]


def _reply_seeds() -> list[bytes]:
    picture = base64.b64encode(sample("png")).decode()
    return [
        json.dumps({"created": 1, "data": [{"b64_json": picture}], "usage": {"a": 1}}).encode(),
        json.dumps({"data": [{"url": "https://a.example/x.png"}]}).encode(),
        json.dumps({"error": {"message": "no", "code": None}}).encode(),
    ]


def _stream_seeds() -> list[bytes]:
    return [
        b"event: image_generation.completed\ndata: "
        + seed
        + b"\n\n: wait\n\nid: 1\r\ndata: [DONE]\r\r"
        for seed in _reply_seeds()
    ]


TARGETS = {
    "json": Target(_json, _json_seeds),
    "multipart": Target(_multipart, _form_seeds),
    "image": Target(_image, _image_seeds),
    "reply": Target(_reply, _reply_seeds),
    "stream": Target(_stream, _stream_seeds),
}


def mutants(seeds: list[bytes], chance: random.Random) -> Iterator[bytes]:
    """Yield changed seeds for ever; the same ones for the same chance."""
    seeds = [seed[:MOST_BYTES] for seed in seeds]
    while True:
        data = bytearray(chance.choice(seeds))
        for _ in range(chance.choice((1, 1, 2, 4, 16))):
            _change(data, chance, seeds)
        yield bytes(data[:MOST_BYTES])


def _change(data: bytearray, chance: random.Random, seeds: list[bytes]) -> None:
    at = chance.randrange(len(data) + 1)
    match chance.randrange(6):
        case 0:
            data[at : at + 1] = bytes([chance.randrange(256)])
        case 1:
            data[at:at] = bytes(chance.choice((0, 255, 10, 13, 34, 92)) for _ in range(3))
        case 2:
            del data[at : at + chance.randint(1, 64)]
        case 3:
            data[at : at + 4] = chance.choice(
                (b"\xff\xff\xff\xff", b"\0\0\0\0", b"\x7f\xff\xff\xff")
            )
        case 4:
            other = chance.choice(seeds)
            start = chance.randrange(len(other) + 1)
            data[at:at] = other[start : start + chance.randint(1, 512)]
        case _:
            data[at:] = data[at:][: chance.randint(0, 4096)] * 2


def mutate(target: Target, *, seconds: float, seed: int) -> int:
    """Run a target on mutated seeds for a while of processor time; return how many there were.

    Raises:
        Found: an input took too long; any other exception is a finding, too.
    """
    count, until = 0, time.process_time() + seconds
    for data in mutants(target.seeds(), random.Random(seed)):
        began = time.process_time()
        if began >= until:
            break
        target.run(data)
        if time.process_time() - began > LONGEST_S:
            raise Found(f"{len(data)} bytes took {time.process_time() - began:.1f} s")
        count += 1
    return count


def _functions() -> Iterator[FunctionType]:
    """Yield what the parsers are made of; the whole of Python takes minutes to instrument."""
    for name in PARSERS:
        module = sys.modules[name]
        owners = [module, *(one for one in vars(module).values() if isinstance(one, type))]
        for owner in owners:
            for one in list(vars(owner).values()):
                if isinstance(one, FunctionType) and one.__module__ == name:
                    yield one


def _by_coverage(target: Target, seconds: float) -> None:
    import atheris

    for function in _functions():
        atheris.instrument_func(function)
    with tempfile.TemporaryDirectory() as corpus:
        for number, seed in enumerate(target.seeds()):
            (Path(corpus) / str(number)).write_bytes(seed[:MOST_BYTES])
        options = [f"-max_total_time={round(seconds)}", f"-max_len={MOST_BYTES}"]
        options += [
            f"-timeout={round(LONGEST_S * 5)}",
            "-rss_limit_mb=2048",
            "-print_final_stats=1",
        ]
        atheris.Setup([sys.argv[0], *options, corpus], target.run)
        atheris.Fuzz()


def main() -> None:
    """Fuzz one target from the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("target", choices=TARGETS)
    parser.add_argument("--seconds", type=float, default=600.0)
    asked = parser.parse_args()
    # It tells of each form that it refuses; `telemetry` silences it in the server.
    logging.getLogger("python_multipart").setLevel(logging.ERROR)
    try:
        _by_coverage(TARGETS[asked.target], asked.seconds)
    except ImportError:
        count = mutate(TARGETS[asked.target], seconds=asked.seconds, seed=int(time.time()))
        sys.stdout.write(f"{asked.target}: {count} mutants, no finding (no atheris here)\n")


if __name__ == "__main__":
    main()
