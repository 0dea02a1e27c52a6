import decimal
from functools import partial

import keras
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from keras import ops
from scipy.special import softmax as scipy_softmax
from scipy.special import xlog1py

import kls
from kls.analysis.overfitting import OverfittingCE
from kls.study.train import mirrored_strategy

BACKEND = keras.backend.backend()


def sample(n=6, k=5, seed=0):
    """Returns logits, their softmax and labels, in float64."""
    rng = np.random.default_rng(seed)
    logits = rng.normal(scale=3, size=(n, k))
    p = np.exp(logits - logits.max(axis=1, keepdims=True))
    return logits, p / p.sum(axis=1, keepdims=True), rng.integers(k, size=n)


def softmax(logits):
    return scipy_softmax(logits, axis=-1)


def numbers(tensor):
    return ops.convert_to_numpy(tensor)


def gradient(loss_of, logits):
    """Returns the gradient of a scalar function of logits on the backend at hand."""
    if BACKEND == "tensorflow":
        import tensorflow as tf

        x = tf.constant(logits)
        with tf.GradientTape() as tape:
            tape.watch(x)
            value = loss_of(x)
        return tape.gradient(value, x).numpy()
    import jax

    return np.asarray(jax.grad(loss_of)(logits))


def compiled(function):
    """Compiles a function of tensors on the backend at hand."""
    if BACKEND == "tensorflow":
        import tensorflow as tf

        return tf.function(function)
    import jax

    return jax.jit(function)


def compiled_by_xla(function):
    """Compiles a function of tensors by XLA, which leaves out TensorFlow's assertions."""
    if BACKEND == "tensorflow":
        import tensorflow as tf

        return tf.function(function, jit_compile=True)
    return compiled(function)


LOSSES = {
    "SmoothedCE": kls.SmoothedCE,
    "OutlierExposure": kls.OutlierExposure,
    "KnowledgeDistillation": kls.KnowledgeDistillation,
    "WeightedSoftLabels": kls.WeightedSoftLabels,
    "FocalStd": kls.FocalStd,
    "OverfittingCE": partial(OverfittingCE, classes=3),
}
every_loss = pytest.mark.parametrize("kind", LOSSES)
ADVICE = "`y_pred` must be probabilities.*: pass from_logits=True or end the model in softmax"


def labels_for(kind, labels=(0, 2)):
    """Returns labels of three classes in the form that a loss takes."""
    if kind in ("KnowledgeDistillation", "WeightedSoftLabels"):
        return numbers(kls.pack_teacher(list(labels), np.zeros((len(labels), 3), "float32")))
    return np.array(labels, "float32")


class TestPredictions:
    RIGHT = 0.2, 0.5, 0.3

    @every_loss
    @pytest.mark.parametrize("row", [[2.0, 0.1, -1.0], [0.5, 0.6, -0.1], [0.2, 0.5, 0.32], [0.2, 0.5, 0.28], [0.0] * 3])
    def test_that_are_no_probabilities_are_refused_when_eager(self, kind, row):
        with pytest.raises(ValueError, match=rf"{ADVICE}\. Received: \[{row[0]}, {row[1]}, {row[2]}\]"):
            LOSSES[kind]()(labels_for(kind), np.array([self.RIGHT, row], "float32"))

    @every_loss
    @pytest.mark.parametrize("row", [[2.0, 0.1, -1.0], [0.2, 0.5, 0.32]])
    def test_that_are_no_probabilities_give_nan_by_xla_for_their_row(self, kind, row):
        loss = LOSSES[kind](reduction=None)
        rows = np.array([self.RIGHT, row], "float32")
        losses = numbers(compiled_by_xla(lambda y, p: loss(y, p))(labels_for(kind), rows))
        np.testing.assert_array_equal(np.isnan(losses), [False, True])

    @every_loss
    @pytest.mark.skipif(BACKEND != "tensorflow", reason="only TensorFlow's graphs can raise")
    def test_that_are_no_probabilities_end_a_graph_with_advice(self, kind):
        import tensorflow as tf

        loss = LOSSES[kind]()
        step = tf.function(lambda y, p: loss(y, p))
        assert np.isfinite(float(step(labels_for(kind), np.array([self.RIGHT, self.RIGHT], "float32"))))
        with pytest.raises(tf.errors.InvalidArgumentError, match=ADVICE):
            step(labels_for(kind), np.array([self.RIGHT, [2.0, 0.1, -1.0]], "float32"))

    @pytest.mark.parametrize("jit_compile", [False, True])
    def test_of_a_head_without_softmax_do_not_train(self, jit_compile):
        model = keras.Sequential([keras.layers.Input((4,)), keras.layers.Dense(3)])
        model.compile("sgd", kls.SmoothedCE(0.9), jit_compile=jit_compile)
        x, y = np.random.default_rng(0).normal(size=(8, 4)).astype("float32"), np.arange(8) % 3
        if jit_compile:
            assert np.isnan(model.fit(x, y, verbose=0).history["loss"]).all()
            return
        error = ValueError
        if BACKEND == "tensorflow":
            import tensorflow as tf

            error = tf.errors.InvalidArgumentError
        with pytest.raises(error, match=ADVICE):
            model.fit(x, y, verbose=0)

    @pytest.mark.skipif(BACKEND != "tensorflow", reason="Keras keeps a layer's logits on TensorFlow alone")
    def test_of_a_sigmoid_are_refused_although_keras_knows_its_logits(self):
        rows = keras.activations.sigmoid(ops.convert_to_tensor([[2.0, 1.0, -3.0]]))
        assert hasattr(rows, "_keras_logits")
        with pytest.raises(ValueError, match=ADVICE):
            kls.SmoothedCE()([0], rows)

    def test_of_nan_are_no_mistake_of_the_head(self):
        losses = numbers(kls.SmoothedCE(reduction=None)([0, 1], np.array([self.RIGHT, [np.nan] * 3])))
        np.testing.assert_array_equal(np.isnan(losses), [False, True])

    @pytest.mark.parametrize("dtype", ["bfloat16", "float16", "float32"])
    @pytest.mark.parametrize("k", [10, 1000])
    def test_of_a_softmax_in_any_precision_are_taken(self, dtype, k):
        for scale in (0.0, 0.01, 3.0):
            logits = np.random.default_rng(1).normal(scale=scale, size=(64, k))
            rows = compiled_by_xla(ops.softmax)(ops.cast(logits, dtype))
            value = float(kls.SmoothedCE(0.9)(np.zeros(64), rows))
            assert value == pytest.approx(float(kls.SmoothedCE(0.9, True)(np.zeros(64), logits)), rel=0.02)


class TestDistributionsAsLabels:
    WRONG = [0.5, 0.4, 0.0], [0.5, 0.6, 0.0], [1.1, -0.1, 0.0], [np.nan, 1.0, 0.0], [0.0, 0.0, 0.0], [3.0, 1.0, 2.0]

    @pytest.mark.parametrize("kind", ["SmoothedCE", "KnowledgeDistillation", "FocalStd", "OverfittingCE"])
    @pytest.mark.parametrize("wrong", WRONG)
    def test_that_are_none_are_refused_and_give_nan_when_compiled(self, kind, wrong):
        rows = np.array([[0.2, 0.8, 0.0], wrong], "float32")
        if kind == "KnowledgeDistillation":
            rows = np.concatenate([rows, np.zeros((2, 3), "float32")], axis=1)
        loss, logits = LOSSES[kind](from_logits=True, reduction=None), np.zeros((2, 3), "float32")
        with pytest.raises(ValueError, match=r"`y_true` must hold distributions.*Received: \["):
            loss(rows, logits)
        losses = numbers(compiled(lambda y, z: loss(y, z))(rows, logits))
        np.testing.assert_array_equal(np.isnan(losses), [False, True])

    def test_that_are_mixed_smoothed_or_rounded_are_taken(self):
        mixed = numbers(
            kls.targets.mix(kls.targets.smooth([0, 1], 1000, 0.9), kls.targets.smooth([5, 7], 1000, 1), 0.3)
        )
        rounded = ops.cast(mixed, "bfloat16")
        for rows in (mixed, rounded):
            assert np.isfinite(float(kls.SmoothedCE(0.9, from_logits=True)(rows, np.zeros((2, 1000)))))


