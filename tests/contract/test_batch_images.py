"""A packed file whose images are put in while it is uploaded: what goes over the wire, and what does not."""

from __future__ import annotations

import itertools
import json
import os
import threading
import tracemalloc
from typing import TYPE_CHECKING, Any

import pytest
from hostile import reply
from provider_kit import make_plan, provider_of

from batch_inferd.backends.batch.lines import encode_line
from batch_inferd.backends.batch.provider import Refused
from batch_inferd.backends.online import Prepared
from batch_inferd.images import cutout
from batch_inferd.images.plan import ImagePlan
from batch_inferd.seams.clock import SystemClock
from batch_inferd.seams.files import Directory
from batch_inferd.worker.batch.context import JobContext
from batch_inferd.worker.batch.messages import UploadParams
from batch_inferd.worker.batch.packfile import PackFile
from batch_inferd.worker.batch.transfer import upload
from batch_inferd.worker.guard import WriteGuard
from image_kit import line, picture, put

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Iterator
    from pathlib import Path

    from hostile import Hostile

COUNT = 30
PLAN = ImagePlan()


class Desk:
    """Packs pictures, and uploads the files to a server."""

    def __init__(self, directory: Directory, pictures: Path, server: Hostile) -> None:
        self.directory = directory
        self.pictures = pictures
        self.server = server

    def put(self, *data: bytes) -> list[str]:
        return [put(self.pictures / f"{number}.png", one) for number, one in enumerate(data)]

    def pack(self, refs: list[str]) -> PackFile:
        file = PackFile(self.directory, "p.jsonl", holed=True)
        for number, ref in enumerate(refs, 1):
            found = cutout.cut(line(ref), PLAN)
            text = encode_line(b"r%d" % number, "/v1/chat/completions", found.body)
            (first, second), (image,) = text.split(cutout.HOLE), found.images
            size = len(first) + image.sent_size + len(second)
            file.add(1, number, [first, image, second], size, 1, 1)
        file.seal()
        return file

    async def send(self, file: PackFile, told: Callable[[int, int], None] = lambda *_: None) -> Any:
        plan = make_plan(self.server.base_url, images=PLAN)
        params = UploadParams(file=file.name, filename="bi-1.jsonl", size=file.bytes, holed=True)
        async with provider_of(plan) as provider:
            context = JobContext(
                "j",
                self.directory,
                Prepared(plan),
                provider,
                WriteGuard(),
                SystemClock(),
                threading.Event(),
            )
            return await upload(context, params, _at_once, told)


async def _at_once(work: Coroutine[Any, Any, Any]) -> Any:
    return await work


@pytest.fixture
def desk(tmp_path: Path, hostile: Hostile) -> Iterator[Desk]:
    (tmp_path / "pictures").mkdir()
    (tmp_path / "task").mkdir()
    directory = Directory(tmp_path / "task")
    hostile.will(reply(200, {"id": "file-1"}))
    yield Desk(directory, tmp_path / "pictures", hostile)
    directory.close()


async def test_images_come_from_their_source(desk: Desk) -> None:
    pack = desk.pack(desk.put(*(picture(kind="png", seed=n) for n in range(3))))
    assert await desk.send(pack) == {"input_ref": "file-1"}
    (request,) = desk.server.requests
    start = request.body.index(b'{"custom_id"')
    lines = request.body[start : start + pack.bytes].splitlines()
    assert [json.loads(one)["custom_id"] for one in lines] == ["r1", "r2", "r3"]
    assert all(one.count(b'"data:image/png;base64,iVBOR') == 1 for one in lines)
    assert request.body[start + pack.bytes :].startswith(b"\r\n--")


async def test_a_large_batch_takes_the_memory_of_an_image(desk: Desk, tmp_path: Path) -> None:
    desk.server.keep_bodies = False
    refs = desk.put(*itertools.repeat(picture(10, 10, "png") + os.urandom(1_000_000), COUNT))
    told: list[int] = []
    tracemalloc.start()
    pack = desk.pack(refs)
    await desk.send(pack, lambda done, _: told.append(done))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert told[-1] == pack.bytes > COUNT * 1_330_000
    assert int(desk.server.requests[0].headers["content-length"]) > pack.bytes
    assert peak < 15_000_000  # the server's share of it included
    assert (tmp_path / "task" / "p.jsonl").stat().st_size < 50_000


@pytest.mark.parametrize("changed", [0, COUNT - 1])
async def test_an_upload_with_another_image_does_not_arrive(desk: Desk, changed: int) -> None:
    data = [picture(10, 10, "png") + os.urandom(100_000) for _ in range(COUNT)]
    refs = desk.put(*data)
    pack = desk.pack(refs)
    data[changed] += b"more"
    desk.put(*data)
    with pytest.raises(Refused) as caught:
        await desk.send(pack)
    assert caught.value.problems[0].line == changed + 1
    assert desk.server.requests == []  # none was whole
    assert await desk.send(desk.pack(refs)) == {"input_ref": "file-1"}
