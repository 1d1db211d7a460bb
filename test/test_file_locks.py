"""Locks of stores, holds, jobs, datasets, journals: what they exclude, on one machine and where a folder is shared."""

from __future__ import annotations

import errno
import fcntl
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from io import FileIO
from pathlib import Path

import pytest

from saferule_ros import file_locks
from saferule_ros.dataset.storage import only_writer
from saferule_ros.file_locks import try_lock
from saferule_ros.patching import lock as patching_lock
from saferule_ros.patching.lock import WorkspaceBusy, lives, patch_lock, sign_of_life
from saferule_ros.policy import holds
from saferule_ros.policy.errors import StoreBusyError, StoreError
from saferule_ros.policy.places import locked
from saferule_ros.recording.journal import Journal, is_being_written
from saferule_ros.workspace import Workspace, WorkspaceError

BUNDLE = "0123456789abcdef"
DEADLINE = 60.0  # ends what hangs [s]

# What the kernel of an NFS server does when a client locks, with flock or otherwise: a POSIX lock over the whole file.
AS_THE_SERVER = """
import fcntl, sys
with open(sys.argv[1], "r+") as file:
    try:
        fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        print("refused", flush=True)
    else:
        print("locked", flush=True)
        sys.stdin.readline()
"""


@contextmanager
def client_of_an_nfs_server(path: Path) -> Iterator[str]:
    """Another process that locks as the server does for a client: "locked" while this is entered, or "refused"."""
    command = [sys.executable, "-P", "-c", AS_THE_SERVER, str(path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        said = process.stdout.readline().strip()
        try:
            yield said
        finally:
            process.communicate("go\n", timeout=DEADLINE)


def said_to_a_client(path: Path) -> str:
    with client_of_an_nfs_server(path) as said:
        return said


def test_what_this_machine_has_locked_is_refused_to_one_that_shares_the_folder(tmp_path: Path) -> None:
    workspace, store_lock = Workspace(tmp_path), tmp_path / "lock"
    with locked(store_lock, 0.0):
        assert said_to_a_client(store_lock) == "refused"
    assert said_to_a_client(store_lock) == "locked"
    hold = holds.take(tmp_path / "held", BUNDLE)
    assert said_to_a_client(hold.path) == "refused"
    hold.release()
    with patch_lock(workspace, "job"):
        assert said_to_a_client(workspace.jobs / ".running") == "refused"
    with sign_of_life(tmp_path):
        assert said_to_a_client(tmp_path / ".alive") == "refused"
    assert said_to_a_client(tmp_path / ".alive") == "locked"


def test_what_one_that_shares_the_folder_has_locked_is_refused_here(tmp_path: Path) -> None:
    workspace, store_lock = Workspace(tmp_path), tmp_path / "lock"
    (tmp_path / "held").mkdir()
    workspace.jobs.mkdir()
    of_a_job, running = tmp_path / "held" / f"{BUNDLE}.1.abc", workspace.jobs / ".running"
    for path in (store_lock, of_a_job, running, tmp_path / ".alive"):
        path.write_text("theirs")
    with (
        client_of_an_nfs_server(store_lock), pytest.raises(StoreBusyError, match="each machine"),
        locked(store_lock, 0.0),
    ):  # fmt: skip
        pass
    with client_of_an_nfs_server(of_a_job):
        assert holds.held(tmp_path / "held") == {BUNDLE}
    assert holds.held(tmp_path / "held") == frozenset()
    with (
        client_of_an_nfs_server(running), pytest.raises(WorkspaceBusy, match="job 'theirs' runs"),
        patch_lock(workspace, "job"),
    ):  # fmt: skip
        pass
    with client_of_an_nfs_server(tmp_path / ".alive"):
        assert lives(tmp_path)
        with pytest.raises(BlockingIOError, match="somebody works on this job"):
            sign_of_life(tmp_path)
    assert not lives(tmp_path)


def test_an_ingest_waits_for_one_on_a_machine_that_shares_the_folder(tmp_path: Path) -> None:
    (tmp_path / ".writer").touch()
    entered = threading.Event()

    def write() -> None:
        with only_writer(tmp_path):
            entered.set()

    thread = threading.Thread(target=write)
    with client_of_an_nfs_server(tmp_path / ".writer") as said:
        assert said == "locked"
        thread.start()
        assert not entered.wait(0.2)
    assert entered.wait(DEADLINE)
    thread.join(DEADLINE)
    with only_writer(tmp_path):
        assert said_to_a_client(tmp_path / ".writer") == "refused"


def test_a_journal_is_no_leftover_for_a_machine_that_shares_the_folder(tmp_path: Path) -> None:
    journal = Journal(tmp_path, [])
    journal.begin(["episode"])
    (path,) = tmp_path.glob("*.mcap")
    assert said_to_a_client(path) == "refused" and is_being_written(path)
    journal.close()  # as a kill does, it leaves the file of an episode that was not sealed
    assert not is_being_written(path)
    with client_of_an_nfs_server(path):
        assert is_being_written(path), "its recorder is on the other machine"


def test_two_threads_exclude_each_other(tmp_path: Path) -> None:
    path, most, inside = tmp_path / "lock", 0, 0
    barrier = threading.Barrier(4)

    def work() -> None:
        nonlocal most, inside
        barrier.wait()
        for _ in range(50):
            with locked(path, DEADLINE):
                inside += 1
                most = max(most, inside)
                os.sched_yield()  # a chance for the others to be here, too
                inside -= 1

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(DEADLINE)
    assert most == 1
    with locked(path, 0.0), pytest.raises(StoreBusyError), locked(path, 0.0):
        pass
    with locked(path, 0.0):
        pass


def test_closing_another_descriptor_of_the_file_frees_nothing(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    with locked(path, 0.0):
        path.read_bytes()  # opens and closes it: that alone would free a POSIX lock of this process
        assert said_to_a_client(path) == "refused"


def test_shared_locks_go_together_and_exclude_an_exclusive_one(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.touch()
    with ExitStack() as stack:
        first, second = (stack.enter_context(path.open("rb")).fileno() for _ in range(2))
        writer = stack.enter_context(path.open("r+b"))
        assert try_lock(first, shared=True) and try_lock(second, shared=True)
        assert not try_lock(writer.fileno())


def test_a_sign_of_life_lasts_until_the_last_process_that_inherited_it_ends(tmp_path: Path) -> None:
    with sign_of_life(tmp_path) as alive:
        child = subprocess.Popen(
            [sys.executable, "-c", "input()"], stdin=subprocess.PIPE, pass_fds=(alive.fileno(),)
        )  # fmt: skip
    assert lives(tmp_path), "closed here, and open in the child"
    child.communicate(b"end\n", timeout=DEADLINE)
    assert not lives(tmp_path)


def use_store(folder: Path) -> None:
    with locked(folder / "lock", 0.0):
        pass


def use_patch_lock(folder: Path) -> None:
    with patch_lock(Workspace(folder), "job"):
        pass


def read_hold(folder: Path) -> None:
    (folder / "held").mkdir()
    (folder / "held" / f"{BUNDLE}.1.abc").touch()
    holds.held(folder / "held")


@pytest.mark.parametrize(
    ("use", "kind"),
    [
        (use_store, StoreError), (use_patch_lock, WorkspaceError), (read_hold, StoreError),
        (lambda folder: holds.take(folder / "held", BUNDLE), StoreError), (sign_of_life, OSError),
    ],
)  # fmt: skip
def test_where_files_cannot_be_locked_at_all_that_is_said_and_no_file_stays_open(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, use: Callable[[Path], object], kind: type[Exception]
) -> None:
    opened: list[int] = []

    def no_locks(handle: int, *, shared: bool = False) -> bool:
        opened.append(handle)
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    for module in (file_locks, holds, patching_lock):
        monkeypatch.setattr(module, "try_lock", no_locks)
    with pytest.raises(kind) as caught:
        use(tmp_path)
    assert isinstance(caught.value, OSError) or "`nolock`" in str(caught.value)
    assert "No locks available" in str(caught.value)
    for handle in opened:
        with pytest.raises(OSError, match="Bad file descriptor"):
            fcntl.fcntl(handle, fcntl.F_GETFD)
    assert opened and not list(tmp_path.glob(f"held/{BUNDLE}.{os.getpid()}.*"))


def test_a_descriptor_that_cannot_be_locked_so_is_an_error_and_no_refusal(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with FileIO(tmp_path / "file", "r") as file, pytest.raises(OSError, match="Bad file descriptor"):
        try_lock(file.fileno())
