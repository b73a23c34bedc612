"""The ledger of batches: on disk before anything is seen, and right whatever dies in between."""

import random
import signal
import sqlite3
import subprocess
import sys
import threading
from collections import Counter
from contextlib import closing

import httpx
import psutil
import pytest
from batch_service_kit import CHAT, Client, jsonl, requests, reset, wait_until

from batch_inferd.testing import batch_ledger
from batch_inferd.testing.batch_ledger import BATCHES_NAME, read_batch_lines, read_batches
from batch_inferd.testing.batch_store import BatchStore, StoreError
from batch_inferd.testing.calls import content_digest
from batch_inferd.testing.process import start_service
from batch_inferd.testing.spawn import LOG_NAME, SpawnError


@pytest.fixture(scope="module")
def running(tmp_path_factory):
    with start_service(tmp_path_factory.mktemp("ledger") / "service") as service:
        yield service


@pytest.fixture
def service(running):
    reset(running)
    return running


@pytest.fixture
def client(service):
    with Client(service) as client:
        yield client


def digest_of(line):
    return content_digest(line["body"]["messages"])


def test_there_is_no_ledger_yet(tmp_path):
    assert read_batches(tmp_path) == []
    assert list(read_batch_lines(tmp_path)) == []
    assert batch_ledger.overlapping_lines(tmp_path) == []
    assert batch_ledger.billed_twice(tmp_path) == []


def test_a_row_a_batch_and_a_row_a_line(client, service):
    lines = requests(3)
    service.control(rules=[{"contains": "q 2", "do": "500"}])
    results = client.run(lines, metadata={"batch_infer_token": "t"})
    row = service.batches()[-1]
    usages = [line["response"]["body"]["usage"] for line in results.output]
    assert row.id == results.batch["id"]
    assert row.token == "t"
    assert row.input_file == results.batch["input_file_id"]
    assert row.input_bytes == len(jsonl(lines))
    assert row.endpoint == "/v1/chat/completions"
    assert (row.model, row.lines, row.state) == ("m", 3, "completed")
    assert (row.completed, row.failed, row.billed_lines) == (2, 1, 2)
    assert row.billed_in == sum(usage["prompt_tokens"] for usage in usages)
    assert row.billed_out == sum(usage["completion_tokens"] for usage in usages)
    assert row.ended >= row.created
    assert not row.live
    listed = service.batch_lines(row.id)
    assert [(line.batch, line.line, line.custom_id) for line in listed] == [
        (row.id, 1, "r1"), (row.id, 2, "r2"), (row.id, 3, "r3")
    ]  # fmt: skip
    assert [line.content_digest for line in listed] == [digest_of(line) for line in lines]
    assert [line.billed for line in listed] == [True, False, True]
    assert (listed[0].billed_in, listed[0].billed_out) == (
        usages[0]["prompt_tokens"], usages[0]["completion_tokens"]
    )  # fmt: skip
    assert service.ledger()[-1].path.endswith("/content")  # no line stands among the calls


def test_lines_of_all_batches_come_page_by_page(client, service, monkeypatch):
    monkeypatch.setattr(batch_ledger, "_PAGE", 7)
    first, second = client.run(requests(20)), client.run(requests(9))
    assert len(service.batch_lines(first.batch["id"])) == 20
    everything = service.batch_lines()
    assert [line.batch for line in everything[-29:]] == [first.batch["id"]] * 20 + [second.batch["id"]] * 9
    assert service.batch_lines("batch_none") == []


def test_lines_in_two_live_batches_and_lines_that_are_billed_twice(tmp_path):
    with start_service(tmp_path, {"batch_state_hold": "in_progress"}) as service, Client(service) as client:
        lines = requests(6)
        first = client.batch(lines[:4])
        client.wait(first, "in_progress")
        assert service.overlapping_lines() == []
        second = client.batch(lines[3:])
        client.wait(second, "in_progress")
        assert service.overlapping_lines() == [digest_of(lines[3])]
        assert service.batches()[-1].live
        service.control(batch_state_hold=None)
        client.wait(first)
        client.wait(second)
        assert service.billed_twice_in_batches() == [digest_of(lines[3])]
        client.run(lines[:1])
        assert service.overlapping_lines() == [digest_of(lines[3])]
        assert service.billed_twice_in_batches() == sorted([digest_of(lines[3]), digest_of(lines[0])])


