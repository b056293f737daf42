"""Planting a bug: a mutant is the shipped function with one piece of its source replaced.

Production code has no hooks for this. A mutant names a function, a text that occurs exactly once in its source, and another text; while it is
planted, the changed function stands wherever the shipped one stood (in every module that imported it). When the source has moved on so that the text is
not there any more, planting fails with a message that names the mutant: a mutant that cannot be planted proves nothing.
"""

from __future__ import annotations

import importlib
import inspect
import sys
import textwrap
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from types import FunctionType, ModuleType
from typing import Any


class CannotPlant(Exception):
    """The source no longer has the text that the mutant replaces. Write the mutant anew."""


@dataclass(frozen=True, slots=True)
class Edit:
    """In the source of `function` (a function, or ``Class.method``) of `module`, `old` becomes `new`."""

    module: str
    function: str
    old: str
    new: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Mutant:
    """One broken rule, and the runs that are known to show it."""

    name: str
    breaks: str
    """What the mutant does wrong, in a sentence."""
    edits: tuple[Edit, ...]
    kills: tuple[tuple[str, int], ...]
    """(profile, seed) of runs that find it; the first one is enough."""
    found_by: tuple[str, ...] = ()
    """Properties of which one is broken first (any, when empty)."""
    wants: str = ""
    """The weather it needs, where it is special."""


@contextmanager
def planted(mutant: Mutant) -> Iterator[None]:
    """The mutant lives inside the block. Raises CannotPlant."""
    with ExitStack() as stack:
        for edit in mutant.edits:
            stack.enter_context(_edited(mutant.name, edit))
        yield


@contextmanager
def _edited(name: str, edit: Edit) -> Iterator[None]:
    module = importlib.import_module(edit.module)
    owner: Any = module
    *path, last = edit.function.split(".")
    for part in path:
        owner = getattr(owner, part)
    shipped = inspect.unwrap(vars(owner)[last])
    if isinstance(shipped, (staticmethod, classmethod)):
        shipped = shipped.__func__
    changed = _changed(name, edit, module, shipped)
    places = [(owner, last)] if path else _places_of(shipped)
    originals = [(place, attribute, vars(place)[attribute]) for place, attribute in places]
    for place, attribute in places:
        setattr(place, attribute, changed)
    try:
        yield
    finally:
        for place, attribute, original in originals:
            setattr(place, attribute, original)


def _changed(name: str, edit: Edit, module: ModuleType, shipped: FunctionType) -> FunctionType:
    try:
        source = textwrap.dedent(inspect.getsource(shipped))
    except OSError as error:
        raise CannotPlant(f"mutant {name}: the source of {edit.module}.{edit.function} cannot be read: {error}") from error
    if source.count(edit.old) != 1:
        raise CannotPlant(
            f"mutant {name}: {edit.module}.{edit.function} has the text {edit.old!r} {source.count(edit.old)} times, not once"
        )
    space: dict[str, Any] = {}
    code = compile(source.replace(edit.old, edit.new), f"<mutant {name}>", "exec", flags=__import__("__future__").annotations.compiler_flag)
    exec(code, module.__dict__, space)  # noqa: S102 - our own source, one piece replaced: what a mutant is
    changed = space[shipped.__name__]
    assert isinstance(changed, FunctionType)
    return changed


def _places_of(shipped: object) -> list[tuple[Any, str]]:
    """Every module attribute that is this function."""
    places: list[tuple[Any, str]] = []
    for module_name in sorted(sys.modules):
        module = sys.modules[module_name]
        if module_name.startswith("replog.") and module is not None:
            places += [
                (module, attribute) for attribute, value in sorted(vars(module).items(), key=lambda pair: pair[0]) if value is shipped
            ]
    return places
