"""Images stay where they are until a batch's file is sent, and are then those of the packing."""

from __future__ import annotations

import base64
import json
import os
import sys
import threading
import tracemalloc
from pathlib import Path
from typing import Any

import pytest
from batch_jobs_kit import CHAT, Desk, batch_plan, numbers
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from worker_kit import FAST, ask

from batch_inferd.backends.batch.errors import IMAGE_CHANGED, Refused, error_from_wire, error_to_wire
from batch_inferd.backends.batch.lines import encode_line
from batch_inferd.failures import Action
from batch_inferd.images import cutout, embed
from batch_inferd.images.errors import ImageError
from batch_inferd.images.plan import ImagePlan
from batch_inferd.worker.batch.context import JobCancelled
from batch_inferd.worker.batch.holed import HoledFile
from batch_inferd.worker.batch.judge import judge_problem
from image_kit import line, picture, put

PLAN = ImagePlan()


@pytest.fixture
def desk(tmp_path):
    (tmp_path / "pictures").mkdir()
    made = Desk(tmp_path, batch_plan(images=PLAN, retry=FAST))
    yield made
    made.close()


def two_images(first: str, second: str) -> bytes:
    record = json.loads(line(first, "前 \u2028 后"))
    record["messages"][0]["content"].append({"type": "image_url", "image_url": {"url": second}})
    return json.dumps(record, ensure_ascii=False).encode()


def refused(desk: Desk, pack: dict[str, Any]) -> Refused:
    with pytest.raises(Refused) as caught:
        desk.sent(pack)
    assert caught.value.code == IMAGE_CHANGED
    return caught.value


def test_what_is_sent_is_what_a_file_with_images_would_have(desk, tmp_path):
    folder = tmp_path / "pictures"
    refs = [put(folder / f"{n}.jpg", picture(seed=n)) for n in range(4)]
    records = [line(refs[0]), ask("text"), two_images(refs[1], refs[2]), line(refs[3], "\\u0000 and 'I {}'")]
    desk.add(*records)
    (pack,) = desk.pack()["packs"]
    bodies = [desk.prepared.builder.build(record, n).body for n, record in enumerate(records, 1)]
    wanted = b"".join(
        encode_line(b"r%d" % n, CHAT, embed.embed(body, PLAN)) for n, body in enumerate(bodies, 1)
    )
    for piece in (1, 7, 4096, 10**7):
        assert desk.sent(pack, piece) == wanted
    assert pack["bytes"] == len(wanted)
    assert (desk.path / pack["file"]).stat().st_size < len(wanted) / 2


@pytest.mark.skipif(sys.platform != "linux", reason="names are any bytes on Linux only")
def test_an_image_whose_name_is_no_utf8_is_sent(desk, tmp_path):
    path = tmp_path / "pictures" / "a\udc80.png"
    data = picture(kind="png")
    path.write_bytes(data)
    desk.add(line(f"file://{path}"))
    (pack,) = desk.pack()["packs"]
    (sent,) = desk.packed(pack)
    url = sent["body"]["messages"][0]["content"][1]["image_url"]["url"]
    assert url == f"data:image/png;base64,{base64.b64encode(data).decode()}"


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=25, deadline=None)
@given(kinds=st.lists(st.sampled_from("it2"), min_size=1, max_size=12), piece=st.integers(1, 3000))
def test_any_row_of_records(tmp_path_factory, kinds, piece):
    root = tmp_path_factory.mktemp("row")
    desk = Desk(root, batch_plan(images=PLAN, retry=FAST))
    try:
        refs = [put(root / f"{n}.png", picture(n + 1, 3, "png", seed=n)) for n in range(2)]
        made = {"i": line(refs[0]), "t": ask("text"), "2": two_images(*refs)}
        desk.add(*(made[kind] for kind in kinds))
        packs = desk.pack(max_bytes=3000, max_line_bytes=3000)["packs"]
        assert [n for pack in packs for n in numbers(pack)] == list(range(1, len(kinds) + 1))
        for pack in packs:
            assert pack["bytes"] <= 3000
            sent = desk.sent(pack, piece)
            bodies = [json.loads(one)["body"] for one in sent.splitlines()]
            counts = [json.dumps(body).count("data:image/png;base64,") for body in bodies]
            assert counts == ["ti2".index(kinds[n - 1]) for n in numbers(pack)]
    finally:
        desk.close()


def test_scaled_images_are_scaled_again(desk, tmp_path):
    ref = put(tmp_path / "pictures" / "a.png", picture(300, 200, "png"))
    desk.use(batch_plan(images=ImagePlan(max_side=64), retry=FAST))
    desk.add(line(ref))
    (pack,) = desk.pack()["packs"]
    assert pack["bytes"] < 30_000
    assert len(desk.sent(pack)) == pack["bytes"]
    desk.use(batch_plan(images=ImagePlan(max_side=32), retry=FAST))  # the config was mended meanwhile
    refused(desk, pack)


