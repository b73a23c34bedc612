"""One image: read, checked, scaled down; and everything that is none."""

from __future__ import annotations

import base64
import errno
import os
from typing import Any

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image, ImageFile, PngImagePlugin

from batch_inferd.images import files, pixels
from batch_inferd.images.load import ImageError, load, size_of
from batch_inferd.images.plan import FORMATS, ImagePlan
from image_kit import bomb, opened, picture, put, saved

PLAN = ImagePlan()
ALL = ImagePlan(formats=FORMATS)


def refused(ref: str, plan: ImagePlan = PLAN, *, cls: str, words: str = ".", transient: bool = False) -> str:
    with pytest.raises(ImageError, match=words) as caught:
        load(ref, plan)
    assert (caught.value.cls, caught.value.transient) == (cls, transient)
    return str(caught.value)


class TestGood:
    @pytest.mark.parametrize("kind", FORMATS)
    def test_every_format_is_sent_as_it_is(self, tmp_path, kind):
        data = picture(40, 30, kind)
        found = load(put(tmp_path / "a.any", data), ALL)
        assert found == (data, f"image/{kind}", 40, 30, False)

    @pytest.mark.parametrize(
        "name", ["a b.png", "ä 图.png", "100%.png", "%41.png", "a?b#c.png", "x&y;=+.png", "\u202e.png"]
    )
    def test_any_name(self, tmp_path, name):
        data = picture(kind="png")
        assert load(put(tmp_path / name, data), PLAN).data == data

    def test_a_name_that_is_no_utf8(self, tmp_path):
        data = picture(kind="png")
        with open(os.fsencode(tmp_path) + b"/\xff\xe9.png", "wb") as file:
            file.write(data)
        assert load(f"{tmp_path.as_uri()}/%FF%E9.png", PLAN).data == data

    def test_a_name_as_a_person_writes_it(self, tmp_path):
        data = picture(kind="png")
        put(tmp_path / "100% ü?#.png", data)
        for ref in (f"file://{tmp_path}/100% ü?#.png", f"file:{tmp_path}/100% ü?#.png"):
            assert load(ref, PLAN).data == data
        assert load(f"file://localhost{tmp_path}/100% ü?#.png", PLAN).data == data

    def test_a_symbolic_link(self, tmp_path):
        data = picture()
        put(tmp_path / "a.jpg", data)
        (tmp_path / "b.jpg").symlink_to(tmp_path / "a.jpg")
        assert load((tmp_path / "b.jpg").as_uri(), PLAN).data == data

    def test_base64_in_the_reference(self):
        data = picture(kind="png")
        assert load(f"data:image/png;base64,{base64.b64encode(data).decode()}", PLAN).data == data

    def test_its_size_is_known_without_reading(self, tmp_path):
        data = picture()
        assert size_of(put(tmp_path / "a.jpg", data), PLAN) == len(data)
        assert size_of("s3://bucket/key", PLAN) == PLAN.max_bytes

    def test_the_plan_goes_over_a_pipe(self):
        plan = ImagePlan(max_side=5, fetch_urls=True)
        assert msgspec.convert(msgspec.to_builtins(plan), ImagePlan) == plan


