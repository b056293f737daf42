"""Scripts that drive cores message by message, and their traces (STYLE, rule 19).

A script is blocks: command lines, ``----``, and the trace they must give, ended by a blank line; ``#`` begins a comment. Run over files::

    python -m replog.testing.script tests/scripts/*.txt            compare, exit 1 where a trace differs
    python -m replog.testing.script --rewrite tests/scripts/*.txt  write the traces; the review is the diff

Commands (N is a node, A->B a link)::

    nodes 1 2 3 [learners=4,5] [KEY=VALUE ...]    make the nodes of a first membership; KEY: a field of `CoreConfig` (true and false allowed)
                                                  founders=true: they may have lost their logs (`RaftCore(is_founder=...)`)
    found N                                       say that this is the first start
    join N                                        make a node that knows no membership yet
    campaign N [force]     tick N [COUNT]         time N TICKS (observed)
    propose N WORD ...     change N v4 l5 r2 u3=INCARNATION [force] [joint] [keep_joint]      (no changes: leave the joint membership)
    read N CONTEXT         lease-read N CONTEXT   transfer A->B (or: transfer A)
    ready N ...            take one Ready of each and execute it
    deliver A->B [COUNT]   deliver the oldest messages of a link (all of them without COUNT); ``deliver A->B last`` the newest
    drop A->B [COUNT]      duplicate A->B         lost A->B (tell A that its connection to B broke)
    limit A->B BYTES       step-down N            so much may be on its way; stop leading or campaigning
    cut A->B / cut N       heal                   cut links lose what they carry and what is sent
    stabilize [N ...]      Readys and deliveries among these nodes until nothing moves
    compact N SNAPSHOT [FIRST]                    snapshot at an index, log from FIRST (SNAPSHOT + 1) on
    snapshot-sent A->B INDEX   snapshot-failed A->B
    crash N   restart N [lose=COUNT]   wipe N     a restart after losing the last COUNT entries; a wiped node starts with an empty disk
    hold-disk N   finish-write N                  step 2 of a Ready waits; finish it
    message TYPE A->B FIELD=NUMBER ...            put a message on a link that no core sent
    status   log N   progress N   links           look
    silently COMMAND                              without its trace (a beginning that other scripts show)

Every command is followed by `CoreCluster.check`; what breaks an invariant ends the script.
"""

from __future__ import annotations

import sys
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import fields
from typing import Any

from replog.errors import ReplogError
from replog.raft import AddLearner, AddVoter, CoreConfig, MembershipChange, RemoveNode, UpdateMember, messages
from replog.raft.messages import CoreMessage, EntryRange
from replog.testing.cores import CoreCluster, CoreDisk, CoreNode, DiskEntry, Frames, members
from replog.testing.trace import membership_line, message_line, ready_lines
from replog.types import EntryKind, Membership, NodeId

STEPS_MAX = 10_000
"""`stabilize` that takes longer does not end."""
DEFAULTS: dict[str, Any] = {"heartbeat_ticks": 2, "election_timeout_ticks_min": 10, "election_timeout_ticks_max": 20}


class ScriptError(ReplogError):
    """A line of a script cannot be understood. Correct it."""


