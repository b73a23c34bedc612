"""The life of a batch: its states take their time, can be held, and end in every way there is."""

import pytest
from batch_service_kit import Client, error_of, requests, reset, wait_until

from batch_inferd.testing.process import start_service


@pytest.fixture(scope="module")
def clock(tmp_path_factory):
    return Clock(tmp_path_factory.mktemp("states") / "clock")


class Clock:
    """The service's clock, which runs ahead as told."""

    def __init__(self, path):
        self.path = path
        self.ahead = 0.0
        self.forward(0)

    def forward(self, seconds):
        self.ahead += seconds
        temporary = self.path.with_suffix(".new")
        temporary.write_text(str(self.ahead))
        temporary.replace(self.path)


@pytest.fixture(scope="module")
def running(clock):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("BATCH_INFER_CLOCK_FILE", str(clock.path))
        with start_service(clock.path.parent / "service") as service:
            yield service


@pytest.fixture
def service(running):
    reset(running)
    return running


@pytest.fixture
def client(service):
    with Client(service) as client:
        yield client


def completed(batch):
    return batch["request_counts"]["completed"]


def test_the_states_take_their_time_by_the_services_clock(client, service, clock):
    service.control(batch_latency_s=1000)
    batch_id = client.batch(requests(80))
    assert client.retrieve(batch_id)["status"] == "validating"
    clock.forward(110)
    assert client.wait(batch_id, "in_progress")["request_counts"]["total"] == 80
    clock.forward(390)  # at half of its time half of it is done
    half = wait_until(lambda: (count := completed(client.retrieve(batch_id))) >= 40 and count)
    assert half <= 45
    assert service.batches()[-1].billed_lines >= half
    assert client.retrieve(batch_id)["output_file_id"] is None
    clock.forward(410)
    client.wait(batch_id, "finalizing")
    assert client.retrieve(batch_id)["output_file_id"] is None
    clock.forward(100)
    batch = client.wait(batch_id)
    assert batch["status"] == "completed"
    assert batch["completed_at"] - batch["created_at"] >= 1000


def test_a_latency_may_be_drawn(client, service, clock):
    service.control(batch_latency_s=[1000, 2000])
    ids = [client.batch(requests(1)) for _ in range(8)]
    clock.forward(1500)
    wait_until(lambda: any(client.retrieve(batch_id)["status"] == "completed" for batch_id in ids))
    assert not all(client.retrieve(batch_id)["status"] == "completed" for batch_id in ids)
    clock.forward(600)
    for batch_id in ids:
        client.wait(batch_id, "completed")


@pytest.mark.parametrize("state", ["validating", "in_progress", "finalizing"])
def test_a_batch_can_be_held_in_each_state(client, service, clock, state):
    service.control(batch_state_hold=state)
    batch_id = client.batch(requests(10))
    client.wait(batch_id, state)
    clock.forward(3 * 86400)  # nothing expires while it is held
    for _ in range(5):
        assert client.retrieve(batch_id)["status"] == state
    done = {"validating": 0, "in_progress": 5, "finalizing": 10}[state]
    wait_until(lambda: completed(client.retrieve(batch_id)) == done)
    service.control(batch_state_hold=None)
    assert client.wait(batch_id)["status"] == ("completed" if state == "finalizing" else "expired")


def test_how_much_is_done_while_it_is_held(client, service):
    service.control(batch_state_hold="in_progress", batch_hold_share=0.2)
    batch_id = client.batch(requests(10))
    wait_until(lambda: completed(client.retrieve(batch_id)) == 2)
    assert service.batches()[-1].billed_lines == 2
    service.control(batch_state_hold=None)
    assert client.results(batch_id, "completed").ids == [f"r{n}" for n in range(1, 11)]


@pytest.mark.parametrize(("extra", "shown"), [(True, "pending_review"), ("queued", "queued")])
def test_a_state_that_nobody_knows_comes_first(client, service, extra, shown):
    service.control(batch_extra_state=extra, batch_state_hold=shown)
    batch_id = client.batch(requests(2))
    assert client.retrieve(batch_id)["status"] == shown
    service.control(batch_state_hold=None, batch_extra_state=False)
    assert client.wait(batch_id)["status"] == "completed"


@pytest.mark.parametrize(
    ("outcome", "code"), [("expired", "batch_expired"), ("cancelled", "batch_cancelled")]
)
def test_an_end_in_the_middle_keeps_what_is_done(client, service, outcome, code):
    service.control(batch_outcome=outcome, batch_expire_share=0.3)
    results = client.run(requests(10))
    assert results.state == outcome
    assert results.batch[f"{outcome}_at"] is not None
    assert len(results.ids) == 3
    assert sorted(results.ids + results.error_ids) == sorted(f"r{n}" for n in range(1, 11))
    assert results.ids != ["r1", "r2", "r3"]  # they lie between the others
    for line in results.errors:
        assert line["response"] is None
        assert line["error"]["code"] == code
    row = service.batches()[-1]
    assert (row.state, row.billed_lines, row.completed) == (outcome, 3, 3)