def test_three_batches_of_which_not_all_meet(tmp_path):
    with start_service(tmp_path) as service, Client(service) as client:
        lines = requests(2)
        client.run(lines)
        client.run(lines)
        assert service.overlapping_lines() == []
        service.control(batch_state_hold="validating")
        third, fourth = client.batch(lines), client.batch(lines)
        wait_until(lambda: len(service.batch_lines(fourth)) == 2)
        assert len(service.overlapping_lines()) == 2
        client.cancel(third)
        client.wait(third, "cancelled")
        assert len(service.overlapping_lines()) == 2


def test_the_bill_is_there_before_the_result(client, service):
    service.control(batch_state_hold="finalizing")
    batch_id = client.batch(requests(5))
    client.wait(batch_id, "finalizing")
    assert service.batches()[-1].billed_lines == 5
    assert client.retrieve(batch_id)["output_file_id"] is None


@pytest.mark.parametrize("how", ["stop", "kill"])
def test_a_batch_goes_on_in_the_next_life(tmp_path, how):
    with start_service(tmp_path, {"batch_state_hold": "in_progress"}) as service, Client(service) as client:
        batch_id = client.batch(requests(10))
        wait_until(lambda: service.batches()[-1].billed_lines == 5)
        getattr(service, how)()
    assert [row.live for row in read_batches(tmp_path)] == [True]
    with start_service(tmp_path) as service, Client(service) as client:
        results = client.results(batch_id, "completed")
        assert results.ids == [f"r{n}" for n in range(1, 11)]
        assert [line.billed for line in service.batch_lines(batch_id)] == [True] * 10


def progress(state):
    """Lines read and lines billed, in all batches."""
    with closing(sqlite3.connect(f"{(state / BATCHES_NAME).as_uri()}?mode=ro", uri=True)) as database:
        return database.execute("SELECT COUNT(*) + COUNT(billed_in) FROM lines").fetchone()[0]


def is_over(state):
    return not any(row.live for row in read_batches(state))


