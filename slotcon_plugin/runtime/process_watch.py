"""Finds a process of a training that hangs, names it, and ends the others, which wait for it.

A collective waits for all processes and cannot be interrupted. So two threads of each process
watch: one exchanges reports with the other processes, the other one judges them.
"""

import itertools
import json
import math
import os
import socket
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from typing import NamedTuple

import torch.distributed as dist

from .explain_errors import LOST
from .launch import connect_store, store_is_up
from .process_activity import Activity, place_of_main_thread

PATIENCE = 5  # a step or batch may take so many times the longest one before it


class Phase(NamedTuple):
    """What the main thread is doing: a position as in `Report`, words, whether it may take long."""

    position: int
    doing: str
    open_ended: bool
    since: float


class Report(NamedTuple):
    """What a process says about itself.

    Args:
        beat: counts its reports: a process that is stopped sends none.
        position: how far it is, 2 x iteration, and 1 more from the start of the step on.
        doing: what, in words; `where`: the line of code.
        idle: seconds since it last made progress; `limit`: how many are too many.
        left: whether it has ended as it should.
    """

    host: str
    beat: int
    position: int
    doing: str
    where: str = ""
    idle: float = 0.0
    limit: float = math.inf
    left: bool = False


def behind(reports: list[Report]) -> list[int]:
    """The ranks that are not ahead of another: all of them if all are equally far."""
    least = min((r.position for r in reports if not r.left), default=0)
    return [i for i, r in enumerate(reports) if not r.left and r.position == least]


def lag_after(passed: float, reports: list[Report], lag: dict[tuple, float]) -> dict[tuple, float]:
    """Seconds for which just these ranks have been behind; the keys begin with the rank.

    Others that were behind with them may have been those that they waited for: then it counts from
    when these have gone on. A rank's own idleness begins before, and its report may be old.
    """
    last = behind(reports)
    keys = {(rank, reports[rank].position, reports[rank].doing, *last) for rank in last}
    return {key: lag.get(key, -passed) + passed for key in keys}


def hanging(
    reports: list[Report], silent: list[float], lag: dict[int, float], limit: float
) -> list[int]:
    """The ranks that hang: those without a report, or else those that are behind and idle.

    Args:
        reports: the last one of each rank.
        silent: seconds since it came.
        lag: seconds for which a rank has been behind at the same position; 0 if it is not here.
        limit: seconds of silence that are too many.
    """
    if stopped := [i for i, r in enumerate(reports) if not r.left and silent[i] > limit]:
        return stopped
    last = behind(reports)
    idle = all(min(lag.get(i, 0), reports[i].idle) > reports[i].limit for i in last)
    return last if idle else []


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
        self.phase, self.longest, self.left = Phase(0, "starting", True, 0), 0.0, False
        self.judged = self.phase, 0.0, limit, ""  # phase, idle, limit, where
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
        self.left = kind is None
        self.stopping.set()
        for thread in self.threads:
            thread.join(self.pause)

    def begin(self, doing: str, position: int | None = None, open_ended: bool = False) -> None:
        """Note that something begins, at a later position unless it is None."""
        now, before = time.monotonic(), self.phase
        if not before.open_ended:
            self.longest = max(self.longest, now - before.since)
        position = before.position if position is None else position
        self.phase = Phase(position, doing, open_ended, now)

    def _exchange(self) -> None:
        """Send this process's report and read those of the others, again and again."""
        while not store_is_up():
            if self.stopping.wait(self.pause):
                return
        with suppress(dist.DistError):  # without rank 0 there is no store, and no training
            store, host = connect_store("watch"), socket.gethostname()
            names = [str(rank) for rank in range(self.world_size)]
            for beat in itertools.count(1):
                done, phase = self.stopping.is_set(), self.phase
                judged, idle, limit, where = self.judged
                if judged is not phase:
                    idle, limit, where = 0.0, math.inf, ""
                shown = phase.position, phase.doing, where, idle, limit
                store.set(names[self.rank], json.dumps(Report(host, beat, *shown, self.left)))
                if store.check(names):
                    self.reports = [Report(*json.loads(r)) for r in store.multi_get(names)]
                self.exchanges += 1
                if done:
                    return
                self.stopping.wait(self.pause)

    def _judge(self) -> None:
        """Measure how long each process has been silent or idle, and end this one if need be."""
        activity, last, idle = Activity(), time.monotonic(), 0.0
        silent, beats = [0.0] * self.world_size, [0] * self.world_size
        exchanges, stuck, alone, lag = 0, 0.0, 0.0, {}
        while not self.stopping.wait(self.pause):
            now, phase = time.monotonic(), self.phase
            passed, last = min(now - last, 2 * self.pause), now
            goes_on = phase is not self.judged[0] or (phase.open_ended and activity.goes_on(passed))
            idle = 0.0 if goes_on else idle + passed
            limit = self.limit if phase.open_ended else max(self.limit, PATIENCE * self.longest)
            self.judged = phase, idle, limit, place_of_main_thread()
            if not self.threads[0].is_alive():
                # The store, and so rank 0, is gone. A collective fails then, unless it waits for
                # a third process.
                alone += passed
                if min(alone, idle) > limit:
                    print(f"\nerror: {LOST}", file=sys.stderr, flush=True)
                    self.end(1)
                continue
            reports = self.reports
            stuck = 0.0 if self.exchanges != exchanges else stuck + passed
            exchanges = self.exchanges
            if stuck > self.limit and self.rank and reports:
                self._stop([0], reports, [stuck] * self.world_size)
            if stuck or not reports:
                continue
            for rank, report in enumerate(reports):
                silent[rank] = 0.0 if report.beat != beats[rank] else silent[rank] + passed
                beats[rank] = report.beat
            lag = lag_after(passed, reports, lag)
            idle_behind = {key[0]: seconds for key, seconds in lag.items()}
            if found := hanging(reports, silent, idle_behind, self.limit):
                self._stop(found, reports, silent)

    def _stop(self, found: list[int], reports: list[Report], silent: list[float]) -> None:
        others = [r for r, report in enumerate(reports) if r not in found and not report.left]
        if self.rank == min(others or found):
            print(f"\nerror: {self._message(found, reports, silent)}", file=sys.stderr, flush=True)
        else:
            time.sleep(6 * self.pause)  # the launcher ends all after the first one
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
        all_hang = len(found) == self.world_size
        waiting = "No process goes on" if all_hang else "The others wait for it"
        return (
            "The training hangs and is ended:\n  "
            + "\n  ".join(lines)
            + f"\n{waiting}. Look at that machine, its disks and its log, then continue with "
            "--resume. If it was only slow, set a longer --hang-timeout SECONDS."
        )
