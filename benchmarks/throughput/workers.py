"""Processes that work in alternation: each measures something else, none runs while another does."""

import json
import os
import subprocess
from contextlib import ExitStack, contextmanager, suppress

SHARED_DEVICE = {"XLA_PYTHON_CLIENT_PREALLOCATE": "false"}  # else JAX's first process takes most of its memory
TAIL = 15  # lines of the log of a process that has died


class WorkerError(Exception):
    """A process that ended before its rounds did."""


def alternate(commands, rounds, logs):
    """Yields `(round, name, answer)`; in each round every worker works once, in round 0 it prepares itself.

    Args:
        commands: `{name: command line}` of processes that answer as `peers.answering` does.
        rounds: Number of rounds after that.
        logs: Directory, for their standard error: `NAME.log`.

    Raises:
        WorkerError: If a process ends; the message ends with the last lines of its log.
    """
    logs.mkdir(parents=True, exist_ok=True)
    with ExitStack() as stack:
        workers = {
            name: stack.enter_context(_worker(name, command, logs / f"{name}.log"))
            for name, command in commands.items()
        }
        for number in range(rounds + 1):
            for name, ask in workers.items():
                yield number, name, ask()


@contextmanager
def _worker(name, command, log):
    """Starts a process and yields the function that asks it for its next answer; the process ends with the context."""
    settings = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True, "env": os.environ | SHARED_DEVICE}
    with log.open("w") as file, subprocess.Popen(command, stderr=file, **settings) as process:

        def ask():
            with suppress(BrokenPipeError):  # it has died
                print(file=process.stdin, flush=True)
            if answer := process.stdout.readline():
                return json.loads(answer)
            code = process.wait()
            tail = "\n".join(log.read_text(errors="replace").splitlines()[-TAIL:])
            raise WorkerError(f"{name} ended with exit code {code}. The end of {log}:\n{tail}")

        try:
            yield ask
        except BaseException:
            process.kill()
            raise
        finally:
            with suppress(BrokenPipeError):
                process.stdin.close()
