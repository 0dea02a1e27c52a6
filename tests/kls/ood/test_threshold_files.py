import json
import re

import keras
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from keras import layers

from kls.ood import Threshold, scores
from kls.ood.scores import KNN, ODIN, SCORES, Energy, Reconstruction
from kls.version import __version__

LOGITS = np.random.default_rng(0).normal(scale=3, size=(12, 4))


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
        Threshold(score=None).fit([0.9, 0.3], tpr=1).save(tmp_path / "t.json")
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
