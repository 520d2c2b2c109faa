"""The words of hostile requests: heads, paths, documents, forms and addresses.

Owns lists of payloads; `corpus` makes requests of them.
"""

from __future__ import annotations

import json
from typing import Any

LONG = "A" * 5000
NOT_HTTP = [
    b"\r\n" * 400,
    b"\0" * 200,
    b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(200),
    b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes(40),
    b"GET /\r\n\r\n",
    b"GET / HTTP/0.9\r\n\r\n",
    b"GET / HTTP/9.9\r\nHost: x\r\n\r\n",
    b"GET / HTTP/1.1\nHost: x\n\n",
    b"GET  /  HTTP/1.1\r\nHost: x\r\n\r\n",
    b"GET / HTTP/1.1\r\nHost: x\r\n folded: y\r\n\r\n",
    b"GET / HTTP/1.1\r\nHost : x\r\n\r\n",
    b"GET / HTTP/1.1\r\n: x\r\n\r\n",
    b"GET / HTTP/1.1\r\nHost: x\r\nX\0Y: z\r\n\r\n",
    b"GET / HTTP/1.1\r\nHost: x\r\nX: a\0b\r\n\r\n",
    b"GET / HTTP/1.1\r\nHost: x\r\nX: a\rb\r\n\r\n",
    b"GET http://inside.example/v1/models HTTP/1.1\r\nHost: x\r\n\r\n",
    b"GET //inside.example/v1/models HTTP/1.1\r\nHost: x\r\n\r\n",
    b"CONNECT inside.example:443 HTTP/1.1\r\nHost: x\r\n\r\n",
    b"OPTIONS * HTTP/1.1\r\nHost: x\r\n\r\n",
    b"GET * HTTP/1.1\r\nHost: x\r\n\r\n",
    b"GET /\xc3\x28 HTTP/1.1\r\nHost: x\r\n\r\n",
    b"GET /a b HTTP/1.1\r\nHost: x\r\n\r\n",
    b"G\xc3\x89T / HTTP/1.1\r\nHost: x\r\n\r\n",
    b"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n",
    b"GET / HTTP/1.1\r\n\r\n",
    b"GET / HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\nab",
    b"GET /" + b"a" * 70_000 + b" HTTP/1.1\r\nHost: x\r\n\r\n",
    b"GET / HTTP/1.1\r\n" + b"X: y\r\n" * 12_000 + b"\r\n",
    b"GET / HTTP/1.1\r\nHost: x\r\nX: " + b"y" * 200_000 + b"\r\n\r\n",
    b"EHLO inside.example\r\nMAIL FROM:<a@b>\r\n",
    b"*1\r\n$8\r\nFLUSHALL\r\n",
]
METHODS = ["TRACE", "PUT", "PATCH", "PROPFIND", "SEARCH", "BREW", "get", "A" * 200, "M-SEARCH"]
ODD_HEADERS: dict[str, list[tuple[bytes, bytes]]] = {
    "twice": [(b"X-A", b"1"), (b"X-A", b"2")],
    "of 500 fields": [(b"X-%d" % number, b"y") for number in range(500)],
    "of a long name": [(b"X" * 4000, b"y")],
    "that is binary": [(b"X-A", bytes(range(0x80, 0x100)))],
    "that expects": [(b"Expect", b"100-continue")],
    "that expects nonsense": [(b"Expect", b"the-unexpected")],
    "of another host": [(b"Host", b"inside.example")],
    "that forwards": [(b"X-Forwarded-For", b"127.0.0.1"), (b"X-Forwarded-Host", b"evil.example")],
    "that forwards a scheme": [(b"Forwarded", b'for=127.0.0.1;host="a\\"b";proto=javascript')],
    "that overrides the method": [(b"X-HTTP-Method-Override", b"DELETE")],
    "that rewrites the path": [(b"X-Original-URL", b"/admin"), (b"X-Rewrite-URL", b"/admin")],
    "of an upgrade": [(b"Connection", b"Upgrade, HTTP2-Settings"), (b"Upgrade", b"h2c")],
    "of connection": [(b"Connection", b"close, keep-alive, Authorization, x")],
    "of te": [(b"TE", b"trailers, deflate;q=0.5"), (b"Trailer", b"Authorization")],
    "of cookies": [(b"Cookie", b"; ".join(b"a%d=b" % number for number in range(400)))],
    "of ranges": [(b"Range", b"bytes=" + b",".join(b"%d-" % number for number in range(900)))],
    "of an origin": [(b"Origin", b"null"), (b"Access-Control-Request-Method", b"DELETE")],
    "that accepts much": [(b"Accept", b",".join(b"a/%d;q=0.%d" % (n, n) for n in range(500)))],
}
TWO_LENGTHS = [
    b"Content-Length: 5\r\nTransfer-Encoding: chunked",
    b"Transfer-Encoding: chunked\r\nContent-Length: 5",
    b"Content-Length: 5\r\nContent-Length: 6",
    b"Content-Length: 5, 6",
    b"Content-Length: +5",
    b"Content-Length: -5",
    b"Content-Length: 0x5",
    b"Content-Length: 5_0",
    b"Content-Length:  5 5",
    b"Content-Length: 99999999999999999999999",
    b"Content-Length: \xd9\xa3",
    b"Content-Length:",
    b"Content-Length : 5",
    b"Transfer-Encoding: xchunked",
    b"Transfer-Encoding: identity",
    b"Transfer-Encoding: chunked, identity",
    b"Transfer-Encoding: gzip, chunked",
    b"Transfer-Encoding:\x0bchunked",
    b"Transfer-Encoding: chunked\r\nTransfer-Encoding: x",
    b"Transfer-Encoding: x\r\nTransfer-Encoding: chunked",
    b"Transfer-Encoding : chunked",
    b" Transfer-Encoding: chunked",
    b"X: y\nTransfer-Encoding: chunked",
    b'Transfer-Encoding: "chunked"',
    b"Transfer-Encoding: Chunked;a=b",
]
CHUNKS = [
    b"0\r\n\r\nGET /smuggled HTTP/1.1\r\nHost: x\r\n",
    b"-1\r\nx\r\n0\r\n\r\n",
    b"ffffffffffffffff\r\nx",
    b"fffffffffffffffff\r\nx",
    b"5 \r\nabcde\r\n0\r\n\r\n",
    b"0x5\r\nabcde\r\n0\r\n\r\n",
    b"5;" + b"a" * 30_000 + b"\r\nabcde\r\n0\r\n\r\n",
    b"5\nabcde\n0\n\n",
    b"5\r\nabcdefgh\r\n0\r\n\r\n",
    b"\r\n0\r\n\r\n",
    b"g\r\nx\r\n",
    b"1\r\n{\r\n" * 3000 + b"0\r\n\r\n",
    b"0\r\nAuthorization: Bearer x\r\nContent-Length: 5\r\n\r\n",
    b"0\r\n" + b"X: y\r\n" * 4000 + b"\r\n",
]
AUTHORIZATIONS = [
    b"",
    b"Bearer",
    b"Bearer ",
    b"Bearer  ",
    b"Basic dXNlcjp3b3Jk",
    b"bearer null",
    b"Bearer undefined",
    b"Bearer ' OR 1=1 --",
    b"Bearer '; DROP TABLE customer; --",
    b"Bearer \xff\xfe\xfd",
    b"Bearer " + b"s" * 5000,
    b"Bearer sl_live_" + b"0" * 40,
    b"Bearer {{7*7}} ${jndi:ldap://x}",
    b"Bearer a b c",
    b"Bearer %00",
    b"Digest username=x",
    b"Bearer {KEY} {KEY}",
    b"Bearer {KEY}x",
    b"Token {KEY}",
]
HEADERS = [
    ("Idempotency-Key", "/v1/images/generations"),
    ("Prefer", "/v1/images/generations"),
    ("x-request-deadline", "/v1/images/generations"),
    ("x-stainless-retry-count", "/v1/images/generations"),
    ("x-stainless-read-timeout", "/v1/images/generations"),
    ("Accept", "/v1/quote"),
    ("Range", "/i/img_x.png"),
    ("If-None-Match", "/v1/images/img_x"),
    ("If-Range", "/i/img_x.png"),
    ("Last-Event-ID", "/v1/jobs/job_x/events"),
]
HEADER_VALUES = [
    b"-1",
    b"99999999999999999999",
    b"NaN",
    b"1e309",
    b"\xff\xfe",
    b"' OR 1=1 --",
    b"a" * 4000,
    b'wait=-1, wait=1e99, respond-async;x="',
]
TYPES = [
    b"",
    b"text/plain",
    b"application/xml",
    b"application/json; charset=utf-16",
    b"application/json;" + b"a=b;" * 2000,
    b"application/x-www-form-urlencoded",
    b"multipart/mixed; boundary=x",
    b"multipart/form-data",
    b"\xff\xfe",
    b"application/json, text/html",
    b"APPLICATION/JSON",
]
ROUTES = [
    "/v1/jobs/",
    "/v1/images/",
    "/v1/files/",
    "/v1/batches/",
    "/v1/webhooks/",
    "/v1/models/",
    "/i/",
]
NAMES = [
    "..%2f..%2fetc%2fpasswd",
    "../../../../etc/passwd",
    "%2e%2e/%2e%2e/etc/passwd",
    "..%5c..%5cwindows",
    "%00",
    "a%00.png",
    "%ff%fe",
    "%F0%9F%92%A9",
    "'%20OR%201=1--",
    "x" * 4000,
    "a%0d%0aSet-Cookie:%20a=b",
    "{id}",
    "img_" + "0" * 24 + ".png?e=1&k=1&s=x",
    "%25%32%65%25%32%65/",
    ";jsessionid=1",
    "null",
]
ODD_PATHS = [
    "/v1//models",
    "/v1/./models",
    "/v1/models/",
    "/V1/MODELS",
    "/v1/models%20",
    "/v1/models;a=b",
    "/v1/models%3fa=b",
    "/admin",
    "/admin/../v1/models",
    "/.env",
    "/.git/config",
    "/metrics/../admin",
    "/%",
    "/%zz",
    "/" + "a/" * 3000,
]
LISTINGS = ["/v1/jobs", "/v1/billing/statement", "/v1/files", "/v1/batches"]
FIELDS = ["limit", "after", "from"]
QUERY_VALUES = ["-1", "0", "99999999999999999999", "NaN", "%00", "%ff", "1e9", "'--", "x" * 3000]
JSON_ROUTES = ["/v1/quote", "/v1/images/generations", "/v1/chat/completions", "/v1/webhooks"]
PARAMETERS = [
    "model",
    "prompt",
    "n",
    "size",
    "quality",
    "output_format",
    "output_compression",
    "metadata",
    "base_url",
    "api_key",
]
VALUES: list[Any] = [
    None,
    True,
    -1,
    10**24,
    1.5,
    "",
    "\u202e\u0007",
    [],
    [[[[]]]],
    {},
    {"a": "b"},
    "9" * 4000,
]
PROMPTS = [
    "' OR 1=1; DROP TABLE job; --",
    "{{7*7}} ${jndi:ldap://inside.example/a} <%= 1 %>",
    "\u202egnp.exe \u200b\u200c\u200d\ufeff",
    "\u0007\u001b[31m\u009b",
    "<script>alert(1)</script>",
    "a\r\nSet-Cookie: a=b\r\n\r\n",
    "%s%s%s%n%x {0.__class__}",
    "\U0010ffff\ufdd0\uffff",
    "Z\u0351\u036b\u0343\u036a" * 60,
    "\ud7ff\ue000",
    "../../../../etc/passwd",
    "A" * 31_000,
]


