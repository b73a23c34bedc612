"""Changing an unfinished task's settings: durable when it returns, and in effect at once.

Nothing is sent again for it: chunks stay where they are, and only calls that begin later go by the new
settings. Workers that are too many end when their calls have.
"""

from __future__ import annotations

import asyncio
import dataclasses
from typing import TYPE_CHECKING, Any

import msgspec

from batch_infer.protocol.errors import ConfigError
from batch_infer.protocol.text import Text
from batch_inferd.config.schema import Budget, Execution, Limits, Logging
from batch_inferd.config.settings import differences, read_settings, with_settings
from batch_inferd.logs.folder import log_folder
from batch_inferd.seams.failpoint import failpoint
from batch_inferd.tasks import folder, opening

if TYPE_CHECKING:
    from collections.abc import Mapping

    from batch_inferd.tasks.task import Task


async def change(task: Task, given: Mapping[str, str]) -> list[tuple[str, Any, Any]]:
    """(key, old value, new value) of each setting that changed.

    Raises ConfigError, OSError, sqlite3.Error.
    """
    values = read_settings(given)
    if "log_dir" in values:
        root = str(task.context.workspace.root)
        values["log_dir"] = await asyncio.to_thread(log_folder, values["log_dir"], root)
    stored = task.config
    if "budget" in values and stored["config"].get("budget") is None:
        raise ConfigError(
            Text(
                "the config has no budget; write one, then: batch_infer -resume {id} -config F",
                {"id": task.id},
            )
        )
    # What holds, where the service's own limit took the place of the config's default.
    before = with_settings(stored["config"], {"max_concurrency": stored["max_concurrency"]})
    config = with_settings(before, values)
    changes = differences(before, config)
    if not changes:
        return changes
    keys = {key for key, _, _ in changes}
    most = config["limits"]["max_concurrency"]
    after = stored | {"config": config, "max_concurrency": most}
    if "priority" in keys:  # the number is taken before anything is awaited: no other plan may have it
        task.facts["plan_version"] = int(task.facts.get("plan_version", 1)) + 1
    await asyncio.to_thread(folder.write_config, task.directory, after)
    failpoint("set.config_written")
    if "priority" in keys:
        await task.db.set_facts(plan_version=task.facts["plan_version"])
    task.config = after
    if task.resolved is not None:
        changed = msgspec.structs.replace(
            task.resolved.config,
            execution=msgspec.convert(config["execution"], Execution),
            limits=msgspec.convert(config["limits"], Limits),
            priority=config["priority"],
            budget=msgspec.convert(config["budget"], Budget | None),
            logging=msgspec.convert(config["logging"], Logging),
        )
        resolved = dataclasses.replace(task.resolved, config=changed, max_concurrency=most)
        opening.set_plan(task, resolved)
    for key, old, new in changes:
        task.log(20, f"{key}: {old} -> {new}")
    if keys & {"log_dir", "log_level"}:
        opening.open_log(task)
    if "budget" in keys:
        await task.budget.mended()
    dispatcher = task.context.dispatcher
    if "priority" in keys:
        dispatcher.replan(task)
    if "concurrency" in keys and task.running and task.batch is None:
        dispatcher.account(task.account).restart(config["execution"]["concurrency"])
    dispatcher.wake()
    task.changed()
    return changes


def cautions(task: Task) -> list[Text]:
    """What a person should know of the settings as they are now."""
    wanted, most = task.config["config"]["execution"]["concurrency"], task.config["max_concurrency"]
    if wanted <= most:
        return []
    return [
        Text(
            "execution.concurrency {wanted} is above limits.max_concurrency {most}, which holds",
            {"wanted": wanted, "most": most},
        )
    ]
