"""Every key that a config may have, with its kind and bounds."""

from __future__ import annotations

from batch_infer.protocol.exports import FORMATS as EXPORTS
from batch_inferd.config.budgets import budget_section
from batch_inferd.config.kinds import Boolean, Choice, Choices, Number, String
from batch_inferd.config.mappings import Body, Headers
from batch_inferd.config.quantities import Duration, Size, Window
from batch_inferd.config.schema import BACKENDS, DURABILITIES, FALLBACKS, FORMATS, LEVELS, LOG_FORMATS, MODES
from batch_inferd.config.sections import Section
from batch_inferd.config.texts import Character, Encoding, Paragraphs, Strings
from batch_inferd.images.pixels import PIXELS_MAX
from batch_inferd.images.plan import FORMATS as PICTURES

_DAY = 86_400.0

_HOMES: dict[str, str] = {}  # filled below, once all sections are there

_MODEL = Section(
    {
        "domain": String(references=True),
        "name": String(references=True),
        "password": String(secret=True, references=True),
        "max_tokens": Number(1, 10_000_000, "16384", whole=True),
        "messages_key": String(references=True),
        "temperature": Number(0, 2, "0.6"),
        "enable_thinking": Boolean(),
        "extra_body": Body(),
        "headers": Headers(),
    },
    _HOMES,
)
_TIMEOUT = Section(
    {"connect": Duration(0.1, 600), "read": Duration(0.1, _DAY), "total": Duration(0.1, 7 * _DAY)},
    _HOMES,
)
_EXECUTION = Section(
    {
        "mode": Choice(MODES),
        "processes": Number(1, 64, "1", whole=True),
        "concurrency": Number(1, 65_536, "64", whole=True),
        "timeout": _TIMEOUT,
    },
    _HOMES,
)
_LIMITS = Section(
    {
        "rpm": Number(1, 10**9, "600", whole=True),
        "tpm": Number(1, 10**12, "1000000", whole=True),
        "max_concurrency": Number(1, 65_536, "1024", whole=True),
        "bytes_in_flight": Size(64 * 1024, 2**40),
        "max_batches": Number(1, 100_000, "100", whole=True),
        "enqueued_tokens": Number(1, 10**15, "2000000", whole=True),
    },
    _HOMES,
)

# YAML 1.1 writers turn off into false.
_OFF = dict.fromkeys(("Off", "OFF", "false", "False", "FALSE"), "off")

_POLL = Section({"first": Duration(0.01, _DAY), "max": Duration(0.01, _DAY)}, _HOMES)
_BATCH = Section(
    {
        "completion_window": Window(1, 90 * 24),
        "fallback": Choice(FALLBACKS, _OFF, "online"),
        "deadline": Duration(0.1, 90 * _DAY),
        "cancel_wait": Duration(0, _DAY),
        "settle": Duration(0.1, _DAY),
        "poll": _POLL,
        "max_requests": Number(1, 10_000_000, "50000", whole=True),
        "max_bytes": Size(1024, 2**40),
        "max_line_bytes": Size(1024, 2**30),
    },
    _HOMES,
)
_S3 = Section(
    {
        "endpoint": String(references=True),
        "region": String(references=True),
        "access_key_id": String(secret=True, references=True),
        "secret_access_key": String(secret=True, references=True),
        "session_token": String(secret=True, references=True),
        "anonymous": Boolean(),
    },
    _HOMES,
)
_INPUT = Section(
    {
        "max_line_bytes": Size(1024, 2**30),
        "format": Choice(FORMATS),
        "prompt": Paragraphs(),
        "system": Paragraphs(),
        "id_column": String(),
        "image_columns": Strings(),
        "image_folder": String(),
        "encoding": Encoding(),
        "delimiter": Character(),
        "topics": Strings(),
        "topics_file": String(),
        "iterations": Number(1, 1_000_000, "3", whole=True),
        "start_row": Number(0, 10**12, "0", whole=True),
        "end_row": Number(0, 10**12, "500", whole=True),
        "patterns": Strings(),
        "done": String(),
        "s3": _S3,
    },
    _HOMES,
)
_IMAGES = Section(
    {
        "formats": Choices(PICTURES),
        "max_bytes": Size(1024, 2**30),
        "max_pixels": Number(1, PIXELS_MAX, "50000000", whole=True),
        "max_side": Number(16, 65_535, "2048", whole=True),
        "fetch_urls": Boolean(),
    },
    _HOMES,
)
_OUTPUT = Section(
    {"durability": Choice(DURABILITIES), "formats": Choices(tuple(EXPORTS)), "schema": String()}, _HOMES
)
_PRICES = Section(
    {
        "input": Number(0, 10**9, "2.5"),
        "output": Number(0, 10**9, "10"),
        "cached_input": Number(0, 10**9, "1.25"),
        "batch_discount": Number(0, 1, "0.5"),
        "currency": String(),
    },
    _HOMES,
)
_LOGGING = Section(
    {
        "level": Choice(LEVELS),
        "keep_days": Number(1, 3650, "30", whole=True),
        "dir": String(),
        "format": Choice(LOG_FORMATS),
    },
    _HOMES,
)
_DAEMON = Section({"idle_exit": Duration(0.1, 30 * _DAY)}, _HOMES)

CONFIG = Section(
    {
        "model": _MODEL,
        "test_lines": Number(0, 10**12, "0", whole=True),
        "lines_per_chunk": Number(1, 100_000, "200", whole=True),
        "max_retry_count": Number(0, 100, "3", whole=True),
        "backend": Choice(BACKENDS),
        "priority": Number(-5, 5, "0", whole=True),
        "execution": _EXECUTION,
        "limits": _LIMITS,
        "batch": _BATCH,
        "input": _INPUT,
        "images": _IMAGES,
        "output": _OUTPUT,
        "prices": _PRICES,
        "budget": budget_section(_HOMES),
        "logging": _LOGGING,
        "daemon": _DAEMON,
    },
    _HOMES,
)
_HOMES.update(CONFIG.places())
