"""Images that are elsewhere: in S3, and on the web."""

from __future__ import annotations

from typing import Any

import pytest
from image_site import DATA, serving

from batch_inferd.images import remote
from batch_inferd.images.load import ImageError, load
from batch_inferd.images.plan import ImagePlan
from batch_inferd.sources import s3

WEB = ImagePlan(fetch_urls=True, max_bytes=100_000)


class TestS3:
    def test_an_object_is_read_with_the_plans_access(self, monkeypatch):
        asked: list[Any] = []
        monkeypatch.setattr(s3, "read_object", lambda *args: asked.append(args) or DATA)
        access = s3.S3Access(region="r")
        assert load("s3://bucket/a%20b/%E5%9B%BE.jpg", ImagePlan(s3=access)).data == DATA
        assert load("s3://bucket/k", ImagePlan(s3=access, max_bytes=5000)).data == DATA
        assert asked == [(access, "bucket", "a b/图.jpg", 20 * 2**20), (access, "bucket", "k", 5000)]

    def test_without_an_access_the_message_says_where_it_is_set(self):
        with pytest.raises(ImageError, match=r"input\.s3 in the config"):
            load("s3://bucket/k", ImagePlan())

    @pytest.mark.parametrize(
        ("error", "cls", "transient"),
        [
            (s3.S3Missing("no such key"), "image_missing", False),
            (s3.S3Denied("who are you?"), "image_unreadable", False),
            (s3.S3TooLarge("huge"), "image_too_large", False),
            (s3.S3Unreachable("no route"), "image_unreadable", True),
            (s3.S3Error("odd"), "image_unreadable", False),
        ],
    )
    def test_what_goes_wrong(self, monkeypatch, error, cls, transient):
        def fail(*_: Any) -> bytes:
            raise error

        monkeypatch.setattr(s3, "read_object", fail)
        with pytest.raises(ImageError, match="s3://bucket/the key") as caught:
            load("s3://bucket/the%20key", ImagePlan(s3=s3.S3Access()))
        assert (caught.value.cls, caught.value.transient) == (cls, transient)


@pytest.fixture(scope="module")
def site():
    with serving() as url:
        yield url
    remote._client().close()
    remote._client.cache_clear()


class TestWeb:
    @pytest.mark.parametrize("path", ["good", "moved", "good?signature=1"])
    def test_an_image_is_fetched(self, site, path):
        assert load(f"{site}/{path}", WEB).data == DATA

    @pytest.mark.parametrize(
        ("path", "cls", "transient"),
        [
            ("404", "image_missing", False),
            ("410", "image_missing", False),
            ("403", "image_unreadable", False),
            ("429", "image_unreadable", True),
            ("503", "image_unreadable", True),
            ("circle", "image_unreadable", False),
            ("large", "image_too_large", False),
            ("endless", "image_too_large", False),
            ("cut", "image_unreadable", True),
            ("packed", "image_unreadable", False),
            ("page", "image_invalid", False),
        ],
    )
    def test_what_goes_wrong(self, site, path, cls, transient):
        with pytest.raises(ImageError, match=f"/{path}") as caught:
            load(f"{site}/{path}?key=hunter2", WEB)
        assert (caught.value.cls, caught.value.transient) == (cls, transient)
        assert "hunter2" not in str(caught.value)

    def test_nobody_is_there(self, site):
        with pytest.raises(ImageError) as caught:
            load("http://127.0.0.1:1/a.png", WEB)
        assert (caught.value.cls, caught.value.transient) == ("image_unreadable", True)

    @pytest.mark.parametrize("url", ["http://", "https://[x/", "http://host:99999999/", "http://\u0000/"])
    def test_addresses_that_are_none(self, site, url):
        with pytest.raises(ImageError):
            load(url, WEB)
