"""What is installed is what is in the repository, and nothing lands outside the `netgain` namespace."""

import shutil
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
TOP = ("layers", "solvers", "verify", "experiments")
LEFT_OUT = shutil.ignore_patterns("__pycache__", "*.egg-info", "build")


@pytest.fixture(scope="module")
def project() -> dict:
    return tomllib.loads((ROOT / "pyproject.toml").read_text())


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """The names in a wheel built from a copy, so that the build leaves nothing in the repository."""
    folder = tmp_path_factory.mktemp("wheel")
    source = folder / "source"
    for name in TOP:
        shutil.copytree(ROOT / name, source / name, ignore=LEFT_OUT)
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source / name)
    options = ["--quiet", "--no-deps", "--no-build-isolation", "--wheel-dir", folder]
    subprocess.run([sys.executable, "-m", "pip", "wheel", *options, source], check=True, capture_output=True)
    with zipfile.ZipFile(next(folder.glob("netgain-*.whl"))) as archive:
        return archive.namelist()


def test_every_folder_of_code_is_a_package(project: dict) -> None:
    folders = {path.parent for name in TOP for path in (ROOT / name).rglob("*.py")}
    expected = {"netgain." + ".".join(folder.relative_to(ROOT).parts) for folder in folders}
    assert set(project["tool"]["setuptools"]["packages"]) == expected


def test_the_wheel_holds_code_types_and_models(wheel: list[str]) -> None:
    expected = {f"netgain/{path.relative_to(ROOT).as_posix()}" for name in TOP for path in (ROOT / name).rglob("*.py")}
    expected |= {f"netgain/{name}/py.typed" for name in TOP}
    expected |= {f"netgain/verify/report/{name}" for name in ("page.html", "style.css")}
    expected |= {f"netgain/{path.relative_to(ROOT).as_posix()}" for path in (ROOT / "experiments" / "models").iterdir()}
    assert expected <= set(wheel)


def test_the_wheel_holds_nothing_beside_the_namespace(wheel: list[str]) -> None:
    assert {name.split("/")[0].split("-")[0] for name in wheel} == {"netgain"}
    assert "netgain/__init__.py" not in wheel
    assert not any("test" in name for name in wheel)


@pytest.mark.parametrize("name", ["layers", "solvers", "verify", "experiments"])
def test_short_names_are_not_importable(name: str, tmp_path: Path) -> None:
    script = f"import importlib.util, sys; sys.exit(importlib.util.find_spec({name!r}) is not None)"
    assert subprocess.run([sys.executable, "-c", script], cwd=tmp_path, check=False).returncode == 0


def test_dependencies_are_bounded_below_and_none_is_copyleft(project: dict) -> None:
    needed = project["project"]["dependencies"]
    assert all(">=" in requirement for requirement in needed)
    assert not any(name in requirement for requirement in needed for name in ("torch", "sdpa", "cvxopt", "mosek"))
    assert not any("torch" in requirement for requirement in project["project"]["optional-dependencies"]["test"])
