"""The table, and whether each mark is met."""

import os
import re
from dataclasses import dataclass, field
from pathlib import Path

from measure import Run


def machine(load: float) -> str:
    """One line about where this was measured."""
    model = re.search(r"^model name\s*: (.*)$", Path("/proc/cpuinfo").read_text(), re.M)
    memory = int(re.search(r"^MemTotal:\s*(\d+)", Path("/proc/meminfo").read_text(), re.M)[1]) >> 20
    name = model[1] if model else os.uname().machine
    return f"{os.cpu_count()} cores ({name}), {memory} GiB, Linux {os.uname().release}; load before {load:.1f}, after {os.getloadavg()[0]:.1f}"


@dataclass
class Table:
    floor: dict[str, Run] = field(default_factory=dict)
    chain: dict[str, Run] = field(default_factory=dict)
    cold: dict[str, Run] = field(default_factory=dict)
    sizes: dict[str, int] = field(default_factory=dict)
    cases: dict[str, Run] = field(default_factory=dict)
    scale: list[tuple[int, str, int, Run]] = field(default_factory=list)
    mkosi: Run | None = None

    def _times(self) -> list[str]:
        lines = ["| what | wall s | CPU s | peak MiB |", "| --- | --- | --- | --- |"]

        def add(name: str, run: Run):
            lines.append(f"| {name} | {run.wall:.2f} | {run.processor:.2f} | {run.memory:.0f} |")

        for name, runs in {"the floor": self.floor, "standard tools": self.chain, "(a) cold": self.cold}.items():
            for codec, run in runs.items():
                add(f"{name}, {codec}", run)
        for name, run in self.cases.items():
            add(name, run)
        if self.mkosi:
            add("mkosi, same packages, lz4hc", self.mkosi)
        return lines

    def _marks(self) -> list[str]:
        """What is asked of the ratios."""
        lines = ["| mark | wanted | measured | met |", "| --- | --- | --- | --- |"]

        def add(name: str, limit: float, value: float, unit: str = ""):
            lines.append(f"| {name} | ≤ {limit:g}{unit} | {value:.3g}{unit} | {'yes' if value <= limit else '**no**'} |")

        for codec, cold in self.cold.items():
            if codec in self.chain:
                add(f"(a) cold {codec} / standard tools {codec}", 0.5, cold.wall / self.chain[codec].wall)
            if codec in self.floor:
                add(f"(a) cold {codec} / floor", 1.5, cold.wall / self.floor[codec].wall)
        cold = self.cold.get("lz4hc")
        if "lz4" in self.cold and "lz4hc" in self.chain:
            add("(a) cold lz4 / standard tools lz4hc", 0.3, self.cold["lz4"].wall / self.chain["lz4hc"].wall)
        if cold and self.mkosi:
            add("(a) cold lz4hc / mkosi", 0.08, cold.wall / self.mkosi.wall)
        for name, run in self.cases.items():
            match name[:3]:
                case "(b)":
                    add(name, 0.5, run.wall, " s")
                case "(e)":
                    add(name, 1, run.wall, " s")
                case "(c)" if cold:
                    add(name, max(1, 0.1 * cold.wall), run.wall, " s")
                case "(d)" if cold:
                    add(f"{name} / (a)", 0.4, run.wall / cold.wall)
                case "(f)" if cold:
                    add(f"{name} / (a)", 2.5, run.wall / cold.wall)
        if cold:
            add("memory of (a)", 500, cold.memory, " MB")
        most = {(times, jobs): 0.0 for times, _, jobs, _ in self.scale}
        for times, _, jobs, run in self.scale:
            most[times, jobs] = max(most[times, jobs], run.memory)
        for jobs in (1, 2):
            if (1, jobs) in most and (8, jobs) in most:
                add(f"memory of 8 × / 1 ×, {jobs} threads", 1.3, most[8, jobs] / most[1, jobs])
        for codec in self.cold:
            theirs, ours = self.sizes.get(f"mkfs.erofs {codec}"), self.sizes.get(f"hullwright {codec}")
            if theirs and ours:
                add(f"size of /usr, {codec} / mkfs.erofs", 1.01, ours / theirs)
        return lines

    def _steps(self) -> list[str]:
        lines = []
        for name, runs in {"standard tools": self.chain, "(a) cold": self.cold}.items():
            for codec, run in runs.items():
                steps = ", ".join(f"{step} {seconds:.2f}" for step, seconds in run.steps.items() if seconds >= 0.05)
                lines.append(f"- {name}, {codec}: {steps}")
        return lines

    def markdown(self, rounds: int, where: str, images: int) -> str:
        lines = [f"Medians of {rounds} (the {images} images, scaling and mkosi: one run). {where}.", "", *self._times(), "", *self._marks()]
        if self.sizes:
            lines += ["", "| /usr | bytes |", "| --- | --- |", *(f"| {name} | {size:,} |" for name, size in self.sizes.items())]
        if self.scale:
            lines += ["", "| set | threads | wall s | CPU s | peak MiB |", "| --- | --- | --- | --- | --- |"]
            for times, kind, jobs, run in self.scale:
                what = f"{times} × {kind}" if times > 1 else "1 ×"
                lines.append(f"| {what} | {jobs} | {run.wall:.1f} | {run.processor:.1f} | {run.memory:.0f} |")
        steps = self._steps()
        return "\n".join(lines + (["", "Seconds of the steps (some run beside each other):", "", *steps] if steps else [])) + "\n"
