"""What chat and embeddings have in common: a checked request that knows its answer."""

from __future__ import annotations

import hashlib
from typing import Any, Protocol

import msgspec

from batch_inferd.testing.errors import invalid


class Call(Protocol):
    """A request whose body was found good."""

    @property
    def model(self) -> str:
        """The body's model."""

    @property
    def digest(self) -> str:
        """SHA-256 (hex) of the canonical messages or input."""

    @property
    def text(self) -> str:
        """What content rules look at: the last user message, or the whole input."""

    @property
    def texts(self) -> tuple[str, ...]:
        """All texts that are read."""

    @property
    def tokens_in(self) -> int:
        """What it costs to read it."""

    def answer(self, serial: int, created: int) -> dict[str, Any]:
        """The body of the answer, with a `usage`. Only id and time differ between equal calls."""


def decode_object(body: bytes) -> dict[str, Any]:
    """The JSON object of a body. Raises ApiError (400)."""
    try:
        data = msgspec.json.decode(body)
    except (msgspec.DecodeError, UnicodeError, RecursionError) as error:
        raise invalid(f"We could not parse the JSON body of your request: {error}") from error
    if not isinstance(data, dict):
        raise invalid("The JSON body of your request is not an object.")
    return data


def required_model(data: dict[str, Any]) -> str:
    """The body's `model`. Raises ApiError (400)."""
    model = data.get("model")
    if not isinstance(model, str) or not model:
        raise invalid("you must provide a model parameter", param="model")
    return model


def content_digest(value: Any) -> str:
    """SHA-256 (hex) of a JSON value in a canonical form: keys sorted, no spaces, characters raw."""
    return hashlib.sha256(msgspec.json.encode(value, order="sorted")).hexdigest()


def count_tokens(text: str) -> int:
    """The service's simple rule: a token is four bytes of UTF-8, begun ones count."""
    return (len(text.encode()) + 3) // 4
