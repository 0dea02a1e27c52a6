"""Trials side by side, each in a process of its own, for machines that one trial does not fill.

Each process takes its share of the cores and one trial after another, so that it starts once, and compiles a network
once for all that can share it. On the same machine a trial ends with the same bits as in any other run of as many
threads per operation, and with others where these differ.
"""

import multiprocessing
import os
import pickle
import signal
import sys
import threading
import time
from contextlib import contextmanager, suppress
from functools import partial
from multiprocessing.connection import wait

from kls.study.devices import has_accelerator
from kls.study.executors import ended
from kls.study.plan import PlanError
from kls.study.reuse import key_of
from kls.study.threads import limit_threads, threads_per_operation

MESSAGE_PAUSE = 0.2  # seconds between two messages about batches


def check_workers(workers, strategy):
    """Raises `PlanError` unless so many trials can be trained side by side here."""
    if workers == 1:
        return
    if strategy != "none":
        raise PlanError(
            f"`workers` must be 1 with strategy={strategy!r}, which shares all devices. Received: {workers}."
        )
    if has_accelerator():
        raise PlanError(
            f"`workers` must be 1 where there is an accelerator, which one process takes whole. Received: {workers}."
        )


def check_importable(thing, argument):
    """Raises `PlanError` unless other processes can import a function or class.

    Args:
        thing: The function or class; a partial of one, or an instance, of what can be pickled.
        argument: What it was given as.
    """
    named = thing.func if isinstance(thing, partial) else thing
    named = named if hasattr(named, "__qualname__") else type(named)
    module, name = named.__module__, named.__qualname__
    in_notebook = module == "__main__" and not hasattr(sys.modules["__main__"], "__file__")
    reason = "it is of a notebook" if in_notebook else _why_not_pickled(thing)
    if reason:
        raise PlanError(
            f"`{argument}` must be importable by other processes with `workers` above 1. Received: {name} of {module} "
            f"({reason}). Move it to the top level of a module, and import it from there."
        )


def _why_not_pickled(thing):
    try:
        pickle.dumps(thing)
    except Exception as error:  # whatever a class of the user's own raises
        return str(error)
    return ""


def train_side_by_side(groups, train, report, workers):
    """Trains groups of trials in worker processes, each when the trials that it starts from have ended.

    A worker that dies takes its trials with it, and another takes its place.

    Args:
        groups: The tuples of `Trial`s to train, parents before their children.
        train: As in `kls.study.executors`, picklable.
        report: The report of `kls.study.progress` that hears of the trials that begin, and of their epochs.
        workers: Number of processes; they start as there is work for them.

    Yields:
        `(trial, record, None)`, or `(trial, None, reason)` of a trial that failed, in the order in which they end.
        When the generator is closed, all processes end at once.
    """
    threads = threads_per_operation(workers)
    waiting, pool = list(groups), []
    unfinished = {trial.id for group in groups for trial in group}
    try:
        while unfinished:
            while pair := next_pair(pool, waiting, unfinished, may_start=len(pool) < workers):
                worker, group = pair
                if worker is None:
                    worker = Worker(train, threads)
                    pool.append(worker)
                waiting.remove(group)
                report.group_begins(group)
                worker.take(group)
            for connection in wait([worker.connection for worker in pool]):
                worker = next(worker for worker in pool if worker.connection is connection)
                results = worker.receive(report)
                if not worker.alive:
                    pool.remove(worker)
                unfinished.difference_update(trial.id for trial, _, _ in results)
                yield from results
    finally:
        for worker in pool:
            worker.stop()


