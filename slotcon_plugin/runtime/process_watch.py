"""Finds a process of a training that hangs, names it, and ends the others, which wait for it.

A collective waits for all processes and cannot be interrupted. So two threads of each process
watch: one exchanges reports with the other processes, the other one judges them.
"""

import json
import os
import socket
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path

import psutil
import torch.distributed as dist

from .launch import connect_store, store_is_up

PATIENCE = 5  # a step or batch may take so many times the longest one before it
BUSY = 0.05  # of one core: a process that uses more is not idle


@dataclass
class Report:
    """What a process says about itself.

    Args:
        beat: counts its reports: a process that is stopped sends none.
        position: how far it is, 2 x iteration, and 1 more from the start of the step on.
        doing: what, in words; `where`: the line of code.
        idle: seconds since it last made progress; `limit`: how many are too many.
        left: whether it has ended as it should.
    """

    host: str
    beat: int = 0
    position: int = 0
    doing: str = "starting"
    where: str = ""
    idle: float = 0.0
    limit: float = 0.0
    left: bool = False


def hanging(reports: list[Report], silent: list[float], limit: float) -> list[int]:
    """The ranks that hang: those without a report, or else those that are behind and idle.

    Args:
        reports: the last one of each rank.
        silent: seconds since it came.
        limit: seconds of silence that are too many.
    """
    present = [rank for rank, report in enumerate(reports) if not report.left]
    if stopped := [rank for rank in present if silent[rank] > limit]:
        return stopped
    least = min((reports[rank].position for rank in present), default=0)
    behind = [rank for rank in present if reports[rank].position == least]
    idle = all(reports[rank].idle > reports[rank].limit for rank in behind)
    return behind if idle else []


