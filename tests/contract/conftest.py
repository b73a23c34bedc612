"""A hostile server, and the test service."""

import asyncio

import pytest
from hostile import Hostile

from batch_inferd.loops import loop_factory
from batch_inferd.testing.process import start_service

_ALONE = {"test_transport_exit"}  # its calls are made by processes, on the workers' loop


def pytest_asyncio_loop_factories(item):
    """Transports run on asyncio's loop, which is all that there is on Windows, and on the workers' own."""
    factories = {"asyncio": asyncio.new_event_loop}
    ours = loop_factory()
    if ours is not None and item.path.name.startswith("test_transport_") and item.path.stem not in _ALONE:
        factories["uvloop"] = ours
    return factories


def pytest_collection_modifyitems(items):
    """The other client is there to be compared with: one loop does."""
    items[:] = [item for item in items if not ("[uvloop-" in item.name and "aiohttp" in item.name)]


@pytest.fixture
async def hostile():
    async with Hostile() as server:
        yield server


@pytest.fixture(scope="module")
def service(tmp_path_factory):
    with start_service(tmp_path_factory.mktemp("service")) as running:
        yield running