class Script:
    """Runs command lines on one cluster; each returns its trace."""

    def __init__(self) -> None:
        self.cluster = CoreCluster()
        self.config: dict[str, Any] = dict(DEFAULTS)
        self._commands: dict[str, Callable[[list[str]], Iterator[str]]] = {
            name.removeprefix("do_").replace("_", "-"): getattr(self, name) for name in dir(self) if name.startswith("do_")
        }

    def run(self, line: str) -> list[str]:
        """The trace of one command line. Raises `ScriptError` for one that is none, `AssertionError` for a broken invariant."""
        if line.startswith("silently "):
            self.run(line.removeprefix("silently "))
            return []
        name, *words = line.split()
        command = self._commands.get(name)
        if command is None:
            raise ScriptError(f"unknown command {name!r}; there are {', '.join(sorted(self._commands))}")
        trace: list[str] = []
        try:
            trace.extend(command(words))
        except ReplogError as error:
            if isinstance(error, ScriptError):
                raise
            trace.append(f"{type(error).__name__}: {error}")
        self.cluster.check()
        return trace

    # -- nodes --------------------------------------------------------------------------------------------------------

    def do_nodes(self, words: list[str]) -> Iterator[str]:
        names = [word for word in words if "=" not in word]
        options = dict(word.split("=", 1) for word in words if "=" in word)
        learners = [name for name in options.pop("learners", "").split(",") if name]
        founders = _value(options.pop("founders", "false"))
        self.config.update({key: _value(value) for key, value in options.items()})
        membership = members(names, learners)
        for name in (*names, *learners):
            self._add(name, membership)
            if founders:
                self.node(name).is_founder = True
                self.node(name).restart()
        yield membership_line(membership)

    def do_found(self, words: list[str]) -> Iterator[str]:
        self.node(words[0]).core.found()
        yield from ()

    def do_join(self, words: list[str]) -> Iterator[str]:
        for name in words:
            self._add(name, Membership())
        yield from ()

    def _add(self, name: NodeId, membership: Membership) -> None:
        config = CoreConfig(node_id=name, **self.config)
        timeout = config.election_timeout_ticks_min + len(self.cluster.nodes)
        self.cluster.add(config, membership, lambda: timeout)

    def node(self, name: str) -> CoreNode:
        if name not in self.cluster.nodes:
            raise ScriptError(f"unknown node {name!r}; there are {', '.join(self.cluster.nodes)}")
        return self.cluster.nodes[name]

    # -- verbs --------------------------------------------------------------------------------------------------------

    def do_campaign(self, words: list[str]) -> Iterator[str]:
        self.node(words[0]).core.campaign(force="force" in words[1:])
        yield from ()

    def do_tick(self, words: list[str]) -> Iterator[str]:
        for _ in range(int(words[1]) if len(words) > 1 else 1):
            self.node(words[0]).core.tick()
        yield from ()

    def do_time(self, words: list[str]) -> Iterator[str]:
        self.node(words[0]).core.observe_time(int(words[1]))
        yield from ()

    def do_propose(self, words: list[str]) -> Iterator[str]:
        entry = self.node(words[0]).propose(words[1:])
        yield f"entry {entry.index} of term {entry.term}"

    def do_change(self, words: list[str]) -> Iterator[str]:
        flags = {word for word in words[1:] if word in ("force", "joint", "keep_joint")}
        changes = [_change(word) for word in words[1:] if word not in flags]
        entry = self.node(words[0]).core.change_membership(
            changes, force="force" in flags, joint=True if flags & {"joint", "keep_joint"} else None, auto_leave="keep_joint" not in flags
        )
        yield f"entry {entry.index} of term {entry.term}: {membership_line(self.node(words[0]).core.membership)}"

    def do_read(self, words: list[str]) -> Iterator[str]:
        self.node(words[0]).core.read_index(int(words[1]))
        yield from ()

    def do_lease_read(self, words: list[str]) -> Iterator[str]:
        core = self.node(words[0]).core
        yield "lease holds" if core.lease_is_valid() else "no lease"
        core.lease_read(int(words[1]))

    def do_transfer(self, words: list[str]) -> Iterator[str]:
        source, _, target = words[0].partition("->")
        self.node(source).core.transfer_leadership(target or None)
        yield from ()

    def do_compact(self, words: list[str]) -> Iterator[str]:
        index = int(words[1])
        meta = self.node(words[0]).compact(index, int(words[2]) if len(words) > 2 else index + 1)
        yield f"snapshot {meta.index}/{meta.term}, {membership_line(meta.membership)}"

    def do_snapshot_sent(self, words: list[str]) -> Iterator[str]:
        source, target = _link(words[0])
        self.node(source).core.snapshot_sent(target, int(words[1]))
        yield from ()

    def do_snapshot_failed(self, words: list[str]) -> Iterator[str]:
        source, target = _link(words[0])
        self.node(source).core.snapshot_failed(target)
        yield from ()

    def do_lost(self, words: list[str]) -> Iterator[str]:
        source, target = _link(words[0])
        self.node(source).core.peer_lost(target)
        yield from ()

    def do_limit(self, words: list[str]) -> Iterator[str]:
        source, target = _link(words[0])
        self.node(source).core.limit_in_flight(target, int(words[1]))
        yield from ()

    def do_step_down(self, words: list[str]) -> Iterator[str]:
        self.node(words[0]).core.step_down()
        yield from ()

    # -- faults -------------------------------------------------------------------------------------------------------

    def do_crash(self, words: list[str]) -> Iterator[str]:
        self.node(words[0]).crash()
        yield from ()

    def do_restart(self, words: list[str]) -> Iterator[str]:
        node = self.node(words[0])
        for word in words[1:]:
            lost = int(word.removeprefix("lose="))
            node.disk.maybe_promised = node.disk.last_index
            del node.disk.entries[len(node.disk.entries) - lost :]
        node.restart()
        core = node.core
        yield f"{node.node_id} is {core.role.value} in term {core.term}, log {core.first_index}..{core.last_index}, applied {core.applied_index}"

    def do_wipe(self, words: list[str]) -> Iterator[str]:
        node = self.node(words[0])
        node.disk = CoreDisk(initial=node.disk.initial if node.is_founder else Membership(), wiped=True)
        node.restart()
        yield from ()

    def do_hold_disk(self, words: list[str]) -> Iterator[str]:
        self.node(words[0]).disk_held = True
        yield from ()

    def do_finish_write(self, words: list[str]) -> Iterator[str]:
        node = self.node(words[0])
        node.disk_held = False
        node.finish_write()
        yield from ()

    def do_cut(self, words: list[str]) -> Iterator[str]:
        for word in words:
            links = (
                [_link(word)]
                if "->" in word
                else [(a, b) for a in self.cluster.nodes for b in self.cluster.nodes if word in (a, b) and a != b]
            )
            for link in links:
                self.cluster.cut.add(link)
                self.cluster.links.pop(link, None)
        yield from ()

    def do_heal(self, _words: list[str]) -> Iterator[str]:
        self.cluster.cut.clear()
        yield from ()

    # -- messages -----------------------------------------------------------------------------------------------------

    def do_ready(self, words: list[str]) -> Iterator[str]:
        for name in words:
            yield from self._take(self.node(name)) or [f"{name}: nothing"]

    def do_deliver(self, words: list[str]) -> Iterator[str]:
        source, target = _link(words[0])
        queue = self.cluster.links.get((source, target), ())
        newest = words[1:] == ["last"]
        count = 1 if newest else int(words[1]) if len(words) > 1 else len(queue)
        for _ in range(count):
            if not queue:
                yield f"nothing on {source}->{target}"
                return
            yield from self._deliver(source, target, len(queue) - 1 if newest else 0)

    def _deliver(self, source: NodeId, target: NodeId, position: int = 0) -> Iterator[str]:
        yield message_line(self.cluster.links[source, target][position])
        try:
            self.cluster.deliver(source, target, position)
        except ReplogError as error:
            yield f"  {type(error).__name__}: {error}"
        self.cluster.check()

    def do_drop(self, words: list[str]) -> Iterator[str]:
        queue = self.cluster.links.get(_link(words[0]))
        for _ in range(int(words[1]) if len(words) > 1 else len(queue or ())):
            if queue:
                yield f"lost: {message_line(queue.popleft())}"

    def do_duplicate(self, words: list[str]) -> Iterator[str]:
        queue = self.cluster.links.get(_link(words[0]))
        if not queue:
            raise ScriptError(f"nothing on {words[0]}")
        queue.append(queue[0])
        yield f"again: {message_line(queue[0])}"

    def do_message(self, words: list[str]) -> Iterator[str]:
        message = _message(words)
        self.cluster.links.setdefault((message.source, message.target), deque()).append(message)
        yield from ()

    def do_stabilize(self, words: list[str]) -> Iterator[str]:
        names = words or list(self.cluster.nodes)
        for _ in range(STEPS_MAX):
            moved = False
            for name in names:
                lines = self._take(self.node(name))
                yield from lines
                moved = moved or bool(lines)
            for source, target in sorted(self.cluster.links):
                if source in names and target in names and self.cluster.links[source, target]:
                    moved = True
                    for _ in range(len(self.cluster.links[source, target])):
                        yield from self._deliver(source, target)
            if not moved:
                return
        raise ScriptError(f"still moving after {STEPS_MAX} steps")

    def _take(self, node: CoreNode) -> list[str]:
        ready = node.take_ready()
        if ready is None:
            return []
        self.cluster.check()
        return [f"{node.node_id} ready", *(f"  {line}" for line in ready_lines(ready))]

    # -- looking ------------------------------------------------------------------------------------------------------

    def do_status(self, _words: list[str]) -> Iterator[str]:
        for name, node in self.cluster.nodes.items():
            if not node.alive:
                yield f"{name}: down"
                continue
            core = node.core
            yield (
                f"{name}: {core.role.value}, term {core.term}, vote {core.vote or 'none'}, leader {core.leader or 'unknown'}, "
                f"last {core.last_index}, commit {core.committed_index}, {membership_line(core.membership)}"
            )

    def do_progress(self, words: list[str]) -> Iterator[str]:
        for peer in self.node(words[0]).core.status().peers:
            yield (
                f"{peer.node}: {peer.state}, match {peer.match_index}, next {peer.next_index}, in flight {peer.in_flight_messages}"
                f"{', active' if peer.recently_active else ', silent'}{', learner' if peer.is_learner else ''}"
            )

    def do_log(self, words: list[str]) -> Iterator[str]:
        disk = self.node(words[0]).disk
        if disk.snapshot is not None:
            yield f"snapshot {disk.snapshot.index}/{disk.snapshot.term}"
        for index, entry in enumerate(disk.entries, disk.first_index):
            yield f"{index}/{entry.term} {entry.payload}"

    def do_links(self, _words: list[str]) -> Iterator[str]:
        for link in sorted(self.cluster.links):
            for message in self.cluster.links[link]:
                yield message_line(message)


