"""Everything that an adapter is asked to do, and how it fails."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
from provider_kit import SECRET, make_plan, order, provider_of

from batch_inferd.backends.batch.provider import (
    NotSent,
    ProviderError,
    ResultRef,
    Upload,
    error_to_wire,
)

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from pathlib import Path

    from hostile import Hostile

    from batch_inferd.backends.batch.provider import BatchProvider

    Act = Callable[[BatchProvider, Path], Awaitable[object]]

OUTPUT = ResultRef("output", "file-o")


def nothing(*_: object) -> None:
    return


async def upload(provider: BatchProvider, folder: Path) -> object:
    path = folder / "in.jsonl"
    path.write_bytes(b"{}\n" * 1000)
    return await provider.upload(Upload(path, "bi-token-1.jsonl", path.stat().st_size), nothing)


async def find(provider: BatchProvider, folder: Path) -> object:
    return await provider.find_upload(Upload(folder / "in.jsonl", "bi-token-1.jsonl", 3000))


async def create(provider: BatchProvider, _: Path) -> object:
    return await provider.create(order())


async def retrieve(provider: BatchProvider, _: Path) -> object:
    return await provider.retrieve("batch_1")


async def recent(provider: BatchProvider, _: Path) -> object:
    return [status async for status in provider.recent(0.0)]


async def cancel(provider: BatchProvider, _: Path) -> object:
    return await provider.cancel("batch_1")


async def download(provider: BatchProvider, _: Path) -> object:
    return await provider.download(OUTPUT, nothing, nothing)


async def delete(provider: BatchProvider, _: Path) -> object:
    await provider.delete_upload("file-1")
    return None


async def models(provider: BatchProvider, _: Path) -> object:
    return await provider.models()


async def ping(provider: BatchProvider, _: Path) -> object:
    await provider.ping_batches()
    return None


ACTS: list[Act] = [upload, find, create, retrieve, recent, cancel, download, delete, models, ping]
ONE_OBJECT: list[Act] = [retrieve, cancel, download]


def said(message: str, code: object = None, kind: str = "") -> dict[str, Any]:
    return {"error": {"message": f"{message} (key {SECRET})", "code": code, "type": kind}}


def check_no_secret(error: BaseException) -> None:
    assert isinstance(error, ProviderError | NotSent)
    told = [str(error), repr(error), json.dumps(error_to_wire(error))]
    assert not [text for text in told if SECRET in text]


async def failure(act: Act, server: Hostile, folder: Path, **plan: Any) -> ProviderError | NotSent:
    async with provider_of(make_plan(server.base_url, **plan)) as provider:
        with pytest.raises((ProviderError, NotSent)) as caught:
            await act(provider, folder)
    error = caught.value
    check_no_secret(error)
    assert isinstance(error, ProviderError | NotSent)
    return error
