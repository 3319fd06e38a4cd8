"""Hullwright's part of the table."""

import json
import os
from pathlib import Path

from measure import Run, at_once, measure, put_aside

REPOSITORY = Path(__file__).resolve().parents[2]
DEFINITION = REPOSITORY / "image-defs/sample-container-host.toml"
IMAGES = 10


class Ours:
    def __init__(self, program: Path, sample: Path, work: Path):
        self.program, self.sample, self.work = program, sample, work
        self.out, self.store = work / "out", work / "store"
        self.definitions = work / "definitions"
        self.definitions.mkdir(parents=True)

    def definition(self, name: str, text: str) -> Path:
        """The sample's definition, with `text` on top."""
        path = self.definitions / f"{name}.toml"
        extends = os.path.relpath(DEFINITION, self.definitions)
        path.write_text(f'extends = ["{extends}"]\n{text}')
        return path

    def compressed(self, codec: str, more: str = "") -> Path:
        """At the level that is the default of each: lz4hc 9, zstd 3."""
        return self.definition(f"{codec}{len(more)}", f'[outputs.erofs]\ncompression = "{codec}"\n{more}')

    def clear(self):
        for place in (self.out, self.store):
            put_aside(place)

    def command(self, definition: Path, rpms: Path, out: Path | None = None) -> list:
        key = self.sample / "RPM-GPG-KEY-hullwright-sample"
        return [self.program, "build", definition, "--rpms", rpms, "--key", key, "--out", out or self.out, "--store", self.store]

    def build(self, definition: Path, rpms: Path, threads: int | None = None) -> Run:
        jobs = ["--jobs", threads] if threads else []
        run = measure(self.command(definition, rpms) + jobs, self.work / "log")
        report = next(self.out.glob("*/build-report.json"))
        for stage in json.loads(report.read_text())["stages"]:
            run.steps[stage["name"]] = stage["seconds"]
        return run

    def usr_size(self) -> int:
        return next(self.out.glob("*/*.usr.erofs")).stat().st_size

    def images(self) -> list[Path]:
        """Definitions of images that differ as images of one family do."""
        return [
            self.definition(
                f"image-{number}",
                f'[image]\nid = "sample-{number}"\nname = "Sample {number}"\n'
                f'[kernel]\ncmdline = ["systemd.hostname=image-{number}"]\n',
            )
            for number in range(IMAGES)
        ]

    def ten_at_once(self) -> Run:
        images = self.images()
        commands = [self.command(image, self.sample, self.work / f"out-{number}") for number, image in enumerate(images)]
        logs = [self.work / f"log-{number}" for number in range(len(images))]
        run = at_once(commands, logs)
        for number in range(len(images)):
            put_aside(self.work / f"out-{number}")
        return run
