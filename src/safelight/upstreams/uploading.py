"""A file on its way to an upstream, read where the page cache has it.

Owns the reading; the form around it is aiohttp's.
"""

from __future__ import annotations

import asyncio
import io
import os
from typing import Final

from aiohttp.abc import AbstractStreamWriter
from aiohttp.payload import BufferedReaderPayload

from safelight.windows import read_cached

_PIECE: Final = 256 * 1024


class FilePayload(BufferedReaderPayload):
    """A whole file in a form, with its length known.

    aiohttp visits a thread for each piece; an input was kept a moment ago, and is in memory.
    """

    _value: io.BufferedReader

    async def write_with_length(
        self, writer: AbstractStreamWriter, content_length: int | None
    ) -> None:
        """Write the file, or so much of it.

        Raises:
            OSError: it cannot be read.
        """
        descriptor, offset = self._value.fileno(), 0
        end = os.fstat(descriptor).st_size
        if content_length is not None:
            end = min(end, content_length)
        while offset < end:
            count = min(_PIECE, end - offset)
            data: bytes | bytearray | None = read_cached(descriptor, count, offset)
            if data is None:
                data = await asyncio.to_thread(os.pread, descriptor, count, offset)
            if not data:
                raise OSError("the file has become shorter")
            offset += len(data)
            await writer.write(data)
