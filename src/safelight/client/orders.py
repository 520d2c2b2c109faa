"""What can be ordered: one picture.

Owns the order and the checks that need no server. How it is sent is `bodies`' business.
"""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import MappingProxyType
from typing import Any

from safelight.client.errors import BadOrder

DEFAULT_MODEL = "gpt-image-2-vip"
Source = Path | bytes
"""A picture to send: a file, or its bytes."""

_OWN_FIELDS = frozenset({"prompt", "model", "size", "image", "images", "mask"})
_NOT_HERE = {
    "n": "an order is one picture; place several orders",
    "stream": "watch a job instead: submit() and wait(on_change=...)",
    "async": "use submit()",
}


@dataclass(frozen=True)
class Order:
    """One picture to be made; with `inputs` it is an edit of them.

    Args:
        prompt: what the picture shall show.
        model: the channel, or another server's model.
        size: `WIDTHxHEIGHT`, `16:9@2K`, `auto`; None leaves it to the server.
        inputs: the pictures of an edit, in order; sent as they are (see `inputs.prepare`).
        mask: where the first input may change: its transparent parts.
        parameters: further fields of the request (`quality`, `output_format`, `metadata`, ...).
        idempotency_key: names the order: the same order with the same key is bought once. None: a
            fresh one is made when it is sent, and kept over all tries.

    Raises:
        BadOrder: no prompt, a mask without inputs, or a parameter that has no place here.
    """

    prompt: str
    model: str = DEFAULT_MODEL
    size: str | None = None
    inputs: tuple[Source, ...] = ()
    mask: Source | None = None
    parameters: Mapping[str, Any] = field(default_factory=dict, hash=False)
    idempotency_key: str | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "inputs", tuple(self.inputs))
        object.__setattr__(self, "parameters", MappingProxyType(dict(self.parameters)))
        if not self.prompt.strip():
            raise BadOrder("the prompt is empty: say what the picture shall show")
        if self.mask is not None and not self.inputs:
            raise BadOrder("a mask needs the picture it belongs to: give inputs, too")
        for name, value in self.parameters.items():
            if name in _OWN_FIELDS:
                raise BadOrder(f"{name!r} is a field of the order, not one of its parameters")
            if name in _NOT_HERE and not (name == "n" and value in (None, 1)):
                raise BadOrder(f"{name!r} is not for an order: {_NOT_HERE[name]}")

    def __reduce__(self) -> tuple[Any, ...]:
        """Let an order be pickled and copied, which a mapping proxy does not by itself."""
        values = (self.prompt, self.model, self.size, self.inputs, self.mask)
        return Order, (*values, dict(self.parameters), self.idempotency_key)

    @property
    def is_edit(self) -> bool:
        """Whether it goes to the route for edits."""
        return bool(self.inputs)

    def with_key(self) -> Order:
        """Return the order with an Idempotency-Key: its own, or a fresh one."""
        if self.idempotency_key is not None:
            return self
        return replace(self, idempotency_key=f"sl-{secrets.token_hex(16)}")

    def fields(self) -> dict[str, Any]:
        """Return the request's fields in OpenAI's words, without the pictures and what is None."""
        named = {"model": self.model, "prompt": self.prompt, "size": self.size}
        every = {**named, **self.parameters}
        return {name: value for name, value in every.items() if value is not None}