NO_NUMBERS = {
    "strings": np.array(["0", "1"]),
    "objects": np.array([0, None], dtype=object),
    "complex numbers": np.array([0j, 1]),
    "a masked array": np.ma.masked_array([0, 1], [True, False]),
    "ragged": [[0], [1, 2]],
}


class TestWhatIsNoArrayOfNumbers:
    @every_loss
    @pytest.mark.parametrize("wrong", NO_NUMBERS)
    @pytest.mark.parametrize("name", ["y_true", "y_pred", "sample_weight"])
    def test_is_refused_by_name(self, kind, name, wrong):
        given = {"y_true": labels_for(kind), "y_pred": np.full((2, 3), 1 / 3, "float32"), "sample_weight": None}
        with pytest.raises(ValueError, match=f"`{name}` must"):
            LOSSES[kind]()(**{**given, name: NO_NUMBERS[wrong]})

    def test_is_refused_as_a_tensor(self):
        with pytest.raises(ValueError, match=r"`y_pred` must be an array of real numbers.*complex64"):
            kls.SmoothedCE()([0], ops.convert_to_tensor(np.ones((1, 2), "complex64")))


class TestArguments:
    @pytest.mark.parametrize(
        ("loss", "expected"),
        [
            (kls.SmoothedCE(), "SmoothedCE(gamma=0.9, from_logits=False)"),
            (kls.SmoothedCE(1, True, name="mine"), "SmoothedCE(gamma=1.0, from_logits=True)"),
            (kls.OutlierExposure(), "OutlierExposure(gamma=1.0, weight=0.5, from_logits=False)"),
            (kls.WeightedSoftLabels(), "WeightedSoftLabels(alpha=2.25, temperature=4.0, from_logits=False)"),
            (kls.FocalStd(), "FocalStd(k=1.0, std_weight=1.0, from_logits=False, as_printed=False)"),
            (OverfittingCE(3), "OverfittingCE(classes=3, mode='loss', alpha=0.1, from_logits=False)"),
            (
                kls.KnowledgeDistillation(),
                "KnowledgeDistillation(alpha=0.1, temperature=3.0, from_logits=False, scale_by_temperature=False, "
                "reduce_teachers='mean')",
            ),
        ],
    )
    def test_repr_shows_the_arguments(self, loss, expected):
        assert repr(loss) == expected

    @pytest.mark.parametrize(
        ("kind", "arguments"),
        [
            (kls.SmoothedCE, {"gamma": 0.7}),
            (kls.OutlierExposure, {"gamma": 0.7, "weight": 0.2}),
            (
                kls.KnowledgeDistillation,
                {"alpha": 0.2, "temperature": 4.0, "scale_by_temperature": True, "reduce_teachers": "sum"},
            ),
            (kls.WeightedSoftLabels, {"alpha": 1.5, "temperature": 2.0}),
            (kls.FocalStd, {"k": 0.7, "std_weight": 2.0, "as_printed": True}),
        ],
    )
    def test_the_config_keeps_all_arguments(self, kind, arguments):
        arguments = {**arguments, "from_logits": True, "reduction": "sum", "name": "mine"}
        loss = keras.losses.deserialize(keras.losses.serialize(kind(**arguments)))
        assert type(loss) is kind
        assert {name: getattr(loss, name) for name in arguments} == arguments

    def test_the_default_name(self):
        assert kls.OutlierExposure().name == "outlier_exposure"

    @every_loss
    def test_the_config_keeps_the_dtype(self, kind):
        loss = LOSSES[kind](dtype="float64")
        assert keras.losses.deserialize(keras.losses.serialize(loss)).dtype == "float64"
        assert keras.losses.deserialize(keras.losses.serialize(LOSSES[kind]())).dtype == "float32"


@pytest.mark.parametrize("kind", [kls.KnowledgeDistillation, kls.WeightedSoftLabels])
def test_packed_logits_in_double_precision_are_computed_in_it(kind):
    logits, _, labels, teacher = distillation_sample()
    teacher = np.stack([teacher, teacher[::-1]], axis=1)
    p, hard = softmax(logits / 3), -np.log(softmax(logits)[np.arange(6), labels])
    soft = -(softmax(teacher / 3).mean(axis=1) * np.log(p)).sum(axis=1)
    of_teacher = -np.log(softmax(teacher).mean(axis=1)[np.arange(6), labels])
    expected = {
        kls.KnowledgeDistillation: 0.75 * hard + 0.25 * soft,
        kls.WeightedSoftLabels: hard + 0.25 * 9 * (1 - np.exp(-hard / (of_teacher + 1e-7))) * soft,
    }[kind]
    loss = kind(alpha=0.25, temperature=3.0, from_logits=True, reduction=None, dtype="float64")
    np.testing.assert_allclose(numbers(loss(kls.pack_teacher(labels, teacher), logits)), expected, rtol=1e-13)


class TestValue:
    def test_by_hand(self):
        # b = 0.1, a = 0.7; -(0.7 ln 0.9 + 0.1 ln(0.9 * 0.05 * 0.05)), -(0.7 ln 0.6 + 0.1 ln(0.1 * 0.6 * 0.3))
        loss = kls.SmoothedCE(gamma=0.8, reduction=None)
        losses = numbers(loss([0, 1], [[0.9, 0.05, 0.05], [0.1, 0.6, 0.3]]))
        np.testing.assert_allclose(losses, [0.683437, 0.759317], atol=1e-5)

    @pytest.mark.parametrize(("p", "expected"), [(0.19, 1.6607), (0.91, 0.0943)])
    def test_the_papers_example_without_smoothing(self, p, expected):
        row = [p] + [(1 - p) / 9] * 9
        assert float(kls.SmoothedCE(gamma=1)([0], [row])) == pytest.approx(expected, abs=5e-5)

    def test_the_loss_is_least_where_the_prediction_is_the_smoothed_label(self):
        loss = kls.SmoothedCE(gamma=0.7)
        best = float(loss([0], [[0.7, 0.15, 0.15]]))
        for other in ([0.8, 0.1, 0.1], [0.6, 0.2, 0.2], [0.7, 0.2, 0.1]):
            assert float(loss([0], [other])) > best


@pytest.mark.usefixtures("float64")
class TestAgainstKeras:
    @settings(max_examples=30, deadline=None)
    @given(
        epsilon=st.floats(0, 0.95),
        k=st.sampled_from([2, 3, 10, 40]),
        seed=st.integers(0, 1000),
        from_logits=st.booleans(),
    )
    def test_equals_categorical_crossentropy_with_label_smoothing(self, epsilon, k, seed, from_logits):
        logits, p, labels = sample(k=k, seed=seed)
        theirs = keras.losses.CategoricalCrossentropy(
            label_smoothing=epsilon, from_logits=from_logits, reduction=None, dtype="float64"
        )
        ours = kls.SmoothedCE(
            kls.gamma_from_epsilon(epsilon, k), from_logits=from_logits, reduction=None, dtype="float64"
        )
        y_pred = logits if from_logits else p
        expected = numbers(theirs(np.eye(k)[labels], y_pred))
        np.testing.assert_allclose(numbers(ours(labels, y_pred)), expected, rtol=1e-11, atol=1e-11)
        np.testing.assert_allclose(numbers(ours(np.eye(k)[labels], y_pred)), expected, rtol=1e-11, atol=1e-11)

    def test_mixed_labels_equal_keras_on_the_smoothed_distribution(self):
        logits, _, _ = sample(k=4)
        mixed = np.random.default_rng(1).dirichlet(np.ones(4), size=len(logits))
        a, b = kls.targets.smoothing_weights(0.85, 4)
        theirs = keras.losses.CategoricalCrossentropy(from_logits=True, dtype="float64")
        ours = kls.SmoothedCE(0.85, from_logits=True, dtype="float64")
        assert float(ours(mixed, logits)) == pytest.approx(float(theirs(a * mixed + b, logits)), rel=1e-12)

    @pytest.mark.parametrize("reduction", ["sum_over_batch_size", "sum", "mean", "mean_with_sample_weight", None])
    def test_weights_and_reductions(self, reduction):
        logits, _, labels = sample()
        weights = np.array([0.0, 1.0, 2.0, 0.5, 1.0, 3.0])
        ours = kls.SmoothedCE(0.9, from_logits=True, reduction=reduction, dtype="float64")
        theirs = keras.losses.CategoricalCrossentropy(
            label_smoothing=kls.epsilon_from_gamma(0.9, 5), from_logits=True, reduction=reduction, dtype="float64"
        )
        np.testing.assert_allclose(
            numbers(ours(labels, logits, sample_weight=weights)),
            numbers(theirs(np.eye(5)[labels], logits, sample_weight=weights)),
            rtol=1e-12,
        )


