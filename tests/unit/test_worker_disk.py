"""A worker whose folder goes away, and a worker whose disk fails."""

from __future__ import annotations

import errno
import shutil

import pytest
from worker_kit import WorkerDriver, ask, make_plan
from worker_life_kit import assert_paid_once, recorded, wait_requests

from batch_inferd.testing.process import start_service


class TestFolders:
    def test_a_folder_that_is_gone(self, tmp_path, service, folder):
        folder.add([ask("x")])
        lease = folder.lease()
        shutil.rmtree(folder.path)
        with WorkerDriver(tmp_path) as worker:
            worker.begin(make_plan(service.base_url), lease)
            assert worker.wait_for("released")["reason"] == "gone"
        assert not folder.path.exists()

    def test_a_folder_that_was_replaced(self, tmp_path, service, folder):
        folder.add([ask("x")])
        lease = folder.lease()
        folder.path.rename(tmp_path / "moved")
        shutil.copytree(tmp_path / "moved", folder.path)
        with WorkerDriver(tmp_path) as worker:
            worker.begin(make_plan(service.base_url), lease)
            assert worker.wait_for("released")["reason"] == "gone"
        assert folder.kinds() == {}

    def test_a_folder_that_goes_while_calls_are_in_flight(self, tmp_path, folder):
        with start_service(tmp_path / "s", {"latency_ms": 300}) as service, WorkerDriver(tmp_path) as worker:
            folder.add([ask("x")])
            worker.begin(make_plan(service.base_url), folder.lease())
            wait_requests(service, 1)
            shutil.rmtree(folder.path)
            assert worker.wait_for("released")["reason"] == "gone"
            assert not folder.path.exists()
            assert worker.all("sealed") == []

    def test_a_chunk_file_that_is_not_what_was_cut(self, tmp_path, service, folder):
        folder.add([ask("x"), ask("y")])
        lease = folder.lease() | {"lines": 3}
        with WorkerDriver(tmp_path) as worker:
            worker.begin(make_plan(service.base_url), lease)
            fault = worker.wait_for("fault")
            assert fault["lease"] == lease["lease"]
            assert "2 lines" in fault["text"]
            assert worker.wait_for("released")["reason"] == "fault"
        assert service.summary().requests == 0

    def test_a_chunk_file_that_is_missing(self, tmp_path, service, folder):
        folder.add([ask("x")])
        (folder.path / folder.lease()["chunk_file"]).unlink()
        with WorkerDriver(tmp_path) as worker:
            worker.begin(make_plan(service.base_url), folder.lease())
            assert worker.wait_for("fault")["errno"] == errno.ENOENT
            assert worker.wait_for("released")["reason"] == "fault"


class TestDisk:
    @pytest.mark.parametrize("number", [errno.ENOSPC, errno.EIO])
    def test_a_write_that_fails_gives_the_lease_back(self, tmp_path, service, folder, number):
        folder.add(ask(f"q{n}") for n in range(50))
        with WorkerDriver(tmp_path, BATCH_INFER_FS_FAULTS=f"write:chunk_={number}@6+") as worker:
            worker.begin(make_plan(service.base_url), folder.lease(), slots=4)
            fault = worker.wait_for("fault")
            assert fault["errno"] == number
            released = worker.wait_for("released")
            assert released["reason"] == "fault"
            assert len(worker.all("fault")) == 1
            assert any("could not be recorded" in line for line in worker.logs())
            assert released["counts"]["in_flight"] == 0
        assert 5 <= released["counts"]["answered"] == recorded(folder) < 50
        assert service.summary().billed - recorded(folder) <= 4  # no more than there are slots
        with WorkerDriver(tmp_path, "again") as worker:
            worker.begin(make_plan(service.base_url), folder.lease())
            assert worker.sealed()["counts"]["answered"] == 50
        assert_paid_once(service, folder)

    def test_there_is_room_again(self, tmp_path, service, folder):
        faults = tmp_path / "faults"
        faults.write_text(f"write:chunk_={errno.ENOSPC}")
        folder.add(ask(f"q{n}") for n in range(20))
        with WorkerDriver(tmp_path, BATCH_INFER_FS_FAULTS_FILE=str(faults)) as worker:
            worker.begin(make_plan(service.base_url), folder.lease())
            assert worker.wait_for("released")["reason"] == "fault"
            faults.write_text("")
            worker.lease(folder.lease())
            assert worker.sealed()["counts"]["answered"] == 20

    def test_a_journal_that_cannot_be_made(self, tmp_path, service, folder):
        folder.add([ask("x")])
        lease = folder.lease()
        with WorkerDriver(tmp_path, BATCH_INFER_FS_FAULTS=f"open:{lease['lease']}={errno.ENOSPC}") as worker:
            worker.begin(make_plan(service.base_url), lease)
            assert worker.wait_for("fault")["errno"] == errno.ENOSPC
            assert worker.wait_for("released")["reason"] == "fault"
        assert service.summary().requests == 0

    def test_a_sync_that_fails_is_never_taken_for_one_that_worked(self, tmp_path, service, folder):
        folder.add([ask("x")])
        lease = folder.lease()
        with WorkerDriver(tmp_path, BATCH_INFER_FS_FAULTS=f"sync:{lease['lease']}={errno.EIO}@1") as worker:
            worker.begin(make_plan(service.base_url), lease)
            assert worker.wait_for("fault")["errno"] == errno.EIO
            assert worker.wait_for("released")["reason"] == "fault"
            assert worker.all("sealed") == []

    def test_strict_durability_syncs_each_answer_before_it_counts(self, tmp_path, folder):
        """With a sync that fails from the third one on, exactly two answers count."""
        with start_service(tmp_path / "s", {"latency_ms": 20}) as service:
            folder.add(ask(f"q{n}") for n in range(10))
            lease = folder.lease()
            faults = f"sync:{lease['lease']}={errno.EIO}@3+"
            with WorkerDriver(tmp_path, BATCH_INFER_FS_FAULTS=faults) as worker:
                worker.begin(make_plan(service.base_url, durability="strict"), lease, slots=1)
                released = worker.wait_for("released")
            assert (released["reason"], released["counts"]["answered"]) == ("fault", 2)

    def test_strict_durability_with_many_calls(self, tmp_path, service, folder):
        folder.add(ask(f"q{n}") for n in range(100))
        with WorkerDriver(tmp_path) as worker:
            worker.begin(make_plan(service.base_url, durability="strict"), folder.lease(), slots=32)
            assert worker.sealed()["counts"]["answered"] == 100
