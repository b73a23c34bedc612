"""The user's credentials file: private, shared by daemons, stable fingerprints."""

import json
import os
import stat
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import msgspec
import pytest

from batch_infer.protocol.errors import ConfigError
from batch_inferd.services import credentials
from batch_inferd.services.credentials import Credential, CredentialStore, header_safe, proxy_key, state_dir

URL = "https://api.example/v1"


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "state" / "batch_infer" / "credentials.json"


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_saved_and_loaded_by_another_process(path: Path) -> None:
    credential = Credential("sk-1", {"X-A": "b"}, "http://me:pw@proxy:1")
    store = CredentialStore(path)
    fingerprint = store.fingerprint(URL, credential)
    store.save(fingerprint, credential)
    other = CredentialStore(path)
    loaded = other.load(fingerprint)
    assert loaded is not None
    assert msgspec.structs.replace(loaded, proxies={}) == credential
    assert other.fingerprint(URL, credential) == fingerprint
    assert other.load("0" * 16) is None


def test_the_file_and_its_folder_are_private(path: Path) -> None:
    store = CredentialStore(path)
    store.save("f", Credential("x"))
    assert mode(path) == 0o600
    assert mode(path.parent) == 0o700
    assert [name for name in os.listdir(path.parent) if name.endswith(".tmp")] == []


def test_fingerprints_tell_accounts_apart(path: Path) -> None:
    store = CredentialStore(path)
    prints = {
        store.fingerprint(URL, Credential("a")),
        store.fingerprint(URL, Credential("b")),
        store.fingerprint(URL, Credential(None)),
        store.fingerprint(URL + "/x", Credential("a")),
        store.fingerprint(URL, Credential("a", {"X-Org": "1"})),
    }
    assert len(prints) == 5
    assert all(len(print_) == 16 and int(print_, 16) >= 0 for print_ in prints)
    # The way there is not part of the account.
    assert store.fingerprint(URL, Credential("a", proxy="http://u:p@h")) in prints


def test_the_proxies_of_one_account_all_survive(path: Path) -> None:
    store = CredentialStore(path)
    one = Credential("sk", proxy="http://u:p@one:1")
    two = Credential("sk", proxy="http://u:q@one:1")
    for credential in (one, Credential("sk"), two, Credential("sk")):
        store.save("f", credential)
    loaded = CredentialStore(path).load("f")
    assert loaded is not None
    assert loaded.proxies == {proxy_key(one): one.proxy, proxy_key(two): two.proxy}
    written = path.read_bytes()
    store.save("f", Credential("sk"))
    assert path.read_bytes() == written


def test_the_proxy_of_an_older_file_survives(path: Path) -> None:
    store = CredentialStore(path)
    store.save("f", Credential("sk"))
    data = json.loads(path.read_bytes())
    old = Credential("sk", proxy="http://u:p@one:1")
    data["credentials"]["f"] = {"password": "sk", "headers": {}, "proxy": old.proxy}
    path.write_text(json.dumps(data), encoding="utf-8")
    store.save("f", Credential("sk"))
    loaded = store.load("f")
    assert loaded is not None
    assert loaded.proxies == {proxy_key(old): old.proxy}


def test_a_proxys_key_gives_nothing_away() -> None:
    def key(password: str | None, proxy: str | None) -> str | None:
        return proxy_key(Credential(password, proxy=proxy))

    proxy, other = "http://u:p@h:1", "http://u:q@h:1"
    assert key("sk", None) is None
    assert key("sk", proxy) == key("sk", proxy)
    assert len({key("sk", proxy), key("sk", other), key("sk2", proxy)}) == 3
    # Without a password there is no secret to hide it with: the login is left out.
    assert key(None, proxy) == key(None, other) != key(None, "http://u:p@other:1")


def test_the_salt_differs_from_user_to_user(tmp_path: Path) -> None:
    one, two = CredentialStore(tmp_path / "1" / "c.json"), CredentialStore(tmp_path / "2" / "c.json")
    assert one.fingerprint(URL, Credential("a")) != two.fingerprint(URL, Credential("a"))


def test_daemons_side_by_side_lose_nothing(path: Path) -> None:
    def work(number: int) -> str:
        store = CredentialStore(path)
        credential = Credential(f"key-{number}")
        fingerprint = store.fingerprint(URL, credential)
        store.save(fingerprint, credential)
        return fingerprint

    with ThreadPoolExecutor(8) as pool:
        prints = list(pool.map(work, range(16)))
    store = CredentialStore(path)
    assert [store.load(print_) for print_ in prints] == [Credential(f"key-{n}") for n in range(16)]


def test_a_mode_that_is_too_wide_is_repaired_and_told(path: Path, caplog: pytest.LogCaptureFixture) -> None:
    store = CredentialStore(path)
    store.save("f", Credential("hunter2"))
    path.chmod(0o644)
    assert store.load("f") == Credential("hunter2")
    assert mode(path) == 0o600
    assert "could be read by others" in caplog.text
    assert "hunter2" not in caplog.text


def test_a_link_in_its_place_is_refused(path: Path, tmp_path: Path) -> None:
    path.parent.mkdir(parents=True)
    target = tmp_path / "elsewhere"
    target.write_text("{}", encoding="utf-8")
    path.symlink_to(target)
    with pytest.raises(ConfigError, match="not a file of your own"):
        CredentialStore(path).load("f")


def test_somebody_elses_file_is_refused(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    CredentialStore(path).save("f", Credential("x"))
    monkeypatch.setattr(credentials.os, "geteuid", lambda: os.getuid() + 1)
    with pytest.raises(ConfigError, match="not a file of your own"):
        CredentialStore(path).load("f")


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b'{"salt":"zz"}', b'{"salt":1}', b"\xff"])
def test_a_damaged_file_is_kept_and_a_new_one_begins(path: Path, content: bytes) -> None:
    path.parent.mkdir(parents=True)
    path.write_bytes(content)
    path.chmod(0o600)
    store = CredentialStore(path)
    assert store.load("f") is None
    assert path.with_name("credentials.json.damaged").read_bytes() == content
    store.save("f", Credential("x"))
    assert store.load("f") == Credential("x")


def test_fields_of_later_versions_are_let_be(path: Path) -> None:
    store = CredentialStore(path)
    store.save("f", Credential("x"))
    data = json.loads(path.read_bytes())
    data["credentials"]["f"]["added_later"] = 1
    data["added_later"] = {}
    path.write_text(json.dumps(data), encoding="utf-8")
    assert store.load("f") == Credential("x")


def test_a_state_directory_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("", encoding="utf-8")
    with pytest.raises(ConfigError, match="cannot be kept") as caught:
        CredentialStore(tmp_path / "file" / "c.json").load("f")
    assert "BATCH_INFER_STATE_DIR" in str(caught.value.hints[0])


def test_the_state_directory(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    assert state_dir({"BATCH_INFER_STATE_DIR": "/x"}) == Path("/x")
    assert state_dir({}).name == "batch_infer"
    monkeypatch.setenv("BATCH_INFER_STATE_DIR", str(tmp_path / "s"))
    CredentialStore().save("f", Credential("x"))
    assert (tmp_path / "s" / "credentials.json").exists()


def test_repr_hides_everything() -> None:
    assert repr(Credential("hunter2", {"X-A": "hunter2"}, "http://u:hunter2@h")) == (
        "Credential(password=***, headers=['X-A'])"
    )


@pytest.mark.parametrize(("text", "safe"), [("sk-1 x", True), ("a\nb", False), ("é", False), ("", True)])
def test_header_safe(text: str, safe: bool) -> None:
    assert header_safe(text) is safe
