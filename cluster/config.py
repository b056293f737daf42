"""The configuration of one node process: a TOML file, then the environment over it.

::

    [cluster]                          # the same on every node: every field of replog.ClusterConfig
    cluster_id = "orders"
    [cluster.initial_members]
    n1 = "10.0.0.1:7000"
    n2 = "10.0.0.2:7000"
    n3 = "10.0.0.3:7000"

    [node]                             # this node: every field of replog.NodeConfig
    node_id = "n1"
    data_dir = "/var/lib/replog"
    bind_address = "0.0.0.0:7000"
    advertise_address = "10.0.0.1:7000"
    http_address = "0.0.0.0:8080"

    [process]                          # this program: every field of ProcessConfig
    app = "kv"

A variable ``REPLOG_`` + the field's name in capitals overrides the file (``REPLOG_NODE_ID=n2``, ``REPLOG_INITIAL_MEMBERS=n1=10.0.0.1:7000,n2=...``), so a
container needs no file at all. An unknown field in the file is refused. An unknown variable is not, because Kubernetes sets variables named after services;
`unknown_variables` finds them for a warning.
"""

from __future__ import annotations

import difflib
import tomllib
from collections.abc import Mapping
from dataclasses import MISSING, dataclass, fields
from typing import Any, Final, TypeVar, get_origin, get_type_hints

from replog.config import ClusterConfig, NodeConfig, check_choice
from replog.errors import ConfigError

