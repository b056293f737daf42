"""Linearizable reads without writing to the log (thesis 6.4), and leases (thesis 6.4.1).

A read is linearizable at the leader's commit index once the leader knows that (1) it has committed an entry of its own term, so its commit index is
the newest there is, and (2) it was still the leader after the read began. One heartbeat round shows (2) for every read that waited when the
round began: rounds are numbered, an answer to round n answers all before it, and a quorum's n-th answer confirms them. The next round starts
when the former one is confirmed. A follower collects its reads into one request to the leader, in the same way.

A confirmed round is also a lease: for the least election timeout after the round was *sent*, shortened by the clocks' drift, no quorum elects
another leader (they refuse votes for so long), so the leader may answer reads at once. A transfer of leadership passes by that refusal, so the
first `TimeoutNow` of a term ends its leases.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

from replog.errors import Busy
from replog.raft.messages import ReadIndexReply, ReadIndexRequest
from replog.raft.quorum import majority_index
from replog.raft.ready import ReadReady
from replog.types import Index, NodeId, Role

if TYPE_CHECKING:
    from replog.raft.state import State

ROUNDS_REMEMBERED = 256
"""Unconfirmed rounds whose time of sending is kept for the lease."""
LIFE_DRAWS = 16
"""So many draws make the number of a life."""
REQUESTS_BITS = 24
"""A request's number is the life's number (39 bits) and a count in it."""


class Round:
    """Reads that a heartbeat round will confirm."""

    __slots__ = ("index", "number", "waiters")

    def __init__(self, number: int, index: Index, waiters: list[tuple[NodeId | None, int]]) -> None:
        self.number = number
        self.index = index
        self.waiters = waiters


class Forwarded:
    """Reads of this follower that one request to the leader stands for."""

    __slots__ = ("age_ticks", "contexts")

    def __init__(self, contexts: list[int]) -> None:
        self.contexts = contexts
        self.age_ticks = 0


class Reads:
    """Invariants: rounds ascend in number; every context given to `read_index` is in exactly one of the collections until it is answered."""

    __slots__ = ("asked", "count", "forwarded", "lease_start", "next_request", "round", "round_times", "rounds", "waiting")

    def __init__(self) -> None:
        self.round = 0
        """Number of the newest heartbeat round."""
        self.waiting: list[tuple[NodeId | None, int]] = []
        """Leader: reads that no round stands for yet: (asker, None for this node; context)."""
        self.rounds: deque[Round] = deque()
        self.round_times: deque[tuple[int, int]] = deque(maxlen=ROUNDS_REMEMBERED)
        """(round, observed time when it was sent) of rounds that are not confirmed."""
        self.lease_start: int | None = None
        """Observed time at which the newest confirmed round was sent."""
        self.asked: list[int] = []
        """Follower: reads that are not yet in a request."""
        self.forwarded: dict[int, Forwarded] = {}
        self.next_request = 0
        """Number of the next request; 0: none was made in this life."""
        self.count = 0
        """Reads without an answer."""

    # -- asking -------------------------------------------------------------------------------------------------------

    def ask(self, state: State, context: int) -> None:
        """A read of this node. Raises `Busy` above the limit."""
        limit = state.config.reads_waiting_max
        if self.count >= limit:
            raise Busy("reads waiting for their index", self.count, limit)
        if state.role is Role.LEADER:
            self.count += 1
            self.waiting.append((None, context))
            state.sends_wanted = True
        elif state.leader is not None:
            self.count += 1
            self.asked.append(context)
        else:
            state.reads_ready.append(ReadReady(context=context, index=None))

    def on_request(self, state: State, message: ReadIndexRequest) -> None:
        """A follower's reads (paper 8; thesis 6.4)."""
        if state.role is not Role.LEADER or self.count >= state.config.reads_waiting_max:
            state.before_sync.append(
                ReadIndexReply(source=state.node_id, target=message.source, term=state.term, context=message.context, read_index=None)
            )
            return
        self.count += 1
        self.waiting.append((message.source, message.context))
        state.sends_wanted = True

    def on_reply(self, state: State, message: ReadIndexReply) -> None:
        forwarded = self.forwarded.pop(message.context, None)
        if forwarded is None:
            state.ignore(message, "answer to no open read")
            return
        self.count -= len(forwarded.contexts)
        for context in forwarded.contexts:
            state.reads_ready.append(ReadReady(context=context, index=message.read_index))

    def forward(self, state: State) -> None:
        """Send the reads that came in since the last Ready as one request to the leader."""
        if not self.asked:
            return
        assert state.leader is not None
        if not self.next_request:
            self.next_request = first_request(state)
        request = self.next_request
        self.next_request += 1
        self.forwarded[request] = Forwarded(self.asked)
        self.asked = []
        state.before_sync.append(ReadIndexRequest(source=state.node_id, target=state.leader, term=state.term, context=request))

    def tick_follower(self, state: State) -> None:
        """Requests that may have been lost are repeated with the heartbeat's period, and refused after an election timeout."""
        for request, forwarded in list(self.forwarded.items()):
            forwarded.age_ticks += 1
            if forwarded.age_ticks >= state.config.election_timeout_ticks_max or state.leader is None:
                del self.forwarded[request]
                self._refuse(state, forwarded.contexts)
            elif forwarded.age_ticks % state.config.heartbeat_ticks == 0:
                state.before_sync.append(ReadIndexRequest(source=state.node_id, target=state.leader, term=state.term, context=request))

    # -- confirming ---------------------------------------------------------------------------------------------------

    def wants_round(self, state: State) -> bool:
        return bool(self.waiting) and not self.rounds and state.committed_in_term

    def begin_round(self, state: State) -> int:
        """Number of the heartbeat round that the caller sends now; the waiting reads are confirmed by it."""
        self.round += 1
        if self.waiting and state.committed_in_term:
            self.rounds.append(Round(self.round, state.log.committed_index, self.waiting))
            self.waiting = []
        if state.now_ticks is not None:
            self.round_times.append((self.round, state.now_ticks))
        return self.round

    def confirm(self, state: State) -> None:
        """Release every read whose round a quorum has answered."""
        confirmed = min(
            _confirmed(state, state.membership.voters, [peer.acked_round for peer in state.voter_peers]),
            _confirmed(state, state.membership.voters_outgoing, [peer.acked_round for peer in state.voter_peers_outgoing]),
        )
        times = self.round_times
        while times and times[0][0] <= confirmed:
            self.lease_start = times.popleft()[1]
        rounds = self.rounds
        while rounds and rounds[0].number <= confirmed:
            done = rounds.popleft()
            self.count -= len(done.waiters)
            for asker, context in done.waiters:
                self._answer(state, asker, context, done.index)
        if self.waiting:
            state.sends_wanted = True

    # -- leases -------------------------------------------------------------------------------------------------------

    def lease_is_valid(self, state: State) -> bool:
        """Whether no other leader can have been elected by now, as far as clocks differ by no more than the configured drift."""
        config = state.config
        if state.role is not Role.LEADER or not config.check_quorum or state.timeout_now_sent or state.transfer_target is not None:
            return False
        if self.lease_start is None or state.now_ticks is None or not state.committed_in_term:
            return False
        elapsed = state.now_ticks - self.lease_start
        return elapsed * 100 < config.election_timeout_ticks_min * (100 - config.lease_drift_percent)

    # -- giving up ----------------------------------------------------------------------------------------------------

    def fail_all(self, state: State) -> None:
        """Role, term or leader changed: nobody confirms the open reads any more; they are to be asked again."""
        for done in self.rounds:
            for asker, context in done.waiters:
                self._answer(state, asker, context, None)
        for asker, context in self.waiting:
            self._answer(state, asker, context, None)
        for forwarded in self.forwarded.values():
            self._refuse(state, forwarded.contexts)
        self._refuse(state, self.asked)
        self.rounds.clear()
        self.waiting = []
        self.forwarded = {}
        self.asked = []
        self.count = 0
        self.round_times.clear()
        self.lease_start = None

    def _refuse(self, state: State, contexts: list[int]) -> None:
        self.count -= len(contexts)
        for context in contexts:
            state.reads_ready.append(ReadReady(context=context, index=None))

    @staticmethod
    def _answer(state: State, asker: NodeId | None, context: int, index: Index | None) -> None:
        if asker is None:
            state.reads_ready.append(ReadReady(context=context, index=index))
        else:
            state.before_sync.append(ReadIndexReply(source=state.node_id, target=asker, term=state.term, context=context, read_index=index))


def first_request(state: State) -> int:
    """A number that no earlier life of this node has begun with, made of the only chance that the core is given.

    1. A follower asks for a read index as request 1. 2. It restarts. 3. It asks again, for a read that began later. 4. The answer to the first one
    arrives, with an index from before that. Were both request 1, the read would be stale.
    """
    life = 0
    for _ in range(LIFE_DRAWS):
        life = (life * 1_000_003 + state.draw_timeout()) % 2**39
    return (life << REQUESTS_BITS) + 1


def _confirmed(state: State, voters: tuple[NodeId, ...], acked: list[int]) -> int:
    """The newest round that a majority of `voters` has answered; the leader answers its own at once."""
    if state.node_id in voters:
        acked.append(state.reads.round)
    return majority_index(acked)
