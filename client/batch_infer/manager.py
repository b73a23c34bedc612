"""Image batches from object storage, as earlier programs of ours made them: one class, two methods."""

from __future__ import annotations

import hashlib
import json
import os
import re
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

from batch_infer.api import Config, StrPath, Task, submit
from batch_infer.api_submit import given_config, quiet_context
from batch_infer.cli.submission import config_params
from batch_infer.protocol import rpc
from batch_infer.protocol.errors import InputError, UsageError
from batch_infer.protocol.shapes import AUTO
from batch_infer.protocol.text import Text
from batch_infer.protocol.workspace import find_workspace

if TYPE_CHECKING:
    from collections.abc import Callable

_ODD = re.compile(r"[^A-Za-z0-9._-]+")
FOLDER = "prepared"  # in the workspace


class BatchInferenceManager:
    """Writes the images of a bucket into a file of requests, and runs it.

    Storage is reached as with `-prepare s3://…`: by the section `input.s3` of the config, else by the
    usual AWS variables of this process.
    """

    def __init__(
        self,
        workspace: StrPath | None = None,
        *,
        config: Config | None = None,
        folder: StrPath | None = None,
        on_progress: Callable[[int, int | None], None] | None = None,
    ) -> None:
        """Nothing is asked yet. Raises UsageError for a workspace that is no folder.

        Args:
            workspace: the folder of the tasks, as with `batch_infer.submit`.
            config: a file or a mapping; the workspace's config.yaml, if there is one, when absent.
            folder: where the files go; `prepared` in the workspace when absent.
            on_progress: called with the images done, and how many there are or None, while a file is made.
        """
        self._root = find_workspace(None if workspace is None else os.fspath(workspace)).root
        self._config = config
        self._folder = self._root / FOLDER if folder is None else Path(os.path.abspath(os.fspath(folder)))
        self._on_progress = on_progress

    def prepare_image_batch_data(
        self, bucket_name: str, prefix: str, system_prompt: str, user_prompt: str, model_id: str
    ) -> tuple[int, str]:
        """One request an image below `prefix`, in constant memory; how many there are, and the file's path.

        A model of the Claude family on Bedrock gets Bedrock's lines (`recordId`, `modelInput`), others
        those of OpenAI's Batch API. After an interruption (a kill, the network, a full disk) the same call
        goes on where it was. Images that cannot be sent are left out and told by a warning; the file
        NAME.errors.jsonl beside says why.

        Raises ConfigError, InputError, DaemonUnavailable.
        """
        count, path, _ = self._prepare(bucket_name, prefix, system_prompt, user_prompt, model_id)
        return count, path

    def create_image_batch_job(
        self,
        bucket_name: str,
        prefix: str,
        system_prompt: str,
        user_prompt: str,
        model_id: str,
        task_id: str | None = None,
    ) -> Task:
        """`prepare_image_batch_data`, then submit the file as a task, which is named as the file when absent.

        Raises InputError where there is no image, and UsageError for a model on Bedrock: the file is made,
        but jobs on Bedrock cannot be run yet. Otherwise as `prepare_image_batch_data` and `submit`.
        """
        count, path, shape = self._prepare(bucket_name, prefix, system_prompt, user_prompt, model_id)
        values: dict[str, Any] = {"path": path, "model": model_id}
        if shape == "bedrock":
            raise UsageError(
                Text("{model} runs on Bedrock, whose batch jobs cannot be created here yet", values),
                hints=(Text("its requests are in {path}", values),),
            )
        if not count:
            raise InputError(
                Text("there is no image to send in s3://{place}", {"place": f"{bucket_name}/{prefix}"})
            )
        return submit(path, task_id or Path(path).stem, config=self._config, workspace=self._root)

    def _prepare(
        self, bucket_name: str, prefix: str, system_prompt: str, user_prompt: str, model_id: str
    ) -> tuple[int, str, str]:
        source = f"s3://{bucket_name}/{prefix.removeprefix('/')}"
        overrides = {"model.name": model_id, "input.prompt": _literal(user_prompt)}
        if system_prompt:
            overrides["input.system"] = _literal(system_prompt)
        path = self._file(bucket_name, [source, overrides])
        context, _ = quiet_context(self._root)
        config_path, data = given_config(context, self._config, required=False)
        params: dict[str, Any] = {
            "source": source, "out": str(path), "shape": AUTO, "overrides": overrides
        }  # fmt: skip
        with context.daemon() as peer:
            asked = {"input": source, "overrides": overrides}
            params |= config_params(context, peer, config_path, data, asked)
            answer = peer.call_long(rpc.PREPARE, params, self._tell)
        if answer["failed"]:
            told = f"images that cannot be sent: {answer['failed']}; {answer['errors']} says why"
            warnings.warn(told, RuntimeWarning, stacklevel=3)
        return int(answer["count"]), str(path), str(answer["shape"])

    def _file(self, bucket_name: str, made_of: list[Any]) -> Path:
        """The file for these requests: the one that was begun, else one that is not there yet."""
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        digest = hashlib.sha256(json.dumps(made_of).encode()).hexdigest()[:10]
        stem = f"{_ODD.sub('_', bucket_name).strip('._-') or 'images'}_{digest}"
        number = 1
        while True:
            path = self._folder / (f"{stem}-{number}.jsonl" if number > 1 else f"{stem}.jsonl")
            if not path.exists() or (self._folder / f".{path.name}.prepare").exists():
                return path
            number += 1

    def _tell(self, told: dict[str, Any]) -> None:
        if self._on_progress is not None:
            self._on_progress(int(told.get("done") or 0), told.get("total"))


def _literal(prompt: str) -> str:
    """A prompt in which braces are braces: it is no template here."""
    return prompt.replace("{", "{{").replace("}", "}}")
