"""Processes that take turns: each measures something else, none runs while another does."""

import json
import os
import subprocess
from contextlib import suppress
from pathlib import Path

SHARED_DEVICE = {"XLA_PYTHON_CLIENT_PREALLOCATE": "false"}  # else JAX's first process takes most of its memory
TAIL = 15  # lines of the log of a process that has died


class RaceError(Exception):
    """A process that ended before its turns did; the message ends with the last lines of its log."""


class Racer:
    """A process that answers each line with a line of JSON: see `peers.answering`.

    Use it as a context manager; the process ends with it.

    Args:
        name: What it is called in errors.
        command: Its command line, a list.
        log: File for its standard error.
        environment: Variables on top of this process's own.
    """

    def __init__(self, name, command, log, environment=None):
        self.name = name
        self.log = Path(log)
        self.log.parent.mkdir(parents=True, exist_ok=True)
        with self.log.open("w") as file:
            self._process = subprocess.Popen(
                command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=file,
                text=True,
                env={**os.environ, **(environment or {})},
            )

    def __enter__(self):
        return self

    def __exit__(self, *error):
        with suppress(BrokenPipeError):  # it has died
            self._process.stdin.close()
        if any(error):
            self._process.kill()
        self._process.wait()
        self._process.stdout.close()

    def ask(self):
        """Lets it have a turn and returns its answer, a dictionary.

        Raises:
            RaceError: If it has ended.
        """
        try:
            self._process.stdin.write("\n")
            self._process.stdin.flush()
            answer = self._process.stdout.readline()
        except BrokenPipeError:
            answer = ""
        if not answer:
            code = self._process.wait()
            tail = "\n".join(self.log.read_text(errors="replace").splitlines()[-TAIL:])
            raise RaceError(f"{self.name} ended with exit code {code}. The end of {self.log}:\n{tail}")
        return json.loads(answer)


def alternate(racers, rounds):
    """Yields `(round, name, answer)`, rounds counted from 1; in each of them every racer has one turn.

    Args:
        racers: `{name: Racer}`.
        rounds: Number of rounds.
    """
    for number in range(1, rounds + 1):
        for name, racer in racers.items():
            yield number, name, racer.ask()
