"""POST /v1/embeddings: unit vectors that depend on the text alone."""

from __future__ import annotations

import array
import base64
import hashlib
import math
import sys
from typing import Any, NamedTuple

from batch_inferd.testing.calls import content_digest, count_tokens, decode_object, required_model
from batch_inferd.testing.errors import ApiError, invalid

DEFAULT_DIMENSIONS = 8
MAX_DIMENSIONS = 3072  # as OpenAI's largest model
MAX_INPUTS = 2048  # as OpenAI

Input = str | list[int]


class EmbeddingsCall(NamedTuple):
    """An input that was found good."""

    model: str
    digest: str
    text: str
    inputs: list[Input]
    dimensions: int
    base64: bool

    @property
    def texts(self) -> tuple[str, ...]:
        """The inputs that are texts."""
        return tuple(item for item in self.inputs if isinstance(item, str))

    @property
    def tokens_in(self) -> int:
        """Tokens of all inputs."""
        return sum(count_tokens(item) if isinstance(item, str) else len(item) for item in self.inputs)

    def answer(self, serial: int, created: int) -> dict[str, Any]:  # noqa: ARG002  part of Call
        """A `list` of one embedding an input. It has neither id nor time, as the real one."""
        tokens = self.tokens_in
        return {
            "object": "list",
            "data": [
                {"object": "embedding", "index": index, "embedding": self._encoded(item)}
                for index, item in enumerate(self.inputs)
            ],
            "model": self.model,
            "usage": {"prompt_tokens": tokens, "total_tokens": tokens},
        }

    def _encoded(self, item: Input) -> list[float] | str:
        values = embedding(item, self.dimensions)
        if not self.base64:
            return values.tolist()
        if sys.byteorder == "big":
            values.byteswap()
        return base64.b64encode(values.tobytes()).decode("ascii")


def embedding(item: Input, dimensions: int = DEFAULT_DIMENSIONS) -> array.array[float]:
    """The vector of a text or of token numbers: float32, length one."""
    seed = hashlib.sha256(content_digest(item).encode()).digest()
    stream = hashlib.shake_256(seed).digest(4 * dimensions)
    raw = [int.from_bytes(stream[i : i + 4], "big") / 2**31 - 1 for i in range(0, len(stream), 4)]
    length = math.hypot(*raw) or 1.0
    return array.array("f", (value / length for value in raw))


def parse_embeddings(body: bytes) -> EmbeddingsCall:
    """The call in a body. Raises ApiError (400)."""
    data = decode_object(body)
    model = required_model(data)
    given = data.get("input")
    inputs = _inputs(given)
    dimensions = data.get("dimensions", DEFAULT_DIMENSIONS)
    if type(dimensions) is not int or not 1 <= dimensions <= MAX_DIMENSIONS:
        raise invalid(
            f"Invalid 'dimensions': must be an integer from 1 to {MAX_DIMENSIONS}.", param="dimensions"
        )
    encoding = data.get("encoding_format", "float")
    if encoding not in ("float", "base64"):
        raise invalid(
            "Invalid 'encoding_format': supported values are 'float' and 'base64'.", param="encoding_format"
        )
    text = "\n".join(item for item in inputs if isinstance(item, str))
    return EmbeddingsCall(model, content_digest(given), text, inputs, dimensions, encoding == "base64")


def _inputs(given: Any) -> list[Input]:
    if given is None:
        raise invalid("Missing required parameter: 'input'.", param="input")
    if isinstance(given, str) or (isinstance(given, list) and given and _is_tokens(given)):
        given = [given]
    if not isinstance(given, list):
        raise _bad_input("expected a string, an array of strings, or arrays of token numbers")
    if not given:
        raise _bad_input("it is empty")
    if len(given) > MAX_INPUTS:
        raise _bad_input(f"at most {MAX_INPUTS} inputs")
    for item in given:
        if not item:
            raise _bad_input("an input is empty")
        if not isinstance(item, str) and not _is_tokens(item):
            raise _bad_input("expected a string, an array of strings, or arrays of token numbers")
    return given


def _is_tokens(value: Any) -> bool:
    return isinstance(value, list) and all(type(number) is int for number in value)


def _bad_input(why: str) -> ApiError:
    return invalid(f"Invalid 'input': {why}.", param="input")
