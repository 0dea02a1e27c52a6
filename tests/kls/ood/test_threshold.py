import keras
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from keras import layers
from sklearn.metrics import roc_auc_score

from kls.ood import Threshold, detection_accuracy, scores
from kls.ood.scores import MSP, Reconstruction

LOGITS = np.random.default_rng(0).normal(scale=3, size=(12, 4))
ID, OOD = [0.9, 0.8, 0.7, 0.3], [0.6, 0.4, 0.2]
SIDES = st.lists(st.integers(-8, 8).map(lambda whole: whole / 4), min_size=1, max_size=30)
RATES = st.sampled_from([0.05, 0.1, 0.25, 0.3, 0.5, 0.7, 0.9, 0.95, 1.0])


def of_scores(**rule):
    return Threshold(score=None).fit(ID, **rule)


def classifier():
    model = keras.Sequential([layers.Input((4,)), layers.Dense(4)])
    model.set_weights([np.eye(4), np.zeros(4)])
    return model


class TestRules:
    def test_the_largest_detection_accuracy(self):
        # at 0.7: 3 of 4 ID kept, 3 of 3 OOD refused; 10 of 12 pairs in order
        found = of_scores(ood_data=OOD)
        assert found.value == 0.7
        assert found.chosen == {
            "rule": "largest detection accuracy",
            "id_samples": 4,
            "ood_samples": 3,
            "tpr": 0.75,
            "tnr": 1.0,
            "auroc": pytest.approx(10 / 12),
        }

    @pytest.mark.parametrize(
        ("tpr", "value", "kept"),
        [(1.0, 0.3, 1.0), (0.76, 0.3, 1.0), (0.75, 0.7, 0.75), (0.5, 0.8, 0.5), (1e-9, 0.9, 0.25)],
    )
    def test_tpr(self, tpr, value, kept):
        found = of_scores(tpr=tpr)
        assert found.value == value
        assert found.chosen == {"rule": f"tpr {tpr:g}", "id_samples": 4, "ood_samples": 0, "tpr": kept}

    def test_tpr_with_ood_samples_reports_on_them(self):
        found = of_scores(ood_data=OOD, tpr=1.0)
        assert found.value == 0.3
        assert found.chosen["rule"] == "tpr 1"
        assert found.chosen["tnr"] == pytest.approx(1 / 3)
        assert found.chosen["auroc"] == pytest.approx(10 / 12)

    @pytest.mark.parametrize(
        ("tnr", "below", "refused"), [(1.0, 0.6, 1), (0.67, 0.6, 1), (0.5, 0.4, 2 / 3), (0.1, 0.2, 1 / 3)]
    )
    def test_tnr(self, tnr, below, refused):
        found = of_scores(ood_data=OOD, tnr=tnr)
        assert found.value == np.nextafter(below, 1)
        assert (found.chosen["rule"], found.chosen["tnr"]) == (f"tnr {tnr:g}", pytest.approx(refused))
        assert not found.predict([below])[0]

    @pytest.mark.parametrize("share", [0.07, 0.55, 0.95])  # times 100: 7.000000000000001, 55.00000000000001, 95
    def test_a_share_is_not_missed_by_rounding(self, share):
        values = np.arange(100.0)
        assert Threshold(score=None).fit(values, tpr=share).chosen["tpr"] == share
        assert Threshold(score=None).fit(values, values, tnr=share).chosen["tnr"] == share

    @settings(max_examples=20)
    @given(SIDES, SIDES, RATES)
    def test_no_other_threshold_keeps_or_refuses_as_many(self, id_data, ood_data, rate):
        by_tpr = Threshold(score=None).fit(id_data, ood_data, tpr=rate)
        assert by_tpr.predict(id_data).mean() >= rate
        assert np.mean(id_data >= np.nextafter(by_tpr.value, np.inf)) < rate
        by_tnr = Threshold(score=None).fit(id_data, ood_data, tnr=rate)
        assert np.mean(~by_tnr.predict(ood_data)) >= rate
        assert np.mean(ood_data < np.nextafter(by_tnr.value, -np.inf)) < rate
        for found in (by_tpr, by_tnr):
            assert found.chosen["tpr"] == found.predict(id_data).mean()
            assert found.chosen["tnr"] == np.mean(~found.predict(ood_data))

    @settings(max_examples=20)
    @given(SIDES, SIDES)
    def test_no_other_threshold_is_better(self, id_data, ood_data):
        found = Threshold(score=None).fit(id_data, ood_data)
        best = max(detection_accuracy(id_data, ood_data, t) for t in id_data + ood_data)
        assert (found.chosen["tpr"] + found.chosen["tnr"]) / 2 == pytest.approx(best)
        labels = [1] * len(id_data) + [0] * len(ood_data)
        assert found.chosen["auroc"] == pytest.approx(roc_auc_score(labels, id_data + ood_data))

    def test_chosen_anew(self):
        threshold = of_scores(tpr=1.0)
        assert threshold.fit(ID, tpr=0.5) is threshold
        assert (threshold.value, threshold.chosen["rule"]) == (0.8, "tpr 0.5")

    def test_a_failed_choice_leaves_the_last(self):
        threshold = of_scores(tpr=1.0)
        with pytest.raises(ValueError, match="`ood_data` must not hold NaN"):
            threshold.fit([5.0], [np.nan])
        assert (threshold.value, threshold.chosen["id_samples"]) == (0.3, 4)

    @pytest.mark.parametrize(
        ("rule", "message"),
        [
            ({}, r"`ood_data` must be given unless `tpr` is\. Received: ood_data=None, tnr=None"),
            ({"tnr": 0.9}, r"`ood_data` must be given unless `tpr` is\. Received: ood_data=None, tnr=0\.9"),
            ({"ood_data": OOD, "tpr": 0.9, "tnr": 1}, r"must not be given together.*tpr=0\.9, tnr=1"),
            ({"ood_data": [1.0, np.inf], "tnr": 1}, r"`ood_data` must have finite scores.*inf"),
        ],
    )
    def test_wrong_rules(self, rule, message):
        with pytest.raises(ValueError, match=message):
            of_scores(**rule)

    @pytest.mark.parametrize(
        ("wrong", "message"),
        [
            ([], r"hold scores of shape \(N,\) .*Received: shape \(0,\)"),
            ([[1.0]], r"hold scores of shape \(N,\) .*Received: shape \(1, 1\)"),
            ([1.0, np.nan], r"not hold NaN\. Received: 1 of them, the first at 1"),
        ],
    )
    def test_wrong_scores(self, wrong, message):
        with pytest.raises(ValueError, match=f"`id_data` must {message}"):
            Threshold(score=None).fit(wrong, tpr=0.9)
        with pytest.raises(ValueError, match=f"`x` must {message}"):
            of_scores(tpr=0.9).predict(wrong)