def _value(text: str) -> Any:
    return {"true": True, "false": False}.get(text, text) if not text.isdigit() else int(text)


def _link(word: str) -> tuple[NodeId, NodeId]:
    source, arrow, target = word.partition("->")
    if not arrow:
        raise ScriptError(f"{word!r} is no link; write A->B")
    return source, target


def _change(word: str) -> MembershipChange:
    """``v4`` voter, ``l4`` learner, ``s4`` learner that stays one, ``r4`` remove, ``u4=7`` record an incarnation; ``v4=7`` and ``l4=7`` record one too."""
    node, _, incarnation = word[1:].partition("=")
    match word[0]:
        case "v":
            return AddVoter(node=node, address=node, incarnation=int(incarnation or 0))
        case "l" | "s":
            return AddLearner(node=node, address=node, incarnation=int(incarnation or 0), stays=word[0] == "s")
        case "r":
            return RemoveNode(node=node)
        case "u":
            return UpdateMember(node=node, incarnation=int(incarnation) if incarnation else None)
    raise ScriptError(f"{word!r} is no change; write v4, l4, r4 or u4=7")


def _message(words: Sequence[str]) -> CoreMessage:
    """``AppendEntries 2->1 term=3 prev_index=4 prev_term=2 committed_index=4 entries=5..6/3``."""
    kind: Any = getattr(messages, words[0], None)
    if kind is None:
        raise ScriptError(f"no message {words[0]!r}")
    source, target = _link(words[1])
    values: dict[str, Any] = {"source": source, "target": target}
    known = {one.name for one in fields(kind)}
    for word in words[2:]:
        name, _, text = word.partition("=")
        if name not in known:
            raise ScriptError(f"{words[0]} has no field {name!r}")
        values[name] = _entries(text) if name == "entries" else _value(text)
    if values.get("entries") is not None:
        entries: EntryRange = values["entries"]
        values["frames"] = Frames(entries.first_index, (DiskEntry(entries.terms[0][1], EntryKind.COMMAND, "forged"),) * entries.count)
    message: CoreMessage = kind(**values)
    return message


