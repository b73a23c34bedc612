"""The validation of a batch's input file, a block of lines at a time, with OpenAI's words."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec

from batch_inferd.testing.batch_rows import Listed
from batch_inferd.testing.chat import parse_chat
from batch_inferd.testing.embeddings import parse_embeddings
from batch_inferd.testing.errors import ApiError

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from batch_inferd.testing.calls import Call
    from batch_inferd.testing.controls import Controls

BLOCK_LINES = 5000
BLOCK_BYTES = 4 << 20
MAX_PROBLEMS = 50_000  # as many as a batch may have lines

# A batch's endpoint, and the `url` of each line, end in one of these.
_ENDPOINTS: dict[str, Callable[[bytes], Call]] = {
    "/chat/completions": parse_chat,
    "/embeddings": parse_embeddings,
    "/chat/ds-test": parse_chat,  # DashScope's free trial
}
_NO_BODY = msgspec.Raw(b"")


class Problem(NamedTuple):
    """One entry of `errors.data`."""

    code: str
    message: str
    line: int | None = None  # 1-based, in the file
    param: str | None = None


class Request(msgspec.Struct):
    """One line of an input file."""

    custom_id: Any = None
    method: Any = None
    url: Any = None
    body: msgspec.Raw = _NO_BODY


class _Body(msgspec.Struct):
    model: Any = None


decode_request = msgspec.json.Decoder(Request).decode
_decode_body = msgspec.json.Decoder(_Body).decode


def parser_of(endpoint: str) -> Callable[[bytes], Call] | None:
    """How the bodies for an endpoint are read; None for one that cannot be batched."""
    return next((parse for end, parse in _ENDPOINTS.items() if endpoint.endswith(end)), None)


class Check:
    """Reads one file to its end, and knows what is wrong with it."""

    def __init__(self, path: Path, endpoint: str, controls: Controls) -> None:
        """Open the file. Raises OSError."""
        parse = parser_of(endpoint)
        if parse is None:
            raise ValueError(f"{endpoint} cannot be batched")
        self._parse = parse
        self._endpoint = endpoint
        self.controls = controls
        self._file = path.open("rb", buffering=1 << 20)
        self._ids: set[str] = set()
        self._line = 0
        self.lines = 0  # requests
        self.tokens = 0
        self.model: str | None = None
        self.problems: list[Problem] = []
        self.invalid: list[int] = []  # lines that have a text of batch_invalid
        self.ended = False

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def read_block(self) -> list[Listed]:
        """Go on with the file; what stands in it. Sets `ended` at its end, or when it is hopeless."""
        listed: list[Listed] = []
        size = 0
        while len(listed) < BLOCK_LINES and size < BLOCK_BYTES:
            raw = self._file.readline()
            if not raw:
                self._end()
                break
            self._line += 1
            size += len(raw)
            if not raw.isspace():
                listed.append(self._read(raw))
                self.lines += 1
                if self.lines > self.controls.batch_max_requests:
                    self._too_many()
                    break
        return listed

    def _end(self) -> None:
        self.ended = True
        self._ids.clear()
        if not self.lines:
            self._add("empty_file", "The input file is empty. Please make sure that it has requests.")
        elif self.model is not None:
            self._check_model(self.model)

    def _too_many(self) -> None:
        self.ended = True
        limit = self.controls.batch_max_requests
        self.problems = [
            Problem("too_many_tasks", f"The batch input file has more requests than the maximum of {limit}.")
        ]

    def _read(self, raw: bytes) -> Listed:
        """One line: its problems are kept, and what it is about is returned."""
        try:
            request = decode_request(raw)
        except (msgspec.DecodeError, UnicodeError, RecursionError):
            self._add("invalid_json_line", "This line is not parseable as valid JSON.", self._line)
            return Listed(self._line, None, None)
        custom_id = request.custom_id if isinstance(request.custom_id, str) else None
        self._check_head(request, custom_id)
        body = bytes(request.body)
        try:
            call = self._parse(body)
        except ApiError:  # this line's own result will say so
            self._check_body(body)
            return Listed(self._line, custom_id, None)
        self._same_model(call.model)
        self.tokens += call.tokens_in
        invalid = self.controls.batch_invalid
        if invalid and any(text in call.text for text in invalid):
            self.invalid.append(self._line)
        return Listed(self._line, custom_id, bytes.fromhex(call.digest))

    def _check_head(self, request: Request, custom_id: str | None) -> None:
        if not custom_id:
            self._missing("custom_id")
        elif custom_id in self._ids:
            self._add(
                "duplicate_custom_id",
                "The custom_id for this request is a duplicate of another request. The custom_id parameter"
                " must be unique for each request in a batch.",
                self._line,
                "custom_id",
            )
        else:
            self._ids.add(custom_id)
        if request.method != "POST":
            if request.method is None:
                self._missing("method")
            else:
                message = f"Invalid method: {request.method!r}. The only supported method is 'POST'."
                self._add("invalid_method", message, self._line, "method")
        if request.url != self._endpoint:
            if request.url is None:
                self._missing("url")
            else:
                message = "The URL provided for this request does not match the batch endpoint."
                self._add("invalid_url", message, self._line, "url")

    def _check_body(self, body: bytes) -> None:
        """The least that a body must have for its line to be worked on."""
        try:
            model = _decode_body(body).model if body else None
        except (msgspec.DecodeError, UnicodeError, RecursionError):
            model = None
        if not body:
            self._missing("body")
        elif not isinstance(model, str) or not model:
            self._missing("body.model")
        else:
            self._same_model(model)

    def _same_model(self, model: str) -> None:
        if self.model is None:
            self.model = model
        elif model != self.model:
            self._add(
                "mismatched_model",
                "The model for this request does not match the rest of the batch. Each batch must contain"
                " requests for a single model.",
                self._line,
                "body.model",
            )

    def _check_model(self, model: str) -> None:
        listed = self.controls.batch_model_whitelist
        if model in self.controls.unknown_models or (listed and model not in listed):
            message = f"The provided model '{model}' is not supported by the Batch API."
            self.problems = [Problem("model_not_found", message, 1, "body.model")]

    def _missing(self, param: str) -> None:
        message = f"Missing required parameter: '{param}'."
        self._add("missing_required_parameter", message, self._line, param)

    def _add(self, code: str, message: str, line: int | None = None, param: str | None = None) -> None:
        if len(self.problems) < MAX_PROBLEMS:
            self.problems.append(Problem(code, message, line, param))
