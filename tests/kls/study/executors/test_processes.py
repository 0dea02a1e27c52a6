import csv
import json
import multiprocessing
import os
import signal
import threading
from contextlib import closing, suppress
from functools import partial
from multiprocessing.connection import Connection
from types import SimpleNamespace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kls.study import run as run_module
from kls.study.data import open_sources
from kls.study.executors import processes as processes_module
from kls.study.executors.processes import (
    RemoteReport,
    check_importable,
    check_workers,
    next_pair,
    train_side_by_side,
)
from kls.study.methods import CrossEntropy, Distillation
from kls.study.plan import Plan, PlanError
from kls.study.progress import PlainReport
from kls.study.records import WEIGHTS
from kls.study.reuse import key_of
from kls.study.run import STOPPED, Trainer, run, wanted_of
from kls.study.trial import Trial

LOGS = {"loss": 0.5, "accuracy": 0.5, "val_loss": 0.5, "val_accuracy": 0.5}


class Killed(BaseException):
    """Ends a worker as the system would."""


class ThreadProcess(threading.Thread):
    """A thread in the place of a process, with an end of the connection of its own."""

    def __init__(self, target, args, daemon, started):
        connection, *others = args
        self.connection = Connection(os.dup(connection.fileno()))
        super().__init__(target=target, args=(self.connection, *others), daemon=daemon)
        self.exitcode = None
        self.terminated = False
        started.append(self)

    def run(self):
        try:
            with suppress(EOFError, OSError):
                super().run()
        except Killed as death:
            self.exitcode = death.args[0]
        self.connection.close()

    def terminate(self):
        self.terminated = True

    def join(self):
        if not self.terminated:
            super().join()


@pytest.fixture
def processes(monkeypatch):
    """The list of what was started: threads in the place of processes."""
    started = []
    context = SimpleNamespace(Pipe=multiprocessing.Pipe, Process=partial(ThreadProcess, started=started))
    monkeypatch.setattr(processes_module.multiprocessing, "get_context", lambda method: {"spawn": context}[method])
    monkeypatch.setattr(processes_module, "limit_threads", lambda threads: None)
    monkeypatch.setattr(processes_module, "_end_with_parent", lambda: None)
    yield started
    for process in started:
        threading.Thread.join(process, 20)


def trainer_of(plan, store, data_dir):
    sources = open_sources(["stripes"], None, data_dir)
    return Trainer(plan, store, sources, wanted_of(sources))


def report_of(trials, count=2):
    return PlainReport(len(trials), dict.fromkeys(trials, 1.0), count)


def at(trial, training=True):
    """A worker that is at a trial."""
    return SimpleNamespace(trial=trial, training=training, key=key_of(trial, "none"))


def idle_after(trial):
    """A worker that has done with a trial."""
    return SimpleNamespace(trial=None, training=True, key=key_of(trial, "none"))


def next_of(pool, waiting, unfinished, may_start=False):
    """Returns `next_pair` of trials that are each trained alone, without its group."""
    found = next_pair(pool, [(trial,) for trial in waiting], unfinished, may_start)
    return found and (found[0], *found[1])