class TestShapes:
    def test_a_column_of_labels_is_a_row_of_labels(self):
        logits, _, labels = sample()
        loss = kls.SmoothedCE(0.9, from_logits=True)
        assert float(loss(labels[:, None], logits)) == float(loss(labels, logits))

    def test_dense_predictions(self):
        logits, _, labels = sample(n=24)
        loss = kls.SmoothedCE(0.9, from_logits=True, reduction=None)
        dense = loss(labels.reshape(2, 3, 4), logits.reshape(2, 3, 4, 5))
        np.testing.assert_allclose(numbers(dense).reshape(-1), numbers(loss(labels, logits)), rtol=1e-6)

    def test_a_batch_of_k_samples_is_still_labels(self):
        logits, _, labels = sample(n=5, k=5)
        loss = kls.SmoothedCE(0.9, from_logits=True)
        assert float(loss(labels, logits)) == pytest.approx(float(loss(np.eye(5)[labels], logits)), rel=1e-6)

    @pytest.mark.parametrize("shape", [(6, 4), (6, 5, 1, 1), (), (1,), (1, 1), (1, 5), (5,)])
    def test_labels_that_do_not_fit_are_refused_with_both_shapes(self, shape):
        logits, _, _ = sample()
        with pytest.raises(ValueError, match=r"y_true\.shape=.*y_pred\.shape=\(6, 5\)"):
            kls.SmoothedCE(0.9, from_logits=True)(np.zeros(shape, "float32"), logits)

    def test_predictions_without_a_class_axis_are_refused(self):
        with pytest.raises(ValueError, match=r"y_pred\.shape=\(3,\)"):
            kls.SmoothedCE(0.9)(np.zeros(3, "float32"), np.full(3, 0.5, "float32"))


@every_loss
@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_a_dtype_that_does_not_hold_every_class_index_is_refused(kind, dtype):
    with pytest.raises(ValueError, match=f"`dtype` must be one of 'float32', 'float64'.*dtype='{dtype}'"):
        LOSSES[kind](dtype=dtype)


class TestGamma:
    @pytest.mark.parametrize("gamma", [0.05, 0.1])
    def test_at_most_one_in_k_names_gamma_and_k(self, gamma):
        with pytest.raises(ValueError, match=f"gamma={gamma} with K=10"):
            kls.SmoothedCE(gamma=gamma)(np.zeros(2), np.full((2, 10), 0.1))

    def test_just_above_one_in_k_is_taken(self):
        assert np.isfinite(float(kls.SmoothedCE(gamma=0.11)(np.zeros(2), np.full((2, 10), 0.1))))


class TestLabels:
    @pytest.mark.parametrize("wrong", [-1, 5, 2.5, float("nan")])
    def test_a_label_outside_is_refused_when_eager(self, wrong):
        logits, _, _ = sample(n=3)
        with pytest.raises(ValueError, match=rf"0\.\.4.*{wrong}"):
            kls.SmoothedCE(0.9, from_logits=True)(np.array([0, wrong, 1], "float32"), logits)

    @pytest.mark.parametrize("wrong", [-1, 5])
    def test_a_label_outside_makes_the_loss_nan_when_compiled(self, wrong):
        logits, _, _ = sample(n=3)
        loss = kls.SmoothedCE(0.9, from_logits=True, reduction=None)
        labels = np.array([0, wrong, 1], "int32")
        losses = numbers(compiled(lambda y, z: loss(y, z))(labels, logits.astype("float32")))
        np.testing.assert_array_equal(np.isnan(losses), [False, True, False])


class TestGradient:
    @pytest.mark.parametrize("gamma", [1, 0.9, 0.5])
    @pytest.mark.parametrize("from_logits", [True, False])
    def test_is_finite_at_huge_logits(self, gamma, from_logits):
        logits = np.array([[1e4, -1e4, 0], [-1e4, 1e4, 0], [0, -1e4, 1e4]], "float32")
        labels = np.array([1, 1, 1])
        loss = kls.SmoothedCE(gamma, from_logits=from_logits)

        def value(z):
            return loss(labels, z if from_logits else ops.softmax(z))

        assert np.isfinite(float(value(ops.convert_to_tensor(logits))))
        assert np.isfinite(gradient(value, logits)).all()

    def test_is_softmax_minus_the_smoothed_label(self):
        logits, p, labels = sample()
        target = np.full((6, 5), 0.2 / 4)
        target[np.arange(6), labels] = 0.8
        loss = kls.SmoothedCE(0.8, from_logits=True, reduction="sum")
        found = gradient(lambda z: loss(labels, z), logits.astype("float32"))
        np.testing.assert_allclose(found, p - target, atol=1e-6)

    @pytest.mark.skipif(BACKEND != "tensorflow", reason="Keras keeps a softmax layer's logits on TensorFlow alone")
    def test_of_a_saturated_softmax_layer_does_not_vanish(self):
        logits = np.array([[60.0, 0.0, 0.0]], "float32")
        loss = kls.SmoothedCE(0.9)
        found = gradient(lambda z: loss(np.array([1]), keras.activations.softmax(z)), logits)
        np.testing.assert_allclose(found, [[0.95, -0.9, -0.05]], atol=1e-6)


class TestManyClasses:
    def test_1623_classes_without_a_one_hot_matrix(self, monkeypatch):
        logits, _, labels = sample(n=32, k=1623)
        expected = float(kls.SmoothedCE(0.5, from_logits=True)(np.eye(1623)[labels], logits))
        monkeypatch.setattr(ops, "one_hot", None)
        found = float(kls.SmoothedCE(0.5, from_logits=True)(labels, logits))
        assert found == pytest.approx(expected, rel=1e-5)

    @pytest.mark.skipif(BACKEND != "tensorflow", reason="reads TensorFlow's graph")
    def test_the_graph_holds_no_one_hot(self):
        import tensorflow as tf

        loss = kls.SmoothedCE(0.5, from_logits=True)
        graph = tf.function(loss).get_concrete_function(
            tf.TensorSpec((None,), tf.int64), tf.TensorSpec((None, 1623), tf.float32)
        )
        assert "OneHot" not in {operation.type for operation in graph.graph.get_operations()}


class TestSerialisation:
    def test_a_saved_model_keeps_its_loss(self, tmp_path):
        model = keras.Sequential([keras.layers.Input((4,)), keras.layers.Dense(3, activation="softmax")])
        model.compile("sgd", kls.SmoothedCE(0.8))
        x, y = np.random.default_rng(0).normal(size=(8, 4)).astype("float32"), np.arange(8) % 3
        expected = model.evaluate(x, y, verbose=0)
        model.save(tmp_path / "model.keras")
        again = keras.models.load_model(tmp_path / "model.keras")
        assert again.loss.gamma == 0.8
        assert again.evaluate(x, y, verbose=0) == pytest.approx(expected, rel=1e-6)


def composed(in_distribution, k=5, seed=0):
    """Returns logits, their softmax and labels, which are -1 where `in_distribution` is false."""
    logits, p, labels = sample(len(in_distribution), k, seed)
    return logits, p, np.where(in_distribution, labels, -1)


