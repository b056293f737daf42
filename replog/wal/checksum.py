"""The two checksums of the format, from the fastest library that is installed.

Every candidate computes the same values (it is checked against a known one before it is used), so the choice is only about time, and no library wins on
every processor; it is made at import by measuring. The sizes are 100 and 1,000 bytes, because some are fast only at long data. ns a call, each library
in a process of its own:

================  =====  =====  ======  =======    =====  =====  ======  =======
library           Xeon with AVX-512                EPYC
----------------  -----------------------------    -----------------------------
bytes             17 B   100 B  1 KiB   16 KiB     17 B   100 B  1 KiB   16 KiB
================  =====  =====  ======  =======    =====  =====  ======  =======
zlib (stdlib)     42     125    299     2982       57     137    270     2674
isal              28     146    149     280        35     41     49      296
zlib-ng           33     33     36      190        46     48     54      296
fastcrc crc32     65     96     91      227        77     106    82      317
fastcrc crc64     51     70     66      218        72     103    82      318
crc64 here        1600   8200   82000   -
================  =====  =====  ======  =======    =====  =====  ======  =======

On the first processor isal leaves something behind (presumably wide registers that are not cleared) that makes it and zlib-ng take 145 ns for 100 bytes,
until zlib-ng has been called with 256 bytes or more. So a candidate is measured after a long call, and the chosen one is the last that is called.

Both checksums can be chained (``crc(b, crc(a)) == crc(a + b)``) and have a residue: the checksum of any bytes followed by their own
checksum is one constant. So one call over a whole frame verifies it, and nothing has to be unpacked.
"""

from __future__ import annotations

import importlib
import timeit
import zlib
from collections.abc import Callable, Iterable
from functools import partial
from typing import Final

from replog.wal.options import ChecksumType

Crc = Callable[..., int]
"""``crc(data, value=0) -> int``, positional."""

_PROBE: Final = bytes(range(256)) * 4
_GO_ISO: Final = 0xD800000000000000


def _crc64_table() -> tuple[int, ...]:
    table = []
    for byte in range(256):
        value = byte
        for _ in range(8):
            value = (value >> 1) ^ (_GO_ISO if value & 1 else 0)
        table.append(value)
    return tuple(table)


_CRC64_TABLE: Final = _crc64_table()
_ALL_ONES: Final = 2**64 - 1


def crc64_go_iso(data: bytes | bytearray | memoryview, value: int = 0) -> int:
    """CRC-64/GO-ISO without any library: right everywhere, fast nowhere."""
    table = _CRC64_TABLE
    value ^= _ALL_ONES
    for byte in data:
        value = table[(value ^ byte) & 0xFF] ^ (value >> 8)
    return value ^ _ALL_ONES


def _optional(names: Iterable[tuple[str, str]]) -> dict[str, Crc]:
    """Those of the functions ``(module, attribute)`` that are installed."""
    found: dict[str, Crc] = {}
    for module, attribute in names:
        try:
            found[module] = getattr(importlib.import_module(module), attribute)
        except (ImportError, AttributeError):
            continue
    return found


def _fastest(candidates: dict[str, Crc], reference: Crc) -> tuple[str, Crc]:
    """The candidate that takes the least time and agrees with `reference`, chained too."""
    best: tuple[float, str, Crc] | None = None
    expected = reference(_PROBE)
    for name, crc in candidates.items():
        if crc(_PROBE) != expected or crc(_PROBE[100:], crc(_PROBE[:100])) != expected:
            continue
        crc(_PROBE)
        taken = sum(min(timeit.repeat(partial(crc, data, 1), number=32, repeat=5)) for data in (_PROBE[:100], _PROBE[:1000]))
        if best is None or taken < best[0]:
            best = (taken, name, crc)
    assert best is not None
    best[2](_PROBE)
    return best[1], best[2]


CRC32_LIBRARY, crc32 = _fastest(
    {"zlib": zlib.crc32, **_optional([("isal.isal_zlib", "crc32"), ("zlib_ng.zlib_ng", "crc32"), ("fastcrc.crc32", "iso_hdlc")])},
    zlib.crc32,
)
"""Name of the module that `crc32` comes from, and the function."""


def _choose_crc64() -> tuple[str, Crc]:
    libraries = _optional([("fastcrc.crc64", "go_iso")])
    return _fastest(libraries, crc64_go_iso) if libraries else (__name__, crc64_go_iso)


CRC64_LIBRARY, crc64 = _choose_crc64()
"""Name of the module that `crc64` comes from, and the function."""


def function_of(checksum_type: ChecksumType) -> Crc:
    """The function for this checksum type."""
    return crc32 if checksum_type is ChecksumType.CRC32 else crc64


def library_of(checksum_type: ChecksumType) -> str:
    """Name of the module that computes it here."""
    return CRC32_LIBRARY if checksum_type is ChecksumType.CRC32 else CRC64_LIBRARY
