"""What an answer says: its text and why it ended, from a response's body of whatever endpoint.

Both sides read answers: the daemon when it exports them, the Python API when it hands them on.
"""

from __future__ import annotations

import json
from typing import Any, NamedTuple


class Answer(NamedTuple):
    """The text of an answer, and the service's word for its end ("" where it said none)."""

    text: str
    finish_reason: str


def read_answer(body: Any) -> Answer:
    """The answer in a body as JSON gives it.

    Chat completions: the first choice's content, else its refusal, else its tool calls as JSON.
    Responses: the text of all message parts. Embeddings: the vectors as JSON. Anything else: the whole
    body as JSON.
    """
    if isinstance(body, dict):
        if isinstance(body.get("choices"), list):
            return _chat(body["choices"])
        if isinstance(body.get("output"), list):
            return _responses(body)
        if isinstance(body.get("data"), list):
            return _embeddings(body["data"])
        if isinstance(body.get("content"), list):  # Claude's own shape
            return Answer(_text(body["content"]), _word(body.get("stop_reason")))
    return Answer(as_json(body), "")


def as_json(value: Any) -> str:
    """A value in one line of JSON, with all of Unicode as it is."""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


def _chat(choices: list[Any]) -> Answer:
    first = choices[0] if choices and isinstance(choices[0], dict) else {}
    finish_reason = _word(first.get("finish_reason"))
    message = first.get("message")
    if not isinstance(message, dict):
        return Answer(_text(first.get("text")), finish_reason)
    text = _text(message.get("content")) or _text(message.get("refusal"))
    if not text and message.get("tool_calls"):
        text = as_json(message["tool_calls"])
    return Answer(text, finish_reason)


def _responses(body: dict[str, Any]) -> Answer:
    parts = [
        _text(item.get("content"))
        for item in body["output"]
        if isinstance(item, dict) and item.get("type") == "message"
    ]
    details = body.get("incomplete_details")
    why = details.get("reason") if isinstance(details, dict) else None
    return Answer("".join(parts), _word(why or body.get("status")))


def _embeddings(data: list[Any]) -> Answer:
    vectors = [item.get("embedding") if isinstance(item, dict) else item for item in data]
    return Answer(as_json(vectors[0] if len(vectors) == 1 else vectors), "")


def _text(content: Any) -> str:
    """A content that is text, or a list of parts of which some are."""
    if isinstance(content, str):
        return content
    if isinstance(content, list):
        parts = (part.get("text") or part.get("refusal") for part in content if isinstance(part, dict))
        return "".join(part for part in parts if isinstance(part, str))
    return ""


def _word(value: Any) -> str:
    return value if isinstance(value, str) else ""
