"""The Batch API of OpenAI, and of all who speak it: files go up, a batch is made of one, files come down."""

from __future__ import annotations

import contextlib
import email.utils
import re
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import msgspec

from batch_infer.protocol.text import Text
from batch_inferd.backends import rawjson
from batch_inferd.backends.batch import lines, verdicts
from batch_inferd.backends.batch.errors import NotFound, ProviderError, Refused, Throttled, Unsettled
from batch_inferd.backends.batch.http import MAX_REPLY, HttpClient
from batch_inferd.backends.batch.multipart import FormUpload, open_upload
from batch_inferd.backends.batch.paging import MAX_PAGES, PAGE, read_page
from batch_inferd.backends.batch.provider import (
    MAX_RESULT_BYTES,
    TOKEN_KEY,
    BatchOrder,
    BatchState,
    BatchStatus,
    ResultLine,
    ResultRef,
    Upload,
)
from batch_inferd.backends.batch.status import read_status, text_of
from batch_inferd.backends.batch.verdicts import Call, Judge
from batch_inferd.backends.redact import Redactor
from batch_inferd.backends.transport import HttpReply, SentFailed
from batch_inferd.seams.failpoint import failpoint

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator, Callable

    from batch_inferd.backends.batch.api import BatchApi
    from batch_inferd.backends.plan import RequestPlan
    from batch_inferd.seams.clock import Clock

SKEW_S = 300.0  # by so much may a batch be older than we think; the service's clock is asked, too

_FILE_PAGES = 20  # of the newest files, to find an upload in
_PREPARING = frozenset({"pending", "running", "notrunning", "processing", "uploading", "queued", "importing"})
_UNUSABLE = frozenset({"error", "failed", "deleted", "deleting", "cancelled", "canceled"})
_READY_S = 900.0  # a file that is still not ready: later
_LOOK_S = (1.0, 15.0)  # first and longest wait between two looks at it
_DEPLOYMENT = re.compile(
    r"/deployments/[^/]+$"
)  # Azure's calls have one in the URL; its files and batches not
_MODELS_MAX = 100_000
_TITLE_MAX = 100  # OpenAI takes 512 in a value of metadata, DashScope 100 as a batch's name


