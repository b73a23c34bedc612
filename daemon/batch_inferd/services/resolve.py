"""A config and the submitting shell's environment, resolved to what requests are made with."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import msgspec

from batch_infer.protocol.errors import ConfigError
from batch_infer.protocol.text import Text
from batch_inferd.backends.plan import BatchPlan, RequestPlan, Retry, Timeouts
from batch_inferd.config.check import STILL_PLACEHOLDER, not_ascii, unnamed
from batch_inferd.config.expand import expand, names_in
from batch_inferd.config.load import EMPTY
from batch_inferd.config.problems import Problems
from batch_inferd.services.batch_settings import (
    batch_problems,
    choose_backend,
    settings_notes,
    settings_warnings,
    window_of,
    with_settings,
)
from batch_inferd.services.credentials import NO_PASSWORD, PLACEHOLDER, Credential, header_safe
from batch_inferd.services.images import image_notes, image_plan
from batch_inferd.services.parameters import ALWAYS_OMITTED, Mapped, map_parameters
from batch_inferd.services.profiles import Profile, find_profile
from batch_inferd.services.proxies import ProxyError, has_password, proxy_for
from batch_inferd.services.urls import BaseUrl, UrlError, parse_url

if TYPE_CHECKING:
    from collections.abc import Mapping

    from batch_inferd.backends.batch.api import BatchApi
    from batch_inferd.config.schema import Config
    from batch_inferd.images.plan import ImagePlan
    from batch_inferd.sources.s3 import S3Access

SOURCE_FIELDS = ("$source",)  # what a record was made of is never sent
# An answer of more bytes is a failure: nothing that a model writes comes near.
MAX_RESPONSE_BYTES = 64 * 2**20


@dataclass(frozen=True, kw_only=True, repr=False)
class Resolved:
    """Everything that a task's requests need. It holds secrets: never log or store it, see `snapshot`.

    `service` names the service for people, for the task's identity and for the account: the base URL,
    or "test" for the embedded service, whose port may change. `backend` is "batch" or "online"; `batch`
    and `window`, with the config's settings in them, are there for "batch" only.
    """

    config: Config
    profile: Profile
    service: str
    base_url: str
    query: dict[str, str]
    model: str
    messages_key: str
    backend: str
    backend_reason: Text
    credential: Credential
    proxy: str | None
    max_concurrency: int
    batch: BatchApi | None = None
    window: str | None = None
    from_source: bool = False  # its lines were made of something else, and say of what
    s3: S3Access | None = None  # for images in object storage
    notes: tuple[Text, ...] = ()
    warnings: tuple[Text, ...] = ()

    def __repr__(self) -> str:
        return f"Resolved(service={self.service!r}, model={self.model!r}, …)"


def resolve(
    config: Config, env: Mapping[str, str], proxy: Mapping[str, str], *, test_base_url: str | None
) -> Resolved:
    """Put the variables' values in and decide what the service needs.

    `env` has the variables that `variables(config)` names, as far as the shell has them; `proxy` the
    shell's `http`, `https`, `all`, `no`; `test_base_url` is where the embedded service listens (needed
    for domain test only).

    Raises ConfigError with all problems, at their places in the config: variables that are not set, an
    unknown service, no password, a proxy that cannot be used.
    """
    return _Resolver(config, env).resolve(proxy, test_base_url)


def wants_test_service(config: Config, env: Mapping[str, str]) -> bool:
    """Whether `resolve` will need `test_base_url`: the domain, with its variables, is the embedded service.

    Raises ConfigError for a domain that names no service.
    """
    names = names_in(config.model.domain)
    if any(not env.get(name) for name in names):
        return False  # `resolve` tells that it is missing
    return find_profile(expand(config.model.domain, env).strip(), config.source).embedded


class _Resolver:
    def __init__(self, config: Config, env: Mapping[str, str]) -> None:
        self._config = config
        self._env = env
        self._problems = Problems(config.source.file)
        self._warnings: list[Text] = []

    def resolve(self, proxy: Mapping[str, str], test_base_url: str | None) -> Resolved:
        model = self._config.model
        domain = self._expand("model.domain", model.domain)
        profile = self._profile(domain)
        url = self._base_url(profile, test_base_url)
        name = self._name(profile)
        messages_key = self._expand("model.messages_key", model.messages_key)
        credential = self._credential(profile)
        through = self._proxy(url, proxy)
        self._check_batch(profile)
        if self._problems or profile is None or url is None or name is None or messages_key is None:
            raise self._problems.error()
        service = profile.name if profile.embedded else url.url
        mapped = map_parameters(model, name, profile, service)
        if through and has_password(through):
            credential = msgspec.structs.replace(credential, proxy=through)
        backend, reason = choose_backend(self._config.backend, profile, service)
        batch, window = self._batch(profile) if backend == "batch" else (None, None)
        return Resolved(
            config=self._config,
            profile=profile,
            service=service,
            base_url=url.url,
            query=url.query,
            model=name,
            messages_key=messages_key,
            backend=backend,
            backend_reason=reason,
            credential=credential,
            proxy=through,
            max_concurrency=self._max_concurrency(profile),
            batch=batch,
            window=window,
            notes=(*mapped.notes, *settings_notes(self._config, backend), *image_notes(self._config.images)),
            warnings=tuple(self._warnings),
        )

    def _problem(self, key: str, problem: Text) -> None:
        self._problems.add(self._config.source.position(key), problem)

    def _expand(self, key: str, text: str) -> str | None:
        """The text with its variables; None when one is missing, which is noted."""
        missing = [name for name in names_in(text) if not self._env.get(name)]
        for name in missing:
            self._problem(key, _not_set(name, empty=name in self._env))
        return None if missing else expand(text, self._env)

    def _name(self, profile: Profile | None) -> str | None:
        if self._config.model.name is not None:
            return self._expand("model.name", self._config.model.name)
        if profile is not None and profile.model is None:
            self._problem("model", unnamed(profile))
        return profile.model if profile else None

    def _profile(self, domain: str | None) -> Profile | None:
        if domain is None:
            return None
        try:
            return find_profile(domain.strip(), self._config.source)
        except ConfigError as error:
            self._problems.adopt(self._config.source.position("model.domain"), error)
            return None

    def _base_url(self, profile: Profile | None, test_base_url: str | None) -> BaseUrl | None:
        if profile is None:
            return None
        if profile.embedded:
            if test_base_url is None:
                raise ValueError("the test service's address is needed for domain test")
            return parse_url(test_base_url)
        text = self._expand("model.domain", profile.base_url)
        if text is None:
            return None
        try:
            url = parse_url(text.strip(), profile.default_path)
        except UrlError as error:
            self._problem("model.domain", error.text)
            return None
        if not url.path:
            bare = Text("the base URL {url} has no path such as /v1; is it complete?", {"url": url.url})
            self._warnings.append(bare)
        return url

    def _credential(self, profile: Profile | None) -> Credential:
        model = self._config.model
        headers: dict[str, str] = {}
        for name, value in model.headers.items():
            key = f"model.headers.{name}"
            resolved = self._expand(key, value)
            if resolved is not None and not header_safe(resolved.strip()):
                self._problem(key, not_ascii(f"headers.{name}"))
            headers[name] = (resolved or "").strip()
        return Credential(self._password(profile), headers)

    def _password(self, profile: Profile | None) -> str | None:
        text = self._config.model.password
        if text is None:
            if profile is None or profile.keyless:
                return None
            if profile.variable is None:
                self._problem("model.password", EMPTY["password"])
                return None
            text = f"${{{profile.variable}}}"
        if text.lower() == NO_PASSWORD:
            return None
        password = self._expand("model.password", text)
        if password is None:
            return None
        password = password.strip()
        if password == PLACEHOLDER and profile and not profile.embedded:
            self._problem("model.password", STILL_PLACEHOLDER)
        elif not header_safe(password):
            self._problem("model.password", not_ascii("password"))
        return password

    def _proxy(self, url: BaseUrl | None, proxy: Mapping[str, str]) -> str | None:
        if url is None:
            return None
        try:
            return proxy_for(url.url, proxy)
        except ProxyError as error:
            self._problem("model.domain", error.text)
            return None

    def _check_batch(self, profile: Profile | None) -> None:
        if profile is None:
            return
        config = self._config
        wanted = (config.batch.completion_window, config.batch.max_requests)
        for key, problem in batch_problems(config.backend, profile, *wanted):
            self._problem(key, problem)

    def _batch(self, profile: Profile) -> tuple[BatchApi, str]:
        """The Batch API and the completion window; `profile` was checked for them."""
        assert profile.batch is not None  # noqa: S101  `batch_problems` tells of it
        self._warnings += settings_warnings(self._config, profile.batch, profile.name)
        settings = self._config.batch
        api = with_settings(profile.batch, settings, self._config.limits)
        return api, window_of(settings, profile.batch)

    def _max_concurrency(self, profile: Profile) -> int:
        limits, execution = self._config.limits, self._config.execution
        source = self._config.source
        most = limits.max_concurrency
        if profile.max_concurrency is not None and not source.has("limits.max_concurrency"):
            most = profile.max_concurrency
        if source.has("execution.concurrency") and execution.concurrency > most:
            params = {"wanted": execution.concurrency, "most": most}
            capped = Text(
                "execution.concurrency {wanted} is above limits.max_concurrency {most}, which holds", params
            )
            self._warnings.append(capped)
        return most


def build_plan(
    resolved: Resolved, *, task_uuid: str, version: int, account: str, batch_id: str, title: str = ""
) -> RequestPlan:
    """What a worker needs for a task's records, with the secrets in its headers.

    `title` names the task in the service's own list of batches.
    """
    config, profile = resolved.config, resolved.profile
    timeout = config.execution.timeout
    return RequestPlan(
        task=task_uuid,
        version=version,
        account=account,
        base_url=resolved.base_url,
        paths=dict(profile.paths),
        query=dict(resolved.query),
        headers=_headers(profile, resolved.credential),
        proxy=resolved.proxy,
        defaults=_mapped(resolved).defaults,
        messages_key=resolved.messages_key,
        omit=[*ALWAYS_OMITTED, *profile.omit, *(SOURCE_FIELDS if resolved.from_source else ())],
        rename=dict(profile.rename),
        batch_id=batch_id,
        credit_codes=list(profile.credit_codes),
        model_codes=list(profile.model_codes),
        timeouts=Timeouts(timeout.connect, timeout.read, timeout.total),
        retry=Retry(config.max_retry_count),
        max_line_bytes=config.input.max_line_bytes,
        max_response_bytes=MAX_RESPONSE_BYTES,
        durability=config.output.durability,
        batch=_batch_plan(resolved, title),
        images=image_plan_of(resolved),
        priority=config.priority,
    )


def image_plan_of(resolved: Resolved) -> ImagePlan | None:
    """A JSON Lines file's references of images are sent as they stand, unless the config has the section."""
    settings = resolved.config.images
    if settings is None and not resolved.from_source:
        return None
    return image_plan(settings, resolved.s3)


def _batch_plan(resolved: Resolved, title: str) -> BatchPlan | None:
    if resolved.batch is None or resolved.window is None:
        return None
    return BatchPlan(resolved.batch, resolved.window, title)


def _mapped(resolved: Resolved) -> Mapped:
    return map_parameters(resolved.config.model, resolved.model, resolved.profile, resolved.service)


def _headers(profile: Profile, credential: Credential) -> dict[str, str]:
    """The authorization and the config's own headers, which win."""
    headers: dict[str, str] = {}
    own = {name.lower() for name in credential.headers}
    password = credential.password
    if password is None and profile.embedded:
        password = NO_PASSWORD  # it behaves like a service with keys, and takes any word for one
    if password and profile.auth == "bearer" and "authorization" not in own:
        headers["Authorization"] = f"Bearer {password}"
    if password and profile.auth == "api-key" and "api-key" not in own:
        headers["api-key"] = password
    return headers | credential.headers


def _not_set(name: str, *, empty: bool) -> Text:
    params = {"name": name}
    if empty:
        return Text("the variable {name} is empty; set it in this shell or in .env: {name}=…", params)
    return Text("the variable {name} is not set; set it in this shell or in .env: {name}=…", params)
