"""Tasks from tables, folders, lists and pipes: the real command line, daemon and test service."""

import base64
import csv
import errno
import gzip
import json
import subprocess
import sys

import pytest

from harness import Outputs, kill, service_config, wait_for

PIXEL = base64.b64decode(
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
)


@pytest.fixture
def config(shell, service):
    def write(**changes):
        return shell.config(model=service_config(service), **changes)

    return write


def table(path, rows, dialect="excel", encoding="utf-8", opened=open, pad=""):
    with opened(path, "wt", newline="", encoding=encoding) as file:
        writer = csv.writer(file, dialect)
        writer.writerow(["name", "question"])
        writer.writerows([f"n{n}", f'row {n}, "so"\nto say 你好{pad}'] for n in range(rows))


def spool(shell, task="A"):
    data = (shell.workspace / "chunks" / task / "input.jsonl").read_bytes()
    return [json.loads(line) for line in data.splitlines()]


def answer(line):
    return line["response"]["body"]["choices"][0]["message"]["content"]


def run(shell, *words, task="A", code=0):
    shell.run("-pipeline", *words, "-task-id", task, "-wait", code=code)
    return Outputs(shell.workspace, task, 0)


@pytest.mark.parametrize(
    ("name", "dialect", "encoding", "opened"),
    [
        ("in.csv", "excel", "gb18030", open),
        ("in.tsv", "excel-tab", "utf-8-sig", open),
        ("in.csv.gz", "excel", "utf-8", gzip.open),
    ],
)
def test_a_table(shell, config, service, name, dialect, encoding, opened):
    config(input={"prompt": "{question} of {name}", "id_column": "name"})
    table(shell.workspace / name, 45, dialect, encoding, opened)
    out = run(shell, name)
    out.check_identity(45)
    assert out.ids == [f"n{n}" for n in range(45)]
    assert 'row 7, "so"' in answer(out.output[7])
    assert spool(shell)[7]["$source"]["columns"]["question"] == 'row 7, "so"\nto say 你好'
    status = shell.status("A")
    assert (status["input_path"], status["preparing"]) == (str(shell.workspace / name), None)
    assert service.summary().billed == 45


def test_nothing_of_ours_is_sent(shell, config, service):
    config(input={"prompt": "{question}"})
    table(shell.workspace / "in.csv", 2)
    (shell.workspace / "plain.csv").write_text('question\n"row 0, ""so""\nto say 你好"\n', encoding="utf-8")
    run(shell, "in.csv")
    run(shell, "plain.csv", task="B")
    digests = {row.content_digest for row in service.ledger()}
    assert len(digests) == 2, "the same question is the same request, whatever else its row has"
    lines = shell.run("-prepare", "in.csv", "-out", "out.jsonl")
    assert lines.stdout.strip() == str(shell.workspace / "out.jsonl")
    body = json.loads((shell.workspace / "out.jsonl").read_text(encoding="utf-8").splitlines()[0])["body"]
    assert set(body) == {"model", "max_tokens", "messages"}


def test_rows_model_and_chunks_from_the_command_line(shell, config, service):
    config(input={"prompt": "{question}"})
    table(shell.workspace / "in.csv", 50)
    flags = ("-start-row", "5", "-end-row", "25", "-batch-size", "7", "-model", "other")
    out = run(shell, "in.csv", *flags)
    out.check_identity(20)
    assert out.ids == [str(n) for n in range(5, 25)]
    status = shell.status("A")
    assert (status["model"], status["chunk_states"]["done"]) == ("other", 3)
    wrong = shell.run("-pipeline", "in.csv", "-task-id", "B", "-start-row", "x", "-end-row", "-1", code=2)
    assert "input.start_row must be a whole number" in wrong.stderr
    assert "input.end_row" in wrong.stderr


