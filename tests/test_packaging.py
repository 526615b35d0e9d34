"""What `pip install` gives: the same requirements in both files, and a wheel that works without a checkout."""

import json
import os
import re
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest

from spic.coding.counting import KINDS
from spic.errors import SpicError
from spic.points import ROOT, check_root, load_points

HOME = Path(__file__).parents[1]
PROJECT = tomllib.loads((HOME / "pyproject.toml").read_text())
REQUIRED = [line for line in (HOME / "requirement.txt").read_text().splitlines() if line and not line.startswith("#")]
MAX_WHEEL_BYTES = 25_000_000
EMBEDDED = "scenes"


def test_requirement_file_and_pyproject_ask_for_the_same():
    package = PROJECT["project"]["dependencies"]
    assert REQUIRED[:len(package)] == package
    rest = REQUIRED[len(package):]
    assert {re.split(r"[>=]", line)[0] for line in rest} == {"pytest", "pytest-xdist", "hypothesis", "import-linter", "hatchling", "-e ."}
    assert set(PROJECT["build-system"]["requires"]) <= set(rest), "tests build with the hatchling that pip would take"


def test_makefile_refuses_the_pythons_that_pyproject_refuses():
    oldest = PROJECT["project"]["requires-python"].removeprefix(">=")
    assert f"({oldest.replace('.', ', ')})" in (HOME / "Makefile").read_text()


@pytest.mark.skipif("SPIC_ROOT" in os.environ, reason="SPIC_ROOT names another root; unset it")
def test_in_a_checkout_the_points_are_the_checkouts():
    assert ROOT == HOME


def test_a_root_that_cannot_be_written_says_what_to_do(tmp_path, monkeypatch):
    check_root(tmp_path)
    monkeypatch.setattr(os, "access", lambda path, mode: mode != os.W_OK)  # tests may run as root, who may write anywhere
    with pytest.raises(SpicError, match=f"{tmp_path}.*SPIC_ROOT=DIR") as error:
        check_root(tmp_path)
    assert "\n" not in str(error.value)


@pytest.fixture(scope="module")
def wheel(tmp_path_factory) -> Path:
    """The wheel that `pip install .` makes, built offline."""
    pytest.importorskip("hatchling", reason="needs hatchling: pip install -r requirement.txt")
    folder = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation", "--no-index",
               "--disable-pip-version-check", "--wheel-dir", str(folder), str(HOME)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    (path,) = folder.glob("*.whl")
    return path


@pytest.fixture(scope="module")
def inside(wheel) -> set[str]:
    return set(zipfile.ZipFile(wheel).namelist())


def test_wheel_is_small_and_has_a_name_of_its_own(wheel):
    assert wheel.name.startswith("spic_split-")
    assert wheel.stat().st_size <= MAX_WHEEL_BYTES


def test_wheel_has_all_code_and_all_data_of_the_package(inside):
    wanted = {str(path.relative_to(HOME)) for ending in ("py", "txt", "json", "yaml", "html") for path in
              (HOME / "spic").rglob(f"*.{ending}") if not path.is_relative_to(HOME / "spic" / "root")}
    assert wanted and not wanted - inside


def test_wheel_has_weights_and_tables_of_every_embedded_point_and_no_others(inside):
    points = [point for key, point in load_points(HOME / "dict.yaml").items() if key[1] == EMBEDDED]
    files = {file for point in points for kind in KINDS for file in (point.weights, point.with_tables(kind).table)}
    assert files and not {f"spic/root/{file.relative_to(HOME)}" for file in files} - inside
    folders = {name.split("/")[3] for name in inside if re.match("spic/root/(Weights|Freq_tab)/", name)}
    assert folders == {EMBEDDED}
    assert not [name for name in inside if "/rivals/" in name and name.startswith("spic/root/")]


LOOK = """
import json, sys
from spic import points
from spic.benchmarks import find
from spic.files import verify_file
shipped = [point for key, point in points.load_points().items() if key[1] == "scenes"]
for point in shipped:
    for kind in ("shared", "channel", "position"):
        verify_file(point.with_tables(kind).table, "scenes", "", points.ROOT)
    verify_file(point.weights, "scenes", "", points.ROOT)
for task in ("classification", "segmentation"):
    find(task, "scenes").build_network()
print(json.dumps([points.__file__, str(points.ROOT), len(shipped)]))
"""


def test_unpacked_wheel_finds_its_own_points_and_checks_them(wheel, tmp_path):
    site, elsewhere = tmp_path / "site", tmp_path / "elsewhere"
    zipfile.ZipFile(wheel).extractall(site)
    elsewhere.mkdir()
    environment = {name: value for name, value in os.environ.items() if name != "SPIC_ROOT"} | {"PYTHONPATH": str(site)}
    done = subprocess.run([sys.executable, "-c", LOOK], cwd=elsewhere, env=environment, capture_output=True, text=True,
                          timeout=300)
    assert done.returncode == 0, done.stderr
    file, root, count = json.loads(done.stdout)
    assert Path(file).is_relative_to(site) and Path(root) == site / "spic" / "root"
    assert count == sum(key[1] == EMBEDDED for key in load_points(HOME / "dict.yaml"))


def test_console_script_is_the_command(wheel):
    with zipfile.ZipFile(wheel) as archive:
        (name,) = [name for name in archive.namelist() if name.endswith("entry_points.txt")]
        assert "spic = spic.cli:main" in archive.read(name).decode()
