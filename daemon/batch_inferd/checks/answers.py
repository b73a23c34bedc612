"""What a line of an output file says: whose it is, whether it is an answer, why that ended, if it is empty.

Known are the lines of output.jsonl and of OpenAI's batch results, and lines `{"id": …, "answer": …}`.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import msgspec

from batch_infer.protocol.answers import read_answer
from batch_inferd.backends import rawjson

ANSWER, ERROR, OTHER = "answer", "error", "other"
CUT = frozenset({"length", "max_tokens", "max_output_tokens", "model_context_window_exceeded"})

_decode = msgspec.json.Decoder().decode
_IDS = ("custom_id", "recordId", "id")
_THOUGHTS = frozenset({"message", "reasoning", "text", "output_text", "thinking", "redacted_thinking"})
_NAME = 100  # characters of a finish reason


class Judged(NamedTuple):
    """A line. `key`: its id, None where it has none. `finish`: why the answer ended, "": it does not say."""

    kind: str
    key: str | None = None
    finish: str = ""
    text: str = ""
    empty: bool = False

    @property
    def cut(self) -> bool:
        """Whether the answer ended at a limit of tokens."""
        return self.finish in CUT


def judge(line: bytes) -> Judged:
    """Read a line without its newline. Raises rawjson.InvalidJson: it is no JSON object."""
    try:
        value = _decode(line)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        value = rawjson.loads(line)  # only msgspec refuses the escape of a lone surrogate
    if not isinstance(value, dict):
        raise rawjson.InvalidJson("not a JSON object")
    key = _key(value)
    if value.get("error") is not None:
        return Judged(ERROR, key)
    if "answer" in value and "response" not in value:
        text = value["answer"] if isinstance(value["answer"], str) else ""
        return Judged(ANSWER, key, text=text, empty=not value["answer"])
    response = value.get("response")
    if not isinstance(response, dict) or "body" not in response:
        return Judged(OTHER, key)
    status = response.get("status_code")
    if isinstance(status, int) and not 200 <= status < 300:
        return Judged(ERROR, key)
    body = response["body"]
    found = read_answer(body)
    return Judged(ANSWER, key, found.finish_reason[:_NAME], found.text, _is_empty(body, found.text))


def _key(value: dict[str, Any]) -> str | None:
    """The id, as text."""
    for name in _IDS:
        found = value.get(name)
        if isinstance(found, str | int):
            return str(found)
    return None


def _is_empty(body: Any, text: str) -> bool:
    """Whether nothing came: no text, and nothing else such as a call of a tool. Thoughts do not count."""
    if not isinstance(body, dict):
        return not body
    choices = body.get("choices")
    if isinstance(choices, list):
        message = choices[0].get("message") if choices and isinstance(choices[0], dict) else None
        more = isinstance(message, dict) and (message.get("function_call") or message.get("audio"))
        return not text.strip() and not more
    for name in ("output", "content"):
        if isinstance(body.get(name), list):
            kinds = (item.get("type") for item in body[name] if isinstance(item, dict))
            return not text.strip() and all(kind in _THOUGHTS for kind in kinds)
    return not body.get("data", body)
