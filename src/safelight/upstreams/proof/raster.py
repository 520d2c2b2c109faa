"""From our own SVG to pixels.

Owns the one place where libvips parses SVG; what is in the SVG is `drawing.py`.
"""

from __future__ import annotations

from typing import Any

import pyvips

# What was drawn once shall not be remembered: fonts may have been loaded since.
pyvips.cache_set_max(0)

Raster = Any
"""A `pyvips.Image`; the package has no types."""


def render_svg(svg: bytes, shrink: float = 1.0) -> Raster:
    """Return our own SVG as RGBA at 1/`shrink` of its size.

    libvips counts SVG as untrusted, and a process may have blocked such loaders. Only the loader
    from a `Source` is opened again: nothing else in safelight hands bytes to libvips that way.
    """
    pyvips.operation_block_set("VipsForeignLoadSvgSource", False)
    source = pyvips.Source.new_from_memory(svg)
    return pyvips.Image.svgload_source(source, scale=1 / shrink)
