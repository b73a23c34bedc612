"""A runner of jobs on a desk, and transfers that hang."""

import asyncio

from worker_kit import ManualClock

from batch_inferd.seams.events import Events
from batch_inferd.worker.batch.jobs import Jobs
from batch_inferd.worker.guard import WriteGuard

BOUND_S = 30.0
UPLOAD = {"file": "batches/p.1.jsonl", "filename": "bi-1.jsonl", "size": 5}
DOWNLOAD = {"ref": {"kind": "output", "ref": "file-1"}, "file": "batches/s1.output.jsonl"}


class Outbox:
    """Keeps messages; `ended` is one job's."""

    idle = True

    def __init__(self):
        self.messages = []
        self._news = asyncio.Event()

    def send(self, method, params):
        self.messages.append((method, params))
        self._news.set()

    def all(self, method):
        return [params for name, params in self.messages if name == method]

    async def ended(self, job):
        async with asyncio.timeout(BOUND_S):
            while True:
                for method, params in self.messages:
                    if method != "job_progress" and params.get("job") == job:
                        return params.get("result") or params["failure"]
                self._news.clear()
                await self._news.wait()


def job_message(desk, kind, params, job="j1"):
    """What the daemon sends a worker for a job of the desk's task."""
    folder = desk.folder
    return {
        "job": job,
        "kind": kind,
        "task": "uuid-1",
        "task_id": "t",
        "task_dir": str(folder.path),
        "task_dir_id": list(folder.directory.identity),
        "plan_version": 1,
        "params": params,
    }


class Bench:
    """A runner on a desk's folder, with the desk's provider."""

    def __init__(self, desk):
        self.desk = desk
        self.outbox = Outbox()
        self.events = Events()
        self.clock = ManualClock()
        self.over = 0
        self.plans = {"uuid-1": desk.prepared}
        self.providers = []
        self.flushed = 0
        self.jobs = Jobs(
            self.outbox,
            WriteGuard(),
            self.clock,
            self.events,
            self.plans.get,
            self._flush_log,
            self._changed,
            self._make,
        )

    def _flush_log(self):
        self.flushed += 1

    def _changed(self):
        self.over += 1

    def _make(self, plan, clock):
        self.providers.append(plan)
        return self.desk.provider

    def begin(self, kind, params, job="j1", **changes):
        self.jobs.on_job(job_message(self.desk, kind, params, job) | changes)
        return job

    async def run(self, kind, params, **changes):
        return await self.outbox.ended(self.begin(kind, params, **changes))


class Stuck:
    """A transfer that hangs until it is let go; counts how many are under way."""

    def __init__(self, desk):
        self.gate = asyncio.Event()
        self.now = self.most = 0
        desk.provider.does["download"] = self.fetch

    async def fetch(self, ref, write, opened):
        self.now += 1
        self.most = max(self.most, self.now)
        try:
            write(b"x")
            await self.gate.wait()
        finally:
            self.now -= 1
        return 1

    async def until(self, count):
        await until(lambda: self.now >= count)


async def until(holds):
    async with asyncio.timeout(BOUND_S):
        while not holds():  # noqa: ASYNC110  threads do it
            await asyncio.sleep(0.001)


def packed(desk, data=b"hello"):
    (desk.path / "batches").mkdir(exist_ok=True)
    (desk.path / UPLOAD["file"]).write_bytes(data)
