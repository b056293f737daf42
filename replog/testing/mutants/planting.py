"""Planting a bug: a mutant is the shipped function with one piece of its source replaced.

Production code has no hooks for this. A mutant names a function, a text that occurs exactly once in its source, and another text; while it is
planted, the changed function stands wherever the shipped one stood (in every module that imported it), and caches of what it computed are empty. When the source has moved on so that the text is
not there any more, planting fails with a message that names the mutant: a mutant that cannot be planted proves nothing.
"""

from __future__ import annotations

import importlib
import inspect
import sys
import textwrap
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from types import FunctionType, ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from replog.testing.mutants.kills import Kill


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
    kills: tuple[Kill, ...]
    """Runs that find it; the first one is enough."""
    wants: str = ""
    """The weather it needs, where it is special; or why a scenario and no weather finds it."""
    caches: tuple[tuple[str, str], ...] = ()
    """(module, function) with an `lru_cache` whose results the edited functions made."""


@contextmanager
def planted(mutant: Mutant) -> Iterator[None]:
    """The mutant lives inside the block. Raises CannotPlant."""
    with ExitStack() as stack:
        for place in dict.fromkeys((edit.module, edit.function) for edit in mutant.edits):
            stack.enter_context(_edited(mutant.name, [edit for edit in mutant.edits if (edit.module, edit.function) == place]))
        _clear(mutant.caches)
        stack.callback(_clear, mutant.caches)
        yield


def _clear(caches: tuple[tuple[str, str], ...]) -> None:
    for module, function in caches:
        getattr(importlib.import_module(module), function).cache_clear()


@contextmanager
def _edited(name: str, edits: Sequence[Edit]) -> Iterator[None]:
    """All edits of one function."""
    edit = edits[0]
    module = importlib.import_module(edit.module)
    owner: Any = module
    *path, last = edit.function.split(".")
    for part in path:
        owner = getattr(owner, part, None)
    if owner is None or last not in vars(owner):
        raise CannotPlant(f"mutant {name}: {edit.module} has no {edit.function} any more")
    shipped = inspect.unwrap(vars(owner)[last])
    if isinstance(shipped, (staticmethod, classmethod)):
        shipped = shipped.__func__
    changed = _changed(name, edits, module, shipped)
    places = [(owner, last)] if path else _places_of(shipped)
    originals = [(place, attribute, vars(place)[attribute]) for place, attribute in places]
    for place, attribute in places:
        setattr(place, attribute, changed)
    try:
        yield
    finally:
        for place, attribute, original in originals:
            setattr(place, attribute, original)


def _changed(name: str, edits: Sequence[Edit], module: ModuleType, shipped: FunctionType) -> FunctionType:
    try:
        source = textwrap.dedent(inspect.getsource(shipped))
    except OSError as error:
        raise CannotPlant(f"mutant {name}: the source of {shipped.__qualname__} cannot be read: {error}") from error
    for edit in edits:
        if source.count(edit.old) != 1:
            raise CannotPlant(
                f"mutant {name}: {edit.module}.{edit.function} has the text {edit.old!r} {source.count(edit.old)} times, not once"
            )
        source = source.replace(edit.old, edit.new)
    space: dict[str, Any] = {}
    code = compile(source, f"<mutant {name}>", "exec", flags=__import__("__future__").annotations.compiler_flag)
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
