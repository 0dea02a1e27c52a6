"""What a person sees while trials run: a live line on a terminal, a plain line per epoch elsewhere."""

import sys
import time

import keras
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, Progress, ProgressColumn, TextColumn
from rich.table import Column

from benchmarks.runner.networks import accuracy_name

WIDE_TERMINAL = 140
NARROW_TERMINAL = 100


class Watch(keras.callbacks.Callback):
    """Tells a report of each batch and epoch of a trial; of batches in threads of Keras's, not to hold up `fit`.

    Args:
        report: A report as returned by `open_report`.
        trial: The `Trial`.
        steps: Batches per epoch.
    """

    async_safe = True

    def __init__(self, report, trial, steps):
        super().__init__()
        self.report = report
        self.trial = trial
        self.steps = steps
        self._names = {"loss": "loss", "accuracy": accuracy_name(trial)}

    def on_epoch_begin(self, epoch, logs=None):
        self.report.epoch_begins(epoch, self.steps)

    def on_train_batch_end(self, batch, logs=None):
        self.report.batch_ends(batch + 1, self.trial.batch_size, self._shown(logs, ""))

    def on_epoch_end(self, epoch, logs=None):
        self.report.epoch_ends(epoch, self._shown(logs, "") | self._shown(logs, "val_"))

    def _shown(self, logs, prefix):
        return {f"{prefix}{name}": logs[f"{prefix}{own}"] for name, own in self._names.items()}


class PlainReport:
    """Prints one line per epoch.

    Args:
        trials: Number of all trials of the plan.
        work: What is still to be done: `estimate.epoch_work` of each trial that is not finished, times its epochs.
        waiting: Number of trials that are not finished.
    """

    def __init__(self, trials, work, waiting):
        self.trials = trials
        self.clock = Clock(work, waiting)
        self.number = self.trial = None
        self.epoch = 0
        self.batch = None  # (images of this epoch so far, images per second, logs)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        pass

    def print(self, text):
        print(text, flush=True)

    def trial_begins(self, number, trial, work):
        self.number = number
        self.trial = trial
        self.batch = None
        self.clock.trial_begins(work, trial.epochs)

    def epoch_begins(self, epoch, steps):
        self.epoch = epoch
        self.batch = None
        self.clock.epoch_begins(epoch)

    def batch_ends(self, step, batch_size, logs):
        images = step * batch_size
        if self.batch is None or images > self.batch[0]:  # Keras calls from several threads, not always in order
            self.batch = (images, images / max(time.monotonic() - self.clock.epoch_start, 1e-9), logs)

    def epoch_ends(self, epoch, logs):
        self.clock.epoch_ends()
        rate = f"{self.batch[1]:,.0f}" if self.batch else "?"
        self.print(
            f"[{self.number}/{self.trials}] {self.trial.label}  epoch {epoch + 1}/{self.trial.epochs}  "
            f"loss {logs['loss']:.4f}  accuracy {logs['accuracy']:.2%}  validation {logs['val_accuracy']:.2%}  "
            f"{rate} images/s  left {self.clock.time_left}"
        )


class LiveReport(PlainReport):
    """Draws one live line on a terminal."""

    def __enter__(self):
        report = self

        class State(ProgressColumn):
            max_refresh = 0.2

            def render(self, task):
                return report.state(with_rate=console.width >= NARROW_TERMINAL)

        console = Console()
        bar = [BarColumn(bar_width=20)] if console.width >= WIDE_TERMINAL else []
        description = TextColumn("{task.description}", table_column=Column(no_wrap=True, ratio=1))
        columns = (description, *bar, State(table_column=Column(no_wrap=True)))
        self.bar = Progress(*columns, console=console, transient=True, expand=True)
        self.bar.start()
        self.task = self.bar.add_task("", total=1)
        return self

    def __exit__(self, *_):
        self.bar.stop()

    def print(self, text):
        self.bar.console.print(text, highlight=False, markup=False, soft_wrap=True)

    def trial_begins(self, number, trial, work):
        super().trial_begins(number, trial, work)
        self.validation = "–"
        description = escape(f"[{number}/{self.trials}] {trial.label}")
        self.bar.update(self.task, description=description, completed=0)

    def epoch_begins(self, epoch, steps):
        super().epoch_begins(epoch, steps)
        self.bar.update(self.task, total=steps, completed=0)

    def batch_ends(self, step, batch_size, logs):
        super().batch_ends(step, batch_size, logs)
        self.bar.update(self.task, completed=step)

    def epoch_ends(self, epoch, logs):
        self.clock.epoch_ends()
        self.validation = f"{logs['val_accuracy']:.1%}"

    def state(self, with_rate=True):
        batch = self.batch
        if batch is None:
            return "preparing"
        _, rate, logs = batch
        shown_rate = f"{rate:,.0f} images/s  " if with_rate else ""
        return (
            f"epoch {self.epoch + 1}/{self.trial.epochs}  loss {logs['loss']:.3f}  accuracy {logs['accuracy']:.1%}  "
            f"validation {self.validation}  {shown_rate}left {self.clock.time_left}"
        )


class Clock:
    """Estimates the time left from the epochs so far; each trial's first also builds and compiles its network.

    Args:
        work: What all trials that are not finished have to do, in units of `estimate.epoch_work`.
        waiting: Number of these trials.
    """

    def __init__(self, work, waiting):
        self.later_work = work
        self.work = 0.0
        self.waiting = waiting
        self.warm_work = self.warm_seconds = 0.0
        self.first_epochs = self.first_seconds = self.first_work = 0.0

    def trial_begins(self, work, epochs):
        self.trial_start = time.monotonic()
        self.epoch_start = None
        self.trial_work = work
        self.later_work -= epochs * work  # all of it, so that a trial that fails leaves nothing
        self.work = epochs * work
        self.epochs = epochs
        self.waiting -= 1

    def epoch_begins(self, epoch):
        self.first = self.epoch_start is None
        self.work = (self.epochs - epoch) * self.trial_work
        self.epoch_start = time.monotonic()

    def epoch_ends(self):
        now = time.monotonic()
        self.work -= self.trial_work
        if self.first:
            self.first_epochs += 1
            self.first_seconds += now - self.trial_start
            self.first_work += self.trial_work
        else:
            self.warm_seconds += now - self.epoch_start
            self.warm_work += self.trial_work

    @property
    def time_left(self):
        """The time left as text, `?` before the end of the first epoch."""
        if not self.first_epochs:
            return "?"
        work = self.work + self.later_work
        if not self.warm_work:
            return format_seconds(work * self.first_seconds / self.first_work)
        pace = self.warm_seconds / self.warm_work
        start_up = max(self.first_seconds - self.first_work * pace, 0) / self.first_epochs
        return format_seconds(work * pace + self.waiting * start_up)


def open_report(trials, work, waiting):
    """Returns a live report on a terminal, a plain one elsewhere; both are context managers."""
    return (LiveReport if sys.stdout.isatty() else PlainReport)(trials, work, waiting)


def format_seconds(seconds):
    """Returns `h:mm:ss` or `m:ss`."""
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{seconds:02d}" if hours else f"{minutes}:{seconds:02d}"