class TestBad:
    def test_missing(self, tmp_path):
        ref = (tmp_path / "no ä.png").as_uri()
        assert refused(ref, cls="image_missing").endswith("no ä.png does not exist")
        (tmp_path / "file").touch()
        refused((tmp_path / "file" / "a.png").as_uri(), cls="image_missing")
        refused((tmp_path / ("x" * 300)).as_uri(), cls="image_missing")
        (tmp_path / "loop").symlink_to(tmp_path / "loop")
        refused((tmp_path / "loop").as_uri(), cls="image_missing")

    def test_what_is_no_file(self, tmp_path):
        os.mkfifo(tmp_path / "pipe")
        refused((tmp_path / "pipe").as_uri(), cls="image_unreadable", words="no regular file")
        refused("file:///dev/zero", cls="image_unreadable", words="no regular file")
        refused(tmp_path.as_uri(), cls="image_unreadable", words="is a directory")

    def test_a_pipe_that_takes_the_files_place(self, tmp_path, monkeypatch):
        os.mkfifo(tmp_path / "pipe")
        monkeypatch.setattr(files, "file_size", lambda *_: 10)
        refused((tmp_path / "pipe").as_uri(), cls="image_unreadable", words="no regular file")

    def test_what_is_no_image_is_not_read_and_never_shown(self, tmp_path):
        ref = put(tmp_path / "id_rsa", b"-----BEGIN OPENSSH PRIVATE KEY-----\nhunter2")
        told = refused(ref, ALL, cls="image_invalid", words="is no image")
        assert "BEGIN" not in told
        for data in (b"\xff\xd8", b"GIF8", b"RIFF....WAVE", b"BM is text", b"....ftypisom", b"\n", b"<svg/>"):
            refused(put(tmp_path / "a.png", data), ALL, cls="image_invalid")
        refused(put(tmp_path / "b.png", b""), cls="image_invalid", words="is empty")
        refused("file:///proc/self/environ", cls="image_invalid", words="is empty")

    def test_a_format_that_is_not_allowed(self, tmp_path):
        ref = put(tmp_path / "a.jpg", picture(kind="tiff"))
        refused(ref, cls="image_invalid", words="is tiff, allowed are jpeg, png, webp, gif")
        refused(put(tmp_path / "b", b"\0\0\0\x20ftypheic\0\0\0\0"), cls="image_invalid", words="is heic")

    def test_a_large_file_is_refused_before_it_is_opened(self, tmp_path, monkeypatch):
        ref = put(tmp_path / "a.jpg", picture())
        os.truncate(tmp_path / "a.jpg", 200 * 2**20)
        monkeypatch.setattr(os, "open", lambda *_: pytest.fail("opened"))
        refused(ref, cls="image_too_large", words=f"{200 * 2**20} bytes, allowed are {20 * 2**20}")
        with pytest.raises(ImageError, match="allowed are"):
            size_of(ref, PLAN)

    def test_a_file_that_grows(self, tmp_path, monkeypatch):
        ref = put(tmp_path / "a.jpg", picture())
        check = files._check

        def grow(*args: Any) -> int:
            size = check(*args)
            with (tmp_path / "a.jpg").open("ab") as file:
                file.write(b"more")
            return size

        monkeypatch.setattr(files, "_check", grow)
        refused(ref, cls="image_unreadable", words="changed while it was read", transient=True)

    @pytest.mark.parametrize(
        ("number", "transient"), [(errno.EACCES, False), (errno.EIO, True), (errno.ESTALE, True)]
    )
    def test_what_cannot_be_opened(self, tmp_path, monkeypatch, number, transient):
        ref = put(tmp_path / "a.jpg", picture())

        def fail(*_: Any) -> int:
            raise OSError(number, os.strerror(number))

        monkeypatch.setattr(os, "open", fail)
        refused(ref, cls="image_unreadable", words=os.strerror(number), transient=transient)

    @pytest.mark.parametrize(
        "ref",
        [
            "file://host/a.png",
            "file:a.png",
            "file:",
            "file:///a%00b.png",
            "a.png",
            "",
            "ftp://h/a.png",
            "s3://b",
            "s3:///k",
            "data:image/png,x",
            "data:image/png;base64,€",
            "data:image/png;base64,QUFBQQ=",
            "file://",
        ],
    )
    def test_what_is_no_reference(self, ref):
        refused(ref, cls="image_invalid")

    def test_web_addresses_are_not_fetched_unasked(self):
        told = refused(
            "https://user:hunter2@host/a.png?sig=hunter2", cls="image_unreadable", words="fetch_urls: true"
        )
        assert "https://host/a.png?…" in told
        assert "hunter2" not in told

    def test_messages_stay_short(self, tmp_path):
        told = refused(f"file:///{'x' * 5000}\n\x1b[2J", cls="image_missing")
        assert len(told) < 400
        assert "\x1b" not in refused("file:///\x1b[2J", cls="image_missing")


