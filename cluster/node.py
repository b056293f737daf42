"""One node as a process: from a `Configuration` to a running `replog.Node`, and back out on a signal, with an exit code that says how it went.

Exit codes: 0 stopped as asked; 1 the node failed while it ran; 2 it could not start because of its configuration, address or directory. Each of the
last two writes one line that begins with ``error:`` to stderr.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import importlib.util
import json
import logging
import os
import signal
import sys
import time
from collections.abc import Awaitable, Callable

from cluster.config import Configuration, unknown_variables
from cluster.counter import CommandCounter
from cluster.kv import KeyValueStore
from replog.errors import CallerError, OperatorError
from replog.node.node import Node
from replog.statemachine import StateMachine

EXIT_FAILED = 1
EXIT_REFUSED = 2

logger = logging.getLogger("replog.cluster")

Control = Callable[[Node, str], Awaitable[None]]
"""What to do with a line that a launcher writes to the node's standard input."""

_APPS: dict[str, Callable[[], StateMachine]] = {"kv": KeyValueStore, "counter": CommandCounter}


def run(configuration: Configuration, *, control: Control | None = None) -> int:
    """Run the node until SIGTERM, SIGINT, the end of standard input (where configured) or its failure; returns the exit code."""
    _log_to_stderr(configuration.process.log_level)
    for variable in unknown_variables(os.environ):
        logger.warning("%s in the environment names no field of the configuration; it is ignored", variable)
    with asyncio.Runner(loop_factory=loop_factory()) as runner:
        try:
            return runner.run(_serve(configuration, control))
        except (CallerError, OperatorError, OSError) as error:
            print_error(error)
            return EXIT_REFUSED


def print_error(error: Exception) -> None:
    """One line on stderr, whatever the error's text looks like."""
    print("error: " + " ".join(str(error).split()), file=sys.stderr, flush=True)


def loop_factory() -> Callable[[], asyncio.AbstractEventLoop] | None:
    """uvloop's loop where it is installed (the extra `speed`), else asyncio's."""
    if importlib.util.find_spec("uvloop") is None:
        return None
    import uvloop

    factory: Callable[[], asyncio.AbstractEventLoop] = uvloop.new_event_loop
    return factory


async def _serve(configuration: Configuration, control: Control | None) -> int:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    node = _assemble(configuration)
    async with node:
        _write_ready_file(configuration, node)
        logger.info("%s: serving on %s", configuration.node.node_id, node.bound_address)
        quieten_garbage_collection()
        tasks = [loop.create_task(stop.wait()), loop.create_task(node.wait_stopped())]
        if configuration.process.stop_with_stdin:
            tasks.append(loop.create_task(_read_stdin(node, control)))
        _, pending = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        for task in pending:
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task
        failure = node.failure
    if failure is not None:
        print_error(failure)
        return EXIT_FAILED
    logger.info("%s: stopped", configuration.node.node_id)
    return 0


def quieten_garbage_collection() -> None:
    """Call once when everything is set up. What start-up made lives as long as the process, so no collection needs to look at it again; and the futures of
    thousands of commands in flight are no garbage that only a collector finds, so it looks for some less often (measured: a fifth less CPU a command at
    4,096 in flight, nothing to gain by switching it off)."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 20, 50)


def _assemble(configuration: Configuration) -> Node:
    state_machine = _APPS[configuration.process.app]()
    fault = os.environ.get("REPLOG_TEST_FAULT", "")
    if fault:
        from cluster import faults  # imported only where a test asks for a fault

        return faults.assemble(fault, configuration, state_machine)
    if os.environ.get("REPLOG_TEST_DISK"):
        from cluster.chaos_disk import open_switched_storage  # as above

        return Node(configuration.cluster, configuration.node, state_machine, open_storage=open_switched_storage)
    return Node(configuration.cluster, configuration.node, state_machine)


async def _read_stdin(node: Node, control: Control | None) -> None:
    """Until standard input ends; each line goes to `control`."""
    loop = asyncio.get_running_loop()
    reader = asyncio.StreamReader()
    transport, _ = await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    try:
        while line := await reader.readline():
            if control is not None:
                await control(node, line.decode())
    finally:
        transport.close()


def _write_ready_file(configuration: Configuration, node: Node) -> None:
    """Written beside its name and renamed, so that whoever waits for it never reads half of it."""
    path = configuration.process.ready_file
    if not path:
        return
    content = {
        "node_id": configuration.node.node_id,
        "pid": os.getpid(),
        "address": configuration.node.advertise_address or node.bound_address,
        "http_address": node.bound_http_address or "",
        "app": configuration.process.app,
        "started_unix": time.time(),
    }
    with open(path + ".tmp", "w", encoding="utf-8") as file:
        file.write(json.dumps(content) + "\n")
    os.replace(path + ".tmp", path)


def _log_to_stderr(level: str) -> None:
    formatter = logging.Formatter("%(asctime)s.%(msecs)03dZ %(levelname)s %(message)s", "%Y-%m-%dT%H:%M:%S")
    formatter.converter = time.gmtime
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(formatter)
    logging.basicConfig(level=level.upper(), handlers=[handler], force=True)
