"""Pictures in LangChain: through chat, through an edit in chat, and as a tool that a model calls.

    pip install langchain-openai
    export OPENAI_BASE_URL=http://127.0.0.1:8080/v1 OPENAI_API_KEY=...
    python langchain_picture.py

Leaves chat.png, edit.png and tool.png in the current folder. The gateway serves pictures, not
words: the chat model comes from somewhere else, and is given `draw` as a tool.
"""

import base64
import re
import urllib.request
from pathlib import Path

from langchain_core.messages import HumanMessage
from langchain_core.tools import tool
from langchain_openai import ChatOpenAI
from openai import OpenAI

LINK = re.compile(r"!\[[^\]]*\]\((\S+?)\)")


def save_linked(markdown: str, name: str) -> None:
    """Write the picture of a chat answer; its link lives for a day, a file for ever."""
    found = LINK.search(markdown)
    if found is None:
        raise SystemExit(f"no picture in {markdown!r}")
    with urllib.request.urlopen(found[1]) as answer:  # noqa: S310 - the gateway's own link
        Path(name).write_bytes(answer.read())
    print(name)


# 1. Text in, picture out: /v1/chat/completions answers with a link in Markdown.
painter = ChatOpenAI(model="gpt-image-2-vip", timeout=300, max_retries=2)
drawn = painter.invoke('A poster with the title "新品上市"')
save_linked(str(drawn.content), "chat.png")

# 2. A picture and words in, an edited picture out. Either the last picture of the conversation ...
conversation = [HumanMessage('A poster with the title "SALE"')]
conversation += [painter.invoke(conversation), HumanMessage("The same in blue")]
save_linked(str(painter.invoke(conversation).content), "edit.png")
# ... or one of your own, as {"type": "image_url", "image_url": {"url": "data:image/png;base64,.."}}


# 3. A tool, for any model that can call tools: `model.bind_tools([draw])`.
@tool
def draw(prompt: str, size: str = "1024x1024") -> str:
    """Draw a picture from a description and return the name of its file."""
    answer = OpenAI(timeout=300).images.generate(model="gpt-image-2-vip", prompt=prompt, size=size)
    Path("tool.png").write_bytes(base64.b64decode(answer.data[0].b64_json))
    return "tool.png"


print(draw.invoke({"prompt": "A lamp on a table", "size": "1820x1024"}))