def two_means(labels, y_pred, weight, gamma=1.0, from_logits=True):
    """Returns equation 1 of Lee & Cheon by Keras's own losses."""
    k, outlier = y_pred.shape[-1], labels == -1
    id_loss = keras.losses.CategoricalCrossentropy(
        label_smoothing=kls.epsilon_from_gamma(gamma, k), from_logits=from_logits, reduction=None, dtype="float64"
    )
    outlier_loss = keras.losses.CategoricalCrossentropy(from_logits=from_logits, reduction=None, dtype="float64")
    id_losses = id_loss(np.eye(k)[np.where(outlier, 0, labels)], y_pred)
    outlier_losses = outlier_loss(np.full((len(labels), k), 1 / k), y_pred)
    shares = (
        np.where(outlier, 0.0, 1.0) / max((~outlier).sum(), 1),
        np.where(outlier, weight, 0.0) / max(outlier.sum(), 1),
    )
    return ops.sum(id_losses * shares[0]) + ops.sum(outlier_losses * shares[1])


COMPOSITIONS = {
    "both": [True, False, True, True, False, True],
    "in_distribution": [True] * 6,
    "outliers": [False] * 6,
    "one outlier": [True] * 5 + [False],
}
compositions = pytest.mark.parametrize("in_distribution", COMPOSITIONS.values(), ids=list(COMPOSITIONS))


class TestOutlierExposure:
    # ln 2 = 0.693147, -ln 0.8 = 0.223144, -(ln 0.9 + ln 0.1) / 2 = 1.203973
    LABELS, ROWS = [0, -1, -1], [[0.8, 0.2], [0.5, 0.5], [0.9, 0.1]]

    def test_by_hand(self):
        loss = kls.OutlierExposure(weight=0.5)
        assert float(loss(self.LABELS, self.ROWS)) == pytest.approx(
            0.223144 + 0.5 * (0.693147 + 1.203973) / 2, abs=1e-6
        )

    def test_by_hand_per_sample(self):
        losses = numbers(kls.OutlierExposure(weight=0.5, reduction=None)(self.LABELS, self.ROWS))
        np.testing.assert_allclose(losses, [3 * 0.223144, 0.75 * 0.693147, 0.75 * 1.203973], atol=3e-6)

    def test_by_hand_with_sample_weights(self):
        value = float(kls.OutlierExposure(weight=0.5)(self.LABELS, self.ROWS, sample_weight=[2.0, 0.0, 1.0]))
        assert value == pytest.approx(2 * 0.223144 + 0.5 * 1.203973 / 2, abs=1e-6)

    @pytest.mark.usefixtures("float64")
    @settings(max_examples=8 if BACKEND == "jax" else 25)
    @given(
        in_distribution=st.lists(st.booleans(), min_size=6, max_size=6),
        gamma=st.floats(0.21, 1),
        weight=st.floats(0, 10),
        from_logits=st.booleans(),
        column=st.booleans(),
        seed=st.integers(0, 1000),
    )
    def test_any_composition_is_the_sum_of_two_means(self, in_distribution, gamma, weight, from_logits, column, seed):
        logits, p, labels = composed(in_distribution, seed=seed)
        y_pred = logits if from_logits else p
        loss = kls.OutlierExposure(gamma, weight, from_logits, dtype="float64")
        found = float(loss(labels[:, None] if column else labels, y_pred))
        expected = float(two_means(labels, y_pred, weight, gamma, from_logits))
        assert found == pytest.approx(expected, rel=1e-11, abs=1e-12)

    @pytest.mark.usefixtures("float64")
    @compositions
    @pytest.mark.parametrize("gamma", [1, 0.8])
    def test_gradient_is_that_of_the_two_means(self, in_distribution, gamma):
        logits, _, labels = composed(in_distribution)
        loss = kls.OutlierExposure(gamma, weight=0.7, from_logits=True, dtype="float64")
        expected = gradient(lambda z: two_means(labels, z, 0.7, gamma), logits)
        np.testing.assert_allclose(gradient(lambda z: loss(labels, z), logits), expected, rtol=1e-10, atol=1e-14)

    def test_without_outliers_it_is_smoothed_cross_entropy(self):
        logits, _, labels = sample()
        expected = float(kls.SmoothedCE(0.9, from_logits=True)(labels, logits))
        assert float(kls.OutlierExposure(0.9, from_logits=True)(labels, logits)) == pytest.approx(expected, rel=1e-6)

    def test_without_id_samples_it_is_the_second_term(self):
        logits, p, _ = sample()
        expected = -0.5 * np.log(p).mean()
        found = kls.OutlierExposure(0.9, weight=0.5, from_logits=True)(np.full(6, -1), logits)
        assert float(found) == pytest.approx(expected, rel=1e-6)

    @compositions
    def test_compiled_it_is_the_same(self, in_distribution):
        logits, _, labels = composed(in_distribution)
        loss = kls.OutlierExposure(0.9, weight=0.5, from_logits=True)
        found = compiled(lambda y, z: loss(y, z))(labels.astype("int32"), logits.astype("float32"))
        assert float(found) == pytest.approx(float(loss(labels, logits)), rel=1e-6)

    def test_logits_of_minus_infinity_where_they_do_not_count(self):
        # another class of an ID sample without smoothing, and an outlier without weight
        logits = np.array([[1, 2, -np.inf], [-np.inf, 0, 0]], "float32")
        loss = kls.OutlierExposure(weight=0, from_logits=True)
        assert float(loss([0, -1], logits)) == pytest.approx(np.log(1 + np.e), rel=1e-6)
        assert np.isfinite(gradient(lambda z: loss(np.array([0, -1]), z), logits)).all()

    @pytest.mark.parametrize("from_logits", [True, False])
    def test_gradient_is_finite_at_huge_logits(self, from_logits):
        logits = np.array([[1e4, -1e4, 0], [-1e4, 1e4, 0], [0, -1e4, 1e4]], "float32")
        loss = kls.OutlierExposure(from_logits=from_logits)
        found = gradient(lambda z: loss(np.array([1, -1, -1]), z if from_logits else ops.softmax(z)), logits)
        assert np.isfinite(found).all()

    @pytest.mark.parametrize("wrong", [-2, 5, 0.5, float("nan")])
    def test_another_label_is_refused_when_eager(self, wrong):
        logits, _, _ = sample(n=3)
        with pytest.raises(ValueError, match=rf"0\.\.4, or -1 for an outlier.*\[{wrong}"):
            kls.OutlierExposure(from_logits=True)(np.array([0, wrong, -1], "float32"), logits)

    @pytest.mark.parametrize("wrong", [-2, 5])
    def test_another_label_makes_the_loss_nan_when_compiled(self, wrong):
        logits, _, _ = sample(n=3)
        loss = kls.OutlierExposure(from_logits=True, reduction=None)
        labels = np.array([0, wrong, -1], "int32")
        losses = numbers(compiled(lambda y, z: loss(y, z))(labels, logits.astype("float32")))
        np.testing.assert_array_equal(np.isnan(losses), [False, True, False])

    def test_distributions_are_refused_with_both_shapes(self):
        with pytest.raises(ValueError, match=r"-1 for an outlier.*y_true\.shape=\(6, 5\), y_pred\.shape=\(6, 5\)"):
            kls.OutlierExposure()(np.eye(6, 5), np.full((6, 5), 0.2))

    def test_gamma_is_above_one_in_k(self):
        with pytest.raises(ValueError, match=r"gamma=0\.1 with K=10"):
            kls.OutlierExposure(gamma=0.1)(np.zeros(2), np.full((2, 10), 0.1))


