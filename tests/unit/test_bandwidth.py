"""What workers send and receive: counted where it happens, reported, and shown a second."""

from __future__ import annotations

import json
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest
from cli_fakes import Cli, FakePeer, ended, summary
from hypothesis import given
from hypothesis import strategies as st
from image_site import DATA, serving
from worker_kit import FakeTransport, ManualClock, ask, make_plan

from batch_infer.protocol.workspace import Workspace
from batch_inferd.backends import online
from batch_inferd.backends.body import Request
from batch_inferd.backends.online import OnlineBackend, Prepared
from batch_inferd.backends.traffic import Traffic
from batch_inferd.backends.transport import HttpReply, NotSent, SentFailed
from batch_inferd.images import remote
from batch_inferd.scheduling.bandwidth import WINDOW_S, Bandwidth
from batch_inferd.scheduling.dispatcher import Dispatcher
from batch_inferd.seams.events import Events
from batch_inferd.seams.files import Directory
from batch_inferd.worker import report
from batch_inferd.worker.batch import transfer
from batch_inferd.worker.report import LogBuffer, Reporter

if TYPE_CHECKING:
    from pathlib import Path

BODY = b'{"choices": [{"message": {"content": "hi"}}]}'


class TestRates:
    def test_they_follow_what_is_reported(self) -> None:
        found = Bandwidth()
        assert found.rates(0.0) == (0.0, 0.0)
        found.reported(1000, 10_000, 100.0)
        assert found.rates(100.0) == (1000.0, 10_000.0), "at least a second is looked at"
        assert found.rates(102.0) == (500.0, 5000.0)
        for second in range(101, 131):
            found.reported(1000 * (second - 99), 10_000 * (second - 99), float(second))
        sent, received = found.rates(130.0)
        assert sent == pytest.approx(1000, rel=0.25)
        assert received == pytest.approx(10_000, rel=0.25)

    def test_nothing_more_comes(self) -> None:
        found = Bandwidth()
        found.reported(5000, 1, 10.0)
        assert found.rates(10.0 + WINDOW_S - 0.1)[0] > 0
        assert found.rates(10.0 + WINDOW_S) == (0.0, 0.0)

    def test_seats_report_side_by_side(self) -> None:
        found = Bandwidth()
        found.reported(500, 50, 1.0)
        found.reported(400, 60, 1.0)  # made earlier, in part
        found.reported(400, 40, 1.0)
        assert found.rates(1.5) == (500.0, 60.0)

    @given(st.lists(st.tuples(st.floats(0, 1), st.integers(0, 10**9), st.integers(0, 10**9)), max_size=60))
    def test_they_are_never_below_nothing_nor_above_what_came(
        self, steps: list[tuple[float, int, int]]
    ) -> None:
        found, now, sent, received = Bandwidth(), 0.0, 0, 0
        for pause, out, back in steps:
            now, sent, received = now + pause, sent + out, received + back
            found.reported(sent, received, now)
            up, down = found.rates(now)
            assert 0 <= up <= sent
            assert 0 <= down <= received

    def test_many_reports_take_no_memory(self) -> None:
        found = Bandwidth()
        for number in range(10_000):
            found.reported(number + 1, 0, number / 1000)
        assert len(found._samples) < 4 * WINDOW_S + 4
        assert found.rates(10.0)[0] == pytest.approx(1000, rel=0.1)


@pytest.fixture
def traffic(monkeypatch: pytest.MonkeyPatch) -> Traffic:
    """Sums of this test alone."""
    made = Traffic()
    for module in (online, remote, transfer, report):
        monkeypatch.setattr(module, "TRAFFIC", made)
    return made


@pytest.mark.parametrize(
    ("reply", "sent", "received"),
    [
        (HttpReply(200, {}, BODY), True, len(BODY)),
        (HttpReply(500, {}, b"oh"), True, 2),
        (SentFailed("reset", "gone"), True, 0),
        (NotSent("refused", "no", "a:1"), False, 0),
    ],
)
async def test_a_call(traffic: Traffic, reply: HttpReply | Exception, sent: bool, received: int) -> None:
    prepared = Prepared(make_plan("http://service/v1"))
    request = prepared.builder.build(ask("hello"), 1)
    assert isinstance(request, Request)
    await OnlineBackend(FakeTransport(reply), ManualClock()).call(prepared, request)
    assert traffic.totals() == (len(request.body) if sent else 0, received)


