"""Networks of their own for the nodes of one run: namespaces, cuts in one direction, delay and loss. Linux, root and iproute2.

::

      namespace replog-chaos-PID-TIME-hub                    namespace replog-chaos-PID-TIME-n1
    ┌────────────────────────────────────┐                 ┌──────────────────────────────────┐
    │ clients   hub 198.18.0.1 ── to-11 ─┼─────────────────┼─ eth0 198.18.0.11   node n1      │
    │                 │bridge            │                 └──────────────────────────────────┘
    │                 ├──────── to-12 ───┼──── ...n2, 198.18.0.12
    └────────────────────────────────────┘

Nothing is made in the machine's own namespace, and no way leads out of these: the addresses are of the block for tests of network devices (RFC 2544), and there
is no default route. The run's process enters the hub before it opens a connection.

* A **cut** from A to B: A holds a wrong hardware address for B, so what it sends is carried to nobody. Silent, one way, seen by nobody, as a broken switch.
* **Delay and loss** are those of ``tc netem`` on what a node sends. Where the kernel has no netem, the node's packets go through `cluster.chaos_wire` instead.

A namespace is named after the process that made it and the time of its start. What a killed run left behind belongs to no living process: the next run removes it.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Iterable
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from replog.errors import OperatorError
from replog.types import NodeId

PREFIX: Final = "replog-chaos-"
HUB_ADDRESS: Final = "198.18.0.1"
_HALVES: Final = ("198.18.0.0/25", "198.18.0.128/25")
"""The network once more, as routes that win over that of the network itself for as long as they are there."""
_FIRST_HOST: Final = 11
_WRONG_HARDWARE: Final = "02:00:00:00:0b:ad"
_CLONE_NEWNET: Final = 0x40000000
_COMMAND_SECONDS_MAX: Final = 20.0


class NetworkFailed(OperatorError):
    """A command of iproute2 failed. The message has the command and what it said."""


def missing() -> str:
    """Why no namespaces can be made here; empty when they can."""
    if sys.platform != "linux":
        return "namespaces are Linux's"
    if os.geteuid() != 0:
        return "not run as root"
    if shutil.which("ip") is None:
        return "iproute2 (ip) is not installed"
    try:
        _ip("netns", "list")
    except NetworkFailed as error:
        return str(error)
    return ""


class Network:
    """The namespaces of one run. As a context manager it makes the hub, and removes everything at the end."""

    def __init__(self) -> None:
        pid = os.getpid()
        self.name = f"{PREFIX}{pid}-{start_time(pid)}"
        self._hub = f"{self.name}-hub"
        self._hosts: dict[NodeId, int] = {}
        self._wires: dict[NodeId, subprocess.Popen[bytes]] = {}
        self._home = -1
        self._next_host = _FIRST_HOST
        self.has_netem = False

    def __enter__(self) -> Self:
        remove_leftovers()
        try:
            self._make_hub()
            self._enter()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def _make_hub(self) -> None:
        _ip("netns", "add", self._hub)
        self._hub_ip("link", "set", "lo", "up")
        self._hub_ip("link", "add", "hub", "type", "bridge")
        self._hub_ip("addr", "add", f"{HUB_ADDRESS}/24", "dev", "hub")
        self._hub_ip("link", "set", "hub", "up")
        # Packets that come back from a wire are passed on, although they do not come from where their sender is.
        self._settings(self._hub, "net/ipv4/ip_forward=1", "net/ipv4/conf/all/rp_filter=0", "net/ipv4/conf/default/rp_filter=0")
        self.has_netem = shutil.which("tc") is not None and _succeeds("tc", "-n", self._hub, "qdisc", "add", "dev", "hub", "root", "netem")
        if self.has_netem:
            _run("tc", "-n", self._hub, "qdisc", "del", "dev", "hub", "root")

    def _enter(self) -> None:
        """This thread, and all that it starts from now on, is in the hub."""
        self._home = os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
        hub = os.open(f"/run/netns/{self._hub}", os.O_RDONLY | os.O_CLOEXEC)
        try:
            _set_namespace(hub)
        finally:
            os.close(hub)

    def close(self) -> None:
        """Leave the hub and remove every namespace of this run, with what still runs in it. May be called twice."""
        for node_id in list(self._wires):
            self.calm(node_id)
        if self._home >= 0:
            _set_namespace(self._home)
            os.close(self._home)
            self._home = -1
        for namespace in _namespaces():
            if namespace.startswith(f"{self.name}-"):
                _remove(namespace)
        self._hosts.clear()

    # -- nodes ---------------------------------------------------------------------------------------------------------

    def add(self, node_id: NodeId) -> str:
        """A namespace for the node, joined to the hub; returns its IP address."""
        host, namespace = self._next_host, self.namespace(node_id)
        self._next_host += 1
        assert host < 255
        self._hosts[node_id] = host
        _ip("netns", "add", namespace)
        self._hub_ip("link", "add", f"to-{host}", "type", "veth", "peer", "name", "eth0", "netns", namespace)
        self._hub_ip("link", "set", f"to-{host}", "master", "hub", "up")
        self._settings(namespace, "net/ipv4/conf/all/rp_filter=0", "net/ipv4/conf/default/rp_filter=0", "net/ipv4/conf/eth0/rp_filter=0")
        _ip("-n", namespace, "addr", "add", f"{self.address(node_id)}/24", "dev", "eth0")
        _ip("-n", namespace, "link", "set", "lo", "up")
        _ip("-n", namespace, "link", "set", "eth0", "up")
        return self.address(node_id)

    def remove(self, node_id: NodeId) -> None:
        self.calm(node_id)
        _remove(self.namespace(node_id))
        del self._hosts[node_id]

    def namespace(self, node_id: NodeId) -> str:
        return f"{self.name}-{node_id}"

    def address(self, node_id: NodeId) -> str:
        return f"198.18.0.{self._hosts[node_id]}"

    def command_prefix(self, node_id: NodeId) -> tuple[str, ...]:
        """What to put before a command so that it runs in the node's namespace, as the same process."""
        return (shutil.which("ip") or "ip", "netns", "exec", self.namespace(node_id))

    # -- faults --------------------------------------------------------------------------------------------------------

    def cut(self, source: NodeId, target: NodeId) -> None:
        """From now on nothing that `source` sends reaches `target`; the other direction stays."""
        if source in self._hosts and target in self._hosts:
            self._node_ip(source, "neigh", "replace", self.address(target), "lladdr", _WRONG_HARDWARE, "dev", "eth0", "nud", "permanent")

    def mend(self, source: NodeId, target: NodeId) -> None:
        """Undo `cut`; nothing where there is no cut."""
        if source in self._hosts and target in self._hosts:
            _succeeds(_IP, "-n", self.namespace(source), "neigh", "del", self.address(target), "dev", "eth0")

    def cut_all(self, pairs: Iterable[tuple[NodeId, NodeId]]) -> None:
        for source, target in pairs:
            self.cut(source, target)

    def mend_all(self, pairs: Iterable[tuple[NodeId, NodeId]]) -> None:
        for source, target in pairs:
            self.mend(source, target)

    def disturb(self, node_id: NodeId, *, delay_ms: int = 0, jitter_ms: int = 0, loss_percent: float = 0.0) -> None:
        """What the node sends (to nodes and clients) is late by `delay_ms`, give or take `jitter_ms`, and lost with this probability."""
        assert jitter_ms <= delay_ms
        if node_id not in self._hosts:
            return
        self.calm(node_id)
        if self.has_netem:
            delay = ("delay", f"{delay_ms}ms", f"{jitter_ms}ms") if delay_ms else ()
            loss = ("loss", f"{loss_percent}%") if loss_percent else ()
            _run("tc", "-n", self.namespace(node_id), "qdisc", "replace", "dev", "eth0", "root", "netem", *delay, *loss)
        else:
            self._string_wire(node_id, delay_ms, jitter_ms, loss_percent)

    def calm(self, node_id: NodeId) -> None:
        """Undo `disturb`; nothing where there is no disturbance."""
        wire = self._wires.pop(node_id, None)
        if wire is not None:
            wire.kill()  # its devices go with it, and the routes with them
            wire.wait()
            assert wire.stdout is not None
            wire.stdout.close()
        elif self.has_netem and node_id in self._hosts:
            _succeeds("tc", "-n", self.namespace(node_id), "qdisc", "del", "dev", "eth0", "root")

    def heal(self) -> None:
        """Undo every cut and disturbance."""
        for source in list(self._hosts):
            self.calm(source)
            _ip("-n", self.namespace(source), "neigh", "flush", "dev", "eth0", "nud", "permanent")

    def _string_wire(self, node_id: NodeId, delay_ms: int, jitter_ms: int, loss_percent: float) -> None:
        """The node's packets leave by a device that a process of ours reads; that process gives them to the hub, late or not at all."""
        host = self._hosts[node_id]
        near, far = f"wire-{host}", f"out-{host}"
        self._wires[node_id] = wire = subprocess.Popen(
            [sys.executable, "-m", "cluster.chaos_wire", near, far, str(delay_ms), str(jitter_ms), str(loss_percent)],
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            stdin=subprocess.DEVNULL,
            env={**os.environ, "PYTHONPATH": str(Path(__file__).resolve().parents[1])},
            start_new_session=True,
        )
        assert wire.stdout is not None
        if wire.stdout.readline() != b"ready\n":
            self.calm(node_id)
            raise NetworkFailed(f"{node_id}: the wire that delays and loses packets did not start (is /dev/net/tun there?)")
        self._hub_ip("link", "set", near, "netns", self.namespace(node_id))
        self._node_ip(node_id, "link", "set", near, "up")
        self._hub_ip("link", "set", far, "up")
        for half in _HALVES:
            self._node_ip(node_id, "route", "add", half, "dev", near, "src", self.address(node_id))

    def _hub_ip(self, *arguments: str) -> None:
        _ip("-n", self._hub, *arguments)

    def _node_ip(self, node_id: NodeId, *arguments: str) -> None:
        _ip("-n", self.namespace(node_id), *arguments)

    @staticmethod
    def _settings(namespace: str, *settings: str) -> None:
        """Settings of the kernel for this namespace alone, as paths under /proc/sys with their values."""
        script = "; ".join("echo {1} > /proc/sys/{0}".format(*setting.split("=")) for setting in settings)
        _ip("netns", "exec", namespace, "sh", "-ec", script)


