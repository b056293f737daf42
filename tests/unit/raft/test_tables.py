"""The tables that any Raft core must reproduce: quorums and membership changes."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from replog.errors import MembershipRefused
from replog.raft.membership import AddLearner, AddVoter, MembershipChange, RemoveNode, UpdateMember, enter_joint, leave_joint, simple
from replog.raft.quorum import VoteResult, committed_index, vote_result
from replog.types import INDEX_MAX, Membership

TABLES = Path(__file__).parents[4] / "shared" / "raft-tables"


def files(kind: str) -> list[Path]:
    return sorted((TABLES / kind).glob("*.txt"))


def cases(path: Path) -> Iterator[tuple[str, list[str]]]:
    """(command, answer lines) of each block; several command lines become one, joined by spaces."""
    lines = [line for line in path.read_text().splitlines() if not line.startswith("#")]
    command: list[str] = []
    answer: list[str] | None = None
    for line in [*lines, ""]:
        if answer is None:
            if line == "----":
                answer = []
            elif line.strip():
                command.append(line.strip())
        elif line.strip():
            answer.append(line)
        elif answer:
            yield " ".join(command), answer
            command, answer = [], None


@pytest.fixture(autouse=True)
def tables_present() -> None:
    if not TABLES.is_dir():
        pytest.skip(f"the tables are not at {TABLES}")


def numbers(text: str) -> tuple[str, ...]:
    return tuple(re.findall(r"\d+", text))


def arguments(command: str) -> dict[str, str]:
    return {key: value or bare for key, value, bare in re.findall(r"(\w+)=(?:\(([^)]*)\)|(\w+))", command)}


def voters_of(text: str | None) -> tuple[str, ...]:
    return () if text is None or text == "zero" else tuple(dict.fromkeys(numbers(text)))


def in_order(text: str, voters: tuple[str, ...], outgoing: tuple[str, ...]) -> dict[str, str]:
    """What the table says of each voter: those of the first half in their order, then the second half's others."""
    nodes = dict.fromkeys((*voters, *outgoing))
    return dict(zip(nodes, [part.strip() for part in text.split(",")] if text else [], strict=False))


@pytest.mark.parametrize("path", files("quorum") if TABLES.is_dir() else [], ids=lambda path: path.stem)
def test_quorums_agree_with_the_table(path: Path) -> None:
    checked = 0
    for command, answer in cases(path):
        given = arguments(command)
        voters, outgoing = voters_of(given.get("cfg")), voters_of(given.get("cfgj"))
        wanted = answer[-1].strip()
        if command.startswith("committed"):
            said = in_order(given.get("idx", ""), voters, outgoing)
            match = {node: int(index) for node, index in said.items() if index != "_"}
            found = committed_index(match, voters, outgoing)
            assert (INDEX_MAX if "∞" in wanted else int(wanted)) == found, command
            assert committed_index(match, outgoing, voters) == found, "the halves are alike"
        else:
            said = in_order(given.get("votes", ""), voters, outgoing)
            votes = {node: vote == "y" for node, vote in said.items() if vote != "_"}
            names = {"VoteWon": VoteResult.WON, "VotePending": VoteResult.PENDING, "VoteLost": VoteResult.LOST}
            assert vote_result(votes, voters, outgoing) is names[wanted], command
            assert vote_result(votes, outgoing, voters) is names[wanted], "the halves are alike"
        checked += 1
    assert checked > 5


def change_of(word: str) -> MembershipChange:
    kinds: dict[str, type[AddVoter | AddLearner | RemoveNode | UpdateMember]] = {
        "v": AddVoter,
        "l": AddLearner,
        "r": RemoveNode,
        "u": UpdateMember,
    }
    node = "" if word[1:] == "0" else word[1:]  # zero ids mean nobody
    return kinds[word[0]](node=node)


def configuration(membership: Membership) -> str:
    """The table's way to write a membership."""

    def ids(nodes: tuple[str, ...]) -> str:
        return "(" + " ".join(sorted(nodes, key=int)) + ")"

    line = f"voters={ids(membership.voters)}"
    if membership.voters_outgoing:
        line += f"&&{ids(membership.voters_outgoing)}"
    if membership.learners:
        line += f" learners={ids(membership.learners)}"
    if membership.learners_next:
        line += f" learners_next={ids(membership.learners_next)}"
    return line + (" autoleave" if membership.auto_leave else "")


def changed_by(name: str, words: list[str], membership: Membership, changes: list[MembershipChange]) -> Membership:
    if name == "simple":
        return simple(membership, changes)
    if name == "enter-joint":
        return enter_joint(membership, changes, auto_leave="autoleave=true" in words)
    assert name == "leave-joint"
    return leave_joint(membership)


def refused(answer: list[str]) -> bool:
    return not answer[0].startswith("voters=")


@pytest.mark.parametrize("path", files("confchange") if TABLES.is_dir() else [], ids=lambda path: path.stem)
def test_membership_changes_agree_with_the_table(path: Path) -> None:
    membership = Membership()
    for command, answer in cases(path):
        name, *words = command.split()
        changes = [change_of(word) for word in words if "=" not in word]
        if refused(answer):
            with pytest.raises(MembershipRefused):
                changed_by(name, words, membership, changes)
            continue
        changed = changed_by(name, words, membership, changes)
        assert configuration(changed) == answer[0]
        learners = {line.split(":")[0] for line in answer[1:] if line.endswith("learner")}
        assert set(changed.members) == {line.split(":")[0] for line in answer[1:]}
        assert set(changed.learners) == learners
        membership = changed


def test_all_tables_are_read() -> None:
    assert {path.stem for path in files("quorum")} >= {"joint_commit", "joint_vote", "majority_commit", "majority_vote"}
    assert len(files("confchange")) >= 9
