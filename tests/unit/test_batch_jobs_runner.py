"""The runner of jobs: each ends in one message, whatever happens to it."""

import asyncio
import contextlib
import errno
import os
import shutil
import subprocess
import sys
import threading

import msgspec
import pytest
from batch_jobs_kit import Desk, batch_plan, fire, refusal, result
from worker_kit import FakeTransport, ManualClock, WorkerDriver, ask, make_plan, settle

from batch_infer.protocol.text import Text
from batch_inferd.backends.batch.api import BatchApi
from batch_inferd.backends.batch.errors import Capacity, NotFound, Unsettled, error_from_wire
from batch_inferd.backends.batch.openai import OpenAIBatches
from batch_inferd.backends.online import Prepared
from batch_inferd.backends.plan import BatchPlan
from batch_inferd.backends.transport import NotSent
from batch_inferd.journal.names import journal_name
from batch_inferd.seams.events import Events
from batch_inferd.worker.batch import pack
from batch_inferd.worker.batch.jobs import Jobs, make_provider
from batch_inferd.worker.core import Worker
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
        folder = self.desk.folder
        message = {
            "job": job,
            "kind": kind,
            "task": "uuid-1",
            "task_id": "t",
            "task_dir": str(folder.path),
            "task_dir_id": list(folder.directory.identity),
            "plan_version": 1,
            "params": params,
        }
        self.jobs.on_job(message | changes)
        return job

    async def run(self, kind, params, **changes):
        return await self.outbox.ended(self.begin(kind, params, **changes))


@pytest.fixture
def desk(tmp_path):
    made = Desk(tmp_path)
    made.add(ask("a"), b"bad", ask("b"))
    yield made
    made.close()


@pytest.fixture
async def bench(desk):
    made = Bench(desk)
    yield made
    made.jobs.stop("abort")
    await until(lambda: made.jobs.idle)
    await made.jobs.close()


async def until(holds):
    async with asyncio.timeout(BOUND_S):
        while not holds():  # noqa: ASYNC110  threads do it
            await asyncio.sleep(0.001)


def packed(desk, data=b"hello"):
    (desk.path / "batches").mkdir(exist_ok=True)
    (desk.path / UPLOAD["file"]).write_bytes(data)


