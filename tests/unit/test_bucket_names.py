"""The bucket of a reference goes into an address: it must not choose another host."""

from __future__ import annotations

import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from hypothesis import given
from hypothesis import strategies as st

from batch_infer.protocol.errors import InputError
from batch_inferd.images.errors import ImageError
from batch_inferd.images.load import load
from batch_inferd.images.plan import ImagePlan
from batch_inferd.sources import s3, s3http
from batch_inferd.sources.open import detect, open_source
from batch_inferd.sources.refs import References
from batch_inferd.sources.row import BadRow
from batch_inferd.sources.spec import SourceSpec

HOSTS = (
    "https://{bucket}.store.example",
    "https://oss-cn-hangzhou.aliyuncs.com",
    None,
    "https://store.example",
)
OURS = (".store.example/", ".aliyuncs.com/", ".amazonaws.com/", "store.example/")


@contextmanager
def thief():
    asked: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            asked.append(str(self.headers))
            self.send_response(404)
            self.end_headers()

        def log_message(self, *_args):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield server.server_port, asked
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


@pytest.mark.parametrize("endpoint", ["http://{bucket}.store.example", "http://oss-cn-hangzhou.aliyuncs.com"])
@pytest.mark.parametrize("mark", ["?", "#", ":", "%2F"])
def test_a_bucket_that_is_a_host_gets_no_request(endpoint, mark):
    access = s3.S3Access(endpoint=endpoint, access_key_id="k", secret_access_key="s", session_token="TOKEN")
    with thief() as (port, asked):
        bucket = f"127.0.0.1:{port}{mark}"
        with pytest.raises(BadRow, match="no name of a bucket"):
            References("").resolve(f"s3://{bucket}/x.png")
        with pytest.raises(ImageError, match="no name of a bucket") as caught:
            load(f"s3://{bucket}/x.png", ImagePlan(s3=access))
        assert caught.value.cls == "image_invalid"
        with pytest.raises(s3.S3Error, match="no name of a bucket"):
            s3.read_object(access, bucket, "x.png", 10)
        with pytest.raises(s3.S3Error, match="no name of a bucket"):
            list(s3.list_objects(access, bucket, ""))
        assert asked == []


@given(bucket=st.text(max_size=12), at=st.integers(0, 3))
def test_the_host_is_always_that_of_the_endpoint(bucket, at):
    if not s3.is_bucket(bucket):
        with pytest.raises(s3.S3Error):
            s3http._url(HOSTS[at], bucket, "k", "r", {})
        return
    host = s3http._url(HOSTS[at], bucket, "k", "r", {}).removeprefix("https://").partition("/")[0] + "/"
    assert host.endswith(OURS[at])
    assert not set(host) & set("@?#:")


@pytest.mark.parametrize("good", ["b", "my-bucket.2", "Old_Style", "a" * 255])
def test_names_of_buckets(good):
    assert s3.is_bucket(good)
    assert References("").resolve(f"s3://{good}/k") == f"s3://{good}/k"


@pytest.mark.parametrize("bad", ["", ".", "-a", "a b", "é", "a" * 256, "a\n", "a/b", "[", "evil.example?"])
def test_no_names_of_buckets(bad):
    assert not s3.is_bucket(bad)


def test_a_source_in_such_a_bucket_is_refused():
    with pytest.raises(InputError, match="no name of a bucket"):
        open_source(detect("s3://evil.example#/x", SourceSpec(kind="", prompt="p")))


def test_a_listing_that_repeats_itself_ends(monkeypatch):
    monkeypatch.setattr(s3http, "list_page", lambda *_: s3http.Page([("k", 1)], "again"))
    with pytest.raises(s3.S3Error, match="repeats"):
        list(s3.list_objects(s3.S3Access(), "bucket", ""))
