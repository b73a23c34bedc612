"""-validate and -repair where something else than a file stands in the place of an output."""

import json
import os
import stat

from harness import prompts, service_config

KINDS = {"pipe": os.mkfifo, "folder": os.mkdir, "link": None}


def place(path, kind, target):
    if kind == "link":
        path.symlink_to(target)
    else:
        KINDS[kind](path)


def test_it_is_named_and_put_aside_and_nobody_hangs(shell, service):
    service.control(rules=[{"contains": "q 7:", "do": "400"}])
    shell.config(model=service_config(service))
    prompts(shell.workspace / "in.jsonl", 20)
    shell.run("-pipeline", "in.jsonl", "-task-id", "A", "-wait", code=1)
    folder = shell.workspace / "merged" / "A"
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    target = shell.workspace / "precious"
    target.write_bytes(b"precious\n")
    names = ["output.jsonl", "error_retry0.jsonl", "report.json"]
    for kind, name in zip(KINDS, names, strict=True):
        (folder / name).unlink()
        place(folder / name, kind, target)
    told = shell.run("-validate", "A", code=1).stdout
    (checked,) = shell.json("-validate", "A", code=1)["results"]
    found = {
        file["name"]: (file["state"], [one["what"] for one in file["findings"]]) for file in checked["files"]
    }
    for kind, name in zip(KINDS, names, strict=True):
        assert f"{name}: damaged" in told
        assert f"it is a {kind}, and no file" in told
        assert found[name] == ("damaged", ["no_file"])

    (mended,) = shell.json("-validate", "A", "-repair")["results"]
    backups = {file["name"]: file["backup"] for file in mended["files"] if file["backup"]}
    assert {file["state"] for file in mended["files"]} == {"intact", "rebuilt"}
    assert {name: (folder / name).read_bytes() for name in before} == before
    assert target.read_bytes() == b"precious\n"
    assert stat.S_ISFIFO((folder / backups["output.jsonl"]).lstat().st_mode)
    assert (folder / backups["error_retry0.jsonl"]).is_dir()
    assert (folder / backups["report.json"]).is_symlink()
    shell.run("-clean", "A", "-yes")
    assert not folder.exists()
    assert target.read_bytes() == b"precious\n"


def test_a_schema_with_patterns_judges_a_file(shell):
    body = {"choices": [{"finish_reason": "stop", "message": {"role": "assistant", "content": '"ab"'}}]}
    line = {"custom_id": "1", "response": {"status_code": 200, "body": body}, "error": None}
    (shell.workspace / "f.jsonl").write_text(json.dumps(line) + "\n")
    for pattern, code in (("^a", 0), ("^b", 1)):
        (shell.workspace / "s.json").write_text(json.dumps({"type": "string", "pattern": pattern}))
        told = shell.run("-validate", "f.jsonl", "-schema", "s.json", code=code).stdout
        assert ("does not match" in told) == bool(code)
