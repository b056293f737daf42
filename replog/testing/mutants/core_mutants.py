"""Bugs in the consensus core and the replica: one rule each.

FAULTS lists one more, "sessions left out of the snapshot": there are no sessions yet that could be left out.
"""

from __future__ import annotations

from replog.testing.mutants.core_scenarios import (
    append_matches_in_front_of_an_old_tail,
    commit_is_announced_behind_what_matched,
    old_leader_with_the_longest_log_campaigns,
    one_acknowledgement_comes_before_the_leaders_own_sync,
    probe_lands_in_an_old_tail,
    vote_arrives_in_the_candidates_next_term,
)
from replog.testing.mutants.kills import Scenario, Seed
from replog.testing.mutants.planting import Edit, Mutant

_FOLLOWER, _CANDIDATE, _LEADER = "replog.raft.follower", "replog.raft.candidate", "replog.raft.leader"
_READY_BEFORE = "messages_before_sync=tuple(before),"


def _leaving_early(kind: str) -> str:
    """Messages of one kind leave before the disk (and once more after it)."""
    return f"messages_before_sync=(*before, *(m for m in after if type(m).__name__ == '{kind}')),"


CORE: tuple[Mutant, ...] = (
    Mutant(
        name="no stale-term check",
        breaks="messages of an older term are taken as if they were of the present one",
        edits=(Edit("replog.raft.core", "RaftCore.receive", "message.term != s.term and not", "message.term > s.term and not"),),
        kills=(Scenario(vote_arrives_in_the_candidates_next_term, ("S1",)),),
    ),
    Mutant(
        name="second vote in a term",
        breaks="a node votes for everybody who asks in a term",
        edits=(
            Edit(_CANDIDATE, "on_vote_request", "state.vote == message.source or (state.vote is None and state.leader is None)", "True"),
        ),
        kills=(Seed(profile="crash-loop", seed=1, breaks=("S1", "S8")),),
    ),
    Mutant(
        name="vote not kept",
        breaks="the term is made durable, the vote is not",
        edits=(
            Edit(
                "replog.storage.disk",
                "DiskStorage._persist_rare",
                "hard_state=write.hard_state)",
                "hard_state=replace(write.hard_state, vote=None))",
            ),
        ),
        kills=(Seed(profile="crash-loop", seed=1, breaks=("S6",)),),
        wants="restarts after 1 to 30 ms",
    ),
    Mutant(
        name="vote reply before sync",
        breaks="a vote leaves before term and vote are on the disk",
        edits=(
            Edit(
                "replog.raft.core",
                "RaftCore.ready",
                _READY_BEFORE,
                _leaving_early("VoteReply"),
            ),
        ),
        kills=(Seed(profile="crash-loop", seed=1, breaks=("S8",)),),
    ),
    Mutant(
        name="acknowledgement before sync",
        breaks="an append is acknowledged before its entries are on the disk",
        edits=(
            Edit(
                "replog.raft.core",
                "RaftCore.ready",
                _READY_BEFORE,
                _leaving_early("AppendEntriesReply"),
            ),
        ),
        kills=(Seed(profile="crash-loop", seed=1, breaks=("S8",)),),
    ),
    Mutant(
        name="leader counts its own unsynced entry",
        breaks="the leader takes part in its own quorum before its disk does",
        edits=(Edit("replog.raft.replication", "maybe_commit", "persisted = log.persisted_index", "persisted = log.last_index"),),
        kills=(Scenario(one_acknowledgement_comes_before_the_leaders_own_sync, ("S7",)),),
    ),
    Mutant(
        name="no up-to-date check",
        breaks="a vote is given to any log",
        edits=(
            Edit(
                "replog.raft.log",
                "Log.is_up_to_date",
                "return last_term > self.last_term or (last_term == self.last_term and last_index >= self.last_index)",
                "return True",
            ),
        ),
        kills=(Seed(profile="crash-loop", seed=4, breaks=("S4",)),),
    ),
    Mutant(
        name="longer log wins",
        breaks="logs are compared by length and not by their last term",
        edits=(
            Edit(
                "replog.raft.log",
                "Log.is_up_to_date",
                "return last_term > self.last_term or (last_term == self.last_term and last_index >= self.last_index)",
                "return last_index >= self.last_index",
            ),
        ),
        kills=(Scenario(old_leader_with_the_longest_log_campaigns, ("S4",)),),
    ),
    Mutant(
        name="vote quorum off by one",
        breaks="half of the votes are enough",
        edits=(Edit("replog.raft.quorum", "majority_result", "needed = len(voters) // 2 + 1", "needed = max(1, len(voters) // 2)"),),
        kills=(Seed(profile="crash-loop", seed=2, breaks=("S1", "S4")),),
    ),
    Mutant(
        name="prev term ignored",
        breaks="an append is taken wherever the log is long enough",
        edits=(
            Edit(_FOLLOWER, "on_append_entries", "if log.term_at(prev_index) != message.prev_term:", "if prev_index > log.last_index:"),
        ),
        kills=(Scenario(probe_lands_in_an_old_tail, ("S3", "S5")),),
    ),
    Mutant(
        name="tail cut on every append",
        breaks="an append that repeats entries erases what follows them",
        edits=(
            Edit(
                _FOLLOWER,
                "on_append_entries",
                "conflict = log.first_conflict(entries.first_index, last, entries.terms)",
                "conflict = max(entries.first_index, log.committed_index + 1)",
            ),
        ),
        kills=(Seed(profile="network", seed=3, breaks=("S9", "S7")),),
    ),
    Mutant(
        name="follower commits beyond what matched",
        breaks="a follower commits min(leader's commit, its own last index)",
        edits=(
            Edit(
                _FOLLOWER,
                "on_append_entries",
                "min(message.committed_index, last)",
                "min(message.committed_index, log.last_index)",
            ),
        ),
        kills=(Scenario(commit_is_announced_behind_what_matched, ("S5",)),),
    ),
    Mutant(
        name="old-term entry committed by counting",
        breaks="the leader commits entries of older terms by counting replicas (figure 8)",
        edits=(Edit("replog.raft.replication", "maybe_commit", " or log.term_at(index) != state.term", ""),),
        kills=(Seed(profile="crash-loop", seed=4, breaks=("S10",)),),
        wants="long crash loops",
    ),
    Mutant(
        name="commit goes back",
        breaks="the commit index follows whatever a message says",
        edits=(Edit("replog.raft.state", "State.commit_to", "if index <= before:", "if index == before:"),),
        kills=(Seed(profile="network", seed=1, breaks=("S6",)),),
    ),
    Mutant(
        name="acknowledges last instead of matched",
        breaks="a follower acknowledges its whole log, whatever the append checked",
        edits=(
            Edit(
                _FOLLOWER,
                "on_append_entries",
                "state.acknowledge(message.source, max(last, log.committed_index))",
                "state.acknowledge(message.source, log.last_index)",
            ),
        ),
        kills=(Scenario(append_matches_in_front_of_an_old_tail, ("S7",)),),
    ),
    Mutant(
        name="match goes back",
        breaks="an older acknowledgement takes the match index back",
        edits=(
            Edit("replog.raft.progress", "Progress.accepted", "if match_index <= self.match_index:", "if match_index == self.match_index:"),
        ),
        kills=(Seed(profile="membership", seed=1, breaks=("S9",)),),
    ),
    Mutant(
        name="read index before a commit in the term",
        breaks="a new leader serves reads at a commit index that may be old",
        edits=(
            Edit("replog.raft.reads", "Reads.wants_round", " and state.committed_in_term", ""),
            Edit("replog.raft.reads", "Reads.begin_round", "if self.waiting and state.committed_in_term:", "if self.waiting:"),
        ),
        kills=(Seed(profile="crash-loop", seed=21, breaks=("S12", "S16")),),
    ),
    Mutant(
        name="read index without a round",
        breaks="a leader that may be deposed answers reads on its own word",
        edits=(
            Edit(
                "replog.raft.reads",
                "Reads.ask",
                "self.waiting.append((None, context))",
                "self.count -= 1; state.reads_ready.append(ReadReady(context=context, index=state.log.committed_index))",
            ),
        ),
        kills=(Seed(profile="quick-restarts", seed=26, breaks=("S12", "S16")),),
    ),
    Mutant(
        name="no no-op on election",
        breaks="a new leader appends nothing, so older entries stay uncommitted until somebody writes",
        edits=(Edit(_LEADER, "become_leader", "append_own_entry(state, EntryKind.NO_OP, None)", "pass"),),
        kills=(Seed(profile="crash-loop", seed=3, breaks=("L1",)),),
    ),
    Mutant(
        name="membership change before a commit in the term",
        breaks="a new leader changes the membership before it knows the newest one",
        edits=(Edit("replog.raft.changes", "change", "if not state.committed_in_term:", "if False:"),),
        kills=(Seed(profile="membership", seed=2, breaks=("S11",)),),
    ),
    Mutant(
        name="two membership changes at a time",
        breaks="a membership change is begun while another one is not committed",
        edits=(Edit("replog.raft.changes", "change", "if state.history.index > state.log.committed_index:", "if False:"),),
        kills=(Seed(profile="membership", seed=16, breaks=("S11",)),),
    ),
    Mutant(
        name="snapshot carries an uncommitted membership",
        breaks="a snapshot records the membership in force, committed or not",
        edits=(
            Edit("replog.node.snapshots", "Snapshots.take", "membership=self._applier.membership)", "membership=self._core.membership)"),
        ),
        kills=(Seed(profile="membership", seed=16, breaks=("S15",)),),
    ),
)
