"""What `replog status` and `replog member list` say: one plain value out of the nodes' statuses, and its form for people.

The tables fit 80 columns. What is wrong stands below them in words: a node that does not answer, is refused, was wiped, was removed or has failed.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from rich.console import Console
from rich.table import Table

from replog.cli.cluster_calls import Status, newest

_GROUPED_MAX = 10_000_000
"""From here on five columns of numbers with separators are wider than 80 characters."""
_ROLE_STYLES = {"leader": "bold green", "learner": "cyan", "candidate": "yellow", "pre-candidate": "yellow"}


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeRow:
    """One member, or a node that answers and is none."""

    node: str
    address: str
    member: str
    """voter, outgoing (a voter until the joint membership is left), learner, or none."""
    stays_learner: bool = False
    answers: bool = False
    why_silent: str = ""
    role: str | None = None
    term: int | None = None
    committed_index: int | None = None
    applied_index: int | None = None
    last_index: int | None = None
    first_index: int | None = None
    snapshot_index: int | None = None
    log_bytes: int | None = None
    lag: int | None = None
    """Entries of the leader's log that the node is not known to hold; None: no leader answers."""
    incarnation: int = 0
    """Recorded in the membership; 0: not yet."""
    incarnation_shown: int = 0
    """That of its data directory; 0: not known."""
    removed: bool = False
    fenced_by_epoch: int = 0
    founding: str = ""
    failure: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ClusterReport:
    """The cluster, as its nodes tell it now."""

    cluster_id: str | None = None
    leader: str | None = None
    """Who says that it leads, in the highest term."""
    term: int | None = None
    epoch: int | None = None
    membership_index: int | None = None
    joint: bool = False
    voters: tuple[str, ...] = ()
    voters_outgoing: tuple[str, ...] = ()
    learners: tuple[str, ...] = ()
    transfer_target: str | None = None
    nodes: tuple[NodeRow, ...] = ()
    notes: tuple[str, ...] = ()
    """What somebody should look at, in words."""

    def as_json(self) -> dict[str, Any]:
        return asdict(self)


@dataclass(slots=True)
class _Sorted:
    by_node: dict[str, Status] = field(default_factory=dict)
    addresses: dict[str, str] = field(default_factory=dict)
    silent: dict[str, str] = field(default_factory=dict)
    """Why an address gave no answer."""


def report_of(statuses: Mapping[str, Status | str]) -> ClusterReport:
    """Put the answers (by address) together."""
    best = newest(statuses.values())
    found = _Sorted()
    for address, status in statuses.items():
        if isinstance(status, str):
            found.silent[address] = status
        else:
            found.by_node[status["node_id"]] = status
            found.addresses[status["node_id"]] = address
    if best is None:
        rows = tuple(NodeRow(node="?", address=address, member="?", why_silent=why) for address, why in found.silent.items())
        return ClusterReport(nodes=rows, notes=tuple(f"{address}: no answer: {_cause(why)}" for address, why in found.silent.items()))
    membership = best["membership"]
    leads = best["role"] == "leader"
    rows = tuple(_row(node, best, found) for node in sorted({*membership["members"], *found.by_node}))
    return ClusterReport(
        cluster_id=best["cluster_id"],
        leader=best["node_id"] if leads else None,
        term=best["term"],
        epoch=membership["epoch"],
        membership_index=best["membership_index"],
        joint=bool(membership["voters_outgoing"]),
        voters=tuple(membership["voters"]),
        voters_outgoing=tuple(membership["voters_outgoing"]),
        learners=tuple(sorted({*membership["learners"], *membership["learners_next"]})),
        transfer_target=best["transfer_target"],
        nodes=rows,
        notes=tuple(_notes(best, rows, found)),
    )


def _row(node: str, best: Status, found: _Sorted) -> NodeRow:
    membership = best["membership"]
    recorded = membership["members"].get(node, {})
    status = found.by_node.get(node)
    address = recorded.get("address") or found.addresses.get(node, "")
    common: dict[str, Any] = {
        "node": node,
        "address": address,
        "member": _member_kind(node, membership),
        "stays_learner": recorded.get("stays_learner", False),
        "incarnation": recorded.get("incarnation", 0),
        "incarnation_shown": best["incarnations_seen"].get(node, 0),
        "lag": _lag(node, best),
    }
    if status is None:
        return NodeRow(**common, why_silent=found.silent.get(address, "not asked"))
    return NodeRow(
        **{**common, "incarnation_shown": status["incarnation"]},
        answers=True,
        **{
            name: status[name]
            for name in (
                "role",
                "term",
                "committed_index",
                "applied_index",
                "last_index",
                "first_index",
                "snapshot_index",
                "log_bytes",
                "removed",
                "fenced_by_epoch",
                "founding",
                "failure",
            )
        },
    )


def _member_kind(node: str, membership: Mapping[str, Any]) -> str:
    if node in membership["voters"]:
        return "voter"
    if node in membership["voters_outgoing"]:
        return "outgoing"
    return "learner" if node in membership["learners"] else "none"


def _lag(node: str, best: Status) -> int | None:
    if best["role"] != "leader":
        return None
    if node == best["node_id"]:
        return 0
    match = next((peer["match_index"] for peer in best["peers"] if peer["node"] == node), None)
    return best["last_index"] - match if match is not None else None


