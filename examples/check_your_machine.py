"""Is my state machine what replog needs? One call says so, in a test of yours or here; and it says what is wrong with a careless one.

python examples/check_your_machine.py
"""

from __future__ import annotations

import json
from typing import BinaryIO

from replog import BytesSnapshot, Entry, StateMachine
from replog.testing import StateMachineFault, check_state_machine


class Tickets(StateMachine):
    """``sell NAME`` sells one of a hundred tickets, ``return NAME`` takes it back; the answer is who holds one. A query: how many are left."""

    def __init__(self) -> None:
        self.holders: set[str] = set()

    def apply(self, entry: Entry) -> bytes:
        verb, _, name = entry.payload.decode().partition(" ")
        if verb == "sell" and len(self.holders) < 100:
            self.holders.add(name)
        elif verb == "return":
            self.holders.remove(name)  # a KeyError is the command's result on every node
        else:
            raise ValueError(f"cannot {verb!r}")
        return self.answer()

    def answer(self) -> bytes:
        return ", ".join(sorted(self.holders)).encode()

    def query(self, request: bytes) -> bytes:  # noqa: ARG002 - there is only one question
        return b"%d left" % (100 - len(self.holders))

    def snapshot(self) -> BytesSnapshot:
        return BytesSnapshot(json.dumps(sorted(self.holders)).encode())

    def restore(self, source: BinaryIO) -> None:
        self.holders = set(json.load(source))


class CarelessTickets(Tickets):
    """Forgets that a set has no order: two nodes would give two answers."""

    def answer(self) -> bytes:
        return ", ".join(self.holders).encode()


COMMANDS = [b"sell ann", b"sell bob", b"sell cid", b"return bob", b"return dora", b"sell eve", b"sell finn", b"return ann"]

if __name__ == "__main__":
    print(check_state_machine(Tickets, COMMANDS, queries=[b""], seeds=3).describe())
    try:
        check_state_machine(CarelessTickets, COMMANDS, queries=[b""], seeds=3)
    except StateMachineFault as fault:
        print("CarelessTickets breaks a rule:", fault)
