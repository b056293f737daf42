"""Scenarios for bugs of the core that its owner hides from the simulator, or that need one rare message: scripts as `replog.testing.script` has them.

Every command is followed by the invariants of `replog.testing.cores`.
"""

from __future__ import annotations

from replog.testing.script import Script

_OLD_TAIL = """
nodes 1 2 3 pre_vote=false check_quorum=false
campaign 3
stabilize
cut 3
propose 3 x y
ready 3
campaign 1
stabilize 1 2
"""
"""Node 3 led term 1 and was cut off with entries 2 and 3; node 1 leads term 2 and has committed another entry 2."""


def play(script: str) -> None:
    """Run the commands. Raises AssertionError where an invariant breaks."""
    runner = Script()
    for line in script.strip().splitlines():
        runner.run(line)


def one_acknowledgement_comes_before_the_leaders_own_sync() -> None:
    """The leader's disk is busy with entry 2 when the first of two followers acknowledges it: that is one disk of three.

    The replica takes no message in while it writes (its turn is not over), so the simulator never shows this to the core; another owner may.
    """
    play("nodes 1 2 3\ncampaign 1\nstabilize\nhold-disk 1\npropose 1 a\nready 1\ndeliver 1->2\nready 2\ndeliver 2->1")


def vote_arrives_in_the_candidates_next_term() -> None:
    """Node 2's vote for term 1 reaches node 1 when that one is a candidate of term 2 already, in which node 2 then votes for node 3.

    The weather "stale-messages" shows the same, in one run of twenty.
    """
    play(
        "nodes 1 2 3 pre_vote=false check_quorum=false\ncampaign 1\nready 1\ndeliver 1->2\nready 2\ncampaign 1\nready 1\ndrop 1->2\ndeliver 2->1\n"
        "drop 1->3\ncampaign 3\nready 3\ndrop 3->2\ncampaign 3\nready 3\ndeliver 3->2\nready 2\ndeliver 2->3"
    )


def old_leader_with_the_longest_log_campaigns() -> None:
    """Node 1 led term 1 and was cut off with three entries; the others have committed one of term 2 meanwhile. It is shorter, and it must win.

    In a storm the old leader nearly always hears the new one before it campaigns.
    """
    play(
        "nodes 1 2 3 pre_vote=false check_quorum=false\ncampaign 1\nstabilize\ncut 1\npropose 1 x y z\nready 1\ncampaign 2\nstabilize 2 3\nheal\n"
        "crash 1\nrestart 1\n"
        "campaign 1\nready 1\ncampaign 1\nready 1\ndeliver 1->3\nready 3\ndeliver 3->1"
    )


def probe_lands_in_an_old_tail() -> None:
    """Node 2 leads term 3 and probes node 3 behind index 3, which node 3 has from another leader."""
    play(
        _OLD_TAIL
        + "propose 1 a\nstabilize 1 2\nheal\ncampaign 2\nready 2\ndeliver 2->1\nready 1\ndeliver 1->2\nready 2\ndeliver 2->3\nready 3"
    )


def commit_is_announced_behind_what_matched() -> None:
    """Node 3 is told commit 4 by a message that matches at 1 only; its entries 2 and 3 are of the old leader.

    Only a probe that lands in front of an old tail does this: the leader's probes jump to where the logs part, so a storm hardly ever makes one.
    """
    play(
        _OLD_TAIL + "propose 1 a b\nstabilize 1 2\nheal\n"
        "message AppendEntries 1->3 term=2 prev_index=1 prev_term=1 committed_index=4\ndeliver 1->3\nready 3"
    )


def append_matches_in_front_of_an_old_tail() -> None:
    """An append matches at 1; node 3, which has another entry 3 than the leader, must not acknowledge 3. The leader has nobody else for it."""
    play(
        _OLD_TAIL + "propose 1 a\nready 1\ndrop 1->2\nheal\n"
        "message AppendEntries 1->3 term=2 prev_index=1 prev_term=1 committed_index=2\ndeliver 1->3\nready 3\ndeliver 3->1 last"
    )
