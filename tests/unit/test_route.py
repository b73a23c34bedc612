"""What a request begins with, and where it goes: nothing that a config says becomes a line of its own."""

from __future__ import annotations

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from batch_inferd.backends.plan import Timeouts
from batch_inferd.backends.route import Route
from batch_inferd.backends.transport import Target


def route(url: str, headers: dict[str, str] | None = None, proxy: str | None = None) -> Route:
    return Route(Target(url, headers or {}, Timeouts(), proxy, 1))


def lines(made: Route) -> list[str]:
    *found, last = made.head.decode("latin-1").split("\r\n")
    assert last == "Content-Length: "
    return found


@pytest.mark.parametrize(
    ("url", "host", "address"),
    [
        ("http://h/v1", "h", "h:80"),
        ("https://h:443/v1", "h", "h:443"),
        ("http://h:8080/v1", "h:8080", "h:8080"),
        ("http://[::1]/v1", "[::1]", "[::1]:80"),
        ("https://[2001:db8::1]:8443/v1", "[2001:db8::1]:8443", "[2001:db8::1]:8443"),
        ("https://bücher.example/v1", "xn--bcher-kva.example", "bücher.example:443"),
    ],
)
def test_the_host(url, host, address):
    made = route(url)
    assert f"Host: {host}" in lines(made)
    assert (made.first.address, made.tunnel, made.proxied) == (address, None, False)


@pytest.mark.parametrize(
    ("url", "path"),
    [
        ("http://h", "/"),
        ("http://h/a%20b/c?x=%26&y=1", "/a%20b/c?x=%26&y=1"),
        ("http://h/a b/ü?q=ü", "/a%20b/%C3%BC?q=%C3%BC"),
        ("http://h/v1?a=b#part", "/v1?a=b"),
    ],
)
def test_the_path(url, path):
    assert lines(route(url))[0] == f"POST {path} HTTP/1.1"


def test_a_plans_headers_win_and_the_framing_is_ours():
    made = lines(
        route(
            "http://h/v1",
            {
                "ACCEPT": "text/x",
                "host": "other",
                "Content-Length": "9",
                "Transfer-Encoding": "chunked",
                "Connection": "close",
                "X-Own": " v ",
            },
        )
    )
    assert sorted(line.split(":")[0].lower() for line in made[1:]) == [
        "accept",
        "accept-encoding",
        "host",
        "user-agent",
        "x-own",
    ]
    assert {"ACCEPT: text/x", "host: other", "X-Own: v"} < set(made)


@given(st.text(max_size=20), st.text(max_size=20))
def test_no_header_becomes_two(name, value):
    with contextlib.suppress(ValueError):
        made = lines(route("http://h/v1", {name: value}))
        assert len(made) <= 6
        assert not any(character in line for line in made for character in "\r\n\0")


@pytest.mark.parametrize("value", ["se\ncret", "se\rcret", "se\0cret"])
def test_a_value_that_is_none_is_not_told(value):
    with pytest.raises(ValueError, match="a header") as caught:
        route("http://h/v1", {"Authorization": value})
    assert "cret" not in str(caught.value)


@pytest.mark.parametrize(
    ("url", "proxy"),
    [
        ("http://h:99999/", None),
        ("http://", None),
        ("ftp://h/", None),
        ("http://h/", "socks5://p:1"),
        ("http://h/", "http://p:x"),
    ],
)
def test_what_is_no_address(url, proxy):
    with pytest.raises(ValueError, match=r"host|[Pp]ort"):
        route(url, proxy=proxy)


def test_a_proxy_that_forwards_and_one_that_tunnels():
    forwarded = route("http://h/v1?a=b", proxy="http://u:p%40@p:3128")
    assert lines(forwarded)[0] == "POST http://h/v1?a=b HTTP/1.1"
    assert "Proxy-Authorization: Basic dTpwQA==" in lines(forwarded)
    assert (forwarded.first.address, forwarded.tunnel) == ("p:3128", None)
    tunnelled = route("https://h/v1", proxy="https://u:p%40@p")
    assert lines(tunnelled)[0] == "POST /v1 HTTP/1.1"
    assert not any("proxy" in line.lower() for line in lines(tunnelled))
    assert tunnelled.first.secure
    assert (tunnelled.first.address, tunnelled.service.address) == ("p:443", "h:443")
    assert tunnelled.tunnel == (
        b"CONNECT h:443 HTTP/1.1\r\nHost: h:443\r\nProxy-Authorization: Basic dTpwQA==\r\n\r\n"
    )
