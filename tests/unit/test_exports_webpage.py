"""`html`: a page with every record and its images, in which nothing of them can run."""

from __future__ import annotations

import base64
import hashlib
import json
import re
import shutil
import subprocess
from html.parser import HTMLParser
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from exports_kit import answer, chat, error, export, exported, missing
from hypothesis import given, settings
from hypothesis import strategies as st
from journal_kit import Task

from batch_inferd.exports.webpage.images import image
from batch_inferd.exports.webpage.page import _embedded

if TYPE_CHECKING:
    from collections.abc import Iterator

NASTY = "</script><script>alert(1)</script><!-- <img src=x onerror=alert(2)> & \u2028 \"'"
DOM = Path(__file__).with_name("page_dom.js")
node = pytest.mark.skipif(shutil.which("node") is None, reason="needs node")


class Page(HTMLParser):
    """A page taken apart as a browser does."""

    def __init__(self, data: bytes) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.inside: list[str] = []
        self._open = False
        self.feed(data.decode("utf-8"))
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        self.inside.append("")
        self._open = True

    def handle_endtag(self, _tag: str) -> None:
        self._open = False

    def handle_data(self, data: str) -> None:
        if self._open:
            self.inside[-1] += data

    def of(self, tag: str) -> list[tuple[dict[str, str | None], str]]:
        both = zip(self.tags, self.inside, strict=True)
        return [(found[1], text) for found, text in both if found[0] == tag]

    @property
    def blocks(self) -> list[tuple[int, str]]:
        scripts = self.of("script")
        return [(int(at["data-records"] or 0), text) for at, text in scripts if "data-records" in at]

    @property
    def records(self) -> list[dict[str, Any]]:
        return [record for _, text in self.blocks for record in json.loads(text)]

    @property
    def counts(self) -> dict[str, int]:
        (found,) = [json.loads(text) for at, text in self.of("script") if at.get("id") == "counts"]
        assert isinstance(found, dict)
        return found


def asked(number: int, text: str, *refs: str) -> bytes:
    parts: list[dict[str, Any]] = [{"type": "text", "text": text}]
    parts += [{"type": "image_url", "image_url": {"url": ref}} for ref in refs]
    line = {"custom_id": f"r{number}", "messages": [{"role": "user", "content": parts}]}
    return json.dumps(line).encode() + b"\n"


@pytest.fixture
def task(tmp_path: Path) -> Iterator[Task]:
    made = Task(tmp_path)
    yield made
    made.close()


@pytest.fixture
def mixed(task: Task, tmp_path: Path) -> Task:
    """An answer, a failure, nothing, and something nasty."""
    picture = tmp_path / "图 1#?.png"
    task.chunk(
        asked(0, "what is it?", picture.as_uri(), "https://a/b.png?sig=1")
        + asked(1, "broken", "file:///gone.png")
        + asked(2, "never answered")
        + asked(3, NASTY)
    )
    task.journal(
        1, "aa", answer(1, body=chat("一只猫")) + error(2) + missing(3) + answer(4, body=chat(NASTY))
    )
    return task


def test_every_record_stands_in_it(mixed: Task, tmp_path: Path) -> None:
    page = Page(export(mixed, "html", summary={"model": "m<b>", "service": "s"}))
    assert page.of("h1")[0][1] == "t"
    assert page.of("p")[0][1] == "m<b> @ s"
    first, second, third, fourth = page.records
    assert first == {
        "id": "r0",
        "state": "answered",
        "prompt": "what is it?",
        "images": [
            {
                "kind": "file",
                "name": str(tmp_path / "图 1#?.png"),
                "href": (tmp_path / "图 1#?.png").as_uri(),
            },
            {"kind": "web", "name": "https://a/b.png?…", "href": "https://a/b.png?sig=1"},
        ],
        "text": "一只猫",
    }
    assert (second["state"], second["text"]) == ("failed", "bad_request: no")
    assert (third["state"], third["text"]) == ("missing", "missing: no answer of any kind came")
    assert (fourth["prompt"], fourth["text"]) == (NASTY, NASTY)
    assert page.counts == {"answered": 2, "failed": 1, "missing": 1}


def test_nothing_of_it_runs_and_nothing_is_loaded(mixed: Task) -> None:
    data = export(mixed, "html")
    page = Page(data)
    names = [name for name, _ in page.tags]
    assert names.count("script") == 3, "the records, their counts, and the script"
    assert not {"img", "link", "iframe", "a", "object"} & set(names)
    given_attributes = {name for _, at in page.tags for name in at}
    assert not {name for name in given_attributes if name.startswith("on") or name in ("src", "href")}
    (policy,) = [
        at["content"] or "" for at, _ in page.of("meta") if at.get("http-equiv") == "Content-Security-Policy"
    ]
    assert policy.startswith("default-src 'none'; img-src file:; ")
    for tag, directive in (("style", "style-src"), ("script", "script-src")):
        text = page.of(tag)[-1][1]
        digest = base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
        assert f"{directive} 'sha256-{digest}';" in policy
    assert not re.search(rb"https?://(?!a/b)", data)