class ProcessWatch:
    """A context in which the processes of a training watch each other; nothing for one process.

    In a step and while a batch is loaded, a process that is behind the others must make progress
    within `limit` seconds. `begin(..., open_ended=True)` begins something that may take longer:
    then it only must not be idle for so long, without computing, reading or writing.

    Seconds in which this process itself was stopped are not counted, so that a job that the
    scheduler suspends goes on.

    Args:
        rank, world_size: of this process.
        limit: seconds; 0 for no watch.
        end: ends this process from a thread, with an exit status.
    """

    def __init__(
        self, rank: int, world_size: int, limit: float, end: Callable[[int], object] = os._exit
    ) -> None:
        self.rank, self.world_size, self.limit, self.end = rank, world_size, limit, end
        self.pause = min(5.0, max(0.5, limit / 20))
        self.own = Report(socket.gethostname())
        self.since, self.open_ended, self.longest = time.monotonic(), True, 0.0
        self.reports: list[Report] = []
        self.exchanges = 0
        self.stopping = threading.Event()
        self.threads: list[threading.Thread] = []

    def __enter__(self) -> "ProcessWatch":
        if self.limit and self.world_size > 1:
            for function in (self._exchange, self._judge):
                thread = threading.Thread(target=function, name="process watch", daemon=True)
                self.threads.append(thread)
                thread.start()
        return self

    def __exit__(self, kind: type | None, *error: object) -> None:
        """After an error, this process is reported as silent, should the others not notice."""
        self.own.left = kind is None
        self.stopping.set()
        for thread in self.threads:
            thread.join(self.pause)

    def begin(self, doing: str, position: int | None = None, open_ended: bool = False) -> None:
        """Note that something begins, at a later position unless it is None."""
        now = time.monotonic()
        if not self.open_ended:
            self.longest = max(self.longest, now - self.since)
        if position is not None:
            self.own.position = position
        self.own.doing, self.own.idle = doing, 0.0
        self.since, self.open_ended = now, open_ended

    def _exchange(self) -> None:
        """Send this process's report and read those of the others, again and again."""
        while not store_is_up():
            if self.stopping.wait(self.pause):
                return
        with suppress(dist.DistError):  # without rank 0 there is no store, and no training
            store = connect_store("watch")
            names = [str(rank) for rank in range(self.world_size)]
            while True:
                done = self.stopping.is_set()
                self.own.beat += 1
                store.set(str(self.rank), json.dumps(asdict(self.own)))
                if store.check(names):
                    self.reports = [Report(**json.loads(r)) for r in store.multi_get(names)]
                self.exchanges += 1
                if done:
                    return
                self.stopping.wait(self.pause)

    def _judge(self) -> None:
        """Measure how long each process has been silent or idle, and end this one if need be."""
        main, work = threading.main_thread().ident, _Work()
        silent, beats, exchanges, stuck = [0.0] * self.world_size, [0] * self.world_size, 0, 0.0
        last = time.monotonic()
        while not self.stopping.wait(self.pause):
            now = time.monotonic()
            passed, last = min(now - last, 2 * self.pause), now
            self.own.idle += passed
            if self.open_ended and work.goes_on(passed):
                self.own.idle = 0.0
            self.own.limit = self.limit
            if not self.open_ended:
                self.own.limit = max(self.limit, PATIENCE * self.longest)
            frame = sys._current_frames().get(main)
            if frame is not None:
                code = frame.f_code
                self.own.where = f"{Path(code.co_filename).name}:{frame.f_lineno} {code.co_name}"
            reports = self.reports
            stuck = 0.0 if self.exchanges != exchanges else stuck + passed
            exchanges = self.exchanges
            if not reports:
                continue
            if stuck > self.limit and self.rank:
                self._stop([0], reports, [stuck] * self.world_size)
            elif not stuck:
                for rank, report in enumerate(reports):
                    silent[rank] = 0.0 if report.beat != beats[rank] else silent[rank] + passed
                    beats[rank] = report.beat
                if found := hanging(reports, silent, self.limit):
                    self._stop(found, reports, silent)

    def _stop(self, found: list[int], reports: list[Report], silent: list[float]) -> None:
        others = [r for r, report in enumerate(reports) if r not in found and not report.left]
        if self.rank == min(others or found):
            print(f"\nerror: {self._message(found, reports, silent)}", file=sys.stderr, flush=True)
        else:
            time.sleep(2 * self.pause)  # the launcher ends all after the first one
        self.end(1)

    def _message(self, found: list[int], reports: list[Report], silent: list[float]) -> str:
        lines = []
        for rank in found:
            report = reports[rank]
            name = f"rank {rank} of {self.world_size} (host {report.host})"
            place = f"{report.doing}, in {report.where}" if report.where else report.doing
            if silent[rank] > self.limit:
                lines.append(
                    f"{name} has not responded for {silent[rank]:.0f} s: it is stopped, or its "
                    f"machine is down or overloaded; it was last seen {place}"
                )
            else:
                lines.append(f"{name} has made no progress for {report.idle:.0f} s: {place}")
        all_of_them = len(found) == self.world_size
        waiting = "no process goes on" if all_of_them else "the others wait for it"
        return (
            "The training hangs and is ended:\n  "
            + "\n  ".join(lines)
            + f"\n{waiting[0].upper()}{waiting[1:]}. Look at that machine, its disks and its log, "
            "then continue with --resume. If it was only slow, set a longer --hang-timeout SECONDS."
        )


class _Work:
    """Whether this process and its children compute, or read or write files."""

    def __init__(self) -> None:
        self.own, self.before = psutil.Process(), {}

    def goes_on(self, seconds: float) -> bool:
        """Whether they did in the last `seconds`, since the call before."""
        now = {}
        for process in (self.own, *self.own.children(recursive=True)):
            with suppress(psutil.Error):  # ended meanwhile
                times, waits = process.cpu_times(), process.num_ctx_switches().voluntary
                moved = 0
                with suppress(AttributeError):  # macOS has no such counters
                    counters = process.io_counters()
                    moved = counters.read_bytes + counters.write_bytes
                cpu = times.user + times.system
                if process is self.own:
                    cpu -= time.thread_time()  # this thread's
                now[process.pid] = cpu, moved, waits
        before, self.before = self.before, now
        for pid, (cpu, moved, waits) in now.items():
            old_cpu, old_moved, old_waits = before.get(pid, (-seconds, 0, 0))
            # A directory on a slow network disk is read in many short waits, and not in bytes.
            if cpu - old_cpu > BUSY * seconds or moved != old_moved or waits - old_waits > seconds:
                return True
        return False
