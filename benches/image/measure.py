"""Running programs and what that takes."""

import os
import shutil
import statistics
import subprocess
import time
from dataclasses import dataclass, field
from pathlib import Path


@dataclass
class Run:
    """What one run took, or the medians of several."""

    wall: float  # seconds
    processor: float  # seconds in user and system mode, of all processes
    memory: float  # MiB, peak of the largest process
    said: str = ""
    steps: dict[str, float] = field(default_factory=dict)  # seconds


def measure(command: list, log: Path, **options) -> Run:
    """Runs `command`, which must succeed; what it says goes to `log`."""
    os.sync()
    started = time.monotonic()
    with open(log, "w") as out:
        process = subprocess.Popen([str(word) for word in command], stdout=out, stderr=subprocess.STDOUT, **options)
        _, status, usage = os.wait4(process.pid, 0)
    wall = time.monotonic() - started
    process.returncode = os.waitstatus_to_exitcode(status)
    said = log.read_text(errors="replace")
    if process.returncode:
        raise RuntimeError(f"{command[0]} failed ({process.returncode}):\n{said[-4000:]}")
    return Run(wall, usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1024, said)


def at_once(commands: list[list], logs: list[Path]) -> Run:
    """Runs all commands together; wall time is that of the last."""
    os.sync()
    started = time.monotonic()
    running = []
    for command, log in zip(commands, logs):
        with open(log, "w") as out:
            running.append(subprocess.Popen([str(word) for word in command], stdout=out, stderr=subprocess.STDOUT))
    processor, memory = 0.0, 0.0
    for process, log in zip(running, logs):
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode:
            raise RuntimeError(f"{process.args[0]} failed ({process.returncode}):\n{log.read_text()[-4000:]}")
        processor += usage.ru_utime + usage.ru_stime
        memory += usage.ru_maxrss / 1024
    return Run(time.monotonic() - started, processor, memory)


def together(runs: list[Run]) -> Run:
    """Runs one after the other, as one."""
    return Run(sum(run.wall for run in runs), sum(run.processor for run in runs), max(run.memory for run in runs))


def median(runs: list[Run]) -> Run:
    def of(value) -> float:
        return statistics.median(value(run) for run in runs)

    names = {name: None for run in runs for name in run.steps}
    steps = {name: of(lambda run, name=name: run.steps.get(name, 0.0)) for name in names}
    return Run(of(lambda run: run.wall), of(lambda run: run.processor), of(lambda run: run.memory), "", steps)


ROOM = 16 << 30  # bytes: what ten builds at once write, and more


def put_aside(place: Path):
    """Out of the way of the next run, without deleting: for minutes ext4 passes over the inodes of deleted files one by one when it
    looks for free ones, and the next run would pay for that. Deletes what was put aside where room runs short."""
    aside = place.parent / "aside"
    aside.mkdir(exist_ok=True)
    if place.exists():
        place.rename(aside / str(len(os.listdir(aside))))
    if shutil.disk_usage(aside).free < ROOM:
        shutil.rmtree(aside)
