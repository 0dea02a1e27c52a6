from types import SimpleNamespace

import pytest

from kls.study.methods import CrossEntropy, Distillation, LabelSmoothing, OutlierExposure
from kls.study.plan import Plan, PlanError, scale_schedule, with_parents

SCHEDULE = ((80, 1e-1), (120, 1e-2), (160, 1e-3), (180, 0.5e-3))


def test_a_recipe_asked_for_twice_runs_once(make_trial):
    plan = Plan("study", (make_trial(), make_trial(gamma=1.0), make_trial()))
    assert [trial.method.gamma for trial in plan.trials] == [0.9, 1.0]


def test_a_teacher_must_come_before_its_student(make_trial):
    teacher = make_trial(gamma=1.0)
    student = make_trial(parents=(teacher.id,))
    assert Plan("study", (teacher, student)).trials == (teacher, student)
    with pytest.raises(PlanError, match=f"do not come before it: {teacher.id}"):
        Plan("study", (student, teacher))


def test_a_trial_knows_the_one_that_it_starts_from(make_trial):
    teacher, other = make_trial(gamma=1.0), make_trial()
    student = make_trial(parents=(teacher.id,), seed=1)
    plan = Plan("study", (other, teacher, student))
    assert plan.parents(student) == (teacher,)
    assert plan.parents(teacher) == ()


def test_milestones_scale_with_the_epochs():
    assert scale_schedule(SCHEDULE, 200, 200) == SCHEDULE
    assert scale_schedule(SCHEDULE, 20, 200) == ((8, 1e-1), (12, 1e-2), (16, 1e-3), (18, 0.5e-3))


def test_the_first_epoch_keeps_the_first_rate_however_few_there_are():
    assert scale_schedule(SCHEDULE, 1, 200) == ((1, 1e-1), (1, 1e-2), (1, 1e-3), (1, 0.5e-3))


def test_a_run_stopped_halfway_keeps_its_milestones():
    assert scale_schedule(SCHEDULE, 100, 100) == SCHEDULE


class TestWithParents:
    def test_what_a_method_starts_from_comes_before_it(self, make_trial):
        noise = SimpleNamespace(fingerprint="89ab")
        exposure = OutlierExposure("noise", epochs=1, learning_rate=1e-4)
        found = with_parents(make_trial(method=Distillation(exposure, "wrn10-1")), {("stripes", "noise"): noise})
        assert [(trial.model, trial.method.label) for trial in found] == [
            ("wrn10-1", "gamma=1"),
            ("wrn10-1", "exposed to noise"),
            ("resnet8v1", "student of wrn10-1 exposed to noise"),
        ]
        assert [trial.parents for trial in found] == [(), (found[0].id,), (found[1].id,)]
        assert [trial.others for trial in found] == [(), (("noise", "89ab"),), ()]
        assert [(trial.epochs, trial.learning_rate) for trial in found] == [(2, 1e-3), (1, 1e-4), (2, 1e-3)]

    def test_a_method_without_parents_is_the_trial_itself(self, make_trial):
        trial = make_trial(method=LabelSmoothing(0.9))
        assert with_parents(trial) == [trial]

    def test_milestones_follow_a_methods_own_epochs(self, make_trial):
        trial = make_trial(method=CrossEntropy(epochs=20), epochs=200, schedule=SCHEDULE)
        assert with_parents(trial)[0].schedule == scale_schedule(SCHEDULE, 20, 200)
        cosine = make_trial(method=CrossEntropy(epochs=20), epochs=200, schedule="cosine")
        assert with_parents(cosine)[0].schedule == "cosine"
