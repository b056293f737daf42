"""Three containers of the compose file for the tests of a module; skipped, with the reason, where there is no engine or no image to begin with."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.containers import images
from tests.containers.compose import NODES, Compose


@pytest.fixture(scope="module")
def compose(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Compose]:
    missing = images.engine_missing()
    if missing:
        pytest.skip(missing)
    workdir = tmp_path_factory.mktemp("containers")
    try:
        base = images.base_image(workdir)
    except images.NoImage as reason:
        pytest.skip(str(reason))
    context = workdir / "context"
    context.mkdir()
    images.build_context(context)
    project = Compose(context, base)
    project("build", seconds=600)
    try:
        project("up", "--detach", "--no-build")
        project.wait_healthy(*NODES)
        yield project
    finally:
        project("down", "--volumes", "--remove-orphans")
