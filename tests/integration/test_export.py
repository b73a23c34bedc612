"""Exports of real tasks: by the command and by the config, through retries, faults and kills."""

import csv
import io
import json
import signal

import pyarrow.parquet

from harness import Outputs, Shell, kill, prompts, service_config, wait_for

FAILING = [{"contains": "q 7:", "do": "400"}, {"contains": "q 33:", "do": "422"}]


def rows(path, delimiter=","):
    return list(csv.DictReader(io.StringIO(path.read_text("utf-8-sig"), newline=""), delimiter=delimiter))


def run_task(shell, service, count=45, rules=(), code=0, **config):
    service.control(rules=list(rules))
    shell.config(model=service_config(service), **config)
    prompts(shell.workspace / "in.jsonl", count)
    shell.run("-pipeline", "in.jsonl", "-task-id", "A", "-wait", code=code)


def test_every_format_of_a_task_with_failures(shell, service):
    run_task(shell, service, rules=FAILING, code=1)
    folder = shell.workspace
    done = shell.run("-export", "A", "-out", "a.csv")
    assert done.stdout == f"{folder / 'a.csv'}\n"
    assert "45 records" in done.stderr
    found = rows(folder / "a.csv")
    assert [row["custom_id"] for row in found] == [f"q-{n}" for n in range(45)]
    assert found[3]["prompt"] == "q 3: 你好?"
    assert "q 3:" in found[3]["answer"]
    assert int(found[3]["output_tokens"]) > 0
    assert (found[7]["answer"], found[7]["error"].split(":")[0]) == ("", "bad_request")
    shell.run("-export", "A", "-out", "a.parquet")
    table = pyarrow.parquet.read_table(folder / "a.parquet").to_pylist()
    assert [row["answer"] or "" for row in table] == [row["answer"] for row in found]
    shell.run("-export", "A", "-out", "a.tsv")
    assert [row["answer"] for row in rows(folder / "a.tsv", "\t")] == [row["answer"] for row in found]
    shell.run("-export", "A", "-out", "qa.txt", "-format", "qa")
    lines = [json.loads(line) for line in (folder / "qa.txt").read_bytes().splitlines()]
    assert len(lines) == 43
    assert lines[0]["id"] == "q-0"
    assert lines[0]["processed_at"] > 1_700_000_000
    shell.run("-export", "A", "-out", "all.jsonl")
    whole = (folder / "all.jsonl").read_bytes().split(b"\n")[:-1]
    out = Outputs(folder, "A")
    assert [json.loads(line) for line in whole if json.loads(line)["error"] is None] == out.output
    assert [json.loads(whole[n]) for n in (7, 33)] == out.errors
    answer = shell.json("-export", "A", "-out", "stats.json")
    assert (answer["format"], answer["records"]) == ("json", 45)
    statistics = json.loads((folder / "stats.json").read_text("utf-8"))
    assert statistics["statistics"]["success_rate"] == 0.9556
    assert sum(one["records"] for one in statistics["statistics"]["per_worker"]) == 45
    assert statistics["tasks"][0]["counts"]["error"] == 2
    prompts(folder / "二.jsonl", 3, tag="二")
    shell.run("-pipeline", "二.jsonl", "-task-id", "二", "-wait")
    shell.run("-export", "二", "A", "-out", "both.csv")
    both = rows(folder / "both.csv")
    assert [row["task_id"] for row in both] == ["二"] * 3 + ["A"] * 45
    assert (both[0]["custom_id"], both[3]["answer"]) == ("二-0", found[0]["answer"])


def test_what_is_refused(shell, service):
    service.control(latency_ms=300)
    shell.config(model=service_config(service), execution={"concurrency": 1}, limits={"max_concurrency": 1})
    prompts(shell.workspace / "in.jsonl", 50)
    shell.run("-pipeline", "in.jsonl", "-task-id", "A")
    refused = shell.run("-export", "A", "-out", "a.csv", code=3)
    assert "only a task that has ended can be exported" in refused.stderr
    assert "no task B" in shell.run("-export", "B", "-out", "a.csv", code=3).stderr
    shell.run("-cancel", "A")
    wait_for(lambda: shell.status("A")["state"] == "cancelled", "the cancel")
    shell.run("-export", "A", "-out", "a.csv")
    assert len(rows(shell.workspace / "a.csv")) == shell.status("A")["counts"]["input"]
    before = (shell.workspace / "in.jsonl").read_bytes()
    for out, said in [
        ("in.jsonl", "is the input of the task"),
        ("merged/A/output.jsonl", "is an output of a task"),
        ("chunks/A/x.csv", "lies among the files"),
        ("gone/x.csv", "does not exist"),
    ]:
        refused = shell.run("-export", "A", "-out", out, "-format", "jsonl", code=2)
        assert said in refused.stderr
    assert (shell.workspace / "in.jsonl").read_bytes() == before


