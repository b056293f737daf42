"""`replog status`, `member`, `transfer-leader`, `snapshot take`: a running cluster, asked and changed from outside.

Exit codes: 0 done; 1 it could not be done (nobody leads, a deadline passed); 2 wrong usage, or the cluster refused it and nothing was changed.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Awaitable, Callable
from typing import Annotated, Final, TypeVar

import typer

from replog.cli import cluster_offline
from replog.cli.cluster_calls import ClusterCalls, newest, parse_endpoints
from replog.cli.cluster_report import ClusterReport, print_members, print_status, report_of
from replog.cli.main import EXIT_DAMAGE
from replog.cli.output import JSON_OPTION, Form, console, emit_one
from replog.client.admin import (
    AdminClient,
    add_learner,
    add_voter,
    demote,
    promote,
    remove,
    update_address,
)
from replog.config import check_address, check_name
from replog.errors import ReplogError
from replog.rpc import admin_pb2 as pb

_T = TypeVar("_T")

member = typer.Typer(
    name="member",
    help="Who belongs to a running cluster.",
    no_args_is_help=True,
    rich_markup_mode=None,
)
snapshot = typer.Typer(
    name="snapshot",
    help="Take, check and move snapshots.",
    no_args_is_help=True,
    rich_markup_mode=None,
)

Endpoints = Annotated[
    str,
    typer.Option(
        "--endpoints",
        "-e",
        envvar="REPLOG_ENDPOINTS",
        help="Addresses of nodes, host:port separated by commas; one that answers is enough.",
        show_default=False,
    ),
]
Timeout = Annotated[float, typer.Option("--timeout", min=0.1, help="Seconds to wait; what passes by itself is waited for.")]
CatchUpTimeout = Annotated[
    float, typer.Option("--timeout", min=0.1, help="Seconds to wait; interrupted, the same command goes on where it stopped.")
]
Force = Annotated[bool, typer.Option("--force", help="Also when too few of the voters can be reached, or a learner is behind.")]
NodeName = Annotated[str, typer.Argument(metavar="NODE", help="The node's name.", show_default=False)]
Address = Annotated[str, typer.Argument(metavar="ADDRESS", help="host:port at which the others reach it.", show_default=False)]
CATCH_UP_SECONDS: Final = 3_600.0
_WATCH_SECONDS: Final = 1.0


def register(root: typer.Typer) -> None:
    """Add the commands to the command line."""
    root.command()(status)
    root.add_typer(member)
    root.command(name="transfer-leader")(transfer_leader)
    cluster_offline.register(root, snapshot)
    root.add_typer(snapshot)


# -- asking ------------------------------------------------------------------------------------------------------------------


def _ask(endpoints: str, timeout: float, question: Callable[[ClusterCalls], Awaitable[_T]]) -> _T:
    addresses = parse_endpoints(endpoints)

    async def asked() -> _T:
        async with ClusterCalls(addresses, timeout) as calls:
            return await question(calls)

    return asyncio.run(asked())


def _do(
    endpoints: str,
    timeout: float,
    as_json: bool,
    call: Callable[[AdminClient], Awaitable[str]],
    *,
    watch: str = "",
    repeatable: bool = False,
) -> None:
    """Have the leader do it, and say what was done. `watch`: a node whose progress people see meanwhile."""

    async def done(calls: ClusterCalls) -> str:
        watching = asyncio.create_task(_tell_progress(calls, watch)) if watch and sys.stderr.isatty() else None
        try:
            return await calls.at_leader(call, repeatable=repeatable)
        finally:
            if watching is not None:
                watching.cancel()

    message = _ask(endpoints, timeout, done)
    if as_json:
        emit_one(Form.JSON, {"done": message})
    else:
        print(message)


async def _tell_progress(calls: ClusterCalls, node: str) -> None:
    """On a terminal: how far `node` has come, each second."""
    while True:
        await asyncio.sleep(_WATCH_SECONDS)
        best = newest((await calls.statuses()).values())
        match = next((peer["match_index"] for peer in best["peers"] if peer["node"] == node), None) if best is not None else None
        if best is not None and match is not None:
            print(f"  {node} has {match:,} of {best['last_index']:,} entries", file=sys.stderr)


def _checked_name(name: str) -> str:
    check_name("NODE", name)
    return name


def _checked_address(address: str) -> str:
    check_address("ADDRESS", address)
    return address


# -- the cluster -------------------------------------------------------------------------------------------------------------


def _report(endpoints: str, timeout: float) -> ClusterReport:
    async def statuses(calls: ClusterCalls) -> ClusterReport:
        return report_of(await calls.statuses())

    return _ask(endpoints, timeout, statuses)


def _show(report: ClusterReport, as_json: bool, show: Callable[..., None]) -> None:
    if as_json:
        emit_one(Form.JSON, report.as_json())
    else:
        show(console(), report)
    if report.leader is None:
        raise typer.Exit(EXIT_DAMAGE)


def status(endpoints: Endpoints, timeout: Timeout = 5.0, as_json: bool = JSON_OPTION) -> None:
    """Every node, its role, and how far it is. Exit code 1 when nobody leads."""
    _show(_report(endpoints, timeout), as_json, print_status)


def transfer_leader(
    endpoints: Endpoints,
    node: Annotated[str, typer.Argument(metavar="NODE", help="Who is to lead; left out: the follower whose log is longest.")] = "",
    timeout: Timeout = 10.0,
    as_json: bool = JSON_OPTION,
) -> None:
    """Hand leadership to another voter."""
    target = _checked_name(node) if node else None
    _do(endpoints, timeout, as_json, lambda admin: admin.transfer_leadership(target))


# -- members -----------------------------------------------------------------------------------------------------------------


@member.command(name="list")
def list_members(endpoints: Endpoints, timeout: Timeout = 5.0, as_json: bool = JSON_OPTION) -> None:
    """Voters, learners, addresses, directories."""
    _show(_report(endpoints, timeout), as_json, print_members)


@member.command(name="add-learner")
def add_learner_command(
    node: NodeName,
    address: Address,
    endpoints: Endpoints,
    stays: Annotated[bool, typer.Option("--read-replica", help="It stays a learner when it has caught up.")] = False,
    force: Force = False,
    timeout: Timeout = 30.0,
    as_json: bool = JSON_OPTION,
) -> None:
    """Give a new node the log. It runs without initial members, waits to be contacted, and becomes a voter when it has caught up."""
    _change(endpoints, timeout, as_json, [add_learner(_checked_name(node), _checked_address(address), stays=stays)], force)


@member.command(name="promote")
def promote_command(
    node: NodeName, endpoints: Endpoints, force: Force = False, timeout: Timeout = 30.0, as_json: bool = JSON_OPTION
) -> None:
    """Make a learner a voter. Once it has caught up; with --force at once."""
    _change(endpoints, timeout, as_json, [promote(_checked_name(node))], force)


@member.command(name="demote")
def demote_command(
    node: NodeName, endpoints: Endpoints, force: Force = False, timeout: Timeout = 30.0, as_json: bool = JSON_OPTION
) -> None:
    """Make a voter a learner, until it is promoted."""
    _change(endpoints, timeout, as_json, [demote(_checked_name(node))], force)


@member.command(name="remove")
def remove_command(
    node: NodeName, endpoints: Endpoints, force: Force = False, timeout: Timeout = 30.0, as_json: bool = JSON_OPTION
) -> None:
    """Take a node out of the cluster. It learns of it and serves no more; a leader hands over first."""
    _change(endpoints, timeout, as_json, [remove(_checked_name(node))], force)


@member.command(name="update")
def update_command(
    node: NodeName, address: Address, endpoints: Endpoints, force: Force = False, timeout: Timeout = 30.0, as_json: bool = JSON_OPTION
) -> None:
    """Record another address of a member."""
    _change(endpoints, timeout, as_json, [update_address(_checked_name(node), _checked_address(address))], force)


@member.command(name="change")
def change_command(
    changes: Annotated[
        list[str],
        typer.Argument(
            metavar="VERB=NODE[@ADDRESS]...",
            help="add-learner=n4@host:port, add-voter=n5@host:port, promote=n4, demote=n2, remove=n1, update=n3@host:port",
            show_default=False,
        ),
    ],
    endpoints: Endpoints,
    force: Force = False,
    timeout: Timeout = 30.0,
    as_json: bool = JSON_OPTION,
) -> None:
    """Several changes as one step. By joint consensus where more than one voter changes."""
    _change(endpoints, timeout, as_json, [parse_change(text) for text in changes], force)


@member.command(name="replace")
def replace_command(
    old: Annotated[str, typer.Argument(metavar="OLD", help="The member that goes.", show_default=False)],
    new: Annotated[str, typer.Argument(metavar="NEW", help="The node that comes; the same name: as `readmit`.", show_default=False)],
    endpoints: Endpoints,
    address: Annotated[str, typer.Argument(metavar="ADDRESS", help="host:port of NEW, unless it is a member already.")] = "",
    force: Force = False,
    timeout: CatchUpTimeout = CATCH_UP_SECONDS,
    as_json: bool = JSON_OPTION,
) -> None:
    """Put NEW in the place of OLD.

    NEW becomes a learner and catches up, OLD hands over if it leads, then one change. May be interrupted and run again.
    """
    outgoing, incoming = _checked_name(old), _checked_name(new)
    where = _checked_address(address) if address else ""
    _do(endpoints, timeout, as_json, lambda admin: admin.replace(outgoing, incoming, where, force=force), watch=incoming, repeatable=True)


@member.command(name="readmit")
def readmit_command(
    node: NodeName,
    endpoints: Endpoints,
    address: Annotated[str, typer.Argument(metavar="ADDRESS", help="host:port, if that is another one now.")] = "",
    force: Force = False,
    timeout: CatchUpTimeout = CATCH_UP_SECONDS,
    as_json: bool = JSON_OPTION,
) -> None:
    """Take a wiped or restored node back. It is a learner at first. May be interrupted and run again."""
    name, where = _checked_name(node), _checked_address(address) if address else ""
    _do(endpoints, timeout, as_json, lambda admin: admin.readmit(name, where, force=force), watch=name, repeatable=True)


def _change(endpoints: str, timeout: float, as_json: bool, changes: list[pb.MemberChange], force: bool) -> None:
    _do(endpoints, timeout, as_json, lambda admin: admin.change_membership(changes, force=force))


def parse_change(text: str) -> pb.MemberChange:
    """One ``VERB=NODE[@ADDRESS]``. Raises BadParameter, `ConfigError`."""
    verb, equals, rest = text.partition("=")
    node, at, address = rest.partition("@")
    needs_address = verb in ("add-learner", "add-voter", "update")
    if not equals or bool(at) != needs_address:
        raise typer.BadParameter(f"{text!r} is no change; write it as add-learner=n4@host:port or remove=n1")
    _checked_name(node)
    if needs_address:
        _checked_address(address)
    match verb:
        case "add-learner":
            return add_learner(node, address)
        case "add-voter":
            return add_voter(node, address)
        case "promote":
            return promote(node)
        case "demote":
            return demote(node)
        case "remove":
            return remove(node)
        case "update":
            return update_address(node, address)
    raise typer.BadParameter(f"{verb!r} is no change; there are add-learner, add-voter, promote, demote, remove, update")


# -- snapshots ---------------------------------------------------------------------------------------------------------------


@snapshot.command()
def take(endpoints: Endpoints, timeout: Timeout = 300.0, as_json: bool = JSON_OPTION) -> None:
    """Have each of the nodes named write a snapshot now. Exit code 1 when one of them could not."""
    answers = _ask(endpoints, timeout, lambda calls: calls.at_each(AdminClient.take_snapshot))
    for address, answer in answers.items():
        failed = isinstance(answer, ReplogError)
        if as_json:
            emit_one(Form.JSON, {"address": address, "failed": str(answer)} if failed else {"address": address, "done": answer})
        else:
            print(f"{address}: {answer}", file=sys.stderr if failed else sys.stdout)
    if any(isinstance(answer, ReplogError) for answer in answers.values()):
        raise typer.Exit(EXIT_DAMAGE)
