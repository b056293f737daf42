"""Elections: pre-vote, vote, and the answers (paper 5.2, 5.4.1; thesis 9.6, 4.2.3).

A campaign asks first whether it could win (pre-vote: nobody's term or vote changes), and only then raises the term. Both questions are refused
by a node that has heard a leader within the least election timeout, unless that leader itself asked for the election.

A learner answers a vote request as a voter does: who asks it has a membership in which it is a voter already, of which the learner may not know yet,
and without its vote that membership may have no leader for ever.

A node whose log lacks what it may have promised (`State.promised`, a position (term, index)) has lost it in one of two ways: recovery cut a damaged end, or
the disk is empty and nobody can tell a first start from a loss. It gives a full vote only to a log that ends at that position or behind it::

    promised (term 2, index 5)     last entry of the candidate's log
    term 3, any index              full: the leader of term 3 had all that was committed in terms 1 and 2, in front of its own entries
    term 2, index 5 or more        full: the leader of term 2 sent what was acknowledged in it, and the candidate has it up to there
    term 2, index 4                it may lack entry 5
    term 1, index 9                it may lack entry 5 too: its own entry 5 is another one

Any other candidate whose log is up to date gets a *conditional* vote, which counts only if every member grants, in either way. Then no log that is left has
an entry that the candidate's has not, so whatever was committed and is still on a member's disk survives (paper 5.4.3 with "every" for "a majority").
Learners are asked as well, as one may have been made a voter by an entry that was lost. A conditional vote is kept like any other, so a term has one leader.

What this does not cover: an entry whose every copy is lost; and a new node that became a voter without having been a learner, of an even number of
voters, half of which lost that change and all behind it, while the others had never got it. So add nodes as learners.

The node counts as whole again (`State.regain`) once a leader has brought its log to the promised index, or to an entry of a later term: that leader's term is
not below any in which the node promised something, so the leader had it. A founder, of whose promises nothing is known, waits for an entry of that leader's own term.
"""

from __future__ import annotations

from collections.abc import Mapping

from replog.raft import changes, leader, transfer
from replog.raft.events import CampaignStarted
from replog.raft.messages import PreVoteReply, PreVoteRequest, VoteReply, VoteRequest
from replog.raft.quorum import VoteResult, vote_result
from replog.raft.roles import ELECTION_LOST, ELECTION_TIMEOUT, PRE_VOTE_LOST, PRE_VOTE_WON, become, rest
from replog.raft.state import ANYTHING, NOTHING, State
from replog.types import NodeId, Role

LAST_RESORT_TIMEOUTS = 10
"""Election timeouts without a leader after which a node campaigns although recovery cut its log below what it may have promised."""


def is_promotable(state: State) -> bool:
    """Whether the node may campaign: a voter that has all it may have promised (nobody else could give it back to an only voter).

    One that lacks some of it leaves that to others, until none of them has led for so long that perhaps all of them are in its place. Founders are.
    """
    if not state.is_elector:
        return False
    waited = state.leaderless_ticks >= LAST_RESORT_TIMEOUTS * state.election_timeout
    return state.promised in (NOTHING, ANYTHING) or state.is_only_voter or waited


def tick(state: State) -> None:
    """A tick of a node that does not lead."""
    state.election_elapsed += 1
    state.leaderless_ticks += 1
    if state.quiet_ticks_left:
        state.quiet_ticks_left -= 1
    if state.reads.forwarded:
        state.reads.tick_follower(state)
    if state.transfer_target is not None and state.election_elapsed >= state.config.election_timeout_ticks_min:
        transfer.end(state, succeeded=False, reason="no leader known after an election timeout")
    if state.election_elapsed >= state.election_timeout and is_promotable(state):
        campaign(state, ELECTION_TIMEOUT, pre_vote=state.config.pre_vote)


def campaign(state: State, reason: str, *, pre_vote: bool) -> None:
    if pre_vote:
        become_pre_candidate(state, reason)
    else:
        become_candidate(state, reason, transfer=False)


def become_pre_candidate(state: State, reason: str) -> None:
    become(state, Role.PRE_CANDIDATE, state.term, None, reason)
    state.events.append(CampaignStarted(term=state.term + 1, pre_vote=True, reason=reason))
    vote_for_oneself(state)
    if count(state) is VoteResult.WON:
        become_candidate(state, PRE_VOTE_WON, transfer=False)
        return
    ask(state, whom_to_ask(state))


def become_candidate(state: State, reason: str, *, transfer: bool) -> None:
    """Raise the term and vote for oneself; both are durable before any request leaves."""
    become(state, Role.CANDIDATE, state.term + 1, None, reason)
    state.events.append(CampaignStarted(term=state.term, pre_vote=False, reason=reason))
    state.vote = state.node_id
    vote_for_oneself(state)
    if count(state) is VoteResult.WON:
        leader.become_leader(state)
        return
    ask(state, whom_to_ask(state), transfer=transfer)


def whom_to_ask(state: State) -> list[NodeId]:
    """The other voters; everybody, if our own vote is a conditional one."""
    asked = state.membership.nodes if state.conditional_votes else state.membership.all_voters
    return sorted(set(asked) - {state.node_id})


