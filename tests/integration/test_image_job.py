"""A folder with a table and its images, from the submit to the page: found, watched, logged, looked at."""

import json

from harness import Outputs, service_config, wait_for
from image_kit import picture

ROWS = 40
SIZE = 30_000


def test_from_a_folder_to_a_page(shell, service):
    folder = shell.workspace / "job"
    folder.mkdir()
    for n in range(ROWS):
        (folder / f"{n}.png").write_bytes(picture(100, 100, "png"))
    size = (folder / "0.png").stat().st_size
    assert size > SIZE
    rows = "".join(f"what is in {n}?,{n}.png\n" for n in range(ROWS))
    (folder / "questions.csv").write_text(f"question,image\n{rows}")
    shell.config(
        model=service_config(service),
        input={"prompt": "{question}", "image_columns": ["image"]},
        execution={"mode": "threading", "processes": 2, "concurrency": 4},
        lines_per_chunk=10,
        logging={"format": "json", "level": "debug"},
        output={"formats": ["html"]},
    )
    service.control(latency_ms=300)
    (folder / "other.csv").write_text("question,image\n")
    several = shell.run("-pipeline", "job", "-task-id", "A", code=2)
    assert "2 tables lie in the folder" in several.stderr
    assert "other.csv, questions.csv" in several.stderr
    (folder / "other.csv").unlink()
    accepted = shell.run("-pipeline", "job", "-task-id", "A")
    assert f"the input is the table {folder / 'questions.csv'}" in accepted.stderr

    def sent():
        workers = shell.json("-monitor", "A", "-once")["daemon"]["workers"]
        return any(one["sent_per_s"] > SIZE and one["received_per_s"] > 0 for one in workers)

    wait_for(sent, "the worker's traffic")
    service.control(latency_ms=0)
    wait_for(lambda: shell.status("A")["state"] == "completed", "the end")
    out = Outputs(shell.workspace, "A")
    out.check_identity(ROWS)
    page = (shell.workspace / "merged/A/answers.html").read_text("utf-8")
    shell.run("-export", "A", "-out", "page.html")
    assert (shell.workspace / "page.html").read_text("utf-8") == page
    assert page.count((folder / "7.png").as_uri()) == 1
    assert f'"answered":{ROWS}' in page
    lines = [json.loads(line) for line in shell.run("-logs", "A").stdout.splitlines()]
    threads = {line["thread"] for line in lines if line["process"].startswith("worker")}
    assert threads == {"seat-0", "seat-1"}
