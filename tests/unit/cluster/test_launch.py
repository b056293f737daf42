"""Local clusters as files: made, found again, refused."""

from pathlib import Path

import pytest

from cluster.config import load
from cluster.launch import LocalCluster, free_ports
from replog.errors import ConfigError, UnknownNode


def test_a_cluster_is_made_as_files_that_agree_and_is_found_again(tmp_path: Path) -> None:
    made = LocalCluster.create(str(tmp_path), 3, node={"segment_bytes_max": 8192}, process={"app": "counter"})

    found = LocalCluster.open(str(tmp_path))
    loaded = [load(node.config_path, {}) for node in found.nodes.values()]

    assert found.nodes == made.nodes
    assert list(found.nodes) == ["n1", "n2", "n3"]
    assert len({configuration.cluster.members_fingerprint() for configuration in loaded}) == 1
    assert dict(loaded[0].cluster.initial_members) == dict(zip(made.nodes, made.addresses, strict=True))
    assert {configuration.node.segment_bytes_max for configuration in loaded} == {8192}
    assert len({configuration.node.data_dir for configuration in loaded}) == 3
    assert loaded[0].process.stop_with_stdin


def test_ports_may_be_chosen(tmp_path: Path) -> None:
    made = LocalCluster.create(str(tmp_path), 2, port=7001)

    assert made.addresses == ["127.0.0.1:7001", "127.0.0.1:7002"]
    assert [node.http_address for node in made.nodes.values()] == ["127.0.0.1:8001", "127.0.0.1:8002"]


def test_free_ports_are_different() -> None:
    assert len(set(free_ports(10))) == 10


def test_an_unknown_node_is_named_with_the_known_ones(tmp_path: Path) -> None:
    made = LocalCluster.create(str(tmp_path), 2)

    with pytest.raises(UnknownNode, match="unknown node 'n9'; the members are n1, n2"):
        made.start("n9")


def test_a_wrong_field_is_refused_when_the_cluster_is_made(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"cluster.tick_ms: found 0, allowed: a number from 1 to 10000"):
        LocalCluster.create(str(tmp_path), 1, cluster={"tick_ms": 0})
    with pytest.raises(ConfigError, match="nodes: found 0"):
        LocalCluster.create(str(tmp_path), 0)


@pytest.mark.parametrize("content", [None, "", "{}", '{"cluster_id": "x", "nodes": [{"a": 1}]}', "[1]"])
def test_a_directory_without_a_cluster_is_refused(tmp_path: Path, content: str | None) -> None:
    if content is not None:
        (tmp_path / "cluster.json").write_text(content)

    with pytest.raises(ConfigError, match=r"allowed: one with a cluster\.json that"):
        LocalCluster.open(str(tmp_path))
