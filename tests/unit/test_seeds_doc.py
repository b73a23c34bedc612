"""docs/seeds.md: every row names a test that exists, or a reason to wait."""

from __future__ import annotations

import ast
import re
from functools import cache
from pathlib import Path
from typing import NamedTuple

import pytest

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs" / "seeds.md"
OURS = "tests/unit/test_seeds_doc.py"

LATER = {"LangSmith tracing", "the Bedrock job", "standalone executables"}


class Row(NamedTuple):
    table: str
    feature: str
    here: str
    test: str


def rows() -> list[Row]:
    """The rows of all tables, with the heading above them."""
    found, heading = [], ""
    for line in PAGE.read_text("utf-8").splitlines():
        if line.startswith("## "):
            heading = line[3:]
        elif line.startswith("|") and not line.startswith(("|---", "| what it had |")):
            cells = [cell.strip() for cell in line.strip("|").split("|")]
            assert len(cells) == 3, line
            found.append(Row(heading, *cells))
    return found


ROWS = rows()


@cache
def named_in(path: Path) -> frozenset[str]:
    """`test_x` and `TestY::test_x` of a file, as pytest names them."""
    names = set()
    for node in ast.parse(path.read_text("utf-8")).body:
        inner = node.body if isinstance(node, ast.ClassDef) else [node]
        before = f"{node.name}::" if isinstance(node, ast.ClassDef) else ""
        functions = (one for one in inner if isinstance(one, ast.FunctionDef | ast.AsyncFunctionDef))
        names |= {before + one.name for one in functions if one.name.startswith("test_")}
    return frozenset(names)


def test_four_documents_have_a_table_each() -> None:
    tables = [row.table for row in ROWS]
    assert list(dict.fromkeys(tables)) == [
        "The multi-process image tool",
        "The CSV batch guide",
        "The concurrent topic executor",
        "Streaming image preparation",
    ]
    assert min(tables.count(name) for name in tables) >= 20
    assert len({row[:2] for row in ROWS}) == len(ROWS), "no row twice"


def is_good(row: Row) -> bool:
    """Whether a test shows the row, or it says why there is none."""
    if not row.feature:
        return False
    if row.test.startswith("later"):
        return row.test.removeprefix("later: ") in LATER
    match = re.fullmatch(r"`(tests/\w+/test_\w+\.py)::((?:Test\w+::)?test_\w+)`", row.test)
    return match is not None and (ROOT / match[1]).is_file() and match[2] in named_in(ROOT / match[1])


def test_every_row_is_shown_or_says_why_not() -> None:
    assert [row for row in ROWS if not is_good(row)] == []


@pytest.mark.parametrize(
    ("here", "test", "good"),
    [
        ("x", f"`{OURS}::test_every_row_is_shown_or_says_why_not`", True),
        ("x", f"`{OURS}::test_that_is_not_there`", False),
        ("x", f"`{OURS}::TestNone::test_every_row_is_shown_or_says_why_not`", False),
        ("x", "`tests/unit/test_nowhere.py::test_x`", False),
        ("x", "", False),
        ("", "not yet", False),
        ("x", "later: a picture", False),
        ("", "later: the Bedrock job", True),
    ],
)
def test_what_a_row_must_have(here: str, test: str, good: bool) -> None:
    assert is_good(Row("", "a feature that nobody listed", here, test)) is good


def test_options_and_links_exist() -> None:
    from batch_infer.cli.options import find_flag

    for row in ROWS:
        for span in re.findall(r"`(-[^`]*)`", row.here):
            for flag in re.findall(r"(?:^|\s)-([a-z][a-z-]*)", span):
                assert find_flag(f"-{flag}"), row
    for target in re.findall(r"\]\(([^)#]+)", PAGE.read_text("utf-8")):
        assert (PAGE.parent / target).is_file(), target