@pytest.mark.slow
def test_random_kills_lose_and_double_nothing(tmp_path):
    seed = random.randrange(2**32)
    print(f"seed {seed}")
    dice = random.Random(seed)
    batches, count, lives = 3, 12_000, 0
    ids = {}
    state = tmp_path / "s"
    with start_service(state) as service, Client(service) as client:
        for number in range(batches):
            lines = requests(count, f"b{number}")
            ids[client.batch(lines)] = [line["custom_id"] for line in lines]
        service.kill()
    while not is_over(state):
        with start_service(state) as service:
            target = progress(state) + dice.randrange(batches * count // 3)
            wait_until(lambda target=target: progress(state) >= target or is_over(state))
            service.kill()
        lives += 1
    with start_service(state) as service, Client(service) as client:
        for batch_id, expected in ids.items():
            results = client.results(batch_id, "completed")
            assert results.ids == expected
            assert results.batch["request_counts"] == {"total": count, "completed": count, "failed": 0}
        lines = service.batch_lines()
        assert len(lines) == batches * count
        assert all(line.billed for line in lines)
        assert set(Counter((line.batch, line.custom_id) for line in lines).values()) == {1}
        assert service.billed_twice_in_batches() == []
    assert lives > 1
    assert "Traceback" not in (state / LOG_NAME).read_text()


def test_nothing_that_was_answered_is_lost_in_a_kill(tmp_path):
    made = []
    with start_service(tmp_path / "s") as service:

        def create():
            with Client(service) as client:
                try:
                    while True:
                        made.append(client.batch(requests(2)))
                except httpx.TransportError:
                    return

        threads = [threading.Thread(target=create) for _ in range(4)]
        for thread in threads:
            thread.start()
        wait_until(lambda: len(made) > 20)
        service.kill()
        for thread in threads:
            thread.join()
    there = {row.id for row in read_batches(tmp_path / "s")}
    assert set(made) <= there


@pytest.mark.slow
def test_the_service_is_not_idle_while_it_works(tmp_path):
    form = {"files": {"file": jsonl(requests(50_000))}, "data": {"purpose": "batch"}}
    command = [sys.executable, "-m", "batch_inferd.testing", "--state", str(tmp_path), "--idle-exit", "1"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as process:
        headers = {"api-key": "k"}
        base_url = process.stdout.readline().strip()
        with httpx.Client(base_url=base_url, headers=headers, trust_env=False) as client:
            file_id = client.post("/files", **form).json()["id"]
            order = {"input_file_id": file_id, "endpoint": CHAT, "completion_window": "24h"}
            for _ in range(2):
                assert client.post("/batches", json=order).status_code == 200
        assert process.wait(60) == 0
    assert [row.state for row in read_batches(tmp_path)] == ["completed", "completed"]


@pytest.mark.slow
def test_memory_stays_flat(tmp_path):
    with start_service(tmp_path) as service, Client(service) as client:
        data = [jsonl(requests(50_000, f"b{number}")) for number in range(4)]
        files = [client.file(part) for part in data]
        process = psutil.Process(service.pid)
        before = process.memory_info().rss
        ids = [client.good(client.create(file_id))["id"] for file_id in files]
        peak = 0
        while any(client.retrieve(batch_id)["status"] != "completed" for batch_id in ids):
            peak = max(peak, process.memory_info().rss)
        assert sum(row.billed_lines for row in service.batches()) == 200_000
        assert peak - before < 64 << 20


def test_a_database_of_a_later_version_is_left_alone(tmp_path):
    with start_service(tmp_path):
        pass
    with closing(sqlite3.connect(tmp_path / BATCHES_NAME)) as database:
        database.execute("PRAGMA user_version = 99")
    with pytest.raises(SpawnError, match="its schema is 99, this version knows 1"):
        start_service(tmp_path)


def test_sigterm_ends_it_in_the_middle_of_a_batch(tmp_path):
    with start_service(tmp_path) as service, Client(service) as client:
        client.batch(requests(50_000))
        psutil.Process(service.pid).send_signal(signal.SIGTERM)
        wait_until(lambda: service._process.poll() is not None)
    assert service._process.returncode == 0
    log = (tmp_path / LOG_NAME).read_text()
    assert "Traceback" not in log
    assert log.rstrip().endswith("ended")


@pytest.fixture
def store(tmp_path):
    store = BatchStore(tmp_path)
    yield store
    store.close()


def test_a_job_that_is_refused_takes_nothing_of_its_neighbours_along(store):
    def bad(database):
        database.execute("INSERT INTO lines (batch, line) VALUES (1, 1)")
        raise ValueError("no")

    with pytest.raises(ValueError, match="no"):
        store.run(bad)
    store.run(lambda database: database.execute("INSERT INTO lines (batch, line) VALUES (2, 1)").rowcount)
    rows = store.run(lambda database: database.execute("SELECT batch FROM lines").fetchall())
    assert rows == [(2,)]


def test_a_failure_of_the_database_is_told_to_all_who_wait(store):
    with pytest.raises(StoreError, match="no such table"):
        store.run(lambda database: database.execute("SELECT * FROM absent"))
    assert store.run(lambda database: database.execute("SELECT 1").fetchone()) == (1,)


async def test_a_closed_store_takes_no_more_jobs(store):
    assert await store.call(lambda database: 7) == 7
    store.close()
    store.close()
    with pytest.raises(StoreError, match="closed"):
        await store.call(lambda database: 7)


def test_a_store_that_cannot_be_opened(tmp_path):
    (tmp_path / BATCHES_NAME).mkdir()
    with pytest.raises((StoreError, OSError)):
        BatchStore(tmp_path)
