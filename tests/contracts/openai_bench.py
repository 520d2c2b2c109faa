"""The bench for the `openai` adapter: account, calls and a fault upstream to make them to."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import pyvips

from safelight.bench.faults.errors import LEAKS
from safelight.bench.faults.server import FaultUpstream
from safelight.clock import SystemClock
from safelight.errors import UpstreamError
from safelight.types import Account, BlobRef, Operation, Received, Secret, UpstreamCall
from safelight.upstreams.openai import OpenAIUpstream

KEY = "sk-proj-testkey0123456789"


@dataclass
class Bench:
    """An adapter, a fault upstream and a spool."""

    upstream: FaultUpstream
    adapter: OpenAIUpstream
    folder: Path

    @property
    def spool(self) -> Path:
        return self.folder / "job"

    def account(self, **changes: Any) -> Account:
        given: dict[str, Any] = {
            "name": "a",
            "upstream": "openai",
            "group": "g",
            "channels": ("gpt-image-2",),
            "base_url": self.upstream.base_url,
            "api_key": Secret(KEY),
            "idle_timeout_s": 5.0,
            **changes,
        }
        return Account(**given)

    def call(self, **changes: Any) -> UpstreamCall:
        given: dict[str, Any] = {
            "job_id": "job",
            "operation": Operation.GENERATION,
            "prompt": "a lamp",
            "size": "1024x1024",
            "output_format": "png",
            **changes,
        }
        return UpstreamCall(**given)

    async def generate(
        self, *, account: Account | None = None, within_s: float = 20.0, **changes: Any
    ) -> Received:
        deadline = SystemClock().monotonic() + within_s
        return await self.adapter.generate(
            account or self.account(), self.call(**changes), spool=self.spool, deadline=deadline
        )

    async def fail(self, act: Any = None, **options: Any) -> UpstreamError:
        """Play `act` and return the error; nothing is left behind and nothing leaks."""
        if act is not None:
            self.upstream.play(act)
        with pytest.raises(UpstreamError) as caught:
            await self.generate(**options)
        error = caught.value
        assert list(self.folder.iterdir()) == []
        shown = f"{error.message} {error.code} {error.param} {error.moderation_details}"
        for leak in (*LEAKS, KEY, KEY[-4:], "127.0.0.1", "internal.example", "req_"):
            assert leak not in shown
        return error


def blob(data: bytes, form: str) -> BlobRef:
    picture = pyvips.Image.new_from_buffer(data, "")
    digest = hashlib.sha256(data).hexdigest()
    return BlobRef(digest, len(data), form, picture.width, picture.height)  # type: ignore[arg-type]
