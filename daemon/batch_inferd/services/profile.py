"""The shape of a service profile: what is known of a service, as data."""

from __future__ import annotations

from typing import Literal

import msgspec

from batch_inferd.backends.batch.api import BatchApi  # noqa: TC001  msgspec reads it when it converts

Auth = Literal["bearer", "api-key", "none"]
Thinking = Literal["field", "template", "type", "reasoning", "effort", "omit"]

AUTHS: tuple[Auth, ...] = ("bearer", "api-key", "none")
THINKINGS: tuple[Thinking, ...] = ("field", "template", "type", "reasoning", "effort", "omit")

CHAT = {"chat": "/chat/completions"}
CHAT_EMBEDDINGS = CHAT | {"embeddings": "/embeddings"}
ALL_PATHS = CHAT_EMBEDDINGS | {"responses": "/responses"}

ONLINE_AND_BATCH = ("online", "batch")

CREDIT_CODES = (
    "insufficient_quota",
    "insufficient_balance",
    "billing_hard_limit_reached",
    "billing_not_active",
)


class Profile(msgspec.Struct, frozen=True, kw_only=True):
    """One service. Strings of `base_url` may hold `${NAME}`.

    `credit_codes` and `model_codes`: an entry is compared with an error's code and type; one with a
    blank, or with letters beyond ASCII, is looked for in its message. Case does not matter.
    """

    name: str
    base_url: str = ""  # no trailing slash; empty for the embedded test service
    default_path: str = ""  # added to a base URL that has no path
    hosts: tuple[str, ...] = ()  # base URLs on these hosts get this profile; ".x" stands for all below x
    auth: Auth = "bearer"
    variable: str | None = None  # the usual environment variable of the password
    keyless: bool = False  # works without a password
    embedded: bool = False  # batch_infer's own test service
    model: str | None = None  # the default model
    backends: tuple[str, ...] = ("online",)  # what `backend: auto` may choose; empty: not callable yet
    batch: BatchApi | None = None  # its Batch API, as far as this version speaks it
    batch_later: bool = False  # it has a Batch API that this version cannot speak
    paths: dict[str, str] = msgspec.field(default_factory=ALL_PATHS.copy)  # endpoint -> path below base_url
    thinking: Thinking = "field"  # how enable_thinking is sent, see `parameters`
    rename: dict[str, str] = {}  # body field -> the service's name for it
    omit: tuple[str, ...] = ()  # body fields that the service refuses
    omit_empty: tuple[str, ...] = ()  # body fields that it refuses as an empty list
    credit_codes: tuple[str, ...] = CREDIT_CODES
    model_codes: tuple[str, ...] = ("model_not_found",)
    max_concurrency: int | None = None  # None: the config's default
    prices: str | None = None  # the service's name in genai-prices; None: it is found by its address
