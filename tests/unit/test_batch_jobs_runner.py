"""The runner of jobs: each ends in one message, whatever happens to it."""

import asyncio
import errno
import os
import shutil

import pytest
from batch_jobs_kit import fire, refusal, result
from batch_runner_kit import DOWNLOAD, UPLOAD, packed, until
from worker_kit import make_plan, settle

from batch_infer.protocol.text import Text
from batch_inferd.backends.batch.errors import Capacity, NotFound, Unsettled, error_from_wire
from batch_inferd.backends.online import Prepared
from batch_inferd.backends.transport import NotSent
from batch_inferd.journal.names import journal_name


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
