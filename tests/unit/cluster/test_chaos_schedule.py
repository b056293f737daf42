"""The faults of a run are drawn from its seed alone."""

from itertools import pairwise

import pytest

from cluster.chaos_command import choose_kinds
from cluster.chaos_schedule import KINDS, MEANING, QUIET_SECONDS, draw_schedule
from replog.errors import ConfigError


def test_the_same_seed_draws_the_same_schedule_and_another_seed_another() -> None:
    assert draw_schedule(7, 300) == draw_schedule(7, 300)
    assert draw_schedule(7, 300) != draw_schedule(8, 300)


def test_every_episode_is_over_before_the_run_is() -> None:
    for seed in range(50):
        for episode in draw_schedule(seed, 60):
            assert episode.at >= QUIET_SECONDS
            assert episode.at + episode.seconds <= 60


def test_every_kind_comes_once_before_any_comes_again() -> None:
    for seed in range(20):
        kinds = [episode.kind for episode in draw_schedule(seed, 600)]

        for start in range(0, len(kinds) - len(KINDS), len(KINDS)):
            assert set(kinds[start : start + len(KINDS)]) == set(KINDS)


def test_some_episodes_overlap_and_most_do_not() -> None:
    schedule = draw_schedule(1, 3600)

    overlapping = sum(episode.overlaps for episode in schedule)
    for earlier, later in pairwise(schedule):
        assert later.overlaps or later.at > earlier.at + earlier.seconds

    assert 0.15 < overlapping / len(schedule) < 0.45


def test_only_the_kinds_asked_for_are_drawn_and_an_unknown_one_is_refused() -> None:
    assert {episode.kind for episode in draw_schedule(3, 300, choose_kinds("kill, freeze"))} == {"kill", "freeze"}
    assert choose_kinds("") == KINDS
    with pytest.raises(ConfigError, match="--faults: found 'flood', allowed: one or more of kill, kill-two"):
        choose_kinds("kill,flood")


def test_every_kind_says_what_it_is() -> None:
    assert tuple(MEANING) == KINDS
