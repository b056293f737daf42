"""State machines for the tests of the suite: a sound one, and one for each mistake. They lie here so that other processes can import them."""

from __future__ import annotations

import json
import random
import time
from collections.abc import Sequence
from datetime import datetime
from random import Random
from typing import Any, BinaryIO

from replog import BytesSnapshot, Entry, StateMachine
from replog.statemachine import CommandError, SnapshotWriter
from replog.types import Index, Term

COMMANDS = [
    b"join red ann",
    b"join red bob",
    b"join blue cid",
    b"leave red ann",
    b"join red dora",
    b"join red eve",
    b"leave blue bob",
    b"join green ann",
    b"clear red",
    b"join red finn",
]
QUERIES = [b"red", b"blue", b"nobody", b"\xff"]
"""The last one is no team's name, and is refused."""


def draw(chance: Random) -> bytes:
    """A command of `Teams`."""
    team, name = chance.choice(("red", "blue", "green")), chance.choice(("ann", "bob", "cid", "dora", "eve"))
    return f"{chance.choice(('join', 'join', 'leave', 'clear'))} {team} {name}".encode()


class Teams(StateMachine):
    """``join TEAM NAME``, ``leave TEAM NAME``, ``clear TEAM``. Sound."""

    def __init__(self) -> None:
        self.teams: dict[str, set[str]] = {}
        self.changes = 0

    def apply(self, entry: Entry) -> bytes:
        verb, team, *names = entry.payload.decode().split()
        return self.do(verb, team, names)

    def do(self, verb: str, team: str, names: Sequence[str]) -> bytes:
        members = self.teams.get(team, set())
        if verb == "join":
            self.teams.setdefault(team, set()).add(names[0])
        elif verb == "leave":
            if names[0] not in members:
                raise KeyError(f"{names[0]} is not in {team}")
            members.remove(names[0])
        elif verb == "clear":
            self.teams.pop(team, None)
        else:
            raise ValueError(f"unknown command {verb!r}")
        self.changes += 1
        return self.show(team)

    def show(self, team: str) -> bytes:
        return " ".join(sorted(self.teams.get(team, ()))).encode()

    def query(self, request: bytes) -> bytes:
        return self.show(request.decode())

    def dump(self) -> dict[str, Any]:
        return {"changes": self.changes, "teams": {team: sorted(members) for team, members in sorted(self.teams.items())}}

    def snapshot(self) -> SnapshotWriter:
        return BytesSnapshot(json.dumps(self.dump()).encode())

    def restore(self, source: BinaryIO) -> None:
        body = json.load(source)
        self.changes = body["changes"]
        self.teams = {team: set(members) for team, members in body["teams"].items()}


# --- Not deterministic ------------------------------------------------------------------------------------------------


class OrderOfASet(Teams):
    def show(self, team: str) -> bytes:
        return " ".join(self.teams.get(team, ())).encode()


class OrderOfASetInItsSnapshot(Teams):
    def dump(self) -> dict[str, Any]:
        return {"changes": self.changes, "teams": {team: list(members) for team, members in self.teams.items()}}


class Hashes(Teams):
    def show(self, team: str) -> bytes:
        return str(hash(team)).encode()


class RandomNumbers(Teams):
    def show(self, team: str) -> bytes:
        return str(random.getrandbits(64)).encode()


class ReadsTheClockInDays(Teams):
    def show(self, team: str) -> bytes:
        return str(int(time.time()) // 86_400).encode()


class ReadsTheDate(Teams):
    def show(self, team: str) -> bytes:
        return str(datetime.now().hour).encode()  # noqa: DTZ005 - the mistake that is to be found


class RandomDigest(Teams):
    def state_digest(self) -> bytes:
        return str(id(self)).encode()


class RandomAnswers(Teams):
    def query(self, request: bytes) -> bytes:
        return str(hash(request)).encode()


# --- Breaks another rule ------------------------------------------------------------------------------------------------


class ChangesBeforeItRaises(Teams):
    def do(self, verb: str, team: str, names: Sequence[str]) -> bytes:
        self.changes += 1
        return super().do(verb, team, names)


class ForgetsInItsSnapshot(Teams):
    def restore(self, source: BinaryIO) -> None:
        super().restore(source)
        self.teams.pop("blue", None)


class RestoresOverWhatWasThere(Teams):
    def restore(self, source: BinaryIO) -> None:
        body = json.load(source)
        self.changes = body["changes"]
        for team, members in body["teams"].items():
            self.teams.setdefault(team, set()).update(members)


class LiveSnapshot(Teams):
    def snapshot(self) -> SnapshotWriter:
        machine = self

        class Live:
            def write(self, sink: BinaryIO) -> None:
                sink.write(json.dumps(machine.dump()).encode())

        return Live()


class OtherBatches(Teams):
    """Counts a batch as one change."""

    def apply_batch(self, first_index: Index, term: Term, payloads: Sequence[bytes]) -> list[bytes | CommandError]:
        before = self.changes
        results = super().apply_batch(first_index, term, payloads)
        self.changes = min(self.changes, before + 1)
        return results


class RaisesOutOfABatch(Teams):
    def apply_batch(self, first_index: Index, term: Term, payloads: Sequence[bytes]) -> list[bytes | CommandError]:
        return [self.apply(Entry(index, term, 1, payload)) for index, payload in enumerate(payloads, first_index)]  # type: ignore[arg-type]  # a kind


class AnswersOtherwiseTogether(Teams):
    """Its query_batch refuses with another exception."""

    def query_batch(self, requests: Sequence[bytes]) -> list[bytes | Exception]:
        answers = super().query_batch(requests)
        return [answer if isinstance(answer, bytes) else LookupError(str(answer)) for answer in answers]


class ForgetsAnAnswer(Teams):
    def query_batch(self, requests: Sequence[bytes]) -> Sequence[bytes | Exception]:
        return super().query_batch(requests)[1:]


class RaisesOutOfQueries(Teams):
    def query_batch(self, requests: Sequence[bytes]) -> Sequence[bytes | Exception]:
        return [self.query(request) for request in requests]


class ReturnsText(Teams):
    def show(self, team: str) -> bytes:
        return super().show(team).decode()  # type: ignore[return-value]  # the mistake that is to be found


class ChangesWhenAsked(Teams):
    def query(self, request: bytes) -> bytes:
        self.changes += 1
        return super().query(request)


class DigestIsNotRestored(Teams):
    def __init__(self) -> None:
        super().__init__()
        self.applied = 0

    def apply(self, entry: Entry) -> bytes:
        self.applied += 1
        return super().apply(entry)

    def state_digest(self) -> bytes:
        return b"%d" % self.applied


class CannotWriteASnapshot(Teams):
    def dump(self) -> dict[str, Any]:
        return {"changes": self.changes, "teams": self.teams}


class NeedsAnArgument(Teams):
    def __init__(self, name: str) -> None:
        super().__init__()
        self.name = name


class HoldsAState(Teams):
    def durable_index(self) -> Index:
        return 7


class OnlyWrongInACluster(Teams):
    """Remembers over all machines of a process: alone, and in another process, nothing shows."""

    restarts = 0

    def restore(self, source: BinaryIO) -> None:
        super().restore(source)
        type(self).restarts += 1

    def show(self, team: str) -> bytes:
        return super().show(team) + (b" again" if type(self).restarts > 1000 else b"")
