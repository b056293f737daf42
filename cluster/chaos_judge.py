"""What is checked of a chaos run: the histories while it goes on, the states when it is over.

* A chapter's history is linearizable: ``replog.testing check`` in a process of its own, one chapter at a time, so that the search takes nothing from the clients.
* The log indexes that writes were answered with are unique and follow real time (`replog.testing.index_check`), over all keys of a chapter together.
* Each node holds every acknowledged write to an own key with its revision, and nothing that nobody wrote; of each shared key, nothing older than its newest
  acknowledged write.
* All nodes hold the same at the same applied index.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
import shutil
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from cluster.chaos_clients import Kept, Workload
from cluster.commands import Item, Scan
from cluster.kv_client import KeyValueClient
from cluster.writers import judge
from replog.client.client import ReplogClient
from replog.testing.history import Operation
from replog.testing.index_check import check_indexes
from replog.types import Index, NodeId

CHECK_SECONDS_MAX: Final = 300.0
_NOT_LINEARIZABLE: Final = 1
_UNDECIDED: Final = 3
_CHECKOUT: Final = str(Path(__file__).resolve().parents[1])


class Historian:
    """Checks chapters as they are handed over, one after the other; keeps the files of those that fail, with a picture."""

    def __init__(self) -> None:
        self.failures: list[str] = []
        self.chapters = 0
        self.keys = 0
        self.operations = 0
        self.kept_files: list[str] = []
        self._queue: asyncio.Queue[tuple[Path, list[Operation]] | None] = asyncio.Queue()
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        self._task = asyncio.create_task(self._work())

    def take(self, path: Path, operations: list[Operation]) -> None:
        self._queue.put_nowait((path, operations))

    async def finish(self) -> None:
        """Until everything taken is checked."""
        if self._task is not None:
            self._queue.put_nowait(None)
            await self._task
            self._task = None

    async def abandon(self) -> None:
        """End without checking the rest."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
            self._task = None

    async def _work(self) -> None:
        while (taken := await self._queue.get()) is not None:
            path, operations = taken
            findings = [str(finding) for finding in check_indexes([operation for operation in operations if operation.index is not None])]
            verdict = await self._check(path)
            if verdict:
                findings.append(verdict)
            self.chapters += 1
            self.keys += len({operation.key for operation in operations})
            self.operations += len(operations)
            if findings:
                self.kept_files.append(str(path))
                self.failures += [f"{path.name}: {finding}" for finding in findings[:3]]
            else:
                path.unlink()

    async def _check(self, path: Path) -> str:
        """Why the history in `path` does not hold; empty when it does. The picture of a failure lies beside it."""
        picture = path.with_suffix(".html")
        process = _start_checker(path, picture)
        try:
            said, _ = await asyncio.to_thread(process.communicate, timeout=CHECK_SECONDS_MAX)
        except subprocess.TimeoutExpired:
            return f"the checker did not finish within {CHECK_SECONDS_MAX:.0f} s, which is no pass"
        finally:
            process.kill()
            process.wait()
            if process.stdout is not None:
                process.stdout.close()
        if process.returncode == 0:
            picture.unlink(missing_ok=True)
            return ""
        words = " ".join(said.decode(errors="replace").split())
        if process.returncode == _NOT_LINEARIZABLE:
            return f"not linearizable: {words} (picture: {picture})"
        reason = "the checker's budget was used up, which is no pass" if process.returncode == _UNDECIDED else "the checker failed"
        return f"{reason}: {words}"


def _start_checker(path: Path, picture: Path) -> subprocess.Popen[bytes]:
    """With a plain Popen, which runs none of gRPC's handlers for forks: they have nothing to do here, and say so each time."""
    nice = shutil.which("nice")
    return subprocess.Popen(
        [*((nice, "-n", "10") if nice else ()), sys.executable, "-m", "replog.testing", "check", str(path), "--html", str(picture)],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        env={**os.environ, "PYTHONPATH": _CHECKOUT},
    )


@dataclass(frozen=True, slots=True)
class State:
    """All that one node holds, by its own word."""

    applied_index: Index
    """Log index of the last command that it stands for."""
    items: dict[bytes, Item]

    def digest(self) -> str:
        """SHA-256 over keys, revisions and values in the order of the keys."""
        sha = hashlib.sha256()
        for key in sorted(self.items):
            item = self.items[key]
            sha.update(b"%d %d %d " % (len(key), item.revision, len(item.value)))
            sha.update(key)
            sha.update(item.value)
        return sha.hexdigest()


async def read_state(of_one_node: ReplogClient) -> State:
    """By stale reads of the one node that the client is for; nothing must be written meanwhile. Closes the client."""
    items: dict[bytes, Item] = {}
    after = b""
    async with KeyValueClient(of_one_node) as client:
        while True:
            page = await client.scan_page(Scan(b"", after), consistency="stale", timeout=10.0)
            items.update((item.key, item) for item in page.items)
            if not page.more:
                return State(page.applied, items)
            after = page.items[-1].key


def judge_states(states: Mapping[NodeId, State], workload: Workload) -> list[str]:
    """What the nodes hold, held against what the clients were told; empty when all is as it must be."""
    findings: list[str] = []
    for node_id, state in states.items():
        verdict = judge(workload.record, {key: item for key, item in state.items.items() if key.startswith(b"own/")})
        if not verdict.holds:
            findings.append(
                f"{node_id}: of the acknowledged writes {verdict.lost} are lost and {verdict.changed} changed, {verdict.invented} items nobody wrote "
                f"({verdict.example})"
            )
        findings += [f"{node_id}: {reason}" for reason in _judge_shared(state, workload.kept)[:3]]
    digests = {node_id: (state.applied_index, state.digest()) for node_id, state in states.items()}
    if len(set(digests.values())) > 1:
        told = ", ".join(f"{node_id} {digest[:12]} at index {index}" for node_id, (index, digest) in digests.items())
        findings.append(f"the states differ: {told}")
    return findings


def _judge_shared(state: State, kept: Mapping[str, Kept]) -> list[str]:
    findings: list[str] = []
    for key, expected in kept.items():
        item = state.items.get(key.encode())
        if item is not None and item.revision < expected.index:
            findings.append(f"{key} has revision {item.revision}, older than its acknowledged write at index {expected.index}")
        if item is None and expected.index and expected.deleted < expected.start:
            findings.append(
                f"{key} is gone, although its acknowledged write at index {expected.index} was asked for after every delete had ended"
            )
    return findings
