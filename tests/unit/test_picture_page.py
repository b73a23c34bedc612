"""The picture itself: what it says, where things stand, and that it is safe to open."""

import threading
import tracemalloc

import journal_kit as journals
import pytest
from exports_kit import export, exported
from picture_kit import SVG, Picture, T, answer, attempt, failure, missing, picture, series

from batch_infer.protocol.errors import UsageError
from batch_inferd.exports.export import write_export
from batch_inferd.exports.picture.write import read_series
from batch_inferd.exports.reading import ExportStopped


def steady(begin, end, per_second=10, ms=200):
    return [answer(T + begin + n / per_second, ms) for n in range(round((end - begin) * per_second))]


def test_the_heading_says_what_it_is():
    counts = {"input": 1257, "output": 1250, "error": 4, "missing": 3}
    texts = picture(
        series(answer(T, 500)), "nightly 任务", counts=counts, input=r"C:\data\in.csv", ended=T + 3999
    ).texts
    assert texts[0] == "nightly 任务"
    assert texts[1] == "completed · 1,257 records: 1,250 answered, 4 failed, 3 missing · m · in.csv"
    assert texts[2] == "2025-10-09 08:53:20 to 09:59:59 (UTC+00:00) · 1 h 6 min"


def test_three_panels_with_their_legends():
    found = picture(
        series(
            *steady(0, 60), *(answer(T + n, 2000) for n in range(60)),
            *(attempt(T + n, "rate_limited") for n in range(20)), attempt(T + 3, "timeout"),
            failure(T + 9, "bad_request"), missing(T + 50),
        )
    )  # fmt: skip
    assert "Answers per second 10.7 on average, 11 at most" in found.texts
    assert "Latency — median 203 ms — 95 % within 2 s — 99 % within 2 s" in found.texts
    assert "Failed attempts, tried again per 1 s ■ rate_limited 20 ■ timeout 1" in found.texts
    assert "Records that ended without an answer per 1 s ■ bad_request 1 ■ missing 1" in found.texts
    kinds = {one.get("class") for one in found.root.iter(f"{SVG}path")}
    assert {"online", "p50", "p95", "p99", "spread", "e0", "e1", "e2", "e3"} <= kinds
    assert "batch" not in kinds


def test_values_stand_where_they_belong():
    found = picture(series(*steady(0, 100, 10, 100), *steady(100, 200, 20, 300)))
    tops = sorted(found.levels("online"))
    (top, low, bottom) = (tops[0], tops[-2], tops[-1])
    assert (bottom - low) / (bottom - top) == pytest.approx(0.5, abs=0.1), "half as many, half as high"
    slow, fast = min(found.levels("p50")), max(found.levels("p50"))
    assert slow < fast
    begins = [place["x"] for place in found.rects("hit")]
    assert begins == sorted(begins)
    assert begins[0] >= 70
    last = found.rects("hit")[-1]
    assert last["x"] + last["width"] <= 960 - 24 + 0.2


def test_a_column_tells_its_numbers():
    found = picture(series(answer(T, 1500), answer(T + 0.05, 500), attempt(T, "dns"), failure(T, "no")))
    (tip,) = found.tips
    assert tip.splitlines() == [
        "2025-10-09 08:53:20.0 to 08:53:20.1",
        "2 answers, 16/s",
        "latency: median 503 ms, 95 % 1.5 s, 99 % 1.5 s",
        "failed attempts: dns 1",
        "ended without an answer: no 1",
    ]


def test_slow_rates_have_a_unit_of_their_own():
    hourly = picture(series(*(answer(T + 1800 * n, 10) for n in range(400))))
    assert any(text.startswith("Answers per hour 2.01 on average") for text in hourly.texts)
    each = picture(series(*(answer(T + 5 * n, 10) for n in range(400))))
    assert any(text.startswith("Answers per minute 12 on average") for text in each.texts)


def test_a_pause_and_a_retry_days_later_are_seen():
    later = 3 * 86_400
    found = picture(series(*steady(0, 300), *steady(400, 700), *steady(later, later + 60)))
    assert "1 min 40 s" in found.texts
    assert "2 d 23 h" in found.texts
    explained = "Hatched: no call was under way that was answered. Long idle times are cut short."
    assert found.texts[-1] == f"One step is 4 s. {explained}"
    dates = [text for text in found.texts if text in ("2025-10-09", "2025-10-12")]
    assert dates == ["2025-10-09", "2025-10-12"]
    hatched = found.rects("idle")
    assert len({place["x"] for place in hatched}) == 2
    assert len(hatched) == 8, "in each of the four plots"


def test_batches_have_no_latency():
    events = [answer(T + 3600 + n / 100, 3_600_000, "batch") for n in range(300)]
    found = picture(series(*events))
    assert "Latency answers of batches have none" in found.texts
    both = picture(series(*events, answer(T + 4000, 700)))
    assert any(text.endswith("■ online 1 ■ batch 300") for text in both.texts)
    assert any(text.startswith("Latency of online calls — median 700 ms") for text in both.texts)