@settings(max_examples=200, deadline=None)
@given(st.dictionaries(st.text(max_size=5), st.text(max_size=30) | st.just(NASTY), max_size=4))
def test_any_text_stays_data(value: dict[str, str]) -> None:
    data = _embedded(value)
    assert b"<" not in data
    whole = {
        key: text
        for key, text in value.items()
        if (key + text).encode("utf-8", "replace").decode() == key + text
    }
    assert {key: json.loads(data)[key] for key in whole} == whole


def test_blocks_are_small(task: Task) -> None:
    count = 450
    task.chunk(b"".join(asked(number, f"q{number}") for number in range(count)))
    task.journal(1, "aa", b"".join(answer(number + 1, body=chat("a")) for number in range(count)))
    task.chunk(b"".join(asked(number, "x" * 300_000) for number in range(count, count + 5)))
    page = Page(export(task, "html"))
    assert [records for records, _ in page.blocks] == [200, 200, 53, 2]
    assert [len(json.loads(text)) for _, text in page.blocks] == [200, 200, 53, 2]
    assert [record["id"] for record in page.records] == [f"r{number}" for number in range(count + 5)]
    assert page.counts["missing"] == 5, "what has not ended is no answer either"


def test_several_tasks(mixed: Task) -> None:
    page = Page(export(mixed, "html", exported(mixed, "other")))
    assert page.of("h1")[0][1] == "t, other"
    assert [record["task"] for record in page.records] == ["t"] * 4 + ["other"] * 4


@pytest.mark.parametrize(
    ("ref", "kind", "href"),
    [
        ("file:///a/b c#d?.png", "file", "file:///a/b%20c%23d%3F.png"),
        ("FILE:/a.png", "file", "file:///a.png"),
        ("file://host/a.png", "other", ""),
        ("file:////srv/share/x.png", "file", "file:///srv/share/x.png"),
        ("file:///%2F/srv/x.png", "file", "file:///srv/x.png"),
        ("file://localhost//srv/x.png", "file", "file:///srv/x.png"),
        ("file:///%5C%5Csrv/x.png", "other", ""),
        ("file:///../%5C/srv/x.png", "other", ""),
        ("s3://bucket/a.png", "other", ""),
        ("data:image/png;base64,AAAA…", "other", ""),
        ("javascript:alert(1)", "other", ""),
        ("a.png", "other", ""),
        ("http://a/b.png", "web", "http://a/b.png"),
    ],
)
def test_only_files_are_shown(ref: str, kind: str, href: str) -> None:
    found = image(ref)
    assert (found["kind"], found["href"]) == (kind, href)
    assert found["name"]


def looked_at(data: bytes, *steps: tuple[str, ...], language: str = "en-GB") -> list[dict[str, Any]]:
    """What the page shows at first, and after each step (element, event, value)."""
    page = Page(data)
    given_page = {
        "blocks": page.blocks,
        "counts": page.counts,
        "script": page.of("script")[-1][1],
        "steps": steps,
        "language": language,
    }
    done = subprocess.run(
        ["node", str(DOM)],
        input=json.dumps(given_page).encode(),
        capture_output=True,
        check=False,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr.decode()
    found = json.loads(done.stdout)
    assert isinstance(found, list)
    return found


@node
def test_what_the_script_shows(mixed: Task) -> None:
    first, cats, failed, none = looked_at(
        export(mixed, "html"),
        ("search", "oninput", " 猫 "),
        ("state", "onchange", "failed"),
        ("search", "oninput", ""),
    )
    assert first["where"] == "1 – 4 of 4"
    assert first["ids"] == ["r0", "r1", "r2", "r3"]
    assert first["states"] == ["answered", "failed", "no answer", "answered"]
    assert NASTY in first["texts"]
    assert len(first["images"]) == 2
    assert first["links"][1] == "https://a/b.png?sig=1"
    assert first["options"] == ["all records (4)", "answered (2)", "failed (1)", "no answer (1)"]
    assert cats["ids"] == ["r0"]
    assert (failed["ids"], failed["texts"], failed["where"]) == ([], ["no record fits"], "")
    assert none["ids"] == ["r1"]


@node
def test_its_pages(task: Task) -> None:
    task.chunk(b"".join(asked(number, f"q{number}") for number in range(430)))
    task.journal(1, "aa", b"".join(answer(number + 1, body=chat("a")) for number in range(430)))
    forth = [("next", "onclick")] * 8
    shown = looked_at(export(task, "html"), *forth, ("previous", "onclick"), language="zh-CN")
    assert [one["ids"][0] for one in shown] == [*(f"r{n}" for n in range(0, 401, 50)), "r350"]
    assert (shown[0]["ends"], shown[8]["ends"], shown[9]["ends"]) == (
        [True, False],
        [False, True],
        [False] * 2,
    )
    assert shown[8]["where"] == "第 401 – 430 条，共 430 条"
    assert len(shown[8]["ids"]) == 30
