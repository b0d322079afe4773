"""What is distributed: the three packages, the commands, and nothing else."""

import subprocess
import sys
import sysconfig
import venv
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGES = {"sessiond", "sessiond_client", "sessiond_protocol"}


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A wheel built from the checkout, with the build tools that are installed."""
    folder = tmp_path_factory.mktemp("wheel")
    subprocess.run(
        [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(folder),
         str(ROOT)],
        check=True,
        capture_output=True,
    )  # fmt: skip
    (built,) = folder.glob("sessiond-*.whl")
    return built


def test_it_holds_the_three_packages_and_nothing_else(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
    tops = {name.split("/")[0] for name in names}
    assert {top for top in tops if not top.endswith(".dist-info")} == PACKAGES
    for package in PACKAGES:
        assert f"{package}/py.typed" in names
    (license_file,) = [name for name in names if name.endswith("LICENSE")]
    assert ".dist-info/" in license_file


def test_every_module_of_the_checkout_is_in_it(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        held = set(archive.namelist())
    for folder in ("protocol", "client", "daemon"):
        for path in (ROOT / folder).glob("sessiond*/**/*.py"):
            assert path.relative_to(ROOT / folder).as_posix() in held


def test_the_units_are_in_it(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        for path in (ROOT / "systemd").rglob("*"):
            if path.is_file():
                name = path.relative_to(ROOT / "systemd").as_posix()
                assert archive.read(f"sessiond_client/systemd/{name}") == path.read_bytes()


def test_its_commands_work_once_it_is_installed(wheel: Path, tmp_path: Path) -> None:
    home = tmp_path / "env"
    venv.create(home, symlinks=True)
    installer = [sys.executable, "-m", "pip", "--python", str(home / "bin" / "python")]
    subprocess.run(
        [*installer, "install", "--quiet", "--no-index", "--no-deps", str(wheel)],
        check=True,
        capture_output=True,
    )
    # The dependencies are those of the environment that runs the tests.
    (installed,) = home.glob("lib/python*/site-packages")
    (installed / "dependencies.pth").write_text(sysconfig.get_path("purelib"))
    for command, word in (("sessiond", "serve"), ("sessionctl", "status")):
        program = home / "bin" / command
        done = subprocess.run(
            [str(program), "--help"], capture_output=True, text=True, check=True, timeout=30
        )
        assert word in done.stdout
        assert (installed / "sessiond_client").is_dir()
    done = subprocess.run(
        [str(home / "bin" / "sessionctl"), "install", "--user", "--root", str(tmp_path / "root")],
        capture_output=True, text=True, check=True, timeout=30,
    )  # fmt: skip
    (service,) = (tmp_path / "root").rglob("sessiond.service")
    assert f"ExecStart={home}/bin/sessiond serve\n" in service.read_text()