class TestNextPair:
    """Who is given what."""

    @pytest.fixture
    def trials(self, make_trial):
        return [make_trial(gamma=gamma, model=model) for model in ("a", "b") for gamma in (1.0, 0.9)]

    def test_a_worker_stays_with_the_network_that_it_has_compiled(self, trials):
        idle = idle_after(trials[2])
        assert next_of([idle, at(trials[0])], trials[1:], set()) == (idle, trials[2])

    def test_a_new_worker_takes_a_network_that_no_other_is_at(self, trials):
        assert next_of([at(trials[0])], trials[1:], set(), may_start=True) == (None, trials[2])

    def test_what_shares_no_compiled_model_comes_in_the_order_of_the_plan(self, trials, make_trial):
        student = make_trial(method=Distillation(), parents=("0",))
        idle = idle_after(student)
        assert next_of([at(student), idle], [student, trials[0]], set()) == (idle, student)

    def test_it_helps_with_a_network_of_another_when_there_is_no_other(self, trials):
        idle = idle_after(trials[2])
        assert next_of([at(trials[0]), idle], [trials[1]], set()) == (idle, trials[1])

    def test_nobody_is_started_while_somebody_is_idle(self, trials):
        idle = idle_after(trials[2])
        assert next_of([idle], trials[:1], set(), may_start=True) == (idle, trials[0])

    def test_trials_of_one_kind_keep_their_order(self, trials):
        assert next_of([], trials, set(), may_start=True) == (None, trials[0])

    def test_nothing_is_handed_out_where_nobody_is_idle_or_nothing_waits(self, trials):
        assert next_of([at(trials[0])], trials[1:], set()) is None
        assert next_of([idle_after(trials[0])], [], set()) is None

    def test_a_child_waits_for_its_parents(self, make_trial):
        teacher = make_trial()
        student = make_trial(method=Distillation(), parents=(teacher.id,))
        assert next_of([at(teacher)], [student], {teacher.id, student.id}, may_start=True) is None
        assert next_of([], [student], {student.id}, may_start=True) == (None, student)

    def test_a_student_waits_while_another_asks_their_offline_teacher(self, make_trial):
        first, second = (
            make_trial(method=Distillation(offline=True, temperature=temperature), parents=("0",))
            for temperature in (1.0, 2.0)
        )
        online = make_trial(method=Distillation(), parents=("0",))
        assert next_of([at(first, training=False)], [second], set(), may_start=True) is None
        assert next_of([at(first, training=False)], [second, online], set(), may_start=True) == (None, online)
        assert next_of([at(first)], [second], set(), may_start=True) == (None, second)


@settings(max_examples=20)
@given(st.data())
def test_each_trial_is_handed_out_once_and_after_its_parents(data):
    size = data.draw(st.integers(1, 8))
    trials = []
    for index in range(size):
        parents = data.draw(st.lists(st.sampled_from(trials), max_size=2, unique=True)) if trials else []
        trials.append(
            Trial(
                **{"dataset": "d", "image_size": "8", "data": "", "epochs": 1},
                model=data.draw(st.sampled_from(["a", "b"])),
                seed=index,
                method=Distillation(offline=data.draw(st.booleans())) if parents else CrossEntropy(),
                parents=tuple(parent.id for parent in parents),
            )
        )
    many = data.draw(st.integers(1, 3))
    pool, waiting, unfinished, handed_out = [], list(trials), {trial.id for trial in trials}, []
    while unfinished:
        while pair := next_of(pool, waiting, unfinished, may_start=len(pool) < many):
            worker, trial = pair
            if worker is None:
                worker = SimpleNamespace()
                pool.append(worker)
            else:
                assert worker.trial is None
            assert unfinished.isdisjoint(trial.parents)
            waiting.remove(trial)
            handed_out.append(trial)
            worker.trial, worker.key, worker.training = trial, key_of(trial, "none"), False
        busy = data.draw(st.sampled_from([worker for worker in pool if worker.trial]))
        if busy.training:
            unfinished.remove(busy.trial.id)
            busy.trial = None
        busy.training = True
    assert sorted(handed_out, key=trials.index) == trials


def alone(train):
    """Returns a function of a group of one trial."""
    return lambda group, report: [train(*group, report)]


