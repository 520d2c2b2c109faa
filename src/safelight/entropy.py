"""Random numbers from the operating system, fetched a block at a time.

Owns the block. Each question to the kernel lets go of the interpreter, and an order needs half a
dozen ids: under load each of them was a wait for the other threads.
"""

from __future__ import annotations

import os
import random
import threading
from typing import Final

_BLOCK_BYTES: Final = 4096


class Entropy(random.SystemRandom):
    """`random.SystemRandom` that asks the kernel once for hundreds of ids.

    As good as the system's own: no byte is given twice, to no thread, and to no child process.
    """

    def __init__(self) -> None:
        super().__init__()
        self._lock = threading.Lock()
        self._block = b""
        self._used = 0
        os.register_at_fork(after_in_child=self._forget)

    def randbytes(self, n: int) -> bytes:
        """Return `n` random bytes."""
        with self._lock:
            if self._used + n > len(self._block):
                self._block, self._used = os.urandom(max(n, _BLOCK_BYTES)), 0
            begin, self._used = self._used, self._used + n
            return self._block[begin : self._used]

    def getrandbits(self, k: int, /) -> int:
        """Return an integer of `k` random bits.

        Raises:
            ValueError: `k` is negative.
        """
        if k < 0:
            raise ValueError("the number of bits must not be negative")
        count = (k + 7) // 8
        return int.from_bytes(self.randbytes(count)) >> (count * 8 - k)

    def random(self) -> float:
        """Return a number in [0, 1), with 53 random bits."""
        return self.getrandbits(53) * 2**-53

    def token_hex(self, count: int) -> str:
        """Return `count` random bytes as lower-case hex."""
        return self.randbytes(count).hex()

    def _forget(self) -> None:
        # The parent gives these bytes out; the lock may be held by a thread that is not here.
        self._lock = threading.Lock()
        self._block, self._used = b"", 0


ENTROPY: Final = Entropy()
"""Shared by all of a process."""