def test_without_errors_without_answers_and_without_anything():
    good = picture(series(*steady(0, 60)))
    assert good.texts.count("Failed attempts, tried again none") == 1
    bad = picture(series(*(failure(T + n) for n in range(30))))
    assert {"Answers none", "Latency no answers"} <= set(bad.texts)
    nothing = picture(series(), started=None, ended=None)
    assert nothing.texts[-1] == "Nothing was tried: there is nothing to show."


def test_more_classes_than_colours():
    events = [attempt(T + n, f"class{n % 9}") for n in range(900)]
    found = picture(series(*events))
    (first,) = [at for at, text in enumerate(found.texts) if text.startswith("Failed attempts")]
    words = " ".join(found.texts[first : first + 3])
    assert all(f"class{n} 100" in words for n in range(9)), "in several lines"
    assert found.path("rest")


def test_texts_are_escaped_and_nothing_is_fetched_or_run():
    nasty = '</text><script>alert("1")</script>&\x00\x1b\udc80'
    found = picture(series(answer(T), attempt(T, nasty), failure(T, nasty)), nasty, model=nasty, input=nasty)
    assert not list(found.root.iter(f"{SVG}script"))
    assert found.texts[0] == '</text><script>alert("1")</script>&\ufffd\ufffd\ufffd'
    for word in ("<script", "http://", "https://", "@import", "url(http", "href", "onload"):
        assert word not in found.source.replace("http://www.w3.org/2000/svg", ""), word
    found.source.encode("utf-8")


def test_a_long_name_ends_in_time():
    found = picture(series(answer(T)), "n" * 200)
    assert found.texts[0].endswith("n…")
    assert len(found.texts[0]) < 90
    assert found.root.findtext(f"{SVG}title") == f"Run of {'n' * 200}"


def test_light_and_dark():
    source = picture(series(*steady(0, 9))).source
    assert "@media (prefers-color-scheme:dark)" in source
    light, dark = source.split("@media", 1)
    for name in (".paper", "text,.hit", ".muted", ".online", "path.p50", ".grid"):
        assert f"{name}{{" in light
        assert f"{name}{{" in dark


@pytest.fixture
def task(tmp_path):
    made = journals.Task(tmp_path)
    yield made
    made.close()


@pytest.fixture
def run(task):
    """Two chunks, three journals: answers, a failed attempt, an error, a missing record, a retry."""
    task.chunk(b'{"messages":[]}\n' * 2 + b"\n")
    task.journal(
        1, "aa", journals.attempt(1, t=T + 1) + journals.answer(1, t=T + 2) + journals.error(2, t=T + 2)
    )
    task.journal(1, "bb", journals.indexed([journals.answer(2, round=1, t=T + 50)], round=1))
    task.chunk(b'{"messages":[]}\n' * 2)
    torn = journals.answer(5, t=T + 4)[:-9]
    task.journal(2, "cc", journals.missing(4, t=T + 3) + torn)
    return task


def test_all_journals_of_all_rounds(run):
    whole = read_series(exported(run)).whole()
    assert whole.answers == {"online": 2}
    assert (whole.failed, whole.ended) == ({"server": 1}, {"bad_request": 1, "missing": 1})
    assert (whole.since, whole.until) == (pytest.approx(T + 1), T + 50)


def test_an_export_as_a_picture(run):
    done = []
    written = write_export(run.merged, "run.svg", [exported(run, total=4)], "svg", advance=done.append)
    assert (written.records, done) == (4, [3, 4])
    found = Picture((run.merged.path / "run.svg").read_text("utf-8"))
    assert found.texts[0] == "t"
    assert "Records that ended without an answer per 0.25 s ■ bad_request 1 ■ missing 1" in found.texts
    assert export(run, "svg") == export(run, "svg"), "the same journals give the same picture"


def test_a_picture_of_an_empty_task(task):
    assert b"Nothing was tried" in export(task, "svg")


def test_several_tasks_are_refused(run):
    with pytest.raises(UsageError, match="the run of one task, not of 2"):
        write_export(run.merged, "out", [exported(run), exported(run, "二")], "svg")
    assert not (run.merged.path / "out").exists()


def test_it_stops_when_nobody_waits(run):
    stop = threading.Event()
    stop.set()
    with pytest.raises(ExportStopped):
        write_export(run.merged, "out", [exported(run)], "svg", stop=stop)
    assert not (run.merged.path / "out").exists()


def test_memory_does_not_grow_with_the_run():
    def most(count):
        tracemalloc.start()
        made = series()
        for n in range(count):
            made.add(answer(T + n * 0.9, 100 * (n % 7)))
        picture(made)
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return peak

    assert most(30_000) < 1.3 * most(6000)
