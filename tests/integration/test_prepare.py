"""-prepare: a file of requests, images and all, in constant memory; gone on with after every kind of end."""

import errno
import json
import signal
import time
from pathlib import Path

import pytest

from harness import kill, service_config, wait_for
from photo_kit import check, embedded, measure, photos, picture

MANY = 1000
PROMPT = ("-prompt", "What is in {name}?", "-model", "m")


def test_a_thousand_photos_take_no_more_memory_than_ten(tmp_path):
    folder = photos(tmp_path / "many", MANY, 500_000)
    sizes = [path.stat().st_size for path in folder.iterdir()]
    assert 400_000 < sum(sizes) / MANY < 700_000
    few = tmp_path / "few"
    few.mkdir()
    for n in range(10):
        (few / f"{n:04}.jpg").hardlink_to(folder / f"{n:04}.jpg")
    lines, failed, peak_of_few = measure(few, tmp_path / "few.jsonl")
    assert (lines, failed) == (10, 0)
    lines, failed, peak = measure(folder, tmp_path / "many.jsonl")
    assert (lines, failed) == (MANY, 0)
    assert peak - peak_of_few < 30 * 2**20
    check(tmp_path / "many.jsonl", folder)
    with (tmp_path / "few.jsonl").open("rb") as file:
        record = json.loads(file.readline())["modelInput"]
    assert (record["anthropic_version"], record["max_tokens"]) == ("bedrock-2023-05-31", 100)
    assert record["system"] == "Look well."
    assert record["messages"][0]["content"][1] == {"type": "text", "text": "What is it?"}


def started(shell, *more):
    return shell.start("-prepare", "photos", "-out", "out.jsonl", *PROMPT, *more)


def run(shell, *more, code=0):
    return shell.json("-prepare", "photos", "-out", "out.jsonl", *PROMPT, *more, code=code)


@pytest.mark.parametrize("name", ["prepare.begun", "prepare.written"])
def test_kill_9_between_two_records_and_in_one(shell, tmp_path, name):
    folder = photos(shell.workspace / "photos", 40, 20_000)
    out = shell.workspace / "out.jsonl"
    fired = tmp_path / "fired"
    fired.mkdir()
    shell.environ |= {
        "BATCH_INFER_FAILPOINTS": f"{name}=exit@17",
        "BATCH_INFER_FAILPOINT_DIR": str(fired),
    }
    lost = shell.run("-prepare", "photos", "-out", "out.jsonl", *PROMPT, code=4)
    assert "the same command goes on with it" in lost.stderr
    before = out.read_bytes()
    assert before.count(b"\n") == (16 if name == "prepare.begun" else 17)
    out.write_bytes(before + b'{"custom_id":"torn')
    answer = run(shell)
    assert (answer["count"], answer["failed"], answer["shape"]) == (40, 0, "openai")
    assert out.read_bytes().startswith(before)
    check(out, folder)
    again = shell.run("-prepare", "photos", "-out", "out.jsonl", *PROMPT, code=2)
    assert "already exists" in again.stderr


def test_a_full_disk_and_other_settings(shell, tmp_path):
    folder = photos(shell.workspace / "photos", 30, 20_000)
    fault = tmp_path / "fault"
    fault.write_text(f"write:out.jsonl={errno.ENOSPC}@23+")
    shell.environ["BATCH_INFER_FS_FAULTS_FILE"] = str(fault)
    full = shell.run("-prepare", "photos", "-out", "out.jsonl", *PROMPT, code=2)
    assert "cannot be written" in full.stderr
    before = (shell.workspace / "out.jsonl").read_bytes()
    assert before.endswith(b"\n")
    fault.write_text("")
    other = shell.run("-prepare", "photos", "-out", "out.jsonl", "-prompt", "Else?", code=2)
    assert "another input or other settings" in other.stderr
    assert run(shell)["count"] == 30
    assert (shell.workspace / "out.jsonl").read_bytes().startswith(before)
    check(shell.workspace / "out.jsonl", folder)


