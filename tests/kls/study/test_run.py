import csv
from dataclasses import replace

import pytest

from kls.study import run as run_module
from kls.study.data import open_sources
from kls.study.methods import Distillation
from kls.study.plan import Plan, PlanError
from kls.study.progress import Clock, LiveReport, PlainReport, format_seconds
from kls.study.run import STOPPED, Trainer, check_parents, wanted_of
from kls.study.run import run as run_trainer


@pytest.fixture
def plan(make_trial):
    return Plan("study", tuple(make_trial(gamma=gamma) for gamma in (1.0, 0.9, 0.8)))


def run(plan, store, data_dir):
    sources = open_sources(["stripes"], None, data_dir)
    return run_trainer(Trainer(plan, store, sources, wanted_of(sources)))


def finished(store):
    path = store.out / "results.csv"
    if not path.exists():
        return []
    with open(path) as file:
        return [float(row["gamma"]) for row in csv.DictReader(file)]


def test_finished_trials_are_not_trained_again(plan, store, data_dir, trainer, capsys):
    asked = trainer()
    assert run(plan, store, data_dir) == 0
    (store.out / "results.csv").unlink()
    assert run(plan, store, data_dir) == 0
    assert asked == finished(store) == [1.0, 0.9, 0.8]
    assert "3 of 3 trials are finished already" in capsys.readouterr().out


def test_a_failed_trial_is_recorded_and_the_others_go_on(plan, store, data_dir, trainer, capsys):
    def outcome(gamma):
        if gamma == 0.9:
            raise FloatingPointError("loss became nan in epoch 3")

    asked = trainer(outcome)
    assert run(plan, store, data_dir) == 1
    assert asked == [1.0, 0.9, 0.8]
    assert finished(store) == [1.0, 0.8]
    assert store.failure(plan.trials[1]) == "FloatingPointError: loss became nan in epoch 3"
    assert store.record(plan.trials[1]) is None
    assert "FAILED  FloatingPointError: loss became nan in epoch 3" in capsys.readouterr().out


def test_a_failed_trial_is_tried_again(plan, store, data_dir, trainer):
    def out_of_memory(gamma):
        raise MemoryError("no room")

    trainer(out_of_memory)
    assert run(plan, store, data_dir) == 1
    asked = trainer()
    assert run(plan, store, data_dir) == 0
    assert asked == [1.0, 0.9, 0.8]
    assert not any(store.failure(trial) for trial in plan.trials)


def test_ctrl_c_keeps_what_is_finished_and_says_how_to_go_on(plan, store, data_dir, trainer, capsys):
    def outcome(gamma):
        if gamma == 0.9:
            raise KeyboardInterrupt

    asked = trainer(outcome)
    assert run(plan, store, data_dir) == STOPPED == 130
    assert asked == [1.0, 0.9]
    assert finished(store) == [1.0]
    out = capsys.readouterr().out
    assert "Stopped in trial 2 of 3" in out
    assert "run the same command again to go on" in out


class TestParents:
    @pytest.fixture
    def pair(self, make_trial):
        teacher = make_trial(gamma=1.0)
        return teacher, make_trial(method=Distillation(), parents=(teacher.id,))

    def test_a_parent_reaches_the_training_of_its_child(self, pair, store, data_dir, monkeypatch, write_results):
        seen = []

        def train(training, *_):
            seen.append((training.trial, training.parent_trials))
            return write_results(training.store, training.trial)

        monkeypatch.setattr(run_module, "train", train)
        assert run(Plan("study", pair), store, data_dir) == 0
        assert seen == [(pair[0], ()), (pair[1], (pair[0],))]

    @pytest.mark.parametrize(
        ("name", "damage", "reason"),
        [
            ("weights.weights.h5", lambda path: path.unlink(), "is missing"),
            ("weights.weights.h5", lambda path: path.write_bytes(path.read_bytes()[:-1]), "is damaged: it was changed"),
            ("record.json", lambda path: path.write_text("{}"), r"is damaged \("),
        ],
    )
    def test_a_damaged_teacher_is_named_before_any_training(
        self, pair, store, data_dir, trainer, finish, name, damage, reason
    ):
        asked = trainer()
        finish(pair[0])
        damage(store.directory(pair[0]) / name)
        expected = rf"seed=0 cannot start from stripes resnet8v1 gamma=1 seed=0: .*{name} {reason}"
        with pytest.raises(PlanError, match=expected):
            run(Plan("study", pair), store, data_dir)
        assert asked == []

    @pytest.mark.parametrize(("what", "other"), [("classes", 7), ("image_shape", (12, 12, 3))])
    def test_a_teacher_of_other_classes_or_images_is_refused(self, pair, store, stripes, make_trial, what, other):
        class Other:
            classes, image_shape = stripes.classes, stripes.image_shape

        setattr(Other, what, other)
        teacher = make_trial(dataset="other", gamma=1.0)
        student = replace(pair[1], parents=(teacher.id,))
        with pytest.raises(PlanError, match=f"its {what.replace('_', ' ')} would have to be .* Received: "):
            check_parents(Plan("study", (teacher, student)), store, {"stripes": stripes, "other": Other})


