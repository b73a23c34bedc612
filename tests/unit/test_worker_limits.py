"""Waits, strikes, the gate of an account, and its link: pure parts, with a clock of their own."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st
from worker_kit import FAST, FakeTransport, ManualClock, fresh, make_plan, settle

from batch_inferd.backends.online import Prepared
from batch_inferd.backends.plan import Retry
from batch_inferd.backends.transport import NotSent
from batch_inferd.seams.events import Events
from batch_inferd.worker.accounts import Accounts
from batch_inferd.worker.buckets import TokenBucket
from batch_inferd.worker.core import Worker
from batch_inferd.worker.gate import Gate
from batch_inferd.worker.link import CHECK_DELAY_S, MAX_PROBE_INTERVAL_S, Link
from batch_inferd.worker.record import Record
from batch_inferd.worker.strikes import MAX_STRIKES, Strikes
from batch_inferd.worker.waits import Alarm, full_jitter, half_jitter

if TYPE_CHECKING:
    from batch_inferd.worker.queues import TaskQueue

PREPARED = Prepared(make_plan("http://service/v1"))
REFUSED = NotSent("refused", "connection refused", "service:80")


def record(line: int = 1) -> Record:
    chunk = SimpleNamespace(sending=True, lease=SimpleNamespace(chunk=1))
    return Record(cast("Any", chunk), line, 0, 10)


@given(st.integers(1, 10_000))
def test_backoff_doubles_to_its_cap(failures):
    retry = Retry(base_s=0.5, cap_s=60.0)
    ceiling = min(60.0, 0.5 * 2 ** (failures - 1)) if failures < 20 else 60.0
    assert 0.0 <= full_jitter(retry, failures) <= ceiling
    assert ceiling / 2 <= half_jitter(retry, failures) <= ceiling


def test_a_bucket_gives_its_rate_and_no_burst():
    bucket = TokenBucket()
    bucket.set_rate(10.0, 0.0)
    taken, now = 0, 0.0
    while now < 10.0:
        delay = bucket.delay(now)
        if delay:
            now += delay + 0.01  # timers run late
        else:
            bucket.take(now)
            taken += 1
    assert 99 <= taken <= 102
    burst = 0
    while not bucket.delay(1000.0):  # after a long idle time
        bucket.take(1000.0)
        burst += 1
    assert burst == 1


def test_a_bucket_without_a_rate_is_open():
    bucket = TokenBucket()
    for _ in range(1000):
        assert bucket.delay(0.0) == 0.0
        bucket.take(0.0)


async def test_an_alarm_rings_once_at_the_earliest_time():
    clock, rings = ManualClock(), []
    alarm = Alarm(clock, lambda: rings.append(clock.time))
    alarm.set(1010.0)
    alarm.set(1005.0)
    alarm.set(1020.0)
    await settle()
    await clock.advance(4.9)
    assert rings == []
    await clock.advance(0.1)
    assert rings == [1005.0]
    await clock.advance(100.0)
    assert len(rings) == 1


def answer_another(strikes: Strikes) -> None:
    another = record(99)
    strikes.sent(another)
    strikes.answered(another)


class TestStrikes:
    def test_late_answers_to_older_calls_are_no_strikes(self):
        """After a cut the calls in flight drain one by one, and only the first in line is sent."""
        strikes, draining, innocent = Strikes(), [record(n) for n in range(2, 50)], record(1)
        for one in (innocent, *draining):
            strikes.sent(one)
        strikes.throttled(innocent, alone=False)
        for one in draining:
            strikes.sent(innocent)
            strikes.answered(one)
            assert not strikes.throttled(innocent, alone=False)
        assert not strikes.throttled(innocent, alone=True)
        assert innocent.strikes == 0

    def test_a_busy_service_is_no_strike(self):
        strikes, records = Strikes(), [record(n) for n in range(50)]
        for one in records:
            strikes.sent(one)
        for _ in range(20):
            for one in records:
                assert not strikes.throttled(one, alone=False)
                answer_another(strikes)
        assert all(one.strikes == 0 for one in records)

    def test_a_record_that_never_comes_through_while_others_do(self):
        strikes, bad = Strikes(), record()
        strikes.sent(bad)
        ended = []
        for _ in range(MAX_STRIKES):
            answer_another(strikes)
            ended.append(strikes.throttled(bad, alone=False))
        assert ended == [False] * (MAX_STRIKES - 1) + [True]

    def test_a_first_429_counts_from_the_first_send(self):
        strikes, bad = Strikes(), record()
        answer_another(strikes)
        strikes.sent(bad)
        strikes.throttled(bad, alone=False)
        assert bad.strikes == 0  # the one answer came before it was sent

    def test_alone_after_others_came_through(self):
        """At the end of a task nobody else succeeds any more, and the record is still told apart."""
        strikes, bad, other = Strikes(), record(1), record(2)
        strikes.sent(bad)
        strikes.sent(other)
        strikes.throttled(bad, alone=False)
        strikes.throttled(other, alone=False)
        answer_another(strikes)
        assert bad.strikes == 0
        strikes.throttled(bad, alone=False)
        strikes.throttled(bad, alone=True)
        assert bad.strikes == 1  # the first was no strike: the other met a 429 as well
        strikes.throttled(bad, alone=True)
        assert bad.strikes == 2

    def test_alone_while_nobody_ever_came_through(self):
        strikes, only = Strikes(), record()
        strikes.sent(only)
        for _ in range(50):
            assert not strikes.throttled(only, alone=True)
        assert only.strikes == 0

    def test_two_such_records_do_not_hide_each_other_for_ever(self):
        strikes, pair = Strikes(), [record(1), record(2)]
        for one in pair:
            strikes.sent(one)
        for _ in range(20):
            answer_another(strikes)
            for one in pair:
                strikes.throttled(one, alone=one is pair[1])
        assert pair[1].strikes >= MAX_STRIKES


class TestGate:
    def gate(self, clock: ManualClock) -> Gate:
        return Gate("acc", clock)

    def test_nothing_before_the_daemon_speaks_and_no_more_than_its_slots(self):
        gate = self.gate(ManualClock())
        assert gate.delay(1000.0) is None
        gate.tell(2, None, None)
        one = record()
        for _ in range(2):
            assert gate.delay(1000.0) == 0.0
            gate.sent(one, 20)
        assert gate.delay(1000.0) is None
        gate.returned(one, 20, None)
        assert gate.delay(1000.0) == 0.0
        assert gate.seen.peak_in_flight == 2

    def test_the_daemons_hold_is_wall_time_and_replaced_by_its_next_word(self):
        clock = ManualClock()
        gate = self.gate(clock)
        gate.tell(1, None, clock.now() + 5)
        assert gate.delay(clock.time) == pytest.approx(5.0)
        assert gate.waiting()["next_try"] == pytest.approx(clock.now() + 5)
        gate.tell(1, None, None)
        assert gate.delay(clock.time) == 0.0
        assert gate.waiting() is None

    def test_the_own_hold_survives_the_daemons_word(self):
        clock = ManualClock()
        gate = self.gate(clock)
        gate.tell(1, None, None)
        gate.throttled(FAST, 7.0, clock.time)
        gate.tell(1, None, None)
        assert 7.0 <= gate.delay(clock.time) <= 8.0
        assert gate.waiting()["code"] == "rate_limit"
        clock.time += 8.0
        assert gate.delay(clock.time) == 0.0

    def test_echoes_of_one_overload_do_not_raise_the_backoff(self):
        clock = ManualClock()
        gate = self.gate(clock)
        gate.tell(64, None, None)
        retry = Retry(base_s=1.0, cap_s=60.0)
        sent_at = clock.time
        clock.time += 0.5
        waits = [gate.throttled(retry, None, sent_at) for _ in range(64)]
        assert max(waits) <= 0.25
        for least in (0.5, 1.0, 2.0):
            clock.time += 10.0
            assert least <= gate.throttled(retry, None, clock.time) <= 2 * least
        gate.answered(record())
        clock.time += 10.0
        assert gate.throttled(retry, None, clock.time) <= 0.25

    def test_retry_after_of_nothing_still_backs_off(self):
        gate = self.gate(ManualClock())
        assert gate.throttled(FAST, 0.0, 0.0) >= FAST.base_s / 2

    def test_the_first_word_of_a_limit_holds_calls_until_the_daemon_made_a_rate_of_it(self):
        clock = ManualClock()
        gate = self.gate(clock)
        gate.tell(8, None, None)
        gate.take_quota({"date": "now"})
        assert gate.delay(clock.time) == 0.0
        gate.seen.quota = {}
        gate.take_quota({"x-ratelimit-limit-requests": "600"})
        assert 0.0 < gate.delay(clock.time) <= 0.5
        gate.tell(8, None, None)  # said before it knew
        assert gate.delay(clock.time) > 0.0
        gate.tell(8, 10.0, None, first_in=0.0)
        assert gate.delay(clock.time) == 0.0
        assert gate.waiting() is None

    def test_a_limit_that_the_daemon_makes_nothing_of_holds_calls_once_and_shortly(self):
        clock = ManualClock()
        gate = self.gate(clock)
        gate.tell(8, None, None)
        for held in (True, False):
            gate.seen.quota = {}
            gate.take_quota({"anthropic-ratelimit-requests-limit": "many"})
            assert (gate.delay(clock.time) > 0.0) is held
            clock.time += 0.5
            assert gate.delay(clock.time) == 0.0

    def test_a_block_lasts_until_the_daemon_speaks(self):
        gate = self.gate(ManualClock())
        gate.tell(5, None, None)
        gate.blocked = True
        assert gate.delay(1000.0) is None
        gate.tell(1, None, None)
        assert gate.delay(1000.0) == 0.0


class TestLink:
    async def test_one_prober_waits_and_goes_on(self):
        clock, transport, changes = ManualClock(), FakeTransport(), []
        link = Link(transport, clock, lambda: changes.append(link.down))
        transport.up = False
        assert link.lost(REFUSED, PREPARED)
        assert not link.lost(REFUSED, PREPARED)
        await settle()
        assert link.down is not None
        assert str(link.down.text) == "cannot connect to service:80 (connection refused)"
        for _ in range(200):
            await clock.advance(1.0)
        assert 20 <= transport.probes <= 4000
        since = link.down.since
        transport.up = True
        await clock.advance(MAX_PROBE_INTERVAL_S)
        assert link.down is None
        assert changes[-1] is None
        assert since == pytest.approx(clock.now() - 200 - MAX_PROBE_INTERVAL_S, abs=1.0)
        probes = transport.probes
        await clock.advance(1000.0)
        assert transport.probes == probes

    async def test_the_backoff_grows_to_its_cap_and_only_a_call_resets_it(self):
        clock, transport = ManualClock(), FakeTransport()
        plan = make_plan("http://service/v1", retry=Retry(base_s=0.5, cap_s=600.0))
        link = Link(transport, clock, lambda: None)
        waits = []
        for _ in range(10):  # the port is open, but each call fails before it is sent
            assert link.lost(REFUSED, Prepared(plan))
            await settle()
            waits.append(link.down.next_try - clock.now())
            await clock.advance(waits[-1] + 0.001)
            assert link.down is None
        assert waits[0] <= 0.5
        assert waits[-1] >= MAX_PROBE_INTERVAL_S / 2
        assert max(waits) <= MAX_PROBE_INTERVAL_S
        link.came_through()
        link.lost(REFUSED, Prepared(plan))
        await settle()
        assert link.down.next_try - clock.now() <= 0.5
        link.close()

    async def test_one_check_for_all_that_failed_together(self):
        clock, transport = ManualClock(), FakeTransport()
        link = Link(transport, clock, lambda: None)
        for probes in (1, 2):
            checks = asyncio.gather(*(link.still_connects(PREPARED) for _ in range(100)))
            await settle()
            assert transport.probes == probes - 1  # a dying service may not have closed its port yet
            await clock.advance(CHECK_DELAY_S / 2)
            late = asyncio.create_task(link.still_connects(PREPARED))
            await settle()
            await clock.advance(CHECK_DELAY_S / 2)
            assert all(await checks)
            assert await late
            assert transport.probes == probes

    async def test_a_failed_check_starts_the_prober(self):
        clock, transport = ManualClock(), FakeTransport()
        link = Link(transport, clock, lambda: None)
        transport.up = False
        check = asyncio.create_task(link.still_connects(PREPARED))
        await settle()
        await clock.advance(CHECK_DELAY_S)
        assert not await check
        assert link.down is not None
        assert not await link.still_connects(PREPARED)
        assert transport.probes == 1
        link.reset()
        assert link.down is None
        await clock.advance(1000.0)
        assert transport.probes == 1

    async def test_a_bug_does_not_end_the_prober(self, monkeypatch, caplog):
        clock, transport = ManualClock(), FakeTransport()
        link = Link(transport, clock, lambda: None)
        bugs = [ValueError("a bug"), ValueError("another")]
        probe = transport.probe

        async def buggy(*args):
            if bugs:
                raise bugs.pop()
            await probe(*args)

        monkeypatch.setattr(transport, "probe", buggy)
        link.lost(REFUSED, PREPARED)
        await settle()
        for _ in range(10):
            await clock.advance(MAX_PROBE_INTERVAL_S)
        assert link.down is None
        assert caplog.text.count("a bug in the prober") == 2

    async def test_a_retired_link_does_not_go_down(self):
        clock, transport = ManualClock(), FakeTransport()
        link = Link(transport, clock, lambda: None)
        transport.up = False
        check = asyncio.create_task(link.still_connects(PREPARED))
        await settle()
        link.retire()
        await clock.advance(CHECK_DELAY_S)
        assert not await check
        assert not link.lost(REFUSED, PREPARED)
        assert link.down is None


class TestRoutes:
    """Tasks of one account that lead through different proxies."""

    DEAD = "http://dead:1"

    def accounts(self, clock: ManualClock, transport: FakeTransport) -> Accounts:
        return Accounts(cast("Any", transport), clock, Events(), lambda: None, lambda *_: None)

    def join(self, accounts: Accounts, task: str, proxy: str | None) -> TaskQueue:
        prepared = Prepared(make_plan("http://service/v1", task=task, proxy=proxy))
        accounts.set_plan(prepared)
        lease = SimpleNamespace(task=task, task_id=task, lease=f"lease-{task}", chunk=1)
        chunk: Any = SimpleNamespace(sending=True, lease=lease)
        chunk.records = lambda: (fresh(chunk, 1, 10), [])
        accounts.add(chunk, prepared)
        gate = accounts.gate("acc-1")
        gate.tell(5, None, None)
        return next(queue for queue in gate.turns.queues if queue.task == task)

    async def test_a_dead_proxy_holds_only_the_tasks_that_use_it(self):
        clock, transport = ManualClock(), FakeTransport()
        accounts = self.accounts(clock, transport)
        proxied, direct = self.join(accounts, "a", self.DEAD), self.join(accounts, "b", None)
        gate = accounts.gate("acc-1")
        proxied.link.lost(REFUSED, proxied.prepared)
        assert gate.delay(clock.time) == 0.0
        turn = gate.turns.peek(clock.time)
        assert turn is not None
        assert turn[0] is direct
        waiting = gate.waiting()
        assert waiting is not None
        assert waiting["code"] == "network"
        gate.turns.remove(direct)
        assert gate.turns.peek(clock.time) is None
        accounts.close()

    async def test_late_failures_under_the_old_plan_do_not_take_the_new_route_down(self):
        clock, transport = ManualClock(), FakeTransport()
        accounts = self.accounts(clock, transport)
        queue = self.join(accounts, "a", self.DEAD)
        old, old_link = queue.prepared, queue.link
        transport.up = False
        check = asyncio.create_task(old_link.still_connects(old))
        await settle()
        accounts.set_plan(
            Prepared(make_plan("http://service/v1", task="a", version=2, proxy="http://good:1"))
        )
        assert queue.link is not old_link
        await clock.advance(CHECK_DELAY_S)
        assert not await check
        assert not old_link.lost(REFUSED, old)
        assert queue.may_send
        assert accounts.gate("acc-1").waiting() is None
        probes = transport.probes
        await clock.advance(1000.0)
        assert transport.probes == probes

    async def test_a_resumed_task_tries_its_old_route_at_once(self):
        clock, transport = ManualClock(), FakeTransport()
        accounts = self.accounts(clock, transport)
        queue = self.join(accounts, "a", self.DEAD)
        queue.link.lost(REFUSED, queue.prepared)
        assert not queue.may_send
        accounts.set_plan(Prepared(make_plan("http://service/v1", task="a", version=2, proxy=self.DEAD)))
        assert queue.may_send
        assert queue.link.lost(REFUSED, queue.prepared)
        accounts.close()


class TestLoops:
    @pytest.mark.parametrize(("loop", "called"), [("_report", "flush"), ("_sync", "_sync_one")])
    async def test_a_bug_does_not_end_a_loop(self, monkeypatch, caplog, loop, called):
        clock, calls = ManualClock(), []
        worker = Worker(
            cast("Any", SimpleNamespace(idle=True, send=lambda *_: None)),
            cast("Any", None),
            clock,
            cast("Any", FakeTransport()),
            Events(),
        )
        worker._chunks["x"] = cast("Any", SimpleNamespace(journal=SimpleNamespace(needs_sync=True)))

        def buggy(*_: object) -> None:
            calls.append(called)
            raise ValueError("a bug")

        monkeypatch.setattr(worker if loop == "_sync" else worker._reporter, called, buggy)
        ticking = asyncio.create_task(getattr(worker, loop)())
        await settle()
        for _ in range(3):
            await clock.advance(1.0)
        ticking.cancel()
        assert len(calls) == 3
        assert caplog.text.count("a bug in a") == 3