def test_plain_lines_with_a_range_and_with_what_is_done(shell, config):
    config()
    with (shell.workspace / "in.jsonl").open("w", encoding="utf-8") as file:
        for n in range(30):
            file.write(
                json.dumps({"custom_id": f"q-{n}", "messages": [{"role": "user", "content": str(n)}]}) + "\n"
            )
    first = run(shell, "in.jsonl", "-end-row", "10")
    assert first.ids == [f"q-{n}" for n in range(10)]
    done = shell.workspace / "merged/A/output.jsonl"
    with done.open("ab") as file:
        file.write(b'{"torn')
    second = shell.run("-pipeline", "in.jsonl", "-task-id", "B", "-wait", "-done", str(done))
    assert "its good lines count" in second.stderr
    assert len(list(done.parent.glob("output.jsonl.bak-*"))) == 1
    out = Outputs(shell.workspace, "B")
    out.check_identity(20)
    assert out.ids == [f"q-{n}" for n in range(10, 30)]
    assert (first.report["skipped"], out.report["skipped"]) == (0, 10)


def test_the_shape_of_seed_000(shell, config):
    config()
    (shell.workspace / "1.png").write_bytes(PIXEL)
    lines = [
        {"id": "a", "input_prompt": "what is it?", "images": ["1.png"]},
        {"id": "b", "input_prompt": "and this?", "images": []},
        {"id": "c", "input_prompt": "gone", "images": ["2.png"]},
    ]
    (shell.workspace / "in.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    out = run(shell, "in.jsonl", code=1)
    out.check_identity(3)
    assert out.ids == ["a", "b"]
    assert [(line["custom_id"], line["error"]["code"]) for line in out.errors] == [("c", "image_missing")]
    assert spool(shell)[0]["$source"]["images"] == ["1.png"]


def test_topics_and_iterations(shell, config):
    config(input={"prompt": "Write about {topic}."})
    out = run(shell, "-topic", "sun and sea", "AI", "-iterations", "3")
    assert out.ids == [f"{topic}/{n}" for topic in ("sun and sea", "AI") for n in (1, 2, 3)]
    assert "Write about AI." in answer(out.output[5])


@pytest.mark.parametrize("kind", ["jsonl", "csv"])
def test_a_pipe(shell, config, kind):
    config(input={"prompt": "{question}", "format": "csv"} if kind == "csv" else {})
    data = "question\none\ntwo\n"
    if kind == "jsonl":
        data = "".join(
            json.dumps({"messages": [{"role": "user", "content": word}]}) + "\n" for word in ("one", "two")
        )

    def pipe(text, code, *more):
        words = [sys.executable, "-m", "batch_infer", "-pipeline", "-", "-task-id", "A", *more]
        done = subprocess.run(
            words,
            cwd=shell.workspace,
            env=shell.environ,
            input=text.encode(),
            capture_output=True,
            timeout=60,
            check=False,
        )
        assert done.returncode == code, done.stderr.decode()

    pipe(data, 0)
    wait_for(lambda: shell.status("A")["state"] == "completed")
    out = Outputs(shell.workspace, "A")
    out.check_identity(2)
    assert shell.status("A")["input_path"] == "-"
    assert not list((shell.workspace / "chunks").glob(".stdin-*"))
    assert not (shell.workspace / "chunks/A/stdin.data").exists()
    pipe(data + "x", 3)
    assert not list((shell.workspace / "chunks").glob(".stdin-*"))


def test_kill_9_while_preparing(shell, config, service, tmp_path):
    """The daemon dies in the middle of the spool, and after its commit: nothing is lost or doubled."""
    fired = tmp_path / "fired"
    fired.mkdir()
    config(input={"prompt": "{name}"}, lines_per_chunk=200)
    table(shell.workspace / "in.csv", 800, pad="-" * 4000)
    shell.environ |= {
        "BATCH_INFER_FAILPOINTS": "spool.written=exit;spool.committed=exit",
        "BATCH_INFER_FAILPOINT_DIR": str(fired),
    }
    done = shell.run("-pipeline", "in.csv", "-task-id", "A", "-wait", code=None)
    if done.returncode:
        shell.run("-pipeline", "in.csv", "-task-id", "A", "-wait")
    assert {path.name for path in fired.iterdir()} == {"spool.written.fired", "spool.committed.fired"}
    out = Outputs(shell.workspace, "A")
    out.check_identity(800)
    assert out.ids == [str(n) for n in range(800)]
    assert service.summary().billed == 800


def test_pause_kill_and_a_full_disk_while_preparing(shell, config, tmp_path):
    """A slow disk holds the spool in its middle: it can be paused, its progress shows, a full disk waits."""
    fault = tmp_path / "fault"
    fault.write_text("")
    shell.environ |= {
        "BATCH_INFER_FAILPOINTS": "spool.written=stall:0.2",
        "BATCH_INFER_FS_FAULTS_FILE": str(fault),
    }
    config(input={"prompt": "{name}"}, lines_per_chunk=2000)
    table(shell.workspace / "in.csv", 4000, pad="-" * 2000)
    shell.run("-pipeline", "in.csv", "-task-id", "A")
    written = wait_for(lambda: (shell.status("A")["preparing"] or {}).get("written"), "progress")
    assert written > 0
    shell.run("-pause", "A")
    assert shell.status("A")["reason"] == "user"
    kill(shell.daemon())
    assert shell.status("A")["state"] == "paused"
    fault.write_text(f"write:input.jsonl={errno.ENOSPC}")
    shell.run("-resume", "A")
    wait_for(lambda: shell.status("A")["reason"] == "disk_full", "the full disk")
    fault.write_text("")
    shell.run("-resume", "A")
    wait_for(lambda: shell.status("A")["counts"]["input"], "the first chunk")
    assert [line["custom_id"] for line in spool(shell)] == [str(n) for n in range(4000)]
    shell.run("-cancel", "A")


def test_a_source_that_changes_or_goes(shell, config, tmp_path):
    shell.environ["BATCH_INFER_FAILPOINTS"] = "spool.written=stall:0.3@1"
    config(input={"prompt": "{question}"}, lines_per_chunk=2000)
    source = shell.workspace / "in.csv"
    table(source, 900)
    shell.run("-pipeline", "in.csv", "-task-id", "A")
    table(source, 901)
    wait_for(lambda: shell.status("A")["reason"] == "input_changed", "the change to be found out")
    source.rename(tmp_path / "away.csv")
    shell.run("-resume", "A")
    status = wait_for(lambda: (found := shell.status("A"))["state"] == "paused" and found, "the missing file")
    assert "does not exist" in status["reason_text"]
    (tmp_path / "away.csv").rename(source)
    shell.run("-resume", "A")
    wait_for(lambda: shell.status("A")["counts"]["input"] == 901, "the source as it is now")


def test_what_cannot_be_read_is_refused_at_once(shell, config):
    config()
    (shell.workspace / "in.csv").write_text("a,b\n1,2\n")
    (shell.workspace / "x.bin").write_bytes(b"\x00\x01")
    (shell.workspace / "empty").mkdir()
    for words, said in (
        (("in.csv",), "prompt"),
        (("in.csv", "-prompt", "{c}"), "it has: a, b"),
        (("x.bin",), "does not say what kind"),
        (("empty", "-prompt", "x"), "holds no file"),
        (("gone.csv",), "does not exist"),
    ):
        refused = shell.run("-pipeline", *words, "-task-id", "A", code=2)
        assert said in refused.stderr, refused.stderr
    assert not (shell.workspace / "chunks/A").exists()
    (shell.workspace / "none.csv").write_text("prompt\n")
    empty = shell.run("-pipeline", "none.csv", "-task-id", "B", "-wait")
    assert "the input is empty" in empty.stderr
    Outputs(shell.workspace, "B").check_identity(0)
