"""Kills studies and starts them in pairs: nothing may be lost, nothing may differ. `python -m benchmarks.storm`

    python -m benchmarks.storm --kills 50 --pairs 20

A kill: a study of two small networks is ended by SIGKILL at a random moment, every second time with `--workers 2`,
and started again. A pair: two studies are started at once in one directory, the same one twice, two that share a
trial, or one with an OOD dataset and one without. Each must end with exit code 0, or with 2 and the sentence that
another command is writing there; then both are run again, one after the other.

All that is stored in the end is compared, bit by bit, with what an undisturbed run of the same commands leaves, but for
the seconds that training took. Data and results lie in a temporary directory.
"""

import argparse
import csv
import json
import random
import subprocess
import sys
import tempfile
import time
from collections import Counter
from itertools import cycle, islice
from pathlib import Path

import numpy as np
from tabulate import tabulate

import decathlon
from decathlon.options import positive
from decathlon.sources.npz import open_npz

DATASET, SIDE, CLASSES, TRAIN, TEST = "storm", 8, 3, 96, 40
STUDY = ("--datasets", DATASET, "--epochs", "3", "--batch-size", "16")
ALONE, SHARING = ("--gamma", "0.9"), ("--gamma", "0.8")
SIDE_BY_SIDE, WITH_OOD = (*ALONE, "--workers", "2"), (*ALONE, "--ood", "noise")
PAIRS = {
    "the same twice": (ALONE, ALONE),
    "two that share a trial": (ALONE, SHARING),
    "with and without OOD data": (WITH_OOD, ALONE),
}
KILLS = {"killed": ALONE, "killed, two workers": SIDE_BY_SIDE}
TIMES = {"seconds", "images_per_second", "checksum"}  # what differs from run to run
REFUSAL = "Another command is writing in"
LONGEST = 300  # seconds that a command may take


class Storm:
    """Runs cases in a directory, and compares each with an undisturbed run.

    Args:
        directory: Where data and results are written.
        seed: Seed of the random moments.
    """

    def __init__(self, directory, seed):
        self.directory = directory
        self.random = random.Random(seed)
        self.undisturbed = {}
        prepare_data(directory / "data")

    def start(self, arguments, out):
        command = (sys.executable, "-m", "benchmarks.decathlon", *STUDY, *arguments)
        return Command((*command, "--data-dir", self.directory / "data", "--out", out), out)

    def expected(self, commands):
        """Returns what an undisturbed run of commands leaves, and how many seconds the last one was writing."""
        if commands not in self.undisturbed:
            out = self.directory / f"undisturbed-{len(self.undisturbed)}"
            for arguments in commands:
                command = self.start(arguments, out)
                command.wait_until_it_writes()
                start = time.monotonic()
                if wrong := command.end():
                    raise SystemExit(f"An undisturbed run failed: {wrong}")
            self.undisturbed[commands] = stored(out), time.monotonic() - start
        return self.undisturbed[commands]

    def kill(self, arguments, out):
        """Kills a study at a random moment and starts it again; returns what is wrong in the end: a list."""
        expected, seconds = self.expected((arguments,))
        command = self.start(arguments, out)
        command.wait_until_it_writes()
        time.sleep(self.random.uniform(0, seconds))
        command.process.kill()  # and not its workers, which it leaves behind
        return self.start(arguments, out).end() + differences(stored(out), expected)

    def pair(self, commands, out):
        """Starts two studies at once, then runs both in turn; returns what is wrong in the end: a list."""
        expected, _ = self.expected(tuple(dict.fromkeys(commands)))
        first = self.start(commands[0], out)
        time.sleep(self.random.choice((0, self.random.uniform(0, 3))))
        second = self.start(commands[1], out)
        wrong = first.end(may_be_refused=True) + second.end(may_be_refused=True)
        for arguments in commands:
            wrong += self.start(arguments, out).end()
        return wrong + differences(stored(out), expected)


