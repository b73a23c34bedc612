"""JSON Lines: requests that are there already, and seed records of a prompt with images."""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any

from batch_infer.protocol.errors import InputError
from batch_infer.protocol.text import Text
from batch_inferd.backends import rawjson
from batch_inferd.sources.bytelines import MAX_LINE, byte_lines
from batch_inferd.sources.files import pin_file, read_blocks
from batch_inferd.sources.refs import References
from batch_inferd.sources.row import (
    INVALID,
    BadRow,
    Row,
    conversation,
    dumps,
    identity,
    quoted_name,
    unexpected,
)
from batch_inferd.sources.table import compiled, folder_of
from batch_inferd.sources.text import check_encoding, text_blocks

if TYPE_CHECKING:
    from collections.abc import Iterator

    from batch_inferd.sources.spec import SourceSpec
    from batch_inferd.sources.stream import Place

_OURS = ("$source", "$error")
PROMPT = "input_prompt"
IMAGES = "images"


class _LineReader(ABC):
    """The lines of a file as rows. Blank ones are none."""

    def __init__(self, spec: SourceSpec, longest: int = MAX_LINE) -> None:
        """`longest` is the bytes of a line that is not an error. Raises InputError."""
        pin_file(spec.path)
        if spec.encoding:
            check_encoding(spec.encoding)
        self._spec = spec
        self._longest = longest
        self._name = os.path.basename(spec.path)

    def pin(self) -> dict[str, Any]:
        """See `Source.pin`."""
        return pin_file(self._spec.path)

    def count(self) -> None:
        """Not known before all of it is read."""
        return

    def rows(self, first: int, place: Place | None) -> Iterator[Row]:  # noqa: ARG002  files have no places
        """See `Reader.rows`."""
        for index, (number, line) in enumerate(byte_lines(self._blocks(), self._longest)):
            if index < first:
                continue
            yield self._made(index, number, line)

    def _made(self, index: int, number: int, line: bytes) -> Row:
        where = f"{self._name}, line {number}"
        try:
            return self._row(index, number, self._bounded(line))
        except BadRow as bad:
            error = bad.cls, f"{where}: {bad}"
        except rawjson.InvalidJson as bad:
            error = INVALID, f"{where}: {bad}"
        except Exception as surprise:  # noqa: BLE001  whatever it is, it is this row's
            error = unexpected(surprise, where)
        return Row(index, str(number), {"row": index, "line": number}, error=error)

    def _bounded(self, line: bytes) -> bytes:
        if len(line) > self._longest:
            raise BadRow(INVALID, f"longer than {self._longest} bytes")
        return line

    @abstractmethod
    def _row(self, index: int, number: int, line: bytes) -> Row:
        """What a line becomes. Raises BadRow, rawjson.InvalidJson."""

    def _blocks(self) -> Iterator[bytes]:
        """In UTF-8. What could not be decoded stays no UTF-8."""
        blocks = read_blocks(self._spec.path, self._spec.compression)
        if not self._spec.encoding:
            return blocks
        texts = text_blocks(blocks, self._spec.encoding, self._name)
        return (text.encode("utf-8", "surrogatepass") for text in texts)


class JsonlReader(_LineReader):
    """Lines that are requests already: everything in them stays, and an id is added where there is none."""

    def _row(self, index: int, number: int, line: bytes) -> Row:
        fields = rawjson.split_object(line)
        custom_id = identity(fields.pop("custom_id", None))
        for name in _OURS:
            fields.pop(name, None)
        members = b",".join(quoted_name(name) + bytes(raw) for name, raw in fields.items())
        source = {"row": index, "line": number}
        return Row(index, str(number) if custom_id is None else custom_id, source, members=members)


class ChatImagesReader(_LineReader):
    """Lines of `id`, `input_prompt` and `images`; or of any fields, of which the prompt is made."""

    def __init__(self, spec: SourceSpec, longest: int = MAX_LINE) -> None:
        """Raises InputError, also for a template that is none."""
        super().__init__(spec, longest)
        self._id = spec.id_column or "id"
        self._images = spec.image_columns or [IMAGES]
        self._prompt = compiled(spec.prompt or "{" + PROMPT + "}", "prompt")
        self._system = compiled(spec.system, "system")
        self._refs = References(folder_of(spec))

    def _row(self, index: int, number: int, line: bytes) -> Row:
        fields = rawjson.loads(line)
        if not isinstance(fields, dict):
            raise BadRow(INVALID, "not a JSON object")
        own = fields.get(self._id)
        usable = isinstance(own, (str, int)) and not isinstance(own, bool)
        custom_id = str(own) if usable else str(number)
        images = {name: fields.get(name) for name in self._images}
        source = {
            "row": index,
            "line": number,
            "id": own if usable else custom_id,
            PROMPT: fields.get(PROMPT),
            IMAGES: next(iter(images.values())) if len(images) == 1 else list(images.values()),
        }
        try:
            texts = {
                name: value if isinstance(value, str) else dumps(value).decode()
                for name, value in fields.items()
            }
            system = self._system.render(texts) if self._system else None
            prompt = self._prompt.render(texts) if self._prompt else ""
            if source[PROMPT] is None:
                source[PROMPT] = prompt
            refs = [ref for name, cell in images.items() for ref in self._refs.all_of(name, cell)]
            messages = conversation(system, prompt, refs)
        except KeyError as missing:
            error = (INVALID, f'{self._name}, line {number}: the field "{missing.args[0]}" is missing')
            return Row(index, custom_id, source, error=error)
        except BadRow as bad:
            return Row(index, custom_id, source, error=(bad.cls, f"{self._name}, line {number}: {bad}"))
        return Row(index, custom_id, source, messages=messages)


def no_lines(path: str) -> InputError:
    """The error for a JSON array, which is not one object a line."""
    return InputError(
        Text(
            "{path} begins with '[': it is a JSON array, and JSON Lines has one object a line", {"path": path}
        ),
        hints=(Text("convert it: jq -c '.[]' FILE.json > FILE.jsonl"),),
    )
