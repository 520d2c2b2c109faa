"""One picture from call to bytes: read, lay out, paint coarse to fine, encode. Blocks.

Owns the order of the steps and the file formats. Knows nothing of the event loop.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from safelight.types import UpstreamCall
from safelight.upstreams.proof import pictures
from safelight.upstreams.proof.brief import Brief, read_brief
from safelight.upstreams.proof.canvas import choose_canvas
from safelight.upstreams.proof.fonts import load_fonts
from safelight.upstreams.proof.painter import Checkpoint, paint
from safelight.upstreams.proof.raster import Raster
from safelight.upstreams.proof.sheet import Sheet, compose_edit, compose_generation, compose_patch

Announce = Callable[[int, Path], None]

_DETAIL = {"low": 0, "medium": 1, "high": 2, "xhigh": 2, "max": 2}
# By how much each partial is coarser than the picture, for 1, 2 and 3 partials.
_COARSENESS = {1: (10.0,), 2: (16.0, 6.0), 3: (20.0, 9.0, 4.0)}


class Rendering:
    """The steps of one call, with what they share."""

    def __init__(self, call: UpstreamCall, checkpoint: Checkpoint) -> None:
        self._call = call
        self._checkpoint = checkpoint
        self._brief: Brief = read_brief(call)
        self._transparent = call.background == "transparent" and call.output_format != "jpeg"
        self._detail = _DETAIL.get(call.quality or "", 1)
        self._sheet: Sheet | None = None
        self._kept: Raster = None
        self._mask: Raster = None
        self._hole = (0, 0, 0, 0)
        self._size = (0, 0)

    def run(self, spool: Path, announce: Announce | None) -> bytes:
        """Return the finished file's bytes; partials are written beside `spool` and announced.

        Raises:
            UpstreamError: CLIENT, the size or an input cannot be used.
            pyvips.Error: libvips failed.
            OSError: a partial could not be written.
            Exception: whatever the checkpoint raises.
        """
        self._checkpoint()
        load_fonts()
        images = pictures.decode_inputs(self._call)
        self._checkpoint()
        first = (images[0].width, images[0].height) if images else None
        self._size = choose_canvas(self._call, first)
        self._lay_out(images)
        self._checkpoint()
        if announce is not None:
            self._partials(spool, announce)
        return self._encode(self._paint(1.0))

    def _lay_out(self, images: list[Raster]) -> None:
        width, height = self._size
        if not images:
            self._sheet = compose_generation(
                self._brief, width, height, self._detail, transparent=self._transparent
            )
            return
        self._mask = pictures.decode_mask(self._call, width, height)
        if self._mask is None:
            self._sheet = compose_edit(
                self._brief, width, height, self._detail, images, transparent=self._transparent
            )
            return
        self._kept = pictures.cover(images[0], width, height)
        if self._kept.hasalpha() and (
            self._call.output_format == "jpeg" or self._call.background == "opaque"
        ):
            self._kept = self._kept.flatten(background=255)
        if pictures.free_box(self._mask) is not None:
            self._sheet, self._hole = compose_patch(
                self._brief, self._mask, self._detail, self._size, images[1:]
            )

    def _paint(self, shrink: float) -> Raster:
        image: Raster = self._kept
        if self._sheet is not None:
            image = paint(self._sheet, self._brief.seed, self._checkpoint, shrink)
            width, height = self._sheet.drawing.width, self._sheet.drawing.height
            if shrink > 1:
                image = image.resize(
                    width / image.width, vscale=height / image.height, kernel="cubic"
                )
                image = image.gaussblur(shrink * 0.35, precision="approximate").cast("uchar")
                image = image.embed(0, 0, width, height, extend="copy")
        if self._kept is not None and self._sheet is not None and self._mask is not None:
            patch = image.bandjoin(255) if self._kept.hasalpha() else image
            left, top = self._hole[:2]
            full = self._kept.insert(patch, left, top)
            image = self._mask.ifthenelse(self._kept, full, blend=True)
        return image.copy(interpretation="srgb")

    def _partials(self, spool: Path, announce: Announce) -> None:
        # A partial of a small canvas still needs a few pixels.
        most = max(1.0, min(self._size) / 8)
        for index, shrink in enumerate(_COARSENESS.get(min(3, self._call.partial_images), ())):
            data = self._encode(self._paint(min(shrink, most)))
            path = spool.with_name(f"{spool.name}.partial{index}")
            path.write_bytes(data)
            announce(index, path)

    def _encode(self, image: Raster) -> bytes:
        self._checkpoint()
        quality = self._call.output_compression
        level = 90 if quality is None else min(100, max(1, quality))
        match self._call.output_format:
            case "jpeg":
                data = image.jpegsave_buffer(
                    Q=level, keep="none", subsample_mode="off" if level >= 90 else "auto"
                )
            case "webp":
                data = image.webpsave_buffer(Q=level, effort=1, keep="none")
            case _:
                data = image.pngsave_buffer(compression=1, keep="none")
        self._checkpoint()
        return bytes(data)
