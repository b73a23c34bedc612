"""The doctor, on the embedded test service, on services that lack something, and on a machine that does."""

import base64
import json
import os
import socket
import sqlite3
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import SimpleNamespace

import pytest

from batch_infer.protocol import beacon, locks, rpc
from batch_infer.protocol.text import Text
from batch_infer.protocol.workspace import Workspace
from batch_inferd.doctor import environment as machine
from batch_inferd.doctor.check import Check, without
from batch_inferd.doctor.examine import examine
from batch_inferd.requests import doctor, handlers
from batch_inferd.seams.clock import SystemClock
from batch_inferd.services import builtin
from batch_inferd.services.profile import Profile
from batch_inferd.tasks.submitting import Submission
from batch_inferd.testing.adopt import CONTROLS_VARIABLE
from batch_inferd.testing.process import start_service

KEY = "sk-hunter2-hunter2"
MODELS = {"object": "list", "data": [{"id": "qwen3-32b"}, {"id": "qwen3-8b"}]}
PAGE = {"object": "list", "data": [], "has_more": False}


class FakeService:
    """Answers GET as `routes` says (path -> status, body), and keeps what it was asked."""

    def __init__(self, routes):
        self.routes = routes
        self.asked = []
        fake = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self):
                self.do_GET()

            def do_GET(self):
                path = self.path.partition("?")[0]
                fake.asked.append((self.command, path, self.headers.get("Authorization")))
                status, body = fake.routes.get(path, (404, {"error": {"message": "no such route"}}))
                data = json.dumps(body).encode()
                self.send_response(status)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)

            def log_message(self, *_):
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}/v1"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,))
        self._thread.start()

    def close(self):
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


@pytest.fixture
def serve():
    running = []

    def start(routes):
        running.append(FakeService(routes))
        return running[-1]

    yield start
    for service in running:
        service.close()