def _notes(best: Status, rows: tuple[NodeRow, ...], found: _Sorted) -> list[str]:
    notes: list[str] = []
    if best["role"] != "leader":
        notes.append("no node that answers leads")
    if best["transfer_target"]:
        notes.append(f"leadership is being handed to {best['transfer_target']}")
    for row in rows:
        if row.fenced_by_epoch:
            notes.append(
                f"{row.node}: fenced: the cluster was recovered as epoch {row.fenced_by_epoch} without it: "
                "wipe its data directory, start it without initial_members, add it as a learner"
            )
        elif row.removed:
            notes.append(f"{row.node}: removed from the membership, serves no more: stop it, or add it again")
        elif row.member == "none":
            notes.append(f"{row.node}: answers, but is no member: add it (member add-learner) or stop it")
        if row.founding:
            notes.append(f"{row.node}: {row.founding}")
        if row.failure:
            notes.append(f"{row.node}: failed: {row.failure}")
        if row.incarnation and row.incarnation_shown and row.incarnation != row.incarnation_shown:
            notes.append(
                f"{row.node}: its data directory ({row.incarnation_shown}) is not the recorded one ({row.incarnation}), so it is refused: "
                f"`replog member readmit {row.node}` takes it back as a learner"
            )
        if not row.answers:
            notes.append(f"{row.node} at {row.address}: no answer: {_cause(row.why_silent)}")
    silent = {row.node for row in rows if not row.answers}
    fenced = {row.node for row in rows if row.fenced_by_epoch}
    for node, status in sorted(found.by_node.items()):
        for peer, error in sorted(status["peer_errors"].items()):
            if peer == node or peer in silent or {node, peer} & fenced:
                continue
            is_refusal = "refused this node" in error or error.startswith("refused ")
            if node == best["node_id"] and peer not in best["membership"]["members"] and not is_refusal:
                notes.append(f"{node}: {peer} was removed and is to be told so, but cannot be reached: {_cause(error)}")
            else:
                notes.append(f"{node}: not connected to {peer}: {_cause(error)}")
    return notes


def _cause(error: str) -> str:
    """What gRPC says of a failed connection, without where it says it and how often."""
    return error.rpartition(": ")[2] if "failed to connect to all addresses" in error else error


# -- for people ------------------------------------------------------------------------------------------------------------


def print_status(console: Console, report: ClusterReport) -> None:
    """The nodes, the membership in one line, the notes."""
    console.print(_headline(report), soft_wrap=True)
    largest = max((row.last_index or 0 for row in report.nodes), default=0)
    number = _number if largest < _GROUPED_MAX else _plain_number
    table = _table(
        *("node", "role", "term", "commit", "applied", "last", "snapshot", "lag"), left=("node", "role"), narrow=largest >= _GROUPED_MAX
    )
    for row in report.nodes:
        if not row.answers:
            table.add_row(row.node if row.node != "?" else row.address, "[red]no answer[/red]", *[""] * 5, number(row.lag))
            continue
        role = "fenced" if row.fenced_by_epoch else row.role if row.member != "none" else "removed" if row.removed else "no member"
        style = _ROLE_STYLES.get(row.role or "", "")
        numbers = (row.committed_index, row.applied_index, row.last_index, row.snapshot_index, row.lag)
        table.add_row(row.node, f"[{style}]{role}[/{style}]" if style else role, number(row.term), *map(number, numbers))
    console.print(table)
    _print_notes(console, report)


def print_membership(console: Console, report: ClusterReport) -> None:
    """The membership in one line, and the notes."""
    console.print(_headline(report), soft_wrap=True)
    _print_notes(console, report)


def print_members(console: Console, report: ClusterReport) -> None:
    """Who is a member, where, and with which data directory."""
    console.print(_headline(report), soft_wrap=True)
    table = _table("node", "member", "address", "incarnation", "lag", "now", left=("node", "member", "address", "now"))
    for row in report.nodes:
        now = row.role or "no answer"
        kind = "read replica" if row.stays_learner else row.member
        style = "red" if not row.answers else _ROLE_STYLES.get(now, "")
        table.add_row(
            row.node, kind, row.address, str(row.incarnation or "-"), _number(row.lag), f"[{style}]{now}[/{style}]" if style else now
        )
    console.print(table)
    _print_notes(console, report)


def _headline(report: ClusterReport) -> str:
    if report.cluster_id is None:
        return "[red]no node answers[/red]"
    leads = f"{report.leader} leads" if report.leader else "[red]nobody leads[/red]"
    voters = f"{len(report.voters)} voter{'s' if len(report.voters) != 1 else ''}"
    if report.joint:
        voters = f"[yellow]joint[/yellow]: voters {' '.join(report.voters)} and {' '.join(report.voters_outgoing)}"
    learners = f", {len(report.learners)} learner{'s' if len(report.learners) != 1 else ''}" if report.learners else ""
    epoch = f", epoch {report.epoch}" if report.epoch else ""
    return f"cluster {report.cluster_id}: {leads}, term {report.term}, {voters}{learners}{epoch}"


def _print_notes(console: Console, report: ClusterReport) -> None:
    for note in report.notes:
        console.print(f"! {note}", style="yellow", markup=False)


def _table(*names: str, left: tuple[str, ...], narrow: bool = False) -> Table:
    """Only names of nodes may be broken; they can be long."""
    table = Table(box=None, pad_edge=False, padding=(0, 1 if narrow else 2, 0, 0), header_style="bold")
    for name in names:
        table.add_column(name, justify="left" if name in left else "right", no_wrap=name != "node", overflow="fold")
    return table


def _number(value: int | None) -> str:
    return "-" if value is None else f"{value:,}"


def _plain_number(value: int | None) -> str:
    return "-" if value is None else str(value)
