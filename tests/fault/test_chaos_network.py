"""The namespaces of a chaos run: cuts are silent and one way, delay and loss are there, and nothing of them touches the machine's own network.

A process enters its hub for good, so each of these tests is a program of its own.
"""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from cluster import chaos_network

pytestmark = [
    pytest.mark.fault,
    pytest.mark.slow,
    pytest.mark.skipif(bool(chaos_network.missing()), reason=f"no namespaces here: {chaos_network.missing()}"),
]

ROOT = Path(__file__).resolve().parents[2]

PRELUDE = '''
import json, subprocess, sys, time
from cluster.chaos_network import Network

LISTEN = """
import socket
server = socket.create_server(("0.0.0.0", 7000))
print("listening", flush=True)
while True:
    connection, _ = server.accept()
    with connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        while data := connection.recv(100):
            connection.sendall(data)
"""
ASK = """
import socket, sys, time
with socket.create_connection((sys.argv[1], 7000), 1.5) as connection:
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    for _ in range(5):
        began = time.monotonic()
        connection.sendall(b"x")
        connection.recv(1)
print((time.monotonic() - began) * 1000)
"""

def listen(network, node):
    process = subprocess.Popen([*network.command_prefix(node), sys.executable, "-c", LISTEN], stdout=subprocess.PIPE)
    process.stdout.readline()

def ask(prefix, address):
    """Milliseconds of a round trip; None: no connection."""
    done = subprocess.run([*prefix, sys.executable, "-c", ASK, address], capture_output=True, text=True)
    return float(done.stdout) if done.returncode == 0 else None
'''


def run(program: str) -> Any:
    done = subprocess.run([sys.executable, "-c", PRELUDE + program], cwd=ROOT, capture_output=True, text=True, timeout=50)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def links() -> str:
    """The machine's own devices, addresses and routes."""
    shown = [subprocess.run(["ip", "-o", *what], capture_output=True, text=True, check=True).stdout for what in (["addr"], ["route"])]
    return "\n".join(line.partition(" valid_lft")[0] for text in shown for line in text.splitlines())


def test_a_cut_is_silent_and_one_way_and_does_not_reach_the_clients() -> None:
    found = run("""
with Network() as network:
    a, b = network.add("n1"), network.add("n2")
    listen(network, "n1"), listen(network, "n2")
    one, two = network.command_prefix("n1"), network.command_prefix("n2")
    whole = [ask(one, b), ask(two, a), ask((), a)]
    network.cut("n1", "n2")
    clients = [ask((), a), ask((), b)]
    # One way: what n1 sends to n2 is lost, so neither a connection from n1 nor the answer to one from n2 comes through; datagrams from n2 do.
    receive = "import socket; s = socket.socket(type=socket.SOCK_DGRAM); s.bind(('0.0.0.0', 7001)); s.settimeout(1.5); print('up', flush=True); print(s.recv(9))"
    send = "import socket, sys; socket.socket(type=socket.SOCK_DGRAM).sendto(b'word', (sys.argv[1], 7001))"
    heard = []
    for source, target, address in ((one, two, b), (two, one, a)):
        receiver = subprocess.Popen([*target, sys.executable, "-c", receive], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
        receiver.stdout.readline()
        subprocess.run([*source, sys.executable, "-c", send, address], check=True)
        heard.append("word" in receiver.communicate()[0])
    broken = ask(one, b)
    network.mend("n1", "n2")
    print(json.dumps([whole, clients, heard, broken, ask(one, b), ask(two, a)]))
""")

    whole, clients, heard, broken, *mended = found
    assert None not in whole
    assert None not in clients
    assert heard == [False, True]
    assert broken is None
    assert None not in mended


def test_delay_is_added_to_what_one_node_sends_and_ends_when_it_is_calmed() -> None:
    before, delayed, to_clients, after = run("""
with Network() as network:
    a, b = network.add("n1"), network.add("n2")
    listen(network, "n2")
    one = network.command_prefix("n1")
    before = ask(one, b)
    network.disturb("n2", delay_ms=80, jitter_ms=10)
    delayed, to_clients = ask(one, b), ask((), b)
    network.calm("n2")
    print(json.dumps([before, delayed, to_clients, ask(one, b)]))
""")

    assert before < 50
    assert 60 < delayed < 400
    assert 60 < to_clients < 400
    assert after < 50


def test_loss_loses_a_part_of_the_packets() -> None:
    received = run("""
receive = '''
import socket
s = socket.socket(type=socket.SOCK_DGRAM); s.bind(("0.0.0.0", 7001)); s.settimeout(1.0); print("up", flush=True)
count = 0
try:
    while True:
        s.recv(9); count += 1
except TimeoutError:
    print(count)
'''
send = '''
import socket, sys, time
s = socket.socket(type=socket.SOCK_DGRAM)
for _ in range(1000):
    s.sendto(b"word", (sys.argv[1], 7001))
    time.sleep(0.0005)
'''
with Network() as network:
    a, b = network.add("n1"), network.add("n2")
    network.disturb("n1", loss_percent=30)
    receiver = subprocess.Popen([*network.command_prefix("n2"), sys.executable, "-c", receive], stdout=subprocess.PIPE, text=True)
    receiver.stdout.readline()
    subprocess.run([*network.command_prefix("n1"), sys.executable, "-c", send, b], check=True)
    print(receiver.communicate()[0])
""")

    assert 550 < received < 850


def test_the_machines_own_network_is_as_it_was_and_leads_nowhere_into_the_namespaces() -> None:
    before = links()

    inside = run("""
import socket
with Network() as network:
    network.add("n1")
    routes = subprocess.run([*network.command_prefix("n1"), "ip", "route"], capture_output=True, text=True).stdout
    print(json.dumps(routes))
""")

    assert links() == before
    assert "default" not in inside
    assert "198.18.0.0/24 dev eth0" in inside
