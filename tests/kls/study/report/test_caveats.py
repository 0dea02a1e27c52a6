import pytest

from kls.study.methods import OutlierExposure
from kls.study.report.caveats import FEW_STEPS, caveats, caveats_of_plan

ENOUGH = {"starts_anew": True, "train_images": 1000, "batch_size": 64, "epochs": 20}
FITTING = {"accuracy_train": 0.9, "accuracy_last": 0.75}


@pytest.mark.parametrize(
    ("images", "epochs", "few"), [(639, 20, True), (640, 20, False), (64, 199, True), (64, 200, False)]
)
def test_trainings_of_fewer_than_200_whole_batches_are_named(images, epochs, few):
    found = caveats({**ENOUGH, **FITTING, "train_images": images, "epochs": epochs})
    steps = images // 64 * epochs
    assert found == ([f"only {steps} training steps, with fewer than 200 a network has hardly begun to learn"] * few)
    assert FEW_STEPS == 200


@pytest.mark.parametrize(("accuracy", "said"), [(0.69, "21 points"), (0.71, None), (0.95, None)])
def test_training_images_learned_by_heart_are_named(accuracy, said):
    found = caveats({**ENOUGH, "accuracy_train": 0.9, "accuracy_last": accuracy})
    assert len(found) == (said is not None)
    assert not said or f"accuracy is {said} higher on training images" in found[0]


def test_ood_data_that_the_network_was_trained_on_are_named():
    record = {**ENOUGH, **FITTING, "others": [["noise", "0123"], ["photos", "4567"]]}
    seen = "noise are not new to the network, which was trained on other images of them"
    assert caveats({**record, "ood": {"noise": "0123", "glyphs": "89ab"}}) == [seen]
    assert caveats({**record, "ood": {"glyphs": "89ab"}}) == []


def test_fine_tuning_needs_no_more_steps():
    assert caveats({**ENOUGH, **FITTING, "starts_anew": False, "epochs": 1}) == []


def test_a_plan_names_each_network_once(make_trial):
    short, long = [make_trial(seed=seed) for seed in range(2)], make_trial(model="resnet20v1")
    tuned = make_trial(method=OutlierExposure("noise"), parents=(long.id,))
    steps = {**dict.fromkeys(short, 12), long: 200, tuned: 12}
    only = "stripes resnet8v1: only 12 training steps, with fewer than 200 a network has hardly begun to learn."
    assert caveats_of_plan(steps) == [only]