def documents() -> dict[str, bytes]:
    """Return bodies that are no JSON object one would want."""
    deep = 5000
    return {
        "empty": b"",
        "blank": b" \n\t",
        "null": b"null",
        "array": b"[]",
        "number": b"1",
        "text": b'"x"',
        "cut": b'{"model": "gpt',
        "two": b"{}{}",
        "trailing": b"{} x",
        "trailing comma": b'{"model": 1,}',
        "comment": b"{/* */}",
        "single quotes": b"{'model': 1}",
        "byte order mark": b"\xef\xbb\xbf{}",
        "utf-16": '{"model": "x"}'.encode("utf-16"),
        "utf-32": '{"model": "x"}'.encode("utf-32"),
        "latin-1": b'{"prompt": "\xe9"}',
        "overlong": b'{"prompt": "\xc0\xaf"}',
        "surrogate bytes": b'{"prompt": "\xed\xa0\x80"}',
        "lone surrogate": b'{"model": "gpt-image-2-vip", "prompt": "\\ud800"}',
        "lone surrogate key": b'{"\\udfff": 1}',
        "nul": b'{"model": "gpt-image-2-vip", "prompt": "a\\u0000b"}',
        "raw control": b'{"prompt": "a\x01b"}',
        "nan": b'{"n": NaN}',
        "infinity": b'{"n": -Infinity}',
        "huge real": b'{"n": 1e999}',
        "huge integer": b'{"n": ' + b"9" * 5000 + b"}",
        "leading zero": b'{"n": 01}',
        "deep arrays": b'{"a": ' + b"[" * deep + b"]" * deep + b"}",
        "deep objects": b'{"a":' * deep + b"1" + b"}" * deep,
        "seventeen deep": b'{"a":' * 17 + b"1" + b"}" * 17,
        "unclosed": b"[" * 100_000,
        "many keys": json.dumps({f"k{number}": 1 for number in range(5000)}).encode(),
        "many values": b'{"a": [' + b"1," * 60_000 + b"1]}",
        "the same key twice": b'{"model": "a", "model": "b"}',
        "the same key escaped": b'{"model": "a", "mod\\u0065l": "b"}',
        "proto": b'{"__proto__": {"admin": true}, "constructor": {}}',
        "long key": b'{"' + b"k" * 100_000 + b'": 1}',
        "two megabytes": b'{"prompt": "' + b"a" * 2_000_000 + b'"}',
    }


