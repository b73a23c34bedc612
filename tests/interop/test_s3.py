"""Reading S3, judged by moto's server over HTTP, and by botocore's signatures."""

from __future__ import annotations

import json
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import quote

import httpx
import pytest
from botocore.auth import S3SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials
from servers import running

from batch_infer.protocol.errors import InputError
from batch_inferd.sources import s3, s3http
from batch_inferd.sources.open import detect, open_source
from batch_inferd.sources.spec import SourceSpec

ODD = (
    "odd/50%.png",
    "odd/a b+c.png",
    "odd//double.png",
    "odd/你好.png",
    "odd/q?x=1&y#z.png",
    "odd/~'()!*.png",
)
PHOTOS = [f"photos/{n:04}.jpg" for n in range(1100)]


@pytest.fixture(scope="module")
def moto(tmp_path_factory):
    """A server with a bucket of some objects more than fit a page."""
    program = Path(sys.executable).with_name("moto_server")
    if not program.exists():
        pytest.fail("moto is not installed: pip install -e '.[interop]'")
    folder = tmp_path_factory.mktemp("moto")
    with running([str(program), "-H", "127.0.0.1"], folder, "/moto-api/data.json") as server:
        with httpx.Client(base_url=server.url, trust_env=False, timeout=30) as client:
            client.put("/bucket").raise_for_status()

            def put(key):
                client.put(f"/bucket/{quote(key)}", content=content(key)).raise_for_status()

            with ThreadPoolExecutor(4) as pool:
                list(pool.map(put, [*PHOTOS, *ODD, "photos/notes.txt", "photos2/x.jpg"]))
            client.put("/bucket/photos/empty/", content=b"").raise_for_status()
        yield server.url


@pytest.fixture(autouse=True)
def _impatient(monkeypatch):
    monkeypatch.setattr(s3, "FIRST_WAIT_S", 0.001)
    yield
    s3http._client.cache_clear()
    s3http._regions.clear()


def content(key):
    return f"content of {key} ".encode() * 20


def access(url):
    return s3.S3Access(endpoint=url, access_key_id="AKID", secret_access_key="hidden/secret+key")


def test_every_key_is_listed_page_by_page_and_read(moto):
    own = access(moto)
    found = list(s3.list_objects(own, "bucket", ""))
    keys = [key for key, _ in found]
    assert keys == sorted([*PHOTOS, *ODD, "photos/empty/", "photos/notes.txt", "photos2/x.jpg"])
    assert dict(found)[ODD[0]] == len(content(ODD[0]))
    assert s3http.list_page(own, "bucket", "", "", None).token is not None  # one page is not all
    for key in (*ODD, *PHOTOS[:5]):
        assert s3.parse_reference(s3.reference("bucket", key)) == ("bucket", key)
        assert s3.read_object(own, "bucket", key, 10_000) == content(key)
    assert [key for key, _ in s3.list_objects(own, "bucket", "photos/10", PHOTOS[1095])] == PHOTOS[1096:]


def test_a_prefix_as_a_source(moto):
    spec = detect("s3://bucket/photos", SourceSpec(kind="", prompt="{name}", end_row=1050))
    assert spec.kind == "s3"
    source = open_source(spec, access(moto))
    lines = list(source.records())
    assert [json.loads(line)["custom_id"] for line in lines] == [f"{n:04}.jpg" for n in range(1050)]
    assert json.loads(lines[7]) == {
        "custom_id": "0007.jpg",
        "messages": [
            {
                "role": "user",
                "content": [
                    {"type": "text", "text": "0007.jpg"},
                    {"type": "image_url", "image_url": {"url": "s3://bucket/photos/0007.jpg"}},
                ],
            }
        ],
        "$source": {"row": 7, "path": "0007.jpg"},
    }
    assert list(source.records(last=lines[1040])) == lines[1041:]
    assert list(source.records(1040)) == lines[1040:]
    assert (source.pin(), source.count()) == ({}, None)


def test_stars_and_odd_names_and_nothing(moto):
    def paths(url, **wanted):
        spec = detect(url, SourceSpec(kind="", prompt="p", **wanted))
        return [json.loads(line)["$source"]["path"] for line in open_source(spec, access(moto)).records()]

    assert paths("s3://bucket/photos*", start_row=1100) == ["photos2/x.jpg"]
    assert paths("s3://bucket/photos/109*") == [f"{n}.jpg" for n in range(1090, 1100)]
    assert paths("s3://bucket/odd/") == sorted(key.removeprefix("odd/") for key in ODD)
    twice = detect("s3://bucket/odd", SourceSpec(kind="", prompt="p", iterations=2))
    lines = list(open_source(twice, access(moto)).records())
    assert list(open_source(twice, access(moto)).records(last=lines[4])) == lines[5:]
    with pytest.raises(InputError, match="holds no file that fits"):
        paths("s3://bucket/nothing")
    with pytest.raises(InputError, match="names no bucket"):
        paths("s3:///x")


def test_what_s3_refuses(moto):
    own = access(moto)
    with pytest.raises(s3.S3Missing, match=r"s3://bucket/no\.png: HTTP 404, NoSuchKey") as caught:
        s3.read_object(own, "bucket", "no.png", 100)
    assert isinstance(caught.value, OSError)
    with pytest.raises(s3.S3Missing, match="NoSuchBucket"):
        list(s3.list_objects(own, "nobucket", ""))
    with pytest.raises(s3.S3TooLarge, match="allowed are 10"):
        s3.read_object(own, "bucket", PHOTOS[0], 10)


