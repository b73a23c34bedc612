"""A hostile server, and the test service."""

import pytest
from hostile import Hostile

from batch_inferd.testing.process import start_service


@pytest.fixture
async def hostile():
    async with Hostile() as server:
        yield server


@pytest.fixture(scope="module")
def service(tmp_path_factory):
    with start_service(tmp_path_factory.mktemp("service")) as running:
        yield running
