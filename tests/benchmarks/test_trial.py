from dataclasses import fields, replace

import pytest

from benchmarks.runner.trial import Trial

TRIAL = Trial("digits", "8", "0123", "resnet8v1", 0.9, ((80, 0.1), (120, 0.01)), 200)
OTHERS = {
    "dataset": "glyphs", "image_size": "16", "data": "4567", "model": "resnet20v1", "loss": "focal", "gamma": 0.8,
    "optimizer": "sgd", "learning_rate": 0.1, "schedule": ((80, 0.1),), "epochs": 100, "batch_size": 32, "shift": 0.0,
    "flip": False, "fill": "reflect", "subtract_mean": False, "seed": 1, "precision": "mixed_bfloat16",
    "backend": "jax", "parents": ("abc",), "outliers": ("noise",), "outlier_data": ("89ab",), "outlier_batch_size": 256,
    "outlier_weight": 0.5, "teacher": "wrn40-2 gamma=1", "teacher_weight": 1.0, "temperature": 2.0,
    "distillation": "multi", "offline": True, "teacher_dropout": 0.2, "dropout": 0.2, "mixing": "ricap",
    "weight_decay": 5e-4, "window": 10, "soft_labels": "cdef", "noise": 0.3, "noise_sides": (10, 14), "focal": 1.0,
    "std_weight": 5.0, "configuration": "on-mt-ldl+", "statistics": 0.2,
}  # fmt: skip


def test_equal_recipes_have_equal_ids():
    assert replace(TRIAL).id == TRIAL.id


def test_the_id_is_the_same_in_every_process_and_version():
    assert TRIAL.id == "dcc92deb32e0"


def test_a_trial_is_called_by_what_is_done_to_it():
    exposed = replace(TRIAL, loss="outlier_exposure", outliers=("noise", "photos"))
    student = replace(TRIAL, loss="distillation", teacher=f"{exposed.model} {exposed.method}")
    assert TRIAL.label == "digits resnet8v1 gamma=0.9 seed=0"
    assert exposed.label == "digits resnet8v1 exposed to noise+photos seed=0"
    assert student.method == "student of resnet8v1 exposed to noise+photos"
    named = replace(student, configuration="on-ldl", teacher="resnet20v1")
    assert named.method == "on-ldl of resnet20v1"
    assert replace(TRIAL, configuration="vanilla").method == "vanilla"


def test_whole_and_floating_numbers_are_one_recipe():
    assert replace(TRIAL, gamma=1).id == replace(TRIAL, gamma=1.0).id


@pytest.mark.parametrize("name", [field.name for field in fields(Trial)])
def test_every_part_of_the_recipe_changes_the_id(name):
    assert replace(TRIAL, **{name: OTHERS[name]}).id != TRIAL.id


@pytest.mark.parametrize(("epoch", "factor"), [(0, 1.0), (79, 1.0), (80, 0.1), (119, 0.1), (120, 0.01), (199, 0.01)])
def test_the_rate_changes_when_the_named_number_of_epochs_is_over(epoch, factor):
    assert TRIAL.rate_factor(epoch) == factor