class TestIsID:
    def test_at_or_above_the_value(self):
        found = of_scores(tpr=0.75).predict([0.7, np.nextafter(0.7, 0), np.inf, -np.inf])
        assert (found.dtype, found.tolist()) == (bool, [True, False, True, False])

    @pytest.mark.parametrize("name", ["msp", "energy", "gen"])
    def test_of_logits(self, name):
        values = scores.get(name)(LOGITS)
        threshold = Threshold(name).fit(LOGITS[:6], LOGITS[6:])
        same = Threshold(score=None).fit(values[:6], values[6:])
        assert (threshold.value, threshold.chosen) == (same.value, same.chosen)
        np.testing.assert_array_equal(threshold.predict(LOGITS), values >= same.value)

    def test_the_score_is_msp_by_default(self):
        assert isinstance(Threshold().score, MSP)

    def test_of_images(self):
        images = LOGITS.astype("float32")
        threshold = Threshold("energy", classifier()).fit(images[:6], (images[6:], np.zeros(6)), batch_size=4)
        same = Threshold("energy").fit(images[:6], images[6:])
        assert threshold.value == pytest.approx(same.value, rel=1e-6)
        assert threshold.chosen == pytest.approx(same.chosen)

    def test_of_an_autoencoder_compiled_once(self):
        traced = []

        class Halved(keras.Model):
            def call(self, x):
                traced.append(x.shape)
                return x / 2

        images = np.arange(1, 7, dtype="float32").reshape(6, 1, 1, 1)  # errors: a quarter of the square
        threshold = Threshold(Reconstruction(), Halved()).fit(images[:4], tpr=0.75, batch_size=2)
        assert threshold.value == -9 / 4
        assert threshold.predict(images, batch_size=2).tolist() == [True] * 3 + [False] * 3
        assert len(traced) == 1 or keras.backend.backend() != "tensorflow"

    def test_before_a_choice(self):
        threshold = Threshold()
        assert (threshold.value, threshold.chosen) == (None, None)
        with pytest.raises(ValueError, match=r"No threshold is chosen yet: call `fit\(id_data, ood_data\)` first"):
            threshold.predict(LOGITS)

    def test_repr(self):
        assert repr(Threshold("energy")) == "Threshold(Energy(temperature=1.0), value=None)"
        assert repr(of_scores(tpr=0.75)) == "Threshold(None, value=0.7)"

    def test_a_notebook_shows_how_it_was_chosen(self):
        html = of_scores(tpr=0.75)._repr_html_()
        assert "<td>rule</td><td>tpr 0.75</td>" in html
        assert "<table></table>" in Threshold()._repr_html_()

    def test_no_data(self):
        with pytest.raises(ValueError, match="`id_data` must be given"):
            Threshold().fit(None, LOGITS)
        with pytest.raises(ValueError, match="`x` must be given"):
            of_scores(tpr=1).predict(None)


