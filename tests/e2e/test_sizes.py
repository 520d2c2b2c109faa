"""Every size is delivered to the pixel, for generations and edits and each format."""

from __future__ import annotations

import base64
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from itertools import product
from pathlib import Path

import openai
import pytest
import pyvips

from e2e.books import check_sums, witness
from e2e.process import GatewayProcess, accounts
from safelight.bench.faults.server import FaultUpstream
from safelight.sizes import TABLE

FORMATS = ("png", "jpeg", "webp")
OPERATIONS = ("generations", "edits")
ALL = [
    (size.name, operation, form) for size, operation, form in product(TABLE, OPERATIONS, FORMATS)
]


def picture(folder: Path) -> Path:
    path = folder / "input.png"
    image = pyvips.Image.black(640, 480, bands=3).linear(1, [200, 120, 40])
    image.cast("uchar").write_to_file(str(path))
    return path


def run(gateway: GatewayProcess, folder: Path, cases: Iterable[tuple[str, str, str]]) -> int:
    """Order every case; return how many measured exactly what was asked for."""
    key = gateway.key()
    source = picture(folder)
    with openai.OpenAI(base_url=gateway.base_url, api_key=key, max_retries=0) as client:

        def order(case: tuple[str, str, str]) -> bool:
            size, operation, form = case
            values = {"model": "gpt-image-2-vip", "prompt": f"'{size}' in {form}", "size": size}
            if operation == "generations":
                answer = client.images.generate(**values, output_format=form)  # type: ignore[call-overload]
            else:
                with source.open("rb") as file:
                    answer = client.images.edit(**values, image=file, output_format=form)  # type: ignore[call-overload]
            data = base64.b64decode(answer.data[0].b64_json)
            found = pyvips.Image.new_from_buffer(data, "")
            loader = found.get("vips-loader").removesuffix("load_buffer")
            measured = f"{found.width}x{found.height}"
            assert (measured, loader, answer.size) == (size, form, size), case
            found.avg()  # every pixel decodes
            return True

        with ThreadPoolExecutor(2) as pool:
            exact = sum(pool.map(order, cases))
    assert check_sums(gateway.url, key)["held_micros"] == 0
    return exact


def test_thirty_five_sizes_over_an_upstream_that_makes_only_legal_ones(tmp_path: Path) -> None:
    cases = [case for number, case in enumerate(ALL) if number % 6 == number // 6 % 6]
    assert len({size for size, _, _ in cases}) == 35
    with FaultUpstream.in_thread() as upstream:
        with GatewayProcess(tmp_path, accounts(upstream.base_url, 2)) as gateway:
            assert run(gateway, tmp_path, cases) == 35
            gateway.stop()
        assert len(upstream.sales) == 35
        assert witness(gateway.data).faults == []


@pytest.mark.campaign
@pytest.mark.parametrize("upstream", ["proof", "openai"])
def test_two_hundred_and_ten_of_two_hundred_and_ten(tmp_path: Path, upstream: str) -> None:
    with FaultUpstream.in_thread() as vendor:
        config = "" if upstream == "proof" else accounts(vendor.base_url, 2)
        with GatewayProcess(tmp_path, config) as gateway:
            exact = run(gateway, tmp_path, ALL)
    print(f"{upstream}: {exact} of {len(ALL)}")
    assert exact == len(ALL) == 210
