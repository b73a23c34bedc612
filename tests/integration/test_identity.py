"""The identity against hostile input and a hostile service; and that tampering breaks it."""

import json

import pytest

from harness import Outputs, paid_again, service_config, wait_for


def hostile_input(path):
    """Lines as FAULTS.md 5 lists them; returns (records, wanted errors by line)."""
    big = "长" * (5 * 2**20 // 3)

    def good(text, **more):
        return json.dumps({"messages": [{"role": "user", "content": text}]} | more, ensure_ascii=False)

    lines: list[bytes] = [
        b"\xef\xbb\xbf" + good("first, behind a BOM").encode(),
        b"",
        good("with CRLF", custom_id="dup").encode() + b"\r",
        good("the same id again", custom_id="dup").encode(),
        b'{"messages": [',
        b'{"prompt": "no messages"}',
        b"   \t ",
        good("U+2028 \u2028 and U+0085 \u0085 inside").encode(),
        good(big).encode(),
        b'{"messages": [{"role":"user","content":"\xff\xfe bad utf-8"}]}',
        b'["an array"]',
        b"\r",
        good("a number as id", custom_id=148).encode(),
        b'{"messages": [{"role":"user","content":"nul \x00 byte"}]}',
        b'{"messages":\r[{"role":"user","content":"lone CR between tokens"}]}',
        b"null",
        good("emoji 🎉👩‍👩‍👧 and 中文").encode(),
        *[good(f"plain {n}").encode() for n in range(200)],
        good("no final newline").encode(),
    ]
    path.write_bytes(b"\n".join(lines))
    blank = sum(1 for line in lines if not line.strip())
    return len(lines) - blank, blank, [5, 6, 10, 11, 14, 16]


def test_hostile_input_and_service(shell, service):
    records, blank, bad = hostile_input(shell.workspace / "in.jsonl")
    service.control(
        error_rate=0.1, rate_429=0.05, retry_after="0.05", latency_ms=[0, 40], pretty=True, seed=7,
        rules=[{"contains": "plain 77", "do": "slow:1.5"}],
    )  # fmt: skip
    shell.config(model=service_config(service), max_retry_count=8)
    shell.run("-pipeline", "in.jsonl", "-task-id", "A", "-wait", code=1, timeout=110)
    out = Outputs(shell.workspace, "A")
    out.check_identity(records)
    assert out.report["counts"]["blank"] == blank
    assert [line["error"]["line"] for line in out.errors] == bad
    assert all(line["error"]["raw"] is not None for line in out.errors)
    assert [line["custom_id"] for line in out.output[:4]] == ["1", "dup", "dup", "8"]
    assert "148" in out.ids
    assert len(out.output) == records - len(bad)
    assert not paid_again(out.output, service.ledger())
    assert (shell.workspace / "merged/A/missing_records.jsonl").read_bytes() == b""
    status = shell.status("A")
    assert status["counts"] == out.report["counts"]


def test_an_empty_input_is_a_task_without_records(shell, service):
    shell.config(model=service_config(service))
    for name, data in (("empty", b""), ("blank", b"\n\n  \r\n")):
        (shell.workspace / "in.jsonl").write_bytes(data)
        shell.run("-pipeline", "in.jsonl", "-task-id", name, "-wait")
        out = Outputs(shell.workspace, name)
        out.check_identity(0)
        assert service.summary().requests == 0


@pytest.mark.parametrize("tamper", ["drop", "double"])
def test_a_tampered_journal_breaks_the_identity(shell, service, tamper):
    service.control(rules=[{"contains": "plain 3.", "do": "400", "times": 1}])
    shell.config(model=service_config(service))
    lines = [json.dumps({"messages": [{"role": "user", "content": f"plain {n}."}]}) for n in range(50)]
    (shell.workspace / "in.jsonl").write_text("\n".join(lines))
    shell.run("-pipeline", "in.jsonl", "-task-id", "A", "-wait", code=1)
    (journal,) = (shell.workspace / "chunks/A/0000").glob("chunk_0000002.*.jsonl")
    *entries, index = journal.read_bytes().splitlines(keepends=True)
    assert index.startswith(b'{"k":"index"')
    entries = entries[:-1] if tamper == "drop" else [*entries, entries[-1]]
    journal.write_bytes(b"".join(entries) + index)
    # A retry of the one failed record (in another chunk) merges everything anew.
    failed = shell.run("-retry", "A", "-wait", code=5)
    assert "accounting does not hold" in failed.stdout + failed.stderr
    status = shell.status("A")
    assert (status["state"], status["reason"], status["identity"]) == ("failed", "identity", False)
    report = json.loads((shell.workspace / "merged/A/report.json").read_text())
    assert report["identity"] is False
    assert {problem["chunk"] for problem in report["identity_problems"]} == {2}
    # What is missing is done again, and only that; what is double is set aside.
    before = service.summary().billed
    shell.run("-retry", "A", "-wait")
    Outputs(shell.workspace, "A", round=1).check_identity(50)
    assert service.summary().billed == before + (tamper == "drop")


def test_the_input_is_pinned(shell, service):
    service.control(latency_ms=100)
    shell.config(model=service_config(service), execution={"concurrency": 2}, limits={"max_concurrency": 2})
    path = shell.workspace / "in.jsonl"
    lines = [json.dumps({"messages": [{"role": "user", "content": f"plain {n}"}]}) for n in range(60)]
    path.write_text("\n".join(lines) + "\n")
    shell.run("-pipeline", "in.jsonl", "-task-id", "A")
    with path.open("a") as file:  # later bytes are not part of the task
        file.write("\n".join(lines))
    service.control(latency_ms=0)
    wait_for(lambda: shell.status("A")["state"] == "completed", "the end")
    Outputs(shell.workspace, "A").check_identity(60)
