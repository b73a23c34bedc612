"""A picture of a real run: beside the report by the config, and later by the command, of all rounds."""

import xml.etree.ElementTree as ET

from harness import prompts, service_config

FAILING = [{"contains": "q 7:", "do": "400"}, {"contains": "q 33:", "do": "422"}]
SVG = "{http://www.w3.org/2000/svg}"


def texts(path):
    root = ET.fromstring(path.read_text("utf-8"))  # noqa: S314  our own
    return [" ".join("".join(one.itertext()).split()) for one in root.iter(f"{SVG}text")]


def test_beside_the_report_after_a_retry_and_by_the_command(shell, service):
    service.control(rules=FAILING)
    shell.config(model=service_config(service), output={"formats": ["svg"]})
    prompts(shell.workspace / "in.jsonl", 45)
    shell.run("-pipeline", "in.jsonl", "-task-id", "A", "-wait", code=1)
    beside = shell.workspace / "merged" / "A" / "run.svg"
    found = texts(beside)
    assert found[0] == "A"
    assert found[1].startswith("completed · 45 records: 43 answered, 2 failed · ")
    assert any(text.startswith("Latency — median ") for text in found)
    (ended,) = [text for text in found if text.startswith("Records that ended")]
    assert ended.endswith("■ bad_request 1 ■ unprocessable 1")

    service.control(rules=[])
    shell.run("-retry", "A", "-wait")
    found = texts(beside)
    assert found[1].startswith("completed · 45 records: 45 answered · ")
    assert any(text.endswith("■ bad_request 1 ■ unprocessable 1") for text in found), (
        "what happened in the first round stays"
    )

    published = beside.read_bytes()
    beside.unlink()
    done = shell.run("-export", "A", "-format", "svg")
    assert done.stdout == f"{beside}\n"
    shell.run("-export", "A", "-out", "there.svg")
    assert beside.read_bytes() == (shell.workspace / "there.svg").read_bytes() == published

    prompts(shell.workspace / "b.jsonl", 3)
    shell.run("-pipeline", "b.jsonl", "-task-id", "B", "-wait")
    refused = shell.run("-export", "A", "B", "-out", "both.svg", code=2)
    assert "a picture shows the run of one task, not of 2" in refused.stderr
    assert not (shell.workspace / "both.svg").exists()
