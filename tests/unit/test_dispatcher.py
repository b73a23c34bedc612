"""What the seats are told is what holds when they are told, whatever happens while chunks are granted."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

from worker_kit import ManualClock

from batch_inferd.scheduling.dispatcher import Dispatcher
from batch_inferd.scheduling.ramp import FIRST
from batch_inferd.seams.events import Events


class Seat:
    def __init__(self, name: str) -> None:
        self.name = name
        self.alive = True
        self.told: list[dict[str, Any]] = []

    def send(self, method: str, params: dict[str, Any]) -> None:
        if method == "account":
            self.told.append(params)


def task(next_row: Any, account: str) -> Any:
    config = {
        "execution": {"concurrency": 64},
        "limits": {"max_concurrency": 64, "rpm": None, "tpm": None, "bytes_in_flight": 1000},
        "priority": 0,
    }
    return SimpleNamespace(
        uuid=account, account=account, running=True, leases={}, supply=SimpleNamespace(next_row=next_row),
        budget=SimpleNamespace(seat_gone=lambda _: None),
        config={"config": config, "max_concurrency": 64},
    )  # fmt: skip


async def test_no_seat_is_told_what_held_before_a_wait(tmp_path):
    clock = ManualClock()
    dispatcher = Dispatcher(tmp_path, clock, Events(), SimpleNamespace())
    seats = [Seat("a"), Seat("b")]
    dispatcher.pool = SimpleNamespace(seats=seats, leaving=[])
    account = dispatcher.account("acc")
    seen: list[list[int]] = []

    async def next_row() -> None:
        if not seen:  # while the first chunk is looked for, a worker tells of a 429
            seen.append([len(seat.told) for seat in seats])
            report = {"in_flight": 4, "word": 1, "retry_after": 9.0}
            account.observe("a", report, clock.now(), clock.monotonic())

    dispatcher.tasks = {"acc": task(next_row, "acc")}
    await dispatcher._serve(account)
    assert seen == [[1, 1]]
    assert [seat.told[0]["word"] for seat in seats] == [1, 1]
    assert not any(message["hold_until"] for seat in seats for message in seat.told)


async def test_a_seat_that_ends_during_a_wait_gets_no_share_of_the_next_account(tmp_path, monkeypatch):
    clock = ManualClock()
    dispatcher = Dispatcher(tmp_path, clock, Events(), SimpleNamespace())
    gone, stays = Seat("gone"), Seat("stays")
    pool = SimpleNamespace(seats=[gone, stays], leaving=[])

    async def size(*_: object, **__: object) -> None:
        pass

    async def next_row() -> None:
        if gone in pool.seats:
            gone.alive = False
            pool.seats = [stays]
            dispatcher.on_seat_gone(gone)

    pool.size = size
    dispatcher.pool = pool
    monkeypatch.setattr("batch_inferd.scheduling.dispatcher.Layout.of", lambda _: (1, 1))
    monkeypatch.setattr("batch_inferd.scheduling.dispatcher.Layout.largest", lambda _: (1, 1))
    monkeypatch.setattr(dispatcher._neighbours, "use", lambda _: None)
    dispatcher.tasks = {name: task(next_row, name) for name in ("one", "two")}
    await dispatcher._round()
    await dispatcher._round()
    for name in ("one", "two"):
        told = [message["slots"] for message in stays.told if message["account"] == name]
        assert told[-1] == FIRST, name


async def test_a_workers_bug_is_no_fault_of_the_disk(tmp_path):
    told: list[tuple[Any, ...]] = []

    async def fault(*what: object) -> None:
        told.append(("fault", *what))

    async def bug(*what: object) -> None:
        told.append(("bug", *what))

    dispatcher = Dispatcher(tmp_path, ManualClock(), Events(), SimpleNamespace())
    lease = SimpleNamespace(task=SimpleNamespace(fault=fault, bug=bug))
    dispatcher._leases["1"] = lease  # type: ignore[assignment]
    for code, text in ((5, "Input/output error"), (None, "ValueError('oh')")):
        dispatcher.on_message(Seat("a"), "fault", {"lease": "1", "errno": code, "text": text})  # type: ignore[arg-type]
    await dispatcher._background.wait()
    assert told == [("fault", 5, "Input/output error"), ("bug", "ValueError('oh')")]
