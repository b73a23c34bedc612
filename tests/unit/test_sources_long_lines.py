"""Lines that are longer than the config allows: an error record each, in bounded memory."""

from __future__ import annotations

import gzip
import json
import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from batch_inferd.sources.bytelines import byte_lines
from batch_inferd.sources.open import detect, open_source
from batch_inferd.sources.spec import SourceSpec


@given(data=st.binary(max_size=60), block=st.integers(1, 9), limit=st.integers(1, 20))
def test_a_line_is_whole_or_cut_behind_the_limit(data, block, limit):
    blocks = (data[at : at + block] for at in range(0, len(data), block))
    whole = enumerate(data.removeprefix(b"\xef\xbb\xbf").split(b"\n"), 1)
    wanted = [(number, line[: limit + 1]) for number, line in whole if line[: limit + 1].strip()]
    assert [(number, line) for number, line in byte_lines(blocks, limit) if line.strip()] == wanted


@pytest.mark.parametrize("field", ["messages", "input_prompt"])
def test_a_line_over_the_limit_is_an_error_record(tmp_path, field):
    path = tmp_path / "t.jsonl"
    value = {"messages": [], "input_prompt": "p"}[field]
    rows = [{"id": n, field: value, "x": "y" * size} for n, size in enumerate([10, 3000, 10])]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    spec = detect(str(path), SourceSpec(kind=""))
    found = [json.loads(line) for line in open_source(spec, longest=1024).records()]
    assert ["$error" in line for line in found] == [False, True, False]
    assert found[1]["$error"]["message"] == "t.jsonl, line 2: longer than 1024 bytes"
    exact = max(len(json.dumps(row)) for row in rows)
    assert all("$error" not in json.loads(line) for line in open_source(spec, longest=exact).records())


_PEAK = r"""
import json, re, sys
from pathlib import Path
from batch_inferd.sources.open import detect, open_source
from batch_inferd.sources.spec import SourceSpec
spec = detect(sys.argv[1], SourceSpec(kind=""))
found = [json.loads(line) for line in open_source(spec, longest=8 * 2**20).records()]
peak = re.search(r"VmHWM:\s+(\d+)", Path("/proc/self/status").read_text())[1]
print(["$error" in line for line in found], int(peak) // 1024)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="it asks /proc")
def test_a_bomb_takes_no_memory(tmp_path):
    path = tmp_path / "bomb.jsonl.gz"
    with gzip.open(path, "wb", compresslevel=1) as file:
        file.write(b'{"messages": []}\n{"messages": [], "x": "')
        for _ in range(200):
            file.write(bytes(2**20).replace(b"\0", b"y"))
        file.write(b'"}\n{"messages": []}\n')
    done = subprocess.run(
        [sys.executable, "-c", _PEAK, path], capture_output=True, text=True, check=True, timeout=60
    )
    assert done.stdout.startswith("[False, True, False]")
    assert int(done.stdout.split()[-1]) < 100  # MiB, of which 30 are the program's