def start_time(pid: int) -> int:
    """When the process started, in clock ticks since the machine did; with the pid it names a process for good. 0: there is none."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text(encoding="ascii", errors="replace")
    except OSError:
        return 0
    return int(text.rpartition(")")[2].split()[19])


def remove_leftovers() -> list[str]:
    """Remove the namespaces of runs whose process is gone, and the processes in them (a node that was frozen); returns their names."""
    removed: list[str] = []
    for namespace in _namespaces():
        if not namespace.startswith(PREFIX):
            continue
        pid, _, rest = namespace.removeprefix(PREFIX).partition("-")
        started = rest.partition("-")[0]
        if pid.isdigit() and started.isdigit() and start_time(int(pid)) != int(started):
            _remove(namespace)
            removed.append(namespace)
    return removed


def _namespaces() -> list[str]:
    return [line.split()[0] for line in _ip("netns", "list").splitlines() if line.strip()]


def _remove(namespace: str) -> None:
    for pid in _ip("netns", "pids", namespace).split():
        if int(pid) != os.getpid():
            with contextlib.suppress(ProcessLookupError):
                os.kill(int(pid), signal.SIGKILL)
    _ip("netns", "del", namespace)


def _set_namespace(descriptor: int) -> None:
    assert threading.current_thread() is threading.main_thread(), "a namespace is entered by one thread; those it starts later inherit it"
    libc = ctypes.CDLL(None, use_errno=True)  # os.setns comes with Python 3.12
    if libc.setns(descriptor, _CLONE_NEWNET) != 0:
        number = ctypes.get_errno()
        raise NetworkFailed(f"setns: {os.strerror(number)}")


_IP: Final = "ip"


def _ip(*arguments: str) -> str:
    return _run(_IP, *arguments)


def _run(*command: str) -> str:
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=_COMMAND_SECONDS_MAX, stdin=subprocess.DEVNULL, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise NetworkFailed(f"{' '.join(command)}: {error}") from None
    if done.returncode != 0:
        raise NetworkFailed(f"{' '.join(command)}: {' '.join(done.stderr.split()) or f'exit code {done.returncode}'}")
    return done.stdout


def _succeeds(*command: str) -> bool:
    try:
        _run(*command)
    except NetworkFailed:
        return False
    return True
