"""What cores say, as lines for people: one a message, event or field of a `Ready`."""

from __future__ import annotations

from collections.abc import Iterator

from replog.raft import Ready, events
from replog.raft.messages import (
    AppendEntries,
    AppendEntriesReply,
    CoreMessage,
    Heartbeat,
    HeartbeatReply,
    InstallSnapshot,
    PreVoteReply,
    PreVoteRequest,
    ReadIndexReply,
    ReadIndexRequest,
    TimeoutNow,
    VoteReply,
    VoteRequest,
)
from replog.raft.reads import REQUESTS_BITS
from replog.types import EntryKind, Index, Membership, Term


def membership_line(membership: Membership) -> str:
    """``voters=(1 2) && (2 3) learners=(4) learners_next=(3) auto_leave``; what is empty is left out."""
    line = f"voters=({' '.join(membership.voters)})"
    if membership.voters_outgoing:
        line += f" && ({' '.join(membership.voters_outgoing)})"
    for name, nodes in (("learners", membership.learners), ("learners_next", membership.learners_next)):
        if nodes:
            line += f" {name}=({' '.join(nodes)})"
    recorded = [f"{node}:{member.incarnation}" for node, member in sorted(membership.members.items()) if member.incarnation]
    if recorded:
        line += f" incarnations=({' '.join(recorded)})"
    return line + (" auto_leave" if membership.auto_leave else "")


def terms_line(terms: tuple[tuple[Index, Term], ...]) -> str:
    if len(terms) == 1:
        return f"term {terms[0][1]}"
    return "terms " + ", ".join(f"{term} from {start}" for start, term in terms)


def message_line(message: CoreMessage) -> str:
    head = f"{type(message).__name__} {message.source}->{message.target} term {message.term}"
    match message:
        case PreVoteRequest() | VoteRequest():
            line = f"{head}, log {message.last_index}/{message.last_term}"
            return line + ", transfer" if isinstance(message, VoteRequest) and message.transfer else line
        case PreVoteReply() | VoteReply():
            return f"{head}, {'granted' if message.granted else 'conditional' if message.conditional else 'refused'}"
        case AppendEntries():
            line = f"{head}, after {message.prev_index}/{message.prev_term}, commit {message.committed_index}"
            if message.entries is not None:
                line += f", entries {message.entries.first_index}..{message.entries.last_index} of {terms_line(message.entries.terms)}"
            return line
        case AppendEntriesReply():
            if message.rejected_prev_index is None:
                return f"{head}, match {message.match_index}"
            return (
                f"{head}, rejected {message.rejected_prev_index}, hint {message.hint_index}/{message.hint_term}, last {message.last_index}"
            )
        case Heartbeat():
            return f"{head}, commit {message.committed_index}, round {message.round}"
        case HeartbeatReply():
            return f"{head}, round {message.round}"
        case InstallSnapshot():
            meta = message.meta
            return f"{head}, at {meta.index}/{meta.term}, {membership_line(meta.membership)}"
        case TimeoutNow():
            return head
        case ReadIndexRequest():
            return f"{head}, context {message.context % 2**REQUESTS_BITS}"
        case ReadIndexReply():
            return f"{head}, context {message.context % 2**REQUESTS_BITS}, index {message.read_index}"


def event_line(event: events.Event) -> str:
    match event:
        case events.RoleChanged():
            return f"{event.role.value} in term {event.term}: {event.reason}"
        case events.LeaderChanged():
            return f"leader of term {event.term}: {event.leader or 'unknown'}"
        case events.CampaignStarted():
            return f"{'pre-vote' if event.pre_vote else 'vote'} for term {event.term}: {event.reason}"
        case events.ConflictTruncated():
            return f"drops {event.first_index}..{event.last_index}"
        case events.MembershipChanged():
            return f"membership of {event.index}{' again' if event.rolled_back else ''}: {membership_line(event.membership)}"
        case events.MembershipCommitted():
            return f"membership of {event.index} is committed"
        case events.ProgressChanged():
            return f"{event.peer} is in {event.state}, match {event.match_index}, next {event.next_index}: {event.reason}"
        case events.SnapshotInstalled():
            return f"snapshot {event.index}/{event.term} is the log now"
        case events.TransferEnded():
            return f"transfer to {event.target} {'succeeded' if event.succeeded else 'failed'}: {event.reason}"
        case events.LearnerCaughtUp():
            return f"learner {event.learner} has caught up, match {event.match_index}"
        case events.MessageIgnored():
            return f"ignores {event.kind} from {event.source}: {event.rule}"
        case events.RemovedFromMembership():
            return f"removed from the membership by {event.index}"
        case events.Fenced():
            return event.reason
        case events.StateDiverged():
            return f"states differ at {event.index}: right {event.right or 'nobody'}, wrong {event.wrong}"
        case events.StateHealed():
            return f"state replaced by the snapshot at {event.index}"


def ready_lines(ready: Ready) -> Iterator[str]:
    """A Ready, in the order in which it is executed."""
    for message in ready.messages_before_sync:
        yield f"before sync: {message_line(message)}"
    for install in ready.snapshots_to_send:
        yield f"snapshot to send: {message_line(install)}"
    if ready.hard_state is not None:
        yield f"hard state: term {ready.hard_state.term}, vote {ready.hard_state.vote or 'none'}"
    if ready.snapshot is not None:
        yield f"install: snapshot {ready.snapshot.index}/{ready.snapshot.term}"
    if ready.discard_from is not None:
        yield f"discard from {ready.discard_from}"
    for write in ready.entries:
        what = "" if write.frames is not None else " no-op" if write.kind is EntryKind.NO_OP else " membership"
        yield f"write: {write.first_index}..{write.last_index} of {terms_line(write.terms)}{what}"
    for message in ready.messages_after_sync:
        yield f"after sync: {message_line(message)}"
    if ready.committed is not None:
        yield f"apply: {ready.committed[0]}..{ready.committed[1]}"
    for read in ready.reads:
        yield f"read {read.context}: {'refused' if read.index is None else f'at {read.index}'}"
    for event in ready.events:
        yield f"event: {event_line(event)}"