def test_formats_of_the_config_are_published_with_the_outputs_and_after_a_retry(shell, service):
    run_task(shell, service, rules=FAILING, code=1, output={"formats": ["csv", "parquet", "json", "qa"]})
    folder = shell.workspace / "merged" / "A"
    assert {path.name for path in folder.iterdir()} == {
        "output.jsonl", "error_retry0.jsonl", "missing_records.jsonl", "report.json",
        "answers.csv", "answers.parquet", "answers.json", "answers.qa.jsonl",
    }  # fmt: skip
    assert (folder / "answers.csv").stat().st_mode & 0o777 == 0o600
    assert rows(folder / "answers.csv")[7]["answer"] == ""
    statistics = json.loads((folder / "answers.json").read_text("utf-8"))
    assert statistics["tasks"][0]["state"] == "completed"
    assert statistics["tasks"][0]["seconds"] > 0
    service.control(rules=[])
    shell.run("-retry", "A", "-wait")
    found = rows(folder / "answers.csv")
    assert len(found) == 45
    assert "q 7:" in found[7]["answer"]
    assert pyarrow.parquet.read_table(folder / "answers.parquet").num_rows == 45


def test_a_kill_between_the_renames_publishes_all_of_one_generation(workspace, service, tmp_path):
    shell = Shell(
        workspace,
        BATCH_INFER_FAILPOINTS="publish.renamed_one=exit",
        BATCH_INFER_FAILPOINT_DIR=str(tmp_path),
    )
    run_task(shell, service, output={"formats": ["csv", "jsonl"]})
    assert (tmp_path / "publish.renamed_one.fired").exists()
    folder = workspace / "merged" / "A"
    assert len(rows(folder / "answers.csv")) == 45
    assert (folder / "answers.jsonl").read_bytes() == (folder / "output.jsonl").read_bytes()
    assert not [path for path in folder.iterdir() if path.name.startswith(".stage")]


def test_a_full_disk_pauses_the_task_and_it_ends_by_itself(workspace, service, tmp_path):
    faults = tmp_path / "faults"
    faults.write_text("write:answers.csv=28")
    shell = Shell(workspace, BATCH_INFER_FS_FAULTS_FILE=str(faults))
    service.control()
    shell.config(model=service_config(service), output={"formats": ["csv"]})
    prompts(workspace / "in.jsonl", 45)
    shell.run("-pipeline", "in.jsonl", "-task-id", "A")
    wait_for(lambda: shell.status("A")["reason"] == "disk_full", "the pause")
    folder = workspace / "merged" / "A"
    assert list(folder.iterdir()) == []
    faults.write_text("")
    wait_for(lambda: shell.status("A")["state"] == "completed", "the end")
    assert len(rows(folder / "answers.csv")) == 45


def test_ctrl_c_and_a_killed_daemon_leave_what_was_there(shell, service):
    shell.environ["BATCH_INFER_FAILPOINTS"] = "export.chunk=stall:4"
    run_task(shell, service)
    workspace = shell.workspace
    out = workspace / "a.jsonl"
    out.write_text("old")

    def half_files():
        return [path for path in workspace.iterdir() if path.name.endswith(".part")]

    exporting = shell.start("-export", "A", "-out", "a.jsonl")
    wait_for(half_files, "the export to begin")
    exporting.send_signal(signal.SIGINT)
    exporting.communicate(timeout=30)
    assert exporting.returncode == 130
    wait_for(lambda: not half_files(), "the export to end")
    assert out.read_text() == "old"
    exporting = shell.start("-export", "A", "-out", "a.jsonl")
    wait_for(half_files, "the export to begin")
    kill(shell.daemon())
    _, err = exporting.communicate(timeout=30)
    assert exporting.returncode == 4, err
    assert out.read_text() == "old"
    del shell.environ["BATCH_INFER_FAILPOINTS"]
    shell.run("-export", "A", "-out", "a.jsonl")
    assert out.read_bytes() == (workspace / "merged" / "A" / "output.jsonl").read_bytes()


def test_the_rows_of_a_table_with_their_answers(shell, service):
    service.control(rules=[{"contains": "row 7 ", "do": "400"}])
    text = io.StringIO(newline="")
    writer = csv.writer(text)
    writer.writerow(["编号", "问题", "answer"])
    cells = [[f"id{n}", f'row {n} , "quoted"\nsecond line', "gold"] for n in range(45)]
    writer.writerows(cells)
    (shell.workspace / "in.csv").write_bytes(text.getvalue().encode("gb18030"))
    shell.config(
        model=service_config(service),
        input={"prompt": "About {问题}", "id_column": "编号"},
        output={"formats": ["csv", "qa"]},
    )
    shell.run("-pipeline", "in.csv", "-task-id", "A", "-wait", code=1)
    found = rows(shell.workspace / "merged" / "A" / "answers.csv")
    assert [[row["编号"], row["问题"], row["answer"]] for row in found] == cells
    assert [row["编号"] for row in found if not row["output_answer"]] == ["id7"]
    assert found[7]["error"].startswith("bad_request: ")
    assert "row 3 " in found[3]["output_answer"]
    first = json.loads((shell.workspace / "merged/A/answers.qa.jsonl").read_bytes().split(b"\n")[0])
    assert (first["id"], first["input_prompt"]) == ("id0", "About " + cells[0][1])
    shell.run("-export", "A", "-out", "again.csv")
    assert rows(shell.workspace / "again.csv") == found
