"""Locks on files that exclude threads, processes, and machines that share a folder over NFS.

Open file description locks (fcntl(2)) over the whole file. Like those of flock they belong to what open() made: they
are freed when the last descriptor of that is closed, one that a child process inherited included, and so at the
latest when the kernel ends the processes. Unlike those of flock they exclude POSIX record locks, which is what an NFS
server makes of its clients' locks: with flock, the machine that exports a folder and the one that mounts it would both
hold the same lock. Locks of flock and these do not see each other.
"""

import errno
import fcntl
import struct

from saferule_ros.errors import SaferuleError

# struct flock: type, whence, start, length, process id. From 0 (SEEK_SET), length 0: the whole file, however long it
# gets. The process id has to be 0 for a lock of an open file description. "0q": padded as the compiler does.
_FLOCK = struct.Struct("hhqqi0q")
_HELD_BY_ANOTHER = (errno.EAGAIN, errno.EACCES)  # which of them is the file system's choice

# What to do where a file cannot be locked by anybody, for those who turn that into an error of their own.
WHERE_LOCKS_WORK = "Put the folder where files can be locked; over NFS, mount it without `nolock`"


def wait_for_lock(handle: int) -> None:
    """Locks a file exclusively, and waits until nobody else holds a lock of it.

    Args:
        handle: descriptor of the file, open for writing.

    Raises:
        OSError: the file cannot be locked by anybody, such as on a mount without locking.
    """
    fcntl.fcntl(handle, fcntl.F_OFD_SETLKW, _of_whole_file(fcntl.F_WRLCK))


def try_lock(handle: int, shared: bool = False) -> bool:
    """Locks a file, or says at once that it cannot: False where somebody else holds a lock that excludes this one.

    Args:
        handle: descriptor of the file, open for writing; for a shared lock, for reading.
        shared: others may hold shared locks beside this one.

    Raises:
        OSError: the file cannot be locked by anybody, such as on a mount without locking.
    """
    kind = fcntl.F_RDLCK if shared else fcntl.F_WRLCK
    try:
        fcntl.fcntl(handle, fcntl.F_OFD_SETLK, _of_whole_file(kind))
    except OSError as error:
        if error.errno in _HELD_BY_ANOTHER:
            return False
        raise
    return True


def try_lock_of(handle: int, name: str, error: type[SaferuleError]) -> bool:
    """try_lock(), exclusively, for those who say it in words of their own where nobody can lock the file.

    Args:
        handle: see try_lock.
        name: of the file, for people.
        error: what is raised in place of OSError, with what to do.
    """
    try:
        return try_lock(handle)
    except OSError as cause:
        raise error(f"{name} cannot be locked: {cause.strerror}", WHERE_LOCKS_WORK) from cause


def _of_whole_file(kind: int) -> bytes:
    return _FLOCK.pack(kind, 0, 0, 0, 0)
