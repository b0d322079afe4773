"""What holds for the code as a whole: who imports what, what is public, how large a file gets."""

import ast
import graphlib
import json
import subprocess
import sys
from collections.abc import Iterator, Set
from pathlib import Path

import pytest

import sessiond
import sessiond_client
import sessiond_client.gateway
import sessiond_protocol

PACKAGES = {
    each.__name__: Path(each.__file__ or "").parent
    for each in (sessiond_protocol, sessiond_client, sessiond)
}
LIBRARIES = ("sessiond_protocol", "sessiond_client")
MAX_LINES = 400

# One call after the other, each with its text: what makes these long is what they describe.
LISTS_OF_CALLS = {"_async.py", "_requests.py", "_sync.py"}


def files(package: str) -> list[Path]:
    """The package's modules."""
    return sorted(PACKAGES[package].rglob("*.py"))


# --- imports -----------------------------------------------------------------------------------


def loaded_by(statement: str) -> set[str]:
    """The top-level names that a fresh interpreter has loaded after a statement."""
    program = (
        "import sys; before = set(sys.modules)\n"
        f"{statement}\n"
        "import json; print(json.dumps(sorted(set(sys.modules) - before)))"
    )
    done = subprocess.run(
        [sys.executable, "-I", "-c", program], capture_output=True, check=True, timeout=60
    )
    names: list[str] = json.loads(done.stdout)
    return {each.partition(".")[0] for each in names}


@pytest.fixture(scope="module")
def of_the_client() -> set[str]:
    return loaded_by("import sessiond_client")


def test_the_client_needs_two_libraries_and_the_standard_one(of_the_client: set[str]) -> None:
    foreign = {each for each in of_the_client if each not in sys.stdlib_module_names}
    # The two libraries bring these along, where they are installed.
    foreign -= {"cython_runtime", "typing_extensions"}
    assert {each for each in foreign if not each.startswith("_")} == {
        "msgpack",
        "msgspec",
        "sessiond_client",
        "sessiond_protocol",
    }


@pytest.mark.parametrize(
    "heavy",
    ["apsw", "asyncio", "click", "prometheus_client", "rich", "sessiond", "uvloop"],
)
def test_a_blocking_program_does_not_pay_for(of_the_client: set[str], heavy: str) -> None:
    assert heavy not in of_the_client


def test_the_asynchronous_client_does_not_pay_for_the_daemons_libraries() -> None:
    found = loaded_by("from sessiond_client import AsyncSessionDB")
    assert "asyncio" in found
    assert not found & {"apsw", "click", "prometheus_client", "rich", "sessiond", "uvloop"}


def test_the_protocol_knows_no_socket_thread_clock_or_database() -> None:
    modules = ["sessiond_protocol", "sessiond_protocol.requests", "sessiond_protocol.queries"]
    modules += ["sessiond_protocol.channel", "sessiond_protocol.search.messages"]
    imported = set()
    for path in files("sessiond_protocol"):
        imported |= set(imports_of(path))
    assert not imported & {
        "apsw", "asyncio", "select", "selectors", "sessiond", "sessiond_client", "socket",
        "sqlite3", "subprocess", "threading", "time", "uvloop",
    }  # fmt: skip
    assert not loaded_by("; ".join(f"import {each}" for each in modules)) & {
        "sqlite3", "socket", "asyncio",
    }  # fmt: skip


def imports_of(path: Path) -> Iterator[str]:
    """The top-level names that a module imports, wherever in it."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name.partition(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path} imports relatively"
            yield (node.module or "").partition(".")[0]


@pytest.mark.parametrize(
    ("package", "other"), [("sessiond_client", "sessiond"), ("sessiond", "sessiond_client")]
)
def test_the_client_and_the_daemon_meet_only_in_the_protocol(package: str, other: str) -> None:
    for path in files(package):
        assert other not in set(imports_of(path)), path


# --- what is public ----------------------------------------------------------------------------


@pytest.mark.parametrize("package", PACKAGES)
def test_no_import_runs_in_a_circle(package: str) -> None:
    modules = {module_name(package, path): path for path in files(package)}
    graph = {name: imported(path, modules.keys()) for name, path in modules.items()}
    graphlib.TopologicalSorter(graph).prepare()  # raises CycleError, which names the circle


def module_name(package: str, path: Path) -> str:
    """A file's name as an import names it."""
    parts = [package, *path.relative_to(PACKAGES[package]).with_suffix("").parts]
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def imported(path: Path, modules: Set[str]) -> set[str]:
    """Which of these modules a file imports anywhere, for its types alone, too."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            inner = {f"{node.module}.{alias.name}" for alias in node.names} & modules
            names |= inner or {node.module}
    return names & modules


def test_every_public_name_is_there_and_described() -> None:
    for each in (sessiond_client, sessiond_client.gateway):
        for public in each.__all__:
            found = getattr(each, public)
            if callable(found):
                assert found.__doc__, f"{each.__name__}.{public}"


def test_the_protocol_is_used_by_module() -> None:
    assert not hasattr(sessiond_protocol, "__all__")
    assert [each for each in vars(sessiond_protocol) if isinstance(each, type)] == []


# --- files -------------------------------------------------------------------------------------


@pytest.mark.parametrize("package", PACKAGES)
def test_no_file_is_too_long(package: str) -> None:
    long = {
        str(path.relative_to(PACKAGES[package])): lines
        for path in files(package)
        if (lines := len(path.read_text().splitlines())) >= MAX_LINES
        and path.name not in LISTS_OF_CALLS
    }
    assert long == {}


@pytest.mark.parametrize("package", PACKAGES)
def test_every_module_says_what_it_is_for(package: str) -> None:
    for path in files(package):
        tree = ast.parse(path.read_text())
        assert not tree.body or ast.get_docstring(tree), path


@pytest.mark.parametrize("package", LIBRARIES)
def test_everything_public_in_the_libraries_is_described(package: str) -> None:
    missing = []
    for path in files(package):
        if path.name.startswith("_") and path.name != "__init__.py":
            continue
        for node in ast.parse(path.read_text()).body:
            if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
                continue
            if not node.name.startswith("_") and not ast.get_docstring(node):
                missing.append(f"{path.relative_to(PACKAGES[package])}: {node.name}")
    assert missing == []


@pytest.mark.parametrize("client", [sessiond_client.SessionDB, sessiond_client.AsyncSessionDB])
def test_every_call_is_described(client: type) -> None:
    calls = [each for each in dir(client) if not each.startswith("_")]
    assert len(calls) >= 40
    assert [each for each in calls if not getattr(client, each).__doc__] == []


def test_typed_packages_say_so() -> None:
    for package, folder in PACKAGES.items():
        assert (folder / "py.typed").is_file(), package
