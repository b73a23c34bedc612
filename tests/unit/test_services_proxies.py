"""Which proxy a service is reached through."""

import pytest

from batch_inferd.services.proxies import ProxyError, has_password, proxy_for

PROXY = {"http": "http://plain:1", "https": "http://secure:2", "all": "http://any:3"}


@pytest.mark.parametrize(
    ("url", "proxy", "expected"),
    [
        ("http://host/v1", PROXY, "http://plain:1"),
        ("https://host/v1", PROXY, "http://secure:2"),
        ("https://host/v1", {"all": "http://any:3"}, "http://any:3"),
        ("https://host/v1", {"http": "http://plain:1"}, None),
        ("https://host/v1", {"https": ""}, None),
        ("https://host/v1", {}, None),
        ("https://host/v1", {"https": "proxy:3128"}, "http://proxy:3128"),
        ("https://host/v1", {"https": "https://proxy:3128"}, "https://proxy:3128"),
        ("http://127.0.0.1:8000/v1", PROXY, None),
        ("http://127.9.9.9/v1", PROXY, None),
        ("http://localhost:8000/v1", PROXY, None),
        ("http://[::1]:8000/v1", PROXY, None),
        ("https://host/v1", PROXY | {"no": "host"}, None),
        ("https://api.host/v1", PROXY | {"no": "other, .host"}, None),
        ("https://api.host/v1", PROXY | {"no": "other"}, "http://secure:2"),
        ("https://host:8443/v1", PROXY | {"no": "host:8443"}, None),
        ("https://host:8443/v1", PROXY | {"no": "host:1"}, "http://secure:2"),
        ("https://host/v1", PROXY | {"no": "*"}, None),
    ],
)
def test_the_decision(url: str, proxy: dict[str, str], expected: str | None) -> None:
    assert proxy_for(url, proxy) == expected


def test_socks_is_refused_with_a_way_out() -> None:
    with pytest.raises(ProxyError) as caught:
        proxy_for("https://host/v1", {"all": "socks5://me:secret@proxy:1080"})
    message = str(caught.value)
    assert "socks5" in message
    assert "add host to no_proxy" in message
    assert "secret" not in message


@pytest.mark.parametrize("proxy", ["http://", "http://proxy:x", "http://[::1"])
def test_proxies_that_are_no_url(proxy: str) -> None:
    with pytest.raises(ProxyError):
        proxy_for("https://host/v1", {"https": proxy})


def test_has_password() -> None:
    assert has_password("http://me:secret@proxy:1")
    assert not has_password("http://proxy:1")
