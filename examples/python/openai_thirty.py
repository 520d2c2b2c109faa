"""Thirty pictures at once with asyncio.gather: the gateway queues, paces and retries, not you.

    pip install openai
    export OPENAI_BASE_URL=http://127.0.0.1:8080/v1 OPENAI_API_KEY=...
    python openai_thirty.py        # or another number: openai_thirty.py 5

Leaves thirty/style-01.png and so on. For thousands of pictures, or runs that must survive a
restart, use `safelight run`: it forecasts, checks and resumes.
"""

import asyncio
import base64
import sys
import time
from pathlib import Path

from openai import AsyncOpenAI, OpenAIError

FOLDER = Path("thirty")
COUNT = int(sys.argv[1]) if len(sys.argv) > 1 else 30
AT_ONCE = 10  # calls in flight; more than the gateway's accounts take only makes a longer queue


async def draw(client: AsyncOpenAI, gate: asyncio.Semaphore, number: int) -> None:
    """Order one picture and write it.

    The key makes the order safe to repeat: should this program be run again within a day, the
    gateway hands out the picture that was already paid for.
    """
    async with gate:
        answer = await client.images.generate(
            model="gpt-image-2-vip",
            prompt=f"A ceramic lamp on a table, style {number:02}",
            size="1024x1024",
            extra_headers={"Idempotency-Key": f"thirty-lamps-{number:02}"},
        )
    data = base64.b64decode(answer.data[0].b64_json)
    await asyncio.to_thread((FOLDER / f"style-{number:02}.png").write_bytes, data)


async def main() -> None:
    """Draw all of them, and name those that failed; a failure is never charged."""
    FOLDER.mkdir(exist_ok=True)
    began, gate = time.monotonic(), asyncio.Semaphore(AT_ONCE)
    async with AsyncOpenAI(timeout=300) as client:
        ends = await asyncio.gather(
            *(draw(client, gate, number) for number in range(1, COUNT + 1)), return_exceptions=True
        )
    failed = [(number, end) for number, end in enumerate(ends, 1) if end is not None]
    for number, end in failed:
        if not isinstance(end, OpenAIError):
            raise end
        print(f"style {number:02}: {end}")
    print(f"{COUNT - len(failed)} of {COUNT} pictures in {time.monotonic() - began:.0f} s")


asyncio.run(main())
