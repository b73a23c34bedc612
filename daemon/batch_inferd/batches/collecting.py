"""Bringing a batch's results home: fetch its files, let a worker put them into the journals, commit.

A file that cannot be fetched is fetched again; what was paid for is never computed anew because of it.
"""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING, Any

from batch_infer.protocol.text import Text
from batch_inferd.backends.batch.errors import fitting
from batch_inferd.backends.batch.provider import Blocked, NotFound, ProviderError, Refused, Unsettled
from batch_inferd.batches import submission as states
from batch_inferd.batches.refusal import Refusal
from batch_inferd.journal.names import chunk_name
from batch_inferd.scheduling.jobs import JobLost
from batch_inferd.seams.failpoint import failpoint
from batch_inferd.store.submissions import ChunkEnd

if TYPE_CHECKING:
    from batch_inferd.batches.run import BatchRun
    from batch_inferd.batches.submission import Submission

FILES = {"output": "output", "errors": "errors"}
_RETRY_FIRST_S, _RETRY_MAX_S = 1.0, 120.0
_GONE_TRIES = 20  # over half an hour: a result file that is not there yet may come; then it never will


async def fetch(run: BatchRun, submission: Submission) -> list[dict[str, str]]:
    """Download all result files; what the `collect` job is told of them. Raises OSError, Blocked."""
    found = []
    for number, (kind, ref) in enumerate(submission.detail.outputs):
        name = f"{submission.name}.{number}.{FILES[kind]}.jsonl"
        if await _fetch_one(run, submission, {"kind": kind, "ref": ref}, name):
            found.append({"file": name, "kind": kind})
    return found


async def _fetch_one(run: BatchRun, submission: Submission, ref: dict[str, str], name: str) -> bool:
    failures = gone = 0
    params = {"ref": ref, "file": name}
    while True:
        try:
            await run.reach.call(lambda: run.job("download", params))
        except JobLost:
            if run.stopping:
                raise
        except Blocked:
            raise
        except ProviderError as error:
            failures += 1
            gone += isinstance(error, NotFound)
            if gone >= _GONE_TRIES:
                run.task.log(
                    40, f"batch {submission.id}: the provider has no {ref['kind']} file any more: {error}"
                )
                return False
            if not isinstance(error, Unsettled | NotFound | Refused):
                raise
            wait = min(_RETRY_FIRST_S * 2 ** min(failures - 1, 32), _RETRY_MAX_S)
            run.task.log(
                30, f"batch {submission.id}: its results cannot be fetched: {error}; again in {wait} s"
            )
            text = Text("its results cannot be fetched: {error}", {"error": error.text})
            submission.wait = states.Wait("download", text, run.clock.now(), run.clock.now() + wait)
            run.tell()
            await run.clock.sleep(wait)
        else:
            submission.wait = None
            failpoint("batch.downloaded")
            return True


async def collect(
    run: BatchRun,
    submission: Submission,
    files: list[dict[str, str]],
    refusal: Refusal = Refusal.RAN,
    *,
    end_all: bool = False,
    least: int = 0,
) -> int | None:
    """Journal the results and close the submission. `end_all`: every line without a result ends as an error.

    Files with results of fewer than `least` lines are left alone; how many there are is returned then.
    Raises OSError, sqlite3.Error, FolderGone.
    """
    while True:
        chunks = sorted(submission.lines)
        async with run.working_on(chunks):
            rows = {row.n: row for row in await run.store.chunks(chunks)}
            params = _params(run, submission, files, refusal, rows, end_all=end_all)
            params["least"] = least
            try:
                result = await run.job("collect", params)
            except JobLost:
                if run.stopping:
                    raise
                continue
            if "short" in result:
                return int(result["short"])
            await _commit(run, submission, result, refusal)
            break
    await _clean(run, submission, files)
    blocked = result.get("blocked")
    # What was sent before the task went on says nothing of whether it is mended now: the next batch will.
    if blocked is not None and (submission.detail.asked or 0.0) >= run.began:
        run.blocked(str(blocked["cls"]), Text.from_wire(blocked["text"]), submission)
    return None


def _params(
    run: BatchRun,
    submission: Submission,
    files: list[dict[str, str]],
    refusal: Refusal,
    rows: dict[int, Any],
    *,
    end_all: bool,
) -> dict[str, Any]:
    detail = submission.detail
    ended = "refused" if refusal is Refusal.LINES else detail.end_state or "cancelled"
    fallback = ""
    if run.fallback and not run.cancelling:
        fallback = "all" if detail.cancel == states.BY_DEADLINE else "exhausted"
    began = detail.submitted or submission.created
    return {
        "submission": str(submission.id),
        "name": submission.name,
        "round": run.task.round,
        "max_retry": -1 if end_all else int(run.task.config["config"]["max_retry_count"]),
        "files": files,
        "ended": "failed" if end_all else ended,
        "message": detail.message,
        "ours": bool(detail.cancel),
        "fallback": "" if end_all else fallback,
        "ms": int(max(0.0, (detail.ended or run.clock.now()) - began) * 1000),
        "problems": [
            [problem.line, problem.code, problem.message]
            for problem in fitting(one for one in submission.problems if one.line is not None)
        ]
        if refusal is Refusal.LINES
        else [],
        "chunks": [
            {
                "chunk": chunk,
                "chunk_file": chunk_name(chunk),
                "first_line": rows[chunk].first_line,
                "lines": rows[chunk].lines,
                "ranges": ranges,
            }
            for chunk, ranges in sorted(submission.lines.items())
        ],
    }


async def _commit(run: BatchRun, submission: Submission, result: dict[str, Any], refusal: Refusal) -> None:
    names = (
        "answered",
        "failed",
        "retried",
        "missing",
        "moved",
        "named",
        "unknown",
        "duplicate",
        "unreadable",
        "tokens_in",
        "tokens_out",
        "tokens_cached",
        "tokens_unknown",
    )
    submission.detail.results = {name: int(result.get(name, 0)) for name in names}
    ends = [ChunkEnd(end["chunk"], end["counts"], end["open"], end["online"]) for end in result["chunks"]]
    await run.close(submission, states.REFUSED if refusal is Refusal.LINES else states.COLLECTED, ends)
    failpoint("batch.collected")
    found = ", ".join(f"{name} {count}" for name, count in submission.detail.results.items() if count)
    run.task.log(20, f"batch {submission.id} ({submission.upstream_id}) is collected: {found or 'nothing'}")
    odd = sum(submission.detail.results[name] for name in ("unknown", "duplicate", "unreadable"))
    if odd:
        run.task.log(
            30,
            f"batch {submission.id}: {odd} lines of its results are set aside in {result.get('quarantine')}",
        )


async def _clean(run: BatchRun, submission: Submission, files: list[dict[str, str]]) -> None:
    """The fetched files, and the packed one, are not needed any more."""

    def remove() -> None:
        for file in files:
            run.task.directory.unlink(file["file"])
        run.task.directory.unlink(submission.detail.file)

    with contextlib.suppress(OSError):
        await asyncio.to_thread(remove)
