"""Turns answers into bytes: compact, pretty-printed, padded, not JSON at all, or a proxy's HTML."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

if TYPE_CHECKING:
    from batch_inferd.testing.controls import Controls

JSON_TYPE = "application/json"
HTML_TYPE = "text/html"
# In a string all of these are legal JSON, and they break what splits text by `str.splitlines`.
NOTE = "line\u2028paragraph\u2029next\u0085end"
_HTML = (
    b"<html>\r\n<head><title>502 Bad Gateway</title></head>\r\n<body>\r\n"
    b"<center><h1>502 Bad Gateway</h1></center>\r\n<hr><center>nginx</center>\r\n</body>\r\n</html>\r\n"
)


def answer_bytes(answer: dict[str, Any], controls: Controls) -> bytes:
    """An answer as the controls want it written. It is always good JSON."""
    if controls.pretty:
        answer = {**answer, "note": NOTE}
    body = msgspec.json.encode(answer)
    if (short := controls.oversize_bytes - len(body)) > 0:
        body = msgspec.json.encode({**answer, "padding": "x" * short})
    if not controls.pretty:
        return body
    lines = msgspec.json.format(body, indent=2) + b"\n"
    return lines.replace(b"\n", b"\r\n") if controls.pretty == "crlf" else lines


def garbage_bytes(answer: dict[str, Any]) -> bytes:
    """Begins like the answer, and is neither JSON nor UTF-8."""
    body = msgspec.json.encode(answer)
    return body[: len(body) // 2] + b"\xff\xfe\x00<garbage>"


def bad_gateway() -> tuple[int, str, bytes]:
    """Status, content type and body of what a proxy says when the server behind it fails."""
    return 502, HTML_TYPE, _HTML
