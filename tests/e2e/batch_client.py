"""A customer with the stock SDK who sends batches to a running gateway and reads what comes."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import openai
from openai.types import Batch

VIP = "gpt-image-2-vip"
ENDED = ("completed", "failed", "expired", "cancelled")


def line(custom_id: str, **body: Any) -> dict[str, Any]:
    """Return an input line; `body` over a good generation."""
    return {
        "custom_id": custom_id,
        "method": "POST",
        "url": "/v1/images/generations",
        "body": {"model": VIP, "prompt": f"a lamp {custom_id}", "size": "1024x1024", **body},
    }


def with_bad_ones(count: int, share: float) -> list[dict[str, Any]]:
    """Return lines of which a share, evenly spread, asks for what the channel does not take."""
    every = round(1 / share)
    bad = ({"quality": "high"}, {"size": "7x7"}, {"n": 9}, {"prompt": ""})
    return [
        line(f"item-{n}", **(bad[n // every % len(bad)] if n % every == every - 1 else {}))
        for n in range(count)
    ]


class BatchClient:
    """The SDK and the forms of batches."""

    def __init__(self, base_url: str, key: str) -> None:
        self.sdk = openai.OpenAI(base_url=base_url, api_key=key, max_retries=10)

    def submit(self, folder: Path, lines: Iterable[dict[str, Any]]) -> Batch:
        """Upload lines and make a batch of them, as OpenAI's guide does."""
        path = folder / "input.jsonl"
        path.write_text("".join(json.dumps(one) + "\n" for one in lines))
        with path.open("rb") as file:
            made = self.sdk.files.create(file=file, purpose="batch")
        assert (made.filename, made.purpose) == ("input.jsonl", "batch")
        return self.sdk.batches.create(
            input_file_id=made.id,
            endpoint="/v1/images/generations",
            completion_window="24h",
            metadata={"run": folder.name},
        )

    def wait(
        self, batch_id: str, until: Callable[[Batch], bool] | None = None, seconds: float = 120
    ) -> Batch:
        """Ask again and again until the batch has ended, or is as `until` wants it."""
        enough = until or (lambda batch: batch.status in ENDED)
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            batch = self.sdk.batches.retrieve(batch_id)
            if enough(batch):
                return batch
            time.sleep(0.2)
        raise AssertionError(f"the batch is still {batch.status}, {batch.request_counts}")

    def lines_of(self, file_id: str | None) -> list[dict[str, Any]]:
        """Return the lines of a file; none where there is no file."""
        if file_id is None:
            return []
        text = self.sdk.files.content(file_id).text
        return [json.loads(one) for one in text.splitlines()]

    def charges(self) -> list[int]:
        """Return what the statement charges, picture by picture."""
        amounts: list[int] = []
        after = ""
        while True:
            query = {"limit": 1000, **({"after": after} if after else {})}
            page: Any = self.sdk.get(
                "/billing/statement", cast_to=object, options={"params": query}
            )
            amounts += [-one["amount_micros"] for one in page["data"] if one["kind"] == "settle"]
            if not page["has_more"]:
                return amounts
            after = page["last_id"]

    def close(self) -> None:
        self.sdk.close()
