"""A base image with Python for the tests: pulled where a registry can be reached, else made from Debian's packages."""

from __future__ import annotations

import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PULLED = "python:3.11-slim"
DEBIAN = "replog-test-base:debian"
_SUITES = ("bookworm", "trixie")
"""Debian releases whose python3 is new enough."""


class NoImage(Exception):
    """No base image can be had here; the message says why."""


def run(*command: str, seconds: float = 120, directory: Path | None = None, environment: dict[str, str] | None = None) -> str:
    """Standard output of a command; raises AssertionError with all it said when it fails."""
    done = subprocess.run(command, capture_output=True, text=True, timeout=seconds, cwd=directory, env=environment)
    assert done.returncode == 0, f"{' '.join(command)}: exit code {done.returncode}\n{done.stdout[-3000:]}\n{done.stderr[-3000:]}"
    return done.stdout


def succeeds(*command: str, seconds: float = 60) -> bool:
    try:
        return subprocess.run(command, capture_output=True, timeout=seconds).returncode == 0
    except (OSError, subprocess.TimeoutExpired):
        return False


def engine_missing() -> str:
    """Why no container can be run here; empty when one can."""
    if shutil.which("docker") is None:
        return "docker is not installed"
    if not succeeds("docker", "info", seconds=20):
        return "no Docker engine answers (`docker info` fails)"
    return "" if compose_command() else "neither `docker compose` nor `docker-compose` is installed"


def compose_command() -> list[str]:
    """The plugin where it is installed, else the older program; empty: neither."""
    if succeeds("docker", "compose", "version", seconds=20):
        return ["docker", "compose"]
    return ["docker-compose"] if shutil.which("docker-compose") else []


def base_image(workdir: Path) -> str:
    """Name of an image with Python. Raises `NoImage`."""
    for name in (PULLED, DEBIAN):
        if succeeds("docker", "image", "inspect", name):
            return name
    if succeeds("docker", "pull", PULLED, seconds=120):
        return PULLED
    print(f"{PULLED} cannot be pulled; building a base image from Debian's packages", file=sys.stderr)
    build_debian_image(workdir)
    return DEBIAN


def build_debian_image(workdir: Path) -> None:
    """Debian's minimal system with python3, from the mirror that this machine's apt uses. Raises `NoImage`."""
    if shutil.which("debootstrap") is None:
        raise NoImage(f"{PULLED} cannot be pulled and debootstrap is not installed")
    suite, mirror = debian_mirror()
    tree = workdir / "tree"
    run("debootstrap", "--variant=minbase", "--include=python3,python3-venv", suite, str(tree), mirror, seconds=600)
    for waste in ("var/cache/apt/archives", "var/lib/apt/lists", "usr/share/doc"):
        shutil.rmtree(tree / waste, ignore_errors=True)
    with subprocess.Popen(["tar", "-C", str(tree), "-c", "."], stdout=subprocess.PIPE) as tar:
        subprocess.run(["docker", "import", "-", DEBIAN], stdin=tar.stdout, check=True, capture_output=True, timeout=300)
    shutil.rmtree(tree)


def debian_mirror() -> tuple[str, str]:
    """(suite, mirror) as configured in /etc/apt. Raises `NoImage`."""
    try:
        targets = run("apt-get", "indextargets", "--format", "$(REPO_URI) $(RELEASE) $(COMPONENT)", "Created-By: Packages")
    except (OSError, AssertionError) as error:
        raise NoImage(f"{PULLED} cannot be pulled, and apt says no mirror: {error}") from None
    for line in targets.splitlines():
        mirror, suite, component = line.split()
        if suite in _SUITES and component == "main":
            return suite, mirror
    raise NoImage(f"{PULLED} cannot be pulled, and apt has no mirror of Debian {' or '.join(_SUITES)}")


def build_context(directory: Path) -> None:
    """What `docker build` needs, beside wheels for Linux and Python 3.11, so that the build downloads nothing."""
    for name in ("cluster", "replog", "pyproject.toml", "README.md", "LICENSE", "docker-compose.yml", ".dockerignore"):
        source, target = ROOT / name, directory / name
        if source.is_dir():
            shutil.copytree(source, target, ignore=shutil.ignore_patterns("__pycache__", "*.whl"))
        else:
            shutil.copy(source, target)
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    extras = project["project"]["optional-dependencies"]
    needed = [*project["project"]["dependencies"], *extras["cli"], *extras["speed"], *project["build-system"]["requires"]]
    run(
        *(sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--only-binary", ":all:"),
        *("--python-version", "3.11", "--dest", str(directory / "cluster" / "wheels"), *needed),
        seconds=300,
    )