@pytest.mark.parametrize("change", ["another", "longer", "gone", "a folder"])
def test_another_image_is_not_sent(desk, tmp_path, change):
    path = tmp_path / "pictures" / "b.jpg"
    data = picture(seed=1)
    refs = [put(tmp_path / "pictures" / "a.jpg", picture()), put(path, data)]
    desk.add(ask("text"), line(refs[0]), two_images(*refs), line(refs[0]))
    (pack,) = desk.pack()["packs"]
    path.unlink()
    if change == "another":
        put(path, data[:-1] + b"x")
    elif change == "longer":
        put(path, data + b"x")
    elif change == "a folder":
        path.mkdir()
    error = error_from_wire(error_to_wire(refused(desk, pack)))
    assert isinstance(error, Refused)
    (problem,) = error.problems
    assert (problem.line, problem.code) == (
        3,
        "image_missing" if change == "gone" else "image_unreadable",
    )
    assert "b.jpg" in problem.message
    verdict = judge_problem(problem.code, problem.message, desk.prepared)
    assert (verdict.action, verdict.cls, verdict.message) == (Action.END, problem.code, problem.message)


def test_what_may_pass_is_tried_again(desk, tmp_path, monkeypatch):
    desk.add(line(put(tmp_path / "pictures" / "a.jpg", picture())))
    (pack,) = desk.pack()["packs"]
    tries = []
    real = cutout.read

    def flaky(ref: str, plan: ImagePlan) -> bytes:
        tries.append(ref)
        if len(tries) < 3:
            raise ImageError("image_unreadable", "the share is away", transient=True)
        return real(ref, plan)

    monkeypatch.setattr(cutout, "read", flaky)
    assert len(desk.sent(pack)) == pack["bytes"]
    assert len(tries) == 3
    desk.stop.set()
    with pytest.raises(JobCancelled):
        desk.sent(pack)


@pytest.mark.parametrize("damage", ["cut", "another size", "frame", "image"])
def test_a_damaged_file_is_not_sent(desk, tmp_path, damage):
    desk.add(line(put(tmp_path / "pictures" / "a.jpg", picture())))
    (pack,) = desk.pack()["packs"]
    path = Path(desk.path / pack["file"])
    data = path.read_bytes()
    if damage == "cut":
        path.write_bytes(data[:-1])
    elif damage == "another size":
        pack["bytes"] -= 1
    elif damage == "frame":
        path.write_bytes(data.replace(b"T ", b"U ", 1))
    else:
        path.write_bytes(data.replace(b'{"ref":', b'{"raf":', 1))
    with pytest.raises(OSError, match="not what was packed"):
        desk.sent(pack)


def test_a_file_can_be_given_up_while_an_image_is_read(desk, tmp_path, monkeypatch):
    desk.add(line(put(tmp_path / "pictures" / "a.jpg", picture())))
    (pack,) = desk.pack()["packs"]
    reading, go_on = threading.Event(), threading.Event()
    real = cutout.read

    def slow(ref: str, plan: ImagePlan) -> bytes:
        reading.set()
        assert go_on.wait(30)
        return real(ref, plan)

    monkeypatch.setattr(cutout, "read", slow)
    file = HoledFile(desk.context(), pack["file"], pack["bytes"])
    got: list[bytes] = []
    thread = threading.Thread(target=lambda: got.extend((file.read(100_000), file.read(100_000))))
    thread.start()
    assert reading.wait(30)
    file.close()  # does not wait
    go_on.set()
    thread.join(30)
    assert len(got) == 2
    with pytest.raises(OSError, match="is closed"):
        file.read(1)


def test_neither_disk_nor_memory_grow_with_the_images(desk, tmp_path):
    count = 40
    noise = os.urandom(1_000_000)
    head = picture(10, 10, "png")
    desk.use(batch_plan(images=ImagePlan(), retry=FAST))
    refs = [put(tmp_path / "pictures" / f"{n}.png", head + bytes([n]) + noise) for n in range(count)]
    desk.add(*map(line, refs))
    tracemalloc.start()
    (pack,) = desk.pack()["packs"]
    total = 0
    with HoledFile(desk.context(), pack["file"], pack["bytes"]) as file:
        while piece := file.read(256 * 1024):
            total += len(piece)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert total == pack["bytes"] > count * 1_330_000
    assert (desk.path / pack["file"]).stat().st_size < 40_000
    assert peak < 12_000_000