@pytest.mark.parametrize(("share", "output", "errors"), [(0, 0, 4), (1, 4, 0)])
def test_nothing_or_all_of_it_is_done_when_it_expires(client, service, share, output, errors):
    service.control(batch_outcome="expired", batch_expire_share=share)
    results = client.run(requests(4))
    assert results.state == "expired"
    assert (len(results.output), len(results.errors)) == (output, errors)
    assert (results.raw["output"] is None) == (output == 0)


def test_undone_lines_may_be_in_no_file(client, service):
    service.control(batch_outcome="expired", batch_silent_end=True)
    results = client.run(requests(10))
    assert len(results.ids) == 5
    assert results.raw["error"] is None


def test_undone_lines_without_a_response_key(client, service):
    service.control(batch_outcome="expired", batch_error_line="no_response")
    assert all("response" not in line for line in client.run(requests(4)).errors)


def test_a_batch_that_is_too_slow_expires(client, service, clock):
    service.control(batch_latency_s=4 * 86400)
    batch_id = client.batch(requests(40))
    clock.forward(86410)
    results = client.results(batch_id, "expired")
    assert results.ids == [f"r{n}" for n in range(1, 8)]  # at a quarter of its time
    assert len(results.error_ids) == 33
    assert results.errors[0]["error"]["code"] == "batch_expired"


def test_a_batch_that_fails_by_itself(client, service):
    service.control(batch_outcome="failed")
    results = client.run(requests(3))
    assert results.state == "failed"
    assert results.batch["in_progress_at"] is not None
    assert results.problems == [("server_error", None, None)]
    assert (results.raw["output"], results.raw["error"]) == (None, None)
    assert service.batches()[-1].billed_lines == 0


def test_outcomes_are_given_one_by_one(client, service):
    service.control(batch_outcomes=["failed", "expired"], batch_outcome="cancelled")
    states = [client.wait(client.batch(requests(2)))["status"] for _ in range(3)]
    assert states == ["failed", "expired", "cancelled"]
    service.control(batch_outcomes=["completed"])
    assert client.run(requests(2)).state == "completed"


def test_a_batch_keeps_the_controls_of_its_creation(client, service):
    service.control(batch_state_hold="validating", batch_error_rate=1)
    batch_id = client.batch(requests(2))
    service.control(batch_state_hold=None, batch_error_rate=0)
    assert client.results(batch_id).error_ids == ["r1", "r2"]
    assert client.run(requests(2)).error_ids == []


def test_cancelling_keeps_and_bills_what_is_done(client, service, clock):
    service.control(batch_state_hold="in_progress", batch_cancel_s=600)
    batch_id = client.batch(requests(10))
    wait_until(lambda: completed(client.retrieve(batch_id)) == 5)
    batch = client.cancel(batch_id)
    assert batch["status"] == "cancelling"
    assert batch["cancelling_at"] is not None
    assert client.cancel(batch_id) == batch  # once more does nothing
    clock.forward(500)
    assert client.retrieve(batch_id)["status"] == "cancelling"
    clock.forward(101)
    results = client.results(batch_id, "cancelled")
    assert results.batch["cancelled_at"] - results.batch["cancelling_at"] >= 600
    assert results.ids == [f"r{n}" for n in range(1, 6)]
    assert results.error_ids == [f"r{n}" for n in range(6, 11)]
    assert {line["error"]["code"] for line in results.errors} == {"batch_cancelled"}
    assert service.batches()[-1].billed_lines == 5


def test_a_held_cancelling(client, service):
    service.control(batch_state_hold="cancelling", batch_latency_s=86000)
    batch_id = client.batch(requests(3))
    client.cancel(batch_id)
    for _ in range(5):
        assert client.retrieve(batch_id)["status"] == "cancelling"
    service.control(batch_state_hold=None)
    client.wait(batch_id, "cancelled")


@pytest.mark.parametrize("state", ["pending_review", "validating", "finalizing"])
def test_cancelling_in_other_states(client, service, state):
    service.control(batch_extra_state=True, batch_state_hold=state)
    batch_id = client.batch(requests(4))
    client.wait(batch_id, state)
    client.cancel(batch_id)
    results = client.results(batch_id, "cancelled")
    assert len(results.ids) == (4 if state == "finalizing" else 0)
    assert results.errors == []


def test_what_has_ended_cannot_be_cancelled(client):
    batch_id = client.run(requests(1)).batch["id"]
    assert error_of(client.http.post(f"/batches/{batch_id}/cancel"))[0] == 409
    assert client.retrieve(batch_id)["status"] == "completed"


def test_many_batches_at_once(client, service):
    ids = [client.batch(requests(30, f"batch {n}")) for n in range(20)]
    for batch_id in ids:
        results = client.results(batch_id, "completed")
        assert results.ids == [f"r{n}" for n in range(1, 31)]
    assert service.batches()[-1].billed_lines == 30