class Front:
    """Before moto: for each request a plan says what goes wrong. Without a plan all goes well."""

    def __init__(self, target):
        self.plans: list = []
        self.seen: list = []
        front = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self):
                front.seen.append((self.path, dict(self.headers)))
                plan = front.plans.pop(0) if front.plans else "pass"
                self.close_connection = plan != "pass"
                if plan == "drop":
                    return
                if isinstance(plan, tuple):
                    status, headers, body = plan
                else:
                    signed = {name: value for name, value in self.headers.items() if name.lower() != "host"}
                    reply = client.get(f"{target}{self.path}", headers=signed)
                    status, headers, body = reply.status_code, {}, reply.content
                self.send_response(status)
                for name, value in headers.items():
                    self.send_header(name, value)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body[: len(body) // 2] if plan == "cut" else body)

            def log_message(self, *args):
                pass

        client = self._client = httpx.Client(trust_env=False)
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,))
        self._thread.start()

    def close(self):
        s3http._client(None).close()  # else its kept connections keep the handlers
        self._server.shutdown()
        self._server.server_close()
        self._thread.join(10)
        self._client.close()


@contextmanager
def front_of(target):
    front = Front(target)
    try:
        yield front
    finally:
        front.close()


def refusal(status, code, **headers):
    return status, headers, f"<Error><Code>{code}</Code><Message>words of {code}</Message></Error>".encode()


def test_dropped_connections_and_busy_services_are_tried_again(moto):
    with front_of(moto) as front:
        own = access(front.url)
        front.plans = ["drop", "cut", refusal(503, "SlowDown"), refusal(500, "InternalError"), "pass"]
        assert s3.read_object(own, "bucket", PHOTOS[0], 10_000) == content(PHOTOS[0])
        assert len(front.seen) == 5
        front.plans = ["cut", "pass", "drop", "cut"]  # the second page, too
        assert [key for key, _ in s3.list_objects(own, "bucket", "photos/0")] == PHOTOS[:1000]
        keys = [key for key, _ in s3.list_objects(own, "bucket", "photos/")]
        assert keys == sorted([*PHOTOS, "photos/empty/", "photos/notes.txt"])
        front.plans = ["drop"] * s3.ATTEMPTS
        with pytest.raises(s3.S3Unreachable, match=r"s3://bucket/x\.png"):
            s3.read_object(own, "bucket", "x.png", 100)
        assert front.plans == []


def test_refusals_are_not_tried_again_and_say_what_is_missing(moto):
    with front_of(moto) as front:
        front.plans = [refusal(403, "AccessDenied")]
        with pytest.raises(s3.S3Denied, match=r"HTTP 403, AccessDenied: words of AccessDenied$") as caught:
            s3.read_object(access(front.url), "bucket", "x.png", 100)
        assert isinstance(caught.value, PermissionError)
        front.plans = [refusal(403, "AccessDenied")]
        with pytest.raises(s3.S3Denied, match="no keys are set"):
            s3.read_object(s3.S3Access(endpoint=front.url), "bucket", "x.png", 100)
        assert "authorization" not in {name.lower() for name in front.seen[-1][1]}
        assert len(front.seen) == 2


def test_a_bucket_elsewhere_is_asked_in_its_own_region(moto):
    with front_of(moto) as front:
        front.plans = [refusal(301, "PermanentRedirect", **{"x-amz-bucket-region": "eu-west-1"})]
        for _ in range(2):
            assert s3.read_object(access(front.url), "bucket", PHOTOS[0], 10_000)
        signed = [headers["authorization"].split("/")[2] for _, headers in front.seen]
        assert signed == ["us-east-1", "eu-west-1", "eu-west-1"]


@pytest.mark.parametrize("key", [*ODD, ""])
@pytest.mark.parametrize("token", [None, "token/+="])
def test_signatures_are_botocores(key, token):
    own = s3.S3Access(access_key_id="AKID", secret_access_key="s/e+c", session_token=token)
    query = {} if key else {"prefix": "a b/ü+", "list-type": "2", "continuation-token": "1/x=="}
    url = s3http._url("http://127.0.0.1:9000", "bucket", key, "us-east-1", query)
    ours = s3http._signed(own, url, "us-east-1")
    request = AWSRequest("GET", url, headers={"host": "127.0.0.1:9000"})
    request.context["timestamp"] = ours["x-amz-date"]
    request.headers["X-Amz-Date"] = ours["x-amz-date"]
    request.headers["X-Amz-Content-SHA256"] = ours["x-amz-content-sha256"]
    if token:
        request.headers["X-Amz-Security-Token"] = token
    auth = S3SigV4Auth(Credentials("AKID", "s/e+c", token), "s3", "us-east-1")
    theirs = auth.signature(auth.string_to_sign(request, auth.canonical_request(request)), request)
    assert ours["authorization"].endswith(f"Signature={theirs}")


def test_addresses():
    def url(endpoint, bucket="bucket", region="eu-west-1"):
        return s3http._url(endpoint, bucket, "a b.png", region, {})

    assert url(None) == "https://bucket.s3.eu-west-1.amazonaws.com/a%20b.png"
    assert url(None, "dotted.bucket") == "https://s3.eu-west-1.amazonaws.com/dotted.bucket/a%20b.png"
    assert url(None, region="cn-north-1") == "https://bucket.s3.cn-north-1.amazonaws.com.cn/a%20b.png"
    assert url("http://minio:9000") == "http://minio:9000/bucket/a%20b.png"
    assert (
        url("https://oss-cn-beijing.aliyuncs.com") == "https://bucket.oss-cn-beijing.aliyuncs.com/a%20b.png"
    )
    assert url("https://{bucket}.own.example") == "https://bucket.own.example/a%20b.png"
