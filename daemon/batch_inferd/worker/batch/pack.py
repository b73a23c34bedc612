"""Packing: the open lines of some chunks become files of requests, as large as the service takes them.

A file holds lines of one url, one model and one thinking mode. A line that cannot be sent ends here, in
its chunk's journal.
"""

from __future__ import annotations

import contextlib
import hashlib
import sys
from typing import TYPE_CHECKING, Any, NoReturn

import msgspec

from batch_inferd.backends import rawjson
from batch_inferd.backends.body import ENDPOINT_OF_URL, InvalidLine, Merged
from batch_inferd.images import cutout, embed
from batch_inferd.images.errors import ImageError
from batch_inferd.journal.format import encode_error
from batch_inferd.journal.reader import read_chunk
from batch_inferd.journal.record import RAW_BYTES, error_line
from batch_inferd.money import image_tokens
from batch_inferd.money.budget import Unbounded, bounded
from batch_inferd.seams.failpoint import failpoint
from batch_inferd.worker.batch.chunkfile import ChunkFile
from batch_inferd.worker.batch.context import NoPlan
from batch_inferd.worker.batch.jobjournal import JobJournal
from batch_inferd.worker.batch.packfile import PackFile, estimate_tokens
from batch_inferd.worker.batch.patience import patiently

if TYPE_CHECKING:
    from batch_inferd.images.cutout import Cutout
    from batch_inferd.journal.reader import ChunkState
    from batch_inferd.money.budget import Most
    from batch_inferd.worker.batch.context import JobContext
    from batch_inferd.worker.batch.messages import PackChunk, PackParams

# What makes a model think, or not: one mode a file (dashscope says so, and it is billed apart elsewhere).
THINKING = ("enable_thinking", "thinking", "reasoning", "chat_template_kwargs")
_CHECK_EVERY = 256  # lines
_MODEL_BYTES = 1024
_URL_OF_ENDPOINT = {endpoint: url for url, endpoint in ENDPOINT_OF_URL.items()}
_items = msgspec.json.Decoder(list[msgspec.Raw]).decode


class _Group:
    """Lines that may stand in one file. `url` is None where the Batch API does not have their endpoint."""

    __slots__ = ("endpoint", "file", "max_requests", "model", "url")

    def __init__(self, endpoint: str, url: str | None, model: str, max_requests: int) -> None:
        self.endpoint = endpoint
        self.url = url
        self.model = model
        self.max_requests = max_requests
        self.file: PackFile | None = None


