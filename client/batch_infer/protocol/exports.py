"""The formats of exports: their names, and the names of files that have them."""

from __future__ import annotations

# Format -> what its files are called at their end. docs/outputs.md describes them.
FORMATS = {
    "jsonl": ".jsonl",
    "qa": ".qa.jsonl",
    "csv": ".csv",
    "tsv": ".tsv",
    "parquet": ".parquet",
    "json": ".json",
    "html": ".html",
    "svg": ".svg",
}
PICTURE = "svg"  # shows the run, and holds no answers
# Encodings of csv and tsv; the first is that of csv where none is named. Excel wants its byte order mark.
ENCODINGS = ("utf-8-sig", "utf-8", "gb18030")


def format_of(name: str) -> str | None:
    """The format of a file of this name; None where its end says nothing."""
    found = [form for form, suffix in FORMATS.items() if name.lower().endswith(suffix)]
    return max(found, key=lambda form: len(FORMATS[form])) if found else None


def file_name(form: str) -> str:
    """What the export of this format is called beside the outputs of its task."""
    return f"{'run' if form == PICTURE else 'answers'}{FORMATS[form]}"
