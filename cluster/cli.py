"""The command line. Every mistake is one line on stderr with what was found and what is allowed, and exit code 2."""

from __future__ import annotations

import asyncio
import base64
import json
import os
import sys
import tempfile
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Annotated, Any, TypeVar

import typer

from cluster.commands import CasResult, CompareAndSet, Expectation, Item, check_key
from cluster.config import load
from cluster.node import EXIT_FAILED, EXIT_REFUSED, loop_factory, print_error, run
from replog.errors import CallerError, ConfigError, OperatorError, ReplogError

app = typer.Typer(
    add_completion=True,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    help="A replicated key-value store on replog: run it, use it, break it, measure it.",
    epilog="Start with `up` in one terminal; then `put`, `get`, `scan` and `status` in another find that cluster by themselves.",
)

DEFAULT_DIRECTORY = "data"
_CONSISTENCIES = ("linearizable", "lease", "stale")
_STATUS_SECONDS_MAX = 5.0
_T = TypeVar("_T")


class NotSo(ReplogError):
    """The answer of a command is no: the key is absent, the compare-and-set did not swap. Exit code 1."""


def main() -> int:
    """Run the command line; returns the exit code."""
    try:
        app()
    except SystemExit as leave:
        return leave.code if isinstance(leave.code, int) else 1
    except (CallerError, OperatorError) as error:
        print_error(error)
        return EXIT_REFUSED
    except ReplogError as error:
        print_error(error)
        return EXIT_FAILED
    except KeyboardInterrupt:
        return 130
    return 0


def _run(work: Awaitable[_T]) -> _T:
    async def waited() -> _T:
        return await work

    with asyncio.Runner(loop_factory=loop_factory()) as runner:
        return runner.run(waited())


# --- Options that several commands share ------------------------------------------------------------------------------

Endpoints = Annotated[
    str | None,
    typer.Option(
        "--endpoints",
        "-e",
        envvar="REPLOG_ENDPOINTS",
        help="Addresses of nodes, host:port separated by commas. Default: the cluster that `up` started in --dir.",
    ),
]
Directory = Annotated[str, typer.Option("--dir", envvar="REPLOG_DIR", help="Directory of the cluster that `up` started.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON for programs.")]
Timeout = Annotated[float, typer.Option("--timeout", min=0.1, help="Seconds to wait for an answer.")]
Consistency = Annotated[str, typer.Option("--consistency", help="linearizable (default), lease or stale.")]
Key = Annotated[str, typer.Argument(help="The key: 1 to 4096 bytes.", show_default=False)]
Value = Annotated[str, typer.Argument(help="The value; '-' reads it from standard input.", show_default=False)]


def _addresses(endpoints: str | None, directory: str) -> tuple[list[str], str]:
    """Where the cluster is, and its id (empty: whichever is there)."""
    from cluster.launch import LocalCluster
    from replog.config import check_address

    if endpoints:
        addresses = [part.strip() for part in endpoints.split(",") if part.strip()]
        for address in addresses:
            check_address("--endpoints", address)
        return addresses, ""
    if not Path(directory).is_dir():
        raise ConfigError(
            "--dir", directory, "the directory of a cluster started by `python -m cluster up`; or name nodes with --endpoints"
        )
    local = LocalCluster.open(directory)
    return local.addresses, local.cluster_id


def _ask(endpoints: str | None, directory: str, question: Callable[[Any], Awaitable[_T]]) -> _T:
    """The answer of the cluster to `question`, which gets a `KeyValueClient`."""
    from cluster.kv_client import KeyValueClient
    from replog.client.client import ReplogClient

    addresses, cluster_id = _addresses(endpoints, directory)

    async def asked() -> _T:
        async with KeyValueClient(ReplogClient(addresses, cluster_id=cluster_id)) as client:
            return await question(client)

    return _run(asked())


def _key(text: str) -> bytes:
    return check_key(os.fsencode(text))


def _value(text: str) -> bytes:
    return sys.stdin.buffer.read() if text == "-" else os.fsencode(text)


def _text(data: bytes) -> dict[str, str]:
    """A key or value for JSON: as text where it is UTF-8, else as base64."""
    try:
        return {"text": data.decode()}
    except UnicodeDecodeError:
        return {"base64": base64.b64encode(data).decode()}


def _item_json(item: Item) -> str:
    key, value = _text(item.key), _text(item.value)
    fields = {("key" if kind == "text" else "key_base64"): text for kind, text in key.items()}
    fields |= {("value" if kind == "text" else "value_base64"): text for kind, text in value.items()}
    return json.dumps({**fields, "revision": item.revision})


