"""The network goes down in an upload, a create, a look, a download: no retry, no second batch."""

import json

import pytest
from cut_proxy import Cut, CutProxy

from batch_inferd.testing.process import start_service
from batch_kit import Paid, batch_config, orphan_uploads, wait_for_live, waiting_codes
from harness import Outputs, Shell, wait_for

RECORDS = 60
CUTS = {
    "the upload": Cut(b"POST /v1/files", bytes_up=100_000),
    "the end of the upload": Cut(b"POST /v1/files", bytes_down=1),
    "the create, before it is sent": Cut(b"POST /v1/batches", bytes_up=0),
    "the create, before its answer": Cut(b"POST /v1/batches", bytes_down=0),
    "the create's answer": Cut(b"POST /v1/batches", bytes_down=100),
    "a look": Cut(b"GET /v1/batches", bytes_up=0),
    "a look's answer": Cut(b"GET /v1/batches", bytes_down=50),
    "the download": Cut(b"/content", bytes_down=30_000),
    "the download's first byte": Cut(b"/content", bytes_down=0),
    "the delete": Cut(b"DELETE /v1/files", bytes_up=0),
}


@pytest.fixture
def service(tmp_path, clock):
    with start_service(tmp_path / "service", {"oversize_bytes": 3000}) as running:
        yield running


@pytest.fixture
def proxy(service):
    proxy = CutProxy(service.port)
    yield proxy
    proxy.close()


@pytest.fixture
def shell(workspace, clock, service, proxy):
    shell = Shell(workspace)
    config = batch_config(service, max_retry_count=0)
    config["model"]["domain"] = f"http://127.0.0.1:{proxy.port}/v1"
    shell.config(**config)
    with (workspace / "in.jsonl").open("w") as file:
        for n in range(RECORDS):
            messages = [{"role": "user", "content": f"q {n}: " + "x" * 10_000}]
            file.write(json.dumps({"custom_id": f"q-{n}", "messages": messages}) + "\n")
    return shell


def check(shell, service):
    out = Outputs(shell.workspace, "A")
    out.check_identity(RECORDS)
    assert out.ids == [f"q-{n}" for n in range(RECORDS)]
    assert out.report["attempts"]["failed"] == out.report["attempts"]["retries"] == 0
    assert out.report["paths"] == {"batch": RECORDS}
    paid = Paid(service)
    paid.check_once()
    assert len(paid.batches) == 3
    assert sorted(paid.billed.values()) == [1] * RECORDS
    wait_for(lambda: not orphan_uploads(service), "uploads to be reused or deleted")


@pytest.mark.parametrize("where", CUTS)
def test_the_network_goes_down_in(shell, service, proxy, clock, where):
    proxy.cut_on(CUTS[where])
    shell.run("-pipeline", "in.jsonl", "-task-id", "A")
    wait_for(lambda: proxy.is_down, "the cut")
    if where != "the delete":
        status = wait_for(lambda: "network" in waiting_codes(s := shell.status("A")) and s, "the wait")
        assert status["state"] == "running"
        assert "the network is down" in shell.run("-monitor", "A", "-once").stdout
        # Longer than a create that was not answered is looked for: nothing is concluded meanwhile.
        clock.write_text("3600")
        wait_for(lambda: "network" in waiting_codes(shell.status("A")), "it to wait on")
    proxy.mend()
    clock.write_text("3700")
    wait_for(lambda: shell.status("A")["state"] == "completed", "the end")
    check(shell, service)


def test_the_network_goes_down_again_and_again(shell, service, proxy, clock):
    shell.run("-pipeline", "in.jsonl", "-task-id", "A")
    for n, where in enumerate(CUTS, 1):
        proxy.cut_on(CUTS[where])
        wait_for(lambda: proxy.is_down or shell.status("A")["state"] == "completed", "the cut")
        if not proxy.is_down:
            break
        proxy.mend()
        clock.write_text(str(100 * n))
    wait_for(lambda: shell.status("A")["state"] == "completed", "the end")
    check(shell, service)


def test_the_service_itself_goes_away(shell, tmp_path, clock):
    """Killed while its batches run: they go on when it is back, and so do we."""
    state = tmp_path / "another"
    first = start_service(state, {"batch_state_hold": "in_progress"})
    config = batch_config(first, max_retry_count=0)
    shell.config(**config)
    shell.run("-pipeline", "in.jsonl", "-task-id", "A")
    wait_for_live(shell, "A", 3)
    first.kill()
    wait_for(lambda: "network" in waiting_codes(shell.status("A")), "the wait")
    clock.write_text("300")
    with start_service(state, port=first.port) as again:
        clock.write_text("400")
        wait_for(lambda: shell.status("A")["state"] == "completed", "the end")
        check(shell, again)
