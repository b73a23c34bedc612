"""How long the writing of a prepared file took, and how fast it was: measured and told."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
from cli_fakes import Cli, FakePeer

from batch_infer.protocol.workspace import Workspace
from batch_inferd.intake import prepare as preparing
from batch_inferd.intake.spool import SpoolStopped
from batch_inferd.requests.prepare import _pace
from batch_inferd.sources.open import open_source
from batch_inferd.sources.spec import SourceSpec

if TYPE_CHECKING:
    from pathlib import Path

TOPICS = ["sun", "sea", "sand", "salt", "sky"]
PACE = {"seconds": 75.25, "records": 40, "bytes": 4096, "records_per_s": 0.5, "bytes_per_s": 2048}


def test_only_what_this_call_wrote_is_counted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    now = 0.0

    def shaper(line: bytes, _number: int) -> bytes:
        nonlocal now
        now += 2.0
        return line

    monkeypatch.setattr(preparing.time, "monotonic", lambda: now)
    source = open_source(SourceSpec(kind="topics", topics=TOPICS))
    out, asked = tmp_path / "out.jsonl", iter([False, False, True])
    with pytest.raises(SpoolStopped):
        preparing.prepare(source, out, shaper, made_of={}, stop=lambda: next(asked))
    before = out.stat().st_size
    now = 1000.0
    made = preparing.prepare(source, out, shaper, made_of={})
    assert (made.lines, made.new_lines, made.seconds) == (5, 3, 6.0)
    assert made.new_bytes == out.stat().st_size - before == made.size - before
    assert _pace(made) == {
        "seconds": 6.0,
        "records": 3,
        "bytes": made.new_bytes,
        "records_per_s": 0.5,
        "bytes_per_s": round(made.new_bytes / 6),
    }


def test_nothing_in_no_time_is_no_error() -> None:
    assert _pace(preparing.Prepared(0, 0, 0, 0))["bytes_per_s"] == 0


def run(tmp_path: Path, pace: dict[str, Any], *words: str) -> Cli:
    answer = {"path": "/o.jsonl", "errors": None, "shape": "openai", "count": 50, "failed": 0, "skipped": 0}
    answer |= {"bytes": 5120, "this_time": pace, "notes": [], "warnings": []}
    handlers = {"prepare": lambda _: answer, "config.variables": lambda _: {"variables": []}}
    cli = Cli(Workspace(tmp_path), [FakePeer(handlers)])
    assert cli("-prepare", "s3://bucket/photos", "-out", "o.jsonl", *words) == 0
    return cli


def test_the_command_tells_it(tmp_path: Path) -> None:
    assert json.loads(run(tmp_path, PACE, "-json").stdout)["this_time"] == PACE
    cli = run(tmp_path, PACE)
    assert "40 records were written in 1m 15s: 0.5/s, 2.0 KiB/s\n" in cli.stderr
    assert cli.stdout == "/o.jsonl\n"
    assert "written in 3.5s:" in run(tmp_path, PACE | {"seconds": 3.52}).stderr
    assert "written in" not in run(tmp_path, PACE | {"records": 0}).stderr
