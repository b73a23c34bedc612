"""Records with images through the whole: command line, daemon, worker, service; online and as batches."""

from __future__ import annotations

import base64
import json
import os
import threading
from typing import TYPE_CHECKING, Any, Self

import pytest

from batch_inferd.testing.calls import content_digest
from batch_kit import Paid, batch_config
from harness import Outputs, Shell, service_config, wait_for
from image_kit import picture, put, shows

if TYPE_CHECKING:
    from pathlib import Path

    import psutil

MB = 2**20
BAD = {
    "gone": "image_missing",
    "cut": "image_invalid",
    "secret": "image_invalid",
    "folder": "image_unreadable",
    "pipe": "image_unreadable",
    "huge": "image_too_large",
    "bomb": "image_too_large",
    "host": "image_invalid",
}


def bad_references(folder: Path) -> dict[str, str]:
    (folder / "folder").mkdir()
    os.mkfifo(folder / "pipe.png")
    put(folder / "huge.jpg", picture())
    os.truncate(folder / "huge.jpg", 200 * MB)
    return {
        "gone": (folder / "gone.jpg").as_uri(),
        "cut": put(folder / "cut 剪.jpg", picture()[:-50]),
        "secret": put(folder / "id_rsa.png", b"-----BEGIN PRIVATE KEY-----\nhunter2\n"),
        "folder": (folder / "folder").as_uri(),
        "pipe": (folder / "pipe.png").as_uri(),
        "huge": (folder / "huge.jpg").as_uri(),
        "bomb": put(folder / "bomb.png", picture(1100, 1000, "png")),
        "host": "file://server/share/a.png",
    }


def write(path: Path, folder: Path, good: int) -> list[dict[str, Any]]:
    """An input of good records, with bad ones between them; the conversations that shall arrive."""
    bad = list(bad_references(folder).items())
    sent = []
    with path.open("w", encoding="utf-8") as file:
        for n in range(good):
            kind = ("jpeg", "png", "webp", "gif")[n % 4]
            data = picture(60 + n, 50, kind, seed=n)
            ref = put(folder / f"图 {n}%.{kind}", data)
            record = shows(ref, f"what is {n}?", custom_id=f"good-{n}")
            file.write(json.dumps(record, ensure_ascii=False) + "\n")
            url = f"data:image/{kind};base64,{base64.b64encode(data).decode()}"
            sent.append(shows(url, f"what is {n}?")["messages"])
            if n < len(bad):
                file.write(json.dumps(shows(bad[n][1], custom_id=bad[n][0])) + "\n")
        told = {"class": "image_missing", "message": "row 12 of t.csv: no image"}
        file.write(json.dumps({"custom_id": "told", "$error": told}) + "\n")
    return sent


def check(out: Outputs, good: int) -> None:
    out.check_identity(good + len(BAD) + 1)
    assert out.ids == [f"good-{n}" for n in range(good)]
    found = {line["custom_id"]: line["error"] for line in out.errors}
    assert {name: error["code"] for name, error in found.items()} == BAD | {"told": "image_missing"}
    names = {"gone": "gone.jpg", "cut": "cut 剪.jpg", "secret": "id_rsa.png", "pipe": "pipe.png"}
    for name, part in (names | {"huge": "huge.jpg", "bomb": "bomb.png", "host": "//server/share"}).items():
        assert part in found[name]["message"]
    assert found["told"]["message"] == "row 12 of t.csv: no image"
    assert "hunter2" not in json.dumps(out.errors)
    assert out.report["errors"] == {
        "image_missing": 2,
        "image_invalid": 3,
        "image_unreadable": 2,
        "image_too_large": 2,
    }


@pytest.fixture
def pictures(tmp_path):
    folder = tmp_path / "pictures"
    folder.mkdir()
    return folder


def test_online(shell, service, pictures):
    sent = write(shell.workspace / "in.jsonl", pictures, 24)
    shell.config(model=service_config(service), images={"max_pixels": 1_000_000})
    shell.run("-pipeline", "in.jsonl", "-task-id", "A", "-wait", code=1)
    check(Outputs(shell.workspace, "A"), 24)
    arrived = {row.content_digest for row in service.ledger()}
    assert arrived == {content_digest(messages) for messages in sent}
    # What was mended is asked for again, and nothing else.
    put(pictures / "gone.jpg", picture())
    shell.run("-retry", "A", "-wait", code=1)
    out = Outputs(shell.workspace, "A", round=1)
    assert len(out.output) == 25
    assert "gone" in out.ids
    assert len(service.ledger()) == 25
    log = shell.log_tail()
    assert "image_invalid" in log
    assert "hunter2" not in log


def test_as_batches(shell, service, pictures):
    sent = write(shell.workspace / "in.jsonl", pictures, 12)
    shell.config(**batch_config(service, images={"max_pixels": 1_000_000}))
    shell.run("-pipeline", "in.jsonl", "-task-id", "A", "-wait", code=1)
    out = Outputs(shell.workspace, "A")
    check(out, 12)
    assert out.report["paths"] == {"batch": 12}
    assert Paid(service).billed == {content_digest(messages): 1 for messages in sent}


