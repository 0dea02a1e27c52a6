"""What cannot be done with a pretrained network is said in one sentence before anything is trained."""

import keras
import numpy as np
import pytest

from kls.study.methods import Denoising, Distillation, LabelSmoothing
from kls.study.plan import PlanError

from . import my_models, pretrained


def seeded(input_shape, classes):
    base = pretrained.backbone(input_shape)
    hidden = keras.layers.Dense(5, name="hidden")
    return keras.Model(base.inputs[0], keras.layers.Dense(classes)(hidden(base.outputs[0])))


WRONG = "must be 'head', 'all' or the number of topmost layers to train. Received: fine_tune="
UNFIT = "needs a `model` with pretrained weights before its last layer. Received: "


@pytest.mark.parametrize(
    ("options", "message"),
    [
        *(({"fine_tune": value}, f"{WRONG}{value!r}") for value in (0, -1, "top", True, 2.0)),
        (
            {"fine_tune": 1000},
            "must be at most 1, the layers of the backbone of flat that can be trained. Received: 1000",
        ),
        ({"model": "resnet8v1"}, f"{UNFIT}resnet8v1, whose weights are drawn by the seed"),
        ({"model": seeded}, f"{UNFIT}seeded, where those of hidden are drawn by the seed"),
        ({"model": my_models.subclassed, "fine_tune": "all"}, f"{UNFIT}subclassed, whose last layer is not found"),
    ],
)
def test_fine_tune_says_what_it_needs(options, message, study_of_heads):
    with pytest.raises(ValueError) as raised:  # noqa: PT011
        study_of_heads(**options)
    assert str(raised.value) == f"`fine_tune` {message}"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"scores": ["odin"]}, "odin needs images, of which a head sees features. Received: fine_tune='head'"),
        (
            {"methods": [LabelSmoothing(0.9, mixing="mixup")]},
            "gamma=0.9 mixup needs images, of which a head sees features. Received: fine_tune='head'",
        ),
        (
            {"methods": [Denoising(title="denoising")]},
            "denoising needs images, of which a head sees features. Received: fine_tune='head'",
        ),
        (
            {"methods": [Distillation(models="resnet8v1")]},
            "arrays head of flat student of resnet8v1 gamma=1 seed=0: `models` must be the student's own, which is "
            "fine-tuned. Received: resnet8v1",
        ),
        (
            {"weights": "weights.h5"},
            "`weights` are those of a `model` such as 'keras.applications.NAME' or 'keras_hub:PRESET'. "
            "Received: weights='weights.h5' for model=<function flat at ",
        ),
        ({"ood": {"far": np.zeros((5, 8), np.uint8)}}, "`ood` far must"),
    ],
)
def test_what_heads_cannot_have_is_refused(options, message, study_of_heads):
    with pytest.raises(PlanError) as raised:
        study_of_heads(**options)
    assert str(raised.value).startswith(message)


@pytest.mark.parametrize(
    "options",
    [
        {"scores": ["odin"]},
        {"methods": [LabelSmoothing(0.9, mixing="mixup")]},
        {"model": pretrained.nested, "fine_tune": 1},
        {"model": pretrained.convolution, "scores": ["knn"], "features": True},
    ],
)
def test_what_images_can_have_is_taken(options, study_of_heads):
    first, *_ = study_of_heads(**{"fine_tune": "all", **options}).plan().trials
    assert first.of_features


def test_a_student_of_its_own_kind_is_taken(study_of_heads):
    head, student = study_of_heads(methods=[Distillation(models="flat")]).plan().trials
    assert student.parents == (head.id,)
    assert head.of_features
