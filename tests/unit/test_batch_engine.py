"""The engine of a task that runs as batches: its starts and stops, and what must not be lost between them."""

import asyncio
from types import SimpleNamespace

import pytest
from batch_jobs_kit import batch_plan
from journal_kit import Task as Folder
from journal_kit import answer, error, missing
from test_submission_store import chunk, end
from worker_kit import ManualClock, settle

from batch_infer.protocol import frames, rpc
from batch_infer.protocol.text import Text
from batch_inferd.backends.batch.api import BatchApi
from batch_inferd.backends.batch.errors import BatchProblem, NotSent, Refused, fitting
from batch_inferd.backends.batch.provider import BatchState, BatchStatus, ResultRef
from batch_inferd.batches import run as engine
from batch_inferd.batches import submission as states
from batch_inferd.batches import terms
from batch_inferd.batches.creating import Creation
from batch_inferd.batches.following import Following
from batch_inferd.batches.reach import Reach
from batch_inferd.batches.refusal import Refusal, judge
from batch_inferd.batches.submission import Detail, Submission
from batch_inferd.batches.upstream import Upstreams
from batch_inferd.journal.reader import read_chunk
from batch_inferd.scheduling.jobs import JobLost, Jobs
from batch_inferd.seams.files import Directory
from batch_inferd.store.submissions import NewSubmission
from batch_inferd.store.taskdb import TaskDB
from batch_inferd.store.writer import StoreWriter
from batch_inferd.tasks import cancelled
from batch_inferd.tasks import states as task_states
from batch_inferd.tasks.budget import TaskBudget
from batch_inferd.tasks.progress import Progress
from batch_inferd.tasks.task import Task

API = BatchApi(poll_first_s=10.0, poll_min_s=1.0, cancel_s=1800.0, settle_s=60.0)


class Provider:
    """Answers as a test plans."""

    def __init__(self):
        self.does = {}
        self.called = asyncio.Event()

    def __getattr__(self, name):
        async def call(*args):
            self.called.set()
            found = self.does.get(name)
            if isinstance(found, Exception):
                raise found
            return await found(*args) if asyncio.iscoroutinefunction(found) else found

        return call


class FakeTask:
    """What the engine asks of a task."""

    def __init__(self, db, directory, clock):
        self.id, self.uuid, self.account, self.round, self.plan = "t", "u", "acc", 0, batch_plan(API)
        self.db, self.directory, self.progress = db, directory, Progress()
        self.running, self.cancelling, self.leases, self.facts, self.logged = True, False, {}, {}, []
        self.input_complete = True
        batch = {"fallback": "online", "deadline": 72_000.0}
        self.config = {"config": {"batch": batch, "lines_per_chunk": 100, "max_retry_count": 3}}
        self.trouble = None
        self.budget = TaskBudget(self)
        self.supply = SimpleNamespace(changed=lambda _: None)
        self.waker = asyncio.Event()
        account = SimpleNamespace(credit_back=lambda: None)
        dispatcher = SimpleNamespace(
            stopping=False,
            jobs=Jobs(lambda: None),
            wake=lambda: None,
            account=lambda _: account,
            blocked=lambda *_: None,
        )
        self.context = SimpleNamespace(clock=clock, upstreams=Upstreams(clock), dispatcher=dispatcher)

    def wake(self):
        self.waker.set()

    def changed(self):
        pass

    def log(self, level, message):
        self.logged.append(message)


@pytest.fixture
def clock():
    return ManualClock()


@pytest.fixture
async def task(tmp_path, clock):
    writer = StoreWriter()
    (tmp_path / "t").mkdir()
    directory = Directory(tmp_path / "t")
    db = await TaskDB.open(writer, tmp_path / "t")
    rows = [chunk(1), chunk(2)]
    await db.add_chunks(rows)
    made = FakeTask(db, directory, clock)
    made.progress.cut(rows)
    yield made
    made.context.upstreams.close()
    await db.close()
    directory.close()
    writer.close()


