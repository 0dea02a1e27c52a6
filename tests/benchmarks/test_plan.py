import pytest

from benchmarks.runner.plan import Plan, PlanError, scale_schedule

SCHEDULE = ((80, 1e-1), (120, 1e-2), (160, 1e-3), (180, 0.5e-3))


def test_a_recipe_asked_for_twice_runs_once(make_trial):
    plan = Plan("study", (make_trial(), make_trial(gamma=1.0), make_trial()))
    assert [trial.gamma for trial in plan.trials] == [0.9, 1.0]


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
    assert plan.parents(student) == [teacher]
    assert plan.parents(teacher) == []


def test_milestones_scale_with_the_epochs():
    assert scale_schedule(SCHEDULE, 200, 200) == SCHEDULE
    assert scale_schedule(SCHEDULE, 20, 200) == ((8, 1e-1), (12, 1e-2), (16, 1e-3), (18, 0.5e-3))


def test_the_first_epoch_keeps_the_first_rate_however_few_there_are():
    assert scale_schedule(SCHEDULE, 1, 200) == ((1, 1e-1), (1, 1e-2), (1, 1e-3), (1, 0.5e-3))


def test_a_run_stopped_halfway_keeps_its_milestones():
    assert scale_schedule(SCHEDULE, 100, 100) == SCHEDULE
