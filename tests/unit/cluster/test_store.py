"""The versioned map: frozen views, folding, ordered scans."""

from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from cluster.store import FOLD_KEYS_MIN, FrozenView, Versioned, VersionedMap

small_keys = st.binary(min_size=1, max_size=2)


def contents(stored: VersionedMap) -> dict[bytes, Versioned]:
    return dict(stored.items())


class MapBesideAModel(RuleBasedStateMachine):
    """Any mix of puts, removals, scans, freezes, releases and folds: the map is a dict, and a view never changes."""

    def __init__(self) -> None:
        super().__init__()
        self.map = VersionedMap()
        self.model: dict[bytes, Versioned] = {}
        self.views: list[tuple[FrozenView, dict[bytes, Versioned]]] = []
        self.revision = 0

    @rule(key=small_keys)
    def put(self, key: bytes) -> None:
        self.revision += 1
        self.map.writable[key] = self.model[key] = (b"%d" % self.revision + key, -self.revision)

    @rule(key=small_keys)
    def remove(self, key: bytes) -> None:
        assert self.map.remove(key) == self.model.pop(key, None)

    @rule(prefix=st.binary(max_size=1), after=st.binary(max_size=2))
    def scan(self, prefix: bytes, after: bytes) -> None:
        expected = [(key, self.model[key]) for key in sorted(self.model) if key.startswith(prefix) and key > after]

        assert list(self.map.scan(prefix, after)) == expected

    @rule()
    def freeze(self) -> None:
        self.views.append((self.map.freeze(), dict(self.model)))

    @rule()
    def release(self) -> None:
        if self.views:
            self.views.pop(0)[0].release()

    @rule()
    def drop(self) -> None:
        if self.views:
            self.views.pop()

    @rule(writes=st.integers(0, 3))
    def fold(self, writes: int) -> None:
        self.map.fold(writes)

    @invariant()
    def equals_the_model(self) -> None:
        assert contents(self.map) == self.model
        assert len(self.map) == len(self.model)
        assert all(self.map.get(key) == self.model[key] for key in self.model)

    @invariant()
    def views_have_not_changed(self) -> None:
        assert all(view.base == expected for view, expected in self.views)


TestMapBesideAModel = MapBesideAModel.TestCase


def test_a_frozen_map_is_not_copied() -> None:
    stored = VersionedMap()
    stored.writable[b"a"] = (b"one", 1)

    view = stored.freeze()

    assert view.base is not contents(stored)
    assert view.base[b"a"] is stored.get(b"a")
    assert stored.writable is not view.base


def test_what_was_written_under_a_view_is_folded_in_bounded_steps_while_writes_go_on() -> None:
    stored = VersionedMap()
    view = stored.freeze()
    for number in range(5 * FOLD_KEYS_MIN):
        stored.writable[b"%d" % number] = (b"", number + 1)
    view.release()

    steps = 0
    while stored.writable is not view.base:
        stored.fold(1)
        stored.writable[b"new %d" % steps] = (b"", 1)
        steps += 1

    assert steps == 5
    assert len(stored) == 5 * FOLD_KEYS_MIN + steps


def test_a_view_that_is_dropped_unwritten_lets_the_map_fold() -> None:
    stored = VersionedMap()
    view = stored.freeze()
    base = view.base
    stored.writable[b"a"] = (b"", 1)

    del view
    stored.fold(1)

    assert stored.writable is base


@given(st.lists(small_keys, unique=True), st.lists(small_keys, unique=True))
def test_a_key_that_was_removed_and_came_back_is_scanned_once(first: list[bytes], again: list[bytes]) -> None:
    stored = VersionedMap()
    for key in first:
        stored.writable[key] = (b"", 1)
    assert len(list(stored.scan(b"", b""))) == len(first)

    for key in again:
        stored.remove(key)
        stored.writable[key] = (b"", 2)

    assert [key for key, _ in stored.scan(b"", b"")] == sorted({*first, *again})