def _check_consistency(name: str) -> Any:
    from replog.config import check_choice

    check_choice("--consistency", name, _CONSISTENCIES)
    return name


# --- The key-value store ----------------------------------------------------------------------------------------------


@app.command(short_help="Set KEY to VALUE; prints the new revision.")
def put(
    key: Key,
    value: Value,
    endpoints: Endpoints = None,
    directory: Directory = DEFAULT_DIRECTORY,
    timeout: Timeout = 10.0,
    as_json: AsJson = False,
) -> None:
    """Set KEY to VALUE; prints the new revision once a majority holds it on disk."""
    key_bytes, value_bytes = _key(key), _value(value)
    revision = _ask(endpoints, directory, lambda client: client.put(key_bytes, value_bytes, timeout=timeout))
    print(json.dumps({"revision": revision}) if as_json else f"revision {revision}")


@app.command()
def get(
    key: Key,
    endpoints: Endpoints = None,
    directory: Directory = DEFAULT_DIRECTORY,
    consistency: Consistency = "linearizable",
    timeout: Timeout = 10.0,
    as_json: AsJson = False,
) -> None:
    """Print the value of KEY. Exit code 1 when it is absent."""
    key_bytes, named = _key(key), _check_consistency(consistency)
    item = _ask(endpoints, directory, lambda client: client.get(key_bytes, consistency=named, timeout=timeout))
    if item is None:
        raise NotSo(f"{key}: no such key")
    if as_json:
        print(_item_json(item))
    else:
        sys.stdout.buffer.write(item.value + b"\n")


@app.command()
def delete(
    key: Key, endpoints: Endpoints = None, directory: Directory = DEFAULT_DIRECTORY, timeout: Timeout = 10.0, as_json: AsJson = False
) -> None:
    """Remove KEY; prints the revision that was removed. Exit code 1 when there was none."""
    key_bytes = _key(key)
    revision = _ask(endpoints, directory, lambda client: client.delete(key_bytes, timeout=timeout))
    if as_json:
        print(json.dumps({"removed_revision": revision or None}))
    elif revision:
        print(f"removed revision {revision}")
    if not revision:
        raise NotSo(f"{key}: no such key")


@app.command(short_help="Set KEY to VALUE if it is as expected.")
def cas(
    key: Key,
    value: Value,
    absent: Annotated[bool, typer.Option("--absent", help="Expect that the key is absent.")] = False,
    revision: Annotated[int | None, typer.Option("--revision", min=1, help="Expect this revision.")] = None,
    expect: Annotated[str | None, typer.Option("--expect", help="Expect this value.")] = None,
    endpoints: Endpoints = None,
    directory: Directory = DEFAULT_DIRECTORY,
    timeout: Timeout = 10.0,
    as_json: AsJson = False,
) -> None:
    """Set KEY to VALUE if it is as expected (exactly one of --absent, --revision, --expect). Exit code 1 when it is not."""
    if absent + (revision is not None) + (expect is not None) != 1:
        raise ConfigError("cas", "none or several expectations", "exactly one of --absent, --revision, --expect")
    kind = Expectation.ABSENT if absent else Expectation.REVISION if revision is not None else Expectation.VALUE
    command = CompareAndSet(_key(key), _value(value), kind, revision or 0, os.fsencode(expect or ""))
    result: CasResult = _ask(endpoints, directory, lambda client: client.compare_and_set(command, timeout=timeout))
    if as_json:
        print(json.dumps({"swapped": result.swapped, "revision": result.revision}))
    elif result.swapped:
        print(f"revision {result.revision}")
    if not result.swapped:
        raise NotSo(f"{key}: not swapped, it " + (f"has revision {result.revision}" if result.revision else "is absent"))


@app.command(short_help="Print keys, revisions and values, by prefix.")
def scan(
    prefix: Annotated[str, typer.Argument(help="Keys that begin with this; empty: all.")] = "",
    limit: Annotated[int, typer.Option("--limit", min=1, help="At most so many keys.")] = 1000,
    endpoints: Endpoints = None,
    directory: Directory = DEFAULT_DIRECTORY,
    consistency: Consistency = "linearizable",
    as_json: AsJson = False,
) -> None:
    """Print keys, revisions and values in the order of the keys' bytes (tab-separated; --json: one object a line)."""
    named = _check_consistency(consistency)

    async def read(client: Any) -> None:
        count = 0
        async for item in client.scan(os.fsencode(prefix), consistency=named):
            if as_json:
                print(_item_json(item))
            else:
                sys.stdout.buffer.write(b"%b\t%d\t%b\n" % (item.key, item.revision, item.value))
            count += 1
            if count == limit:
                return

    _ask(endpoints, directory, read)
    sys.stdout.flush()