PREFIX: Final = "REPLOG_"
APPS: Final = ("kv", "counter")
_LOG_LEVELS = ("debug", "info", "warning", "error")
_NOT_FIELDS = ("REPLOG_ENDPOINTS", "REPLOG_TEST_FAULT", "REPLOG_TEST_DISK", "REPLOG_HUNT_SECONDS", "REPLOG_BASE_IMAGE", "REPLOG_DIR")
"""Variables of the client commands, tests and compose file."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ProcessConfig:
    """What belongs to the program around the node."""

    app: str = "kv"
    """State machine: kv (the key-value store) or counter (counts commands; for the benchmark)."""
    log_level: str = "info"
    """Least level written to stderr: debug, info, warning or error."""
    ready_file: str = ""
    """Path of a JSON file written once the node serves: process id and addresses. Empty: none."""
    stop_with_stdin: bool = False
    """Stop cleanly when standard input ends, so that a launcher that dies leaves no nodes behind."""

    def __post_init__(self) -> None:
        check_choice("app", self.app, APPS)
        check_choice("log_level", self.log_level, _LOG_LEVELS)


@dataclass(frozen=True, slots=True, kw_only=True)
class Configuration:
    """Everything that one node process needs to know."""

    cluster: ClusterConfig
    node: NodeConfig
    process: ProcessConfig


_SECTIONS: Final = {"cluster": ClusterConfig, "node": NodeConfig, "process": ProcessConfig}
_KINDS: Final = {str: "a string", int: "an integer", float: "a number", bool: "true or false", Mapping: 'a table of node = "host:port"'}

_T = TypeVar("_T")


def load(path: str | None, environment: Mapping[str, str]) -> Configuration:
    """The configuration in the file at `path` (None: the environment alone). Raises `ConfigError` naming file or variable, field, value and what is allowed."""
    document = _read(path) if path is not None else {}
    for section in document:
        if section not in _SECTIONS:
            raise ConfigError(f"{path}: [{section}]", section, _nearest(section, tuple(_SECTIONS)))
    return Configuration(
        cluster=_section("cluster", ClusterConfig, document, path, environment),
        node=_section("node", NodeConfig, document, path, environment),
        process=_section("process", ProcessConfig, document, path, environment),
    )


def unknown_variables(environment: Mapping[str, str]) -> list[str]:
    """Variables that begin with ``REPLOG_`` and name no field."""
    known = {PREFIX + name.upper() for section in _SECTIONS.values() for name in _field_kinds(section)}
    return sorted(name for name in environment if name.startswith(PREFIX) and name not in known and name not in _NOT_FIELDS)


def _read(path: str) -> dict[str, Any]:
    try:
        with open(path, "rb") as file:
            return tomllib.load(file)
    except OSError as error:
        raise ConfigError("config file", path, f"a file that can be read ({error.strerror})") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError("config file", path, f"TOML ({error})") from None


def _section(name: str, section_type: type[_T], document: Mapping[str, Any], path: str | None, environment: Mapping[str, str]) -> _T:
    """The frozen config of one section: defaults, then the file, then the environment."""
    kinds = _field_kinds(section_type)
    values: dict[str, Any] = {}
    sources: dict[str, str] = {}
    table = document.get(name, {})
    if not isinstance(table, dict):
        raise ConfigError(f"{path}: {name}", table, f"a table [{name}]")
    for field_name, value in table.items():
        source = f"{path}: {name}.{field_name}"
        if field_name not in kinds:
            raise ConfigError(source, field_name, _nearest(field_name, tuple(kinds)))
        _check_kind(source, value, kinds[field_name])
        values[field_name], sources[field_name] = value, source
    for field_name, kind in kinds.items():
        variable = PREFIX + field_name.upper()
        if variable in environment:
            values[field_name], sources[field_name] = _parse(variable, environment[variable], kind), variable
    _check_required(name, section_type, values, path)
    try:
        return section_type(**values)
    except ConfigError as error:
        field_name, dot, rest = error.field.partition(".")
        source = sources.get(field_name, f"{name}.{field_name}")
        raise ConfigError(source + dot + rest, error.value, error.allowed) from None


def _field_kinds(section_type: type) -> dict[str, type]:
    """Plain type by field name: str, int, float, bool or Mapping."""
    hints = get_type_hints(section_type)
    return {field.name: get_origin(hints[field.name]) or hints[field.name] for field in fields(section_type)}


def _check_required(name: str, section_type: type, values: Mapping[str, Any], path: str | None) -> None:
    for field in fields(section_type):
        if field.name not in values and field.default is MISSING and field.default_factory is MISSING:
            where = f"[{name}] of {path}" if path is not None else "the configuration"
            raise ConfigError(f"{name}.{field.name}", None, f"a value in {where} or in {PREFIX}{field.name.upper()}")


def _check_kind(source: str, value: object, kind: type) -> None:
    """TOML has kinds of its own; true is no integer here."""
    right = isinstance(value, Mapping) if kind is Mapping else type(value) is kind or (kind is float and type(value) is int)
    if not right:
        raise ConfigError(source, value, _KINDS[kind])
    if isinstance(value, Mapping):
        for key, item in value.items():
            if not isinstance(item, str):
                raise ConfigError(f"{source}.{key}", item, "a string host:port")


def _parse(variable: str, text: str, kind: type) -> object:
    """The value of a variable as its field wants it."""
    if kind is str:
        return text
    if kind is bool:
        if text.lower() not in ("true", "false", "1", "0"):
            raise ConfigError(variable, text, "true or false")
        return text.lower() in ("true", "1")
    if kind is Mapping:
        return _parse_members(variable, text)
    try:
        return kind(text)
    except ValueError:
        raise ConfigError(variable, text, _KINDS[kind]) from None


def _parse_members(variable: str, text: str) -> dict[str, str]:
    members: dict[str, str] = {}
    for part in filter(None, (part.strip() for part in text.split(","))):
        node, equals, address = part.partition("=")
        if not equals or node in members:
            raise ConfigError(variable, text, "node=host:port, one for each node, separated by commas")
        members[node] = address
    return members


def _nearest(name: str, known: tuple[str, ...]) -> str:
    near = difflib.get_close_matches(name, known, n=1)
    return (f"{near[0]} (nearest), or one of " if near else "one of ") + ", ".join(known)


def render(configuration: Mapping[str, Mapping[str, object]]) -> str:
    """A TOML file with these sections: strings, numbers, booleans, and tables of strings."""
    lines: list[str] = []
    for section, values in configuration.items():
        lines.append(f"[{section}]")
        tables = {name: value for name, value in values.items() if isinstance(value, Mapping)}
        lines += [f"{name} = {_render_value(value)}" for name, value in values.items() if name not in tables]
        for name, table in tables.items():
            lines += ["", f"[{section}.{name}]", *(f"{_render_value(key)} = {_render_value(value)}" for key, value in table.items())]
        lines.append("")
    return "\n".join(lines)


def _render_value(value: object) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int | float):
        return repr(value)
    assert isinstance(value, str)
    escaped = "".join(f"\\u{ord(c):04x}" if ord(c) < 32 or c in '"\\' or ord(c) == 127 else c for c in value)
    return f'"{escaped}"'
