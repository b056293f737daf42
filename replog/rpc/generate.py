"""Make ``*_pb2.py`` and ``*_pb2.pyi`` from the ``.proto`` files, or compare what is committed: ``python replog/rpc/generate.py [--check]``.

Needs ``grpcio-tools``. What it generates runs with the protobuf that this grpcio-tools was made for and with newer ones, so for a release an old one is
taken (`GENERATOR`). ``--check`` compares the descriptors, which do not depend on the generator's version, so any grpcio-tools will do.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).resolve().parents[2]
PROTOS: Final = ("raft", "client", "admin")
GENERATOR: Final = "grpcio-tools==1.73.1"
"""Its code needs protobuf >= 6.31, the lower bound in pyproject.toml."""


def protoc(*arguments: str) -> None:
    """Run the compiler of grpcio-tools over all `.proto` files; raises SystemExit when it complains."""
    from grpc_tools import protoc as compiler  # type: ignore[import-untyped]  # a tool for developers, with no types

    names = [f"replog/rpc/{name}.proto" for name in PROTOS]
    if compiler.main(["protoc", f"-I{ROOT}", *arguments, *names]):
        raise SystemExit("protoc failed")


def committed_descriptors() -> dict[str, bytes]:
    """The descriptors in the committed code, by proto file."""
    sys.path.insert(0, str(ROOT))
    from replog.rpc import admin_pb2, client_pb2, raft_pb2

    return {module.DESCRIPTOR.name: module.DESCRIPTOR.serialized_pb for module in (raft_pb2, client_pb2, admin_pb2)}


def fresh_descriptors() -> dict[str, bytes]:
    """What the `.proto` files say now."""
    from google.protobuf import descriptor_pb2

    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory) / "descriptors"
        protoc(f"--descriptor_set_out={path}")
        found = descriptor_pb2.FileDescriptorSet.FromString(path.read_bytes())
    descriptors = {}
    for file in found.file:
        for message in [*file.message_type]:
            _forget_json_names(message)
        descriptors[file.name] = file.SerializeToString()
    return descriptors


def _forget_json_names(message: object) -> None:
    """The set has every field's JSON name, the generated code has none."""
    for field in message.field:  # type: ignore[attr-defined]  # DescriptorProto has no usable type here
        field.ClearField("json_name")
    for nested in message.nested_type:  # type: ignore[attr-defined]  # as above
        _forget_json_names(nested)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--check", action="store_true", help="change nothing; exit with 1 when the committed code is out of date")
    if not parser.parse_args().check:
        protoc(f"--python_out={ROOT}", f"--pyi_out={ROOT}")
        return 0
    committed, fresh = committed_descriptors(), fresh_descriptors()
    stale = sorted(name for name in fresh if committed.get(name) != fresh[name])
    for name in stale:
        sys.stderr.write(f"{name}: the committed code is out of date; run python replog/rpc/generate.py\n")
    return 1 if stale else 0


if __name__ == "__main__":
    sys.exit(main())
