"""Locks that the system releases when their holder ends, and who holds them."""

import errno
import json
import os
import platform
import shlex
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import datetime
from pathlib import Path

from ..errors import ConfigError

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None

WITHOUT_LOCKS = (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP, errno.EINVAL)  # a file system
_held: set[int] = set()  # open files that a forked process, as a loading worker, must close


def try_lock(path: str | Path) -> int | None:
    """Lock a file: the open file, for `pass_fds`; None if another process has locked it.

    The file names the process, see `describe_holder`. The lock ends when the open file is closed
    here and in all programs that inherited it. It reaches other machines where the file system's
    `flock` does, as on NFS; without `flock` the note of a living process in the file counts.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
    try:
        if not _lock(handle, path):
            os.close(handle)
            return None
        gone = os.fstat(handle).st_nlink == 0
    except OSError:
        os.close(handle)
        raise
    if gone:  # its holder removed it before it was locked here
        os.close(handle)
        return try_lock(path)
    command = shlex.join([Path(sys.executable).name, *sys.argv])[:200]
    since = datetime.now().astimezone().isoformat(" ", "seconds")
    note = dict(host=platform.node(), pid=os.getpid(), since=since, command=command)
    with suppress(OSError):  # a full disk
        os.ftruncate(handle, 0)
        os.pwrite(handle, json.dumps(note).encode(), 0)
    return handle


def _lock(handle: int, path: Path) -> bool:
    with suppress(BlockingIOError):
        try:
            if fcntl is not None:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                return True
        except OSError as error:
            if error.errno not in WITHOUT_LOCKS:
                raise
        note = _read_note(path)
        return not note or (note.get("host") == platform.node() and not _lives(note["pid"]))
    return False


def _read_note(path: Path) -> dict:
    """The content of a lock file; {} if nobody is named in it."""
    with suppress(OSError, ValueError):
        note = json.loads(path.read_text(encoding="utf-8", errors="replace")[:4096])
        if isinstance(note, dict) and type(note.get("pid")) is int and note["pid"] > 0:
            return note
    return {}


def describe_holder(path: str | Path) -> str:
    """Who holds a lock: host, process, since when and its command; and whom to ask or stop.

    On the same host these are the processes that have the file open: if the one that locked it was
    killed, the programs that it started.
    """
    path, note = Path(path), _read_note(Path(path))
    if not note:
        return "process unknown"
    who = f"process {note['pid']} on {note.get('host')} since {note.get('since')}"
    who = f"{who} ({note.get('command')})"
    if note.get("host") != platform.node():
        return f"{who}. If it no longer runs there, remove {path}"
    if _lives(note["pid"]):
        return who
    heirs = ", ".join(_openers(path.resolve())) or "unknown"
    return f"{who}, which has ended; of what it started, process {heirs} still runs"


def _lives(pid: int) -> bool:
    if fcntl is None:  # Windows, where os.kill ends the process
        return True
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except OSError:  # another user's
        return True
    return True


def _openers(path: Path) -> list[str]:
    """The processes of this host that have a file open; Linux tells only the user's own."""
    found = []
    for link in Path("/proc").glob("[0-9]*/fd/*"):
        with suppress(OSError):
            if os.readlink(link) == str(path):
                found.append(link.parts[2])
    return found


@contextmanager
def hold(path: str | Path, refusal: str) -> Iterator[None]:
    """Lock a file for a while; a ConfigError with `refusal` and its holder if that is impossible.

    Forked processes do not keep the lock. The file is removed in the end.
    """
    handle = try_lock(path)
    if handle is None:
        raise ConfigError(f"{refusal}: {describe_holder(path)}.")
    _held.add(handle)
    try:
        yield
    finally:
        _held.discard(handle)
        with suppress(OSError):
            os.unlink(path)
        os.close(handle)


def _close_held() -> None:
    for handle in _held:
        os.close(handle)
    _held.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_close_held)