@pytest.fixture
def free_port():
    """A port of this machine where nobody listens: it is bound, and nobody is let in."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        yield taken.getsockname()[1]


def config(domain, extra="", name="qwen3-32b", password=KEY):
    text = f"model: {{domain: '{domain}', name: {name}, password: '{password}', max_tokens: 10}}\n{extra}\n"
    return text.encode()


async def look(workspace, data, env=None, proxy=None):
    """The checks by name; of several of one name the last."""
    sent = Submission(data, str(workspace / "config.yaml"), env or {}, proxy or {})
    checks = await examine(Workspace(workspace), SystemClock(), sent)
    shown = json.dumps([check.to_wire() for check in checks])
    assert KEY not in shown
    assert all(isinstance(check.text, Text) and str(check.text).count("{") == 0 for check in checks)
    return {check.name: check for check in checks}


def marks(checks, *names):
    return [checks[name].ok if name in checks else "absent" for name in names]


SERVICE = ("dns", "connect", "credential", "model", "online", "batch")


async def test_the_embedded_service_is_started_and_well(workspace, monkeypatch):
    monkeypatch.setenv(CONTROLS_VARIABLE, "{}")
    data = b"model: {domain: test, password: YOUR_PASSWORD, max_tokens: 10}\n"
    checks = await look(workspace, data)
    assert marks(checks, "config", *SERVICE) == [True] * 7
    assert str(checks["backend"].text).startswith("records go out as batch: test has a Batch API")
    assert marks(checks, "limits", "window", "retention")[1:] == [True, True]
    assert " ms)" in str(checks["connect"].text)
    assert str(checks["window"].text) == "a batch has 24h to complete"


async def test_it_makes_no_call_that_costs(tmp_path, workspace):
    with start_service(tmp_path / "service") as service:
        checks = await look(workspace, config(service.base_url, name="test-model"))
        assert marks(checks, "connect", "credential", "online") == [True] * 3
        assert all(row.billed_in is None and row.billed_out is None for row in service.ledger())


async def test_only_lists_are_asked_for(workspace, serve):
    service = serve({"/v1/models": (200, MODELS), "/v1/batches": (200, PAGE)})
    checks = await look(workspace, config(service.url, "backend: batch"))
    assert marks(checks, *SERVICE) == [True] * 6
    bearer = f"Bearer {KEY}"
    assert service.asked == [("GET", "/v1/models", bearer), ("GET", "/v1/batches", bearer)]
    assert str(checks["model"].text) == "qwen3-32b is among the 2 models of the service"


@pytest.mark.parametrize("backend", ["online", "batch"])
async def test_a_service_without_batches(workspace, serve, backend):
    service = serve({"/v1/models": (200, MODELS)})
    checks = await look(workspace, config(service.url, f"backend: {backend}"))
    wanted = False if backend == "batch" else None
    assert marks(checks, *SERVICE) == [True, True, True, True, True, wanted]
    assert str(checks["batch"].text) == f"there is no Batch API at {service.url}"
    assert str(checks["batch"].hint) == ("write backend: online" if backend == "batch" else "None")


async def test_a_refused_credential(workspace, serve):
    refusal = (401, {"error": {"message": f"Incorrect API key provided: {KEY}", "code": "invalid_api_key"}})
    service = serve({"/v1/models": refusal, "/v1/batches": refusal})
    checks = await look(workspace, config(service.url, "backend: batch"))
    assert marks(checks, *SERVICE) == [True, True, False, None, True, None]
    assert "Incorrect API key" in str(checks["credential"].text)
    assert "model.password" in str(checks["credential"].hint)
    assert [path for _, path, _ in service.asked] == ["/v1/models"]  # a bad key is not tried again


async def test_a_key_that_came_from_its_variable_is_named(workspace, serve, monkeypatch):
    service = serve({"/v1/models": (401, {"error": {"message": "bad key"}})})
    profile = Profile(name="named", hosts=("127.0.0.1",), variable="NAMED_API_KEY")
    monkeypatch.setitem(builtin.PROFILES, "named", profile)
    data = f"model: {{domain: '{service.url}', name: m, max_tokens: 10}}".encode()
    checks = await look(workspace, data, {"NAMED_API_KEY": KEY})
    assert "NAMED_API_KEY" in str(checks["credential"].hint)


@pytest.mark.parametrize(
    ("backend", "credential", "batch"), [("batch", False, False), ("online", True, None)]
)
async def test_a_key_that_is_not_good_for_batches(workspace, serve, backend, credential, batch):
    refusal = (401, {"error": {"message": "batches are not for you"}})
    service = serve({"/v1/models": (200, MODELS), "/v1/batches": refusal})
    checks = await look(workspace, config(service.url, f"backend: {backend}"))
    assert marks(checks, "credential", "batch") == [credential, batch]


async def test_no_credit(workspace, serve):
    spent = (429, {"error": {"message": "You exceeded your current quota", "code": "insufficient_quota"}})
    service = serve({"/v1/models": (200, MODELS), "/v1/batches": spent})
    checks = await look(workspace, config(service.url, "backend: batch"))
    assert marks(checks, "credential", "credit", "batch") == [True, False, None]


async def test_a_service_that_says_nothing_certain(workspace, serve):
    service = serve({"/v1/models": (404, {}), "/v1/batches": (500, {"error": {"message": "oops"}})})
    checks = await look(workspace, config(service.url, "backend: batch"))
    assert marks(checks, "credential", "model", "online", "batch") == [None, None, True, None]
    service = serve({})
    checks = await look(workspace, config(service.url))
    assert marks(checks, "credential", "model", "online", "batch") == [None, None, True, None]


async def test_a_limited_service(workspace, serve):
    limited = (429, {"error": {"message": "slow down"}})
    service = serve({"/v1/models": limited, "/v1/batches": limited})
    checks = await look(workspace, config(service.url))
    assert marks(checks, "credential", "batch") == [None, None]
    assert "later" in str(checks["credential"].hint)


@pytest.mark.parametrize(
    ("name", "whole", "ok", "hint"),
    [
        ("qwen3-32", False, None, 'did you mean "qwen3-32b"?'),
        ("other", False, None, "it may work all the same; test_lines: 1 tries it"),
        ("qwen3-32", True, False, 'did you mean "qwen3-32b"?'),
        ("other", True, False, "check model.name"),
        ("special", True, True, "None"),
    ],
)
async def test_models_that_are_not_listed(workspace, serve, monkeypatch, name, whole, ok, hint):
    service = serve({"/v1/models": (200, MODELS), "/v1/batches": (200, PAGE)})
    if whole:
        api = builtin.BatchApi(model_urls={"special": "/v1/special"})
        profile = Profile(name="vllm", hosts=("127.0.0.1",), keyless=True, batch=api)
        monkeypatch.setitem(builtin.PROFILES, "vllm", profile)
    checks = await look(workspace, config(service.url, name=name))
    assert (checks["model"].ok, str(checks["model"].hint)) == (ok, hint)


async def test_an_ollama_name_without_its_tag(workspace, serve):
    service = serve({"/v1/models": (200, {"data": [{"id": "qwen3:latest"}]})})
    assert (await look(workspace, config(service.url, name="qwen3")))["model"].ok is True


async def test_a_dead_port(workspace, free_port):
    checks = await look(workspace, config(f"http://127.0.0.1:{free_port}/v1"))
    assert marks(checks, *SERVICE) == [True, False, "absent", "absent", "absent", "absent"]
    assert str(checks["connect"].text) == f"no connection to 127.0.0.1:{free_port}: connection refused"
    assert checks["connect"].hint is not None


async def test_a_name_that_is_none(workspace):
    checks = await look(workspace, config("http://no-such-host.invalid/v1"))
    assert marks(checks, *SERVICE) == [False, "absent", "absent", "absent", "absent", "absent"]
    assert "no-such-host.invalid" in str(checks["dns"].text)


async def test_a_dead_proxy_is_told_without_its_password(workspace, free_port):
    proxy = {"http": f"http://me:{KEY}@127.0.0.1:{free_port}"}
    checks = await look(workspace, config("http://service.example/v1"), proxy=proxy)
    assert marks(checks, "dns", "connect") == [True, False]
    assert "proxy" in str(checks["connect"].hint)


async def test_a_proxy_that_lets_nobody_through(workspace, serve):
    proxy = serve({"http://service.example/v1/models": (407, {})})
    checks = await look(workspace, config("http://service.example/v1"), proxy={"http": proxy.url})
    assert marks(checks, "dns", "connect", "credential", "online") == [True, True, None, False]
    address = proxy.url.removeprefix("http://").removesuffix("/v1")
    assert f"the proxy {address}: " in str(checks["online"].text)


async def test_a_service_that_wants_no_key(workspace, serve):
    service = serve({"/v1/models": (200, MODELS)})
    checks = await look(workspace, config(service.url, password="none"))
    assert str(checks["credential"].text).startswith("the service answers without one")


async def test_a_profile_whose_batches_cannot_be_spoken(workspace, serve, monkeypatch):
    service = serve({"/v1/models": (200, MODELS)})
    for later, words in ((True, "cannot speak"), (False, "no Batch API is known")):
        profile = Profile(name="odd", hosts=("127.0.0.1",), keyless=True, batch_later=later)
        monkeypatch.setitem(builtin.PROFILES, "odd", profile)
        checks = await look(workspace, config(service.url))
        assert checks["batch"].ok is None
        assert words in str(checks["batch"].text)


async def test_online_limits_and_notes(workspace, serve):
    service = serve({"/v1/models": (200, MODELS)})
    extra = "backend: online\nlimits: {rpm: 9, max_concurrency: 5}\nbatch: {settle: 9}"
    checks = await look(workspace, config(service.url, extra))
    assert str(checks["limits"].text) == "at most 5 calls at a time, and 9 a minute"
    assert "batch has no effect" in str(checks["config"].text)


async def test_the_caps_of_batches(workspace, serve):
    service = serve({"/v1/models": (200, MODELS), "/v1/batches": (200, PAGE)})
    sent = Submission(config(service.url, "backend: batch"), "/x/config.yaml", {}, {})
    checks = await examine(Workspace(workspace), SystemClock(), sent)
    assert [check.ok for check in checks if check.name == "limits"] == [True, True, None]
    extra = "backend: batch\nlimits: {enqueued_tokens: 7}\nbatch: {max_requests: 8, max_bytes: 1500KB}"
    sent = sent._replace(config=config(service.url, extra))
    checks = await examine(Workspace(workspace), SystemClock(), sent)
    assert [str(check.text) for check in checks if check.name == "limits"] == [
        "a batch has at most 8 requests and 1.5 MB, a line at most 1500 KB",
        "at most 100 batches at a time",
        "at most 7 input tokens in all batches",
    ]


async def test_a_config_with_problems_tells_them_all(workspace):
    data = b"model: {domain: openai, nam: x}\nbackend: bath\n"
    sent = Submission(data, "/x/config.yaml", {}, {})
    checks = [c for c in await examine(Workspace(workspace), SystemClock(), sent) if c.name == "config"]
    assert len(checks) >= 3
    assert all(check.ok is False and str(check.text).startswith("config.yaml:") for check in checks)


async def test_a_variable_that_is_not_set(workspace):
    checks = await look(workspace, config("openai", password="${MY_KEY}"))
    assert checks["config"].ok is False
    assert "MY_KEY" in str(checks["config"].text)
    assert "dns" not in checks


async def test_a_test_service_that_does_not_start(workspace):
    (workspace / ".testservice").write_text("in the way")
    checks = await look(workspace, b"model: {domain: test, password: x, max_tokens: 10}\n")
    assert checks["test_service"].ok is False


def own(workspace):
    """The workspace as its daemon leaves it: its beacon and its lock."""
    place = Workspace(workspace)
    lock = locks.acquire(place.lock)
    beacon.write(place.beacon, beacon.of_this_process("unix:/x", "s", (1, 1), "0"))
    return place, lock


async def test_without_a_config_only_the_machine_is_looked_at(workspace):
    place, lock = own(workspace)
    checks = await examine(place, SystemClock(), None)
    lock.release()
    assert [check.name for check in checks] == [
        "python", "disk", "file_system", "open_files", "sqlite", "lock",
    ]  # fmt: skip
    assert all(check.ok is not False for check in checks)
    assert sqlite3.sqlite_version in str(checks[4].text)
    assert sorted(path.name for path in workspace.iterdir()) == [".daemon.json", ".daemon.lock"]


def test_a_daemon_without_its_files(workspace):
    check = {check.name: check for check in machine.environment(Workspace(workspace))}["lock"]
    assert check.ok is False
    assert check.hint is not None


def test_locks_that_do_not_lock(workspace, monkeypatch):
    held = SimpleNamespace(release=lambda: None)
    monkeypatch.setattr(machine.locks, "acquire", lambda _path: held)
    assert machine.lock(Workspace(workspace), workspace).ok is False

    def refuse(_path):
        raise OSError(38, "Function not implemented")

    monkeypatch.setattr(machine.locks, "acquire", refuse)
    check = machine.lock(Workspace(workspace), workspace)
    assert str(check.text) == "files cannot be locked here: Function not implemented"


def test_a_workspace_that_cannot_be_written(workspace, monkeypatch):
    def refuse(*_args, **_options):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(machine.tempfile, "mkdtemp", refuse)
    checks = {check.name: check for check in machine.environment(Workspace(workspace))}
    assert checks["workspace"].ok is False
    assert "sqlite" not in checks


def test_a_full_disk_and_a_network_file_system(workspace, monkeypatch):
    monkeypatch.setattr(machine, "free_bytes", lambda _path: 5_000_000)
    assert machine.disk(workspace).ok is False
    monkeypatch.setattr(machine, "network_warning", lambda _path: Text("on nfs"))
    assert machine.network_file_system(workspace).ok is None


def test_few_open_files(monkeypatch):
    import resource

    monkeypatch.setattr(resource, "getrlimit", lambda _which: (256, 256))
    check = machine.open_files()
    assert check.ok is False
    assert "ulimit -n" in str(check.hint)


def test_sqlite_that_cannot_write(workspace):
    (workspace / "try.db").mkdir()
    assert machine.sqlite(workspace).ok is False


def test_what_looks_like_a_secret_is_hidden():
    text = Text(
        "{a}: {b}", {"a": "the key is hunter2!", "b": Text("{c}", {"c": "sk-abcdefghijklmnop"}), "n": 3}
    )
    assert str(without(text, ["hunter2!"])) == "the key is ***: ***"


async def test_the_request(workspace, serve):
    place, lock = own(workspace)
    app = SimpleNamespace(
        context=SimpleNamespace(workspace=place, clock=SystemClock()), stopping=False, draining=False
    )
    answer = await doctor.handle(app, {}, None)
    assert answer["ok"] is True
    assert set(answer["checks"][0]) == {"name", "ok", "text", "hint"}
    service = serve({"/v1/models": (401, {})})
    params = {
        "config": base64.b64encode(config(service.url)).decode(),
        "config_path": os.fspath(workspace / "config.yaml"),
        "env": {},
        "proxy": {},
    }
    answer = await doctor.handle(app, params, None)
    lock.release()
    assert answer["ok"] is False
    assert [check["name"] for check in answer["checks"] if check["ok"] is False] == ["credential"]
    assert rpc.DOCTOR in handlers(app)


def test_a_check_on_the_wire():
    check = Check("disk", None, Text("a"), Text("b"))
    assert check.to_wire() == {
        "name": "disk",
        "ok": None,
        "text": {"msgid": "a", "params": {}},
        "hint": {"msgid": "b", "params": {}},
    }
