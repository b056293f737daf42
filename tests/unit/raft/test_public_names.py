"""Whoever drives the core from outside finds all of it under `replog.raft`, with an example that runs."""

from __future__ import annotations

import doctest
import inspect
import typing

import replog.raft
from replog.raft import CoreMessage, Event, RaftCore
from replog.raft.events import Fenced, StateDiverged, StateHealed

TOLD_BY_THE_EDGE = {Fenced, StateDiverged, StateHealed}


def test_the_example_of_the_package_does_what_it_says() -> None:
    failed, tried = doctest.testmod(replog.raft)

    assert tried > 10
    assert failed == 0


def test_every_message_and_event_of_the_core_is_a_public_name() -> None:
    public = {getattr(replog.raft, name) for name in replog.raft.__all__ if inspect.isclass(getattr(replog.raft, name))}

    assert set(typing.get_args(CoreMessage)) <= public
    assert set(typing.get_args(Event)) - TOLD_BY_THE_EDGE <= public


def test_every_verb_and_question_of_the_core_says_what_it_does() -> None:
    obvious = {"role", "term", "vote", "leader", "is_leader", "membership", "status", "lease_is_valid"}
    obvious |= {"first_index", "last_index", "persisted_index", "committed_index", "applied_index"}

    silent = [name for name, member in vars(RaftCore).items() if not name.startswith("_") and not inspect.getdoc(member)]

    assert set(silent) <= obvious
