"""Where the leader probably is: pure bookkeeping over addresses, told of every hint and every failure.

A hint names the leader and its advertised address, which may not be reachable from here (another network, as with containers). So a node that answered at one of the
configured addresses is looked for there first.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from replog.types import NodeId


class Compass:
    """Invariant: `current` is a known address. The configured ones stay known for ever, hinted ones until they fail."""

    def __init__(self, addresses: Sequence[str]) -> None:
        assert addresses
        self._configured = tuple(dict.fromkeys(addresses))
        self._found_at: dict[NodeId, str] = {}
        self._unreachable: set[str] = set()
        self.current = self._configured[0]

    @property
    def addresses(self) -> tuple[str, ...]:
        """Every configured address, the current one first."""
        return (self.current, *(address for address in self._configured if address != self.current))

    def met(self, node: NodeId, address: str) -> None:
        """`node` answered at `address`."""
        self._unreachable.discard(address)
        if address in self._configured:
            self._found_at[node] = address

    def hinted(self, leader: NodeId | None, address: str | None, *, by: str) -> bool:
        """The node at `by` says who leads. True when that led to another address than `by`: worth trying at once."""
        if leader is not None:
            known = self._found_at.get(leader)
            for candidate in (known, address):
                if candidate and candidate != by and candidate not in self._unreachable:
                    self.current = candidate
                    return True
        self.turn_from(by)
        return False

    def failed(self, address: str) -> None:
        """Nothing answers at `address`."""
        self._unreachable.add(address)
        self.turn_from(address)

    def turn_from(self, address: str) -> None:
        """Look elsewhere, unless somebody already does."""
        if self.current != address:
            return
        others = self._configured
        if address in others:
            at = others.index(address)
            candidates: Iterable[str] = (*others[at + 1 :], *others[:at])
        else:
            candidates = others
        candidates = list(candidates) or [address]
        self.current = next((candidate for candidate in candidates if candidate not in self._unreachable), candidates[0])
        if all(candidate in self._unreachable for candidate in candidates):
            # Every address has failed once: all of them get another chance, in turn.
            self._unreachable.clear()
