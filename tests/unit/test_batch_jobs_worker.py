"""The runner of jobs in its worker: providers of plans, a real process, a real download."""

import asyncio
import contextlib
import errno
import subprocess
import sys

import msgspec
import pytest
from batch_jobs_kit import batch_plan, refusal, result
from batch_runner_kit import DOWNLOAD, UPLOAD, Stuck, job_message, packed
from worker_kit import ManualClock, WorkerDriver, ask, settle

from batch_inferd.backends.batch.api import BatchApi
from batch_inferd.backends.batch.errors import error_from_wire
from batch_inferd.backends.batch.openai import OpenAIBatches
from batch_inferd.backends.online import Prepared
from batch_inferd.backends.plan import BatchPlan
from batch_inferd.backends.transport import NotSent
from batch_inferd.worker.batch.jobs import make_provider


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

    def test_pack_and_collect(self, desk, tmp_path):
        with WorkerDriver(tmp_path) as worker:
            worker.plan(batch_plan())
            worker.send("job", **job_message(desk, "pack", desk.pack_params()))
            done = worker.wait_for("job_done")
            assert done["result"]["packs"][0]["requests"] == 2
            params = desk.collect_params(desk.results(result(1)), ended="expired")
            params["chunks"][0]["ranges"] = [[1, 1], [3, 3]]
            worker.send("job", **job_message(desk, "collect", params, "j2"))
            done = worker.wait_for("job_done")["result"]
            assert (done["answered"], done["retried"]) == (1, 1)
            assert any("line 3 attempt 1 failed: expired" in line for line in worker.logs())
            worker.send("job", **job_message(desk, "pack", {}, "j3"))
            assert worker.wait_for("job_failed")["failure"]["kind"] == "bug"
            worker.send("shutdown", mode="drain")
            assert worker.wait_end() == 0

    @pytest.mark.parametrize("point", ["batch.demultiplexed", "journal.written", "batch.journaled"])
    def test_an_exit_while_collecting_is_recovered(self, desk, tmp_path, point):
        params = desk.collect_params(desk.results(result(1), result(3, 500, refusal())), submission="4")
        params["chunks"][0]["ranges"] = [[1, 1], [3, 3]]
        with WorkerDriver(tmp_path, BATCH_INFER_FAILPOINTS=f"{point}=exit") as worker:
            worker.plan(batch_plan())
            worker.send("job", **job_message(desk, "collect", params))
            assert worker.wait_end() == 86
        with WorkerDriver(tmp_path, "again") as worker:
            worker.plan(batch_plan())
            worker.send("job", **job_message(desk, "collect", params))
            done = worker.wait_for("job_done")["result"]
        assert (done["answered"], done["retried"]) == (1, 1)
        assert desk.folder.kinds() == {"answer": 1, "attempt": 1}

    def test_a_pipe_that_ends(self, desk, tmp_path):
        for _ in range(20):
            desk.add(*(ask(f"q{n}") for n in range(500)))
        with WorkerDriver(tmp_path) as worker:
            worker.plan(batch_plan())
            worker.send("job", **job_message(desk, "pack", desk.pack_params(*range(1, 22))))
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
                worker.send("job", **job_message(desk, kind, params, kind))
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
