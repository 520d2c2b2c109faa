"""Orders, quotes and money at a real gateway."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest

from e2e.process import GatewayProcess
from safelight.client import AsyncClient, Order, OutOfMoney, Refused
from safelight.client.errors import UnreadableInput


async def test_it_is_known_as_a_safelight_with_its_channels(client: AsyncClient) -> None:
    found = await client.capabilities()
    assert found.safelight
    assert "gpt-image-2-vip" in found.channels


async def test_a_picture_comes_as_a_link_with_all_its_facts(
    client: AsyncClient, tmp_path: Path
) -> None:
    picture = await client.generate("a brass lamp", size="1820x1024", output_format="jpeg")
    assert picture.data is None
    assert picture.link is not None
    assert (picture.size, picture.mime) == ("1820x1024", "image/jpeg")
    assert picture.size_plan == "crop from 1824x1024"
    assert picture.charge_micros == 30_000
    saved = await client.save(picture, tmp_path / "lamp")
    assert (saved.path.name, saved.width, saved.height) == ("lamp.jpg", 1820, 1024)
    assert saved.sha256 == picture.sha256
    assert client.figures.pictures == 1
    assert client.figures.mean_generation_s == picture.generation_s


async def test_the_same_key_is_one_picture_and_one_charge(client: AsyncClient) -> None:
    before = (await client.balance()).posted_micros
    order = Order("a lamp, once", size="1024x1024").with_key()
    first = await client.order(order)
    second = await client.order(order)
    assert (first.sha256, first.job_id) == (second.sha256, second.job_id)
    assert (first.replayed, second.replayed) == (False, True)
    assert (await client.balance()).posted_micros == before - 30_000


async def test_an_edit_takes_pictures_in_any_form(client: AsyncClient, tmp_path: Path) -> None:
    picture = await client.generate("a shoe", size="1024x1024")
    saved = await client.save(picture, tmp_path / "shoe.png")
    inputs: list[Path | str | bytes] = [saved.path, str(saved.path), saved.path.read_bytes()]
    edited = await client.edit("on a beach", inputs, size="1024x1024", metadata={"style": "beach"})
    assert edited.job_id is not None
    job = await client.job(edited.job_id)
    assert job.metadata == {"style": "beach"}
    assert edited.charge_micros == 30_000


async def test_an_edit_takes_a_mask(client: AsyncClient, tmp_path: Path) -> None:
    import pyvips

    photo = pyvips.Image.black(256, 256, bands=3).copy(interpretation="srgb")
    photo.write_to_file(str(tmp_path / "photo.png"))
    photo.bandjoin(0).write_to_file(str(tmp_path / "mask.png"))
    edited = await client.edit(
        "a hat", [tmp_path / "photo.png"], mask=tmp_path / "mask.png", size="1024x1024"
    )
    assert edited.size == "1024x1024"


async def test_a_bad_input_is_named_before_anything_is_spent(
    client: AsyncClient, tmp_path: Path
) -> None:
    before = await client.balance()
    (tmp_path / "notes.txt").write_text("no picture")
    with pytest.raises(UnreadableInput, match=r"^notes\.txt: ") as bad:
        await client.edit("on a beach", [tmp_path / "notes.txt"])
    assert bad.value.name == "notes.txt"
    assert await client.balance() == before


async def test_what_a_channel_refuses_is_typed_and_names_the_parameter(
    client: AsyncClient,
) -> None:
    with pytest.raises(Refused) as refused:
        await client.generate("a lamp", quality="high")
    assert (refused.value.code, refused.value.param) == ("unsupported_parameter", "quality")
    assert refused.value.request_id is not None


async def test_a_wrong_key_is_refused(gateway: GatewayProcess) -> None:
    async with AsyncClient(gateway.base_url, "sk-wrong") as stranger:
        with pytest.raises(Refused) as refused:
            await stranger.generate("a lamp")
    assert refused.value.status == 401


async def test_an_empty_purse_is_told_before_and_after(gateway: GatewayProcess) -> None:
    poor = gateway.key("poor", "0.02")
    async with AsyncClient(gateway.base_url, poor) as client:
        assert (await client.balance()).spendable_micros == 20_000
        with pytest.raises(OutOfMoney) as refused:
            await client.generate("a lamp")
    assert refused.value.code == "insufficient_balance"


async def test_a_quote_is_the_charge(client: AsyncClient) -> None:
    order = Order("a lamp", size="16:9@2K", parameters={"metadata": {"a": "b"}})
    quote = await client.quote(order, n=30)
    assert (quote.n, quote.price_micros, quote.total_micros) == (30, 30_000, 900_000)
    assert quote.size == "2048x1152"
    picture = await client.order(order)
    assert (picture.charge_micros, picture.size_plan) == (quote.price_micros, quote.size_plan)


async def test_a_quote_of_an_edit_counts_its_inputs_and_needs_no_file(
    client: AsyncClient,
) -> None:
    quote = await client.quote(Order("a hat", inputs=(Path("not-there.png"),), size="1024x1024"))
    assert quote.total_micros == 30_000


async def test_a_quote_refuses_what_the_order_would_be_refused(client: AsyncClient) -> None:
    with pytest.raises(Refused) as refused:
        await client.quote(Order("a lamp", size="17x17"))
    assert refused.value.param == "size"


async def test_sizes_are_listed_with_their_plans(client: AsyncClient) -> None:
    (vip,) = await client.sizes("gpt-image-2-vip")
    assert len(vip.sizes) == 35
    known = {entry.name: entry for entry in vip.sizes}
    assert known["1820x1024"].plan == "crop from 1824x1024"
    assert {channel.model for channel in await client.sizes()} >= {"gpt-image-2", vip.model}


async def test_the_statement_has_a_line_for_each_order_as_json_and_csv(
    client: AsyncClient, tmp_path: Path
) -> None:
    """Lines, file and balance say the same."""
    picture = await client.generate("a lamp", size="1024x1024")
    lines = [line async for line in client.statement()]
    assert (lines[0].kind, lines[0].amount_micros) == ("topup", 10_000_000)
    assert (lines[-1].kind, lines[-1].amount_micros) == ("settle", -30_000)
    assert (lines[-1].job_id, lines[-1].image_sha256) == (picture.job_id, picture.sha256)
    assert lines[-1].balance_micros == (await client.balance()).posted_micros
    assert sum(line.amount_micros for line in lines) == lines[-1].balance_micros
    assert [line async for line in client.statement(after=lines[0].id)] == lines[1:]
    path = await client.save_statement(tmp_path / "statement.csv")
    with path.open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [(row["id"], int(row["amount_micros"])) for row in rows] == [
        (line.id, line.amount_micros) for line in lines
    ]


async def test_a_statement_of_a_month_that_is_none_is_refused(client: AsyncClient) -> None:
    with pytest.raises(Refused) as refused:
        _ = [line async for line in client.statement(month="2026-13")]
    assert refused.value.param == "month"