class TestKinds:
    async def test_pack_and_collect(self, desk, bench):
        found = await bench.run("pack", desk.pack_params())
        assert [pack["lines"] for pack in found["packs"]] == [{"1": [[1, 1], [3, 3]]}]
        assert desk.folder.entries()[0]["line"] == 2
        assert (desk.path / journal_name(1, "j1")).exists()
        logged = []
        bench.events.subscribe(lambda name, fields: logged.append((name, fields["line"], fields["cls"])))
        file = desk.results(result(1), result(3, 400, refusal()))
        params = desk.collect_params(file, chunks=[desk.chunk() | {"ranges": [[1, 1], [3, 3]]}])
        found = await bench.run("collect", params, job="j2")
        assert (found["answered"], found["failed"], found["chunks"][0]["open"]) == (1, 1, 0)
        assert logged == [("record.failed", 3, "bad_request")]
        assert (bench.over, bench.flushed) == (2, 1)
        assert bench.jobs.idle

    async def test_upload(self, desk, bench):
        packed(desk)

        async def send(file, progress):
            assert file.path.read_bytes() == b"hello"
            progress(2)
            progress(3)
            bench.clock.time += 1
            progress(5)
            return "file-9"

        desk.provider.does["upload"] = send
        assert await bench.run("upload", UPLOAD) == {"input_ref": "file-9"}
        assert [(p["done"], p["total"]) for p in bench.outbox.all("job_progress")] == [(2, 5), (5, 5)]
        assert [(name, file.filename, file.size) for name, file in desk.provider.calls] == [
            ("upload", "bi-1.jsonl", 5)
        ]

    @pytest.mark.parametrize("known", ["file-7", None])
    async def test_upload_again(self, desk, bench, known):
        packed(desk)

        async def find(_file):
            return known

        async def send(_file, _progress):
            return "file-9"

        desk.provider.does |= {"find_upload": find, "upload": send}
        assert await bench.run("upload", UPLOAD | {"reuse": True}) == {"input_ref": known or "file-9"}
        assert [name for name, _ in desk.provider.calls] == ["find_upload"] + ["upload"] * (known is None)

    async def test_requests_that_go_inline(self, desk, bench):
        packed(desk)

        async def inline(_file, _progress):
            return None

        desk.provider.does["upload"] = inline
        bench.begin("upload", UPLOAD)
        await until(lambda: bench.outbox.all("job_done"))
        assert bench.outbox.all("job_done") == [{"job": "j1", "result": {"input_ref": None}}]

    async def test_a_packed_file_that_is_not_whole_is_not_sent(self, desk, bench):
        packed(desk, b"hell")
        failure = await bench.run("upload", UPLOAD)
        assert (failure["kind"], failure["errno"]) == ("disk", errno.EIO)
        assert "4 bytes, not 5" in failure["text"]
        assert desk.provider.calls == []

    async def test_download(self, desk, bench):
        async def fetch(ref, write, opened):
            opened()
            write(b"one\n")
            assert not (desk.path / DOWNLOAD["file"]).exists()
            write(b"two\n")
            return 8

        desk.provider.does["download"] = fetch
        assert await bench.run("download", DOWNLOAD) == {"bytes": 8}
        assert (desk.path / DOWNLOAD["file"]).read_bytes() == b"one\ntwo\n"
        assert (desk.path / DOWNLOAD["file"]).stat().st_mode & 0o777 == 0o600
        assert os.listdir(desk.path / "batches") == ["s1.output.jsonl"]
        assert bench.outbox.all("job_progress") == [{"job": "j1", "done": 4, "total": 0}]

    async def test_an_empty_download_replaces_what_was_there(self, desk, bench):
        async def fetch(ref, write, opened):
            opened()
            return 0

        desk.provider.does["download"] = fetch
        (desk.path / "batches").mkdir()
        for name in (DOWNLOAD["file"], DOWNLOAD["file"] + ".part"):
            (desk.path / name).write_bytes(b"of an earlier try, which was longer")
        assert await bench.run("download", DOWNLOAD) == {"bytes": 0}
        assert (desk.path / DOWNLOAD["file"]).read_bytes() == b""