def ask(state: State, nodes: list[NodeId], *, transfer: bool = False) -> None:
    """Ask for the votes, or pre-votes, of `nodes`."""
    last_index, last_term = state.log.last_index, state.log.last_term
    for node in nodes:
        state.after_sync.append(
            PreVoteRequest(source=state.node_id, target=node, term=state.term + 1, last_index=last_index, last_term=last_term)
            if state.role is Role.PRE_CANDIDATE
            else VoteRequest(
                source=state.node_id, target=node, term=state.term, last_index=last_index, last_term=last_term, transfer=transfer
            )
        )


def vote_for_oneself(state: State) -> None:
    state.votes[state.node_id] = True
    if state.promised != NOTHING:
        state.conditional_votes.add(state.node_id)


def count(state: State) -> VoteResult:
    """The vote so far. Conditional votes count only when every member has given one of either kind; an only voter has nobody to wait for."""
    membership, conditional = state.membership, state.conditional_votes
    votes: Mapping[NodeId, bool] = state.votes
    if conditional and not state.is_only_voter:
        if all(votes.get(node) or node in conditional for node in membership.nodes):
            return VoteResult.WON
        votes = {node: granted for node, granted in votes.items() if node not in conditional}
    return vote_result(votes, membership.voters, membership.voters_outgoing)


def on_grant(state: State, message: PreVoteReply | VoteReply) -> VoteResult:
    """Note an answer, the first of each voter, and count."""
    if message.source not in state.votes:
        state.votes[message.source] = message.granted
        if message.conditional:
            if not state.conditional_votes:
                ask(state, sorted(set(state.membership.nodes) - state.membership.all_voters))
            state.conditional_votes.add(message.source)
    return count(state)


# -- requests -----------------------------------------------------------------------------------------------------------


def refuses_by_stickiness(state: State, message: VoteRequest | PreVoteRequest) -> bool:
    """Whether a leader was heard too recently to help elect another one (thesis 4.2.3). Checked before the term is taken over."""
    if isinstance(message, VoteRequest) and message.transfer:
        return False
    config = state.config
    if not config.check_quorum:
        return False
    if state.role is Role.LEADER:
        return True
    return state.quiet_ticks_left > 0 or (state.leader is not None and state.election_elapsed < config.election_timeout_ticks_min)


def on_sticky_request(state: State, message: VoteRequest | PreVoteRequest) -> None:
    state.ignore(message, "a leader was heard within the election timeout")
    if state.role is Role.LEADER:
        changes.tell_departed(state, message.source)


def judge(state: State, message: VoteRequest | PreVoteRequest, *, may_vote: bool) -> tuple[bool, bool]:
    """(granted, conditional): granted to a log that is up to date (paper 5.4.1); only conditionally when it may lack what this node has promised and lost."""
    fits = may_vote and state.log.is_up_to_date(message.last_index, message.last_term)
    lacks = (message.last_term, message.last_index) < state.promised
    return fits and not lacks, fits and lacks


def on_vote_request(state: State, message: VoteRequest) -> None:
    """One vote a term, full or conditional, first come first served, and only for a log at least as up to date as ours."""
    may_vote = state.vote == message.source or (state.vote is None and state.leader is None)
    granted, conditional = judge(state, message, may_vote=may_vote)
    if granted or conditional:
        state.vote = message.source
        state.election_elapsed = 0
    state.after_sync.append(
        VoteReply(source=state.node_id, target=message.source, term=state.term, granted=granted, conditional=conditional)
    )


def on_pre_vote_request(state: State, message: PreVoteRequest) -> None:
    """`message.term` is the term that would come; nothing of ours changes."""
    may_vote = message.term > state.term or state.vote == message.source or (state.vote is None and state.leader is None)
    granted, conditional = judge(state, message, may_vote=may_vote)
    term = message.term if granted or conditional else state.term
    state.after_sync.append(PreVoteReply(source=state.node_id, target=message.source, term=term, granted=granted, conditional=conditional))


def refuse_old_pre_vote(state: State, message: PreVoteRequest) -> None:
    """A pre-candidate of an old term learns ours: else it might ask for ever, being refused by silence."""
    state.after_sync.append(PreVoteReply(source=state.node_id, target=message.source, term=state.term, granted=False))


# -- answers ------------------------------------------------------------------------------------------------------------


def on_pre_vote_reply(state: State, message: PreVoteReply) -> None:
    if state.role is not Role.PRE_CANDIDATE or message.term != state.term + (1 if message.granted or message.conditional else 0):
        state.ignore(message, "no such pre-vote is open")
        return
    match on_grant(state, message):
        case VoteResult.WON:
            become_candidate(state, PRE_VOTE_WON, transfer=False)
        case VoteResult.LOST:
            rest(state, state.term, None, PRE_VOTE_LOST)
        case VoteResult.PENDING:
            pass


def on_vote_reply(state: State, message: VoteReply) -> None:
    if state.role is not Role.CANDIDATE:
        state.ignore(message, "no such vote is open")
        return
    match on_grant(state, message):
        case VoteResult.WON:
            leader.become_leader(state)
        case VoteResult.LOST:
            rest(state, state.term, None, ELECTION_LOST)
        case VoteResult.PENDING:
            pass