class TestScale:
    IMAGES = np.random.default_rng(5).random((20, 4)).astype("float32") - 0.5

    @pytest.fixture
    def threshold(self):
        return Threshold("msp", classifier()).fit(self.IMAGES, tpr=0.9)

    def test_the_images_it_was_chosen_on_are_recorded(self, threshold, tmp_path):
        images = self.IMAGES.astype(float)
        expected = {"low": images.min(), "high": images.max(), "mean": images.mean(), "std": images.std()}
        assert threshold.images == pytest.approx(expected)
        threshold.save(tmp_path / "t.json")
        assert Threshold.load(tmp_path / "t.json", classifier()).images == threshold.images

    @pytest.mark.parametrize(("factor", "times"), [(255, "255 times larger"), (1 / 255, "255 times smaller")])
    def test_images_of_another_scale_are_told(self, threshold, factor, times):
        with pytest.warns(UserWarning, match=rf"than the images that .* chosen on: `x` about {times}"):
            threshold.predict(self.IMAGES * np.float32(factor))
        with pytest.warns(UserWarning, match=rf"than `id_data`: `ood_data` about {times}"):
            threshold.fit(self.IMAGES, self.IMAGES * np.float32(factor))

    @pytest.mark.filterwarnings("error::UserWarning")
    @pytest.mark.parametrize("scale", [0, 0.2, 1, -1, 5])
    def test_ood_images_of_its_scale_are_not(self, threshold, scale):
        threshold.predict(self.IMAGES * np.float32(scale))
        threshold.predict(np.full((3, 4), scale, "float32"))


class TestWrongScores:
    @pytest.mark.parametrize("score", ["odin", "ash", Reconstruction()])
    def test_without_the_model_that_they_need(self, score):
        with pytest.raises(ValueError, match=r"`model` must be given: \w+\(.*\) needs a model and images.*model=None"):
            Threshold(score)

    def test_a_model_for_scores(self):
        with pytest.raises(ValueError, match=r"`model` must be None with score=None.*Received: a Sequential"):
            Threshold(score=None, model=classifier())

    def test_not_fitted(self):
        with pytest.raises(ValueError, match=r"`score` must be fitted: call `fit\(model, training_data\)`.*'knn'"):
            Threshold("knn", classifier())

    def test_no_such_score(self):
        with pytest.raises(ValueError, match=r"`score` must be one of msp, .*'reconstruction'"):
            Threshold("reconstruction")
