"""Keeping pictures in memory, for the HTTP skin's tests."""

from __future__ import annotations

import msgspec

from api.fake_gateway import FakeGateway
from safelight.errors import Gone, NotFound
from safelight.gateway.retention import Original
from safelight.image_lists import Listed, Page, Wanted
from safelight.types import ImageRecord


class FakeRetention:
    """Keeps what the fake gateway has made."""

    def __init__(self, gateway: FakeGateway) -> None:
        self._gateway = gateway

    async def image(self, customer_id: str, image_id: str) -> ImageRecord:
        found = self._gateway.images.get(image_id)
        if found is None or found.customer_id != customer_id:
            raise NotFound("No image has this id, or its link has expired.")
        if found.deleted_at is not None:
            raise Gone("This picture was deleted, or its time is over.")
        return found

    async def page(self, wanted: Wanted, *, after: str | None, limit: int) -> Page:
        found = [
            Listed(record=one, prompt="", channel="gpt-image-2-vip", price_micros=30_000)
            for one in self._gateway.images.values()
            if one.customer_id == wanted.customer_id and one.deleted_at is None
        ]
        newest = tuple(reversed(found))[:limit]
        last_id = newest[-1].record.id if newest else after
        return Page(found=newest, last_id=last_id, has_more=len(found) > limit)

    async def pin(self, customer_id: str, image_id: str) -> ImageRecord:
        return await self._change(customer_id, image_id, pinned=True)

    async def unpin(self, customer_id: str, image_id: str) -> ImageRecord:
        return await self._change(customer_id, image_id, pinned=False)

    async def delete(self, customer_id: str, image_id: str) -> None:
        try:
            await self._change(customer_id, image_id, deleted_at=1)
        except Gone:
            return

    async def original(self, customer_id: str, image_id: str) -> Original:
        await self.image(customer_id, image_id)
        raise NotFound("No other file is kept of this picture.")

    async def end_links(self, customer_id: str) -> None:
        for image in list(self._gateway.images.values()):
            if image.customer_id == customer_id:
                self._gateway.images[image.id] = msgspec.structs.replace(
                    image, link_epoch=image.link_epoch + 1
                )

    async def _change(self, customer_id: str, image_id: str, **values: object) -> ImageRecord:
        found = await self.image(customer_id, image_id)
        self._gateway.images[image_id] = msgspec.structs.replace(found, **values)
        return self._gateway.images[image_id]
