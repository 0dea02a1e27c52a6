"""What a person sees while trials run: a live line per trial on a terminal, a plain line per epoch elsewhere."""

import sys
import time
from dataclasses import dataclass

import keras
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, Progress, ProgressColumn, TextColumn
from rich.table import Column

from kls.study.trial import Trial

WIDE_TERMINAL = 140
NARROW_TERMINAL = 100


class Watch(keras.callbacks.Callback):
    """Tells a report of each batch and epoch of a trial; of batches in threads of Keras's, not to hold up `fit`.

    Args:
        report: A report as returned by `open_report`, or what takes its place in a worker.
        trial: The `Trial`.
        steps: Batches per epoch.
        names: What the logs call its loss and accuracy.
    """

    async_safe = True

    def __init__(self, report, trial, steps, names):
        super().__init__()
        self.report = report
        self.trial = trial
        self.steps = steps
        self._names = dict(zip(("loss", "accuracy"), names, strict=True))

    def on_epoch_begin(self, epoch, logs=None):
        self.report.epoch_begins(self.trial, epoch, self.steps)

    def on_train_batch_end(self, batch, logs=None):
        self.report.batch_ends(self.trial, batch + 1, self._shown(logs, ""))

    def on_epoch_end(self, epoch, logs=None):
        self.report.epoch_ends(self.trial, epoch, self._shown(logs, "") | self._shown(logs, "val_"))

    def _shown(self, logs, prefix):
        return {f"{prefix}{name}": logs[f"{prefix}{own}"] for name, own in self._names.items()}


@dataclass
class UnderWay:
    """What is shown of a trial that is being trained."""

    trial: Trial
    epoch: int = 0
    batch: tuple | None = None  # (images of this epoch so far, images per second, logs)
    validation: str = "–"


class PlainReport:
    """Prints one line per epoch.

    Args:
        trials: Number of all trials of the plan.
        work: `{trial: estimate.epoch_work}` of those that are not finished, which are the last of them.
        workers: How many are trained side by side.

    Attributes:
        under_way: `{trial: UnderWay}` of those that are being trained.
    """

    def __init__(self, trials, work, workers=1):
        self.trials = trials
        self.numbers = {trial: number for number, trial in enumerate(work, start=trials - len(work) + 1)}
        self.clock = Clock(work, workers)
        self.under_way = {}

    def __enter__(self):
        return self

    def __exit__(self, *_):
        pass

    def print(self, text):
        print(text, flush=True)

    def name(self, trial):
        """Returns a trial's number and label."""
        return f"[{self.numbers[trial]}/{self.trials}] {trial.label}"

    def group_begins(self, group):
        """Hears of a group of trials that are trained at once, of which it is told by the name of the first."""
        trial, *others = group
        self.under_way[trial] = UnderWay(trial)
        self.clock.trial_begins(trial)
        for other in others:
            del self.clock.waiting[other]

    def trial_ends(self, trial):
        if self.under_way.pop(trial, None):
            self.clock.trial_ends(trial)

    def epoch_begins(self, trial, epoch, steps):
        shown = self.under_way[trial]
        shown.epoch = epoch
        shown.batch = None
        self.clock.epoch_begins(trial, epoch)

    def batch_ends(self, trial, step, logs):
        shown = self.under_way[trial]
        images = step * trial.batch_size
        if shown.batch is None or images > shown.batch[0]:  # Keras calls from several threads, not always in order
            shown.batch = (images, images / max(self.clock.epoch_seconds(trial), 1e-9), logs)

    def epoch_ends(self, trial, epoch, logs):
        self.clock.epoch_ends(trial)
        if trial.of_features:
            return  # an epoch of a head takes no time
        shown = self.under_way[trial]
        rate = f"{shown.batch[1]:,.0f}" if shown.batch else "?"
        self.print(
            f"{self.name(trial)}  epoch {epoch + 1}/{trial.epochs}  "
            f"loss {logs['loss']:.4f}  accuracy {logs['accuracy']:.2%}  validation {logs['val_accuracy']:.2%}  "
            f"{rate} images/s  left {self.clock.time_left}"
        )


