"""A picture while it is made: two partial pictures, then the whole one.

    pip install openai
    export OPENAI_BASE_URL=http://127.0.0.1:8080/v1 OPENAI_API_KEY=...
    python openai_stream.py

Leaves partial-1.png, partial-2.png and lamp.png in the current folder.
"""

import base64
from pathlib import Path

from openai import OpenAI

client = OpenAI(timeout=300)
stream = client.images.generate(
    model="gpt-image-2-vip",
    prompt="A lamp on a table",
    size="1024x1024",
    stream=True,
    partial_images=2,
)
for event in stream:
    if event.type == "image_generation.partial_image":
        name = f"partial-{event.partial_image_index + 1}.png"
    elif event.type == "image_generation.completed":
        name = "lamp.png"
    else:
        continue
    Path(name).write_bytes(base64.b64decode(event.b64_json))
    print(name)
