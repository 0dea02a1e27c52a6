import keras
import numpy as np
import pytest

from kls.calibration import SCALERS
from kls.guarding.layers import DecisionLayer, ScalerLayer, ScoreLayer
from kls.ood import scores
from kls.utils.feature_extractor import Outputs

RNG = np.random.default_rng(0)
FEATURES = np.maximum(RNG.normal(size=(2, 80, 6)), 0).astype("float32")
HEAD = RNG.normal(size=(6, 4)).astype("float32"), RNG.normal(size=4).astype("float32")
LABELS = np.arange(80) % 4
TRAIN, TEST = (Outputs(part @ HEAD[0] + HEAD[1], LABELS, part, head=HEAD) for part in FEATURES)
SETTINGS = [
    *(scores.get(name) for name in scores.SCORES if name != "odin"),
    *(scores.Energy(3.0), scores.GEN(0.3, top=2), scores.KNN(k=1), scores.ViM(2), scores.ASH(50), scores.ReAct(70)),
]


def fitted(score):
    if score.uses_training_data:
        score.fit_outputs(TRAIN)
    return score


@pytest.mark.parametrize("score", SETTINGS, ids=repr)
def test_tensors_give_what_arrays_give_to_float32(score):
    found = ScoreLayer(fitted(score)).of_arrays(TEST, batch_size=32)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, score.of_outputs(TEST), rtol=1e-5, atol=3e-6)


@pytest.mark.parametrize("score", SETTINGS, ids=repr)
def test_a_layer_made_from_its_config_and_weights_is_the_same(score):
    layer = ScoreLayer(fitted(score), name="mine")
    again = ScoreLayer.from_config(layer.get_config())
    again.set_weights(layer.get_weights())
    assert again.get_config() == layer.get_config()
    np.testing.assert_array_equal(again.of_arrays(TEST, 80), layer.of_arrays(TEST, 80))


def test_the_nearest_neighbour_of_a_training_sample_is_itself():
    layer = ScoreLayer(fitted(scores.KNN(k=1)))
    np.testing.assert_allclose(layer.of_arrays(TRAIN, 80), 0, atol=1e-7)  # not by 2 - 2 cos, which ends at 3e-4


@pytest.mark.parametrize("logits", [[[0.0, -np.inf, 1.0]], [[1e4, 0.0, 0.0]], [[-1e30, 0.0, 1e30]]])
@pytest.mark.parametrize("score", [scores.MSP(), scores.Energy(), scores.Entropy()], ids=repr)
def test_extreme_logits_have_the_scores_of_arrays(score, logits):
    found = ScoreLayer(score).of_arrays(Outputs(np.array(logits, "float32")), 1)
    np.testing.assert_allclose(found, score(np.array(logits)), rtol=1e-6, atol=1e-6)


def test_features_that_overflow_have_no_score():
    huge = Outputs(np.zeros((1, 4), "float32"), None, np.full((1, 6), 3e38, "float32"), head=HEAD)
    with pytest.raises(ValueError, match="Mahalanobis has no score for these features or logits"):
        ScoreLayer(fitted(scores.Mahalanobis(relative=True))).of_arrays(huge, 1)


@pytest.mark.parametrize("name", ["temperature", "vector", "matrix", "dirichlet"])
def test_scalers_in_a_layer_transform_as_they_do(name):
    scaler = SCALERS[name]().fit(TRAIN.logits, LABELS)
    layer = ScalerLayer(scaler)
    found = keras.ops.convert_to_numpy(layer(TEST.logits))
    np.testing.assert_allclose(found, scaler.transform(TEST.logits), rtol=1e-4, atol=1e-5)
    again = ScalerLayer.from_config(layer.get_config())
    again.set_weights(layer.get_weights())
    assert again.get_config() == layer.get_config()
    np.testing.assert_array_equal(keras.ops.convert_to_numpy(again(TEST.logits)), found)


def test_a_score_at_the_threshold_is_in_distribution_and_nan_is_not():
    decide = DecisionLayer(0.1, [0.1, 0.2])
    values = np.array([0.1, np.nextafter(np.float32(0.1), np.float32(0)), np.nan, np.inf, -np.inf], "float32")
    assert keras.ops.convert_to_numpy(decide(values)).tolist() == [True, False, False, True, False]
