"""docs/cli.md holds the help text and names what the programs print.

`python tests/unit/test_cli_docs.py` writes the help text into it.
"""

import re
import sys
from pathlib import Path

import pytest

from batch_infer.cli.help import help_text
from batch_infer.cli.options import FLAGS
from batch_infer.render.columns import width

DOCS = Path(__file__).resolve().parents[2] / "docs" / "cli.md"
HELP = re.compile(r"(<!-- help:begin -->\n).*?(<!-- help:end -->)", re.DOTALL)


def with_help(page):
    return HELP.sub(lambda match: f"{match[1]}```text\n{help_text('en', 100)}\n```\n{match[2]}", page)


def test_the_help_text_is_fresh():
    page = DOCS.read_text(encoding="utf-8")
    assert HELP.search(page)
    assert page == with_help(page), "run: python tests/unit/test_cli_docs.py"


@pytest.mark.parametrize("lang", ["en", "zh"])
@pytest.mark.parametrize("cells", [60, 80, 100])
def test_the_help_fits_and_names_every_option(lang, cells):
    lines = help_text(lang, cells).splitlines()
    for flag in FLAGS:
        assert any(line.startswith(f"  -{flag.name}") for line in lines)
    assert [line for line in lines[5:] if width(line) > max(cells, 75)] == []


def test_the_page_names_every_field_that_is_shown():
    from cli_fakes import summary

    from batch_infer.render.public import public_task

    page = DOCS.read_text(encoding="utf-8")
    assert [key for key in public_task(summary(), "en") if f'"{key}"' not in page] == []


def test_the_page_names_every_field_of_batches():
    from cli_fakes import batch_summary, collected

    from batch_infer.render.public import public_submission

    page = DOCS.read_text(encoding="utf-8")
    row = public_submission(collected(1), "en")
    keys = [*batch_summary()["batches"], *row, *row["results"]]
    assert [key for key in keys if f'"{key}"' not in page] == []


if __name__ == "__main__":
    sys.exit(None if DOCS.write_text(with_help(DOCS.read_text(encoding="utf-8")), encoding="utf-8") else 1)