class TestTrainSideBySide:
    """The whole but for the processes, which are threads here."""

    RECORD = "record"

    @pytest.fixture
    def trials(self, make_trial):
        return [make_trial(gamma=gamma) for gamma in (1.0, 0.9, 0.8, 0.7)]

    def train(self, trials, function, count=2):
        report = report_of(trials, count)
        ended = {}
        groups = [(trial,) for trial in trials]
        with closing(train_side_by_side(groups, alone(function), report, count)) as trained:
            for trial, record, reason in trained:
                report.trial_ends(trial)
                ended[trial.method.gamma] = record or reason
        return ended

    def test_all_are_trained_by_two_and_told_of(self, trials, processes, capsys):
        together = threading.Barrier(2, timeout=20)

        def train(trial, report):
            together.wait()
            report.epoch_begins(trial, 0, steps=6)
            report.batch_ends(trial, 6, LOGS)
            report.epoch_ends(trial, 0, LOGS)
            return {"gamma": trial.method.gamma}

        assert self.train(trials, train) == {trial.method.gamma: {"gamma": trial.method.gamma} for trial in trials}
        assert len(processes) == 2
        assert all(process.terminated for process in processes)
        lines = capsys.readouterr().out.splitlines()
        assert sorted(line.split("  ")[0] for line in lines) == [
            f"[{number}/4] {trial.label}" for number, trial in enumerate(trials, start=1)
        ]

    def test_no_more_are_started_than_there_are_trials(self, trials, processes):
        assert self.train(trials[:1], lambda trial, report: self.RECORD, count=8) == {1.0: self.RECORD}
        assert len(processes) == 1

    def test_a_failure_is_that_of_one_trial(self, trials, processes):
        def train(trial, report):
            if trial.method.gamma == 0.9:
                raise FloatingPointError("loss became nan")
            return self.RECORD

        ended = self.train(trials, train)
        assert ended.pop(0.9) == "FloatingPointError: loss became nan"
        assert ended == dict.fromkeys((1.0, 0.8, 0.7), self.RECORD)
        assert len(processes) <= 2

    @pytest.mark.parametrize(
        ("code", "reason"),
        [
            (-signal.SIGKILL, "WorkerError: its process was killed, as happens when memory runs out"),
            (3, "WorkerError: its process ended with exit code 3"),
        ],
    )
    def test_a_worker_that_dies_takes_one_trial_with_it_and_is_replaced(self, trials, processes, code, reason):
        def train(trial, report):
            if trial.method.gamma == 1.0:
                raise Killed(code)
            return self.RECORD

        ended = self.train(trials, train, count=1)
        assert ended == {1.0: reason, **dict.fromkeys((0.9, 0.8, 0.7), self.RECORD)}
        assert len(processes) == 2

    def test_a_student_begins_after_its_teacher_also_if_that_failed(self, make_trial, processes):
        teacher = make_trial(gamma=0.9)
        student = make_trial(method=Distillation(), parents=(teacher.id,))
        order = []

        def train(trial, report):
            order.append(trial.method.gamma)
            raise ValueError(f"no {trial.method.gamma}")

        assert self.train([teacher, student], train) == {0.9: "ValueError: no 0.9", 1.0: "ValueError: no 1.0"}
        assert order == [0.9, 1.0]

    def test_an_interrupt_ends_all_processes(self, trials, processes):
        go_on = threading.Event()

        def train(trial, report):
            report.epoch_begins(trial, 0, steps=6)
            go_on.wait(20)
            return {}

        class Interrupted(PlainReport):
            def epoch_begins(self, trial, epoch, steps):
                if len(self.under_way) == 2:
                    raise KeyboardInterrupt

        report = Interrupted(4, dict.fromkeys(trials, 1.0), 2)
        trained = train_side_by_side([(trial,) for trial in trials], alone(train), report, 2)
        with pytest.raises(KeyboardInterrupt):
            next(trained)
        go_on.set()
        assert [process.terminated for process in processes] == [True, True]

    def test_late_reports_of_a_failed_trial_are_not_shown_for_the_next(self, trials, processes, capsys):
        first, second = trials[:2]

        def train(trial, report):
            if trial == first:
                raise ValueError
            report.epoch_begins(trial, 0, steps=6)
            report.epoch_ends(first, 0, LOGS)
            return self.RECORD

        self.train([first, second], train, count=1)
        assert capsys.readouterr().out == ""


def test_trials_of_a_group_end_together(make_trial, processes):
    first, second, third = (make_trial(gamma=gamma) for gamma in (1.0, 0.9, 0.8))

    def train(group, report):
        assert group == (first, second, third)
        return [{"loss": 1.0}, ValueError("no second"), {"loss": 3.0}]

    report = report_of([first, second, third])
    with closing(train_side_by_side([(first, second, third)], train, report, 2)) as trained:
        assert list(trained) == [
            (first, {"loss": 1.0}, None),
            (second, None, "ValueError: no second"),
            (third, {"loss": 3.0}, None),
        ]


def test_ctrl_c_names_all_trials_that_it_stopped(make_trial, store, data_dir, monkeypatch, capsys):
    plan = Plan("study", tuple(make_trial(gamma=gamma) for gamma in (1.0, 0.9, 0.8)))

    def interrupted(groups, train, report, workers):
        for group in groups[:workers]:
            report.group_begins(group)
        raise KeyboardInterrupt
        yield

    monkeypatch.setattr(run_module, "train_side_by_side", interrupted)
    assert run(trainer_of(plan, store, data_dir), workers=2) == STOPPED
    assert "Stopped in trials 1, 2 of 3. Finished epochs are kept" in capsys.readouterr().out


