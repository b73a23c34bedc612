"""Input lines, request bodies and answers of a chosen size."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

KB = 1024
MB = 1024 * KB
MODEL = "test-model"
MAX_TOKENS = 64
_SENTENCE = "The question is answered in a sentence of ordinary words, and then in another one. "
_PARAMETERS = len(json.dumps({"model": MODEL, "max_tokens": MAX_TOKENS}))


def _text(size: int) -> str:
    """Plain text of `size` bytes that needs no escaping."""
    return (_SENTENCE * (size // len(_SENTENCE) + 1))[: max(size, 1)]


def message(n: int, body_bytes: int) -> list[dict[str, str]]:
    """The conversation of record `n`, of which a request body of about `body_bytes` is made."""
    start = f"Question {n}: "
    frame = len(json.dumps([{"role": "user", "content": start}])) + len('"messages": ,') + _PARAMETERS
    return [{"role": "user", "content": start + _text(body_bytes - frame)}]


def body(n: int, body_bytes: int) -> dict[str, object]:
    """The request body of record `n`, as all clients send it."""
    return {"model": MODEL, "max_tokens": MAX_TOKENS, "messages": message(n, body_bytes)}


def write_input(path: Path, records: int, body_bytes: int) -> None:
    """Streams an input of `records` lines to `path`."""
    before, after = json.dumps({"messages": message(0, body_bytes)}).split("Question 0: ")
    with path.open("w", encoding="utf-8") as file:
        file.writelines(f"{before}Question {n}: {after}\n" for n in range(records))


def answer(size: int) -> bytes:
    """A chat completion with usage, as services send it, of `size` bytes (at least about 400)."""
    value = {
        "id": "chatcmpl-9hC5vJmG2nZ8qTq1xWk3bYd7",
        "object": "chat.completion",
        "created": 1_760_000_000,
        "model": MODEL,
        "choices": [
            {
                "index": 0,
                "message": {"role": "assistant", "content": "", "refusal": None},
                "logprobs": None,
                "finish_reason": "stop",
            }
        ],
        "usage": {"prompt_tokens": 220, "completion_tokens": 24, "total_tokens": 244},
        "system_fingerprint": "fp_1a2b3c4d5e",
    }
    before, after = json.dumps(value, separators=(",", ":")).split('"content":""')
    room = size - len(before) - len(after) - len('"content":""')
    return f'{before}"content":"{_text(room)}"{after}'.encode()