# --- The cluster ------------------------------------------------------------------------------------------------------


@app.command(short_help="Show every node: role, term, commit, log.")
def status(endpoints: Endpoints = None, directory: Directory = DEFAULT_DIRECTORY, as_json: AsJson = False) -> None:
    """Show every node: role, term, leader, commit, applied, log; and the membership. Exit code 1 when no node leads."""
    from cluster.table import print_statuses
    from replog.cli.cluster_calls import ClusterCalls

    addresses, _ = _addresses(endpoints, directory)

    async def ask_all() -> dict[str, dict[str, Any] | str]:
        async with ClusterCalls(addresses, _STATUS_SECONDS_MAX) as calls:
            return await calls.statuses()

    statuses = _run(ask_all())
    answering = [found for found in statuses.values() if isinstance(found, dict)]
    if as_json:
        found_by_address = {address: found if isinstance(found, dict) else {"unreachable": True} for address, found in statuses.items()}
        print(json.dumps([{"address": address, **found} for address, found in found_by_address.items()]))
    else:
        print_statuses(statuses)
    if not any(found["role"] == "leader" for found in answering):
        raise NotSo("no node leads" if answering else f"no node answers at {', '.join(addresses)}")


@app.command()
def node(
    config: Annotated[str | None, typer.Option("--config", help="TOML file; the environment (REPLOG_...) overrides it.")] = None,
) -> None:
    """Run one node until SIGTERM or ctrl-C. Without a file it is configured by the environment alone (see cluster/config.py)."""
    raise SystemExit(run(load(config, os.environ)))


@app.command(name="bench-node", hidden=True)
def bench_node(config: Annotated[str, typer.Option("--config")]) -> None:
    """A node that runs loads in its own process, asked on its standard input."""
    from cluster.bench import run_in_node

    raise SystemExit(run(load(config, os.environ), control=run_in_node))


@app.command(short_help="Run a cluster of local processes, shown live.")
def up(
    nodes: Annotated[int, typer.Option("--nodes", min=1, max=7, help="How many nodes.")] = 3,
    directory: Directory = DEFAULT_DIRECTORY,
    port: Annotated[int, typer.Option("--port", min=0, max=64000, help="First of the ports; 0: any free ones.")] = 0,
) -> None:
    """Run a cluster of local processes and show it live; ctrl-C stops all of them cleanly. What it wrote is there again at the next `up`."""
    from cluster.up import run_up

    raise SystemExit(_run(run_up(directory, nodes, port)))


@app.command(short_help="Kill nodes under load; prove that nothing is lost.")
def demo(
    as_json: AsJson = False,
    clients: Annotated[int, typer.Option("--clients", min=1, max=64, help="Clients that write all the while.")] = 4,
    directory: Annotated[
        str | None, typer.Option("--dir", help="Keep everything in this (new) directory; default: a temporary one.")
    ] = None,
) -> None:
    """Kill nodes under load, all at once too, and prove that no acknowledged write is lost. Exit code 0 only if all of it held."""
    from cluster.demo import Demo
    from cluster.launch import LocalCluster
    from cluster.table import print_demo

    if directory is not None and Path(directory).exists() and any(Path(directory).iterdir()):
        raise ConfigError("--dir", directory, "a new or empty directory")

    def say(line: str) -> None:
        if not as_json:
            print(f"  {line}", flush=True)

    with (
        tempfile.TemporaryDirectory(prefix="replog-demo-") as temporary,
        LocalCluster.create(directory or temporary, 3, cluster_id="demo") as local,
    ):
        report = _run(Demo(local, say, clients=clients).run())
    if as_json:
        print(report.to_json())
    else:
        print_demo(report)
    raise SystemExit(0 if report.ok else 1)


