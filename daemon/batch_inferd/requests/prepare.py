"""`prepare`: an input as one file of requests, images and all. Makes no task, and sends nothing."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from batch_infer.protocol.errors import InputError, ProtocolError, UsageError
from batch_infer.protocol.shapes import AUTO, SHAPES
from batch_infer.protocol.text import Text
from batch_inferd.backends.body import BodyBuilder
from batch_inferd.backends.plan import RequestPlan, Retry, Timeouts
from batch_inferd.config.expand import expand, names_in
from batch_inferd.config.load import parse_config
from batch_inferd.config.problems import problem_at
from batch_inferd.intake import prepare as preparing
from batch_inferd.intake.choose import describe, found_note, from_config
from batch_inferd.intake.shapes import Bedrock, OpenAI, Shaper, plain, shape_of
from batch_inferd.intake.spool import unreadable
from batch_inferd.requests.long import Progress, run_long
from batch_inferd.requests.params import string, submission
from batch_inferd.services.images import image_plan
from batch_inferd.services.parameters import ALWAYS_OMITTED, map_parameters
from batch_inferd.services.profiles import find_profile
from batch_inferd.services.resolve import SOURCE_FIELDS
from batch_inferd.sources.done import done_ids
from batch_inferd.sources.open import open_source
from batch_inferd.tasks import storage

if TYPE_CHECKING:
    import threading

    from batch_inferd.app import App
    from batch_inferd.config.schema import Config
    from batch_inferd.images.plan import ImagePlan
    from batch_inferd.server.peer import Peer
    from batch_inferd.services.profile import Profile
    from batch_inferd.sources.spec import Source, SourceSpec
    from batch_inferd.tasks.submitting import Submission

# What stands in for a config where none was sent: then only what was given goes into the requests.
_NO_CONFIG = b"model: {domain: test, password: none, max_tokens: 1024}\n"


async def handle(app: App, params: dict[str, Any], peer: Peer) -> dict[str, Any]:
    """`{path, errors, shape, count, failed, skipped, bytes, this_time, notes, warnings}`; pushes `working`.

    `this_time` is `{seconds, records, bytes, records_per_s, bytes_per_s}` of what this request wrote: an
    earlier one may have begun the file.

    Needs `source` (an absolute path, `s3://bucket/prefix`, or `topics`), `out` (an absolute path), `shape`
    (`openai`, `bedrock`, `plain`, or `auto`: what the model wants); `config` and what goes with it may be
    left out, then `config_path` says from which folder relative paths count. `overrides` are keys of the
    config: `model.name`, `input.prompt`, `input.system` … Interrupted, the same request goes on where it
    was. Raises ConfigError, InputError, UsageError.
    """
    bare = params.get("config") is None
    if bare:
        params = {"config_path": "", **params, "config": ""}
    sent = submission(params, string(params, "source"))
    shape, out = string(params, "shape", AUTO), string(params, "out")
    if shape not in (AUTO, *SHAPES):
        words = {"name": "shape", "allowed": ", ".join(SHAPES)}
        raise UsageError(Text("{name} must be one of {allowed}", words))
    if not os.path.isabs(out):
        raise ProtocolError(Text("the parameter {name} must be an absolute path", {"name": "out"}))

    def work(progress: Progress, stop: threading.Event) -> dict[str, Any]:
        space = app.context.workspace
        taken = tuple(os.path.realpath(folder) + os.sep for folder in (space.chunks, space.merged))
        if os.path.realpath(out).startswith(taken):  # it would go away with a task
            raise UsageError(
                Text("{path} lies among the files of the tasks; name another file", {"path": out})
            )
        return _Work(sent, bare, shape, Path(out), str(space.root)).run(progress, stop)

    return await run_long(app, peer, work)


class _Work:
    """What runs in the thread."""

    def __init__(self, sent: Submission, bare: bool, shape: str, out: Path, owner: str) -> None:
        self._sent = sent
        self._bare = bare
        self._shape = shape
        self._out = out
        self._owner = owner
        data = _NO_CONFIG if bare else sent.config
        self._config: Config = parse_config(data, sent.config_path, sent.settings, sent.overrides)

    def run(self, progress: Progress, stop: threading.Event) -> dict[str, Any]:
        config, sent = self._config, self._sent
        base = os.path.dirname(sent.config_path)
        key = self._expand("model.messages_key", config.model.messages_key)
        spec = describe(sent.input, config.input, key, base)
        s3 = storage.access_of(config, sent) if storage.needed(config, spec) else None
        if s3 is not None:
            storage.hide(s3)
        images = image_plan(config.images, s3)
        shaper, made_of = self._shaper(key, images)
        made_of["images"] = msgspec.to_builtins(msgspec.structs.replace(images, s3=None))
        warnings: list[Text] = []
        done = from_config(config.input.done, base)
        try:
            source = open_source(spec, s3, config.input.max_line_bytes)
            made_of |= self._source_of(spec, source) | {"done": done}
            made_of["endpoint"] = s3.endpoint if s3 is not None else None
            ids: Any = frozenset()
            if done is not None:
                ids, warnings = done_ids(done)
            progress.total = source.count()
        except OSError as error:
            raise unreadable(error) from error

        def tell(now: preparing.Prepared) -> None:
            progress.done = now.lines + now.failed + now.skipped

        made = self._prepare(source, shaper, made_of, ids, stop, tell)
        errors, _ = preparing.names(self._out)
        return {
            "path": str(self._out),
            "errors": str(self._out.with_name(errors)) if made.failed else None,
            "shape": self._shape,
            "count": made.lines,
            "failed": made.failed,
            "skipped": made.skipped,
            "bytes": made.size,
            "this_time": _pace(made),
            "notes": [note.to_wire() for note in found_note(sent.input, spec)],
            "warnings": [warning.to_wire() for warning in warnings],
        }

    def _source_of(self, spec: SourceSpec, source: Source) -> dict[str, Any]:
        """What identifies the records. Files may come and go in a folder: it goes on behind the last one."""
        if self._sent.stdin is not None:
            spec = msgspec.structs.replace(spec, path="-")
            return {"spec": msgspec.to_builtins(spec), "pin": self._sent.stdin}
        pinned = {} if spec.kind == "folder" else source.pin()
        return {"spec": msgspec.to_builtins(spec), "pin": pinned}

    def _prepare(
        self, source: Source, shaper: Shaper, made_of: dict[str, Any], done: Any, stop: Any, tell: Any
    ) -> preparing.Prepared:
        try:
            return preparing.prepare(
                source,
                self._out,
                shaper,
                made_of=made_of,
                owner=self._owner,
                done=done,
                stop=stop.is_set,
                tell=tell,
            )
        except OSError as error:
            raise InputError(
                Text("{path} cannot be written: {reason}", {"path": str(self._out), "reason": str(error)}),
                hints=(Text("what is written stays; the same command goes on with it"),),
            ) from error

    def _shaper(self, key: str, images: ImagePlan) -> tuple[Shaper, dict[str, Any]]:
        """What makes the lines, and what of the config is in them."""
        profile, name = self._service()
        if self._shape == AUTO:
            self._shape = shape_of(name or "")
        made_of: dict[str, Any] = {"shape": self._shape, "messages_key": key}
        model = self._config.model
        if self._shape == "plain":
            return plain, made_of
        if self._shape == "bedrock":
            fields: dict[str, Any] = {"max_tokens": model.max_tokens}
            if model.temperature is not None:
                fields["temperature"] = model.temperature
            fields |= model.extra_body
            return Bedrock(key, fields, images), made_of | {"fields": fields}
        if self._bare:
            defaults = {"chat": {"model": name} if name else {}}
        else:
            defaults = map_parameters(model, name or "", profile, profile.name).defaults
        plan = _plan(key, profile, defaults, self._config.input.max_line_bytes)
        return OpenAI(BodyBuilder(plan), images), made_of | {"fields": defaults, "omit": plan.omit}

    def _service(self) -> tuple[Profile, str | None]:
        """The config's service, and the model's name."""
        model = self._config.model
        domain = self._expand("model.domain", model.domain)
        profile = find_profile(domain.strip(), self._config.source)
        if model.name is not None:
            return profile, self._expand("model.name", model.name)
        return profile, None if self._bare else profile.model

    def _expand(self, key: str, text: str) -> str:
        for name in names_in(text):
            if not self._sent.env.get(name):
                missing = Text(
                    "the variable {name} is not set; set it in this shell or in .env: {name}=…",
                    {"name": name},
                )
                raise problem_at(self._config.source, key, missing)
        return expand(text, self._sent.env)


def _pace(made: preparing.Prepared) -> dict[str, Any]:
    """How long the writing took, and how fast it was."""
    seconds = max(made.seconds, 1e-6)
    return {
        "seconds": round(made.seconds, 3),
        "records": made.new_lines,
        "bytes": made.new_bytes,
        "records_per_s": round(made.new_lines / seconds, 1),
        "bytes_per_s": round(made.new_bytes / seconds),
    }


def _plan(
    key: str, profile: Profile, defaults: dict[str, dict[str, Any]], max_line_bytes: int
) -> RequestPlan:
    """What bodies are built with: nothing is sent by it."""
    return RequestPlan(
        task="",
        version=0,
        account="",
        base_url="",
        paths=dict(profile.paths),
        query={},
        headers={},
        proxy=None,
        defaults=defaults,
        messages_key=key,
        omit=[*ALWAYS_OMITTED, *profile.omit, *SOURCE_FIELDS],
        rename=dict(profile.rename),
        batch_id="",
        credit_codes=[],
        model_codes=[],
        timeouts=Timeouts(),
        retry=Retry(),
        max_line_bytes=max_line_bytes,
        max_response_bytes=0,
        durability="normal",
    )