@pytest.fixture
def provider(monkeypatch):
    made = Provider()
    for module in (engine, terms):
        monkeypatch.setattr(module, "make_provider", lambda *_: made)
    return made


@pytest.fixture
def run(task, provider):
    task.batch = engine.BatchRun(task)
    return task.batch


async def submit(run, state, **more):
    """A submission of the first chunk, in some state."""
    found = {"file": "batches/x.jsonl", "bytes": 9, "requests": 10, "tokens": 10, "url": "/u", "model": "m"}
    detail = Detail(**found, round=0, **more)
    store, now, lines = run.store, run.clock.now(), {1: [(1, 10)]}
    columns = {"token": "t1", "detail": {}}
    (number,), changes = await store.add([NewSubmission(**columns, lines=lines)], [end(1)], now)
    run.task.progress.changed(changes)
    upstream = "b1" if state in (states.LIVE, states.ENDED) else None
    one = Submission(number, "t1", state, upstream, "f1", now, detail, lines)
    run.open[number] = one
    await run.save(one)
    return one


def status(state, raw, **more):
    return BatchStatus(id="b1", state=state, raw_state=raw, created=None, **more)


# starting and stopping


async def test_nothing_starts_while_the_engine_is_being_stopped(run, task):
    task.running = False
    run.start()
    await settle()
    first, hold = run._main, asyncio.Event()
    work = asyncio.create_task(run.whole(hold.wait()))
    replanning = asyncio.create_task(run.replan())
    await settle()
    run.start()  # as the task's driver does when it is woken
    assert first.done()
    assert run._main is first, "two engines would create the same batch twice"
    hold.set()
    task.waker.clear()
    await replanning
    await work
    assert task.waker.is_set(), "the driver is told to start it again"
    run.start()
    assert not run._main.done()
    await run.stop()


async def test_no_job_is_waited_for_that_nobody_will_begin(run):
    gate = asyncio.Event()

    async def late():
        await gate.wait()
        await run.job("collect", {})

    work = asyncio.create_task(run.whole(late()))
    await settle()
    stopping = asyncio.create_task(run.stop())
    await settle()
    gate.set()
    async with asyncio.timeout(5):
        await stopping
    with pytest.raises(JobLost):
        await work


async def test_a_task_that_is_resumed_while_its_engine_stops_goes_on():
    one = object.__new__(Task)

    async def nothing():
        pass

    async def stop():
        one.state = task_states.RUNNING  # `-resume` comes while a create is waited for

    one.state, one.facts, one.leases = task_states.PAUSED, {}, {}
    one.supply = SimpleNamespace(save_ended=nothing)
    one.batch = SimpleNamespace(stop=stop)
    one.early = SimpleNamespace(give_up=nothing)
    assert await one._step(), "the driver must not end: nobody would start another"


async def test_a_task_that_ran_as_cancelled_packs_again_after_a_retry(run, task):
    run.cancelling = True
    task.running = False
    run.start()
    assert not run.cancelling
    await run.stop()


async def test_an_end_that_was_committed_is_counted_although_its_life_is_broken_off(run, task):
    one = await submit(run, states.ENDED)
    assert task.progress.chunks["leased"] == 1
    closing = asyncio.create_task(run.close(one, states.REFUSED, []))
    await asyncio.sleep(0)
    closing.cancel()
    await run.stop()
    assert one.closed
    assert task.progress.chunks == {"ready": 2, "leased": 0, "done": 0}
    assert (await run.store.open()) == []


@pytest.mark.parametrize("state", [states.REFUSED, states.DROPPED])
async def test_what_comes_to_nothing_leaves_no_packed_file(run, task, state):
    one = await submit(run, states.PACKED)
    path = task.directory.path / one.detail.file
    path.parent.mkdir()
    path.write_bytes(b"{}\n")
    await run.close(one, state, [])
    assert not path.exists()


# creating