@pytest.mark.skipif(BACKEND != "tensorflow", reason="the strategy is TensorFlow's")
class TestOutlierExposureOnTwoReplicas:
    def test_one_step_of_fit_is_that_of_one_replica(self):
        x = np.random.default_rng(1).normal(size=(8, 4)).astype("float32")
        # the first half of the batch, one replica's, holds all outliers, most of them or none
        batches = [-1, -1, -1, -1, 0, 1, 2, 0], [-1, 2, -1, -1, 0, -1, 2, 0], [0, 1, 2, 0, 1, 2, -1, 0]
        weights = [np.random.default_rng(0).normal(size=(4, 3)), np.zeros(3)]

        def steps():
            model = keras.Sequential([keras.layers.Input((4,)), keras.layers.Dense(3)])
            model.compile(keras.optimizers.SGD(0.5), kls.OutlierExposure(0.9, from_logits=True))
            for labels in batches:
                model.set_weights(weights)
                history = model.fit(x, np.array(labels), batch_size=8, shuffle=False, verbose=0).history
                yield [*model.get_weights(), history["loss"][0]]

        with mirrored_strategy().scope():
            found = list(steps())
        for values, expected in zip(found, steps(), strict=True):
            for value, other in zip(values, expected, strict=True):
                np.testing.assert_allclose(value, other, rtol=1e-5, atol=1e-6)

    @pytest.mark.parametrize("split", [5, 8])
    def test_replicas_of_unequal_batches_sum_to_the_formula(self, split):
        import tensorflow as tf

        logits, _, labels = composed([False, True, False, False, True, True, False, True], seed=3)
        loss, strategy = kls.OutlierExposure(0.8, 0.7, from_logits=True), mirrored_strategy()
        parts = iter([(labels[:split], logits[:split]), (labels[split:], logits[split:])])
        given = strategy.experimental_distribute_values_from_function(
            lambda _: tuple(tf.constant(array, "float32") for array in next(parts))
        )

        def value_and_gradient(part):
            with tf.GradientTape() as tape:
                tape.watch(part[1])
                value = loss(*part)
            return value, tape.gradient(value, part[1])

        values, gradients = tf.function(lambda part: strategy.run(value_and_gradient, (part,)))(given)
        found = np.concatenate([part.numpy() for part in strategy.experimental_local_results(gradients)])
        expected = gradient(lambda z: two_means(labels, z, 0.7, 0.8), logits)
        np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-6)
        total = sum(value.numpy() for value in strategy.experimental_local_results(values))
        assert total == pytest.approx(float(two_means(labels, logits, 0.7, 0.8)), rel=1e-5)


def distillation_sample(seed=0):
    """Returns a student's logits and their softmax, labels and a teacher's logits."""
    return *sample(seed=seed), sample(seed=seed + 1)[0]


def divergence(labels, teacher, student, alpha, temperature, scale=1.0):
    """Returns Keras's cross-entropy and Kullback-Leibler divergence, weighted."""
    label_term = keras.losses.CategoricalCrossentropy(from_logits=True, dtype="float64")(np.eye(5)[labels], student)
    teacher_term = keras.losses.KLDivergence(dtype="float64")(
        ops.softmax(teacher / temperature), ops.softmax(student / temperature)
    )
    return (1 - alpha) * label_term + alpha * scale * teacher_term


class TestKnowledgeDistillation:
    # student: softmax(4, 0), -ln p_0 = 0.018150; at temperature 2 -ln = 0.126928, 2.126928
    # teacher: at temperature 2 softmax(1, 0) = 0.731059, 0.268941, so that its term is 0.664810
    @pytest.mark.parametrize(("scale_by_temperature", "factor"), [(False, 1), (True, 4)])
    def test_by_hand(self, scale_by_temperature, factor):
        loss = kls.KnowledgeDistillation(0.25, 2.0, from_logits=True, scale_by_temperature=scale_by_temperature)
        found = float(loss(kls.pack_teacher([0], [[2.0, 0.0]]), [[4.0, 0.0]]))
        assert found == pytest.approx(0.75 * 0.018150 + 0.25 * factor * 0.664810, abs=1e-5)

    @pytest.mark.usefixtures("float64")
    @settings(max_examples=8 if BACKEND == "jax" else 20)
    @given(
        alpha=st.floats(0, 1),
        temperature=st.floats(1, 20),
        scaled=st.booleans(),
        from_logits=st.booleans(),
        seed=st.integers(0, 1000),
    )
    def test_differs_from_keras_by_the_entropy_of_the_teacher(self, alpha, temperature, scaled, from_logits, seed):
        logits, p, labels, teacher = distillation_sample(seed)
        scale = temperature**2 if scaled else 1.0
        loss = kls.KnowledgeDistillation(alpha, temperature, from_logits, scaled, dtype="float64")
        found = float(loss(kls.pack_teacher(labels, teacher), logits if from_logits else p))
        tempered = np.exp(teacher / temperature)
        tempered /= tempered.sum(axis=1, keepdims=True)
        entropy = -(tempered * np.log(tempered)).sum(axis=1).mean()
        expected = float(divergence(labels, teacher, logits, alpha, temperature, scale)) + alpha * scale * entropy
        assert found == pytest.approx(expected, rel=1e-4, abs=1e-4)  # Keras clips at 1e-7

    @pytest.mark.usefixtures("float64")
    @pytest.mark.parametrize("scaled", [False, True])
    @pytest.mark.parametrize(("alpha", "temperature"), [(0.1, 3.0), (0.9, 1.0), (0.5, 20.0)])
    def test_gradient_is_that_of_keras(self, alpha, temperature, scaled):
        logits, _, labels, teacher = distillation_sample()
        loss = kls.KnowledgeDistillation(alpha, temperature, True, scaled, dtype="float64")
        packed, scale = kls.pack_teacher(labels, teacher), temperature**2 if scaled else 1.0
        expected = gradient(lambda z: divergence(labels, teacher, z, alpha, temperature, scale), logits)
        np.testing.assert_allclose(gradient(lambda z: loss(packed, z), logits), expected, rtol=1e-9, atol=1e-6)

    def test_alpha_of_zero_is_cross_entropy_whatever_the_teacher(self):
        logits, _, labels, teacher = distillation_sample()
        expected = float(kls.SmoothedCE(1, from_logits=True)(labels, logits))
        for teacher_logits in (teacher, np.full((6, 5), np.nan), np.full((6, 5), np.inf)):
            loss = kls.KnowledgeDistillation(alpha=0, from_logits=True)
            assert float(loss(kls.pack_teacher(labels, teacher_logits), logits)) == pytest.approx(expected, rel=1e-6)

    def test_alpha_of_one_is_the_teachers_term_whatever_the_label(self):
        logits, p, _, _ = distillation_sample()
        loss = kls.KnowledgeDistillation(alpha=1, temperature=1, from_logits=True)
        found = float(loss(kls.pack_teacher(np.full((6, 5), np.nan), np.zeros((6, 5))), logits))
        assert found == pytest.approx(-np.log(p).mean(), rel=1e-5)  # of a uniform teacher: that of label smoothing

    def test_mixed_labels(self):
        logits, _, _, teacher = distillation_sample()
        mixed = np.random.default_rng(1).dirichlet(np.ones(5), size=6)
        expected = float(kls.SmoothedCE(1, from_logits=True)(mixed, logits))
        found = float(kls.KnowledgeDistillation(0, from_logits=True)(kls.pack_teacher(mixed, teacher), logits))
        assert found == pytest.approx(expected, rel=1e-6)

    # the second teacher: at temperature 2 softmax(-1, 0) = 0.268941, 0.731059, so that its term is 1.589046
    @pytest.mark.parametrize(("reduce_teachers", "term"), [("mean", 1.126928), ("sum", 2.253856)])
    def test_several_teachers_by_hand(self, reduce_teachers, term):
        loss = kls.KnowledgeDistillation(0.25, 2.0, from_logits=True, reduce_teachers=reduce_teachers)
        found = float(loss(kls.pack_teacher([0], [[[2.0, 0.0], [-2.0, 0.0]]]), [[4.0, 0.0]]))
        assert found == pytest.approx(0.75 * 0.018150 + 0.25 * term, abs=1e-5)

    @pytest.mark.usefixtures("float64")
    @pytest.mark.parametrize("teachers", [1, 3])
    def test_the_sum_is_the_mean_times_the_number_of_teachers(self, teachers):
        """The paper's MT and En: the losses of the teachers one by one, summed, and the cross-entropy to their mean."""
        logits, _, labels, _ = distillation_sample()
        stored = np.random.default_rng(5).normal(scale=3, size=(6, teachers, 5))
        packed = kls.pack_teacher(labels, stored)
        mean, total = (
            kls.KnowledgeDistillation(1, 1, True, reduce_teachers=how, dtype="float64") for how in ("mean", "sum")
        )
        one_by_one = [float(mean(kls.pack_teacher(labels, stored[:, t]), logits)) for t in range(teachers)]
        assert float(total(packed, logits)) == pytest.approx(sum(one_by_one), rel=1e-7)
        gradients = [gradient(lambda z, loss=loss: loss(packed, z), logits) for loss in (mean, total)]
        np.testing.assert_allclose(gradients[1], teachers * gradients[0], rtol=1e-9)
        p_student, p_teachers = np.asarray(ops.softmax(logits)), np.asarray(ops.softmax(stored))
        np.testing.assert_allclose(gradients[0], (p_student - p_teachers.mean(axis=1)) / 6, rtol=1e-6, atol=1e-9)

    def test_dense_predictions(self):
        logits, _, labels, teacher = distillation_sample()
        loss = kls.KnowledgeDistillation(from_logits=True, reduction=None)
        packed = numbers(kls.pack_teacher(labels, np.stack([teacher, -teacher], axis=1)))
        found = numbers(loss(packed.reshape(2, 3, 15), logits.reshape(2, 3, 5)))
        np.testing.assert_allclose(found.reshape(6), numbers(loss(packed, logits)), rtol=1e-6)

    def test_compiled_it_is_the_same(self):
        logits, p, labels, teacher = (array.astype("float32") for array in distillation_sample())
        for loss, y_pred in ((kls.KnowledgeDistillation(from_logits=True), logits), (kls.KnowledgeDistillation(), p)):
            found = compiled(lambda y, t, z, loss=loss: loss(kls.pack_teacher(y, t), z))(labels, teacher, y_pred)
            assert float(found) == pytest.approx(float(loss(kls.pack_teacher(labels, teacher), y_pred)), rel=1e-6)

    def test_a_label_outside_makes_the_loss_nan_when_compiled(self):
        logits, _, _, teacher = (array.astype("float32") for array in distillation_sample())
        loss = kls.KnowledgeDistillation(from_logits=True, reduction=None)
        losses = compiled(lambda y, t, z: loss(kls.pack_teacher(y, t), z))(
            np.array([0, -1, 5, 1, 2, 4]), teacher, logits
        )
        np.testing.assert_array_equal(np.isnan(numbers(losses)), [False, True, True, False, False, False])

    def test_gradient_is_finite_at_huge_logits(self):
        logits = np.array([[1e4, -1e4, 0], [-1e4, 1e4, 0], [0, -1e4, 1e4]], "float32")
        packed = kls.pack_teacher([1, 1, 1], -logits)
        loss = kls.KnowledgeDistillation(0.5, from_logits=True)
        assert np.isfinite(float(loss(packed, logits)))
        assert np.isfinite(gradient(lambda z: loss(packed, z), logits)).all()

    @pytest.mark.parametrize("shape", [(6,), (6, 1), (6, 5), (6, 9), (5, 10), (10,), (6, 10, 1)])
    def test_labels_that_do_not_fit_are_refused_with_both_shapes(self, shape):
        with pytest.raises(ValueError, match=r"pack_teacher.*y_true\.shape=.*y_pred\.shape=\(6, 5\)"):
            kls.KnowledgeDistillation()(np.zeros(shape, "float32"), np.full((6, 5), 0.2, "float32"))


