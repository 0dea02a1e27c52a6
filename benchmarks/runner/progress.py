"""What a person sees while trials run: a live line on a terminal, a plain line per epoch elsewhere."""

import sys
import time

import keras
from rich.console import Console
from rich.progress import BarColumn, Progress, ProgressColumn, TextColumn


class Watch(keras.callbacks.Callback):
    """Tells a report of each batch and epoch of a trial.

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

    def on_epoch_begin(self, epoch, logs=None):
        self.report.epoch_begins(epoch, self.steps)

    def on_train_batch_end(self, batch, logs=None):
        self.report.batch_ends(batch + 1, self.trial.batch_size, logs)

    def on_epoch_end(self, epoch, logs=None):
        self.report.epoch_ends(epoch, logs)


class PlainReport:
    """Prints one line per epoch.

    Args:
        trials: Number of trials.
        work: Pixels of all images of all epochs that are still to be trained, for the time left.
    """

    def __init__(self, trials, work):
        self.trials = trials
        self.work = work
        self.done = 0
        self.started = time.monotonic()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        pass

    def print(self, text):
        print(text, flush=True)

    def trial_begins(self, number, trial, pixels):
        self.number = number
        self.trial = trial
        self.pixels = pixels
        self.fresh = True

    def epoch_begins(self, epoch, steps):
        if self.fresh:
            self.work -= epoch * steps * self.trial.batch_size * self.pixels  # done before a restart
        self.fresh = False
        self.epoch = epoch
        self.steps = steps
        self.images = 0
        self.epoch_started = time.monotonic()

    def batch_ends(self, step, batch_size, logs):
        self.images = step * batch_size
        self.batch_logs = logs
        self.trained = time.monotonic()

    def epoch_ends(self, epoch, logs):
        self.done += self.images * self.pixels
        self.print(
            f"[{self.number}/{self.trials}] {self.trial.label}  epoch {epoch + 1}/{self.trial.epochs}  "
            f"loss {logs['loss']:.4f}  accuracy {logs['accuracy']:.2%}  validation {logs['val_accuracy']:.2%}  "
            f"{self.rate:,.0f} images/s  left {self.time_left}"
        )

    @property
    def rate(self):
        return self.images / max(self.trained - self.epoch_started, 1e-9)

    @property
    def time_left(self):
        if not self.done:
            return "?"
        return format_seconds((time.monotonic() - self.started) * max(self.work / self.done - 1, 0))


class LiveReport(PlainReport):
    """Draws one live line on a terminal."""

    def __enter__(self):
        report = self

        class State(ProgressColumn):
            max_refresh = 0.2

            def render(self, task):
                return report.state()

        self.bar = Progress(
            TextColumn("{task.description}"), BarColumn(bar_width=20), State(), console=Console(), refresh_per_second=5
        )
        self.bar.start()
        self.task = self.bar.add_task("", total=1)
        return self

    def __exit__(self, *_):
        self.bar.stop()

    def print(self, text):
        self.bar.console.print(text, highlight=False, soft_wrap=True)

    def trial_begins(self, number, trial, pixels):
        super().trial_begins(number, trial, pixels)
        self.images = self.epoch = 0
        self.bar.update(self.task, description=f"[{number}/{self.trials}] {trial.label}", completed=0)

    def epoch_begins(self, epoch, steps):
        super().epoch_begins(epoch, steps)
        self.bar.update(self.task, total=steps, completed=0)

    def batch_ends(self, step, batch_size, logs):
        super().batch_ends(step, batch_size, logs)
        self.bar.update(self.task, completed=step)

    def state(self):
        if not getattr(self, "images", 0):
            return "compiling"
        return (
            f"epoch {self.epoch + 1}/{self.trial.epochs}  loss {self.batch_logs['loss']:.3f}  "
            f"accuracy {self.batch_logs['accuracy']:.1%}  {self.rate:,.0f} images/s  left {self.time_left}"
        )


def open_report(trials, work):
    """Returns a live report on a terminal, a plain one elsewhere; both are context managers."""
    return (LiveReport if sys.stdout.isatty() else PlainReport)(trials, work)


def format_seconds(seconds):
    """Returns `h:mm:ss` or `m:ss`."""
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{seconds:02d}" if hours else f"{minutes}:{seconds:02d}"