async def test_a_create_that_only_waited_for_the_network_is_not_unsettled(run, provider):
    one = await submit(run, states.UPLOADED)
    provider.does["create"] = NotSent("dns", "no name", "service:443")
    creating = asyncio.create_task(Creation(run, one).create())
    await provider.called.wait()
    creating.cancel()
    for job in run._brief:
        job.cancel()
    await run.stop()
    ((row, _),) = await run.store.open()
    assert row.state == states.UPLOADED
    assert run.capacity.batches == 0


async def test_a_create_that_was_sent_stays_unsettled(run, provider):
    one = await submit(run, states.UPLOADED)

    async def create(_):
        await asyncio.Event().wait()

    provider.does["create"] = create
    creating = asyncio.create_task(Creation(run, one).create())
    await provider.called.wait()
    creating.cancel()
    for job in run._brief:
        job.cancel()
    await run.stop()
    ((row, _),) = await run.store.open()
    assert row.state == states.CREATING


async def test_a_list_is_read_to_its_end_when_our_clock_was_set_back(run, provider, clock):
    one = await submit(run, states.UNSETTLED, asked=clock.now() + 86_400)
    seen = []

    async def recent(since):
        seen.append(since)
        yield status(BatchState.RUNNING, "in_progress", token="t1")

    provider.recent = recent
    await Creation(run, one).settle()
    assert seen == [0.0]
    assert (one.state, one.upstream_id) == (states.LIVE, "b1")


async def test_what_finds_no_room_in_an_empty_queue_is_halved(run, task):
    one = await submit(run, states.UPLOADED)
    creation = Creation(run, one)
    run.capacity.adopt("another", 1)
    for _ in range(10):
        await creation.queue_is_full("the limit is 5 tokens")
    assert not one.closed, "the other batch may be in its way"
    run.capacity.release("another")
    for _ in range(6):
        await creation.queue_is_full("the limit is 5 tokens")
    assert (one.state, list(run._halves)) == (states.UPLOADED, [])
    await creation.queue_is_full("the limit is 5 tokens")
    assert one.closed
    assert [half.lines for half in run._halves] == [{1: [(1, 5)]}, {1: [(6, 10)]}]
    assert run.most_tokens == 5


async def test_a_batch_is_not_created_past_its_deadline(run, provider, clock, monkeypatch):
    one = await submit(run, states.UPLOADED)
    collected = []

    async def collect(_, submission, files):
        collected.append((submission, files))
        submission.state = states.COLLECTED

    monkeypatch.setattr("batch_inferd.batches.collecting.collect", collect)
    await clock.advance(80_000.0)
    await Creation(run, one).create()
    assert collected == [(one, [])]
    assert not provider.called.is_set()


async def test_when_the_network_is_back_all_go_at_once(clock):
    reach, up, calls, hold = Reach(clock), [], [], asyncio.Event()

    async def call():
        calls.append(bool(up))
        if not up:
            raise NotSent("refused", "no", "service:80")
        await (asyncio.sleep(0) if len(up) == 1 else hold.wait())
        up.append(1)

    jobs = [asyncio.create_task(reach.call(call)) for _ in range(4)]
    await settle()
    up.append(1)
    await clock.advance(60.0)
    await clock.advance(60.0)
    assert calls.count(True) == 4, "a long upload keeps nobody waiting"
    hold.set()
    await asyncio.gather(*jobs)


async def test_a_network_that_is_down_for_days_is_waited_out(clock):
    reach, tries = Reach(clock), []

    async def call():
        tries.append(1)
        if len(tries) <= 3000:
            raise NotSent("refused", "no", "service:80")
        return "there"

    job = asyncio.create_task(reach.call(call))
    while not job.done():
        await clock.advance(30.0)
    assert job.result() == "there"


# following


