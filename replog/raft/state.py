"""All that a core knows, and the out-tray that becomes the next `Ready`.

The rules live in the modules beside this one, as functions of a `State` (one per message or event); here are only the values and the few
primitives that every rule uses: sending, committing, truncating. Nothing outside `replog.raft` touches a `State`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Final

from replog.raft.config import CoreConfig
from replog.raft.events import Event, MembershipChanged, MembershipCommitted, MessageIgnored, RemovedFromMembership
from replog.raft.history import MembershipHistory
from replog.raft.log import Log
from replog.raft.messages import AppendEntriesReply, CoreMessage, EntryRange, InstallSnapshot
from replog.raft.progress import Progress
from replog.raft.reads import Reads
from replog.raft.ready import EntriesToWrite, ReadReady
from replog.types import INDEX_MAX, TERM_MAX, HardState, Index, Member, Membership, NodeId, Role, SnapshotMeta, Term

NOTHING: Final = (0, 0)
ANYTHING: Final = (TERM_MAX, INDEX_MAX)
"""What a node may have promised that has nothing: this may be its first start, or its disk was lost."""


class State:
    """Invariants: see `replog.raft.check`."""

    __slots__ = (
        "after_sync",
        "applying_index",
        "before_sync",
        "conditional_votes",
        "config",
        "departed_members",
        "discard_from",
        "draw_timeout",
        "election_elapsed",
        "election_timeout",
        "entries",
        "events",
        "hard_state_given",
        "heartbeat_elapsed",
        "history",
        "incarnation",
        "install",
        "last_range",
        "leader",
        "leaderless_ticks",
        "log",
        "membership",
        "node_id",
        "now_ticks",
        "peers",
        "persist_waiting_ticks",
        "promised",
        "quiet_ticks_left",
        "reads",
        "reads_ready",
        "role",
        "sends_wanted",
        "snapshot",
        "snapshots_to_send",
        "term",
        "ticks",
        "timeout_now_sent",
        "transfer_asked_tick",
        "transfer_target",
        "vote",
        "voter_peers",
        "voter_peers_outgoing",
        "votes",
    )

    def __init__(
        self,
        config: CoreConfig,
        draw_timeout: Callable[[], int],
        hard_state: HardState,
        log: Log,
        history: MembershipHistory,
        snapshot: SnapshotMeta | None,
        incarnation: int,
        maybe_promised: Index,
        is_founder: bool,
    ) -> None:
        self.config = config
        self.node_id: NodeId = config.node_id
        self.draw_timeout = draw_timeout
        self.incarnation = incarnation

        # Persistent (paper figure 2), and what is known of the log.
        self.term: Term = hard_state.term
        self.vote: NodeId | None = hard_state.vote
        self.log = log
        self.history = history
        self.membership: Membership = history.current
        self.snapshot = snapshot
        """The newest durable snapshot, ours or received."""
        self.promised: tuple[Term, Index] = NOTHING
        """Recovery cut our log, which may have promised entries up to this index, in terms up to this one; NOTHING once the log is there again."""
        if maybe_promised > log.last_index:
            self.promised = (hard_state.term, maybe_promised)
        elif is_founder and not log.last_index:
            self.promised = ANYTHING

        # Role.
        self.role = Role.FOLLOWER
        self.leader: NodeId | None = None
        self.votes: dict[NodeId, bool] = {}
        """Answers to our campaign, our own included."""
        self.conditional_votes: set[NodeId] = set()
        """Those of them that count only together with everybody's: their logs lack what they may have promised."""

        # Time.
        self.ticks = 0
        """Ticks counted since the start; overdue ones are folded, so this clock may only be slow."""
        self.now_ticks: int | None = None
        """Time really elapsed, as last observed; None: never told, so there are no leases."""
        self.election_elapsed = 0
        """Ticks since the leader (or a candidate that got our vote) was heard."""
        self.election_timeout = 0
        self.leaderless_ticks = 0
        """Ticks since a leader was heard, whoever campaigned meanwhile."""
        self.heartbeat_elapsed = 0
        self.persist_waiting_ticks = 0
        """Leader: ticks since entries were handed out to be written and nothing was reported."""
        self.quiet_ticks_left = config.election_timeout_ticks_min if config.quiet_after_start and hard_state.term else 0

        # Leader.
        self.peers: dict[NodeId, Progress] = {}
        """Every other member, and removed ones that do not know it yet (`last_wanted` set); in sorted order of their first appearance."""
        self.voter_peers: list[Progress] = []
        """Progress of the other voters of the incoming half, and of the outgoing half: who counts in a quorum besides this node."""
        self.voter_peers_outgoing: list[Progress] = []
        self.departed_members: dict[NodeId, Member] = {}
        self.transfer_target: NodeId | None = None
        self.transfer_asked_tick = 0
        self.timeout_now_sent = False
        """In this term somebody was told to campaign at once: that election passes by stickiness, so no lease holds any more."""
        self.reads = Reads()
        self.sends_wanted = False
        """Something changed that may let the leader send; looked at once per Ready."""
        self.last_range: EntryRange | None = None
        """The range cut last, as both followers usually want the same one."""

        # Out-tray.
        self.hard_state_given = hard_state
        self.before_sync: list[CoreMessage] = []
        self.after_sync: list[CoreMessage] = []
        self.snapshots_to_send: list[InstallSnapshot] = []
        self.install: SnapshotMeta | None = None
        self.discard_from: Index | None = None
        self.entries: list[EntriesToWrite] = []
        self.applying_index: Index = log.applied_index
        """Highest index given out in `Ready.committed`; applied <= applying <= committed."""
        self.reads_ready: list[ReadReady] = []
        self.events: list[Event] = []

    # -- questions ----------------------------------------------------------------------------------------------------

    @property
    def is_voter(self) -> bool:
        return self.membership.is_voter(self.node_id)

    @property
    def is_elector(self) -> bool:
        """Whether the node may campaign: a voter, or one whose removal or demotion is not known to be committed (thesis 4.2.2).

        Until then it may be the only one with that entry, so that nobody else could win. Its own vote counts only where it is a voter.
        """
        if self.is_voter:
            return True
        committed = self.log.committed_index
        if self.history.index <= committed:
            return False
        uncommitted = self.history.between(committed + 1, self.log.last_index)
        return self.history.at(committed).is_voter(self.node_id) or any(one.is_voter(self.node_id) for _, one in uncommitted)

    @property
    def is_only_voter(self) -> bool:
        return self.membership.voters == (self.node_id,) and not self.membership.voters_outgoing

    @property
    def committed_in_term(self) -> bool:
        """Whether an entry of the own term is committed: only then is the commit index known to be the newest (paper 8), and are membership
        changes safe."""
        return self.log.term_at(self.log.committed_index) == self.term

    def member_of(self, node: NodeId | None) -> Member | None:
        return self.membership.members.get(node) if node else None

    def applicable_index(self) -> Index:
        """What may be applied with the next Ready: what is committed, and durable here or written by it. What an earlier Ready still writes waits."""
        log = self.log
        if log.persisted_index >= log.handed_index:
            return log.committed_index
        return min(log.committed_index, max(log.persisted_index, self.applying_index))

    # -- out ----------------------------------------------------------------------------------------------------------

    def ignore(self, message: CoreMessage, rule: str) -> None:
        self.events.append(MessageIgnored(source=message.source, kind=type(message).__name__, rule=rule))

    def acknowledge(self, target: NodeId, match_index: Index) -> None:
        """Say, once our disk has it, that the log agrees with the leader's up to `match_index`. Only the last one of a batch is sent."""
        queue = self.after_sync
        reply = AppendEntriesReply(
            source=self.node_id, target=target, term=self.term, match_index=match_index, last_index=self.log.last_index
        )
        if queue:
            last = queue[-1]
            if (
                type(last) is AppendEntriesReply
                and last.target == target
                and last.term == self.term
                and last.rejected_prev_index is None
                and last.match_index <= match_index
            ):
                queue[-1] = reply
                return
        queue.append(reply)

    def withdraw_acknowledgements(self, last_kept: Index) -> None:
        """Acknowledgements that have not left do not leave any more for entries behind `last_kept`, which are dropped: the disk will not have them."""
        if self.after_sync:
            self.after_sync = [
                message
                for message in self.after_sync
                if type(message) is not AppendEntriesReply or message.rejected_prev_index is not None or message.match_index <= last_kept
            ]

    # -- the log ------------------------------------------------------------------------------------------------------

    def regain(self) -> None:
        """The log grew by what the term's leader has; see `replog.raft.candidate` on when it has all that may have been promised."""
        if self.promised == NOTHING:
            return
        log, (term, index) = self.log, self.promised
        if log.last_term == self.term if self.promised == ANYTHING else log.last_term > term or log.last_index >= index:
            self.promised = NOTHING

    def commit_to(self, index: Index, *, more_to_come: bool = False) -> bool:
        """Raise the commit index; says whether it changed. The caller vouches that a quorum holds `index`.

        `more_to_come`: the leader has committed more than our log holds, so that it will send it.
        """
        log = self.log
        before = log.committed_index
        if index <= before:
            return False
        assert index <= log.last_index
        log.committed_index = index
        self.sends_wanted = True
        for at, membership in self.history.between(before + 1, index):
            self.tell_membership_committed(at, self.history.at(at - 1), membership, more_to_come=more_to_come)
        return True

    def tell_membership_committed(self, index: Index, before: Membership, membership: Membership, *, more_to_come: bool = False) -> None:
        """A node that was removed and added again passes by its removal when it catches up: it is removed only if the membership in force lacks it too,
        and no more is to come (a removed node gets nothing behind its removal, nor a commit index behind it)."""
        self.events.append(MembershipCommitted(index=index, membership=membership))
        node = self.node_id
        if node in before.nodes and node not in membership.nodes and node not in self.membership.nodes and not more_to_come:
            self.events.append(RemovedFromMembership(index=index))

    def adopt_membership(self, index: Index, membership: Membership) -> None:
        """A membership is in force from its own entry on (thesis 4.1)."""
        self.history.append(index, membership)
        self.membership = membership
        self.events.append(MembershipChanged(index=index, membership=membership))

    def truncate(self, first_dropped: Index) -> None:
        """Drop the entries from `first_dropped` on, and everything that was in force by them."""
        log = self.log
        if first_dropped <= log.handed_index and (self.discard_from is None or first_dropped < self.discard_from):
            self.discard_from = first_dropped
        log.truncate(first_dropped)
        self.withdraw_acknowledgements(first_dropped - 1)
        self.last_range = None
        entries = self.entries
        while entries and entries[-1].first_index >= first_dropped:
            entries.pop()
        if entries and entries[-1].last_index >= first_dropped:
            entries[-1] = replace(entries[-1], last_index=first_dropped - 1)
        if self.history.truncate(first_dropped):
            self.membership = self.history.current
            self.events.append(MembershipChanged(index=self.history.index, membership=self.membership, rolled_back=True))
            is_lacking = self.node_id not in self.membership.nodes and self.history.last_member(self.node_id) is not None
            if is_lacking and self.history.index <= log.committed_index:
                self.events.append(RemovedFromMembership(index=self.history.index))  # it was added again, and that was lost
