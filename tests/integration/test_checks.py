"""-validate, -repair, -clean, -cleanup, -retry -only and -rows over a real daemon."""

import shutil

import pytest

from batch_kit import Paid, batch_config
from harness import Outputs, Shell, prompts, service_config


def run_task(shell, service, task_id="A", count=50, code=0, **config):
    shell.config(model=service_config(service), **config)
    prompts(shell.workspace / "in.jsonl", count)
    shell.run("-pipeline", "in.jsonl", "-task-id", task_id, "-wait", code=code)
    return shell.workspace / "merged" / task_id


def content(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def truncated(lines):
    return b"".join(lines[:30]) + lines[30][:50]


def duplicated(lines):
    return b"".join([*lines[:20], lines[11], *lines[20:]])


def reordered(lines):
    return b"".join([*lines[:4], lines[40], *lines[5:40], lines[4], *lines[41:]])


def edited(lines):
    return b"".join(
        [*lines[:16], lines[16].replace(b'"content":"', b'"content":"so it was not said: '), *lines[17:]]
    )


DAMAGE = {
    truncated: ("truncated", range(31, 41), "cut off in the middle of line 31: from there on, 20 lines"),
    duplicated: ("duplicated", [21], "line 21 is line 12 once more"),
    reordered: ("reordered", [5, 41], "2 lines are not in their places: lines 5, 41"),
    edited: ("edited", [17], "line 17 was changed"),
}


def test_damage_is_told_apart_and_undone(shell, service):
    folder = run_task(shell, service)
    before = content(folder)
    good = before["output.jsonl"].splitlines(keepends=True)
    assert shell.json("-validate", "A")["ok"] is True
    for damage, (what, lines, words) in DAMAGE.items():
        damaged = damage(good)
        (folder / "output.jsonl").write_bytes(damaged)
        told = shell.run("-validate", "A", code=1)
        assert "output.jsonl: damaged" in told.stdout
        assert words in told.stdout
        assert "-validate A -repair" in told.stderr
        assert content(folder) == before | {"output.jsonl": damaged}, "a look changes nothing"

        result = shell.json("-validate", "A", code=1)
        assert result["ok"] is False
        (checked,) = result["results"]
        states = {file["name"]: file["state"] for file in checked["files"]}
        assert states == dict.fromkeys(before, "intact") | {"output.jsonl": "damaged"}
        (findings,) = (file["findings"] for file in checked["files"] if file["findings"])
        assert [finding["what"] for finding in findings] == [what]
        assert findings[0]["lines"] == list(lines)

        mended = shell.json("-validate", "A", "-repair")
        assert mended["ok"] is True
        (file,) = (file for file in mended["results"][0]["files"] if file["name"] == "output.jsonl")
        assert file["state"] == "rebuilt"
        assert file["backup"].startswith("output.jsonl.bak-")
        assert content(folder) == before | {file["backup"]: damaged}
        (folder / file["backup"]).unlink()
    assert shell.json("-validate", "A")["ok"] is True
    assert service.summary().billed == 50, "nothing was asked again"


def test_all_files_are_rebuilt_byte_for_byte(shell, service):
    service.control(rules=[{"contains": "q 7:", "do": "400"}])
    folder = run_task(shell, service, code=1)
    before = content(folder)
    for name in before:
        (folder / name).unlink()
    (folder / "report.json").write_text("{}")
    states = {
        file["name"]: file["state"] for file in shell.json("-validate", "A", code=1)["results"][0]["files"]
    }
    assert states == dict.fromkeys(before, "missing") | {"report.json": "damaged"}
    shell.run("-validate", "A", "-repair")
    after = content(folder)
    assert {name: after[name] for name in before} == before
    assert len(after) == len(before) + 1

    shutil.rmtree(folder)
    shell.run("-validate", "A", code=1)
    assert not folder.exists()
    assert "rebuilt from the journals" in shell.run("-validate", "A", "-repair").stdout
    assert content(folder) == before


def test_journals_that_changed_are_not_taken_for_the_truth(shell, service):
    folder = run_task(shell, service)
    (journal,) = (shell.workspace / "chunks/A/0000").glob("chunk_0000002.*.jsonl")
    lines = journal.read_bytes().splitlines(keepends=True)
    journal.write_bytes(b"".join(lines[1:-1]))
    assert shell.json("-validate", "A")["ok"] is True, "the outputs are whole"
    damaged = (folder / "output.jsonl").read_bytes()[:-1000]
    (folder / "output.jsonl").write_bytes(damaged)
    result = shell.json("-validate", "A", "-repair", code=1)
    (file,) = (file for file in result["results"][0]["files"] if file["findings"])
    assert [finding["what"] for finding in file["findings"]] == ["journals", "truncated"]
    assert (folder / "output.jsonl").read_bytes() == damaged
    assert len(list(folder.iterdir())) == 4


def test_a_kill_while_a_file_is_replaced(workspace, service):
    fired = workspace / "fired"
    fired.mkdir()
    point = "repair.backed_up"
    shell = Shell(workspace, BATCH_INFER_FAILPOINTS=f"{point}=exit", BATCH_INFER_FAILPOINT_DIR=str(fired))
    folder = run_task(shell, service, count=5)
    before = content(folder)
    damaged = before["output.jsonl"][:-10]
    (folder / "output.jsonl").write_bytes(damaged)
    shell.run("-validate", "A", "-repair", code=4)
    (backup,) = folder.glob("output.jsonl.bak-*")
    assert backup.read_bytes() == damaged
    assert not (folder / "output.jsonl").exists()
    shell.run("-validate", "A", "-repair")
    assert content(folder) == before | {backup.name: damaged}


def test_any_other_file(shell, service, tmp_path):
    folder = run_task(shell, service, count=5)
    copy = shell.workspace / "copy.jsonl"
    lines = (folder / "output.jsonl").read_bytes().splitlines(keepends=True)
    copy.write_bytes(b"".join(lines))
    good = shell.json("-validate", "copy.jsonl")
    assert good["results"][0]["content"]["finish_reasons"] == {"stop": 5}
    assert good["results"][0]["task_id"] is None
    copy.write_bytes(b"".join([*lines, lines[1], b"no JSON\n"]) + lines[2][:40])
    told = shell.run("-validate", "copy.jsonl", code=1)
    for words in ("middle of line 8", "line 7 is no JSON object", "line 6 is line 2 once more"):
        assert words in told.stdout
    shell.run("-validate", "copy.jsonl", "-repair", code=2)
    assert "neither a task nor a file" in shell.run("-validate", "no/such.jsonl", code=2).stderr
    shell.run("-validate", "nothing", code=3)


def test_all_tasks_and_a_schema(shell, service):
    run_task(shell, service, "A", 3)
    assert [r["task_id"] for r in shell.json("-validate")["results"]] == ["A"]
    schema = shell.workspace / "schema.json"
    schema.write_text('{"type": "object"}')
    result = shell.json("-validate", "A", "-schema", "schema.json", code=1)
    assert [finding["what"] for finding in result["results"][0]["findings"]] == ["schema"]
    schema.write_text('{"type": 3}')
    assert "no JSON Schema" in shell.run("-validate", "A", "-schema", "schema.json", code=2).stderr


def fail(*texts):
    return [{"contains": f"q {n}:", "do": "400"} for n in texts]


def test_retry_of_chosen_rows(shell, service):
    service.control(rules=fail(3, 7, 33, 41))
    run_task(shell, service, code=1)
    first = Outputs(shell.workspace, "A")
    assert [line["custom_id"] for line in first.errors] == ["q-3", "q-7", "q-33", "q-41"]
    service.control(rules=[])
    rows = shell.workspace / "missing_rows.txt"
    rows.write_text('7\r\n"q-41"\n\n0\nq-nobody\n')
    done = shell.run("-retry", "A", "-rows", "missing_rows.txt", "-wait", code=1)
    assert "round 1: 2 records are tried again" in done.stderr
    assert "2 entries of missing_rows.txt name no such record" in done.stderr
    second = Outputs(shell.workspace, "A", round=1)
    second.check_identity(50)
    assert [line["custom_id"] for line in second.errors] == ["q-3", "q-33"]
    assert second.errors == [line for line in first.errors if line["custom_id"] in ("q-3", "q-33")]
    assert second.report["attempts"]["total"] == first.report["attempts"]["total"] + 2
    assert second.ids == [f"q-{n}" for n in range(50) if n not in (3, 33)]
    assert shell.json("-validate", "A")["ok"] is True
    old = shell.workspace / "merged/A/error_retry0.jsonl"
    kept = old.read_bytes()
    old.write_bytes(kept.replace(b"q-3", b"q-4"))
    told = shell.run("-validate", "A", "-repair", code=1)
    assert "error_retry0.jsonl: damaged\n    - it is not what was written\n    - it is of an" in told.stdout
    assert "-repair" not in told.stderr
    old.unlink()
    (result,) = shell.json("-validate", "A", code=1)["results"]
    assert [f["state"] for f in result["files"] if f["name"] == old.name] == ["missing"]
    old.write_bytes(kept)
    assert shell.json("-validate", "A")["ok"] is True

    assert "nothing to try again" in shell.run("-retry", "A", "-only", "missing").stderr
    shell.run("-retry", "A", "-only", "failed", "-chunks", "1", "-wait", code=1)
    third = Outputs(shell.workspace, "A", round=2)
    third.check_identity(50)
    assert [line["custom_id"] for line in third.errors] == ["q-33"]
    shell.run("-retry", "A", "-wait")
    Outputs(shell.workspace, "A", round=3).check_identity(50)
    assert service.summary().billed == 50
    assert "knows no 'wrong'" in shell.run("-retry", "A", "-only", "wrong", code=2).stderr
    assert "cannot be read" in shell.run("-retry", "A", "-rows", "nothing", code=2).stderr


def test_retry_of_chosen_rows_in_batches(shell, service):
    service.control(rules=fail(3, 7, 33, 41))
    shell.config(**batch_config(service))
    prompts(shell.workspace / "in.jsonl", 50)
    shell.run("-pipeline", "in.jsonl", "-task-id", "A", "-wait", code=1)
    service.control(rules=[])
    (shell.workspace / "rows").write_text("7\n41\n")
    shell.run("-retry", "A", "-rows", "rows", "-wait", code=1)
    out = Outputs(shell.workspace, "A", round=1)
    out.check_identity(50)
    assert [line["custom_id"] for line in out.errors] == ["q-3", "q-33"]
    paid = Paid(service)
    paid.check_once()
    assert sum(batch.lines for batch in paid.batches) == 52
    assert shell.json("-validate", "A")["ok"] is True


@pytest.mark.parametrize("point", ["retry.committed", "retry.carried_one"])
def test_a_kill_while_records_are_chosen(workspace, service, point):
    fired = workspace / "fired"
    fired.mkdir()
    shell = Shell(workspace, BATCH_INFER_FAILPOINTS=f"{point}=exit", BATCH_INFER_FAILPOINT_DIR=str(fired))
    service.control(rules=fail(3, 7, 33, 41))
    run_task(shell, service, code=1)
    service.control(rules=[])
    (workspace / "rows").write_text("7\n41\n")
    shell.run("-retry", "A", "-rows", "rows", "-wait", code=None)
    assert list(fired.iterdir())
    shell.run("-monitor", "A", code=1)
    out = Outputs(workspace, "A", round=1)
    out.check_identity(50)
    assert [line["custom_id"] for line in out.errors] == ["q-3", "q-33"]
    assert service.summary().billed == 48
    assert not list((workspace / "chunks").rglob("*.next"))


def test_clean_asks_and_removes_what_has_ended(shell, service):
    for name in ("A", "B", "C"):
        run_task(shell, service, name, 3)
    refused = shell.run("-clean", code=2)
    assert "nobody to ask" in refused.stderr
    assert len(shell.json("-list")["tasks"]) == 3
    service.control(latency_ms=60_000)
    prompts(shell.workspace / "in.jsonl", 200)
    shell.run("-pipeline", "in.jsonl", "-task-id", "running")
    assert "when it has ended" in shell.run("-validate", "running", code=3).stderr
    told = shell.run("-clean", "A", "running", "-yes", code=3)
    assert "task A is removed" in told.stdout
    assert "running was not removed: it is running" in told.stderr
    assert not (shell.workspace / "chunks/A").exists()
    assert not (shell.workspace / "merged/A").exists()
    shell.run("-status", "A", code=3)
    assert shell.json("-clean", "-keep-latest", "-yes")["removed"] == ["B"]
    assert {task["task_id"] for task in shell.json("-list")["tasks"]} == {"C", "running"}
    assert {path.name for path in (shell.workspace / "merged").iterdir()} <= {"C", "running", ".gitignore"}
    assert "there is no task A" in shell.run("-clean", "A", "-yes", code=3).stderr


def test_cleanup_removes_the_task_of_that_id_first(shell, service):
    run_task(shell, service, "A", 3)
    uuid = shell.status("A")["uuid"]
    line = ("-pipeline", "in.jsonl", "-task-id", "A", "-wait")
    shell.run(*line, code=3)
    shell.run(*line, "-cleanup", code=2)
    (shell.workspace / "bad.yaml").write_text("model: {}")
    shell.run(*line, "-cleanup", "-yes", "-config", "bad.yaml", code=2)
    assert shell.status("A")["uuid"] == uuid, "nothing goes for a command that is wrong"
    own = shell.run("-pipeline", "merged/A/output.jsonl", *line[2:], "-cleanup", "-yes", code=2)
    assert "would be removed with task A" in own.stderr
    assert shell.status("A")["uuid"] == uuid
    shell.run(*line, "-cleanup", "-yes")
    assert shell.status("A")["uuid"] != uuid
    Outputs(shell.workspace, "A").check_identity(3)
    assert service.summary().billed == 6
    assert shell.json("-cost")["total"]["answered"] == 6
    assert [row["removed"] for row in shell.json("-cost", "A")["tasks"]] == [None]
    shell.run("-pipeline", "in.jsonl", "-task-id", "new", "-cleanup", "-wait")


def test_a_kill_while_a_task_is_removed(workspace, service):
    fired = workspace / "fired"
    fired.mkdir()
    point = "clean.outputs_set_aside"
    shell = Shell(workspace, BATCH_INFER_FAILPOINTS=f"{point}=exit", BATCH_INFER_FAILPOINT_DIR=str(fired))
    run_task(shell, service, "A", 3, prices={"input": 3, "output": 12})
    costs = shell.json("-cost")
    shell.run("-clean", "A", "-yes", code=4)
    assert shell.status("A")["state"] == "completed"
    assert shell.json("-cost") == costs, "what was kept of it is not counted beside it"
    assert not list((workspace / "merged").glob(".removed*"))
    shell.run("-validate", "A", "-repair")
    Outputs(workspace, "A").check_identity(3)
    shell.run("-clean", "A", "-yes")
    assert shell.json("-list")["tasks"] == []
    shell.run("-daemon", "stop")
    kept = shell.json("-cost")
    assert kept["total"]["spent"]["USD"] > 0
    assert {name: kept[name] for name in ("total", "models", "days")} == {
        name: costs[name] for name in ("total", "models", "days")
    }
    assert [row | {"removed": None} for row in kept["tasks"]] == costs["tasks"]
    assert kept["tasks"][0]["removed"]
    assert "A (removed)" in shell.run("-cost").stdout
    assert shell.json("-cost", "A") == kept
    shell.run("-cost", "B", code=3)