def test_an_image_of_the_web(traffic: Traffic) -> None:
    with serving() as site:
        assert remote.fetch(f"{site}/good", "photo", 10**6) == DATA
    assert traffic.totals() == (0, len(DATA))


class Outbox:
    idle = True

    def __init__(self) -> None:
        self.sent: list[dict[str, Any]] = []

    def send(self, method: str, params: dict[str, Any]) -> None:
        assert method == "report"
        self.sent.append(params)


def test_a_report_tells_sums_that_changed(traffic: Traffic) -> None:
    outbox = Outbox()
    reporter = Reporter(outbox, LogBuffer(ManualClock()))
    reporter.flush(())
    traffic.add(sent=3, received=5)
    reporter.flush(())
    reporter.flush(())
    traffic.add(received=1)
    reporter.flush(())
    assert [told["traffic"] for told in outbox.sent] == [[3, 5], [3, 6]]


def test_the_daemon_hears_it(tmp_path: Path) -> None:
    clock = ManualClock()
    dispatcher = Dispatcher(tmp_path, clock, Events(), SimpleNamespace())  # type: ignore[arg-type]
    process = SimpleNamespace(bandwidth=Bandwidth())
    seat: Any = SimpleNamespace(process=process, name="a.0")
    dispatcher.on_message(seat, "report", {"leases": {}, "accounts": {}, "traffic": [2048, 4096]})
    assert process.bandwidth.rates(clock.monotonic()) == (2048.0, 4096.0)


@pytest.mark.parametrize("form", ["json", "text"])
def test_the_monitor_shows_it(tmp_path: Path, form: str) -> None:
    (tmp_path / "chunks" / "demo").mkdir(parents=True)
    workers = [
        {"pid": 1, "cpu": 1.0, "rss": 1024, "sent_per_s": 2048, "received_per_s": 3 * 1024**2},
        {"pid": 2, "cpu": 1.0, "rss": 1024, "sent_per_s": 1024, "received_per_s": 0},
    ]
    status = {"cpu": 1.0, "rss": 1024, "workers": workers}
    peer = FakePeer(
        {
            "daemon.status": lambda _: status,
            "status": lambda _: summary() | {"chunks": [], "next": None},
            "submissions": lambda _: {"submissions": [], "next": None},
        },
        pushes=[ended()],
    )
    cli = Cli(Workspace(tmp_path), [peer])
    assert cli("-monitor", "demo", "-once", *(["-json"] if form == "json" else [])) == 0
    if form == "json":
        assert json.loads(cli.stdout)["daemon"]["workers"] == workers
    else:
        assert "network: 3.0 KiB/s sent, 3.0 MiB/s received" in cli.stdout


class Provider:
    """Takes and gives a file in two pieces."""

    async def upload(self, _file: Any, progress: Any) -> str:
        progress(700)
        progress(1000)
        return "file-1"

    async def download(self, _ref: str, write: Any, _opened: Any) -> int:
        write(b"x" * 30)
        write(b"x" * 12)
        return 42


async def test_files_of_batches(traffic: Traffic, tmp_path: Path) -> None:
    (tmp_path / "packed.jsonl").write_bytes(b"x" * 1000)
    directory = Directory(tmp_path)
    context: Any = SimpleNamespace(directory=directory, provider=Provider())
    told: list[tuple[int, int]] = []

    async def now(call: Any) -> Any:
        return await call

    up: Any = SimpleNamespace(file="packed.jsonl", filename="f.jsonl", size=1000, reuse=False, holed=False)
    down: Any = SimpleNamespace(file="results/r.jsonl", ref="r")
    try:
        await transfer.upload(context, up, now, lambda *done: told.append(done))
        await transfer.download(context, down, now, lambda *done: told.append(done))
    finally:
        directory.close()
    assert traffic.totals() == (1000, 42)
    assert told == [(700, 1000), (1000, 1000), (30, 0), (42, 0)]
