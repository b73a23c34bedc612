"""The hidden limit of a service is found within a minute, kept, and followed, with hardly a call refused."""

from __future__ import annotations

from types import MappingProxyType

import pytest
from scenes import against
from services import Bucket, Concurrency

WORKERS = (1, 2, 4)
LATENCY_S = 1.1  # of the simulated services, on average
ENOUGH = 0.9
REFUSED = 0.02
MINUTE = 60


@pytest.mark.parametrize("workers", WORKERS)
@pytest.mark.parametrize("seed", [1])
class TestSteady:
    """Five minutes against a limit that stays; counted from the second minute on."""

    def test_of_calls_in_flight(self, workers, seed):
        service = against(Concurrency(20), workers=workers, seed=seed)
        assert service.rate(MINUTE, 300) >= ENOUGH * 20 / LATENCY_S
        assert service.refused_share < REFUSED
        assert service.most_in_flight == 20

    @pytest.mark.parametrize("retry_after", [False, True])
    def test_of_requests_a_minute(self, workers, seed, retry_after):
        service = against(Bucket(600), workers=workers, seed=seed, retry_after=retry_after)
        assert service.rate(MINUTE, 300) >= ENOUGH * 10
        assert service.refused_share < REFUSED

    def test_of_tokens_a_minute(self, workers, seed):
        bucket = Bucket(500_000, burst_s=5.0, of_tokens=True)
        service = against(bucket, workers=workers, seed=seed)
        assert service.token_rate(MINUTE, 300) >= ENOUGH * 500_000 / 60
        assert service.refused_share < REFUSED


@pytest.mark.parametrize("workers", WORKERS)
class TestFollowing:
    """The limit halves after two minutes, and doubles after two more; each is followed within a minute."""

    CHANGES = MappingProxyType({120: 0.5, 240: 1.0})
    LOOKS = ((60, 120, 1.0), (180, 240, 0.5), (300, 360, 1.0))

    def test_calls_in_flight(self, workers):
        service = against(Concurrency(40), workers=workers, seed=1, seconds=360, changes=self.CHANGES)
        for begin, end, scale in self.LOOKS:
            assert service.rate(begin, end) >= ENOUGH * scale * 40 / LATENCY_S, (begin, end)
        assert service.refused_share < REFUSED

    @pytest.mark.parametrize("retry_after", [False, True])
    def test_requests_a_minute(self, workers, retry_after):
        service = against(
            Bucket(1200), workers=workers, seed=1, seconds=360, changes=self.CHANGES, retry_after=retry_after
        )
        for begin, end, scale in self.LOOKS:
            assert service.rate(begin, end) >= ENOUGH * scale * 20, (begin, end)
        assert service.refused_share < REFUSED

    def test_tokens_a_minute(self, workers):
        bucket = Bucket(1_000_000, burst_s=5.0, of_tokens=True)
        service = against(bucket, workers=workers, seed=1, seconds=360, changes=self.CHANGES)
        for begin, end, scale in self.LOOKS:
            assert service.token_rate(begin, end) >= ENOUGH * scale * 1_000_000 / 60, (begin, end)
        assert service.refused_share < REFUSED


def test_a_start_at_full_width_is_not_a_wave_of_refusals():
    service = against(Concurrency(10), workers=4, seed=3, seconds=10)
    assert len(service.refused) < 40
