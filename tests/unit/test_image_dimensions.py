"""Width and height out of an image's header, as Pillow knows them."""

from __future__ import annotations

import base64
import io
import struct
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from batch_inferd.images.dimensions import dimensions, dimensions_of
from batch_inferd.images.plan import ImagePlan

if TYPE_CHECKING:
    from pathlib import Path

PLAN = ImagePlan()


def picture(kind: str, size: tuple[int, int] = (301, 77), **options: object) -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", size, "red").save(buffer, kind, **options)
    return buffer.getvalue()


@pytest.mark.parametrize(
    ("kind", "options"),
    [
        ("PNG", {}),
        ("GIF", {}),
        ("BMP", {}),
        ("JPEG", {}),
        ("JPEG", {"progressive": True}),
        ("JPEG", {"exif": b"Exif\0\0" + bytes(60_000), "icc_profile": bytes(150_000)}),
        ("WEBP", {}),
        ("WEBP", {"lossless": True}),
        ("WEBP", {"exif": b"Exif\0\0" + bytes(100)}),
        ("TIFF", {}),
    ],
)
@pytest.mark.parametrize("size", [(301, 77), (1, 1), (3, 4000)])
def test_all_formats(kind: str, options: dict[str, object], size: tuple[int, int]) -> None:
    assert dimensions(picture(kind, size, **options)) == size


def test_an_old_bitmap_and_one_upside_down() -> None:
    data = picture("BMP")
    assert dimensions(data[:14] + struct.pack("<IHH", 12, 301, 77) + bytes(20)) == (301, 77)
    assert dimensions(data[:14] + struct.pack("<Iii", 40, 301, -77) + bytes(20)) == (301, 77)


def test_a_tiff_of_the_other_byte_order() -> None:
    entries = struct.pack(">HHIHxx", 256, 3, 1, 301) + struct.pack(">HHII", 257, 4, 1, 77)
    data = b"MM\x00*" + struct.pack(">IH", 8, 2) + entries + bytes(40)
    assert dimensions(data) == (301, 77)
    assert dimensions(data[:8] + struct.pack(">H", 1) + entries) is None


@given(st.data())
def test_damaged_headers_end_in_nothing_worse_than_none(data: st.DataObject) -> None:
    kind = data.draw(st.sampled_from(["PNG", "GIF", "BMP", "JPEG", "WEBP", "TIFF"]))
    whole = bytearray(picture(kind, (40, 30)))
    cut = data.draw(st.integers(0, len(whole)))
    for at in data.draw(st.lists(st.integers(0, len(whole) - 1), max_size=8)):
        whole[at] ^= data.draw(st.integers(1, 255))
    found = dimensions(bytes(whole[:cut]))
    assert found is None or min(found) > 0


def test_references(tmp_path: Path) -> None:
    path = tmp_path / "a b.png"
    path.write_bytes(picture("PNG"))
    assert dimensions_of(path.as_uri(), PLAN) == (301, 77)
    assert dimensions_of(path.as_uri(), ImagePlan(max_side=100)) == (100, 26)
    assert dimensions_of(path.as_uri(), ImagePlan(max_side=1000)) == (301, 77)
    assert dimensions_of(path.as_uri(), ImagePlan(max_bytes=10)) is None
    assert dimensions_of((tmp_path / "none.png").as_uri(), PLAN) is None
    assert dimensions_of(tmp_path.as_uri(), PLAN) is None
    inline = "data:image/png;base64," + base64.b64encode(path.read_bytes()).decode()
    assert dimensions_of(inline, PLAN) == (301, 77)
    for strange in (
        "data:image/png;base64,é",
        "data:image/png,abc",
        "https://example.com/a.png",
        "s3://b/k",
        "x",
    ):
        assert dimensions_of(strange, PLAN) is None
