"""Every key that a config may have, with its kind and bounds."""

from __future__ import annotations

from batch_inferd.config.kinds import Boolean, Choice, Number, String
from batch_inferd.config.mappings import Body, Headers
from batch_inferd.config.quantities import Duration, Size, Window
from batch_inferd.config.schema import BACKENDS, DURABILITIES, FALLBACKS, LEVELS, MODES
from batch_inferd.config.sections import Section

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
_INPUT = Section({"max_line_bytes": Size(1024, 2**30)}, _HOMES)
_OUTPUT = Section({"durability": Choice(DURABILITIES)}, _HOMES)
_LOGGING = Section({"level": Choice(LEVELS), "keep_days": Number(1, 3650, "30", whole=True)}, _HOMES)
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
        "output": _OUTPUT,
        "logging": _LOGGING,
        "daemon": _DAEMON,
    },
    _HOMES,
)
_HOMES.update(CONFIG.places())
