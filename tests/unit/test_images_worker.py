"""Images in a worker: within the bytes in flight, in threads, tried again when the network was away."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from types import SimpleNamespace
from typing import Any, cast

import pytest
from image_site import DATA, Handler, serving
from worker_kit import FAST, Folder, ManualClock, WorkerDriver, ask, make_plan, settle

from batch_inferd.backends.body import Request
from batch_inferd.backends.online import Prepared
from batch_inferd.images import embed as module
from batch_inferd.images.errors import ImageError
from batch_inferd.images.plan import ImagePlan
from batch_inferd.testing.process import start_service
from batch_inferd.worker.answers import HeldAnswer
from batch_inferd.worker.gate import Gate
from batch_inferd.worker.images import Images
from batch_inferd.worker.queues import FILLING_MAX, TaskQueue, Turns
from image_kit import line, picture, put

MB = 2**20


class Bench:
    """A gate with some room, a queue, and what fills requests."""

    def __init__(self, room: int, **plan: Any) -> None:
        self.gate = Gate("acc", ManualClock())
        self.gate.tell(64, None, None, room=room)
        self.prepared = Prepared(make_plan("http://s/v1", images=ImagePlan(), **plan))
        link = SimpleNamespace(down=None)
        self.queue = TaskQueue("t", "t", self.prepared, cast("Any", link))
        self.wakes = 0
        self.images = Images(self.wake)

    def wake(self) -> None:
        self.wakes += 1

    def held(self) -> HeldAnswer:
        return HeldAnswer(self.gate.answers)

    async def fill(self, body: bytes, held: HeldAnswer) -> Request:
        return await self.images.fill(Request("chat", body, b'"1"', own_model=False), self.queue, held)


@pytest.fixture
def bench(request):
    made = Bench(10 * MB)
    yield made
    made.images.close()


async def wait_for(condition: Any) -> None:
    async with asyncio.timeout(30):
        while not condition():  # noqa: ASYNC110  threads have their part in it
            await asyncio.sleep(0.005)


async def test_room_is_taken_for_what_is_sent(bench, tmp_path):
    body = line(put(tmp_path / "a.png", picture(400, 300, "png")))
    held = bench.held()
    request = await bench.fill(body, held)
    assert request.body == module.embed(body, ImagePlan())
    assert bench.gate.bytes_in_flight == len(request.body) - len(body) > 400_000
    assert bench.queue.filling == 0
    held.free()
    assert bench.gate.bytes_in_flight == 0


async def test_what_was_reserved_and_not_needed_is_given_back(bench, tmp_path, monkeypatch):
    monkeypatch.setattr(module, "measure", lambda *_: 5 * MB)
    body = line(put(tmp_path / "a.jpg", picture()))
    held = bench.held()
    request = await bench.fill(body, held)
    assert bench.gate.bytes_in_flight == len(request.body) - len(body)
    held.free()
    monkeypatch.setattr(module, "measure", lambda *_: 1)  # and what was needed more is taken
    held = bench.held()
    request = await bench.fill(body, held)
    assert bench.gate.bytes_in_flight == len(request.body) - len(body)
    held.free()
    assert bench.gate.bytes_in_flight == 0


async def test_an_image_waits_unread_while_there_is_no_room(bench, tmp_path, monkeypatch):
    read = []
    real = module.load
    monkeypatch.setattr(module, "load", lambda *args: read.append(args) or real(*args))
    first = bench.held()
    await first.take(10 * MB - 1000)
    body, held = line(put(tmp_path / "a.png", picture(100, 100, "png"))), bench.held()
    waiting = asyncio.create_task(bench.fill(body, held))
    await wait_for(lambda: bench.gate.answers._waiting)
    assert (read, bench.queue.filling) == ([], 1)
    first.free()
    await waiting
    assert len(read) == 1
    held.free()
    assert bench.gate.bytes_in_flight == 0


async def test_the_loop_goes_on_while_images_are_read(bench, tmp_path, monkeypatch):
    begun, go_on = threading.Event(), threading.Event()

    def slow(body: bytes, *_: Any) -> bytes:
        begun.set()
        assert go_on.wait(30)
        return body

    monkeypatch.setattr(module, "embed", slow)
    body = line(put(tmp_path / "a.jpg", picture()))
    held = bench.held()
    filling = asyncio.create_task(bench.fill(body, held))
    await wait_for(begun.is_set)  # this loop runs
    assert not filling.done()
    go_on.set()
    assert (await filling).body == body
    held.free()


async def test_giving_up_leaves_no_trace(bench, tmp_path, monkeypatch):
    first = bench.held()
    await first.take(10 * MB)
    body, held = line(put(tmp_path / "a.png", picture(100, 100, "png"))), bench.held()
    waiting = asyncio.create_task(bench.fill(body, held))
    await wait_for(lambda: bench.gate.answers._waiting)
    waiting.cancel()
    await asyncio.gather(waiting, return_exceptions=True)
    held.free()
    first.free()
    assert (bench.gate.bytes_in_flight, bench.queue.filling) == (0, 0)


async def test_the_largest_request_is_that_of_a_line(tmp_path):
    bench = Bench(10 * MB, max_line_bytes=5000)
    body, held = line(put(tmp_path / "a.png", picture(100, 100, "png"))), bench.held()
    with pytest.raises(ImageError, match="more than 5000 bytes"):
        await bench.fill(body, held)
    held.free()
    bench.images.close()
    assert bench.gate.bytes_in_flight == 0


async def test_text_is_not_touched(bench):
    request = Request("chat", ask("text"), b'"1"', own_model=False)
    assert await bench.images.fill(request, bench.queue, bench.held()) is request
    assert bench.wakes == 0


def test_a_task_whose_images_are_awaited_lets_others_have_their_turn(bench):
    turns = Turns()
    other = TaskQueue("u", "u", bench.prepared, bench.queue.link)
    one, two = object(), object()
    for queue, record in ((bench.queue, one), (other, two)):
        queue.peek = lambda _, record=record: record  # type: ignore[method-assign]
        turns.add(queue)
    assert turns.peek(0.0) == (bench.queue, one)
    bench.queue.filling = FILLING_MAX
    assert turns.peek(0.0) == (other, two)
    assert bench.queue.may_send
    bench.queue.filling -= 1
    assert turns.peek(0.0) == (bench.queue, one)


class Flaky(Handler):
    """Every image fails twice."""

    asked: dict[str, int] = {}  # noqa: RUF012  of one test

    def do_GET(self) -> None:
        count = self.asked[self.path] = self.asked.get(self.path, 0) + 1
        if self.path == "/never" or count <= 2:
            self.send_error(503)
        else:
            self._send(DATA)


@pytest.fixture
def flaky():
    with serving(Flaky) as url:
        yield url


def test_a_worker_sends_images_and_ends_what_has_none(tmp_path, flaky):
    folder, pictures = Folder(tmp_path), tmp_path / "pictures"
    pictures.mkdir()
    good = put(pictures / "good.jpg", picture())
    folder.add(
        [
            line(good, "one", custom_id="a"),
            line((pictures / "gone.jpg").as_uri(), custom_id="b"),
            line(f"{flaky}/sometimes", "three", custom_id="c"),
            line(f"{flaky}/never", custom_id="d"),
            b'{"custom_id":"e","$error":{"class":"image_missing","message":"row 4: no image"}}',
            ask("six"),
        ]
    )
    with start_service(tmp_path / "service") as service, WorkerDriver(tmp_path) as worker:
        worker.wait_for("hello")
        plan = make_plan(service.base_url, images=ImagePlan(fetch_urls=True), retry=FAST)
        worker.begin(plan, folder.lease())
        counts = worker.sealed()["counts"]
        assert (counts["answered"], counts["error"], counts["retries"]) == (3, 3, 2 + FAST.max_count)
        assert service.summary().requests == 3
    errors = folder.records("error")
    assert {number: (entry["class"], entry["attempt"]) for number, entry in errors.items()} == {
        2: ("image_missing", 0),
        4: ("image_unreadable", FAST.max_count + 1),
        5: ("image_missing", 0),
    }
    assert "gone.jpg does not exist" in errors[2]["rec"]["error"]["message"]
    assert errors[5]["rec"]["error"]["message"] == "row 4: no image"
    assert [errors[n]["rec"]["custom_id"] for n in (2, 4, 5)] == ["b", "d", "e"]
    assert sorted(folder.records("answer")) == [1, 3, 6]
    assert Flaky.asked == {"/sometimes": 3, "/never": FAST.max_count + 1}


def test_an_abort_while_an_image_is_awaited_sends_nothing(tmp_path):
    asked, go_on = threading.Event(), threading.Event()

    class Slow(Handler):
        def do_GET(self) -> None:
            asked.set()
            go_on.wait(60)

    folder = Folder(tmp_path)
    plan = make_plan("http://127.0.0.1:1/v1", images=ImagePlan(fetch_urls=True))
    with serving(Slow) as url, contextlib.ExitStack() as stack:
        stack.callback(go_on.set)
        folder.add([line(f"{url}/a.png")])
        worker = stack.enter_context(WorkerDriver(tmp_path))
        worker.wait_for("hello")
        lease = worker.begin(plan, folder.lease())
        assert asked.wait(30)
        worker.send("end_lease", lease=lease, mode="abort")
        assert worker.wait_for("released")["reason"] == "aborted"
    assert folder.entries() == []


async def test_settled_rooms_wake_the_next(bench):
    """Many records with images at once: all come through, and the room is never passed by more than one."""
    most = 0

    async def one() -> None:
        nonlocal most
        held = bench.held()
        await held.take(3 * MB)
        most = max(most, bench.gate.bytes_in_flight)
        await settle(3)
        held.free()

    await asyncio.gather(*(one() for _ in range(30)))
    assert bench.gate.bytes_in_flight == 0
    assert most <= 13 * MB