class TestFailures:
    @pytest.mark.parametrize(
        "error",
        [
            Unsettled(Text("cut")),
            Capacity(Text("full"), 3.5),
            NotFound(Text("gone")),
            NotSent("dns", "no such host", "x:443"),
        ],
    )
    async def test_what_a_provider_raises_crosses_the_pipe(self, desk, bench, error):
        async def fail(*_):
            raise error

        desk.provider.does |= {"download": fail, "upload": fail}
        packed(desk)
        for kind, params in (("download", DOWNLOAD), ("upload", UPLOAD)):
            failure = await bench.run(kind, params, job=kind)
            assert failure["kind"] == "provider"
            again = error_from_wire(failure["error"])
            assert (type(again), str(again)) == (type(error), str(error))
        assert os.listdir(desk.path / "batches") == ["p.1.jsonl"]

    async def test_a_download_cut_in_its_middle_leaves_nothing(self, desk, bench):
        async def fetch(ref, write, opened):
            opened()
            write(b"half")
            raise Unsettled(Text("truncated"))

        desk.provider.does["download"] = fetch
        failure = await bench.run("download", DOWNLOAD)
        assert isinstance(error_from_wire(failure["error"]), Unsettled)
        assert os.listdir(desk.path / "batches") == []

    async def test_a_download_whose_size_is_not_what_was_told(self, desk, bench):
        async def fetch(ref, write, opened):
            write(b"half")
            return 8

        desk.provider.does["download"] = fetch
        failure = await bench.run("download", DOWNLOAD)
        assert "4 bytes of the result file" in str(error_from_wire(failure["error"]))

    @pytest.mark.parametrize(
        "where", ["write:output", "sync:output", "rename:output", "open:output", "sync:batches"]
    )
    async def test_a_full_disk(self, desk, bench, monkeypatch, where):
        async def fetch(ref, write, opened):
            write(b"data")
            return 4

        desk.provider.does["download"] = fetch
        monkeypatch.setenv("BATCH_INFER_FS_FAULTS", f"{where}={errno.ENOSPC}")
        failure = await bench.run("download", DOWNLOAD)
        assert (failure["kind"], failure["errno"], failure["error"]) == ("disk", errno.ENOSPC, None)
        monkeypatch.delenv("BATCH_INFER_FS_FAULTS")
        assert await bench.run("download", DOWNLOAD, job="again") == {"bytes": 4}

    async def test_a_full_disk_while_packing(self, desk, bench, monkeypatch):
        monkeypatch.setenv("BATCH_INFER_FS_FAULTS", f"write:batches/={errno.ENOSPC}")
        failure = await bench.run("pack", desk.pack_params())
        assert (failure["kind"], failure["errno"]) == ("disk", errno.ENOSPC)
        assert "batches/p.1.jsonl" in failure["text"]

    @pytest.mark.parametrize(
        ("point", "kind", "params"),
        [
            ("batch.packed", "pack", None),
            ("batch.uploaded", "upload", UPLOAD),
            ("batch.download_opened", "download", DOWNLOAD),
            ("batch.download_half", "download", DOWNLOAD),
        ],
    )
    async def test_failpoints(self, desk, bench, monkeypatch, point, kind, params):
        async def fetch(ref, write, opened):
            opened()
            write(b"data")
            return 4

        async def send(*_):
            return "file-1"

        desk.provider.does |= {"download": fetch, "upload": send}
        packed(desk)
        fire(monkeypatch, point, errno.EDQUOT)
        failure = await bench.run(kind, params or desk.pack_params())
        assert (failure["kind"], failure["errno"]) == ("disk", errno.EDQUOT)

    async def test_no_plan(self, desk, bench):
        for plan in (None, Prepared(make_plan("http://x/v1"))):
            bench.plans["uuid-1"] = plan
            assert (await bench.run("pack", desk.pack_params(), job=str(plan)))["kind"] == "no_plan"

    async def test_a_folder_that_is_gone(self, desk, bench):
        shutil.rmtree(desk.path)
        for kind, params in (("pack", desk.pack_params()), ("download", DOWNLOAD), ("upload", UPLOAD)):
            assert (await bench.run(kind, params, job=kind))["kind"] == "gone"

    async def test_a_folder_that_was_replaced(self, desk, bench):
        desk.path.rename(desk.path.with_name("moved"))
        shutil.copytree(desk.path.with_name("moved"), desk.path)
        assert (await bench.run("pack", desk.pack_params()))["kind"] == "gone"
        assert not (desk.path / "batches").exists()

    async def test_a_folder_that_goes_meanwhile(self, desk, bench):
        async def fetch(ref, write, opened):
            shutil.rmtree(desk.path)
            write(b"data")
            return 4

        desk.provider.does["download"] = fetch
        assert (await bench.run("download", DOWNLOAD))["kind"] == "gone"
        assert not desk.path.exists()

    async def test_a_bug_ends_in_a_message(self, desk, bench, caplog):
        async def fail(*_):
            raise RuntimeError("oh")

        desk.provider.does["download"] = fail
        failure = await bench.run("download", DOWNLOAD)
        assert (failure["kind"], failure["text"]) == ("bug", "internal error: RuntimeError('oh')")
        assert "a bug: job j1" in caplog.text

    @pytest.mark.parametrize(
        ("kind", "params"),
        [("dance", {}), ("pack", {"round": 0}), ("collect", {"ended": "never"}), ("upload", {})],
    )
    async def test_a_message_that_cannot_be_read(self, bench, kind, params):
        assert (await bench.run(kind, params))["kind"] == "bug"

    async def test_a_job_that_runs_already(self, desk, bench, caplog):
        gate = asyncio.Event()

        async def fetch(ref, write, opened):
            await gate.wait()
            return 0

        desk.provider.does["download"] = fetch
        bench.begin("download", DOWNLOAD)
        bench.begin("download", DOWNLOAD)
        gate.set()
        await bench.outbox.ended("j1")
        await settle()
        assert len(bench.outbox.all("job_done")) == 1
        assert "running already" in caplog.text


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


