import re

import keras
import numpy as np
import pandas as pd
import pytest

import decathlon
import kls
from kls.ood import scores

from .helpers import FAR, HELD_OUT, NOISE, Batches, Unreadable, X, dense


class Subclassed(keras.Model):
    """Probabilities out of a model whose last layer cannot be found."""

    def __init__(self, inner):
        super().__init__()
        self.inner = inner

    def call(self, x):
        return keras.ops.softmax(self.inner(x))


@pytest.fixture(scope="module")
def digits(tmp_path_factory):
    images, labels = decathlon.open("digits", data_dir=tmp_path_factory.mktemp("digits")).split("validation")
    batches = decathlon.Batches(images[:70], labels[:70], classes=10, batch_size=32)
    arrays = [np.concatenate(parts) for parts in zip(*(batches[i] for i in range(len(batches))), strict=True)]
    keras.utils.set_random_seed(2)
    layers = [
        keras.layers.Input((8, 8, 1)),
        keras.layers.Conv2D(4, 3, strides=2, activation="relu"),
        keras.layers.Flatten(),
        keras.layers.Dense(10, kernel_initializer=keras.initializers.RandomNormal(stddev=1.0)),
    ]
    return keras.Sequential(layers), batches, arrays


def assert_same_numbers(one, other, rtol=1e-5):
    pd.testing.assert_frame_equal(one.to_frame(), other.to_frame(), rtol=rtol, atol=1e-7, check_dtype=False)


class TestPasses:
    def test_each_data_set_is_read_once(self, everything):
        _, counted = everything
        for name, batches in counted.items():
            assert batches.reads == dict.fromkeys(range(len(batches)), 1), name

    def test_training_data_that_no_score_needs_are_not_read(self, model, data):
        kls.evaluate(model, data, {"far": FAR}, ["msp", "ash"], training_data=Unreadable())

    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            (
                {"scores": ["msp", "knn", "vim"]},
                "`training_data` must be given for the scores knn, vim. Received: None",
            ),
            ({"scores": "all"}, "`training_data` must be given for the scores mahalanobis, "),
            ({"scores": ["nonsense"]}, "`score` must be one of msp, "),
            ({"features": "nonsense"}, "`features` must name a layer of the model, the last of which are hidden, last"),
            ({"scores": ["ash"], "features": "hidden"}, "ASH needs the last layer and its own input as features"),
            (
                {"scores": [scores.KNN(features="hidden"), scores.KNN(features="last")], "training_data": Unreadable()},
                "name the layer by `features` of `evaluate` instead",
            ),
            ({"scaling": "nonsense"}, "`scaling` must be one of 'temperature', "),
            ({"scores": []}, "`scores` must be 'all', or names or `Score`s in a list. Received: scores=[]"),
            ({"resamples": True}, "`resamples` must be a whole number of at least 0. Received: resamples=True"),
            ({"batch_size": "a"}, "`batch_size` must be a whole number of at least 1. Received: batch_size='a'"),
            ({"seed": None}, "`seed` must be a whole number"),
            ({"bins": 0}, "`bins` must be a whole number in 1..10000"),
            ({"convention": "nonsense"}, "`convention` must be one of 'guo', "),
            ({"ood_convention": "guo"}, "`ood_convention` must be one of 'odin', 'openood'"),
        ],
        ids=lambda value: "-".join(value) if isinstance(value, dict) else "",
    )
    def test_wrong_settings_are_refused_before_the_data_are_read(self, model, arguments, message):
        with pytest.raises(ValueError, match=re.escape(message)):
            kls.evaluate(model, Unreadable(), {"far": Unreadable()}, **arguments)