@app.command(short_help="Put real nodes under fire; judge every promise.")
def chaos(
    minutes: Annotated[
        float, typer.Option("--minutes", min=0.05, help="How long faults are put in; start, healing and checks come on top.")
    ] = 1.0,
    seed: Annotated[int | None, typer.Option("--seed", min=0, help="Draws the faults; default: another one each time.")] = None,
    nodes: Annotated[int, typer.Option("--nodes", min=1, max=7, help="How many nodes.")] = 3,
    clients: Annotated[int, typer.Option("--clients", min=1, max=32, help="Clients that read and write all the while.")] = 5,
    rate: Annotated[float, typer.Option("--rate", min=0.1, max=1000, help="Operations per second of each client, at most.")] = 60.0,
    faults: Annotated[str, typer.Option("--faults", help="Kinds of faults, separated by commas; default: all (see docs/chaos.md).")] = "",
    directory: Annotated[
        str | None, typer.Option("--dir", help="Keep everything in this (new) directory; default: kept only if it fails.")
    ] = None,
    loopback: Annotated[
        bool, typer.Option("--loopback", help="No networks of their own for the nodes, and so no faults of the network.")
    ] = False,
    report: Annotated[str | None, typer.Option("--report", help="Write the report as JSON into this file too.")] = None,
    as_json: AsJson = False,
) -> None:
    """Kill, freeze, cut off and starve real nodes under load, then prove that every promise held. Exit code 0 only if all of it did.

    As root with iproute2, each node gets a network of its own, so that partitions, delay and loss can be put in too.
    """
    import secrets

    from cluster.chaos_command import choose_kinds, run_chaos

    if directory is not None and Path(directory).exists() and any(Path(directory).iterdir()):
        raise ConfigError("--dir", directory, "a new or empty directory")
    raise SystemExit(
        run_chaos(
            seconds=minutes * 60,
            seed=secrets.randbelow(1_000_000) if seed is None else seed,
            nodes=nodes,
            clients=clients,
            rate=rate,
            kinds=choose_kinds(faults),
            directory=directory,
            as_json=as_json,
            report_path=report,
            loopback=loopback,
        )
    )


@app.command(short_help="Measure durable nodes on this machine.")
def bench(
    in_flight: Annotated[
        list[int], typer.Option("--in-flight", min=1, help="Operations in flight; give it several times for several runs.")
    ] = [1024],  # noqa: B006
    payload: Annotated[int, typer.Option("--payload", min=0, help="Bytes of a value.")] = 100,
    seconds: Annotated[float, typer.Option("--seconds", min=0.1, help="Length of a run, after a warm-up of 0.5 s.")] = 5.0,
    via: Annotated[
        str, typer.Option("--via", help="embedded: inside the leader's process; client: one client process over gRPC.")
    ] = "embedded",
    state_machine: Annotated[str, typer.Option("--app", help="kv: the key-value store; counter: a trivial state machine.")] = "kv",
    batch: Annotated[int, typer.Option("--batch", min=1, help="Commands in one propose_many; --in-flight then counts batches.")] = 1,
    operation: Annotated[str, typer.Option("--op", help="write, or read (linearizable).")] = "write",
    nodes: Annotated[int, typer.Option("--nodes", min=1, max=7, help="How many nodes.")] = 3,
    directory: Annotated[str | None, typer.Option("--dir", help="Where the logs go (a new directory); default: a temporary one.")] = None,
    compare: Annotated[bool, typer.Option("--compare", help="Run the whole table, and the peers' in turn; prints Markdown.")] = False,
    rounds: Annotated[int, typer.Option("--rounds", min=1, help="With --compare: how often each is run.")] = 3,
    peers: Annotated[
        str | None, typer.Option("--peers", help="With --compare: the peers' script; default: ../shared/bench/peers.py.")
    ] = None,
    svg: Annotated[str | None, typer.Option("--svg", help="With --compare: write the picture into this file.")] = None,
    scale: Annotated[
        list[str] | None,
        typer.Option(
            "--scale", help="Measure how cost grows: cost, payload, nodes, memory, startup, failover or all; may be given several times."
        ),
    ] = None,
    entries: Annotated[
        int, typer.Option("--entries", help="With --scale: entries of the longest log and of the memory's run.")
    ] = 10_000_000,
    times: Annotated[int, typer.Option("--times", help="With --scale failover: how many leaders are killed.")] = 20,
    as_json: AsJson = False,
) -> None:
    """Measure durable nodes on this machine: data sync on, every write acknowledged by a majority."""
    if scale:
        from cluster.bench_scale import ScaleOptions, run_scale

        _run(run_scale(scale, ScaleOptions(seconds=seconds, entries=entries, times=times, directory=directory)))
        return
    if compare:
        from cluster.bench_compare import run_comparison

        _run(run_comparison(rounds=rounds, seconds=seconds, peers=peers, svg=svg, as_json=as_json))
        return
    from cluster.bench import BenchOptions, run_bench
    from cluster.table import print_bench_row

    runs = [
        BenchOptions(in_flight=width, payload_bytes=payload, seconds=seconds, via=via, app=state_machine, batch=batch, operation=operation)
        for width in in_flight
    ]

    async def measure(where: str) -> None:
        async for found in run_bench(where, runs, nodes=nodes):
            if as_json:
                print(json.dumps(found), flush=True)
            else:
                print_bench_row(found)

    with tempfile.TemporaryDirectory(prefix="replog-bench-") as temporary:
        _run(measure(directory or temporary))
