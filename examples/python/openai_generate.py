"""One picture from words, and one from that picture: the openai SDK as it is.

    pip install openai
    export OPENAI_BASE_URL=http://127.0.0.1:8080/v1 OPENAI_API_KEY=...
    python openai_generate.py

Leaves poster.png (2048x1152) and night.png (1024x1024) in the current folder.
"""

import base64
from pathlib import Path

from openai import OpenAI

# A picture takes 30 to 200 seconds. The SDK's own retries join the order, so nothing is paid twice.
client = OpenAI(timeout=300, max_retries=2)

made = client.images.with_raw_response.generate(
    model="gpt-image-2-vip",
    prompt='Launch poster in red light, large title "SAFELIGHT 安全灯"',
    size="2048x1152",
)
picture = base64.b64decode(made.parse().data[0].b64_json)
Path("poster.png").write_bytes(picture)
print(
    f"poster.png: {len(picture)} bytes, {made.headers.get('x-safelight-size-plan')}, "
    f"{made.headers.get('x-safelight-price-micros')} micro-dollars, "
    f"job {made.headers.get('x-safelight-job-id')}"
)

with Path("poster.png").open("rb") as poster:
    edited = client.images.edit(
        model="gpt-image-2-vip",
        prompt='The same poster at night, title "NIGHT"',
        image=[poster],
        size="1024x1024",
    )
Path("night.png").write_bytes(base64.b64decode(edited.data[0].b64_json))
print("night.png")