class TestData:
    def test_arrays_batches_and_tensorflow_data_give_the_same(self, digits):
        tf = pytest.importorskip("tensorflow")
        model, batches, (images, labels) = digits
        noise = np.random.default_rng(0).random((45, 8, 8, 1)).astype("float32")

        def evaluation(data, ood_data, **options):
            return kls.evaluate(
                model,
                data,
                {"noise": ood_data},
                ["msp", "odin", "ash"],
                scaling="temperature",
                resamples=10,
                **options,
            )

        expected = evaluation((images, labels), noise)
        assert expected.to_frame()["n"].unique().tolist() == [70, 115]
        assert_same_numbers(evaluation(batches, Batches(noise)), expected)
        dataset = tf.data.Dataset.from_tensor_slices((images, labels)).batch(24)
        assert_same_numbers(evaluation(dataset, tf.data.Dataset.from_tensor_slices(noise).batch(45)), expected)
        assert_same_numbers(evaluation((images, labels), (noise, np.zeros(45)), batch_size=10_000), expected)
        assert_same_numbers(evaluation((images, labels), noise, batch_size=9), expected)

    @pytest.mark.parametrize("form", ["column", "one-hot", "float", "uint8"])
    def test_labels_of_any_form(self, model, data, form):
        _, labels = data
        forms = {
            "column": labels[:, None],
            "one-hot": np.eye(3)[labels],
            "float": labels.astype("float32"),
            "uint8": labels.astype("uint8"),
        }
        assert_same_numbers(
            kls.evaluate(model, (X, forms[form]), scaling="temperature"),
            kls.evaluate(model, data, scaling="temperature"),
        )

    @pytest.mark.parametrize("images", [X, Batches(X)], ids=["array", "batches"])
    def test_missing_labels_are_refused(self, model, images):
        with pytest.raises(ValueError, match=r"`data` must have labels: a pair \(images, labels\), or batches of them"):
            kls.evaluate(model, images)

    @pytest.mark.parametrize(
        "ood_data", [FAR[:, :5], FAR.reshape(33, 3, 2), FAR[:0]], ids=["features", "rank", "empty"]
    )
    def test_ood_data_of_the_wrong_shape_are_refused(self, model, data, ood_data):
        with pytest.raises(ValueError, match="far: `data` must hold"):
            kls.evaluate(model, data, {"far": ood_data})

    @pytest.mark.parametrize("name", ["data", "ood", "training_data", "scaling_data"])
    def test_nan_is_refused_with_the_name_of_the_data(self, model, labelled, name):
        images, labels = labelled["train"]
        images = np.where(np.arange(len(images))[:, None] == 100, np.nan, images).astype("float32")
        arguments = {"data": labelled["test"], "ood": {"far": FAR}, "scores": ["knn"], "scaling": "temperature"}
        arguments |= {"training_data": labelled["train"], "scaling_data": labelled["held_out"]}
        arguments[name] = {"far": images} if name == "ood" else (images, labels)
        prefix = {"data": "", "ood": "far: "}.get(name, f"{name}: ")
        for batch_size in (128, 32):
            message = rf"^{prefix}`data` must give images without NaN\. Received: NaN in sample 100"
            with pytest.raises(ValueError, match=message):
                kls.evaluate(model, **arguments, batch_size=batch_size)

    def test_logits_that_are_nan_are_refused(self, data):
        model = dense()
        model.layers[-1].bias.assign(np.array([0, np.nan, 0]))
        with pytest.raises(ValueError, match=r"`data` must give logits without NaN\. Received: NaN in sample 0"):
            kls.evaluate(model, data)


class TestModels:
    def test_softmax_in_the_model_makes_no_difference(self, model, data, labelled):
        names = [*scores.SCORES]
        arguments = {"ood": {"far": FAR}, "scores": names, "scaling": "temperature", "training_data": labelled["train"]}
        expected = kls.evaluate(model, data, **arguments)
        assert_same_numbers(kls.evaluate(dense("softmax"), data, **arguments), expected)
        layer = keras.Sequential([*dense().layers, keras.layers.Softmax()])
        layer.build((None, 6))
        assert_same_numbers(kls.evaluate(layer, data, **arguments), expected)

    def test_probabilities_of_unknown_origin_make_no_difference(self, model, data):
        arguments = {"ood": {"far": FAR}, "scores": ["msp", "entropy", "gen"], "scaling": "temperature"}
        subclassed = Subclassed(model)
        expected = kls.evaluate(model, data, **arguments)
        assert_same_numbers(kls.evaluate(subclassed, data, **arguments), expected, rtol=1e-3)
        with pytest.raises(ValueError, match="Energy needs logits"):
            kls.evaluate(subclassed, data, {"far": FAR}, ["energy"])

    def test_odin_of_probabilities_is_odin(self, model, data):
        expected = kls.evaluate(model, data, {"far": FAR}, ["odin"]).scores["odin"][0]
        found = kls.evaluate(Subclassed(model), data, {"far": FAR}, ["odin"]).scores["odin"][0]
        np.testing.assert_allclose(found, expected, rtol=1e-5)

    def test_probabilities_of_low_precision_are_not_taken_for_logits(self, data, bfloat16):
        inner = dense()
        expected = kls.evaluate(inner, data)
        found = kls.evaluate(Subclassed(inner), data)
        assert found.value("nll") == pytest.approx(expected.value("nll"), rel=0.02)
        assert found.value("ece") == pytest.approx(expected.value("ece"), abs=0.02)

    @pytest.mark.parametrize("column", [False, True])
    def test_one_sigmoid_is_judged_as_two_classes(self, column):
        model = keras.Sequential([keras.layers.Input((6,)), keras.layers.Dense(1, activation="sigmoid")])
        labels = np.arange(91) % 2
        data = X, labels[:, None] if column else labels
        found = kls.evaluate(model, data, {"far": FAR}, ["energy", "knn"], training_data=X)
        p = model.predict(X, verbose=0)[:, 0].astype("float64")
        assert found.value("accuracy") == np.mean((p > 0.5) == labels)
        assert found.value("nll") == pytest.approx(-np.log(np.where(labels, p, 1 - p)).mean(), rel=1e-5)
        assert found.value("brier") == pytest.approx(2 * np.mean((p - labels) ** 2), rel=1e-5)
        np.testing.assert_allclose(found.scores["energy"][0], -np.log(1 - p), rtol=1e-4, atol=1e-6)

    def test_features_of_the_layer_that_a_score_names(self, model, data, labelled):
        arguments = {"ood": {"far": FAR}, "training_data": labelled["train"]}
        expected = kls.evaluate(model, data, scores=["knn"], features="last", **arguments).scores["knn"][0]
        score = scores.KNN(features="last")
        (found,) = kls.evaluate(model, data, scores=[score], **arguments).scores.values()
        np.testing.assert_array_equal(found[0], expected)

    def test_a_model_without_classes_is_refused(self):
        single = keras.Sequential([keras.layers.Input((6,)), keras.layers.Reshape((2, 3)), keras.layers.Dense(2)])
        with pytest.raises(ValueError, match="logits or probabilities of shape"):
            kls.evaluate(single, (X, np.zeros(91)))

    def test_several_outputs_are_refused_before_the_data_are_read(self):
        x = keras.Input((6,))
        model = keras.Model(x, [keras.layers.Dense(3)(x), keras.layers.Dense(3)(x)])
        with pytest.raises(ValueError, match="`model` must have one output"):
            kls.evaluate(model, Unreadable())