def test_ctrl_c_and_files_that_come_and_go(shell):
    """Whoever hangs up ends it cleanly; it goes on behind the last record, with the folder as it is then."""
    folder = photos(shell.workspace / "photos", 30, 20_000)
    out = shell.workspace / "out.jsonl"
    shell.environ["BATCH_INFER_FAILPOINTS"] = "prepare.written=stall:0.1"
    process = started(shell)
    wait_for(lambda: out.exists() and out.read_bytes().count(b"\n") > 2, "some records")
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=30)
    assert process.returncode == 130
    assert "the same command goes on with it" in err
    still = _quiet(out)
    assert still < 30
    kill(shell.daemon())
    (folder / "0000.jpg").unlink()
    names = sorted(path.name for path in folder.iterdir())
    (folder / "9999.jpg").write_bytes(picture(99, 20_000))
    shell.environ["BATCH_INFER_FAILPOINTS"] = ""
    assert run(shell)["count"] == 31
    lines = [embedded(json.loads(line))[0] for line in out.read_bytes().splitlines()]
    assert lines == ["0000.jpg", *names, "9999.jpg"]


def _quiet(out):
    """The number of lines once nothing is added to them any more."""
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        before = out.read_bytes()
        time.sleep(0.5)
        if out.read_bytes() == before:
            assert before.endswith(b"\n")
            return before.count(b"\n")
    raise AssertionError("it goes on after the client has gone")


def test_broken_images_are_told_beside_the_file(shell):
    folder = photos(shell.workspace / "photos", 6, 20_000)
    (folder / "0002.jpg").write_bytes(b"no image")
    (folder / "0004.jpg").write_bytes((folder / "0004.jpg").read_bytes()[:9000])
    answer = run(shell, code=1)
    assert (answer["count"], answer["failed"]) == (4, 2)
    errors = [json.loads(line) for line in Path(answer["errors"]).read_bytes().splitlines()]
    assert answer["errors"].endswith("out.errors.jsonl")
    assert [(line["custom_id"], line["error"]["code"]) for line in errors] == [
        ("0002.jpg", "image_invalid"),
        ("0004.jpg", "image_invalid"),
    ]
    assert "0002.jpg" in errors[0]["error"]["message"]
    check(shell.workspace / "out.jsonl", folder, [f"000{n}.jpg" for n in (0, 1, 3, 5)])


def test_a_prepared_file_is_an_input(shell, service):
    photos(shell.workspace / "photos", 5, 20_000)
    shell.config(model=service_config(service))
    for shape in ("openai", "plain"):
        out = f"{shape}.jsonl"
        shell.run("-prepare", "photos", "-out", out, "-prompt", "What?", "-shape", shape)
        if shape == "openai":
            shell.run("-pipeline", out, "-task-id", shape, "-wait")
    ledger = service.ledger()
    assert len({row.content_digest for row in ledger}) == 5
    line = json.loads((shell.workspace / "plain.jsonl").read_text().splitlines()[0])
    assert line["messages"][0]["content"][1]["image_url"]["url"].startswith("file:///")
    assert line["$source"]["path"] == "0000.jpg"


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("-prepare", "photos"), "needs a file to write"),
        (("-prepare", "photos", "-out", "o", "-shape", "opneai"), "did you mean -shape openai?"),
        (("-prepare", "gone", "-out", "o"), "does not exist"),
        (("-prepare", "photos", "-out", "chunks/o", "-prompt", "x"), "among the files of the tasks"),
        (("-prepare", "photos", "-out", "merged/A/o", "-prompt", "x"), "among the files of the tasks"),
        (("-prepare", "photos", "-out", "o"), "nothing says what to ask"),
        (("-prepare", "photos", "-out", "no/such/o", "-prompt", "x"), "cannot be written"),
    ],
)
def test_what_is_wrong_is_told_at_once(shell, words, said):
    photos(shell.workspace / "photos", 1, 3000)
    assert said in shell.run(*words, code=2).stderr
