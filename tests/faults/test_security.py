"""Strangers: who may connect, where the socket may lie, and bytes that mean harm."""

import os
import random
import stat
import struct
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgpack
import pytest

from sessiond_client import SessionDB
from sessiond_protocol import wire
from tests.support.faults import Faults, FaultyDaemon
from tests.support.raw import Raw

NOBODY = 65_533  # neither root, nor ours, nor the overflow uid
MEBIBYTE = 1 << 20
MOST_MEMORY = 256 * MEBIBYTE  # a few of the largest requests, and what a daemon takes at rest

# A program of another user. What it may import must not lie in a directory that it cannot enter.
_CONNECT = """
import os, socket, sys
uid = int(sys.argv[2])
if uid != os.geteuid():
    os.setgroups([])
    os.setresgid(uid, uid, uid)
    os.setresuid(uid, uid, uid)
made = socket.socket(socket.AF_UNIX)
made.settimeout(5)
try:
    made.connect(sys.argv[1])
    try:
        made.sendall(b"\\x94\\x00\\x01\\xacserver.stats\\x90")
    except BrokenPipeError:
        pass  # it was refused already, and told why
    print(made.recv(65536).hex())
except OSError as error:
    print(type(error).__name__)
"""


def connect_as(uid: int, path: Path) -> str:
    """What a user gets who asks for the statistics: hexadecimal, or the name of an error."""
    if os.geteuid() != 0:
        pytest.skip("only root may act as another user")
    done = subprocess.run(
        [sys.executable, "-c", _CONNECT, str(path), str(uid)],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert done.stderr == ""
    return done.stdout.strip()


@pytest.fixture
def open_folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder that everybody may enter."""
    folder = tmp_path_factory.mktemp("open")
    before = [(path, path.stat().st_mode) for path in (folder, *folder.parents)]
    try:
        for path, mode in before:
            if path.stat().st_uid == os.geteuid() and not mode & stat.S_IXOTH:
                path.chmod(stat.S_IMODE(mode) | 0o011)
        yield folder
    finally:
        for path, mode in before:
            if path.stat().st_mode != mode:
                path.chmod(stat.S_IMODE(mode))


# --- other users ---------------------------------------------------------------------------


def test_another_user_cannot_even_open_the_socket(open_folder: Path) -> None:
    daemon = FaultyDaemon(open_folder)
    daemon.start()
    try:
        assert connect_as(NOBODY, daemon.socket) == "PermissionError"
        assert connect_as(0, daemon.socket) != ""
    finally:
        daemon.kill()


def test_another_user_who_reaches_the_socket_is_told_no(open_folder: Path) -> None:
    """A mode that an administrator loosened is not what decides."""
    daemon = FaultyDaemon(open_folder)
    daemon.start()
    try:
        daemon.socket.chmod(0o666)
        refused = msgpack.unpackb(bytes.fromhex(connect_as(NOBODY, daemon.socket)))
        assert refused[2][0] == "unauthorized"
        assert f"uid {NOBODY} is not allowed" in refused[2][1]
        with SessionDB(**daemon.arguments) as db:
            assert db.get_stats()["refused"] == 1
    finally:
        daemon.kill()


def test_a_user_that_is_named_is_let_in(open_folder: Path) -> None:
    daemon = FaultyDaemon(open_folder, options=("--allow-uids", str(NOBODY)))
    daemon.start()
    try:
        daemon.socket.chmod(0o666)
        # One read may bring a part of the statistics only: its head says that it is no error.
        assert bytes.fromhex(connect_as(NOBODY, daemon.socket)).startswith(b"\x94\x01\x01\xc0")
    finally:
        daemon.kill()


# --- the socket's directory ----------------------------------------------------------------


def _loose(folder: Path) -> None:
    folder.mkdir()
    folder.chmod(0o777)


def _foreign(folder: Path) -> None:
    if os.geteuid() != 0:
        pytest.skip("only root may give a directory away")
    folder.mkdir(mode=0o700)
    os.chown(folder, NOBODY, NOBODY)


def _link(folder: Path) -> None:
    target = folder.with_name("target")
    target.mkdir(mode=0o700)
    folder.symlink_to(target)


@pytest.mark.parametrize("make", [_loose, _foreign, _link])
def test_a_hostile_directory_for_the_socket_is_refused(
    tmp_path: Path, make: Callable[[Path], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where the socket usually lies, with a directory that somebody else has prepared."""
    program = f"""
import sys
from sessiond_protocol import paths
paths.usual_socket = lambda database, uid: {str(tmp_path / "place/state.sock")!r}
from sessiond.cli import main
main(["serve", "--database", {str(tmp_path / "state.db")!r}])
"""
    make(tmp_path / "place")
    monkeypatch.delenv("SESSIOND_SOCKET", raising=False)
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=10, check=False
    )
    assert done.returncode == 73
    assert "cannot listen" in done.stderr
    assert str(tmp_path / "place") in done.stderr
    assert not list((tmp_path / "place").iterdir())