def test_a_worker_has_its_threads_before_its_first_trial(monkeypatch):
    class EndedError(Exception):
        pass

    class Connection:
        def recv(self):
            raise EndedError

    happened = []
    monkeypatch.setattr(processes_module, "_end_with_parent", lambda: None)
    monkeypatch.setattr(processes_module, "limit_threads", happened.append)
    with pytest.raises(EndedError):
        processes_module.serve(Connection(), train=None, threads=3)
    assert happened == [3]


def test_batches_are_told_at_intervals_and_the_last_of_an_epoch(make_trial, monkeypatch):
    sent, now = [], [0.0]
    monkeypatch.setattr("time.monotonic", lambda: now[0])
    report, trial = RemoteReport(SimpleNamespace(send=sent.append)), make_trial()
    report.epoch_begins(trial, 0, steps=9)
    for step in range(1, 10):
        now[0] += 0.06
        report.batch_ends(trial, step, {"loss": step})
    assert sent[0] == (trial.id, "epoch_begins", (0, 9))
    assert [content[0] for _, what, content in sent if what == "batch_ends"] == [1, 5, 9]


class TestCheckWorkers:
    def test_one_is_always_right(self):
        check_workers(1, "mirrored")

    def test_two_on_a_processor(self, monkeypatch):
        monkeypatch.setattr(processes_module, "has_accelerator", lambda: False)
        check_workers(2, "none")

    def test_not_with_a_strategy(self):
        with pytest.raises(PlanError, match=r"`workers` must be 1 with strategy='mirrored', .* Received: 2\."):
            check_workers(2, "mirrored")

    def test_not_with_an_accelerator(self, monkeypatch):
        monkeypatch.setattr(processes_module, "has_accelerator", lambda: True)
        with pytest.raises(PlanError, match=r"`workers` must be 1 where there is an accelerator, .* Received: 3\."):
            check_workers(3, "none")


def test_a_teacher_its_student_and_a_failing_trial_in_real_processes(make_trial, store, data_dir, capsys):
    teacher = make_trial(gamma=1.0, epochs=1)
    method = Distillation(weight=0.5, temperature=3.0)
    student = make_trial(method=method, epochs=1, parents=(teacher.id,))
    failing = make_trial(model="unheard of", epochs=1)
    plan = Plan("study", (teacher, student, failing))
    assert run(trainer_of(plan, store, data_dir), workers=2) == 1
    assert store.failure(failing).startswith("ValueError: `name` must be a registered model")
    with open(store.out / "results.csv") as file:
        assert {row["trial"] for row in csv.DictReader(file)} == {teacher.id, student.id}
    for trial in (teacher, student):
        left = {path.name for path in store.directory(trial).iterdir()}
        assert left == {"trial.json", "record.json", "history.csv", "checkpoint", "logits", WEIGHTS}
        assert json.loads((store.directory(trial) / "record.json").read_text())["accuracy_best"] > 0
    lines = [line for line in capsys.readouterr().out.splitlines() if "epoch 1/1" in line]
    assert [line[:5] for line in lines] == ["[1/3]", "[2/3]"]
    assert multiprocessing.active_children() == []


class TestWhatWorkersCanImport:
    @pytest.mark.parametrize("thing", [json.dumps, Trial, partial(json.dumps, indent=1), SimpleNamespace()])
    def test_what_can_be_pickled_is_taken(self, thing):
        check_importable(thing, "callbacks")

    @pytest.mark.parametrize(
        ("thing", "named"),
        [
            (lambda trial: [], r"TestWhat.*<lambda> of .*test_processes"),
            (partial(json.dumps, default=lambda value: 0), "dumps of json"),
            (SimpleNamespace(lock=threading.Lock()), "SimpleNamespace of types"),
        ],
    )
    def test_anything_else_is_named_and_refused(self, thing, named):
        with pytest.raises(PlanError, match=f"`callbacks` must be importable .* Received: {named}"):
            check_importable(thing, "callbacks")