# ---- forms --------------------------------------------------------------------------------------

FORM_TYPE = b"multipart/form-data; boundary=edge"
FORM_TYPES = [
    b"multipart/form-data",
    b"multipart/form-data; boundary=",
    b'multipart/form-data; boundary=""',
    b"multipart/form-data; boundary=" + b"x" * 5000,
    b"multipart/form-data; boundary=other",
    b"multipart/form-data; boundary=edge; boundary=other",
    b'multipart/form-data; boundary="edge',
    b"multipart/form-data; boundary=\xff\xfe",
    b"multipart/form-data; boundary=ed\0ge",
    b"multipart/form-data; boundary*=utf-8''edge",
    b"multipart/form-data;" + b"a=b;" * 3000 + b"boundary=edge",
]
FILE_NAMES = [
    "../../../../etc/cron.d/x",
    "..\\..\\x",
    "/etc/passwd",
    "a\x01b",
    "CON",
    "x" * 3000,
    ".",
    "💩.png",
    "a;b=c",
]


def part(name: str | None, data: bytes, *, filename: str | None = None, more: bytes = b"") -> bytes:
    """Return a part of a form; without a name its header has none."""
    head = b"Content-Disposition: form-data"
    if name is not None:
        head += b'; name="' + name.encode() + b'"'
    if filename is not None:
        head += b'; filename="' + filename.encode() + b'"\r\nContent-Type: image/png'
    return b"--edge\r\n" + head + more + b"\r\n\r\n" + data + b"\r\n"