class OpenAIBatches:
    """A `BatchProvider`. Make it inside the loop that uses it."""

    def __init__(self, plan: RequestPlan, api: BatchApi, clock: Clock) -> None:
        self._api = api
        self._clock = clock
        self._http = HttpClient(plan)
        self._redactor = Redactor(plan)
        self._judge = Judge(plan, api, self._redactor)
        root = _DEPLOYMENT.sub("", plan.base_url)
        self._models = f"{plan.base_url}{api.models_path}" if api.models_path else None
        self._files, self._batches = f"{root}{api.files_path}", f"{root}{api.batches_path}"
        self._uploads = f"{root}{api.upload_path}"
        self._skew = 0.0  # the service's clock less ours, where it is behind

    def encode_line(self, key: bytes, url: str, body: bytes) -> bytes:
        """See BatchProvider."""
        if len(key) < self._api.min_id:
            key = key[:1] + key[1:].rjust(self._api.min_id - 1, b"0")
        return lines.encode_line(key, url, body, bare=self._api.bare_lines)

    def decode_line(self, line: bytes) -> ResultLine:
        """See BatchProvider."""
        result = lines.decode_line(line)
        if self._api.min_id and result.key is not None:
            result.key = result.key[:1] + (result.key[1:].lstrip("0") or result.key[1:])
        result.message = self._redactor.text(result.message)
        return result

    async def upload(self, file: Upload, progress: Callable[[int], None]) -> str | None:
        """See BatchProvider. Waits until the service has taken the file in, where it takes its time."""
        fields = {"purpose": self._api.purpose}
        fields |= {n: v.replace("{filename}", file.filename) for n, v in self._api.upload_extra.items()}
        opened = await open_upload(file)
        with contextlib.closing(opened), self._unsettled(verdicts.UPLOAD):
            form = FormUpload(fields, file.filename, opened, file.size, progress)
            answer = await self._http.upload(self._uploads, form)
        made = self._object(verdicts.UPLOAD, answer)
        file_id = text_of(made.get("id"))
        if file_id is None:
            raise self._judge.failure(verdicts.UPLOAD, answer, self._clock.now())
        await self._until_ready(file_id, made)
        return file_id

    async def find_upload(self, file: Upload) -> str | None:
        """See BatchProvider. It waits as `upload` does; a service without a list of files has none."""
        pages = self._pages(verdicts.FILES, self._files, self._api.files_query)
        count = 0
        try:
            async with contextlib.aclosing(pages):
                async for page, _ in pages:
                    for entry in page:
                        file_id = text_of(entry.get("id"))
                        if file_id and _is_upload(entry, file):
                            with contextlib.suppress(NotFound):  # gone since: look on
                                await self._until_ready(file_id, entry)
                                return file_id
                    count += 1
                    if count >= _FILE_PAGES:
                        break
        except Refused as error:
            if error.code != verdicts.NO_BATCH_API:
                raise
        return None

    async def create(self, order: BatchOrder) -> BatchStatus:
        """See BatchProvider."""
        fields: dict[str, Any] = {"input_file_id": order.input_ref, "endpoint": order.url}
        if order.window:
            fields["completion_window"] = order.window
        if self._api.metadata:
            fields["metadata"] = {TOKEN_KEY: order.token, self._api.title_key: order.title[:_TITLE_MAX]}
        body = msgspec.json.encode(fields | self._api.create_extra)
        with self._unsettled(verdicts.CREATE):
            answer = await self._http.call(
                "POST",
                self._batches,
                body=body,
                on_sent=lambda: failpoint("batch.create_sent"),
                on_answered=lambda: failpoint("batch.create_answered"),
            )
        return self._status(verdicts.CREATE, answer)

    async def retrieve(self, batch_id: str) -> BatchStatus:
        """See BatchProvider."""
        answer = await self._call(verdicts.RETRIEVE, "GET", self._one(self._batches, batch_id))
        return self._status(verdicts.RETRIEVE, answer, batch_id)

    async def recent(self, since: float) -> AsyncIterator[BatchStatus]:
        """See BatchProvider. Ends with the first page on which all are older, whatever the page's order."""
        pages = self._pages(verdicts.BATCHES, self._batches, {})
        async with contextlib.aclosing(pages):
            async for page, skew in pages:
                oldest = since + min(0.0, skew) - SKEW_S
                found = [status for entry in page if (status := read_status(entry, self._redactor.text))]
                times = [status.created for status in found if status.created is not None]
                for status in found:
                    if status.created is None or status.created >= oldest:
                        yield status
                rising = len(times) > 1 and times[0] < times[-1]  # oldest first: the newest are still to come
                if times and max(times) < oldest and not rising:
                    return

    async def cancel(self, batch_id: str) -> BatchStatus | None:
        """See BatchProvider. A refusal is followed by a look: a batch that has ended is no error."""
        with self._unsettled(verdicts.CANCEL):
            answer = await self._http.call("POST", f"{self._one(self._batches, batch_id)}/cancel")
        failpoint("batch.cancel_sent")
        if 200 <= answer.status < 300:
            return read_status(_read_object(answer.body) or {}, self._redactor.text, batch_id)
        error = self._judge.failure(verdicts.CANCEL, answer, self._clock.now())
        if not 400 <= answer.status < 500 or not isinstance(error, Refused | Unsettled):
            raise error
        status = await self.retrieve(batch_id)
        if status.state.is_final:
            return None
        if status.state is BatchState.CANCELLING:
            return status
        raise error

    async def download(
        self,
        ref: ResultRef,
        write: Callable[[bytes], None],
        opened: Callable[[], None],
        *,
        max_bytes: int = MAX_RESULT_BYTES,
    ) -> int:
        """See BatchProvider. A file beyond `max_bytes` is Refused."""
        foreign = ref.ref.startswith(("https://", "http://"))  # some services give an address for an id
        url = ref.ref if foreign else f"{self._one(self._files, ref.ref)}/content"
        size = 0
        with self._unsettled(verdicts.DOWNLOAD):
            async with self._http.download(url, foreign=foreign) as reply:
                if not 200 <= reply.status < 300:
                    answer = HttpReply(reply.status, reply.headers, await _start(reply.pieces))
                    raise self._judge.failure(verdicts.DOWNLOAD, answer, self._clock.now())
                opened()
                async for piece in reply.pieces:
                    size += len(piece)
                    if size > max_bytes:
                        raise self._too_large(max_bytes)
                    write(piece)
                framed = reply.framed
        if not framed and not foreign:
            await self._check_size(ref.ref, size)
        return size

    async def delete_upload(self, input_ref: str) -> None:
        """See BatchProvider."""
        with contextlib.suppress(NotFound):
            await self._call(verdicts.DELETE, "DELETE", self._one(self._files, input_ref))

    async def models(self) -> list[str] | None:
        """See BatchProvider."""
        if self._models is None:
            return None
        try:
            answer = await self._call(verdicts.MODELS, "GET", self._models)
        except Refused as error:
            if error.status in {404, 405, 501}:
                return None
            raise
        page = read_page(_read_json(answer.body))
        if page is None:
            return None
        found = (text_of(entry.get("id")) for entry in page.objects[:_MODELS_MAX])
        return [name for name in found if name]

    async def ping_batches(self) -> None:
        """See BatchProvider."""
        answer = await self._call(verdicts.BATCHES, "GET", self._batches, {"limit": "1"})
        if read_page(_read_json(answer.body)) is None:
            raise self._judge.failure(verdicts.BATCHES, answer, self._clock.now())

    async def close(self) -> None:
        """See BatchProvider."""
        await self._http.close()

    @contextlib.contextmanager
    def _unsettled(self, call: Call) -> Any:
        try:
            yield
        except SentFailed as error:
            raise self._judge.unsettled(call, error) from error

    async def _call(
        self, call: Call, method: str, url: str, query: dict[str, str] | None = None
    ) -> HttpReply:
        with self._unsettled(call):
            answer = await self._http.call(method, url, query=query)
        if not 200 <= answer.status < 300:
            raise self._judge.failure(call, answer, self._clock.now())
        return answer

    async def _pages(
        self, call: Call, url: str, query: dict[str, str]
    ) -> AsyncGenerator[tuple[list[dict[str, Any]], float], None]:
        """The pages of a list, each with the seconds that the service's clock is ahead of ours."""
        limit = PAGE
        following: dict[str, str] = {}
        seen: set[str] = set()
        for _ in range(MAX_PAGES):
            asked = {"limit": str(limit), **query, **following}
            try:
                answer = await self._http.call("GET", url, query=asked)
            except SentFailed as error:
                if error.reason != "response_too_large" or limit == 1:
                    raise self._judge.unsettled(call, error) from error
                limit = max(1, limit // 10)  # batches with tens of thousands of complaints each
                continue
            page = read_page(_read_json(answer.body), limit) if 200 <= answer.status < 300 else None
            if page is None:
                raise self._judge.failure(call, answer, self._clock.now())
            ids = {str(entry.get("id")) for entry in page.objects}
            if ids and ids <= seen:  # the same page again: it does not know `after`
                return
            seen |= ids
            yield page.objects, _ahead(answer, self._clock.now())
            if page.following is None:
                return
            following = page.following

    async def _until_ready(self, file_id: str, seen: dict[str, Any]) -> None:
        """Azure takes a file in after it has answered, and refuses batches of it until then."""
        wait, longest = _LOOK_S
        deadline = self._clock.monotonic() + _READY_S
        while str(seen.get("status") or "").lower() in _PREPARING:
            if self._clock.monotonic() >= deadline:
                slow = Text("the service is still taking the file in")
                raise Throttled(self._judge.text(verdicts.UPLOAD, slow), longest)
            await self._clock.sleep(wait)
            wait = min(wait * 2, longest)
            seen = self._object(
                verdicts.FILE, await self._call(verdicts.FILE, "GET", self._one(self._files, file_id))
            )
        if str(seen.get("status") or "").lower() in _UNUSABLE:
            told = text_of(seen.get("status_details")) or text_of(seen.get("error"))
            why = self._redactor.text(told) if told else Text("the service could not read the file")
            raise Refused(self._judge.text(verdicts.UPLOAD, why), "file_error")

    def _status(self, call: Call, answer: HttpReply, batch_id: str | None = None) -> BatchStatus:
        """The batch of a reply. Raises what the reply means when it has none."""
        if 200 <= answer.status < 300:
            status = read_status(_read_object(answer.body) or {}, self._redactor.text, batch_id)
            if status is not None:
                return status
        raise self._judge.failure(call, answer, self._clock.now())

    def _object(self, call: Call, answer: HttpReply) -> dict[str, Any]:
        found = _read_object(answer.body) if 200 <= answer.status < 300 else None
        if found is None:
            raise self._judge.failure(call, answer, self._clock.now())
        inner = found.get("data")
        return inner if "id" not in found and isinstance(inner, dict) else found

    def _one(self, root: str, object_id: str) -> str:
        """The URL of one object. Raises NotFound for an id that is none."""
        if not object_id.strip("."):
            raise NotFound(Text('"{id}" is no id', {"id": object_id}))
        return f"{root}/{quote(object_id, safe='')}"

    def _too_large(self, max_bytes: int) -> ProviderError:
        large = Text("they are larger than {bytes} bytes", {"bytes": max_bytes})
        return Refused(self._judge.text(verdicts.DOWNLOAD, large), "response_too_large")

    async def _check_size(self, file_id: str, size: int) -> None:
        """Whether a body that ended with the connection was all of it, as far as the service says."""
        try:
            answer = await self._call(verdicts.FILE, "GET", self._one(self._files, file_id))
        except (NotFound, Refused):
            return
        told = (_read_object(answer.body) or {}).get("bytes")
        if isinstance(told, int) and size < told:
            cut = Text("{size} bytes came instead of {told}", {"size": size, "told": told})
            raise Unsettled(self._judge.text(verdicts.DOWNLOAD, cut))


def _read_json(body: bytes) -> Any:
    """The value of a body, None for what is not JSON. Pages may have megabytes."""
    try:
        return msgspec.json.decode(body)
    except (msgspec.DecodeError, UnicodeError, RecursionError):
        pass
    try:
        return rawjson.loads(body)  # reads more: the escape of a lone surrogate
    except rawjson.InvalidJson:
        return None


def _read_object(body: bytes) -> dict[str, Any] | None:
    value = _read_json(body)
    return value if isinstance(value, dict) else None


def _is_upload(entry: dict[str, Any], file: Upload) -> bool:
    name = entry.get("filename") or entry.get("fileName") or entry.get("name")
    size = entry.get("bytes")
    usable = str(entry.get("status") or "").lower() not in _UNUSABLE
    return usable and name == file.filename and (not isinstance(size, int) or size == file.size)


def _ahead(answer: HttpReply, now: float) -> float:
    try:
        return email.utils.parsedate_to_datetime(answer.headers.get("date", "")).timestamp() - now
    except (ValueError, IndexError, TypeError, OverflowError):
        return 0.0


async def _start(pieces: AsyncIterator[bytes]) -> bytes:
    """The beginning of an error's body."""
    body = b""
    async for piece in pieces:
        body += piece
        if len(body) >= MAX_REPLY // 16:
            break
    return body
