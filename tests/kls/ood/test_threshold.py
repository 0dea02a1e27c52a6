import json
import re

import keras
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from keras import layers
from sklearn.metrics import roc_auc_score

from kls.ood import Threshold, detection_accuracy, scores
from kls.ood.scores import KNN, MSP, ODIN, SCORES, Energy, Reconstruction
from kls.version import __version__

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


def two_layers():
    model = keras.Sequential([layers.Input((4,)), layers.Dense(6, activation="relu"), layers.Dense(3)])
    rng = np.random.default_rng(1)
    model.set_weights([rng.normal(size=weight.shape) for weight in model.get_weights()])
    return model


class OwnScore(scores.Score):
    """A score of one's own: the first logit."""

    def _score(self, outputs):
        return outputs.logits[:, 0]


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


class TestFiles:
    @pytest.mark.parametrize(
        "score",
        [
            None,
            *(name for name in SCORES if not SCORES[name]().uses_training_data),
            Energy(np.float32(0.1)),
            ODIN(epsilon=0.5),
        ],
    )
    def test_what_is_loaded_is_what_was_saved(self, tmp_path, score):
        score = score if score is None else scores.get(score)
        model = classifier() if score is not None and (score.uses_features or score.uses_images) else None
        threshold = Threshold(score, model)
        threshold.value, threshold.chosen = 0.1 + 0.2, {"rule": "tpr 0.95", "id_samples": 3, "tpr": 1 / 3}
        threshold.save(tmp_path / "new" / "threshold.json")
        found = Threshold.load(str(tmp_path / "new" / "threshold.json"), model)
        assert (found.value.hex(), found.chosen) == (threshold.value.hex(), threshold.chosen)
        assert type(found.score) is type(score)
        assert score is None or found.score.settings == pytest.approx(score.settings, rel=0)
        assert [path.name for path in (tmp_path / "new").iterdir()] == ["threshold.json"]

    @settings(max_examples=20)
    @given(value=st.floats(allow_nan=False))
    def test_to_the_last_bit(self, tmp_path_factory, value):
        path = tmp_path_factory.getbasetemp() / "bits.json"
        Threshold(score=None).fit([value], tpr=1).save(path)
        assert Threshold.load(path).value.hex() == float(value).hex()

    def test_is_readable(self, tmp_path):
        Threshold(Energy(2)).fit(LOGITS, tpr=1).save(tmp_path / "t.json")
        text = (tmp_path / "t.json").read_text()
        assert json.loads(text) == {
            "kls": __version__,
            "score": "Energy",
            "settings": {"temperature": 2},
            "learned": None,
            "value": Energy(2)(LOGITS).min(),
            "chosen": {"rule": "tpr 1", "id_samples": 12, "ood_samples": 0, "tpr": 1.0},
            "images": None,
        }
        assert text.count("\n") > 8

    def test_the_whole_way_with_an_autoencoder(self, tmp_path):
        images = np.arange(1, 7, dtype="float32").reshape(6, 1, 1, 1)
        model = keras.Sequential([layers.Input((1, 1, 1)), layers.Rescaling(0.5)])
        Threshold(Reconstruction("x"), model).fit(images[:3], images[3:]).save(tmp_path / "t.json")
        found = Threshold.load(tmp_path / "t.json", model)
        assert repr(found) == "Threshold(Reconstruction(output='x'), value=-2.25)"
        assert found.predict(images).tolist() == [True] * 3 + [False] * 3
        with pytest.raises(ValueError, match="`model` must be given"):
            Threshold.load(tmp_path / "t.json")

    @pytest.mark.parametrize("name", [name for name in SCORES if SCORES[name]().uses_training_data])
    def test_a_fitted_score_is_saved_and_loaded_whole(self, tmp_path, name):
        path, model = tmp_path / "t.json", two_layers()
        training, images = (np.random.default_rng(n).normal(size=(n, 4)).astype("float32") for n in (80, 30))
        score = scores.get(name).fit(model, (training, np.arange(80) % 3))
        threshold = Threshold(score, model).fit(images, tpr=0.5)
        threshold.save(path)
        assert sorted(file.name for file in tmp_path.iterdir()) == ["t.json", "t.json.npz"]
        found = Threshold.load(path, model)
        assert repr(found) == repr(threshold)
        np.testing.assert_array_equal(found.score(model, images), score(model, images))
        assert found.predict(images).tolist() == threshold.predict(images).tolist()
        assert Threshold.load(path, model, score).value == threshold.value
        with pytest.raises(ValueError, match="`score` must be fitted"):
            Threshold.load(path, model, score=scores.get(name))

    @pytest.mark.parametrize("damage", ["byte", "other", "missing", "no digest"])
    def test_what_a_score_learned_is_checked(self, tmp_path, damage):
        path, model, images = tmp_path / "t.json", classifier(), LOGITS.astype("float32")
        beside = tmp_path / "t.json.npz"
        Threshold(KNN(k=2).fit(model, images), model).fit(images, tpr=0.5).save(path)
        if damage == "byte":
            content = bytearray(beside.read_bytes())
            content[len(content) // 2] ^= 1
            beside.write_bytes(content)
        elif damage == "other":
            Threshold(KNN(k=2).fit(model, images[:9]), model).fit(images, tpr=0.5).save(tmp_path / "other.json")
            (tmp_path / "other.json.npz").replace(beside)
        elif damage == "missing":
            beside.unlink()
        else:
            path.write_text(json.dumps(json.loads(path.read_text()) | {"learned": None}))
        expected = {"missing": FileNotFoundError}.get(damage, ValueError)
        with pytest.raises(expected, match=r"t\.json.* is damaged|t\.json\.npz"):
            Threshold.load(path, model)

    def test_a_score_fitted_to_other_features_is_refused(self, tmp_path):
        path, model = tmp_path / "t.json", two_layers()
        images = LOGITS.astype("float32")
        Threshold(KNN(k=2).fit(model, images), model).fit(images, tpr=0.5).save(path)
        with pytest.raises(ValueError, match=r"KNN must get 6 features, to which it was fitted\. Received: 4"):
            Threshold.load(path, classifier()).predict(images)

    @pytest.mark.parametrize("other", ["msp", Energy(3), "energy", OwnScore()])
    def test_another_score_is_refused(self, tmp_path, other):
        path = tmp_path / "t.json"
        Threshold(Energy(2)).fit(LOGITS, tpr=1).save(path)
        assert Threshold.load(path, score=Energy(2)).value == Energy(2)(LOGITS).min()
        received = re.escape(f"Energy(temperature=2). Received: score={scores.get(other)!r}")
        with pytest.raises(ValueError, match=rf"{re.escape(str(path))} was saved with, {received}"):
            Threshold.load(path, score=other)

    def test_a_score_for_a_threshold_of_scores_is_refused(self, tmp_path):
        of_scores(tpr=1).save(tmp_path / "t.json")
        with pytest.raises(ValueError, match=r"was saved with, None\. Received: score=MSP\(\)"):
            Threshold.load(tmp_path / "t.json", score="msp")

    def test_a_score_of_ones_own_must_be_given(self, tmp_path):
        Threshold(OwnScore()).fit(LOGITS, tpr=1).save(tmp_path / "t.json")
        with pytest.raises(ValueError, match=r"`score` must be given, fitted as the OwnScore\(\)"):
            Threshold.load(tmp_path / "t.json")
        assert Threshold.load(tmp_path / "t.json", score=OwnScore()).value == LOGITS[:, 0].min()

    def test_settings_that_json_cannot_hold(self, tmp_path):
        score = OwnScore()
        score.weights = np.ones(3)
        with pytest.raises(ValueError, match=r"`score` must have settings that JSON can hold\. Received: OwnScore\("):
            Threshold(score).fit(LOGITS, tpr=1).save(tmp_path / "t.json")
        assert not list(tmp_path.iterdir())

    def test_before_a_choice(self, tmp_path):
        with pytest.raises(ValueError, match="No threshold is chosen yet"):
            Threshold().save(tmp_path / "t.json")

    def test_a_file_that_is_not_there(self, tmp_path):
        with pytest.raises(FileNotFoundError, match=r"none\.json"):
            Threshold.load(tmp_path / "none.json")

    @pytest.mark.parametrize(
        "content",
        [b"", b'{"kls": "0.1', b"\xff\xfe", b"PK\x03\x04", b"[" * 100_000],
        ids=["empty", "cut", "bytes", "zip", "deep"],
    )
    def test_what_is_no_json(self, tmp_path, content):
        path = tmp_path / "t.json"
        path.write_bytes(content)
        with pytest.raises(ValueError, match=rf"{re.escape(str(path))} holds no threshold: it is not JSON"):
            Threshold.load(path)

    @pytest.mark.parametrize(
        ("changes", "message"),
        [
            ({"value": "0.5"}, r"damaged: `value` must be of type float, and not NaN\. Received: '0\.5'"),
            ({"value": True}, "damaged: `value` must be of type float.*True"),
            ({"value": float("nan")}, "damaged: `value` must be of type float, and not NaN.*nan"),
            ({"value": None}, "damaged: `value` must be of type float.*None"),
            ({"chosen": []}, r"damaged: `chosen` must be of type dict.*\[\]"),
            ({"settings": None}, "damaged: `settings` must be of type dict.*None"),
            ({"score": 3}, r"damaged: `score` must be of type str \| None.*3"),
            ({"kls": 1}, "damaged: `kls` must be of type str.*1"),
            ({"settings": {"temperature": -1}}, r"damaged: there is no Energy\(temperature=-1\).*must be a number in"),
            ({"settings": {"temperature": "a"}}, r"damaged: there is no Energy\(temperature='a'\)"),
            ({"settings": {"t": 1}}, r"damaged: there is no Energy\(t=1\).*unexpected keyword"),
            ({"score": "Score"}, r"`score` must be given, fitted as the Score\(temperature=2\)"),
            ({"score": "os.system"}, r"`score` must be given, fitted as the os\.system\("),
            ({"images": {"low": 0.0}}, r"damaged: `images` must hold the numbers low, high, mean, std"),
            ({"images": dict.fromkeys(["low", "high", "mean", "std"], "1")}, "damaged: `images` must hold"),
            ({"more": 1}, "must have the fields kls, score, settings, learned, value, chosen, images.*more"),
        ],
    )
    def test_damaged(self, tmp_path, changes, message):
        path = tmp_path / "t.json"
        Threshold(Energy(2)).fit(LOGITS, tpr=1).save(path)
        path.write_text(json.dumps(json.loads(path.read_text()) | changes))
        with pytest.raises(ValueError, match=message) as error:
            Threshold.load(path)
        assert str(path) in str(error.value)

    @pytest.mark.parametrize(("text", "received"), [("[1]", "list"), ("0.5", "float"), ("{}", ""), ('{"a": 1}', "a")])
    def test_other_json(self, tmp_path, text, received):
        path = tmp_path / "t.json"
        path.write_text(text)
        with pytest.raises(
            ValueError, match=rf"t\.json holds no threshold: it must have the fields.*Received: {received}"
        ):
            Threshold.load(path)