class TestWeightedSoftLabels:
    # student: softmax(4, 0), its loss 0.018150; teacher: softmax(2, 0), its loss 0.126928, so w = 1 - exp(-0.142994)
    # = 0.133241; the teacher's term at temperature 2 is 0.664810, as above
    def test_by_hand(self):
        loss = kls.WeightedSoftLabels(2.5, 2.0, from_logits=True)
        found = float(loss(kls.pack_teacher([0], [[2.0, 0.0]]), [[4.0, 0.0]]))
        assert found == pytest.approx(0.018150 + 2.5 * 4 * 0.133241 * 0.664810, abs=1e-5)

    # a second teacher: softmax(-2, 0) at 1; the mean's loss is -ln((0.880797 + 0.119203) / 2) = 0.693147, so
    # w = 1 - exp(-0.026185) = 0.025845; the mean of both terms at temperature 2 is 1.126928, as above
    def test_several_teachers_by_hand(self):
        loss = kls.WeightedSoftLabels(2.5, 2.0, from_logits=True)
        found = float(loss(kls.pack_teacher([0], [[[2.0, 0.0], [-2.0, 0.0]]]), [[4.0, 0.0]]))
        assert found == pytest.approx(0.018150 + 2.5 * 4 * 0.025845 * 1.126928, abs=1e-5)

    @pytest.mark.usefixtures("float64")
    @pytest.mark.parametrize("from_logits", [True, False])
    def test_gradient_leaves_the_weight_out(self, from_logits):
        """It is that of two losses of Keras, summed with weights that are numbers."""
        logits, p, labels, teacher = distillation_sample()
        rows = np.arange(6), labels
        ratio = np.log(p[rows]) / np.log(np.asarray(ops.softmax(teacher))[rows])
        weights = 1 - np.exp(-ratio)
        student = logits if from_logits else p
        loss = kls.WeightedSoftLabels(2.5, 3.0, from_logits, dtype="float64")

        def expected(z):
            target = ops.softmax(teacher / 3)
            log_p = z if from_logits else ops.log(z / ops.sum(z, axis=-1, keepdims=True))
            soft = keras.losses.categorical_crossentropy(target, log_p / 3, from_logits=True)
            hard = keras.losses.sparse_categorical_crossentropy(labels, log_p, from_logits=True)
            return ops.mean(hard + 2.5 * 9 * weights * soft)

        packed = kls.pack_teacher(labels, teacher)
        assert float(loss(packed, student)) == pytest.approx(float(expected(student)), rel=1e-5)
        found = gradient(lambda z: loss(packed, z), student)
        np.testing.assert_allclose(found, gradient(expected, student), rtol=1e-5, atol=1e-7)

    def test_alpha_of_zero_is_cross_entropy(self):
        logits, _, labels, teacher = distillation_sample()
        found = float(kls.WeightedSoftLabels(0, from_logits=True)(kls.pack_teacher(labels, teacher), logits))
        assert found == pytest.approx(float(kls.SmoothedCE(1, from_logits=True)(labels, logits)), rel=1e-6)

    def test_a_certain_teacher_counts_in_full_if_right_not_if_wrong(self):
        logits = np.array([[1.0, 0.0, 0.0]], "float32")
        hard = -np.log(np.e / (np.e + 2))
        loss = kls.WeightedSoftLabels(1.0, 1.0, from_logits=True)
        right = kls.pack_teacher([0], [[1000.0, 0.0, 0.0]])
        assert float(loss(right, logits)) == pytest.approx(2 * hard, rel=1e-5)
        assert np.isfinite(gradient(lambda z: loss(right, z), logits)).all()
        wrong = kls.pack_teacher([0], [[0.0, 1000.0, 0.0]])
        assert float(loss(wrong, logits)) == pytest.approx(hard, rel=2e-3)

    def test_a_student_and_a_teacher_without_loss_give_none(self):
        logits = np.array([[1000.0, 0.0]], "float32")
        packed, loss = kls.pack_teacher([0], logits), kls.WeightedSoftLabels(from_logits=True)
        assert float(loss(packed, logits)) == 0
        assert np.isfinite(gradient(lambda z: loss(packed, z), logits)).all()

    def test_compiled_it_is_the_same(self):
        logits, _, labels, teacher = (array.astype("float32") for array in distillation_sample())
        loss = kls.WeightedSoftLabels(from_logits=True)
        found = compiled(lambda y, t, z: loss(kls.pack_teacher(y, t), z))(labels, teacher, logits)
        assert float(found) == pytest.approx(float(loss(kls.pack_teacher(labels, teacher), logits)), rel=1e-6)

    def test_labels_without_logits_are_refused(self):
        with pytest.raises(ValueError, match=r"pack_teacher.*y_true\.shape=\(6,\), y_pred\.shape=\(6, 5\)"):
            kls.WeightedSoftLabels()(np.zeros(6), np.full((6, 5), 0.2, "float32"))