# --- bytes ---------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def attacked(tmp_path_factory: pytest.TempPathFactory) -> Iterator[FaultyDaemon]:
    """A daemon that must be as healthy after every attack as before."""
    made = FaultyDaemon(tmp_path_factory.mktemp("attacked"), options=("--frame-stall", "1s"))
    made.start_with(Faults(look_seconds=0.05))
    with SessionDB(**made.arguments) as db:
        db.create_session("s", "test")
    try:
        yield made
    finally:
        made.stop()


def resident(daemon: FaultyDaemon) -> int:
    """Bytes of memory that a daemon takes now."""
    pages = int(Path(f"/proc/{daemon.pid}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


@pytest.fixture
def healthy(attacked: FaultyDaemon) -> Iterator[FaultyDaemon]:
    """Around every attack: same process, small, quick to answer, no connection left."""
    pid = attacked.pid
    yield attacked
    assert attacked.alive, attacked.log
    assert attacked.pid == pid
    assert resident(attacked) < MOST_MEMORY
    with SessionDB(**attacked.arguments, timeout=5) as db:
        assert db.append_message("s", "user", "still here") > 0
    with Raw(attacked.socket) as raw:
        while raw.ask("server.stats")["connections"] > 1:
            pass


def attack(daemon: FaultyDaemon, data: bytes) -> None:
    """Send bytes as far as the daemon takes them, then wait for its close."""
    with Raw(daemon.socket) as raw:
        try:
            raw.socket.sendall(data)
            raw.socket.shutdown(1)
        except OSError:
            pass
        try:
            while raw.socket.recv(65_536):
                pass
        except OSError:
            pass


def _random_value(chance: random.Random, depth: int = 0) -> Any:
    """Anything that MessagePack can say."""
    kinds: list[Callable[[], Any]] = [
        lambda: chance.choice((None, True, False, 0, -1, 2**63 - 1, -(2**63), 2**64 - 1, 1.5)),
        lambda: float(chance.choice(("nan", "inf", "-inf"))),
        lambda: "".join(chance.choices("aé漢\0🙂%_'\"", k=chance.randrange(20))),
        lambda: chance.randbytes(chance.randrange(30)),
        lambda: msgpack.ExtType(chance.randrange(128), chance.randbytes(chance.randrange(9))),
        lambda: msgpack.Timestamp(chance.randrange(2**33)),
    ]
    if depth < 4:
        kinds += [
            lambda: [_random_value(chance, depth + 1) for _ in range(chance.randrange(6))],
            lambda: {
                chance.choice(_NAMES): _random_value(chance, depth + 1)
                for _ in range(chance.randrange(6))
            },
        ]
    return chance.choice(kinds)()


_NAMES = (
    "session_id", "message", "messages", "role", "content", "timestamp", "items", "method",
    "arguments", "limit", "offset", "query", "client_id", "protocol", "seq", "floor", "after",
    "ttl", "id", "", "x",
)  # fmt: skip
_METHODS = (
    "message.append", "message.append_many", "message.replace", "session.create", "session.get",
    "search.messages", "batch.apply", "server.hello", "server.stats", "request.status",
    "feed.subscribe", "tokens.update", "no.such.method", "", "x" * 300,
)  # fmt: skip


@pytest.mark.parametrize("seed", range(3))
def test_well_formed_nonsense(healthy: FaultyDaemon, seed: int) -> None:
    """Requests whose arguments are anything at all: each gets its one answer."""
    chance = random.Random(seed)
    with Raw(healthy.socket) as raw:
        count = 400
        for msgid in range(count):
            params = [_random_value(chance) for _ in range(chance.randrange(4))]
            if chance.random() < 0.7:
                names = chance.sample(_NAMES, chance.randrange(5))
                params[:1] = [{name: _random_value(chance) for name in names}]
            frame = msgpack.packb([0, msgid, chance.choice(_METHODS), params])
            raw.socket.sendall(frame)
        seen = [raw.answer() for _ in range(count)]
    assert sorted(each.msgid for each in seen if each is not None) == list(range(count))
    codes = {each.error[0] for each in seen if each is not None and each.error is not None}
    assert "internal" not in codes
    assert "database" not in codes


@pytest.mark.parametrize("seed", range(2))
def test_arbitrary_bytes(healthy: FaultyDaemon, seed: int) -> None:
    chance = random.Random(seed)
    for _ in range(40):
        attack(healthy, chance.randbytes(chance.choice((1, 10, 1000, 30_000))))


def test_frames_that_are_damaged_at_every_place(healthy: FaultyDaemon) -> None:
    """One good request, with each byte changed or the end missing."""
    frame = wire.request(
        7, "message.append",
        wire.pack({"session_id": "s", "message": {"role": "u", "timestamp": 1.0}}),
        wire.Place(seq=1, floor=1, ttl=1.0),
    )  # fmt: skip
    chance = random.Random(1)
    for place in range(0, len(frame), 2):
        damaged = bytearray(frame)
        damaged[place] = chance.randrange(256)
        attack(healthy, bytes(damaged))
        attack(healthy, frame[:place])


def test_a_tower_of_arrays(healthy: FaultyDaemon) -> None:
    for head in (b"\x91", b"\xdd\x00\x00\x00\x01", b"\x81\xa1x"):
        attack(healthy, head * 200_000)
        attack(healthy, b"\x94\x00\x01\xa1x" + head * 200_000)


def test_declared_lengths_of_gigabytes(healthy: FaultyDaemon) -> None:
    for head in (b"\xdd", b"\xdf", b"\xdb", b"\xc6", b"\xc9"):
        for around in (b"", b"\x94\x00\x01\xa1x", b"\x94\x00\x01\xacserver.stats\x91\x81\xa1x"):
            attack(healthy, around + head + struct.pack(">I", 2**32 - 1) + b"\xc0" * 100)


@pytest.mark.parametrize("name", ["message.append_many", "session.get", "batch.apply", "x"])
def test_a_frame_that_would_decode_to_gigabytes(healthy: FaultyDaemon, name: str) -> None:
    """Sixteen mebibytes of empty arrays, or of empty maps, where texts are expected."""
    count = 15 * MEBIBYTE
    for head, item in ((b"\xdd", b"\x90"), (b"\xdd", b"\x80"), (b"\xdd", b"\xc0")):
        value = head + struct.pack(">I", count) + item * count
        arguments = b"\x82" + wire.pack("session_id") + wire.pack("s")
        arguments += wire.pack("items" if name == "batch.apply" else "messages") + value
        frame = b"\x94\x00\x01" + wire.pack(name) + b"\x91" + arguments
        with Raw(healthy.socket) as raw:
            raw.socket.sendall(frame)
            answer = raw.answer()
            assert answer is not None
            assert answer.error is not None
            assert answer.error[0] in ("invalid_params", "unknown_method")
        assert resident(healthy) < MOST_MEMORY


def test_peers_that_send_drop_by_drop_are_cut_off(healthy: FaultyDaemon) -> None:
    """Half a message must grow; many who keep theirs open do not keep others out."""
    head = wire.request(1, "session.get", wire.pack({"session_id": "s"}), None)[:9]
    slow = [Raw(healthy.socket) for _ in range(50)]
    try:
        for raw in slow:
            raw.socket.sendall(head)
        with Raw(healthy.socket) as raw:
            assert raw.ask("session.get", session_id="s")["id"] == "s"
        for raw in slow:
            answers = raw.answers()
            assert [each.error[0] for each in answers if each.error] == ["invalid_params"]
    finally:
        for raw in slow:
            raw.socket.close()
