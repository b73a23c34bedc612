"""The results of run.py as a page: a table in docs/performance.md, the picture beside it, and the JSON.

    python benchmarks/table.py [--results FILE] [--write] [--picture FILE]

Prints the table. With --write it goes between the markers of docs/performance.md, and docs/performance.json
and docs/performance.svg are written too: what is committed of a run.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from kit.picture import draw
from kit.places import PROJECT, RESULTS
from kit.table import markdown

DOCS = PROJECT / "docs"
BEGIN = "<!-- begin: written by benchmarks/table.py -->"
END = "<!-- end -->"


def placed(page: str, text: str) -> str:
    """The page with `text` between its markers."""
    before, begin, rest = page.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise ValueError(f"the page has no {BEGIN} … {END}")
    return f"{before}{BEGIN}\n\n{text}\n\n{END}{after}"


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--results", type=Path, default=RESULTS)
    parser.add_argument("--write", action="store_true", help="write docs/performance.{md,json,svg}")
    parser.add_argument("--picture", type=Path, help="write the picture there")
    options = parser.parse_args()
    document = json.loads(options.results.read_text(encoding="utf-8"))
    text = markdown(document)
    print(text)
    if options.picture:
        draw(document["results"], options.picture)
    if options.write:
        page = DOCS / "performance.md"
        page.write_text(placed(page.read_text(encoding="utf-8"), text), encoding="utf-8")
        (DOCS / "performance.json").write_text(json.dumps(document, indent=2) + "\n", encoding="utf-8")
        draw(document["results"], DOCS / "performance.svg")


if __name__ == "__main__":
    main()