def focal_std(p, labels, k, std_weight):
    """Returns equations 3 and 4 of Song by SciPy and NumPy, sample by sample."""
    rows = []
    for row, label in zip(p, labels, strict=True):
        wrong_scores = np.delete(row, label)
        uneven = np.std(row) if row.argmax() != label else 0.0
        rows.append(-np.log(row[label]) - k * xlog1py(wrong_scores, -wrong_scores).sum() + std_weight * uneven)
    return np.array(rows)


def exact_focal_std(logits, label, k, std_weight):
    """Returns the loss of one sample in 150 decimal digits."""
    exponentials = [logit.exp() for logit in logits]
    p = [x / sum(exponentials) for x in exponentials]
    focal = -p[label].ln() - k * sum(x * (1 - x).ln() for i, x in enumerate(p) if i != label)
    if p.index(max(p)) == label:
        return focal
    mean = sum(p) / len(p)
    return focal + std_weight * (sum((x - mean) ** 2 for x in p) / len(p)).sqrt()


def exact_value_and_gradient(logits, label, k, std_weight):
    """Returns the loss of one sample and its central differences in 150 decimal digits, rounded to floats."""
    with decimal.localcontext(prec=150):
        logits = [decimal.Decimal(float(logit)) for logit in logits]
        k, std_weight, step = decimal.Decimal(k), decimal.Decimal(std_weight), decimal.Decimal("1e-30")

        def shifted(i, shift):
            return exact_focal_std([*logits[:i], logits[i] + shift, *logits[i + 1 :]], label, k, std_weight)

        differences = [float((shifted(i, step) - shifted(i, -step)) / (2 * step)) for i in range(len(logits))]
        return float(exact_focal_std(logits, label, k, std_weight)), differences


class TestFocalStdValue:
    # t = 0, predicted 1: -ln 0.2 = 1.609438; -(0.7 ln 0.3 + 0.1 ln 0.9) = 0.842781 + 0.010536 = 0.853317; the
    # deviations from 1/3 are -2/15, 11/30 and -7/30, so std = sqrt(0.068889) = 0.262467
    WRONG = 0.2, 0.7, 0.1
    # t = 0, predicted 0: -ln 0.6 = 0.510826; -(0.3 ln 0.7 + 0.1 ln 0.9) = 0.107002 + 0.010536 = 0.117539
    RIGHT = 0.6, 0.3, 0.1

    @pytest.mark.usefixtures("float64")
    @pytest.mark.parametrize("from_logits", [True, False])
    @pytest.mark.parametrize(
        ("arguments", "wrong", "right"),
        [
            ({}, 1.609438 + 0.853317 + 0.262467, 0.510826 + 0.117539),
            ({"as_printed": True}, 1.609438 + 0.853317 - 0.262467, 0.510826 + 0.117539),
            ({"k": 0.5, "std_weight": 0}, 1.609438 + 0.5 * 0.853317, 0.510826 + 0.5 * 0.117539),
            ({"k": 0, "std_weight": 5}, 1.609438 + 5 * 0.262467, 0.510826),
            ({"k": 0, "std_weight": 5, "as_printed": True}, 1.609438 - 5 * 0.262467, 0.510826),
        ],
    )
    def test_by_hand(self, arguments, wrong, right, from_logits):
        loss = kls.FocalStd(**arguments, from_logits=from_logits, reduction=None)
        rows = np.array([self.WRONG, self.RIGHT])
        losses = numbers(loss([0, 0], np.log(rows) if from_logits else rows))
        np.testing.assert_allclose(losses, [wrong, right], atol=5e-6)

    @pytest.mark.usefixtures("float64")
    def test_mixed_labels_by_hand(self):
        # mostly the first class: -(0.6 ln 0.2 + 0.4 ln 0.7) = 1.108333 and
        # -(0.4 * 0.2 ln 0.8 + 0.6 * 0.7 ln 0.3 + 0.1 ln 0.9) = 0.017852 + 0.505669 + 0.010536 = 0.534056;
        # mostly the second, which is predicted: -(0.4 ln 0.2 + 0.6 ln 0.7) = 0.857780 and
        # -(0.6 * 0.2 ln 0.8 + 0.4 * 0.7 ln 0.3 + 0.1 ln 0.9) = 0.026777 + 0.337113 + 0.010536 = 0.374426
        loss = kls.FocalStd(2, 0.5, reduction=None)
        losses = numbers(loss([[0.6, 0.4, 0.0], [0.4, 0.6, 0.0]], [self.WRONG, self.WRONG]))
        expected = [1.108333 + 2 * 0.534056 + 0.5 * 0.262467, 0.857780 + 2 * 0.374426]
        np.testing.assert_allclose(losses, expected, atol=5e-6)

    @pytest.mark.usefixtures("float64")
    @settings(max_examples=8 if BACKEND == "jax" else 15)
    @given(
        k=st.floats(0, 5),
        std_weight=st.floats(0, 5),
        from_logits=st.booleans(),
        form=st.sampled_from(["row", "column", "one-hot"]),
        seed=st.integers(0, 1000),
    )
    def test_equals_scipy_and_numpy(self, k, std_weight, from_logits, form, seed):
        logits, p, labels = sample(seed=seed)
        y_true = {"row": labels, "column": labels[:, None], "one-hot": np.eye(5)[labels]}[form]
        loss = kls.FocalStd(k, std_weight, from_logits, reduction=None)
        found = numbers(loss(y_true, logits if from_logits else p))
        tolerance = 1e-9 if from_logits else 1e-5  # probabilities are clipped at 1e-7
        np.testing.assert_allclose(found, focal_std(p, labels, k, std_weight), rtol=tolerance, atol=tolerance)

    @pytest.mark.usefixtures("float64")
    @pytest.mark.parametrize("from_logits", [True, False])
    def test_without_its_weights_it_is_cross_entropy(self, from_logits):
        logits, p, labels = sample()
        y_pred, loss = logits if from_logits else p, kls.FocalStd(0, 0, from_logits, reduction=None)
        sparse = keras.losses.SparseCategoricalCrossentropy(from_logits=from_logits, reduction=None)
        np.testing.assert_allclose(numbers(loss(labels, y_pred)), numbers(sparse(labels, y_pred)), rtol=1e-13)
        one_hot = np.eye(5)[labels]
        dense = keras.losses.CategoricalCrossentropy(from_logits=from_logits, reduction=None)
        np.testing.assert_allclose(numbers(loss(one_hot, y_pred)), numbers(dense(one_hot, y_pred)), rtol=1e-13)

    @pytest.mark.usefixtures("float64")
    def test_probabilities_of_zero_and_one_are_clipped(self):
        losses = numbers(kls.FocalStd(reduction=None)([0, 1], [[0.0, 1.0, 0.0], [0.0, 1.0, 0.0]]))
        np.testing.assert_allclose(losses, [-2 * np.log(1e-7) + np.std([0, 1, 0]), 0], atol=1e-6)

    def test_weights_and_reductions(self):
        logits, p, labels = sample()
        weights = np.array([0.0, 1.0, 2.0, 0.5, 1.0, 3.0])
        losses = weights * focal_std(p, labels, 1, 1)
        for reduction, expected in {
            None: losses,
            "sum": losses.sum(),
            "sum_over_batch_size": losses.mean(),
            "mean_with_sample_weight": losses.sum() / weights.sum(),
        }.items():
            loss = kls.FocalStd(from_logits=True, reduction=reduction)
            np.testing.assert_allclose(numbers(loss(labels, logits, sample_weight=weights)), expected, rtol=1e-5)

    def test_dense_predictions(self):
        logits, _, labels = sample()
        loss = kls.FocalStd(from_logits=True, reduction=None)
        for y_true, shape in ((labels, (2, 3)), (np.eye(5)[labels], (2, 3, 5))):
            found = numbers(loss(y_true.reshape(shape), logits.reshape(2, 3, 5)))
            np.testing.assert_allclose(found.reshape(-1), numbers(loss(labels, logits)), rtol=1e-6)

    def test_predictions_in_half_precision_are_computed_in_full(self):
        logits, _, labels = sample()
        half = ops.cast(logits, "bfloat16")
        loss = kls.FocalStd(from_logits=True)
        assert float(loss(labels, half)) == float(loss(labels, ops.cast(half, "float32")))


