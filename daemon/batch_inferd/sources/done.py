"""Which ids an existing output answers, for `-done`: our output.jsonl, or an export of format qa."""

from __future__ import annotations

import os
import shutil
import time
from typing import TYPE_CHECKING, Any

from batch_infer.protocol.text import Text
from batch_inferd.backends import rawjson
from batch_inferd.sources.bytelines import byte_lines
from batch_inferd.sources.files import compression_of, pin_file, read_blocks

if TYPE_CHECKING:
    from collections.abc import Mapping


def done_ids(path: str, *, back_up: bool = True) -> tuple[set[str], list[Text]]:
    """The ids that `path` answers, and warnings. Blocks.

    A line that is no JSON object is damage: then the file is copied beside itself as `NAME.bak-TIME`, a
    warning names the copy, and the good lines count. Without `back_up`, that was done before. Lines without
    an answer are no damage.
    Raises InputError when there is no such file, or an archive is damaged; OSError.
    """
    pin_file(path)
    ids: set[str] = set()
    bad: list[int] = []  # the first few
    damaged = 0
    for number, line in byte_lines(read_blocks(path, compression_of(path))):
        fields = _object(line)
        if fields is None:
            damaged += 1
            if len(bad) < 5:
                bad.append(number)
            continue
        found = _answered(fields)
        if found is not None:
            ids.add(found)
    return ids, [_backed_up(path, damaged, bad)] if damaged and back_up else []


def _object(line: bytes) -> dict[str, Any] | None:
    try:
        value = rawjson.loads(line)
    except rawjson.InvalidJson:
        return None
    return value if isinstance(value, dict) else None


def _answered(fields: Mapping[str, Any]) -> str | None:
    """The id of a line that holds an answer."""
    if "custom_id" in fields:
        response = fields.get("response")
        good = (
            isinstance(response, dict) and response.get("status_code") == 200 and fields.get("error") is None
        )
        return _id(fields["custom_id"]) if good else None
    answer = fields.get("answer")
    return _id(fields.get("id")) if isinstance(answer, str) and answer.strip() else None


def _id(value: Any) -> str | None:
    if isinstance(value, bool) or not isinstance(value, (str, int)):
        return None
    return str(value)


def _backed_up(path: str, damaged: int, bad: list[int]) -> Text:
    stamp = time.strftime("%Y%m%d-%H%M%S")
    copy = f"{path}.bak-{stamp}"
    again = 1
    while os.path.lexists(copy):
        again += 1
        copy = f"{path}.bak-{stamp}-{again}"
    shutil.copy2(path, copy)
    return Text(
        "{path} is damaged: {count} lines cannot be read (line {lines}); "
        "it was copied to {copy}, and its good lines count",
        {"path": path, "count": damaged, "lines": ", ".join(map(str, bad)), "copy": os.path.basename(copy)},
    )
