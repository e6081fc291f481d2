"""Environments for peers that cannot share ours: they pin older libraries, need a newer Python, or are not in Python.

``make peers`` runs this file; tests ask :func:`program` for a peer and skip with what it says when it is not there.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import pytest

HOME = Path(__file__).parents[2] / ".venv-peers"


class Peer(NamedTuple):
    requirements: tuple[str, ...]
    python: tuple[int, int]


PEERS = {
    "pywebtransport-old": Peer(("pywebtransport==0.8.1", "aioquic==1.3.0"), (3, 11)),
    "pywebtransport-new": Peer(("pywebtransport==0.21.1", "uvloop>=0.21"), (3, 12)),
    "aiopquic": Peer(("aiopquic==0.6.1", "uvloop>=0.21"), (3, 12)),
    "deno": Peer(("deno==2.9.8",), (3, 11)),
}


NODE_PEERS = {"quiche": "@matrixai/quic@2.0.9"}
"""Packages of npm, each with a native library that was built for this machine's kind."""


def program(peer: str, name: str = "python") -> str:
    """The path of a program in a peer's environment, or a skip that says how to get it."""
    path = HOME / peer / "bin" / name
    if not (HOME / peer / "installed").exists():
        version = ".".join(map(str, PEERS[peer].python))
        pytest.skip(f"{peer} is not installed: run `make peers` (it needs Python {version} or newer)")
    return str(path)


def find_python(wanted: tuple[int, int]) -> str | None:
    """A Python of at least this version: the one running, ``$PEER_PYTHON``, one on PATH, or one of pyenv's."""
    pyenv = Path(os.environ.get("PYENV_ROOT", "~/.pyenv")).expanduser() / "versions"
    candidates = [sys.executable, os.environ.get("PEER_PYTHON") or "python3"]
    candidates += [f"python3.{minor}" for minor in range(14, 11, -1)]
    candidates += [str(path) for path in sorted(pyenv.glob("3.*/bin/python"))]
    for candidate in candidates:
        if shutil.which(candidate) is None:
            continue
        check = f"import sys, venv, ensurepip; sys.exit(sys.version_info < {wanted})"
        if subprocess.run([candidate, "-c", check], capture_output=True).returncode == 0:
            return candidate
    return None


def install(name: str, peer: Peer) -> bool:
    """Make one environment unless it is there already with the same requirements. True when it is usable."""
    folder = HOME / name
    stamp = folder / "installed"
    wanted = " ".join(peer.requirements)
    if stamp.exists() and stamp.read_text() == wanted:
        return True
    python = find_python(peer.python)
    if python is None:
        version = ".".join(map(str, peer.python))
        print(f"{name} needs Python {version} or newer, and none was found: name one with PEER_PYTHON=...")
        return False
    print(f"Installing {wanted} into {folder}")
    shutil.rmtree(folder, ignore_errors=True)
    pip = [str(folder / "bin" / "python"), "-m", "pip", "--disable-pip-version-check", "--quiet", "install"]
    for command in ([python, "-m", "venv", str(folder)], [*pip, *peer.requirements]):
        if subprocess.run(command).returncode != 0:
            print(f"{name} could not be installed; its tests will be skipped and say so")
            return False
    stamp.write_text(wanted)
    return True


def install_with_npm(name: str, package: str) -> bool:
    """The same for a package of npm. Its scripts do not run: it comes built."""
    folder = HOME / name
    stamp = folder / "installed"
    if stamp.exists() and stamp.read_text() == package:
        return True
    npm = shutil.which("npm")
    if npm is None or shutil.which("node") is None:
        print(f"{name} needs Node.js and npm, and they were not found: apt-get install nodejs npm")
        return False
    print(f"Installing {package} into {folder}")
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    (folder / "package.json").write_text("{}\n")
    command = [npm, "install", "--ignore-scripts", "--no-audit", "--no-fund", "--loglevel=error", package]
    if subprocess.run(command, cwd=folder).returncode != 0:
        print(f"{name} could not be installed; its tests will be skipped and say so")
        return False
    stamp.write_text(package)
    return True


if __name__ == "__main__":
    usable = [install(name, peer) for name, peer in PEERS.items()]
    usable += [install_with_npm(name, package) for name, package in NODE_PEERS.items()]
    sys.exit(not all(usable))