def next_pair(pool, waiting, unfinished, may_start=False):
    """Decides which group of trials is handed out next, and to whom.

    A worker takes a trial that can be trained with the model that it has compiled last, else one that needs another
    than the other workers have compiled, else what comes first. Of students whose teachers are asked once, before
    training, the first asks and the others wait until it has.

    Args:
        pool: The workers.
        waiting: The groups that are not handed out, in order.
        unfinished: Ids of the trials that have not ended.
        may_start: Whether another worker may be started.

    Returns:
        `(worker, group)`, with `None` for a new worker; or `None` if there is nothing to hand out, or nobody idle.
    """
    asking = {
        worker.trial.parents for worker in pool if worker.trial and worker.trial.method.offline and not worker.training
    }
    ready = [
        group
        for group in waiting
        for trial in group[:1]  # the others of a group start from nothing either
        if unfinished.isdisjoint(trial.starts_from) and not (trial.method.offline and trial.parents in asking)
    ]
    idle = [worker for worker in pool if worker.trial is None] + [None] * may_start

    def rank(pair):
        worker, (trial, *_) = pair
        key = key_of(trial, "none")
        if key is None:
            return 1
        if worker and worker.key == key:
            return 0
        return 1 + any(other.key == key for other in pool)

    return min(((worker, group) for group in ready for worker in idle), key=rank, default=None)


class Worker:
    """A process that trains one group of trials after another.

    Args:
        train: As in `train_side_by_side`.
        threads: Number of its threads.

    Attributes:
        connection: Where its messages arrive.
        group: The trials that it is at; empty if it is idle.
        trial: The first of them, or `None`.
        training: Whether that one has come to its first epoch.
        key: `reuse.key_of` the trial that it took last.
        alive: Whether the process is there.
    """

    def __init__(self, train, threads):
        context = multiprocessing.get_context("spawn")  # TensorFlow does not survive a fork
        self.connection, theirs = context.Pipe()
        self.process = context.Process(target=serve, args=(theirs, train, threads), daemon=True)
        with _deaf_to_interrupts():
            self.process.start()
        theirs.close()
        self.group = ()
        self.key = None
        self.training = False
        self.alive = True

    @property
    def trial(self):
        return self.group[0] if self.group else None

    def take(self, group):
        self.group, self.key = group, key_of(group[0], "none")
        self.training = False
        with suppress(OSError):  # of a process that is dead, which `receive` finds out
            self.connection.send(group)

    def receive(self, report):
        """Takes a message, and tells the report if it is for that; returns what trials ended with, a list."""
        try:
            trial_id, what, content = self.connection.recv()
        except (EOFError, OSError):
            self.alive = False
            cause = self._cause_of_death()
            return [(trial, None, cause) for trial in self.group]
        if what == "ended":
            self.group = ()
            return content
        if self.trial and trial_id == self.trial.id:  # Keras's threads may speak of a trial that has failed
            self.training = True
            getattr(report, what)(self.trial, *content)
        return []

    def stop(self):
        self.process.terminate()
        self.process.join()
        self.connection.close()

    def _cause_of_death(self):
        self.process.join()
        code = self.process.exitcode
        if code == -signal.SIGKILL:
            return "WorkerError: its process was killed, as happens when memory runs out"
        return f"WorkerError: its process ended with exit code {code}"


@contextmanager
def _deaf_to_interrupts():
    """Lets processes that are started within ignore Ctrl-C, which a terminal sends to all: the parent ends them."""
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def serve(connection, train, threads):
    """Trains the trials that come through a connection, until the process is ended or its parent gone."""
    threading.Thread(target=_end_with_parent, daemon=True).start()
    limit_threads(threads)
    while True:
        group = connection.recv()
        report = RemoteReport(connection)
        report.send(group[0], "ended", *ended(group, train, report))


def _end_with_parent():
    multiprocessing.parent_process().join()
    os._exit(1)


class RemoteReport:
    """Stands for the parent's report in a worker."""

    def __init__(self, connection):
        self.connection = connection
        self.lock = threading.Lock()
        self.told = -MESSAGE_PAUSE  # when it last told of a batch
        self.steps = 0

    def epoch_begins(self, trial, epoch, steps):
        self.steps = steps
        self.send(trial, "epoch_begins", epoch, steps)

    def batch_ends(self, trial, step, logs):
        now = time.monotonic()
        if step == self.steps or now - self.told >= MESSAGE_PAUSE:
            self.told = now
            self.send(trial, "batch_ends", step, _floats(logs))

    def epoch_ends(self, trial, epoch, logs):
        self.send(trial, "epoch_ends", epoch, _floats(logs))

    def send(self, trial, what, *content):
        with self.lock:  # Keras tells of batches in threads of its own
            self.connection.send((trial.id, what, content))


def _floats(logs):
    return {name: float(value) for name, value in logs.items()}