class TestFocalStdGradient:
    MODERATE_AND_SATURATED = (
        (0.5, -1.25, 2, 0.25, 1),
        (0, 40, 80, 0, 1),
        (0, 0, 40, 0, 0),
        (80, 0, 40, 0, -3),
        (0, 20, 19, 1, 2),
        (-100, 200, 99, 0, 3),
    )

    @pytest.mark.usefixtures("float64")
    @pytest.mark.parametrize("dtype", ["float32", "float64"])
    def test_value_and_gradient_are_exact_also_at_saturated_logits(self, dtype):
        logits = np.array(self.MODERATE_AND_SATURATED, dtype)
        loss = kls.FocalStd(0.5, 2.0, from_logits=True, reduction=None, dtype=dtype)
        precision = 50 * np.finfo(dtype).eps
        for label in range(3):
            values, gradients = zip(*(exact_value_and_gradient(row, label, 0.5, 2.0) for row in logits), strict=True)
            labels = np.full(6, label)
            for y_true in (labels, np.eye(5)[labels]):
                np.testing.assert_allclose(numbers(loss(y_true, logits)), values, rtol=precision, atol=precision)
                found = gradient(lambda z, y=y_true: ops.sum(loss(y, z)), logits)
                np.testing.assert_allclose(found, gradients, rtol=precision, atol=precision)

    @pytest.mark.parametrize("from_logits", [True, False])
    def test_is_finite_at_huge_and_infinitely_low_logits(self, from_logits):
        huge = [[1e4, -1e4, 0, 0, 0], [-1e4, 1e4, 0, 1, 2], [0, -1e4, 1e4, 0, -3e4]]
        infinite = [[-np.inf, 0, -np.inf, -np.inf, -np.inf], [2, 1, -np.inf, 0, 1], [-np.inf, 1, 2, -np.inf, 0]]
        logits = np.array(huge + infinite, "float32")
        loss = kls.FocalStd(from_logits=from_logits)

        def value(z):
            return loss(np.ones(6), z if from_logits else ops.softmax(z))

        assert np.isfinite(float(value(ops.convert_to_tensor(logits))))
        assert np.isfinite(gradient(value, logits)).all()

    def test_of_the_deviation_is_zero_at_the_uniform_distribution(self):
        logits, labels = np.full((6, 5), 0.3, "float32"), np.full(6, 4)  # TensorFlow's `exp` rounds the last ones apart
        without, found = (
            gradient(lambda z, w=weight: kls.FocalStd(1, w, from_logits=True)(labels, z), logits) for weight in (0, 5)
        )
        np.testing.assert_allclose(found, without, atol=1e-6)

    @pytest.mark.parametrize(("as_printed", "direction"), [(False, -1), (True, 1)])
    def test_a_step_evens_wrong_scores_unless_as_printed(self, as_printed, direction):
        logits, p, _ = sample()
        labels = p.argmin(axis=1)
        cross_entropy = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
        loss = kls.FocalStd(0, 1, from_logits=True, as_printed=as_printed)
        step = gradient(lambda z: loss(labels, z) - cross_entropy(labels, z), logits.astype("float32"))
        after = numbers(ops.softmax(logits - 0.1 * step))
        assert (np.sign(after.std(axis=1) - p.std(axis=1)) == direction).all()

    def test_right_predictions_do_not_know_the_deviation(self):
        logits, p, _ = sample()
        labels, logits = p.argmax(axis=1), logits.astype("float32")
        loss, without = kls.FocalStd(1, 5, from_logits=True), kls.FocalStd(1, 0, from_logits=True)
        assert float(loss(labels, logits)) == float(without(labels, logits))
        np.testing.assert_array_equal(
            gradient(lambda z: loss(labels, z), logits), gradient(lambda z: without(labels, z), logits)
        )

    @pytest.mark.skipif(BACKEND != "tensorflow", reason="Keras keeps a softmax layer's logits on TensorFlow alone")
    def test_of_a_saturated_softmax_layer_does_not_vanish(self):
        logits = np.array([[60.0, 0.0, 0.0]], "float32")
        value, exact = exact_value_and_gradient(logits[0], 1, 1, 1)
        found = gradient(lambda z: kls.FocalStd()(np.array([1]), keras.activations.softmax(z)), logits)
        np.testing.assert_allclose(found, [exact], atol=1e-5)
        assert float(kls.FocalStd()([1], keras.activations.softmax(ops.convert_to_tensor(logits)))) == pytest.approx(
            value, rel=1e-6
        )


class TestFocalStdArguments:
    @pytest.mark.parametrize("wrong", [-1, 5, 2.5])
    def test_a_label_outside_is_refused_when_eager(self, wrong):
        logits, _, _ = sample(n=3)
        with pytest.raises(ValueError, match=rf"0\.\.4.*{wrong}"):
            kls.FocalStd(from_logits=True)(np.array([0, wrong, 1], "float32"), logits)

    def test_a_label_outside_makes_its_own_compiled_loss_nan(self):
        logits, p, labels = sample()
        expected, labels = focal_std(p, labels, 1, 1), labels.astype("int32")
        expected[[1, 3]], labels[[1, 3]] = np.nan, [-1, 5]
        loss = kls.FocalStd(from_logits=True, reduction=None)
        losses = numbers(compiled(lambda y, z: loss(y, z))(labels, logits.astype("float32")))
        np.testing.assert_allclose(losses, expected, rtol=1e-5)

    @pytest.mark.parametrize("shape", [(6, 4), (5,), (1, 5)])
    def test_labels_that_do_not_fit_are_refused_with_both_shapes(self, shape):
        with pytest.raises(ValueError, match=r"y_true\.shape=.*y_pred\.shape=\(6, 5\)"):
            kls.FocalStd()(np.zeros(shape, "float32"), np.full((6, 5), 0.2, "float32"))

    def test_a_single_class_is_refused(self):
        with pytest.raises(ValueError, match=r"`y_pred` of shape \(N, K\), K >= 2.*y_pred.shape=\(6, 1\)"):
            kls.FocalStd()(np.zeros(6), np.ones((6, 1)))

    def test_a_trained_and_saved_model_keeps_its_loss(self, tmp_path):
        model = keras.Sequential([keras.layers.Input((4,)), keras.layers.Dense(5, activation="softmax")])
        model.compile(keras.optimizers.SGD(0.5), kls.FocalStd(0.5, 2))
        x, y = np.random.default_rng(0).normal(size=(6, 4)).astype("float32"), np.arange(6) % 5
        before = focal_std(numbers(model(x)), y, 0.5, 2).mean()
        model.fit(x, y, batch_size=3, verbose=0)
        after = focal_std(numbers(model(x)), y, 0.5, 2).mean()
        assert after < before
        model.save(tmp_path / "model.keras")
        again = keras.models.load_model(tmp_path / "model.keras")
        assert (again.loss.k, again.loss.std_weight, again.loss.as_printed) == (0.5, 2, False)
        assert float(again.loss(y, again(x))) == pytest.approx(after, rel=1e-5)