@pytest.fixture
def slow_pack(monkeypatch):
    """Packing waits for `release`; `begun` counts."""

    class Slow:
        release = threading.Event()
        begun = threading.Semaphore(0)
        now = most = 0

    lock = threading.Lock()
    real = pack.Packer.run

    def run(self):
        with lock:
            Slow.now += 1
            Slow.most = max(Slow.most, Slow.now)
        Slow.begun.release()
        try:
            assert Slow.release.wait(BOUND_S)
            return real(self)
        finally:
            with lock:
                Slow.now -= 1

    monkeypatch.setattr(pack.Packer, "run", run)
    yield Slow
    Slow.release.set()


async def begun(slow):
    assert await asyncio.to_thread(slow.begun.acquire, timeout=BOUND_S)


class TestCancelling:
    async def test_a_transfer_is_cut_short(self, desk, bench):
        stuck = Stuck(desk)
        bench.begin("download", DOWNLOAD)
        await stuck.until(1)
        bench.jobs.on_cancel({"job": "j1"})
        assert (await bench.outbox.ended("j1"))["kind"] == "cancelled"
        assert os.listdir(desk.path / "batches") == []
        bench.jobs.on_cancel({"job": "j1"})
        assert len(bench.outbox.all("job_failed")) == 1

    async def test_a_pack_ends_at_its_next_look(self, desk, bench, slow_pack):
        bench.begin("pack", desk.pack_params())
        await begun(slow_pack)
        bench.jobs.on_cancel({"job": "j1"})
        assert bench.outbox.messages == []  # its thread is still there
        slow_pack.release.set()
        assert (await bench.outbox.ended("j1"))["kind"] == "cancelled"
        assert os.listdir(desk.path / "batches") == []

    async def test_two_threads_and_eight_transfers(self, desk, bench, slow_pack):
        stuck = Stuck(desk)
        for number in range(10):
            bench.begin("download", DOWNLOAD | {"file": f"batches/{number}"}, job=f"d{number}")
        for number in range(4):
            bench.begin("pack", desk.pack_params(prefix=f"batches/p{number}"), job=f"p{number}")
        await stuck.until(8)
        await begun(slow_pack)
        await begun(slow_pack)
        await settle()
        stuck.gate.set()
        slow_pack.release.set()
        for number in range(10):
            assert await bench.outbox.ended(f"d{number}") == {"bytes": 1}
        for number in range(4):
            assert "packs" in await bench.outbox.ended(f"p{number}")
        assert (stuck.most, slow_pack.most) == (8, 2)

    async def test_one_that_waits_for_its_turn(self, desk, bench):
        stuck = Stuck(desk)
        for number in range(9):
            bench.begin("download", DOWNLOAD | {"file": f"batches/{number}"}, job=f"d{number}")
        await stuck.until(8)
        bench.jobs.on_cancel({"job": "d8"})
        assert (await bench.outbox.ended("d8"))["kind"] == "cancelled"
        stuck.gate.set()
        assert [await bench.outbox.ended(f"d{n}") for n in range(8)] == [{"bytes": 1}] * 8
        assert await bench.run("download", DOWNLOAD, job="next") == {"bytes": 1}  # the turns are given back