class TestAll:
    def test_what_the_model_cannot_give_is_skipped_and_said(self, model, labelled, data):
        subclassed = Subclassed(model)
        with pytest.warns(UserWarning, match=r"Scores that were skipped: .*vim \(ViM needs features") as caught:
            found = kls.evaluate(subclassed, data, {"far": FAR}, "all", training_data=labelled["train"])
        assert len([warning for warning in caught if "skipped" in str(warning.message)]) == 1
        no_features = {"mahalanobis", "relative_mahalanobis", "knn", "vim", "react", "ash"}
        assert set(found.skipped) == {*no_features, "max_logit", "energy"}
        assert "Energy needs logits" in found.skipped["energy"]
        assert list(found.scores) == ["msp", "entropy", "gen", "odin", "kl_matching"]
        assert "skipped: max_logit" in found.summary or "skipped: mahalanobis" in found.summary
        expected = kls.evaluate(subclassed, data, {"far": FAR}, list(found.scores), training_data=labelled["train"])
        assert_same_numbers(found, expected)

    def test_what_training_data_are_too_few_for_is_skipped(self, model, labelled, data):
        few = tuple(part[:20] for part in labelled["train"])
        with pytest.warns(UserWarning, match="knn .`k` must be at most 20"):
            assert set(kls.evaluate(model, data, {"far": FAR}, "all", training_data=few).skipped) == {"knn"}

    def test_nothing_is_skipped_where_all_can_be_given(self, everything):
        assert everything[0].skipped == {}

    def test_a_score_that_is_named_is_not_skipped(self, model, labelled, data):
        with pytest.raises(ValueError, match="ViM needs features"):
            kls.evaluate(Subclassed(model), data, {"far": FAR}, ["msp", "vim"], training_data=labelled["train"])


class TestScale:
    @pytest.mark.parametrize("name", ["ood", "training_data", "scaling_data"])
    @pytest.mark.parametrize(("factor", "times"), [(255, "larger"), (1 / 255, "smaller")])
    def test_data_of_another_scale_than_the_others_are_told(self, model, labelled, name, factor, times):
        other = (HELD_OUT * np.float32(factor), labelled["held_out"][1])
        arguments = {"ood": {"far": FAR}, "training_data": labelled["train"], "scaling_data": labelled["held_out"]}
        arguments[name] = {"far": other[0]} if name == "ood" else other
        shown_name = "`ood` far" if name == "ood" else f"`{name}`"
        with pytest.warns(
            UserWarning, match=rf"scale than `data`: {shown_name} about [23]\d\d times {times}"
        ) as caught:
            found = kls.evaluate(model, labelled["test"], scores=scores.KNN(k=3), scaling="temperature", **arguments)
        assert found.remarks[-1] == str(caught[-1].message)
        assert caught[-1].filename == __file__

    @pytest.mark.filterwarnings("error::UserWarning")
    @pytest.mark.parametrize("images", [NOISE, 3 * FAR, -FAR, 0 * FAR, 0 * FAR + 2])
    def test_ood_data_of_its_scale_are_not(self, model, data, images):
        kls.evaluate(model, data, {"far": images})