class Command:
    """A command that runs.

    Args:
        arguments: The command line.
        out: Where it writes.
    """

    def __init__(self, arguments, out):
        self.out = out
        self.log = out.with_name(f"{out.name}-{time.monotonic_ns()}.log")
        with self.log.open("w") as log:
            self.process = subprocess.Popen(arguments, stdout=log, stderr=subprocess.STDOUT)

    def wait_until_it_writes(self):
        while not (self.out / ".locks").exists() and self.process.poll() is None:
            time.sleep(0.02)

    def end(self, may_be_refused=False):
        """Waits for its end, and returns what is wrong with that: a list."""
        code = self.process.wait(timeout=LONGEST)
        printed = self.log.read_text()
        if code == 0 or (may_be_refused and code == 2 and REFUSAL in printed):
            return []
        return [f"exit code {code}: {printed[-300:]}"]


def prepare_data(data_dir):
    """Prepares images of three classes that a small network learns at once: where a stripe lies."""
    rng = np.random.default_rng(0)
    arrays = {}
    for part, count in (("train", TRAIN), ("test", TEST)):
        labels = np.arange(count) % CLASSES
        images = rng.integers(0, 60, (count, SIDE, SIDE, 1), dtype=np.uint8)
        images[np.arange(count), 1 + 2 * labels] += 190
        arrays |= {f"x_{part}": images, f"y_{part}": labels}
    data_dir.mkdir()
    np.savez(data_dir / "images.npz", **arrays)
    decathlon.prepare(DATASET, open_npz(data_dir / "images.npz"), data_dir=data_dir)


def stored(out):
    """Returns what a study has left, by its path: bytes or values."""
    paths = [path for path in (out / "trials").rglob("*") if path.is_file() and path.name != "state.npz"]
    found = {str(path.relative_to(out)): path.read_bytes() for path in paths}
    for name in found:
        if name.endswith("record.json"):
            found[name] = without_times(json.loads(found[name]))
    with open(out / "results.csv", newline="") as file:
        found["results.csv"] = [without_times(row) for row in csv.DictReader(file)]
    return found


def without_times(values):
    return {name: value for name, value in values.items() if name not in TIMES}


def differences(found, expected):
    """Returns the names of what differs, a list."""
    names = sorted(found.keys() | expected.keys())
    return [f"{name} differs" for name in names if found.get(name) != expected.get(name)]


def main(arguments=None):
    """Runs the cases, prints a table of their outcomes and returns the exit code: 1 if anything was lost or differs."""
    parser = argparse.ArgumentParser("python -m benchmarks.storm", description=__doc__.split("\n\n")[0])
    parser.add_argument("--kills", type=positive, default=10, metavar="N", help="default: %(default)s")
    parser.add_argument("--pairs", type=positive, default=6, metavar="N", help="default: %(default)s")
    parser.add_argument(
        "--minutes", type=positive, default=60, metavar="N", help="begin no case after that (default: %(default)s)"
    )
    parser.add_argument("--seed", type=int, default=0, metavar="N", help="of the random moments (default: 0)")
    options = parser.parse_args(arguments)
    end = time.monotonic() + 60 * options.minutes
    cases = [("kill", kind) for kind in islice(cycle(KILLS), options.kills)]
    cases += [("pair", kind) for kind in islice(cycle(PAIRS), options.pairs)]
    done, failed = Counter(), Counter()
    with tempfile.TemporaryDirectory() as directory:
        storm = Storm(Path(directory), options.seed)
        for number, (what, kind) in enumerate(cases):
            if time.monotonic() > end:
                print(f"{len(cases) - number} cases were not begun in {options.minutes} minutes.")
                break
            run = {"kill": storm.kill, "pair": storm.pair}[what]
            wrong = run((KILLS | PAIRS)[kind], Path(directory) / str(number))
            done[kind] += 1
            failed[kind] += bool(wrong)
            print(f"[{number + 1}/{len(cases)}] {kind}: {'; '.join(wrong) or 'as undisturbed'}", flush=True)
    rows = [(kind, str(done[kind]), str(failed[kind])) for kind in done]
    print("\n" + tabulate(rows, ("case", "number", "with differences"), "pipe", disable_numparse=True))
    return 1 if failed.total() else 0


if __name__ == "__main__":
    sys.exit(main())