class Packer:
    """One `pack` job. Blocks; see `run`."""

    def __init__(self, context: JobContext, params: PackParams) -> None:
        batch = context.plan.batch
        if batch is None:
            raise NoPlan
        self._context = context
        self._params = params
        self._api = batch.api
        self._line_cap = min(params.max_line_bytes, params.max_bytes)
        self._max_tokens = sys.maxsize if params.max_tokens is None else params.max_tokens
        self._groups: dict[tuple[str | bytes | None, ...], _Group] = {}
        self._files: list[tuple[PackFile, _Group]] = []
        self._filling = 0  # files that are not sealed
        self._ranges = 0
        self._full = False  # nothing more can be packed in this job

    def run(self) -> dict[str, Any]:
        """The job's result; all that it speaks of is durable. Raises OSError, JobCancelled."""
        directory = self._context.directory
        folder = self._params.prefix.rpartition("/")[0]
        try:
            directory.mkdir(folder)
            self._clear(folder)
            chunks = [self._pack(row) for row in sorted(self._params.chunks, key=lambda row: row.first_line)]
            for group in self._groups.values():
                self._seal(group)
            directory.sync(folder)
            directory.sync()
        except BaseException:
            for file, _ in self._files:
                file.abandon()
            with contextlib.suppress(OSError):
                self._clear(folder)
            raise
        failpoint("batch.packed")
        return {
            "packs": [file.to_json(group.url or "", group.model) for file, group in self._files],
            "chunks": chunks,
        }

    def _clear(self, folder: str) -> None:
        """Remove what an earlier run of this job has left."""
        prefix = self._params.prefix.rpartition("/")[2] + "."
        for name in self._context.directory.listdir(folder):
            if name.startswith(prefix):
                self._context.directory.unlink(f"{folder}/{name}")

    # chunks

    def _pack(self, row: PackChunk) -> dict[str, Any]:
        context, params = self._context, self._params
        context.check()
        state = read_chunk(context.directory, row.chunk, params.round, repair=True)
        journal = JobJournal(context.directory, row.chunk, context.job, context.guard)
        source = ChunkFile(context.directory, row)
        try:
            todo = source.open_lines(state)
            total = todo.count(1)
            online = source.online_lines(state, todo)
            for index in online:
                todo[index] = 0
            left = _choose(todo, row)
            ended = len(state.terminals)
            left += self._pack_lines(row.chunk, source, todo, state, journal)
            journal.finish()
        finally:
            source.close()
            journal.abandon()
        return {
            "chunk": row.chunk,
            "counts": state.counts(),
            "open": total - (len(state.terminals) - ended),
            "online": len(online),
            "left": left,
        }

    def _pack_lines(
        self, chunk: int, source: ChunkFile, todo: bytearray, state: ChunkState, journal: JobJournal
    ) -> int:
        """Pack those that are marked, or end them; returns how many are left."""
        left = steps = 0
        limit = self._context.plan.max_line_bytes
        merge = self._context.prepared.builder.merge
        index = todo.find(1)
        while index >= 0:
            if self._full:
                return left + todo.count(1, index)
            steps += 1
            if not steps % _CHECK_EVERY:
                self._context.check()
            number = source.first + index
            length = source.length[index]
            try:
                if length > limit:
                    _refuse_input(number, length, limit)
                left += not self._pack_line(chunk, number, merge(source.read(index), number))
            except InvalidLine as error:
                raw = source.read(index, RAW_BYTES + 1)
                journal.add(self._error(number, state, error, raw))
                state.terminals[number] = "error"
            index = todo.find(1, index + 1)
        return left

    def _error(self, number: int, state: ChunkState, error: InvalidLine, raw: bytes) -> bytes:
        failure = error.cls
        attempts = state.state(number).attempts
        rec = error_line(
            self._context.plan.batch_id,
            error.custom_id,
            code=failure,
            message=str(error),
            attempts=attempts,
            line=number,
            raw=raw,
        )
        return encode_error(
            line=number,
            round=self._params.round,
            attempt=attempts,
            t=self._context.clock.now(),
            failure=failure,
            rec=rec,
        )

    # lines

    def _pack_line(self, chunk: int, number: int, merged: Merged) -> bool:
        """Add the line to the file of its group; whether there was room. Raises InvalidLine."""
        group = self._group(merged)
        if group.url is None:
            raise InvalidLine(f'the service\'s Batch API has no "{_url(merged)}"', merged.custom_id)
        body = merged.body()
        most = self._most(merged, body)
        tokens = estimate_tokens(body)
        images: list[Cutout] = []
        if self._context.prepared.images is not None:
            found = self._without_images(body, merged.custom_id)
            body, images = found.body, found.images
            tokens += sum(_tokens(group.model, pixels) for pixels in found.pixels)
        line = self._context.provider.encode_line(b"r%d" % number, group.url, body)
        size = len(line) + sum(image.sent_size - len(cutout.HOLE) for image in images)
        if size > self._line_cap:
            wrong = f"the request has {size} bytes, the service's Batch API takes {self._line_cap}"
            raise InvalidLine(wrong, merged.custom_id, "too_large")
        inputs = _inputs(merged) if merged.endpoint == "embeddings" else 1
        file = group.file
        if file is not None and (
            file.inputs + inputs > group.max_requests
            or file.bytes + size > self._params.max_bytes
            or file.tokens + tokens > self._max_tokens
        ):
            self._seal(group)
            file = None
        if file is None or not file.extends(chunk, number):
            if self._ranges >= self._params.max_ranges:
                self._full = True
                return False
            if file is None:
                if len(self._files) >= self._params.max_files:
                    self._full = not self._filling
                    return False
                file = self._open(group)
            self._ranges += 1
        file.add(chunk, number, _with_images(line, images), size, tokens, inputs)
        if most is not None:
            file.weigh(most)
        return True

    def _most(self, merged: Merged, body: bytes) -> Most | None:
        """The most tokens of a request; None without a budget. Raises InvalidLine."""
        terms = self._context.prepared.budget
        if terms is None:
            return None
        try:
            return bounded(merged.endpoint, body, terms, own_model=merged.own_model)
        except Unbounded as error:
            raise InvalidLine(str(error), merged.custom_id) from error

    def _without_images(self, body: bytes, custom_id: bytes) -> cutout.Cut:
        """The body with holes for its images, which are checked. Raises InvalidLine, JobCancelled."""
        plan = self._context.prepared.images
        if plan is None or not embed.has_references(body, fetch_urls=plan.fetch_urls):
            return cutout.Cut(body, [], [])
        try:
            return patiently(self._context, lambda: cutout.cut(body, plan, self._line_cap))
        except ImageError as error:
            raise InvalidLine(str(error), custom_id, error.cls) from error

    def _group(self, merged: Merged) -> _Group:
        """The group of a request. Raises InvalidLine."""
        fields = merged.fields
        model = bytes(fields.get("model", b""))
        mode = [_short(fields[name]) if name in fields else None for name in THINKING]
        key = (merged.endpoint, model, *mode)
        group = self._groups.get(key)
        if group is None:
            if len(model) > _MODEL_BYTES:
                raise InvalidLine(f"the model's name has {len(model)} bytes", merged.custom_id)
            name = _text(model)
            url = self._api.model_urls.get(name) or self._api.urls.get(merged.endpoint)
            most = self._api.max_requests_of.get(merged.endpoint, self._params.max_requests)
            group = _Group(merged.endpoint, url, name, min(most, self._params.max_requests))
            self._groups[key] = group
        return group

    def _open(self, group: _Group) -> PackFile:
        name = f"{self._params.prefix}.{len(self._files) + 1}.jsonl"
        file = group.file = PackFile(
            self._context.directory, name, holed=self._context.prepared.images is not None
        )
        self._files.append((file, group))
        self._filling += 1
        return file

    def _seal(self, group: _Group) -> None:
        if group.file is not None:
            group.file.seal()
            group.file = None
            self._filling -= 1


