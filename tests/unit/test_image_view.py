"""Images of an input on the scales: looked at where that is allowed, else as those that were."""

from __future__ import annotations

import base64
import io
import json
from typing import TYPE_CHECKING

import pytest
from PIL import Image

from batch_inferd.images.plan import ImagePlan
from batch_inferd.money import view as views
from batch_inferd.money.image_tokens import GUESS, tokens
from batch_inferd.money.survey import of_lines
from batch_inferd.money.tokens import weigh
from batch_inferd.money.view import ImageView

if TYPE_CHECKING:
    from pathlib import Path

MODEL = "gpt-4o"
SMALL, LARGE = (200, 100), (1500, 1500)  # one tile, four tiles


@pytest.fixture
def refs(tmp_path: Path) -> list[str]:
    found = []
    for number, size in enumerate((SMALL, LARGE)):
        path = tmp_path / f"{number}.png"
        Image.new("1", size).save(path)
        found.append(path.as_uri())
    return found


def line(*refs: str, **more: str) -> bytes:
    parts = [{"type": "image_url", "image_url": {"url": ref, **more}} for ref in refs]
    return json.dumps({"messages": [{"role": "user", "content": parts}]}).encode()


def test_sizes_decide(refs: list[str]) -> None:
    view = ImageView(MODEL, "openai", ImagePlan())
    weight = weigh(line(*refs), view=view)
    assert (weight.images, weight.image_tokens) == (2, 255 + 765)
    assert weigh(line(*refs, detail="low"), view=view).image_tokens == 2 * 85
    assert "from their sizes" in view.note().render("en")
    found = of_lines([line(refs[0]), line(refs[1])], "messages", view)
    assert found.first(1).image_tokens == 255
    assert found.first(2).total == pytest.approx(found.first(2).tokens + 1020)


def test_what_files_add_to_their_requests(refs: list[str], tmp_path: Path) -> None:
    view = ImageView(MODEL, "openai", ImagePlan())
    assert view.bytes_each == 0
    view("https://example.com/a.png", "")
    for ref in refs:
        view(ref, "")
    total = sum(path.stat().st_size for path in tmp_path.glob("*.png"))
    assert view.bytes_each == pytest.approx(total * 2 / 3, abs=1)


def test_responses_have_their_detail_beside(refs: list[str]) -> None:
    body = {
        "input": [
            {"role": "user", "content": [{"type": "input_image", "image_url": refs[1], "detail": "low"}]}
        ]
    }
    assert weigh(json.dumps(body).encode(), view=ImageView(MODEL, "openai", ImagePlan())).image_tokens == 85


def test_what_cannot_be_seen_is_like_what_was(refs: list[str]) -> None:
    view = ImageView(MODEL, "openai", ImagePlan())
    elsewhere = "https://example.com/a.png"
    assert view(elsewhere, "") == tokens(MODEL, 1024, 1024)
    assert "1024 x 1024" in view.note().render("en")
    assert [view(ref, "") for ref in refs] == [255, 765]
    assert view(elsewhere, "") == 510
    assert "the size of 2 of them" in view.note().render("en")


def test_files_are_looked_at_only_where_they_would_be_sent(refs: list[str], tmp_path: Path) -> None:
    buffer = io.BytesIO()
    Image.new("1", SMALL).save(buffer, "png")
    view = ImageView(MODEL, "openai", None)
    assert view(refs[0], "") == tokens(MODEL, 1024, 1024)
    assert view("data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode(), "") == 255


def test_only_so_many_are_looked_at(refs: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(views, "_LOOKS", 1)
    view = ImageView(MODEL, "openai", ImagePlan())
    assert [view(ref, "") for ref in (refs[0], refs[1], refs[0])] == [255, 255, 255]
    monkeypatch.setattr(views, "_SECONDS", -1.0)
    assert ImageView(MODEL, "openai", ImagePlan())(refs[0], "") == tokens(MODEL, 1024, 1024)


def test_a_model_without_a_rule(refs: list[str]) -> None:
    view = ImageView("test-model", "test", ImagePlan())
    assert view(refs[0], "") == GUESS
    assert "no rule is known by which test-model" in view.note().render("en")
