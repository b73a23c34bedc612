"""Lines with `$error`, and images on their way into packed files."""

from __future__ import annotations

import base64
import json
from typing import Any

import pytest
from batch_jobs_kit import CHAT, Desk, batch_plan, numbers
from worker_kit import FAST, ask, make_plan

from batch_inferd.backends.body import BodyBuilder, InvalidLine
from batch_inferd.images.cutout import Cut
from batch_inferd.images.errors import ImageError
from batch_inferd.images.plan import ImagePlan
from batch_inferd.money.image_tokens import GUESS
from batch_inferd.worker.batch import pack as packing
from batch_inferd.worker.batch.context import JobCancelled
from batch_inferd.worker.batch.packfile import estimate_tokens
from image_kit import line, picture, put

PLAN = ImagePlan()


def told(error: Any, **fields: Any) -> bytes:
    return json.dumps({"custom_id": "7", "$source": {"row": 7}, "$error": error, **fields}).encode()


class TestToldErrors:
    @pytest.mark.parametrize(
        ("error", "cls", "message"),
        [
            ({"class": "image_missing", "message": "row 7 has none"}, "image_missing", "row 7 has none"),
            ({"class": "invalid_input", "message": "坏"}, "invalid_input", "坏"),
            ({"class": "auth", "message": "x"}, "invalid_input", "x"),
            ({"class": ["auth"], "message": 5}, "invalid_input", "5"),
            ({}, "invalid_input", "None"),
            ("a word", "invalid_input", "a word"),
            (None, "invalid_input", "None"),
        ],
    )
    @pytest.mark.parametrize("fields", [{}, {"messages": [{"role": "user", "content": "x"}]}])
    def test_a_line_says_why_there_is_no_record(self, error, cls, message, fields):
        builder = BodyBuilder(make_plan("http://s/v1", omit=["$source"]))
        for call in (builder.build, builder.merge):
            with pytest.raises(InvalidLine) as caught:
                call(told(error, **fields), 9)
            assert (caught.value.cls, str(caught.value)) == (cls, message)
            assert caught.value.custom_id == b'"7"'

    def test_only_at_the_top(self):
        builder = BodyBuilder(make_plan("http://s/v1"))
        assert b"$error" in builder.build(ask("$error", metadata={"$error": 1}), 2).body

    def test_packing_ends_them(self, tmp_path):
        desk = Desk(tmp_path)
        desk.add(ask("a"), told({"class": "image_missing", "message": "row 7 has none"}), ask("b"))
        found = desk.pack()
        assert [numbers(pack) for pack in found["packs"]] == [[1, 3]]
        (error,) = desk.folder.records("error").values()
        assert (error["class"], error["rec"]["error"]["message"]) == ("image_missing", "row 7 has none")
        assert error["rec"]["custom_id"] == "7"
        assert '"row": 7' in error["rec"]["error"]["raw"]
        desk.close()


@pytest.fixture
def desk(tmp_path):
    (tmp_path / "pictures").mkdir()
    made = Desk(tmp_path, batch_plan(images=PLAN, retry=FAST))
    yield made
    made.close()


class TestPacking:
    def test_images_stand_in_the_file(self, desk, tmp_path):
        data = [picture(seed=n) for n in range(3)]
        refs = [put(tmp_path / "pictures" / f"{n}.jpg", one) for n, one in enumerate(data)]
        desk.add(*(line(ref, custom_id=f"c{n}") for n, ref in enumerate(refs)), ask("no image"))
        (pack,) = desk.pack()["packs"]
        bodies = [one["body"] for one in desk.packed(pack)]
        for body, one in zip(bodies, data, strict=False):
            url = body["messages"][0]["content"][1]["image_url"]["url"]
            assert url.startswith("data:image/jpeg;base64,")
            assert base64.b64decode(url.partition(",")[2]) == one
        assert bodies[3]["messages"][0]["content"] == "no image"
        assert pack["url"] == CHAT

    def test_an_image_is_not_counted_as_text(self, desk, tmp_path):
        ref = put(tmp_path / "pictures" / "a.png", picture(200, 200, "png"))
        desk.add(line(ref))
        (pack,) = desk.pack()["packs"]
        assert pack["bytes"] > 100_000
        body = desk.prepared.builder.build(line(ref), 1).body
        assert pack["tokens"] == estimate_tokens(body) + GUESS
        desk.use(batch_plan(images=PLAN, defaults={"chat": {"model": "gpt-4o", "max_tokens": 5}}))
        body = desk.prepared.builder.build(line(ref), 1).body
        assert desk.pack()["packs"][0]["tokens"] == estimate_tokens(body) + 255  # one tile

    def test_what_is_wrong_with_one_is_an_error_of_its_class(self, desk, tmp_path):
        folder = tmp_path / "pictures"
        good = put(folder / "good.jpg", picture())
        desk.add(
            line(good),
            line((folder / "gone.jpg").as_uri()),
            line(put(folder / "cut.jpg", picture()[:-40])),
            line(put(folder / "large.png", picture(200, 200, "png"))),
            line(folder.as_uri()),
            line(good),
        )
        (pack,) = desk.pack(max_line_bytes=50_000)["packs"]
        assert numbers(pack) == [1, 6]
        errors = desk.folder.records("error")
        assert {number: entry["class"] for number, entry in errors.items()} == {
            2: "image_missing",
            3: "image_invalid",
            4: "image_too_large",
            5: "image_unreadable",
        }
        for number, name in ((2, "gone.jpg"), (3, "cut.jpg"), (5, "pictures")):
            assert name in errors[number]["rec"]["error"]["message"]
        assert "more than 50000 bytes with its images" in errors[4]["rec"]["error"]["message"]

    def test_what_may_pass_is_tried_again(self, desk, monkeypatch):
        tries = []

        def flaky(body: bytes, *_: Any) -> Cut:
            tries.append(body)
            if len(tries) % 3:
                raise ImageError("image_unreadable", "the bucket is away", transient=True)
            return Cut(body, [], [])

        monkeypatch.setattr(packing.cutout, "cut", flaky)
        desk.add(line("s3://b/1"), line("s3://b/2"))
        (pack,) = desk.pack()["packs"]
        assert (numbers(pack), len(tries)) == ([1, 2], 6)

    def test_what_does_not_pass_is_an_error(self, desk, monkeypatch):
        def away(*_: Any) -> bytes:
            raise ImageError("image_unreadable", "the bucket is away", transient=True)

        monkeypatch.setattr(packing.cutout, "cut", away)
        desk.add(line("s3://b/1"), ask("text"))
        (pack,) = desk.pack()["packs"]
        assert numbers(pack) == [2]
        assert desk.folder.records("error")[1]["class"] == "image_unreadable"

    def test_a_stop_is_obeyed_between_two_tries(self, desk, monkeypatch):
        def away(*_: Any) -> bytes:
            desk.stop.set()
            raise ImageError("image_unreadable", "the bucket is away", transient=True)

        monkeypatch.setattr(packing.cutout, "cut", away)
        desk.add(line("s3://b/1"))
        with pytest.raises(JobCancelled):
            desk.pack()

    def test_without_a_plan_for_images_they_are_sent_as_they_stand(self, desk):
        desk.use(batch_plan())
        desk.add(line("file:///gone.png"))
        (pack,) = desk.pack()["packs"]
        assert "file:///gone.png" in json.dumps(desk.packed(pack))
