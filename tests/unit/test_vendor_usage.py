"""Usage exports as vendors write them: what is read of each form, and what is refused by name."""

from __future__ import annotations

import json

import pytest

from safelight.vendor_usage import Bucket, Call, UnreadableExport, VendorUsage, read_usage

AT = 1_796_083_200_000
DAY = 86_400


def read(*texts: str) -> VendorUsage:
    return read_usage(texts)


def bucket(day: int, *results: dict[str, object], name: str = "results") -> dict[str, object]:
    start = 1_796_083_200 + day * DAY
    return {"object": "bucket", "start_time": start, "end_time": start + DAY, name: list(results)}


def page(*buckets: dict[str, object]) -> str:
    return json.dumps({"object": "page", "data": buckets, "has_more": False, "next_page": None})


def images(count: int, **more: object) -> dict[str, object]:
    return {
        "object": "organization.usage.images.result",
        "images": count,
        "num_model_requests": count,
        **more,
    }


def cost(value: object, currency: str = "usd") -> dict[str, object]:
    amount = {"value": value, "currency": currency}
    return {"object": "organization.costs.result", "amount": amount, "line_item": "gpt-image-2"}


ROW = Call(row=1, id="req_1", at=AT, model="gpt-image-2", images=1, cost_micros=41_000)


@pytest.mark.parametrize(
    "text",
    [
        "request_id,time,model,images,cost\nreq_1,2026-12-01T00:00:00Z,gpt-image-2,1,0.041\n",
        """\ufeffX-Request-ID;Timestamp;Model;Images;Cost (USD)
req_1;2026-12-01 00:00:00;gpt-image-2;1;$0.041
""",
        "id\tcreated\tmodel\tn\tcost_micros\nreq_1\t1796083200\tgpt-image-2\t1\t41000\n",
        '[{"request_id":"req_1","at":1796083200.0,"model":"gpt-image-2","cost":0.041}]',
        """{"data": [{"call_id": "req_1", "time": "2026-12-01T01:00:00+01:00",
                      "model": "gpt-image-2", "image_count": "1", "cost": "0.041"}]}""",
        '{"request_id":"req_1","timestamp":1796083200000,"model_name":"gpt-image-2","cost":0.041}',
    ],
    ids=["csv", "semicolons", "tabs", "list", "data", "one"],
)
def test_calls_are_read_from_every_form(text: str) -> None:
    """Column names in any case and with any signs between their words."""
    assert read(text).calls == (ROW,)


