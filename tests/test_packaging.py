"""The wheel: pure Python, complete, typed, and it works without the repository around it."""

from __future__ import annotations

import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

import quicstack

ROOT = Path(__file__).parents[1]
PACKAGES = ("quicstack", "h3", "webtransport")

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Built from a copy, because a build leaves things behind in its source."""
    folder = tmp_path_factory.mktemp("wheel")
    source = folder / "source"
    for package in PACKAGES:
        shutil.copytree(ROOT / package, source / package, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source / name)
    command = [sys.executable, "-m", "pip", "--disable-pip-version-check", "wheel", "--no-deps", "--no-build-isolation"]
    built = subprocess.run([*command, "--wheel-dir", str(folder), str(source)], capture_output=True, text=True)
    assert built.returncode == 0, built.stdout + built.stderr
    (path,) = folder.glob("*.whl")
    return path


def test_the_wheel_is_pure(wheel: Path) -> None:
    assert wheel.name == f"quicstack-{quicstack.__version__}-py3-none-any.whl"


def test_every_file_is_in_it(wheel: Path) -> None:
    inside = set(zipfile.ZipFile(wheel).namelist())
    expected = {
        str(path.relative_to(ROOT))
        for package in PACKAGES
        for path in (ROOT / package).rglob("*")
        if path.is_file() and path.suffix not in (".pyc",)
    }
    assert expected <= inside, expected - inside
    assert {f"{package}/py.typed" for package in PACKAGES} <= inside
    assert not [name for name in inside if name.startswith(("tests/", "docs/", "benchmarks/"))]


def test_it_imports_on_its_own(wheel: Path, tmp_path: Path) -> None:
    """Every module, from the wheel alone, with nothing but our dependencies."""
    zipfile.ZipFile(wheel).extractall(tmp_path)
    modules = [
        ".".join(path.relative_to(tmp_path).with_suffix("").parts).removesuffix(".__init__")
        for package in PACKAGES
        for path in sorted((tmp_path / package).rglob("*.py"))
        if path.name != "__main__.py"
    ]
    lines = [f"import {module}" for module in modules]
    lines += ["import quicstack", "print(quicstack.__file__)", "import sys"]
    lines += ["print([name for name in sys.modules if name.split('.')[0] in ('aioquic', 'qh3', 'uvloop')])"]
    program = f"import sys; sys.path.insert(0, {str(tmp_path)!r})\n" + "\n".join(lines)
    done = subprocess.run([sys.executable, "-c", program], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    file, foreign = done.stdout.splitlines()
    assert file.startswith(str(tmp_path))
    assert foreign == "[]"