class LiveReport(PlainReport):
    """Draws a live line per trial on a terminal."""

    def __enter__(self):
        report = self

        class State(ProgressColumn):
            max_refresh = 0.2

            def render(self, task):
                return report.state(task.fields["shown"], with_rate=console.width >= NARROW_TERMINAL)

        console = Console()
        bar = [BarColumn(bar_width=20)] if console.width >= WIDE_TERMINAL else []
        description = TextColumn("{task.description}", table_column=Column(no_wrap=True, ratio=1))
        columns = (description, *bar, State(table_column=Column(no_wrap=True)))
        self.bar = Progress(*columns, console=console, transient=True, expand=True)
        self.tasks = {}
        self.bar.start()
        return self

    def __exit__(self, *_):
        self.bar.stop()

    def print(self, text):
        self.bar.console.print(text, highlight=False, markup=False, soft_wrap=True)

    def group_begins(self, group):
        super().group_begins(group)
        trial, *others = group
        name = self.name(trial) + (f" and {len(others)} more" if others else "")
        self.tasks[trial] = self.bar.add_task(escape(name), total=1, shown=self.under_way[trial])

    def trial_ends(self, trial):
        if trial in self.tasks:
            self.bar.remove_task(self.tasks.pop(trial))
        super().trial_ends(trial)

    def epoch_begins(self, trial, epoch, steps):
        super().epoch_begins(trial, epoch, steps)
        self.bar.update(self.tasks[trial], total=steps, completed=0)

    def batch_ends(self, trial, step, logs):
        super().batch_ends(trial, step, logs)
        self.bar.update(self.tasks[trial], completed=step)

    def epoch_ends(self, trial, epoch, logs):
        self.clock.epoch_ends(trial)
        self.under_way[trial].validation = f"{logs['val_accuracy']:.1%}"

    def state(self, shown, with_rate=True):
        """Returns what is said of a trial that is `UnderWay`; in a thread of its own, perhaps after it has ended."""
        batch = shown.batch
        if batch is None:
            return "preparing"
        _, rate, logs = batch
        shown_rate = f"{rate:,.0f} images/s  " if with_rate else ""
        return (
            f"epoch {shown.epoch + 1}/{shown.trial.epochs}  loss {logs['loss']:.3f}  accuracy {logs['accuracy']:.1%}  "
            f"validation {shown.validation}  {shown_rate}left {self.clock.time_left}"
        )


@dataclass
class Lap:
    """A trial's share of the clock: the work of an epoch, what is left of it, and when it and its epoch began."""

    epoch_work: float
    left: float
    start: float
    epoch_start: float | None = None
    first: bool = True


class Clock:
    """Estimates the time left from the epochs so far; each trial's first also builds and compiles its network.

    Args:
        work: `{trial: estimate.epoch_work}` of all that are not finished.
        workers: How many of them are trained side by side.
    """

    def __init__(self, work, workers=1):
        self.waiting = dict(work)
        self.workers = workers
        self.laps = {}
        self.warm_work = self.warm_seconds = 0.0
        self.first_epochs = self.first_seconds = self.first_work = 0.0

    def trial_begins(self, trial):
        work = self.waiting.pop(trial)
        self.laps[trial] = Lap(work, trial.epochs * work, time.monotonic())

    def trial_ends(self, trial):
        del self.laps[trial]

    def epoch_begins(self, trial, epoch):
        lap = self.laps[trial]
        lap.first = lap.epoch_start is None
        lap.left = (trial.epochs - epoch) * lap.epoch_work
        lap.epoch_start = time.monotonic()

    def epoch_seconds(self, trial):
        """Returns how long a trial's epoch has been running."""
        return time.monotonic() - self.laps[trial].epoch_start

    def epoch_ends(self, trial):
        lap = self.laps[trial]
        lap.left -= lap.epoch_work
        if lap.first:
            self.first_epochs += 1
            self.first_seconds += time.monotonic() - lap.start
            self.first_work += lap.epoch_work
        else:
            self.warm_seconds += self.epoch_seconds(trial)
            self.warm_work += lap.epoch_work

    @property
    def work(self):
        """What is left to do."""
        waiting, laps = list(self.waiting.items()), list(self.laps.values())  # the screen's thread asks at any moment
        return sum(trial.epochs * work for trial, work in waiting) + sum(lap.left for lap in laps)

    @property
    def time_left(self):
        """The time left as text, `?` before the end of the first epoch."""
        if not self.first_epochs:
            return "?"
        sharing = max(1, min(self.workers, len(self.waiting) + len(self.laps)))
        if not self.warm_work:
            return format_seconds(self.work * self.first_seconds / self.first_work / sharing)
        pace = self.warm_seconds / self.warm_work
        start_up = max(self.first_seconds - self.first_work * pace, 0) / self.first_epochs
        return format_seconds((self.work * pace + len(self.waiting) * start_up) / sharing)


def open_report(trials, work, workers=1):
    """Returns a live report on a terminal, a plain one elsewhere; both are context managers."""
    return (LiveReport if sys.stdout.isatty() else PlainReport)(trials, work, workers)


def format_seconds(seconds):
    """Returns `h:mm:ss` or `m:ss`."""
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{seconds:02d}" if hours else f"{minutes}:{seconds:02d}"
