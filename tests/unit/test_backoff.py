"""Pauses that grow."""

from __future__ import annotations

from air_executor import backoff


def test_each_pause_is_twice_as_long_up_to_a_limit_however_many_there_were() -> None:
    assert [backoff.pause(failures, 0.5, 3.0) for failures in (1, 2, 3, 4, 2_000, 10**9)] == [0.5, 1, 2, 3, 3, 3]
    assert backoff.pause(0, 0.5, 3.0) == backoff.pause(-1, 0.5, 3.0) == 0.5
