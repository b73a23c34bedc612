"""A shell in a fresh workspace, and a test service started by hand."""

import pytest
from life_kit import moving_clock, place  # noqa: F401  fixtures of the daemon's life

from batch_inferd.testing.process import start_service
from harness import Shell


@pytest.fixture
def shell(workspace):
    return Shell(workspace)


@pytest.fixture
def service(tmp_path):
    with start_service(tmp_path / "service") as running:
        yield running
