"""The section `images`: what it holds, when it counts, what a plan gets of it."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest

from batch_infer.protocol.errors import ConfigError
from batch_inferd.config.load import parse_config
from batch_inferd.config.schema import Images
from batch_inferd.config.snapshot import completed, identity, restore, snapshot
from batch_inferd.images import pixels
from batch_inferd.images.plan import ImagePlan
from batch_inferd.services.images import image_notes, image_plan
from batch_inferd.services.resolve import Resolved, build_plan, resolve
from batch_inferd.sources.s3 import S3Access

MINIMAL = "model: {domain: test, password: x, max_tokens: 1}\n"
FULL = (
    "images: {formats: [png, tiff], max_bytes: 5MiB, max_pixels: 1000000, max_side: 2048, fetch_urls: true}\n"
)


def resolved(text: str = "") -> Resolved:
    config = parse_config((MINIMAL + text).encode(), "config.yaml")
    return resolve(config, {}, {}, test_base_url="http://127.0.0.1:5/v1")


def plan(found: Resolved) -> ImagePlan | None:
    return build_plan(found, task_uuid="u", version=1, account="a", batch_id="b").images


def problems(text: str) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        parse_config((MINIMAL + text).encode(), "config.yaml")
    return [str(problem) for problem in caught.value.problems]


def test_all_keys():
    assert plan(resolved(FULL)) == ImagePlan(
        formats=("png", "tiff"), max_bytes=5 * 2**20, max_pixels=10**6, max_side=2048, fetch_urls=True
    )


@pytest.mark.parametrize("text", ["images: {}", "images: {max_side: null}"])
def test_an_empty_section_counts(text):
    assert plan(resolved(text)) == ImagePlan()


@pytest.mark.parametrize("text", ["", "images:", "images: null"])
def test_without_it_lines_are_sent_as_they_stand(text):
    found = resolved(text)
    assert plan(found) is None
    assert plan(replace(found, from_source=True)) == ImagePlan()


def test_objects_are_read_with_the_tasks_access():
    access = S3Access(region="r")
    assert plan(replace(resolved("images: {}"), s3=access)) == ImagePlan(s3=access)
    assert image_plan(None, access) == ImagePlan(s3=access)


def test_the_defaults_are_the_same():
    assert image_plan(Images()) == ImagePlan()


def test_a_restored_task_has_the_same_plan():
    before = resolved(FULL)
    stored = json.loads(json.dumps(snapshot(before, "acc")))
    assert plan(restore(stored, before.credential)) == plan(before)
    del stored["config"]["images"]  # as an earlier version wrote it
    assert completed(stored)["config"]["images"] is None


def test_it_may_change_in_an_unfinished_task():
    one, other = (identity(snapshot(resolved(text), "acc"), "/in.jsonl") for text in ("", FULL))
    assert one == other


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("images: {formats: [png, svg]}", "must be one of jpeg, png, webp, gif, bmp, tiff"),
        ("images: {formats: []}", "formats must not be empty"),
        ("images: {max_bytes: 10}", "a size from 1024 to"),
        ("images: {max_pixels: 0}", "a whole number from 1 to 178956970"),
        ("images: {max_side: 5}", "a whole number from 16 to 65535"),
        ("images: {max_size: 5}", 'did you mean "max_side"?'),
        ("max_side: 5", "it belongs in images"),
        ("images: [png]", "images must be a mapping"),
    ],
)
def test_what_is_wrong(text, words):
    (told,) = problems(text)
    assert words in told


class TestWithoutPillow:
    @pytest.fixture(autouse=True)
    def _gone(self, monkeypatch: Any) -> None:
        monkeypatch.setattr(pixels, "available", lambda: False)

    def test_scaling_needs_it(self):
        (told,) = problems("images: {max_side: 2048}")
        assert told.startswith("config.yaml:2:20: max_side needs Pillow")
        assert "pip install 'batch_infer[images]'" in told

    def test_a_submit_says_what_is_not_checked(self):
        (note,) = (note for note in resolved("images: {}").notes if "Pillow" in str(note))
        assert "first bytes" in str(note)
        assert not [note for note in resolved().notes if "Pillow" in str(note)]


def test_with_it_nothing_is_said():
    assert image_notes(Images()) == []