async def test_a_batch_is_looked_at_before_it_is_given_up(run, provider, clock):
    cancel = {"cancel": states.BY_DEADLINE, "cancelled_at": clock.now() - 86_400}
    one = await submit(run, states.LIVE, **cancel)
    provider.does["retrieve"] = status(
        BatchState.CANCELLED, "cancelled", completed=4, results=[ResultRef("output", "f9")]
    )
    following = asyncio.create_task(Following(run, one).follow())
    await settle()
    await clock.advance(30.0)
    async with asyncio.timeout(5):
        await following
    assert one.state == states.ENDED
    assert one.detail.outputs == [("output", "f9")], "what was paid for while nobody looked is kept"


async def test_a_state_that_nobody_knows_is_the_end_once_the_window_is_over(run, provider, clock):
    one = await submit(run, states.LIVE)
    results = [ResultRef("output", "f9")]
    more = {"completed": 4, "results": results, "expires": clock.now() + 86_400, "unknown": True}
    provider.does["retrieve"] = status(BatchState.RUNNING, "half_done", **more)
    run._settings["fallback"] = "off"
    following = asyncio.create_task(Following(run, one).follow())
    await settle()
    await clock.advance(86_400.0)
    assert not following.done(), "it is taken for running"
    for _ in range(4):
        await clock.advance(3600.0)
    async with asyncio.timeout(5):
        await following
    assert (one.state, one.detail.end_state, one.detail.raw_state) == (states.ENDED, "expired", "half_done")
    assert one.detail.outputs == [("output", "f9")]


# after a cancel


async def test_late_results_wait_for_a_round_of_their_own(run, task):
    await submit(run, states.ENDED)
    task.facts = {"late": 1}  # the open lines may have ended in this round already
    await cancelled._close_batches(task, run)
    assert task.facts["late"] == 1
    assert len(await run.store.open()) == 1


async def test_a_late_failure_is_what_became_of_a_record(tmp_path):
    folder = Folder(tmp_path)
    folder.chunk(b"{}\n{}\n{}\n")
    first = missing(1, round=0) + missing(2, round=0) + missing(3, round=0)
    later = error(1, round=1) + answer(2, round=1)
    for early, late in (("a", "b"), ("b", "a")):  # journals are read by name
        folder.journal(1, early, first)
        folder.journal(1, late, later)
        state = read_chunk(folder.directory, 1, 0)
        assert state.terminals == {1: "error", 2: "answer", 3: "missing"}
    folder.close()


# refusals


def refused(*problems, **more):
    found = {"file": "", "bytes": 0, "requests": 10, "tokens": 0, "url": "", "model": "", "round": 0}
    detail = Detail(**found, end_state="failed", **more)
    one = Submission(1, "t", states.ENDED, "b", "f", 0.0, detail, {1: [(1, 10)]})
    one.problems = list(problems)
    return judge(one, batch_plan(API))[0]


def test_what_a_refusal_means():
    full = BatchProblem("token_limit_exceeded", "no room")
    assert refused(full) is Refusal.FULL
    assert refused(full, completed=0, outputs=[("output", "f")]) is Refusal.FULL
    assert refused(full, completed=3, outputs=[("output", "f")]) is Refusal.RAN, "these were paid for"
    assert refused(BatchProblem("bad", "no", line=10)) is Refusal.LINES
    assert refused(BatchProblem("bad", "no", line=11)) is Refusal.HALVE, "it would be sent again for ever"


# what crosses the pipe


def test_many_problems_fit_into_a_message():
    many = [BatchProblem("bad", "\u4e2d" * 2000, line=n) for n in range(1, 50_001)]
    kept = fitting(many)
    assert 100 < len(kept) < len(many)
    frames.encode(rpc.notification("job_failed", Refused(Text("no"), problems=many).to_wire()))


async def test_a_job_that_cannot_be_sent_fails(task):
    class Worker:
        def send(self, method, params):
            frames.encode(rpc.notification(method, params))

    jobs = Jobs(lambda: None)
    running = asyncio.create_task(jobs.run(task, "collect", {"problems": "x" * 2_000_000}))
    await settle()
    (job,) = jobs.waiting()
    jobs.give(job, Worker(), 1)
    with pytest.raises(RuntimeError, match="cannot be sent"):
        await running
