"""Each mistake of whoever runs a node or a command: one clear line, what was found and what is allowed, exit code 2, nothing lost."""

import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from cluster.config import render
from cluster.launch import LocalCluster, free_ports

pytestmark = pytest.mark.slow

ROOT = Path(__file__).resolve().parents[2]


def cluster(*arguments: str, environment: dict[str, str] | None = None, stdin: bytes = b"") -> subprocess.CompletedProcess[bytes]:
    """``python -m cluster`` with these arguments, and with no settings of this shell."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith("REPLOG_")}
    return subprocess.run(
        [sys.executable, "-m", "cluster", *arguments],
        cwd=ROOT,
        env={**clean, **(environment or {})},
        input=stdin,
        capture_output=True,
        timeout=50,
    )


def refusal(done: subprocess.CompletedProcess[bytes]) -> str:
    """The one line of the error; exit code 2."""
    lines = [line for line in done.stderr.decode().splitlines() if line.startswith("error:")]
    assert done.returncode == 2, done.stderr.decode()
    assert len(lines) == 1, done.stderr.decode()
    assert b"Traceback" not in done.stderr
    return lines[0]


def node_file(directory: Path, node: dict[str, object] | None = None, cluster: dict[str, object] | None = None) -> str:
    port = free_ports(1)[0]
    sections: dict[str, dict[str, object]] = {
        "cluster": {"cluster_id": "one", "initial_members": {"n1": f"127.0.0.1:{port}"}, **(cluster or {})},
        "node": {"node_id": "n1", "data_dir": str(directory / "data"), "bind_address": f"127.0.0.1:{port}", **(node or {})},
    }
    path = directory / "node.toml"
    path.write_text(render(sections))
    return str(path)


@pytest.fixture
def one_node(tmp_path: Path) -> Iterator[LocalCluster]:
    """A running cluster of one node."""
    import asyncio

    async def wait() -> None:
        await local.wait_serving()
        await local.wait_leader()
        await local.disconnect()

    with LocalCluster.create(str(tmp_path / "running"), 1) as local:
        local.start_all()
        asyncio.run(wait())
        yield local


def test_an_unknown_field_is_refused_with_the_nearest_one(tmp_path: Path) -> None:
    path = node_file(tmp_path, node={"segment_byte_max": 5})

    assert "node.segment_byte_max: found 'segment_byte_max', allowed: segment_bytes_max (nearest)" in refusal(
        cluster("node", "--config", path)
    )


def test_a_node_that_is_not_a_member_is_refused_with_the_members(tmp_path: Path) -> None:
    path = node_file(tmp_path, node={"node_id": "n7"})

    line = refusal(cluster("node", "--config", path))

    assert "node_id: found 'n7'" in line
    assert "initial_members: n1" in line


def test_a_port_that_is_taken_is_refused_by_address(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        address = f"127.0.0.1:{taken.getsockname()[1]}"

        line = refusal(cluster("node", "--config", node_file(tmp_path, node={"bind_address": address})))

    assert f"cannot listen on {address}" in line


def test_an_http_port_that_is_taken_is_refused_by_address(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        address = f"127.0.0.1:{taken.getsockname()[1]}"

        line = refusal(cluster("node", "--config", node_file(tmp_path, node={"http_address": address})))

    assert f"cannot listen on {address}" in line


def test_a_directory_that_is_in_use_is_refused_with_the_process_that_has_it(one_node: LocalCluster, tmp_path: Path) -> None:
    data = one_node.nodes["n1"].data_dir
    path = node_file(tmp_path, node={"data_dir": data}, cluster={"cluster_id": "local"})

    line = refusal(cluster("node", "--config", path))

    assert f"{data}" in line
    assert f"locked by process {one_node.process('n1').pid}" in line


def test_a_directory_of_another_node_is_refused_with_both_names_and_left_as_it_is(one_node: LocalCluster, tmp_path: Path) -> None:
    one_node.stop("n1")
    data = Path(one_node.nodes["n1"].data_dir)
    before = {path: path.read_bytes() for path in data.rglob("*") if path.is_file() and path.name != "lock"}
    members = {"other": f"127.0.0.1:{free_ports(1)[0]}"}

    line = refusal(
        cluster(
            "node",
            "--config",
            node_file(
                tmp_path, node={"node_id": "other", "data_dir": str(data)}, cluster={"cluster_id": "local", "initial_members": members}
            ),
        )
    )

    assert "'n1'" in line
    assert "'other'" in line
    assert {path: path.read_bytes() for path in before} == before


def test_a_directory_of_another_cluster_is_refused_with_both_names(one_node: LocalCluster, tmp_path: Path) -> None:
    one_node.stop("n1")

    line = refusal(cluster("node", "--config", node_file(tmp_path, node={"data_dir": one_node.nodes["n1"].data_dir})))

    assert "'local'" in line
    assert "'one'" in line


def test_a_log_with_a_flipped_byte_is_refused_with_file_and_offset_and_left_as_it_is(one_node: LocalCluster) -> None:
    for number in range(3):
        assert cluster("put", f"k{number}", "v" * 100, "--dir", one_node.directory).returncode == 0
    one_node.stop("n1")
    segment = min(Path(one_node.nodes["n1"].data_dir, "wal").glob("*.wal"))
    content = bytearray(segment.read_bytes())
    at = content.index(b"vvvv")
    content[at] ^= 1
    segment.write_bytes(content)

    line = refusal(cluster("node", "--config", one_node.nodes["n1"].config_path))

    assert f"{segment}: offset " in line
    assert segment.read_bytes() == content


def test_a_data_directory_that_is_a_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")

    line = refusal(cluster("node", "--config", node_file(tmp_path, node={"data_dir": str(tmp_path / "file")})))

    assert str(tmp_path / "file") in line
    assert (tmp_path / "file").read_text() == "in the way"


def test_an_oversized_value_is_refused_with_both_sizes_and_the_node_goes_on(one_node: LocalCluster) -> None:
    too_large = b"x" * (9 * 1024 * 1024)

    line = refusal(cluster("put", "k", "-", "--dir", one_node.directory, stdin=too_large))

    assert "9437188 bytes" in line or "9437" in line
    assert str(8 * 1024 * 1024) in line
    assert cluster("put", "k", "small", "--dir", one_node.directory).returncode == 0
    assert cluster("get", "k", "--dir", one_node.directory).stdout == b"small\n"


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("get", "k", "--dir", "/nowhere"), "--dir: found '/nowhere', allowed: the directory of a cluster"),
        (("get", "k", "--endpoints", "nowhere"), "--endpoints: found 'nowhere', allowed: host:port"),
        (
            ("get", "k", "--endpoints", "127.0.0.1:1", "--consistency", "eventual"),
            "--consistency: found 'eventual', allowed: one of linearizable, lease, stale",
        ),
        (("put", "", "v", "--endpoints", "127.0.0.1:1"), "key of 0 bytes; allowed are 1 to 4096"),
        (("cas", "k", "v", "--endpoints", "127.0.0.1:1"), "allowed: exactly one of --absent, --revision, --expect"),
        (("bench", "--via", "magic"), "via: found 'magic', allowed: one of embedded, client"),
        (("bench", "--app", "sql"), "app: found 'sql', allowed: one of kv, counter"),
        (("node", "--config", "/nowhere.toml"), "config file: found '/nowhere.toml', allowed: a file that can be read"),
        (("demo", "--dir", "/usr"), "--dir: found '/usr', allowed: a new or empty directory"),
    ],
)
def test_a_wrong_argument_is_one_line(arguments: tuple[str, ...], says: str) -> None:
    assert says in refusal(cluster(*arguments))


def test_a_cluster_that_does_not_answer_is_exit_code_1_and_one_line() -> None:
    done = cluster("put", "k", "v", "--endpoints", f"127.0.0.1:{free_ports(1)[0]}", "--timeout", "1")

    assert done.returncode == 1
    assert done.stderr.decode().count("\n") == 1
    assert done.stderr.startswith(b"error: ")
