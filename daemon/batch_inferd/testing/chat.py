"""POST /v1/chat/completions: checks the conversation, and answers so that a test can recognise it."""

from __future__ import annotations

import re
from typing import Any, NamedTuple

from batch_inferd.testing.calls import content_digest, count_tokens, decode_object, required_model
from batch_inferd.testing.errors import ApiError, invalid

_ROLES = frozenset({"system", "developer", "user", "assistant", "tool", "function"})
_QUOTED = 40  # characters of the prompt that the answer repeats
_SHOWN = 16  # hex digits of the digest that the answer shows
_CHINESE = re.compile("[\u4e00-\u9fff]")
_MESSAGE_TOKENS = 4  # what a message costs beside its text


class ChatCall(NamedTuple):
    """A conversation that was found good."""

    model: str
    digest: str
    text: str
    tokens_in: int
    texts: tuple[str, ...] = ()
    limit: int | None = None  # of the answer's tokens

    def answer(self, serial: int, created: int) -> dict[str, Any]:
        """A `chat.completion` with one choice."""
        content = _content(self.text, self.digest)
        tokens_out = count_tokens(content)
        return {
            "id": f"chatcmpl-{serial:012d}{self.digest[:_SHOWN]}",
            "object": "chat.completion",
            "created": created,
            "model": self.model,
            "choices": [
                {
                    "index": 0,
                    "message": {"role": "assistant", "content": content, "refusal": None},
                    "logprobs": None,
                    "finish_reason": "stop",
                }
            ],
            "usage": {
                "prompt_tokens": self.tokens_in,
                "completion_tokens": tokens_out,
                "total_tokens": self.tokens_in + tokens_out,
            },
        }


def parse_chat(body: bytes) -> ChatCall:
    """The call in a body. Raises ApiError (400), as the real one does."""
    data = decode_object(body)
    if data.get("stream"):
        raise invalid("This service does not stream: leave out `stream`, or set it to false.", param="stream")
    model = required_model(data)
    messages = data.get("messages")
    if messages is None:
        raise invalid("Missing required parameter: 'messages'.", param="messages")
    if not isinstance(messages, list):
        raise invalid("Invalid type for 'messages': expected an array of objects.", param="messages")
    if not messages:
        raise invalid("Invalid 'messages': empty array. Expected at least one message.", param="messages")
    texts = [_message_text(message, f"messages[{index}]") for index, message in enumerate(messages)]
    digest = content_digest(messages)
    asked = _last_user_text(messages, texts)
    tokens_in = sum(_MESSAGE_TOKENS + count_tokens(text) for text in texts)
    limit = data.get("max_completion_tokens", data.get("max_tokens"))
    return ChatCall(model, digest, asked, tokens_in, tuple(texts), limit if isinstance(limit, int) else None)


def answer_text(messages: list[dict[str, Any]]) -> str:
    """What the service answers to a conversation: for tests that check whose answer they hold."""
    texts = [_message_text(message, "messages") for message in messages]
    return _content(_last_user_text(messages, texts), content_digest(messages))


def _content(asked: str, digest: str) -> str:
    start = " ".join(asked[: _QUOTED * 2].split())[:_QUOTED]
    if _CHINESE.search(start):
        return f"您问的是“{start}”。这是测试服务给出的回答。[{digest[:_SHOWN]}]"
    return f"You asked “{start}”. This is the test service's answer. [{digest[:_SHOWN]}]"


def _last_user_text(messages: list[Any], texts: list[str]) -> str:
    for message, text in zip(reversed(messages), reversed(texts), strict=True):
        if message["role"] == "user":
            return text
    return texts[-1]


def _message_text(message: Any, where: str) -> str:
    """The text of one message, parts joined. Raises ApiError (400)."""
    if not isinstance(message, dict):
        raise invalid(f"Invalid type for '{where}': expected an object.", param=where)
    role = message.get("role")
    if not isinstance(role, str) or role not in _ROLES:
        raise invalid(
            f"Invalid value for '{where}.role': supported values are {', '.join(sorted(_ROLES))}.",
            param=f"{where}.role",
            code=None if role is None else "invalid_value",
        )
    content = message.get("content")
    if isinstance(content, str):
        return content
    if content is None and role == "assistant":
        return ""  # an assistant's turn may be tool calls only
    if isinstance(content, list):
        return "".join(_part_text(part, where) for part in content)
    raise _bad_content(where)


def _part_text(part: Any, where: str) -> str:
    if not isinstance(part, dict):
        raise _bad_content(where)
    text = part.get("text", "")  # images and sounds have none
    if not isinstance(text, str):
        raise _bad_content(where)
    return text


def _bad_content(where: str) -> ApiError:
    return invalid(
        f"Invalid type for '{where}.content': expected one of a string or array of objects.",
        param=f"{where}.content",
        code="invalid_type",
    )
