"""What a service may do to results, and to batches: every id is accounted for, and nothing paid is lost."""

import json

import pytest
from lying_proxy import LyingProxy

from batch_kit import Paid, batch_config, submissions
from harness import Outputs, prompts, read_lines

RECORDS = 60

# Anything that is only another way to say the same: no retry, no batch beside the three, no record lost.
DIALECTS = {
    "any order": {"batch_shuffle": True},
    "CRLF": {"batch_crlf": True},
    "no final newline": {"batch_no_final_newline": True},
    "the body as a string": {"batch_body_string": True},
    "no error key": {"batch_no_error_key": True},
    "an empty error file": {"batch_empty_error_file": True},
    "null counts": {"batch_null_counts": True},
    "blank ids of files": {"batch_blank_ids": True},
    "an extra state": {"batch_extra_state": True, "batch_latency_s": 2},
    "a state that nobody knows": {"batch_extra_state": "awaiting_quantum_slot", "batch_latency_s": 2},
    "states in upper case": {"batch_upper_states": True},
    "UUIDs as ids": {"batch_uuid_ids": True},
    "results twice": {"batch_duplicate_rate": 0.3},
    "results for nobody": {"batch_unknown": 5},
    "downloads cut in the middle": {"batch_truncate_download": 4},
    "all at once": {
        "batch_shuffle": True, "batch_crlf": True, "batch_no_final_newline": True, "batch_body_string": True,
        "batch_no_error_key": True, "batch_empty_error_file": True, "batch_null_counts": True,
        "batch_extra_state": True, "batch_upper_states": True, "batch_uuid_ids": True,
        "batch_duplicate_rate": 0.5, "batch_unknown": 3, "batch_truncate_download": 2,
    },
}  # fmt: skip
# Faults of the calls: nothing that a record would have to pay for with a retry.
CALLS = {
    "creates without an answer": {"accept_then_reset": 2},
    "creates answered with 500": {"create_5xx": 2},
    "creates refused with 429": {"reject_create_429": 2, "retry_after": "1"},
    "uploads without an answer": {"drop_upload": 2},
    "uploads answered with 500": {"upload_5xx": 2},
    "looks answered with 500": {"batch_calls_500": {"batch": 3, "batches": 3}},
    "downloads answered with 500": {"batch_calls_500": {"content": 3}},
    "deletes answered with 500": {"batch_calls_500": {"delete": 2}},
    "a list that lags": {"list_lag_s": 1.0, "accept_then_reset": 1},
}


def run(shell, service, *, code=0, **config):
    shell.config(**batch_config(service, **config))
    prompts(shell.workspace / "in.jsonl", RECORDS)
    shell.run("-pipeline", "in.jsonl", "-task-id", "A", "-wait", code=code, timeout=100)
    out = Outputs(shell.workspace, "A")
    out.check_identity(RECORDS)
    return out


def all_answered(out):
    assert out.ids == [f"q-{n}" for n in range(RECORDS)]
    for n, line in enumerate(out.output):
        assert f"q {n}:" in line["response"]["body"]["choices"][0]["message"]["content"]
    assert out.report["paths"] == {"batch": RECORDS}


def results(shell):
    """What the result files of all submissions held, in sums."""
    rows = [row["results"] for row in submissions(shell, "A") if row["results"]]
    return {name: sum(row[name] for row in rows) for name in rows[0]}


def quarantined(shell):
    """All that was set aside, raw."""
    folder = shell.workspace / "chunks/A/batches"
    return [line for path in folder.glob("*.quarantine.jsonl") for line in path.read_bytes().splitlines()]