def _entries(text: str) -> EntryRange:
    span, _, term = text.partition("/")
    first, _, last = span.partition("..")
    return EntryRange(first_index=int(first), last_index=int(last), terms=((int(first), int(term)),))


# -- files ----------------------------------------------------------------------------------------------------------------


def run_script(text: str) -> str:
    """The script with the traces its commands really give."""
    script = Script()
    lines: list[str] = []
    commands: list[str] = []
    skipping = False
    for line in text.splitlines():
        if skipping:
            if line.strip():
                continue
            skipping = False
        if line == "----":
            lines.append(line)
            for command in commands:
                lines.extend(script.run(command))
            commands = []
            skipping = True
            continue
        if line.strip() and not line.startswith("#"):
            commands.append(line)
        lines.append(line)
    if commands:
        raise ScriptError(f"commands without ---- at the end: {commands}")
    return "\n".join(lines).rstrip("\n") + "\n"


def main(arguments: Sequence[str]) -> int:
    """Compare the scripts named, or rewrite them; the number of those that differ, at most 1."""
    rewrite = "--rewrite" in arguments
    differ = 0
    for path in arguments:
        if path == "--rewrite":
            continue
        with open(path, encoding="utf-8") as file:
            text = file.read()
        found = run_script(text)
        if found != text:
            differ = 1
            sys.stdout.write(f"{path}: {'rewritten' if rewrite else 'the trace differs'}\n")
            if rewrite:
                with open(path, "w", encoding="utf-8") as file:
                    file.write(found)
    return 0 if rewrite else differ


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
