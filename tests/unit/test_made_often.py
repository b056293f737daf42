"""Values of the hot path are made faster than a frozen dataclass, and are otherwise the same."""

from __future__ import annotations

from dataclasses import FrozenInstanceError, dataclass, replace

import pytest

from replog.types import made_often


@dataclass(frozen=True, slots=True, kw_only=True)
class Slow:
    a: int
    b: str = "b"
    c: tuple[int, ...] = ()


@made_often
@dataclass(frozen=True, slots=True, kw_only=True)
class Quick:
    a: int
    b: str = "b"
    c: tuple[int, ...] = ()


@made_often
@dataclass(frozen=True, slots=True)
class Positional:
    a: int
    b: int = 2


def test_fields_defaults_equality_and_hash_are_those_of_the_dataclass() -> None:
    assert (Quick(a=1).a, Quick(a=1).b, Quick(a=1).c) == (1, "b", ())
    assert Quick(a=1, c=(3,)) == replace(Quick(a=1), c=(3,))
    assert hash(Quick(a=1)) == hash(Slow(a=1))
    assert repr(Quick(a=1)).replace("Quick", "Slow") == repr(Slow(a=1))


def test_a_missing_or_unknown_field_or_a_position_is_refused() -> None:
    with pytest.raises(TypeError, match="a"):
        Quick()  # type: ignore[call-arg]
    with pytest.raises(TypeError, match="d"):
        Quick(a=1, d=2)  # type: ignore[call-arg]
    with pytest.raises(TypeError):
        Quick(1)  # type: ignore[call-arg]


def test_positional_fields_and_patterns_work() -> None:
    match Positional(5):
        case Positional(a, b):
            assert (a, b) == (5, 2)


def test_what_is_not_a_field_cannot_be_set() -> None:
    with pytest.raises((AttributeError, FrozenInstanceError)):
        Quick(a=1).other = 1  # type: ignore[attr-defined]