@pytest.mark.parametrize("kind", ["jpeg", "png", "webp", "gif"])
def test_a_file_that_is_cut(tmp_path, kind):
    data = picture(60, 60, kind)
    for size in (40, len(data) // 2, len(data) - len(data) // 10):
        refused(put(tmp_path / "a", data[:size]), cls="image_invalid", words="cannot be decoded")


def test_bombs_are_never_decoded(tmp_path, monkeypatch):
    monkeypatch.setattr(ImageFile.ImageFile, "load", lambda *_: pytest.fail("decoded"))
    monkeypatch.setattr(PngImagePlugin.PngImageFile, "load", lambda *_: pytest.fail("decoded"), raising=False)
    for side in (8_000, 12_000, 50_000, 2**31 - 1):  # 64 million pixels, and more than Pillow takes
        for plan in (PLAN, ImagePlan(max_pixels=None) if side > 12_000 else PLAN, ImagePlan(max_side=100)):
            refused(put(tmp_path / "a.png", bomb(side, side)), plan, cls="image_too_large", words="pixels")
    small = ImagePlan(max_pixels=100)
    refused(put(tmp_path / "a.png", bomb(11, 10)), small, cls="image_too_large", words="11 x 10")


@settings(max_examples=150, suppress_health_check=[HealthCheck.too_slow])
@given(
    st.sampled_from(FORMATS),
    st.lists(st.tuples(st.integers(0, 400), st.integers(0, 255)), max_size=8),
    st.sampled_from([None, 16]),
)
def test_damaged_bytes_are_an_image_or_an_image_error(kind, changes, side):
    data = bytearray(picture(24, 20, kind))
    for at, byte in changes:
        data[at % len(data)] = byte
    ref = f"data:image/{kind};base64,{base64.b64encode(data).decode()}"
    wrong = None
    try:
        found = load(ref, ImagePlan(formats=FORMATS, max_side=side))
    except ImageError as error:
        wrong = error
    if wrong is None:
        assert side or found.data == data
    else:
        assert wrong.cls in ("image_invalid", "image_too_large")
        assert not wrong.transient


class TestScaling:
    def scaled(self, data: bytes, side: int = 20) -> tuple[Any, Image.Image]:
        ref = f"data:;base64,{base64.b64encode(data).decode()}"
        found = load(ref, ImagePlan(formats=FORMATS, max_side=side))
        return found, opened(found.data)

    @pytest.mark.parametrize(
        ("kind", "becomes"), [(k, k if k in ("jpeg", "webp") else "png") for k in FORMATS]
    )
    def test_the_longer_side_is_bounded(self, kind, becomes):
        found, image = self.scaled(picture(80, 40, kind))
        assert found.media_type == f"image/{becomes}"
        assert (found.width, found.height) == image.size == (20, 10)
        assert image.format == becomes.upper()

    def test_one_that_is_small_enough_is_not_touched(self):
        data = picture(20, 10)
        assert self.scaled(data)[0].data == data

    def test_it_stands_upright(self):
        image = Image.new("RGB", (80, 40), "white")
        image.paste("red", (0, 0, 40, 40))  # the left half
        exif = image.getexif()
        exif[0x0112] = 6  # to be turned to the right
        _, found = self.scaled(saved(image, "jpeg", exif=exif))
        assert found.size == (10, 20)
        assert found.getpixel((5, 3))[1] < 80  # red is at the top
        assert found.getpixel((5, 17))[1] > 200
        assert not found.getexif()

    @pytest.mark.parametrize(
        ("mode", "color", "kept"),
        [
            ("P", 3, "RGB"),
            ("1", 1, "RGB"),
            ("L", 9, "L"),
            ("LA", (9, 9), "LA"),
            ("RGBA", (1, 2, 3, 4), "RGBA"),
        ],
    )
    def test_modes(self, mode, color, kept):
        _, found = self.scaled(saved(Image.new(mode, (80, 40), color), "png"))
        assert (found.mode, found.size) == (kept, (20, 10))

    def test_a_transparent_palette_stays_transparent(self):
        image = Image.new("P", (80, 40), 1)
        image.putpalette(bytes(range(6)))
        _, found = self.scaled(saved(image, "png", transparency=1))
        assert found.mode == "RGBA"
        assert found.getpixel((5, 5))[3] == 0

    def test_print_colours_become_screen_colours(self):
        _, found = self.scaled(saved(Image.new("CMYK", (80, 40)), "jpeg"))
        assert (found.mode, found.getpixel((5, 5))) == ("RGB", (255, 255, 255))

    def test_deep_pixels_are_refused_rather_than_spoilt(self):
        data = saved(Image.new("I;16", (80, 40)), "png")
        ref = f"data:;base64,{base64.b64encode(data).decode()}"
        refused(ref, ImagePlan(max_side=20), cls="image_invalid", words="cannot be scaled down")
        assert load(ref, PLAN).data == data


class TestWithoutPillow:
    @pytest.fixture(autouse=True)
    def _gone(self, monkeypatch):
        monkeypatch.setattr(pixels, "available", lambda: False)

    def test_first_bytes_and_size_are_checked(self, tmp_path):
        data = picture()
        assert load(put(tmp_path / "a.jpg", data), PLAN) == (data, "image/jpeg", None, None, False)
        refused(put(tmp_path / "b.jpg", b"text"), cls="image_invalid")
        refused(put(tmp_path / "c.jpg", data), ImagePlan(max_bytes=100), cls="image_too_large")

    def test_scaling_says_what_it_needs(self, tmp_path):
        ref = put(tmp_path / "a.jpg", picture())
        refused(
            ref, ImagePlan(max_side=20), cls="image_unreadable", words=r"pip install 'batch_infer\[images\]'"
        )