@pytest.mark.parametrize("fault", [*DIALECTS, *CALLS])
def test_nothing_but_another_way(shell, service, fault):
    controls = DIALECTS.get(fault) or CALLS[fault]
    service.control(**controls)
    out = run(shell, service, max_retry_count=0)
    all_answered(out)
    assert out.report["attempts"]["retries"] == 0
    paid = Paid(service)
    paid.check_once()
    assert len(paid.batches) == 3
    sums = results(shell)
    assert sums["answered"] == RECORDS
    assert sums["unknown"] == 3 * controls.get("batch_unknown", 0)
    assert (sums["duplicate"] > 0) == ("batch_duplicate_rate" in controls)
    assert sums["unreadable"] == 0
    assert len(quarantined(shell)) == sums["unknown"] + sums["duplicate"]
    for name in ("unknown", "duplicate", "unreadable"):
        assert out.report["batches"][name] == sums[name]


LIES = {
    "a page of a gateway": lambda body: b"<html><body>Please log in</body></html>",
    "nothing": lambda body: b"",
    "half of it, to the middle of a line": lambda body: body[: len(body) // 2],
    "half of it, to the end of a line": lambda body: body[: body.index(b"\n", len(body) // 2) + 1],
}


@pytest.mark.parametrize("what", LIES)
def test_a_download_that_is_wrong_and_whole_is_fetched_again(shell, service, what):
    """200, and as long as it says: yet it has fewer results than the service has counted."""
    proxy = LyingProxy(service.port, LIES[what], times=4)
    try:
        config = batch_config(service, max_retry_count=0)
        config["model"]["domain"] = f"http://127.0.0.1:{proxy.server_address[1]}/v1"
        shell.config(**config)
        prompts(shell.workspace / "in.jsonl", RECORDS)
        shell.run("-pipeline", "in.jsonl", "-task-id", "A", "-wait", timeout=100)
        assert proxy.left == 0
    finally:
        proxy.close()
    out = Outputs(shell.workspace, "A")
    out.check_identity(RECORDS)
    all_answered(out)
    paid = Paid(service)
    paid.check_once()
    assert len(paid.batches) == 3
    assert not quarantined(shell)


@pytest.mark.parametrize("form", ["response_null", "no_response", "with_response"])
def test_lines_that_failed_are_sent_again(shell, service, form):
    service.control(batch_error_rate=0.3, batch_error_line=form, seed=1)
    out = run(shell, service, max_retry_count=12)
    all_answered(out)
    paid = Paid(service)
    paid.check_once()
    retries = out.report["attempts"]["retries"]
    assert retries > 5
    assert sum(batch.lines for batch in paid.batches) == RECORDS + retries
    assert sorted(paid.billed.values()) == [1] * RECORDS


def test_missing_results_are_done_again(shell, service):
    service.control(batch_missing_rate=0.3, seed=1)
    out = run(shell, service, max_retry_count=12)
    all_answered(out)
    assert out.report["attempts"]["retries"] > 5
    assert out.report["attempts"]["classes"].keys() == {"absent"}
    Paid(service).check_once()


def test_records_without_any_result_are_missing(shell, service):
    service.control(batch_missing_rate=1.0)
    out = run(shell, service, max_retry_count=1, code=1)
    assert len(out.missing) == RECORDS
    assert out.missing == (shell.workspace / "in.jsonl").read_bytes().split(b"\n")[:-1]
    service.control(batch_missing_rate=0.0)
    shell.run("-retry", "A", "-wait")
    out = Outputs(shell.workspace, "A", round=1)
    out.check_identity(RECORDS)
    all_answered(out)


def test_completed_without_an_output_file(shell, service):
    service.control(batch_no_output_file=True)
    out = run(shell, service, max_retry_count=1, code=1)
    assert len(out.errors) == RECORDS
    assert {line["error"]["attempts"] for line in out.errors} == {2}
    assert {line["error"]["code"] for line in out.errors} == {"server_error"}


@pytest.mark.parametrize("silent", [False, True], ids=["named", "silent"])
@pytest.mark.parametrize("outcome", ["expired", "cancelled"])
def test_partial_results_are_kept(shell, service, outcome, silent):
    service.control(
        batch_outcomes=[outcome] * 3, batch_expire_share=0.25, batch_silent_end=silent, batch_shuffle=True
    )
    out = run(shell, service)
    all_answered(out)
    assert out.report["attempts"]["retries"] == 45, "a quarter of each was finished"
    assert out.report["attempts"]["classes"] == {outcome: 45}
    paid = Paid(service)
    paid.check_once()
    assert sorted(paid.billed.values()) == [1] * RECORDS


@pytest.mark.parametrize(
    ("outcome", "cls"), [("expired", "expired"), ("cancelled", "cancelled"), ("failed", "batch_failed")]
)
def test_a_batch_that_always_ends_badly_uses_up_the_retries(shell, service, outcome, cls):
    service.control(batch_outcome=outcome, batch_expire_share=0.0)
    out = run(shell, service, max_retry_count=1, code=1)
    assert len(out.errors) == RECORDS
    assert {line["error"]["code"] for line in out.errors} == {cls}
    assert {line["error"]["attempts"] for line in out.errors} == {2}
    assert not Paid(service).billed


def test_a_validation_that_names_lines_ends_these(shell, service):
    service.control(batch_invalid=["q 7:", "q 12:", "q 45:"])
    out = run(shell, service, max_retry_count=0, code=1)
    assert [line["custom_id"] for line in out.errors] == ["q-7", "q-12", "q-45"]
    assert {line["error"]["code"] for line in out.errors} == {"bad_request"}
    assert [line["error"]["line"] for line in out.errors] == [8, 13, 46]
    assert len(out.output) == RECORDS - 3
    assert out.report["attempts"]["retries"] == 0
    paid = Paid(service)
    paid.check_once()
    assert sorted(paid.billed.values()) == [1] * (RECORDS - 3)
    assert len(paid.batches) <= 5, "two were refused and packed again, or pooled"


def test_a_validation_that_names_nothing_is_bisected(shell, service):
    service.control(batch_invalid=["q 7:", "q 45:"], batch_invalid_unnamed=True)
    out = run(shell, service, max_retry_count=0, code=1)
    assert [line["custom_id"] for line in out.errors] == ["q-7", "q-45"]
    assert len(out.output) == RECORDS - 2
    paid = Paid(service)
    paid.check_once()
    assert sorted(paid.billed.values()) == [1] * (RECORDS - 2)
    assert len(paid.batches) <= 3 + 2 * 2 * 5, "two halves a step, for each of two lines among twenty"


def test_a_validation_that_always_fails_comes_to_an_end(shell, service):
    service.control(batch_outcome="validation_none")
    out = run(shell, service, max_retry_count=0, code=1)
    assert len(out.errors) == RECORDS
    paid = Paid(service)
    assert not paid.billed
    assert len(paid.batches) <= 2 * RECORDS


def test_lines_are_judged_as_calls_are(shell, service):
    service.control(
        rules=[
            {"contains": "q 1:", "do": "400"},
            {"contains": "q 2:", "do": "422"},
            {"contains": "q 3:", "do": "404"},
            {"contains": "q 4:", "do": "429_too_large"},
            {"contains": "q 5:", "do": "500"},
            {"contains": "q 6:", "do": "429", "times": 2},
            {"contains": "q 7:", "do": "500", "times": 1},
        ]
    )
    out = run(shell, service, max_retry_count=1, code=1)
    found = {line["custom_id"]: line["error"] for line in out.errors}
    assert {name: error["code"] for name, error in found.items()} == {
        "q-1": "bad_request",
        "q-2": "unprocessable",
        "q-3": "not_found",
        "q-4": "too_large",
        "q-5": "server_error",
    }
    assert {name: error["attempts"] for name, error in found.items()} == {
        "q-1": 1, "q-2": 1, "q-3": 1, "q-4": 1, "q-5": 2,
    }  # fmt: skip
    assert found["q-5"]["message"]
    Paid(service).check_once()


def test_raw_answers_stay_as_they_are(shell, service):
    """A body over many lines in a string, or pretty with a raw U+2028: one record is one line."""
    service.control(pretty=True, batch_body_string=True)
    out = run(shell, service)
    all_answered(out)
    for line in read_lines(shell.workspace / "merged/A/output.jsonl"):
        assert json.dumps(line)