def test_json_lines_are_calls_in_order() -> None:
    text = "\n".join(json.dumps({"request_id": f"req_{n}", "at": AT // 1000}) for n in range(3))
    assert [call.id for call in read(text).calls] == ["req_0", "req_1", "req_2"]
    assert [call.row for call in read(text).calls] == [1, 2, 3]


def test_several_files_are_one_export() -> None:
    calls = read("request_id\nreq_1\n", '{"request_id":"req_2"}').calls
    assert [call.id for call in calls] == ["req_1", "req_2"]


def test_costs_are_exact_and_rounded_up_to_a_micro_dollar() -> None:
    """No float is near money: a tenth stays a tenth."""
    text = '[{"id":"a","cost":0.1},{"id":"b","cost":0.0410201},{"id":"c","cost":1e-7}]'
    assert [call.cost_micros for call in read(text).calls] == [100_000, 41_021, 1]


def test_rows_of_one_call_are_one_call() -> None:
    """Some vendors write a row for each item of the bill."""
    found = read("request_id,cost\nreq_1,0.01\nreq_2,0.02\nreq_1,0.005\n")
    assert [(call.id, call.images, call.cost_micros) for call in found.calls] == [
        ("req_1", 1, 15_000),
        ("req_2", 1, 20_000),
    ]
    assert found.remarks == ("1 rows share the id of another one and were added to it",)


def test_a_call_that_was_not_sold_has_no_pictures() -> None:
    assert [call.images for call in read("id,images\na,0\nb,2\nc,\n").calls] == [0, 2, 1]


def test_an_empty_file_is_an_export_of_nothing() -> None:
    assert read("") == read("request_id,time\n") == read("[]") == VendorUsage()


@pytest.mark.parametrize("name", ["results", "result"])
def test_pages_of_openais_usage_and_costs_are_sums_over_time(name: str) -> None:
    """Groups of one bucket are added up, whatever they were grouped by."""
    usage = page(
        bucket(0, images(3, size="1024x1024"), images(4, size="2048x1152"), name=name),
        bucket(1, name=name),
    )
    costs = page(bucket(0, cost(0.06), cost("1.5"), name=name))
    found = read(usage, costs)
    assert found.images == (
        Bucket(start=AT, end=AT + DAY * 1000, amount=7),
        Bucket(start=AT + DAY * 1000, end=AT + 2 * DAY * 1000, amount=0),
    )
    assert found.costs == (Bucket(start=AT, end=AT + DAY * 1000, amount=1_560_000),)
    assert found.calls == ()


def test_a_bucket_without_results_says_that_nothing_was_sold() -> None:
    """Of its own file's kind; where no file tells a kind, of pictures."""
    costs = read(page(bucket(0, cost(1)), bucket(1)))
    assert (costs.images, [one.amount for one in costs.costs]) == ((), [1_000_000, 0])
    nothing = read(page(bucket(0), bucket(1)))
    assert ([one.amount for one in nothing.images], nothing.costs) == ([0, 0], ())
    # An empty page of costs beside pictures takes none of them away.
    both = read(page(bucket(0)), page(bucket(0, images(3))))
    assert [one.amount for one in both.images] == [3]


def test_what_counts_no_pictures_is_left_out_and_said() -> None:
    completions = {"object": "organization.usage.completions.result", "num_model_requests": 9}
    found = read(page(bucket(0, images(1), completions)))
    assert [one.amount for one in found.images] == [1]
    assert "organization.usage.completions.result" in found.remarks[0]


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("{not json", "no JSON"),
        ('{"request_id":"a"}\n{oops\n', "line 2"),
        ("[1]", "JSON objects"),
        ("model,cost\nx,1\n", "row 1 has neither"),
        ("request_id,cost\na,much\n", "'much' is no number"),
        ("request_id,cost\na,NaN\n", "no number that could be"),
        ("request_id,cost\na,1e400\n", "no number that could be"),
        ("request_id,images\na,1.5\n", "no whole number"),
        ("request_id,images\na,-1\n", "no whole number"),
        ("request_id,time\na,yesterday\n", "no time"),
        ("request_id,time\na,99999999999999999\n", "no time"),
        ("request_id,cost,currency\na,1,EUR\n", "in USD"),
        (page(bucket(0, cost(1, "eur"))), "in USD"),
        (page(bucket(0, images(1)), bucket(0, images(1))), "there twice"),
        (page(bucket(0, {"object": "organization.usage.completions.result"})), "but of organiz"),
        (page(bucket(0, {"object": "organization.costs.result"})), "an amount"),
        (page({"object": "bucket", "results": []}), "no time"),
        (page({**bucket(0), "end_time": 5 * 10**8}), "a later end_time"),
        (page({**bucket(0), "results": None}), "needs"),
        (page(bucket(0, images(1))) + "\n" + '{"request_id":"a"}', "do not go together"),
        ('{"object":"organization.usage.images.result","images":1}', "row 1 has neither"),
        ('{"request_id":"a","images":true}', "no number"),
    ],
)
def test_what_cannot_be_read_is_named(text: str, says: str) -> None:
    with pytest.raises(UnreadableExport, match=says):
        read(text)


def test_a_page_that_is_given_twice_is_refused() -> None:
    with pytest.raises(UnreadableExport, match="there twice"):
        read(page(bucket(0, images(1))), page(bucket(0, images(1))))


def test_overlapping_buckets_are_refused() -> None:
    """Hours and days of one time would be counted twice."""
    hour = {**bucket(0, images(1)), "end_time": 1_796_083_200 + 3600}
    with pytest.raises(UnreadableExport, match="overlap"):
        read(page(hour), page(bucket(0, images(5))))
