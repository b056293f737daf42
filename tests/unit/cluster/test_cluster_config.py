"""TOML and environment into frozen configs, and the one line for each mistake."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cluster.config import load, render, unknown_variables
from replog.errors import ConfigError

GOOD: dict[str, dict[str, object]] = {
    "cluster": {"cluster_id": "orders", "tick_ms": 10, "initial_members": {"n1": "10.0.0.1:7000", "n2": "node2:7000"}},
    "node": {"node_id": "n1", "data_dir": "/data", "preallocate": False},
    "process": {"app": "counter"},
}


def write(path: Path, text: str) -> str:
    file = path / "node.toml"
    file.write_text(text)
    return str(file)


def refusal(path: str | None, environment: dict[str, str]) -> str:
    with pytest.raises(ConfigError) as caught:
        load(path, environment)
    message = str(caught.value)
    assert "\n" not in message
    return message


def test_a_file_and_the_environment_over_it_make_one_configuration(tmp_path: Path) -> None:
    path = write(tmp_path, render(GOOD))

    loaded = load(path, {"REPLOG_TICK_MS": "15", "REPLOG_NODE_ID": "n2", "REPLOG_STOP_WITH_STDIN": "true"})

    assert loaded.cluster.tick_ms == 15
    assert dict(loaded.cluster.initial_members) == {"n1": "10.0.0.1:7000", "n2": "node2:7000"}
    assert (loaded.node.node_id, loaded.node.data_dir, loaded.node.preallocate) == ("n2", "/data", False)
    assert (loaded.process.app, loaded.process.stop_with_stdin) == ("counter", True)


def test_a_container_needs_the_environment_alone() -> None:
    loaded = load(None, {"REPLOG_NODE_ID": "n1", "REPLOG_DATA_DIR": "/d", "REPLOG_INITIAL_MEMBERS": "n1=a:1, n2=b:2"})

    assert dict(loaded.cluster.initial_members) == {"n1": "a:1", "n2": "b:2"}


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("[cluster]\ntick_mss = 3", "cluster.tick_mss: found 'tick_mss', allowed: tick_ms (nearest), or one of cluster_id"),
        ("[clutser]\na = 3", "[clutser]: found 'clutser', allowed: cluster (nearest)"),
        ("[cluster]\ntick_ms = 0", "cluster.tick_ms: found 0, allowed: a number from 1 to 10000"),
        ("[cluster]\ntick_ms = '5'", "cluster.tick_ms: found '5', allowed: an integer"),
        ("[cluster]\ntick_ms = true", "cluster.tick_ms: found True, allowed: an integer"),
        ("[node]\npreallocate = 1", "node.preallocate: found 1, allowed: true or false"),
        ("[cluster.initial_members]\nn1 = 'nowhere'", "cluster.initial_members.n1: found 'nowhere', allowed: host:port"),
        ("[cluster.initial_members]\nn1 = 7", "initial_members.n1: found 7, allowed: a string host:port"),
        ("[process]\napp = 'sql'", "process.app: found 'sql', allowed: one of kv, counter"),
        ("cluster = 3", "cluster: found 3, allowed: a table [cluster]"),
        ("[cluster", "allowed: TOML"),
    ],
)
def test_a_mistake_in_the_file_is_one_line_with_what_was_found_and_what_is_allowed(tmp_path: Path, text: str, says: str) -> None:
    path = write(tmp_path, text)

    assert says in refusal(path, {"REPLOG_NODE_ID": "n1", "REPLOG_DATA_DIR": "/d"})


def test_a_mistake_in_a_variable_names_the_variable() -> None:
    needed = {"REPLOG_NODE_ID": "n1", "REPLOG_DATA_DIR": "/d"}

    assert refusal(None, needed | {"REPLOG_TICK_MS": "soon"}) == "REPLOG_TICK_MS: found 'soon', allowed: an integer"
    assert refusal(None, needed | {"REPLOG_PREALLOCATE": "maybe"}) == "REPLOG_PREALLOCATE: found 'maybe', allowed: true or false"
    assert refusal(None, needed | {"REPLOG_INITIAL_MEMBERS": "n1"}).startswith(
        "REPLOG_INITIAL_MEMBERS: found 'n1', allowed: node=host:port"
    )
    assert refusal(None, needed | {"REPLOG_NODE_ID": "a/b"}).startswith("REPLOG_NODE_ID: found 'a/b', allowed: 1 to 64 characters")


def test_what_is_missing_is_named_with_both_places_to_put_it() -> None:
    assert refusal(None, {}) == "node.node_id: found None, allowed: a value in the configuration or in REPLOG_NODE_ID"


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    assert "a file that can be read (No such file or directory)" in refusal(str(tmp_path / "absent.toml"), {})


def test_a_variable_that_names_no_field_is_found_for_a_warning() -> None:
    assert unknown_variables({"REPLOG_NOD_ID": "n1", "REPLOG_NODE_ID": "n1", "REPLOG_ENDPOINTS": "a:1", "PATH": ""}) == ["REPLOG_NOD_ID"]


@given(st.dictionaries(st.text(st.characters(codec="utf-8"), min_size=1), st.text(st.characters(codec="utf-8")), max_size=4))
def test_rendered_tables_are_read_back(table: dict[str, str]) -> None:
    import tomllib

    text = render({"cluster": {"initial_members": table, "tick_ms": 5, "x": 0.5}, "node": {"flag": True}})

    assert tomllib.loads(text) == {"cluster": {"initial_members": table, "tick_ms": 5, "x": 0.5}, "node": {"flag": True}}