def form(*parts: bytes, end: bytes = b"--edge--\r\n") -> bytes:
    """Return a form of parts."""
    return b"".join(parts) + end


def forms(picture: bytes) -> dict[str, bytes]:
    """Return bodies that are no form one would want; `picture` is a good one."""
    prompt, image = part("prompt", b"x"), part("image", picture, filename="a.png")
    inner = form(part("a", b"b")).replace(b"edge", b"inner")
    mixed = b"\r\nContent-Type: multipart/mixed; boundary=inner"
    return {
        "empty": b"",
        "without an end": form(prompt, image, end=b""),
        "with half an end": form(prompt, image, end=b"--edge-"),
        "with another end": form(prompt, image, end=b"--other--\r\n"),
        "of a part without a name": form(part(None, b"x"), prompt),
        "of a part with an empty name": form(part("", b"x"), prompt),
        "of a part with a long name": form(part("n" * 5000, b"x")),
        "of a part without a header": b"--edge\r\n\r\nx\r\n--edge--\r\n",
        "of a thousand parts": form(*[part(f"p{number}", b"x") for number in range(1000)]),
        "of a thousand files": form(*[part("image[]", b"x", filename="a")] * 1000),
        "of sixty-five parts": form(*[part("prompt", b"x")] * 65),
        "of a hundred headers": form(part("a", b"x", more=b"\r\nX: y" * 100)),
        "of a header of 9 KB": form(part("a", b"x", more=b"\r\nX: " + b"y" * 9000)),
        "of a header twice": form(part("a", b"x", more=b"\r\nContent-Disposition: form-data")),
        "of a header without a colon": form(part("a", b"x", more=b"\r\nnonsense")),
        "of base64": form(part("image", b"AAAA", more=b"\r\nContent-Transfer-Encoding: base64")),
        "nested": form(prompt, part("image", inner, more=mixed)),
        "of a text of 300 KB": form(part("prompt", b"x" * 300_000)),
        "of texts of 2 MB": form(*[part("prompt", b"x" * 200_000)] * 10),
        "of a text that is no utf-8": form(part("prompt", b"\xff\xfe"), image),
        "of a name that is no utf-8": form(
            b'--edge\r\nContent-Disposition: form-data; name="\xff"\r\n\r\nx\r\n'
        ),
        "of a nul": form(part("prompt", b"a\0b"), image),
        "of a picture without pixels": form(prompt, part("image", b"", filename="a.png")),
        "of a text for a picture": form(prompt, part("image", b"hello")),
        "of a script for a picture": form(prompt, part("image", b"<script>", filename="a.png")),
        "of a boundary inside": form(prompt, part("image", b"--edge-- \r\n--edge", filename="a")),
        "of line feeds alone": form(prompt, image).replace(b"\r\n", b"\n"),
        "with a preamble of 20 KB": b"x" * 20_000 + b"\r\n" + form(prompt, image),
        "with an epilogue": form(prompt, image) + b"GET / HTTP/1.1\r\n\r\n" * 400,
        "of two masks": form(prompt, image, *[part("mask", picture, filename="m.png")] * 2),
        "of the prompt twice": form(prompt, prompt, image),
        "of ten thousand images": form(
            *[part(f"image[{number}]", b"x", filename="a") for number in range(10_000)]
        ),
        "of dashes": b"-" * 300_000,
        "of carriage returns": b"--edge" + b"\r" * 100_000,
        "of boundaries": b"--edge\r\n" * 20_000,
    }


ADDRESSES = [
    "http://127.0.0.1/",
    "https://127.0.0.1/",
    "https://[::1]/",
    "https://169.254.169.254/latest/meta-data/",
    "https://2130706433/",
    "https://0x7f.1/",
    "https://localhost/",
    "https://metadata.google.internal/",
    "https://user:word@example.com/",
    "https://example.com:22/",
    "https://example.com:6379/",
    "https://exa mple.com/",
    "https://example.com\\@127.0.0.1/",
    "https://example.com/\r\nX: y",
    "file:///etc/passwd",
    "gopher://127.0.0.1:6379/_FLUSHALL",
    "ftp://example.com/",
    "javascript:alert(1)",
    "data:text/html,<script>alert(1)</script>",
    "data:image/png;base64,",
    "data:image/png;base64,!!!!",
    "data:image/svg+xml;base64,PHN2Zy8+",
    "data:;base64," + "A" * 4000,
    "data:" + "x" * 5000,
    "//example.com/",
    "https://",
    "",
    "https://" + "a" * 3000 + ".example/",
    "https://xn--/",
    "https://example.com#@127.0.0.1/",
]