class TestStopping:
    async def test_drain_finishes_what_packs_and_cancels_the_rest(self, desk, bench, slow_pack):
        stuck = Stuck(desk)
        bench.begin("download", DOWNLOAD, job="d")
        for name in ("p1", "p2", "p3"):
            bench.begin("pack", desk.pack_params(prefix=f"batches/{name}"), job=name)
        await stuck.until(1)
        await begun(slow_pack)
        await begun(slow_pack)
        bench.jobs.stop("drain")
        assert (await bench.outbox.ended("d"))["kind"] == "cancelled"
        assert (await bench.outbox.ended("p3"))["kind"] == "cancelled"
        assert (await bench.run("pack", desk.pack_params(), job="late"))["kind"] == "cancelled"
        assert not bench.jobs.idle
        slow_pack.release.set()
        assert "packs" in await bench.outbox.ended("p1")
        assert "packs" in await bench.outbox.ended("p2")

    async def test_abort_ends_all(self, desk, bench, slow_pack):
        bench.begin("pack", desk.pack_params())
        await begun(slow_pack)
        bench.jobs.stop("drain")
        bench.jobs.stop("abort")
        slow_pack.release.set()
        assert (await bench.outbox.ended("j1"))["kind"] == "cancelled"

    async def test_the_worker_ends_after_its_last_job(self, desk, slow_pack):
        outbox = Outbox()
        worker = Worker(outbox, WriteGuard(), ManualClock(), FakeTransport(), Events())
        running = asyncio.create_task(worker.run())
        bench = Bench(desk)
        bench.jobs = worker._batch
        worker.handle("plan", {"plan": msgspec.to_builtins(batch_plan())})
        worker._batch._providers._make = bench._make
        bench.begin("pack", desk.pack_params())
        await begun(slow_pack)
        worker.handle("shutdown", {"mode": "drain"})
        await settle()
        assert not running.done()
        slow_pack.release.set()
        assert "packs" in await outbox.ended("j1")
        async with asyncio.timeout(BOUND_S):
            await running
        assert desk.provider.closed == 1


class TestProviders:
    async def test_one_a_task_until_it_is_forgotten(self, desk, bench):
        for number in range(3):
            await bench.run("pack", desk.pack_params(), job=f"j{number}")
        assert (len(bench.providers), desk.provider.closed) == (1, 0)
        bench.jobs.on_forget({"task": "other"})
        bench.jobs.on_forget({"task": "uuid-1"})
        await settle()
        assert desk.provider.closed == 1

    async def test_a_newer_plan_has_a_provider_of_its_own(self, desk, bench):
        stuck = Stuck(desk)
        bench.begin("download", DOWNLOAD)
        await stuck.until(1)
        bench.plans["uuid-1"] = Prepared(batch_plan(version=2))
        await bench.run("pack", desk.pack_params(), job="p")
        assert [plan.version for plan in bench.providers] == [1, 2]
        assert desk.provider.closed == 0  # it has a job
        stuck.gate.set()
        await bench.outbox.ended("j1")
        assert desk.provider.closed == 1

    async def test_one_that_cannot_be_closed(self, desk, bench, caplog):
        async def fail():
            raise OSError("stuck")

        await bench.run("pack", desk.pack_params())
        desk.provider.close = fail
        bench.jobs.on_forget({"task": "uuid-1"})
        await settle()
        assert "could not be closed" in caplog.text

    async def test_the_adapter_of_the_plan(self):
        provider = make_provider(batch_plan(), ManualClock())
        assert isinstance(provider, OpenAIBatches)
        await provider.close()
        with pytest.raises(ValueError, match="none-such"):
            make_provider(batch_plan(BatchApi(adapter="none-such")), ManualClock())

    async def test_an_adapter_that_is_not_there_ends_the_job(self, desk, bench, caplog):
        bench.jobs._providers._make = make_provider
        bench.plans["uuid-1"] = Prepared(batch_plan(BatchApi(adapter="none-such")))
        assert (await bench.run("pack", desk.pack_params()))["kind"] == "bug"


def test_a_worker_of_online_calls_does_without_the_adapters():
    code = "import sys, batch_inferd.worker.__main__; print('httpx' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