def _tokens(model: str, pixels: tuple[int, int] | None) -> int:
    """Of an image; of one whose size is not known, the most."""
    return image_tokens.most_tokens(model) if pixels is None else image_tokens.tokens(model, *pixels)


def _with_images(line: bytes, images: list[Cutout]) -> list[bytes | Cutout]:
    """The pieces of an encoded line, with the images in the holes between them."""
    if not images:
        return [line]
    pieces: list[bytes | Cutout] = []
    for piece, image in zip(line.split(cutout.HOLE), [*images, None], strict=True):
        pieces += [piece] if image is None else [piece, image]
    return pieces


def _refuse_input(number: int, length: int, limit: int) -> NoReturn:
    raise InvalidLine(f"the line has {length} bytes, allowed are {limit}", b'"%d"' % number)


def _choose(todo: bytearray, row: PackChunk) -> int:
    """Unmark what is excluded, and what is not wanted now; returns how many of the latter there are."""
    for first, last in row.exclude:
        _clear(todo, first - row.first_line, last + 1 - row.first_line)
    if row.only is None:
        return 0
    wanted = bytearray(len(todo))
    for first, last in row.only:
        begin, end = max(0, first - row.first_line), max(0, last + 1 - row.first_line)
        wanted[begin:end] = todo[begin:end]
    left = todo.count(1) - wanted.count(1)
    todo[:] = wanted
    return left


def _clear(marks: bytearray, begin: int, end: int) -> None:
    begin, end = max(0, begin), min(end, len(marks))
    if begin < end:
        marks[begin:end] = bytes(end - begin)


def _short(raw: bytes | memoryview) -> bytes:
    """Something that stands for the value, and is short."""
    data = bytes(raw)
    return data if len(data) <= 100 else hashlib.sha256(data).digest()


def _text(model: bytes) -> str:
    """The model's name; what is none stands for itself. Half a surrogate pair becomes a question mark."""
    value = rawjson.loads(model) if model else ""
    return value.encode("utf-8", "replace").decode() if isinstance(value, str) else model.decode()


def _url(merged: Merged) -> str:
    return _URL_OF_ENDPOINT.get(merged.endpoint, merged.endpoint)


def _inputs(merged: Merged) -> int:
    """How many texts an embeddings request holds: that is what services count."""
    raw = bytes(merged.fields.get("input", b""))
    if raw[:1] != b"[":
        return 1
    try:
        items = _items(raw)
    except (msgspec.DecodeError, RecursionError):
        return 1
    # A list of numbers is one text that was cut into tokens already.
    return len(items) if items and bytes(items[0])[:1] in (b'"', b"[") else 1
