import json
from dataclasses import fields, replace

import pytest

from kls.study.methods import CrossEntropy, Distillation, LabelSmoothing, OutlierExposure
from kls.study.trial import Trial, recipe_id

TRIAL = Trial("digits", "8", "0123", "resnet8v1", LabelSmoothing(0.9), 200, ((80, 0.1), (120, 0.01)))
OTHERS = {
    "dataset": "glyphs", "image_size": "16", "data": "4567", "model": "resnet20v1", "method": LabelSmoothing(0.8),
    "epochs": 100, "schedule": ((80, 0.1),), "architecture": "0123", "batch_size": 32, "optimizer": "nesterov",
    "learning_rate": 0.1, "weight_decay": 5e-4, "compile": "my.lion 0123", "shift": 0.0, "flip": False,
    "fill": "reflect", "normalisation": "scale", "own_preprocessing": True,
    "statistics": 0.2, "seed": 1, "precision": "mixed_bfloat16",
    "backend": "jax", "parents": ("abc",), "fine_tune": "head", "head": "def", "others": (("noise", "89ab"),),
}  # fmt: skip


def test_the_id_is_the_same_in_every_process_and_version():
    assert TRIAL.id == "1861f2601dec"


def test_equal_recipes_have_equal_ids():
    assert replace(TRIAL).id == TRIAL.id
    assert replace(TRIAL, method=LabelSmoothing(1)).id == replace(TRIAL, method=CrossEntropy()).id


@pytest.mark.parametrize("name", [field.name for field in fields(Trial)])
def test_every_part_of_the_recipe_changes_the_id(name):
    assert replace(TRIAL, **{name: OTHERS[name]}).id != TRIAL.id


def test_a_title_and_what_a_method_changes_of_the_trial_are_in_no_id():
    changed = LabelSmoothing(0.9, title="mine", epochs=200, learning_rate=1e-3, schedule=TRIAL.schedule)
    assert replace(TRIAL, method=changed).id == TRIAL.id
    assert replace(TRIAL, method=Distillation(weight=1)).id == replace(TRIAL, method=Distillation(weight=1.0)).id


def test_an_optimizer_of_ones_own_takes_the_place_of_the_studys():
    own = replace(TRIAL, compile="lion 0123")
    assert replace(own, optimizer="momentum", learning_rate=0.5, schedule="cosine").id == own.id


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("optimizer", "sgd", "`optimizer` must be one of"),
        ("schedule", "step", "`schedule` must be 'cosine', or pairs"),
        ("schedule", ((80, 0.01), (40, 0.1)), "`schedule` must have its epochs in ascending order"),
        ("schedule", ((8, -1.0),), "`schedule` must be 'cosine', or pairs of an epoch and a factor above 0"),
        ("shift", 0.7, "`shift` must be a number in"),
        ("flip", "yes", "`flip` must be"),
        ("weight_decay", -1, "`weight_decay` must be a number in"),
        ("learning_rate", 0, "`learning_rate` must be a number in"),
        ("batch_size", 0, "`batch_size` must be a whole number"),
        ("seed", -1, "`seed` must be a whole number"),
        ("precision", "float16", "`precision` must be one of"),
        ("normalisation", "all", "`normalisation` must be one of"),
    ],
)
def test_what_no_training_can_have_is_refused(field, value, message):
    with pytest.raises(ValueError, match=message):
        replace(TRIAL, **{field: value})


def test_a_recipe_from_json_has_the_id_too():
    student = replace(TRIAL, method=Distillation(OutlierExposure("noise+photos"), ("resnet20v1",)))
    assert recipe_id(json.loads(json.dumps(student.recipe))) == student.id


def test_a_trial_is_called_by_what_is_done_to_it():
    exposure = OutlierExposure(("noise", "photos"))
    labels = {
        "gamma=0.9": TRIAL.method,
        "exposed to noise+photos": exposure,
        "student of resnet8v1 exposed to noise+photos": Distillation(exposure, "resnet8v1"),
        "on-ldl of resnet20v1": Distillation(models=("resnet20v1",), title="on-ldl"),
        "on-ldl of 2 teachers": Distillation(models="resnet20v1+resnet8v1", title="on-ldl"),
        "vanilla": CrossEntropy(title="vanilla"),
    }
    for label, method in labels.items():
        assert replace(TRIAL, method=method).label == f"digits resnet8v1 {label} seed=0"


@pytest.mark.parametrize(("epoch", "factor"), [(0, 1.0), (79, 1.0), (80, 0.1), (119, 0.1), (120, 0.01), (199, 0.01)])
def test_the_rate_changes_when_the_named_number_of_epochs_is_over(epoch, factor):
    assert TRIAL.rate_factor(epoch) == factor