def test_images_that_change_before_their_batch_is_sent(workspace, service, pictures, tmp_path):
    """The daemon ends between packing and sending; meanwhile one image is replaced, and one is removed."""
    fired = tmp_path / "fired"
    fired.mkdir()
    shell = Shell(
        workspace,
        BATCH_INFER_FAILPOINTS="batch.pack_committed=exit",
        BATCH_INFER_FAILPOINT_DIR=str(fired),
    )
    refs = [put(pictures / f"{n}.png", picture(100, 100, "png", seed=n)) for n in range(6)]
    records = [shows(ref, f"what is {n}?", custom_id=f"c{n}") for n, ref in enumerate(refs)]
    (workspace / "in.jsonl").write_text("".join(json.dumps(record) + "\n" for record in records))
    shell.config(**batch_config(service, images={}))
    shell.run("-pipeline", "in.jsonl", "-task-id", "A", code=None)
    wait_for(lambda: list(fired.iterdir()), "the daemon to end")
    packed = list((workspace / "chunks" / "A" / "batches").iterdir())
    assert 0 < sum(path.stat().st_size for path in packed) < 5_000, "images are not on the disk twice"
    put(pictures / "1.png", picture(100, 100, "png", seed=77))
    (pictures / "4.png").unlink()
    shell.run("-pipeline", "in.jsonl", "-task-id", "A", "-wait", code=1)
    out = Outputs(workspace, "A")
    out.check_identity(6)
    assert out.ids == ["c0", "c1", "c2", "c3", "c5"]
    assert [line["error"]["code"] for line in out.errors] == ["image_missing"]
    wanted = {}
    for n in (0, 1, 2, 3, 5):
        data = base64.b64encode((pictures / f"{n}.png").read_bytes()).decode()
        messages = shows(f"data:image/png;base64,{data}", f"what is {n}?")["messages"]
        wanted[content_digest(messages)] = 1
    assert Paid(service).billed == wanted
    assert "changed before it was sent" in shell.log_tail()


def test_scaled_down_images_arrive(shell, service, pictures):
    record = shows(put(pictures / "a.png", picture(300, 200, "png")))
    (shell.workspace / "in.jsonl").write_text(json.dumps(record) + "\n")
    shell.config(model=service_config(service), images={"max_side": 64, "max_pixels": 100_000})
    shell.run("-pipeline", "in.jsonl", "-task-id", "A", "-wait")
    (row,) = service.ledger()
    assert row.content_digest != content_digest(record["messages"])
    Outputs(shell.workspace, "A").check_identity(1)


def test_without_the_section_references_are_sent_as_they_stand(shell, service):
    record = shows("file:///gone.png")
    (shell.workspace / "in.jsonl").write_text(json.dumps(record) + "\n")
    shell.config(model=service_config(service))
    shell.run("-pipeline", "in.jsonl", "-task-id", "A", "-wait")
    (row,) = service.ledger()
    assert row.content_digest == content_digest(record["messages"])


def test_memory_is_bounded_by_the_bytes_in_flight(shell, service, pictures):
    """Images come in more quickly than answers: all of them would be here at once, if they did not wait."""
    count, room = 24, 12 * MB
    service.control(latency_ms=1000)
    refs = [put(pictures / f"{n}.png", picture(1000, 1000, "png", seed=n)) for n in range(5)]
    with (shell.workspace / "in.jsonl").open("w") as file:
        for n in range(count):
            file.write(json.dumps(shows(refs[n % 5], f"what is {n}?")) + "\n")
    shell.config(model=service_config(service), images={}, limits={"bytes_in_flight": room})
    shell.run("-pipeline", str(small(shell)), "-task-id", "small", "-wait")
    (worker,) = wait_for(shell.workers, "the worker")
    before = worker.memory_info().rss
    with Peak(worker) as peak:
        shell.run("-pipeline", "in.jsonl", "-task-id", "A", "-wait")
    Outputs(shell.workspace, "A").check_identity(count)
    assert service.summary().billed == count + 1
    # A request is held here and in the HTTP client; one image more is being decoded or encoded in a thread.
    assert peak.rss - before < 2 * room + 16 * MB, f"{(peak.rss - before) / MB:.0f} MB"


def small(shell: Any) -> Path:
    """One record with a small image: what images need at all is loaded then."""
    path: Path = shell.workspace / "small.jsonl"
    path.write_text(json.dumps(shows(put(shell.workspace / "s.png", picture(kind="png")))) + "\n")
    return path


class Peak:
    """The most memory that a process has in the meantime, in bytes."""

    def __init__(self, process: psutil.Process) -> None:
        self.rss = 0
        self._process = process
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._look)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._end.set()
        self._thread.join()

    def _look(self) -> None:
        while not self._end.wait(0.01):
            self.rss = max(self.rss, self._process.memory_info().rss)