class TestProcess:
    """A real worker over its pipe."""

    def message(self, desk, kind, params, job="j1"):
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

    def test_pack_and_collect(self, desk, tmp_path):
        with WorkerDriver(tmp_path) as worker:
            worker.plan(batch_plan())
            worker.send("job", **self.message(desk, "pack", desk.pack_params()))
            done = worker.wait_for("job_done")
            assert done["result"]["packs"][0]["requests"] == 2
            params = desk.collect_params(desk.results(result(1)), ended="expired")
            params["chunks"][0]["ranges"] = [[1, 1], [3, 3]]
            worker.send("job", **self.message(desk, "collect", params, "j2"))
            done = worker.wait_for("job_done")["result"]
            assert (done["answered"], done["retried"]) == (1, 1)
            assert any("line 3 attempt 1 failed: expired" in line for line in worker.logs())
            worker.send("job", **self.message(desk, "pack", {}, "j3"))
            assert worker.wait_for("job_failed")["failure"]["kind"] == "bug"
            worker.send("shutdown", mode="drain")
            assert worker.wait_end() == 0

    @pytest.mark.parametrize("point", ["batch.demultiplexed", "journal.written", "batch.journaled"])
    def test_an_exit_while_collecting_is_recovered(self, desk, tmp_path, point):
        params = desk.collect_params(desk.results(result(1), result(3, 500, refusal())), submission="4")
        params["chunks"][0]["ranges"] = [[1, 1], [3, 3]]
        with WorkerDriver(tmp_path, BATCH_INFER_FAILPOINTS=f"{point}=exit") as worker:
            worker.plan(batch_plan())
            worker.send("job", **self.message(desk, "collect", params))
            assert worker.wait_end() == 86
        with WorkerDriver(tmp_path, "again") as worker:
            worker.plan(batch_plan())
            worker.send("job", **self.message(desk, "collect", params))
            done = worker.wait_for("job_done")["result"]
        assert (done["answered"], done["retried"]) == (1, 1)
        assert desk.folder.kinds() == {"answer": 1, "attempt": 1}

    def test_a_pipe_that_ends(self, desk, tmp_path):
        for _ in range(20):
            desk.add(*(ask(f"q{n}") for n in range(500)))
        with WorkerDriver(tmp_path) as worker:
            worker.plan(batch_plan())
            worker.send("job", **self.message(desk, "pack", desk.pack_params(*range(1, 22))))
            worker.close_pipe()
            assert worker.wait_end() == 0

    def test_a_service_that_is_not_there(self, desk, tmp_path):
        plan = msgspec.structs.replace(
            batch_plan(), base_url="http://127.0.0.1:1/v1", batch=BatchPlan(BatchApi(), "24h", "t")
        )
        packed(desk)
        with WorkerDriver(tmp_path) as worker:
            worker.plan(plan)
            for kind, params in (("upload", UPLOAD), ("download", DOWNLOAD)):
                worker.send("job", **self.message(desk, kind, params, kind))
                failure = worker.wait_for("job_failed")["failure"]
                assert failure["kind"] == "provider"
                assert isinstance(error_from_wire(failure["error"]), NotSent)
            assert "sk-very-secret-key" not in worker.tail()


async def test_a_disk_that_fills_up_under_a_real_download(desk, bench, monkeypatch):
    """What our own files do wrong is not taken for the network's fault."""
    body = b"x" * 300_000

    async def serve(reader, writer):
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(body) + body)
        with contextlib.suppress(OSError):
            await writer.drain()
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    bench.jobs._providers._make = make_provider
    bench.plans["uuid-1"] = Prepared(
        msgspec.structs.replace(batch_plan(), base_url=f"http://127.0.0.1:{port}/v1")
    )
    monkeypatch.setenv("BATCH_INFER_FS_FAULTS", f"write:.part={errno.ENOSPC}")
    failure = await bench.run("download", DOWNLOAD)
    assert (failure["kind"], failure["errno"]) == ("disk", errno.ENOSPC)
    monkeypatch.delenv("BATCH_INFER_FS_FAULTS")
    assert await bench.run("download", DOWNLOAD, job="again") == {"bytes": len(body)}
    assert (desk.path / DOWNLOAD["file"]).read_bytes() == body
    await bench.jobs.close()
    server.close()
    await server.wait_closed()
