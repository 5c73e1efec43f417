"""Locks that the system releases when their holder ends, and who holds them."""

import errno
import json
import os
import platform
import shlex
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from datetime import datetime
from pathlib import Path

import psutil

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
    with ExitStack() as opened:
        handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
        opened.callback(os.close, handle)
        if not _lock(handle, path):
            return None
        if os.fstat(handle).st_nlink:
            _write_note(handle)
            opened.pop_all()  # remains open
            return handle
    return try_lock(path)  # its holder removed the file before it was locked here


def _lock(handle: int, path: Path) -> bool:
    try:
        if fcntl is not None:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return True
    except BlockingIOError:
        return False
    except OSError as error:
        if error.errno not in WITHOUT_LOCKS:
            raise
    note = _read_note(path)
    return not note or (note.get("host") == platform.node() and not psutil.pid_exists(note["pid"]))


def _write_note(handle: int) -> None:
    command = shlex.join([Path(sys.executable).name, *sys.argv])[:200]
    since = datetime.now().astimezone().isoformat(" ", "seconds")
    note = dict(host=platform.node(), pid=os.getpid(), since=since, command=command)
    with suppress(OSError):  # a full disk
        os.ftruncate(handle, 0)
        os.pwrite(handle, json.dumps(note).encode(), 0)


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
    if psutil.pid_exists(note["pid"]):
        return who
    heirs = ", ".join(map(str, _openers(path.resolve()))) or "unknown"
    return f"{who}, which has ended; of what it started, process {heirs} still runs"


def _openers(path: Path) -> list[int]:
    """The processes of this host that have a file open; others' are shown to root only."""
    shown = ((one.pid, one.info["open_files"]) for one in psutil.process_iter(["open_files"]))
    return [pid for pid, files in shown if any(file.path == str(path) for file in files or ())]


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