class FakeTime:
    def __init__(self, monkeypatch):
        self.now = 0.0
        monkeypatch.setattr("time.monotonic", lambda: self.now)


def test_a_plain_line_per_epoch_holds_all_that_one_wants_to_know(make_trial, capsys, monkeypatch):
    clock = FakeTime(monkeypatch)
    trial = make_trial()
    report = PlainReport(trials=3, work={trial: 100.0})
    report.group_begins([trial])
    report.epoch_begins(trial, 0, steps=6)
    clock.now = 4.0
    report.batch_ends(trial, 6, {})
    clock.now = 10.0
    report.epoch_ends(trial, 0, {"loss": 0.5, "accuracy": 0.875, "val_accuracy": 0.75})
    assert capsys.readouterr().out == (
        "[3/3] stripes resnet8v1 gamma=0.9 seed=0  epoch 1/2  loss 0.5000  accuracy 87.50%  validation 75.00%  "
        "24 images/s  left 0:10\n"
    )


def test_the_live_line_follows_batches_and_epochs(make_trial, capsys, monkeypatch):
    clock = FakeTime(monkeypatch)
    trial = make_trial()
    with LiveReport(trials=4, work={make_trial(seed=1): 100.0, trial: 100.0}) as report:
        report.group_begins([make_trial(seed=1)])
        report.trial_ends(make_trial(seed=1))
        report.group_begins([trial])
        shown = report.under_way[trial]
        assert report.state(shown) == "preparing"
        report.epoch_begins(trial, 0, steps=6)
        clock.now = 2.0
        report.batch_ends(trial, 3, {"loss": 0.5, "accuracy": 0.75})
        assert report.state(shown, with_rate=False).endswith("validation –  left ?")
        report.batch_ends(trial, 2, {"loss": 9.0, "accuracy": 0.0})
        assert report.state(shown) == "epoch 1/2  loss 0.500  accuracy 75.0%  validation –  24 images/s  left ?"
        clock.now = 10.0
        report.epoch_ends(trial, 0, {"loss": 0.4, "accuracy": 0.8, "val_accuracy": 0.7})
        assert report.state(shown).endswith("validation 70.0%  24 images/s  left 0:10")
        (task,) = report.bar.tasks
        assert (task.description, task.completed, task.total) == ("[4/4] stripes resnet8v1 gamma=0.9 seed=0", 2, 6)
        report.trial_ends(trial)
        assert report.bar.tasks == []
    assert "epoch 1/2  loss 0.4000" not in capsys.readouterr().out


class TestClock:
    @pytest.fixture
    def trials(self, make_trial):
        return [make_trial(epochs=3, seed=seed) for seed in range(3)]

    def test_the_time_left_tells_compiling_from_training(self, trials, monkeypatch):
        fake = FakeTime(monkeypatch)
        first, second, _ = trials
        clock = Clock({first: 10.0, second: 10.0})
        assert clock.time_left == "?"
        clock.trial_begins(first)
        fake.now = 20.0
        clock.epoch_begins(first, 0)
        fake.now = 25.0
        clock.epoch_ends(first)
        clock.epoch_begins(first, 1)
        fake.now = 30.0
        clock.epoch_ends(first)
        assert clock.time_left == "0:40"  # 40 units of work at 0.5 s, and 20 s to compile the one trial that waits

    def test_resumed_epochs_and_failed_trials_leave_no_work(self, trials, monkeypatch):
        FakeTime(monkeypatch)
        first, second, _ = trials
        clock = Clock({first: 10.0, second: 10.0})
        clock.trial_begins(first)
        clock.trial_ends(first)
        clock.trial_begins(second)
        assert clock.work == 30.0
        clock.epoch_begins(second, 2)
        assert clock.work == 10.0

    def test_workers_share_what_is_left_while_there_is_something_for_each(self, trials, monkeypatch):
        fake = FakeTime(monkeypatch)
        first, second, third = trials
        clock = Clock(dict.fromkeys(trials, 10.0), workers=2)
        for trial in (first, second):
            clock.trial_begins(trial)
            clock.epoch_begins(trial, 0)
        fake.now = 5.0
        for trial in (first, second):
            clock.epoch_ends(trial)
        assert clock.time_left == "0:18"  # 20 + 20 + 30 units at 0.5 s, by two
        clock.trial_ends(first)
        clock.trial_begins(third)
        clock.trial_ends(third)
        assert clock.time_left == "0:10"  # 20 units, by one


@pytest.mark.parametrize(("seconds", "text"), [(0, "0:00"), (59.6, "1:00"), (3599, "59:59"), (3661, "1:01:01")])
def test_seconds_for_people(seconds, text):
    assert format_seconds(seconds) == text
