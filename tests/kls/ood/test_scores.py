import json
import re
import warnings
from pathlib import Path

import keras
import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays
from keras import layers
from sklearn.covariance import EmpiricalCovariance

from benchmarks.runner.train import mirrored_strategy
from kls.network import Network, Outputs
from kls.ood import auroc, scores
from kls.ood.scores import (
    ASH,
    GEN,
    KNN,
    MSP,
    ODIN,
    SCORES,
    Energy,
    Entropy,
    KLMatching,
    Mahalanobis,
    MaxLogit,
    ReAct,
    Reconstruction,
    ViM,
    normalize_logits,
)

TENSORFLOW = keras.backend.backend() == "tensorflow"
GOLDEN = json.loads(Path(__file__).with_name("golden.json").read_text())
GIVEN = {name: np.array(values) for name, values in GOLDEN["inputs"].items()}
TRAIN, TEST, LABELS = GIVEN["train"].astype("float32"), GIVEN["test"].astype("float32"), GIVEN["labels"]
KERNEL, BIAS, IMAGES = GIVEN["kernel"], GIVEN["bias"], GIVEN["images"].astype("float32")
LOGITS = TEST @ KERNEL + BIAS
OF_LOGITS = ["msp", "max_logit", "energy", "entropy", "gen"]
OF_PROBABILITIES = ["msp", "entropy", "gen", "odin", "kl_matching"]
FITTED = ["mahalanobis", "relative_mahalanobis", "knn", "vim", "react", "kl_matching"]


def softmax(logits):
    powers = np.exp(logits - logits.max(axis=1, keepdims=True))
    return powers / powers.sum(axis=1, keepdims=True)


def logsumexp(logits):
    return np.log(np.exp(logits).sum(axis=1))


def hidden_layer():
    return layers.Dense(8, activation="tanh", name="hidden")


class Opaque(keras.Model):
    def __init__(self, activation=None):
        super().__init__()
        self.hidden, self.head = hidden_layer(), layers.Dense(5, activation=activation)

    def call(self, x):
        return self.head(self.hidden(x))


def weighted(model):
    if not model.built:
        model(IMAGES[:1])
    model.set_weights([GIVEN["hidden_kernel"], GIVEN["hidden_bias"], KERNEL, BIAS])
    return model


def sequential(*last):
    return weighted(keras.Sequential([layers.Input((6,)), hidden_layer(), *last]))


def nested(activation=None):
    inner = keras.Sequential([layers.Input((6,)), hidden_layer(), layers.Dense(5, activation=activation)])
    return weighted(keras.Sequential([layers.Input((6,)), layers.Rescaling(1.0), inner]))


def deep_logits(images=IMAGES):
    """Returns the logits of the network of two layers, by NumPy in float64."""
    images = images.astype("float64")
    return np.tanh(images @ GIVEN["hidden_kernel"] + GIVEN["hidden_bias"]) @ KERNEL + BIAS


def opaque_probabilities():
    return weighted(Opaque("softmax"))


MODELS = {
    "linear": lambda: sequential(layers.Dense(5)),
    "softmax": lambda: sequential(layers.Dense(5, activation="softmax")),
    "softmax layer": lambda: sequential(layers.Dense(5), layers.Softmax()),
    "activation layer": lambda: sequential(layers.Dense(5), layers.Activation("softmax")),
    "nested": nested,
    "nested softmax": lambda: nested("softmax"),
    "opaque": lambda: weighted(Opaque()),
}


@pytest.fixture(scope="module")
def head():
    """A model of the last layer alone: its features are the images."""
    model = keras.Sequential([layers.Input((8,)), layers.Dense(5)])
    model.set_weights([KERNEL, BIAS])
    return model


@pytest.fixture(scope="module")
def deep():
    return MODELS["linear"]()


@pytest.fixture(scope="module")
def head_network(head):
    return Network(head)


@pytest.fixture(scope="module")
def deep_network(deep):
    """What compiles the model once for several tests."""
    return Network(deep)


@pytest.fixture(scope="module")
def opaque_network():
    return Network(opaque_probabilities())


@pytest.fixture(scope="module")
def blobs():
    """A network with a ReLU, three Gaussians that it tells apart, and one between and beside them."""
    rng = np.random.default_rng(5)
    labels = np.arange(180) % 3
    train, familiar = (np.eye(6)[labels] * 6 + rng.normal(scale=0.5, size=(180, 6)) for _ in range(2))
    unfamiliar = np.r_[np.zeros(3), np.full(3, 3.0)] + rng.normal(scale=0.5, size=(90, 6))
    model = keras.Sequential([layers.Input((6,)), layers.Dense(8, activation="relu"), layers.Dense(3)])
    hidden = np.concatenate([np.eye(6), rng.normal(scale=0.1, size=(6, 2))], axis=1)
    out = np.concatenate([np.eye(3) * 2, np.full((3, 3), -0.2), np.zeros((2, 3))])
    model.set_weights([hidden, np.zeros(8), out, np.full(3, -1.0)])
    return Network(model), train.astype("float32"), labels, familiar.astype("float32"), unfamiliar.astype("float32")


def outputs_of(features, labels=None):
    """Returns `Outputs` of these features."""
    classes = 3 if labels is None else max(labels) + 1
    return Outputs(np.zeros((len(features), classes)), labels, np.asarray(features, "float32"))


def scored(score, train, test, labels=None):
    """Returns the scores of features by a score fitted to others, without a model."""
    score.fit_outputs(outputs_of(train, labels=labels))
    return score.of_outputs(outputs_of(test))


# What PyTorch-OOD's numbers are multiplied by. It scores unfamiliarity, hence the sign. Beyond that: it averages over
# GEN's classes where the paper sums (equation 4), its covariances are sums over samples where the papers have means
# (Lee et al., equation 1), and it halves the distance of Mahalanobis.
N = len(TRAIN)
AGAINST_PYTORCH = {
    "msp": (MSP(), -1),
    "max_logit": (MaxLogit(), -1),
    "energy": (Energy(), -1),
    "energy_t3": (Energy(3), -1),
    "entropy": (Entropy(), -1),
    "mahalanobis": (Mahalanobis(), -2 * N),
    "relative_mahalanobis": (Mahalanobis(relative=True), -N),
    "knn_k1": (KNN(k=1), -1),
    "knn_k7": (KNN(k=7), -1),
    "vim_d4": (ViM(dimension=4), -1),
    "vim_d6": (ViM(dimension=6), -1),
    "react_p70": (ReAct(percentile=70), -1),
    "react_p90": (ReAct(), -1),
    "ash_p65": (ASH(percentile=65), -1),
    "ash_p90": (ASH(), -1),
    "kl_matching": (KLMatching(), -1),
}


class TestAgainstPyTorchOOD:
    @pytest.mark.parametrize("name", AGAINST_PYTORCH)
    def test_of_features_and_logits(self, head_network, name):
        score, factor = AGAINST_PYTORCH[name]
        found = score.fit(head_network, (TRAIN, LABELS))(head_network, TEST)
        np.testing.assert_allclose(found, factor * np.array(GOLDEN["scores"][name]), rtol=5e-5, atol=1e-6)

    @pytest.mark.parametrize(
        ("name", "score", "temperature", "factor"),
        [("msp_t10", MSP(), 10, -1), ("gen_t4", GEN(), 4, -5), ("gen_t4_top3", GEN(gamma=0.3, top=3), 4, -3)],
    )
    def test_of_softened_logits(self, name, score, temperature, factor):
        np.testing.assert_allclose(score(LOGITS / temperature), factor * np.array(GOLDEN["scores"][name]), rtol=1e-6)

    @pytest.mark.parametrize(("name", "score"), [("odin", ODIN()), ("odin_t10_e50", ODIN(10, 0.05))])
    def test_odin(self, deep_network, name, score):
        expected = -np.array(GOLDEN["scores"][name])
        np.testing.assert_allclose(score(deep_network, IMAGES), expected, rtol=1e-6)
        assert np.ptp(expected) > 1e-4  # they tell images apart by more than that


class TestByHand:
    P = np.array([[0.7, 0.2, 0.1], [0.5, 0.5, 0.0], [1 / 3, 1 / 3, 1 / 3]])

    def z(self):
        with np.errstate(divide="ignore"):
            return np.log(self.P) + np.array([[3.0], [-1.0], [0.0]])

    def test_scores_of_logits(self):
        z = self.z()
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            np.testing.assert_allclose(MSP()(z), [0.7, 0.5, 1 / 3], rtol=1e-14)
            np.testing.assert_allclose(MaxLogit()(z), z.max(axis=1), rtol=0)
            np.testing.assert_allclose(Energy()(z), [3, -1, 0], atol=1e-14)  # p sums to 1: the shift alone
            entropies = [0.7 * np.log(0.7) + 0.2 * np.log(0.2) + 0.1 * np.log(0.1), -np.log(2), -np.log(3)]
            np.testing.assert_allclose(Entropy()(z), entropies, rtol=1e-14)
            products = [[0.21, 0.16, 0.09], [0.25, 0.25, 0.0], [2 / 9] * 3]
            np.testing.assert_allclose(GEN()(z), [-sum(q**0.1 for q in row) for row in products], rtol=1e-12)
            np.testing.assert_allclose(
                GEN(0.5, top=2)(z), [-sum(q**0.5 for q in row[:2]) for row in products], rtol=1e-12
            )
            np.testing.assert_allclose(Energy(2)(z), 2 * np.log(np.exp(z / 2).sum(axis=1)), rtol=1e-12)

    def test_energy_and_entropy_of_huge_logits(self):
        z = [[1e4, 0.0], [-1e4, -1e4], [0.0, 1e308]]
        np.testing.assert_allclose(Energy()(z), [1e4, -1e4 + np.log(2), 1e308])
        np.testing.assert_allclose(Entropy()(z), [0, -np.log(2), 0], atol=1e-15)
        np.testing.assert_allclose(MSP()(z), [1, 0.5, 1])

    def test_gen_of_a_confident_sample_counts_its_likeliest_class_too(self):
        # with two classes both terms are the same, (p (1 - p))^0.1, however close p is to 1
        for margin in (30.0, 36.0, 40.0, 60.0):
            p = np.exp(-margin) / (1 + np.exp(-margin))
            assert GEN()([[0.0, margin]])[0] == pytest.approx(-2 * (p * (1 - p)) ** 0.1, rel=1e-6)

    def test_kl_matching(self, head):
        p_train, p = softmax(TRAIN @ KERNEL + BIAS), softmax(LOGITS)
        predicted = p_train.argmax(axis=1)
        divergences = [(p * np.log(p / p_train[predicted == k].mean(axis=0))).sum(axis=1) for k in np.unique(predicted)]
        found = KLMatching().fit(head, TRAIN)(head, TEST)
        np.testing.assert_allclose(found, -np.min(divergences, axis=0), rtol=1e-4, atol=1e-6)

    def test_mahalanobis_by_scikit_learn(self, head):
        means = np.stack([TRAIN[np.equal(LABELS, k)].astype(float).mean(axis=0) for k in range(5)])
        tied = EmpiricalCovariance(assume_centered=True).fit(TRAIN - means[LABELS])
        nearest = np.min([tied.mahalanobis(TEST - mean) for mean in means], axis=0)
        np.testing.assert_allclose(Mahalanobis().fit(head, (TRAIN, LABELS))(head, TEST), -nearest, rtol=1e-8)
        everything = EmpiricalCovariance().fit(TRAIN.astype(float)).mahalanobis(TEST)
        found = Mahalanobis(relative=True).fit(head, (TRAIN, LABELS))(head, TEST)
        np.testing.assert_allclose(found, everything - nearest, rtol=1e-7)

    def test_knn_is_a_distance_of_directions(self, head):
        def unit(f):
            norms = np.linalg.norm(f.astype(float), axis=1, keepdims=True)
            return f / np.where(norms == 0, 1, norms)

        distances = np.sort(np.linalg.norm(unit(TEST)[:, None] - unit(TRAIN), axis=2), axis=1)
        for k in (1, 50, 60):
            found = KNN(k=k).fit(head, TRAIN)
            np.testing.assert_allclose(found(head, TEST), -distances[:, k - 1], rtol=1e-5)
            np.testing.assert_allclose(found(head, TEST * 8), -distances[:, k - 1], rtol=1e-5)

    def test_knn_of_a_training_sample_is_its_own_neighbour(self, head):
        np.testing.assert_allclose(KNN(k=1).fit(head, TRAIN)(head, TRAIN), 0, atol=1e-3)

    def test_vim_by_the_authors_recipe(self, head):
        w, b = KERNEL.T, BIAS
        u = -np.linalg.pinv(w) @ b
        cov = EmpiricalCovariance(assume_centered=True).fit(TRAIN - u).covariance_
        values, vectors = np.linalg.eig(cov)
        rest = vectors[:, np.argsort(values)[::-1][4:]]  # half of 8 features by default
        alpha = (TRAIN @ w.T + b).max(axis=1).mean() / np.linalg.norm((TRAIN - u) @ rest, axis=1).mean()
        expected = logsumexp(LOGITS) - alpha * np.linalg.norm((TEST - u) @ rest, axis=1)
        np.testing.assert_allclose(ViM().fit(head, TRAIN)(head, TEST), expected, rtol=1e-5)

    @pytest.mark.parametrize(("size", "dimension"), [(8, 4), (767, 383), (768, 512), (2047, 512), (2048, 1000)])
    def test_vims_dimension(self, size, dimension, monkeypatch):
        monkeypatch.setattr(np.linalg, "eigh", lambda matrix: (np.ones(size), np.ones((size, size))))
        monkeypatch.setattr(np.linalg, "pinv", lambda matrix: np.zeros((size, 2)))
        score = ViM()
        outputs = Outputs(np.ones((1, 2)), None, np.ones((1, size)), head=(np.zeros((size, 2)), np.zeros(2)))
        score.fit_outputs(outputs)
        assert score._residual.shape[1] == size - dimension

    @pytest.mark.parametrize("percentile", [10, 50, 90, 100])
    def test_react_cuts_all_features_at_one_limit(self, head, percentile):
        limit = np.percentile(TRAIN, percentile)
        expected = logsumexp(np.minimum(TEST, limit) @ KERNEL + BIAS)
        found = ReAct(percentile).fit(head, TRAIN)(head, TEST)
        np.testing.assert_allclose(found, expected, rtol=1e-5)

    def test_ash_keeps_as_many_features_as_its_authors_code(self):
        # 64 - round(57.6) = 6 of 64; the 90th percentile itself lies below the seventh largest
        rng = np.random.default_rng(0)
        features = np.maximum(rng.normal(size=(5, 64)), 0)
        kernel, bias = rng.normal(size=(64, 3)), rng.normal(size=3)
        kept = np.where(features >= np.sort(features)[:, 58:59], features, 0)
        assert (np.count_nonzero(kept, axis=1) == 6).all()
        kept *= np.exp(features.sum(axis=1) / kept.sum(axis=1))[:, None]
        found = ASH().of_outputs(Outputs(np.zeros((5, 3)), None, features, head=(kernel, bias)))
        np.testing.assert_allclose(found, logsumexp(kept @ kernel + bias), rtol=1e-12)

    def test_ash_of_features_that_are_all_zero_is_the_energy_of_the_bias(self, head):
        found = ASH()(head, np.zeros((2, 8), "float32"))
        np.testing.assert_allclose(found, [logsumexp(BIAS[None])[0]] * 2, rtol=1e-6)


def perturbed(images, temperature, epsilon):
    """Returns images after ODIN's step, by finite differences in NumPy."""

    def log_confidence(images):
        return np.log(softmax(deep_logits(images) / temperature).max(axis=1))

    images = images.astype(float)
    steps = 1e-5 * np.eye(6)
    gradient = np.stack([log_confidence(images + step) - log_confidence(images - step) for step in steps], axis=1)
    assert np.abs(gradient).min() > 1e-6 * np.abs(gradient).max()  # no sign is a matter of rounding
    return images + epsilon * np.sign(gradient)


class TestODIN:
    @pytest.mark.parametrize("temperature", [1.0, 10.0, 1000.0])
    def test_follows_the_finite_difference_gradient(self, deep_network, temperature):
        for epsilon in (0.01, 0.5):
            expected = softmax(deep_logits(perturbed(IMAGES, temperature, epsilon)) / temperature).max(axis=1)
            np.testing.assert_allclose(ODIN(temperature, epsilon)(deep_network, IMAGES), expected, rtol=3e-6)

    @pytest.mark.parametrize("temperature", [1.0, 1000.0])
    def test_the_perturbed_logits_are_those_of_the_moved_images(self, deep_network, temperature):
        odin = ODIN(temperature, 0.05)
        found = odin.perturbed_logits(deep_network, IMAGES)
        assert (type(found), found.dtype, found.shape) == (np.ndarray, np.float32, (len(IMAGES), 5))
        expected = deep_logits(perturbed(IMAGES, temperature, 0.05))
        np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)
        assert np.abs(expected - deep_logits()).max() > 0.01
        np.testing.assert_allclose(odin.of_outputs(Outputs(found)), odin(deep_network, IMAGES), rtol=1e-12)

    def test_the_perturbed_logits_of_probabilities_are_their_logarithms(self, opaque_network):
        opaque_network.outputs(IMAGES)  # shows that they are probabilities
        found = ODIN(10.0, 0.05).perturbed_logits(opaque_network, IMAGES)
        expected = np.log(softmax(deep_logits(perturbed(IMAGES, 10.0, 0.05))))
        np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5)

    @pytest.mark.parametrize("temperature", [1.0, 1000.0])
    def test_without_a_step_is_the_maximum_softmax_at_that_temperature(self, deep_network, temperature):
        found = ODIN(temperature, epsilon=0)(deep_network, IMAGES)
        np.testing.assert_allclose(found, MSP()(deep_logits() / temperature), rtol=1e-6)

    @pytest.mark.parametrize("batch_size", [1, 5, 12, 100])
    def test_does_not_depend_on_the_batch(self, deep_network, batch_size):
        found = ODIN(10, 0.05)(deep_network, IMAGES, batch_size=batch_size)
        np.testing.assert_allclose(found, ODIN(10, 0.05)(deep_network, IMAGES), rtol=1e-6)
        backwards = ODIN(10, 0.05)(deep_network, IMAGES[::-1], batch_size=batch_size)
        np.testing.assert_allclose(backwards[::-1], found, rtol=1e-6)

    @pytest.mark.parametrize("name", ["softmax", "nested softmax", "opaque", "opaque probabilities"])
    def test_of_every_kind_of_model(self, deep_network, name):
        model = {**MODELS, "opaque probabilities": opaque_probabilities}[name]()
        np.testing.assert_allclose(ODIN(10, 0.05)(model, IMAGES), ODIN(10, 0.05)(deep_network, IMAGES), rtol=1e-5)

    def test_settings_do_not_share_what_is_compiled(self, deep_network):
        found = [ODIN(t, e)(deep_network, IMAGES) for t, e in ((1.0, 0.0), (1.0, 0.1), (2.0, 0.1), (1.0, 0.0))]
        assert not np.allclose(found[0], found[1])
        assert not np.allclose(found[1], found[2])
        np.testing.assert_array_equal(found[0], found[3])

    def test_changes_no_state(self):
        model = keras.Sequential(
            [layers.Input((6,)), layers.BatchNormalization(), layers.Dropout(0.5), layers.Dense(5)]
        )
        model(IMAGES * 3, training=True)
        before = [np.array(keras.ops.convert_to_numpy(variable.value)) for variable in model.variables]
        network = Network(model)
        np.testing.assert_array_equal(ODIN(1.0, 0.1)(network, IMAGES), ODIN(1.0, 0.1)(network, IMAGES))
        for one, variable in zip(before, model.variables, strict=True):
            np.testing.assert_array_equal(one, keras.ops.convert_to_numpy(variable.value))

    def test_the_step_is_in_units_of_the_images(self, deep, deep_network):
        # one byte is a 255th after rescaling: the same step in both units
        images = (IMAGES * 255).round().astype("uint8")
        rescaling = keras.Sequential([layers.Input((6,)), layers.Rescaling(1 / 255), deep])
        found = ODIN(10, epsilon=12.75)(rescaling, images)
        np.testing.assert_allclose(found, ODIN(10, epsilon=0.05)(deep_network, images / 255), rtol=1e-5)

    def test_a_model_that_takes_whole_numbers_alone_has_no_gradient(self, deep):
        images = (IMAGES * 255).round().astype("uint8")
        model = keras.Sequential([layers.Input((6,), dtype="uint8"), layers.Rescaling(1 / 255), deep])
        with pytest.raises(ValueError, match="ODIN needs"):
            ODIN(10, epsilon=12.75)(model, images)

    @pytest.mark.skipif(not TENSORFLOW, reason="tf.distribute")
    def test_of_a_model_of_two_replicas(self, deep_network):
        with mirrored_strategy().scope():
            model = MODELS["softmax"]()
        found = ODIN(10, 0.05)(model, IMAGES, batch_size=8)
        np.testing.assert_allclose(found, ODIN(10, 0.05)(deep_network, IMAGES), rtol=1e-5)

    @pytest.mark.usefixtures("bfloat16")
    def test_in_mixed_precision(self):
        found = ODIN(1.0, 0.0)(MODELS["linear"](), IMAGES)
        np.testing.assert_allclose(found, MSP()(deep_logits()), rtol=0.05)

    @pytest.mark.parametrize(("temperature", "epsilon"), [(0, 0.1), (-1, 0.1), (float("nan"), 0.1)])
    def test_a_temperature_that_is_none(self, temperature, epsilon):
        with pytest.raises(ValueError, match=rf"`temperature` must be a number in \(0, inf\).*{temperature}"):
            ODIN(temperature, epsilon)

    @pytest.mark.parametrize("epsilon", [-0.1, float("nan")])
    def test_a_step_that_is_none(self, epsilon):
        with pytest.raises(ValueError, match=rf"`epsilon` must be a number in \[0, inf\).*{epsilon}"):
            ODIN(epsilon=epsilon)


SQUARES = np.random.default_rng(7).random((5, 4, 4, 1)).astype("float32")


def autoencoder(shift=0.25, activation=None):
    """Returns 4x4 images through an identity, all pixels shifted: the error is the square of the shift."""
    last = layers.Dense(16, activation=activation, name="last")
    model = keras.Sequential([layers.Input((4, 4, 1)), layers.Flatten(), last, layers.Reshape((4, 4, 1))])
    model.set_weights([np.eye(16), np.full(16, shift)])
    return model


def two_outputs(named=True):
    inputs, image = layers.Input((4, 4, 1)), autoencoder(0.5)
    outputs = {"class": layers.Dense(3, name="logits")(layers.Flatten()(inputs)), "image": image(inputs)}
    return keras.Model(inputs, outputs if named else list(outputs.values())), image.name


@pytest.fixture(scope="module")
def network():
    """What compiles the autoencoder once for several tests."""
    return Reconstruction().network_of(autoencoder())


class TestReconstruction:
    def test_is_minus_the_mean_squared_error_of_each_image(self):
        images = np.zeros((3, 4, 4, 1), "float32")
        images[0, 0, 0], images[1] = 4.0, 0.5
        model = autoencoder()
        model.set_weights([np.zeros((16, 16)), np.full(16, 0.5)])  # every image becomes 0.5
        found = Reconstruction()(model, images)
        np.testing.assert_array_equal(found, [-(3.5**2 + 15 * 0.25) / 16, 0, -0.25])
        assert (found.dtype, found.shape) == (np.float64, (3,))

    @pytest.mark.parametrize("batch_size", [1, 2, 5, 100])
    def test_does_not_depend_on_the_batch(self, network, batch_size):
        images = SQUARES * np.float32(1e3)  # their rounding by float32 tells them apart
        found = Reconstruction()(network, images, batch_size)
        np.testing.assert_allclose(found, -(0.25**2), rtol=1e-3)
        np.testing.assert_allclose(found, Reconstruction()(network, images), rtol=1e-12)
        np.testing.assert_allclose(Reconstruction()(network, images[::-1], batch_size)[::-1], found, rtol=1e-12)

    @pytest.mark.skipif(not TENSORFLOW, reason="counts TensorFlow's traces")
    def test_a_partial_batch_is_not_traced_again(self):
        traced = []

        class Counted(keras.Model):
            def call(self, x):
                traced.append(x.shape)
                return x + 0.5

        score = Reconstruction()
        network = score.network_of(Counted())
        np.testing.assert_allclose(score(network, SQUARES, batch_size=2), -0.25, rtol=1e-5)
        np.testing.assert_allclose(score(network, (SQUARES, np.arange(5)), batch_size=2), -0.25, rtol=1e-5)
        assert [tuple(shape) for shape in traced] == [(2, 4, 4, 1)]

    def test_of_a_named_output(self):
        model, _ = two_outputs()
        np.testing.assert_allclose(Reconstruction()(model, SQUARES), -0.25, rtol=1e-5)
        longer = keras.Sequential([layers.Input((4, 4, 1)), layers.Rescaling(1.0), model])
        np.testing.assert_allclose(Reconstruction()(longer, SQUARES), -0.25, rtol=1e-5)

    def test_of_a_list_of_outputs_by_the_name_of_the_layer(self):
        model, name = two_outputs(named=False)
        np.testing.assert_allclose(Reconstruction(output=name)(model, SQUARES), -0.25, rtol=1e-5)

    def test_a_single_output_is_taken_whatever_its_name(self, network):
        np.testing.assert_array_equal(
            Reconstruction(output="other")(network, SQUARES), Reconstruction()(network, SQUARES)
        )
        inputs = layers.Input((4, 4, 1))
        model = keras.Model(inputs, {"picture": layers.Rescaling(2.0)(inputs)})
        np.testing.assert_allclose(
            Reconstruction()(model, SQUARES), -(SQUARES.astype(float) ** 2).mean(axis=(1, 2, 3)), rtol=1e-6
        )

    def test_of_an_autoencoder_that_ends_in_a_sigmoid(self):
        model = keras.Sequential([layers.Input((16,)), layers.Dense(16, activation="sigmoid")])
        model.set_weights([np.zeros((16, 16)), np.zeros(16)])
        found = Reconstruction()(model, SQUARES.reshape(5, 16))
        np.testing.assert_allclose(found, -((SQUARES.astype(float) - 0.5) ** 2).mean(axis=(1, 2, 3)), rtol=1e-6)

    def test_of_a_model_whose_call_is_its_own(self):
        class Doubled(keras.Model):
            def call(self, inputs, training=None):
                return 2 * super().call(inputs, training=training)

        inputs = layers.Input((4, 4, 1))
        model = Doubled(inputs, layers.Rescaling(0.75)(inputs))
        found = Reconstruction()(model, np.ones((2, 4, 4, 1), "float32"))
        np.testing.assert_allclose(found, -0.25, rtol=1e-6)

    def test_of_bytes(self):
        images = np.full((2, 4, 4, 1), 250, "uint8")
        inputs = layers.Input((4, 4, 1), dtype="uint8")
        model = keras.Model(inputs, layers.Rescaling(1.0, 16.0)(inputs))  # 266 is beyond a byte
        np.testing.assert_array_equal(Reconstruction()(model, images), -256)

    @pytest.mark.usefixtures("bfloat16")
    def test_the_error_of_a_network_in_mixed_precision_is_not_rounded(self):
        # 0.7 becomes 0.69921875 in bfloat16; the square of the difference is far below its steps near 0.7
        found = Reconstruction()(autoencoder(0.0), np.full((2, 4, 4, 1), 0.7, "float32"))
        np.testing.assert_allclose(found, -((np.float64(np.float32(0.7)) - 0.69921875) ** 2), rtol=1e-9)

    def test_is_none_of_the_names(self):
        assert "Reconstruction" not in {type(scores.get(name)).__name__ for name in SCORES}
        score = Reconstruction(output="picture")
        assert scores.get(score) is score
        assert repr(score) == "Reconstruction(output='picture')"
        assert score.fit(None, None) is score

    @pytest.mark.parametrize(("named", "names"), [(True, "class, image"), (False, "logits, sequential.*")])
    def test_a_name_that_is_no_output(self, named, names):
        model, _ = two_outputs(named)
        with pytest.raises(ValueError, match=rf"`output` must name an output.*{names}\. Received: output='imgae'"):
            Reconstruction("imgae")(model, SQUARES)

    def test_an_output_of_another_shape(self):
        model, _ = two_outputs()
        with pytest.raises(ValueError, match=r"their own shape\..*\(5, 4, 4, 1\).*\(5, 3\)"):
            Reconstruction("class")(model, SQUARES)

    @pytest.mark.parametrize("images", [SQUARES[:, :3], SQUARES[..., 0]])
    def test_images_of_another_shape(self, network, images):
        Reconstruction()(network, SQUARES)  # compiled or not
        received = re.escape(f"(None, 4, 4, 1). Received: shape {images.shape}")
        with pytest.raises(ValueError, match=rf"`x` must hold images of shape {received}"):
            Reconstruction()(network, images)

    def test_logits_or_nothing_for_a_model(self):
        with pytest.raises(ValueError, match="Reconstruction needs a model and images, not logits alone"):
            Reconstruction()(LOGITS)
        with pytest.raises(ValueError, match=r"must be a Keras model\. Received: <ndarray of dtype"):
            Reconstruction()(LOGITS, SQUARES)
        with pytest.raises(ValueError, match=r"needs images to go with the model"):
            Reconstruction()(autoencoder())

    def test_an_image_that_holds_nan(self, network):
        images = SQUARES.copy()
        images[3, 0, 0, 0] = np.nan
        with pytest.raises(ValueError, match=r"Reconstruction has no score for these images.*sample 3"):
            Reconstruction()(network, images)

    @pytest.mark.parametrize("output", [None, 1, ["image"]])
    def test_a_name_that_is_none(self, output):
        with pytest.raises(ValueError, match=r"`output` must be the name of an output\. Received: output="):
            Reconstruction(output)


class TestProtocol:
    @pytest.mark.parametrize("name", SCORES)
    def test_larger_is_more_familiar(self, blobs, name):
        model, train, labels, familiar, unfamiliar = blobs
        score = scores.get(name)
        assert score.fit(model, (train, labels)) is score
        found = score(model, familiar), score(model, unfamiliar)
        assert [values.shape for values in found] == [(180,), (90,)]
        assert all(values.dtype == np.float64 and np.isfinite(values).all() for values in found)
        assert auroc(*found) > 0.95

    @pytest.mark.parametrize("name", OF_LOGITS)
    def test_logits_or_a_model_and_images(self, head, name):
        found = scores.get(name)(head, TEST, batch_size=5)
        np.testing.assert_allclose(found, scores.get(name)(LOGITS), rtol=1e-5, atol=1e-6)
        np.testing.assert_allclose(found, scores.get(name)(head.predict(TEST, verbose=0)), rtol=1e-5, atol=1e-6)
        np.testing.assert_array_equal(scores.get(name)(LOGITS.tolist()), scores.get(name)(LOGITS))
        np.testing.assert_allclose(scores.get(name)(keras.ops.convert_to_tensor(LOGITS)), found, rtol=1e-5, atol=1e-6)

    def test_kl_matching_takes_logits_too(self, head_network):
        score = KLMatching().fit(head_network, TRAIN)
        np.testing.assert_allclose(score(LOGITS), score(head_network, TEST), rtol=1e-4, atol=1e-6)

    @pytest.mark.parametrize("kind", MODELS)
    def test_every_kind_of_model(self, deep_network, kind):
        names = [*OF_LOGITS, "kl_matching"] if kind == "opaque" else [name for name in SCORES if name != "odin"]
        train, labels = np.random.default_rng(1).random((60, 6)).astype("float32"), np.arange(60) % 5
        networks = Network(MODELS[kind]()), deep_network
        fitting, judged = (
            [network.outputs(data, features=kind != "opaque", batch_size=12) for network in networks]
            for data in ((train, labels), IMAGES)
        )
        for name in names:
            found = []
            for training, outputs in zip(fitting, judged, strict=True):
                score = scores.get(name)
                if score.uses_training_data:
                    score.fit_outputs(training)
                found.append(score.of_outputs(outputs))
            np.testing.assert_allclose(*found, rtol=2e-4, atol=1e-5, err_msg=name)

    @pytest.mark.parametrize("name", SCORES)
    def test_an_opaque_model_of_probabilities(self, deep_network, opaque_network, name):
        score, reference = scores.get(name), scores.get(name)
        data = IMAGES, np.arange(12) % 5
        if name in OF_PROBABILITIES:
            found = score.fit(opaque_network, data)(opaque_network, IMAGES)
            expected = reference.fit(deep_network, data)(deep_network, IMAGES)
            np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-6)
        else:
            message = "needs logits" if name in OF_LOGITS else "Features need a functional or Sequential model"
            with pytest.raises(ValueError, match=message):
                score.fit(opaque_network, data)(opaque_network, IMAGES)

    @pytest.mark.parametrize("name", [name for name in SCORES if SCORES[name]().uses_features])
    def test_features_of_an_opaque_model_are_refused(self, name):
        model = MODELS["opaque"]()
        with pytest.raises(ValueError, match="Features need a functional or Sequential model"):
            scores.get(name).fit(model, (IMAGES, np.arange(12) % 5))(model, IMAGES)

    @pytest.mark.parametrize("name", FITTED)
    def test_unfitted(self, head, name):
        score = scores.get(name)
        with pytest.raises(ValueError, match=rf"{type(score).__name__} is not fitted yet: call `fit"):
            score(head, TEST)

    @pytest.mark.parametrize("name", sorted(set(SCORES) - set(FITTED)))
    def test_fitting_what_needs_none_reads_nothing(self, name):
        score = scores.get(name)
        assert score.fit(None, None) is score

    @pytest.mark.parametrize("name", FITTED)
    def test_fitted_again_on_another_model(self, head_network, deep_network, name):
        images, labels = np.random.default_rng(2).random((60, 6)).astype("float32"), LABELS
        again = scores.get(name).fit(deep_network, (images, labels)).fit(head_network, (TRAIN, labels))
        once = scores.get(name).fit(head_network, (TRAIN, labels))
        np.testing.assert_array_equal(again(head_network, TEST), once(head_network, TEST))

    @pytest.mark.parametrize("name", SCORES)
    def test_batches_and_order_do_not_matter(self, head_network, name):
        score = scores.get(name).fit(head_network, (TRAIN, LABELS))
        again = scores.get(name).fit(head_network, (TRAIN[::-1], LABELS[::-1]), batch_size=7)
        found = score(head_network, TEST)
        np.testing.assert_allclose(again(head_network, TEST[::-1], batch_size=5)[::-1], found, rtol=1e-5, atol=1e-6)
        np.testing.assert_allclose(score(head_network, TEST[3:4]), found[3:4], rtol=1e-5, atol=1e-6)

    def test_a_model_without_images_says_what_is_missing(self, head):
        for name in SCORES:
            with pytest.raises(ValueError, match=r"`score\(model, x\)`|not fitted"):
                scores.get(name)(head)

    @pytest.mark.parametrize("name", ["odin", "mahalanobis", "knn", "vim", "react", "ash"])
    def test_logits_alone_are_not_enough(self, name):
        with pytest.raises(ValueError, match="needs a model and images, not logits alone"):
            scores.get(name)(LOGITS)

    def test_images_without_a_model(self):
        with pytest.raises(ValueError, match=r"must be a Keras model\. Received: <ndarray of dtype"):
            scores.msp(LOGITS, IMAGES)

    @pytest.mark.parametrize("name", OF_LOGITS)
    @pytest.mark.parametrize("dtype", ["float64", "float32", "float16"])
    def test_probabilities_for_logits_are_refused(self, name, dtype):
        with pytest.raises(ValueError, match="look like probabilities"):
            scores.get(name)(softmax(LOGITS).astype(dtype))

    @pytest.mark.parametrize("name", OF_LOGITS)
    def test_logits_that_are_no_numbers_are_refused(self, name):
        with pytest.raises(ValueError, match="`logits` must be numbers below infinity"):
            scores.get(name)([[0.0, 1.0], [np.nan, 1.0]])

    @pytest.mark.parametrize("name", ["msp", "energy", "entropy", "gen"])
    def test_infinite_logits_do_not_become_scores_that_are_no_numbers(self, name):
        with pytest.raises(ValueError, match="`logits`"):
            scores.get(name)([[0.0, 1.0], [np.inf, 1.0]])

    @pytest.mark.parametrize(
        "logits", [np.zeros((0, 3)), np.zeros((3, 1)), np.zeros(3), np.zeros((2, 2, 2)), 1.0, [], [[]]]
    )
    def test_logits_of_a_wrong_shape_are_refused(self, logits):
        for name in OF_LOGITS:
            with pytest.raises(ValueError, match=r"`logits` must be of shape \(N, K\)"):
                scores.get(name)(logits)

    def test_logits_that_are_whole_or_half_numbers(self):
        for dtype in ("int64", "uint8", "float16", "bool"):
            found = Energy()(np.array([[1, 1, 0]], dtype))
            np.testing.assert_allclose(found, np.log(2 * np.e + 1), rtol=1e-12)

    def test_arguments_are_left_alone(self):
        logits = LOGITS.copy()
        for name in OF_LOGITS:
            scores.get(name)(logits)
        np.testing.assert_array_equal(logits, LOGITS)

    @pytest.mark.parametrize("name", ["mahalanobis", "knn", "vim", "react", "ash"])
    def test_outputs_that_lack_features_are_refused(self, head, name):
        score = scores.get(name).fit(head, (TRAIN, LABELS))
        with pytest.raises(ValueError, match=rf"{type(score).__name__} needs"):
            score.of_outputs(Network(head).outputs(TEST))
        if score.uses_training_data:
            with pytest.raises(ValueError, match=rf"{type(score).__name__} needs"):
                scores.get(name).fit_outputs(Network(head).outputs((TRAIN, LABELS)))


class TestWrongModels:
    @pytest.mark.parametrize("name", SCORES)
    def test_one_output_column(self, name):
        model = keras.Sequential([layers.Input((6,)), layers.Dense(1, activation="sigmoid")])
        with pytest.raises(ValueError, match=r"logits, or probabilities by softmax.*sigmoid"):
            scores.get(name).fit(model, (IMAGES, np.arange(12) % 2))(model, IMAGES)

    def test_sigmoids(self):
        with pytest.raises(ValueError, match=r"logits, or probabilities by softmax.*sigmoid"):
            scores.energy(sequential(layers.Dense(5, activation="sigmoid")), IMAGES)

    @pytest.mark.parametrize("name", ["msp", "knn"])
    def test_two_outputs(self, name):
        x = keras.Input((6,))
        model = keras.Model(x, [layers.Dense(3)(x), layers.Dense(3)(x)])
        with pytest.raises(ValueError, match=r"`model` must have one output\. Received: a model of 2"):
            scores.get(name).fit(model, IMAGES)(model, IMAGES)

    @pytest.mark.parametrize("name", ["msp", "knn"])
    def test_two_inputs(self, name):
        first, second = keras.Input((6,)), keras.Input((6,))
        model = keras.Model([first, second], layers.Dense(3)(layers.Add()([first, second])))
        with pytest.raises(ValueError, match=r"`model` must have one input\. Received: a model of 2"):
            scores.get(name).fit(model, IMAGES)(model, IMAGES)


class TestNamedFeatures:
    def convolutional(self):
        return keras.Sequential(
            [
                layers.Input((8, 8, 1)),
                layers.Conv2D(3, 3, activation="relu", name="conv"),
                layers.Flatten(),
                layers.Dense(4, activation="softmax"),
            ]
        )

    @pytest.mark.parametrize("name", ["mahalanobis", "knn"])
    def test_are_averaged_over_height_and_width(self, name):
        model, rng = self.convolutional(), np.random.default_rng(0)
        train, test = (rng.random((count, 8, 8, 1)).astype("float32") for count in (40, 6))
        labels = np.arange(40) % 4
        kind = {"mahalanobis": Mahalanobis, "knn": lambda **settings: KNN(k=3, **settings)}[name]
        maps = keras.Model(model.inputs, model.get_layer("conv").output)
        means = [maps.predict(x, verbose=0).mean(axis=(1, 2)) for x in (train, test)]
        found = kind(features="conv").fit(model, (train, labels))(model, test)
        np.testing.assert_allclose(found, scored(kind(), *means, labels), rtol=1e-3, atol=1e-5)
        assert not np.allclose(found, kind().fit(model, (train, labels))(model, test))

    def test_a_wrong_name(self):
        with pytest.raises(ValueError, match=r"`features` must name a layer.*conv.*'cnov'"):
            KNN(k=1, features="cnov").fit(self.convolutional(), np.zeros((2, 8, 8, 1), "float32"))

    @pytest.mark.parametrize("name", ["vim", "react", "ash"])
    def test_scores_of_the_head_refuse_other_features(self, deep, name):
        network = Network(deep, features="hidden")
        with pytest.raises(ValueError, match="needs the last layer and its own input as features"):
            scores.get(name).fit(network, IMAGES)(network, IMAGES)


class TestMahalanobisCorners:
    def test_without_labels(self, head):
        for score in (Mahalanobis(), Mahalanobis(relative=True)):
            with pytest.raises(
                ValueError, match=r"`training_data` must have labels for Mahalanobis: \(images, labels\)"
            ):
                score.fit(head, TRAIN)

    @pytest.mark.parametrize("labels", [LABELS[:, None], np.eye(5)[LABELS], LABELS.astype("float32")])
    def test_labels_of_every_form(self, head, labels):
        expected = Mahalanobis().fit(head, (TRAIN, LABELS))(head, TEST)
        np.testing.assert_allclose(Mahalanobis().fit(head, (TRAIN, labels))(head, TEST), expected, rtol=1e-12)

    @pytest.mark.parametrize("wrong", [-1, 5, 1.5])
    def test_labels_outside(self, head, wrong):
        with pytest.raises(ValueError, match=rf"whole numbers in 0\.\.4.*{wrong}"):
            Mahalanobis().fit(head, (TRAIN, np.r_[LABELS[:-1], wrong]))

    def test_a_class_without_training_data_is_no_cluster(self, head):
        some = np.isin(LABELS, [0, 2, 4])
        found = Mahalanobis().fit(head, (TRAIN[some], LABELS[some]))(head, TEST)
        _, renumbered = np.unique(LABELS[some], return_inverse=True)
        np.testing.assert_allclose(found, scored(Mahalanobis(), TRAIN[some], TEST, renumbered), rtol=1e-9)

    @pytest.mark.parametrize(("count", "size"), [(60, 8), (20, 64), (30, 300), (4, 8), (3, 2)])
    @pytest.mark.parametrize("relative", [False, True])
    def test_is_the_distance_by_the_pseudo_inverse(self, count, size, relative):
        rng = np.random.default_rng(count)
        labels = np.arange(count) % 3
        train = (rng.normal(size=(count, size)) + labels[:, None]).astype("float32")
        train[:, 0] = 0.1  # a constant feature
        train[:, -1] = -7 * train[:, 0]  # and a multiple of it
        test = rng.normal(size=(10, size)).astype("float32")
        found = scored(Mahalanobis(relative=relative), train, test, labels)
        train, test = train.astype(float), test.astype(float)
        means = np.stack([train[labels == k].mean(axis=0) for k in range(3)])

        def distance(centred, x):
            precision = np.linalg.pinv(centred.T @ centred / count, rcond=1e-10, hermitian=True)
            return np.einsum("nd,de,ne->n", x, precision, x)

        expected = np.min([distance(train - means[labels], test - mean) for mean in means], axis=0)
        if relative:
            expected = expected - distance(train - train.mean(axis=0), test - train.mean(axis=0))
        np.testing.assert_allclose(found, -expected, rtol=1e-6, atol=1e-6)

    def test_nearly_constant_features_far_from_the_origin(self):
        # a few units in the last place around 1000; moved to the origin, which is exact, nothing else changes
        rng = np.random.default_rng(0)
        labels = np.arange(90) % 3
        train, test = ((1000 + 2e-4 * rng.normal(size=(n, 5))).astype("float32") for n in (90, 10))
        near = scored(Mahalanobis(), train.astype(float) - 1000, test.astype(float) - 1000, labels)
        np.testing.assert_allclose(scored(Mahalanobis(), train, test, labels), near, rtol=1e-5)

    def test_of_one_class_relative_to_the_same_gaussian_is_zero(self):
        rng = np.random.default_rng(0)
        train, test = rng.normal(size=(50, 6)), 10 * rng.normal(size=(10, 6))
        found = scored(Mahalanobis(relative=True), train, test, np.zeros(50, int))
        np.testing.assert_allclose(found, 0, atol=1e-9)

    def test_linear_maps_of_the_features_change_nothing(self):
        rng = np.random.default_rng(0)
        labels, mixing = np.arange(60) % 3, rng.normal(size=(6, 6))
        train, test = rng.normal(size=(60, 6)) + labels[:, None], rng.normal(size=(10, 6))
        expected = scored(Mahalanobis(), train, test, labels)
        np.testing.assert_allclose(scored(Mahalanobis(), train @ mixing + 3, test @ mixing + 3, labels), expected, 1e-3)

    def test_one_sample_and_constant_features_are_finite(self):
        for count in (1, 5):
            for relative in (False, True):
                found = scored(Mahalanobis(relative), np.ones((count, 4)), np.zeros((2, 4)), np.zeros(count, int))
                assert np.isfinite(found).all()


class TestOtherCorners:
    def test_more_neighbours_than_training_samples(self, head):
        with pytest.raises(ValueError, match=r"`k` must be at most 60, the number of training samples.*k=61"):
            KNN(k=61).fit(head, TRAIN)

    @pytest.mark.parametrize("k", [0, -1, 0.5, 2.5, float("nan")])
    def test_a_wrong_number_of_neighbours(self, k):
        with pytest.raises(ValueError, match=f"`k` must be .*{k}"):
            KNN(k=k)

    def test_knn_of_a_vanishing_feature(self, head):
        found = KNN(k=1).fit(head, np.r_[TRAIN, np.zeros((1, 8), "float32")])(head, np.zeros((2, 8), "float32"))
        np.testing.assert_array_equal(found, 0)

    def test_knn_of_a_tiny_feature_is_still_its_direction(self, head):
        score = KNN(k=1).fit(head, TRAIN)
        np.testing.assert_allclose(score(head, TEST * np.float32(2**-60)), score(head, TEST), rtol=1e-5)

    def test_a_dimension_of_all_features(self, head):
        with pytest.raises(ValueError, match=r"`dimension` must be below 8.*8"):
            ViM(dimension=8).fit(head, TRAIN)

    @pytest.mark.parametrize("dimension", [0, -1, 2.5])
    def test_a_wrong_dimension(self, dimension):
        with pytest.raises(ValueError, match=f"`dimension` must be .*{dimension}"):
            ViM(dimension=dimension)

    def test_vim_of_training_data_within_the_principal_space(self):
        score, head = ViM(dimension=2), (np.ones((4, 3)), np.zeros(3))
        inside = Outputs(np.ones((3, 3)), None, np.eye(4)[[0, 1, 0]] * 2.0, head=head)
        with pytest.raises(ValueError, match="all training features lie in the principal space"):
            score.fit_outputs(inside)

    @pytest.mark.parametrize("kind", [ReAct, ASH])
    @pytest.mark.parametrize("percentile", [-1, 101, float("nan")])
    def test_a_wrong_percentile(self, kind, percentile):
        with pytest.raises(ValueError, match=f"`percentile` must be .*{percentile}"):
            kind(percentile=percentile)

    def test_react_at_the_largest_activation_is_the_energy_of_familiar_samples(self, head):
        found = ReAct(percentile=100).fit(head, TRAIN)
        np.testing.assert_allclose(found(head, TRAIN), Energy()(head, TRAIN), rtol=1e-5)

    def test_ash_of_negative_features_that_leave_no_score_says_so(self):
        # s1 / s2 is 900.1: its exponential is beyond any float
        features = np.r_[np.full(90, -1.0), np.full(10, -0.01)][None]
        kernel = np.random.default_rng(0).normal(size=(100, 3))
        with pytest.raises(ValueError, match="ASH has no score"):
            ASH().of_outputs(Outputs(np.zeros((1, 3)), None, features, head=(kernel, np.zeros(3))))

    def test_kl_matching_skips_classes_that_are_never_predicted(self, head):
        predicted = (TRAIN @ KERNEL + BIAS).argmax(axis=1)
        some = predicted == np.bincount(predicted).argmax()
        score = KLMatching().fit(head, TRAIN[some])
        p, template = softmax(LOGITS), softmax(TRAIN[some] @ KERNEL + BIAS).mean(axis=0)
        np.testing.assert_allclose(score(head, TEST), -(p * np.log(p / template)).sum(axis=1), rtol=1e-4)

    def test_kl_matching_of_certainties_is_finite(self):
        score = KLMatching()
        certain = Outputs(np.array([[0.0, -1e6, -1e6], [-1e6, 0.0, -np.inf]]))
        score.fit_outputs(certain)
        np.testing.assert_allclose(score.of_outputs(certain), 0, atol=1e-12)
        third = score.of_outputs(Outputs(np.array([[-1e6, -1e6, 0.0]])))
        assert np.isfinite(third).all()
        assert third[0] < -100

    @pytest.mark.parametrize(
        ("make", "message"),
        [
            (lambda: Energy(0), r"`temperature` must be a number in \(0, inf\).*temperature=0"),
            (lambda: Energy(float("nan")), r"`temperature` must be a number in \(0, inf\).*nan"),
            (lambda: GEN(gamma=0), r"`gamma` must be a number in \(0, 1\).*gamma=0"),
            (lambda: GEN(gamma=1), r"`gamma` must be a number in \(0, 1\).*gamma=1"),
            (lambda: GEN(gamma=float("nan")), r"`gamma` must be a number in \(0, 1\).*nan"),
            (lambda: GEN(top=0), "`top` must be .*top=0"),
            (lambda: GEN(top=0.5), "`top` must be .*0.5"),
        ],
    )
    def test_wrong_settings(self, make, message):
        with pytest.raises(ValueError, match=message):
            make()


class TestNames:
    @pytest.mark.parametrize("name", SCORES)
    def test_lower_case_names_give_a_new_score_each_time(self, name):
        first, second = getattr(scores, name), getattr(scores, name)
        assert isinstance(first, scores.Score)
        assert type(first) is type(second)
        assert first is not second
        assert repr(first) == repr(second) == repr(scores.get(name))

    def test_fitting_one_does_not_fit_the_next(self, head):
        scores.kl_matching.fit(head, TRAIN)
        with pytest.raises(ValueError, match="not fitted"):
            scores.kl_matching(head, TEST)

    def test_import_by_name(self):
        from kls.ood.scores import msp, relative_mahalanobis

        assert isinstance(msp, MSP)
        assert relative_mahalanobis.relative is True
        assert scores.mahalanobis.relative is False

    def test_the_authors_settings(self):
        assert repr(scores.odin) == "ODIN(temperature=1000.0, epsilon=0.0014)"
        assert (scores.energy.temperature, scores.knn.k, scores.react.percentile, scores.ash.percentile) == (
            1,
            50,
            90,
            90,
        )
        assert (scores.gen.gamma, scores.gen.top) == (0.1, 100)

    def test_get(self):
        score = KNN(k=3)
        assert scores.get(score) is score
        assert isinstance(scores.get("vim"), ViM)

    @pytest.mark.parametrize("wrong", ["MSP", "softmax", "", None, 3, MSP, ["msp"], {"msp": 1}])
    def test_get_of_something_else(self, wrong):
        with pytest.raises(ValueError, match=r"`score` must be one of msp, .*kl_matching, or a `Score`"):
            scores.get(wrong)

    def test_another_attribute(self):
        with pytest.raises(AttributeError, match=r"kls\.ood\.scores.*'mahalanobi'"):
            scores.mahalanobi  # noqa: B018
        with pytest.raises(ImportError, match="softmin"):
            from kls.ood.scores import softmin  # noqa: F401


ROWS = arrays(np.float64, array_shapes(min_dims=2, max_dims=2, min_side=2, max_side=6), elements=st.integers(-999, 999))
ORDERS = [1, 1.5, 2, 3, np.inf]


def told_apart(logits):
    """Leaves out cases with a row of equal logits."""
    assume((np.ptp(logits, axis=1) > 0).all())
    return logits


class TestNormalizeLogits:
    @pytest.mark.parametrize("p", ORDERS)
    @settings(max_examples=20)
    @given(ROWS.map(lambda rows: rows / 7))
    def test_mean_0_and_norm_1(self, p, logits):
        found = normalize_logits(told_apart(logits), p)
        assert (found.dtype, found.shape) == (np.float64, logits.shape)
        np.testing.assert_allclose(found.sum(axis=1), 0, atol=1e-12)
        sizes = np.abs(found)
        norms = sizes.max(axis=1) if p == np.inf else (sizes**p).sum(axis=1) ** (1 / p)
        np.testing.assert_allclose(norms, 1, rtol=1e-12)

    @settings(max_examples=50)
    @given(ROWS, st.floats(-1e3, 1e3), st.floats(1e-3, 1e3), st.sampled_from(ORDERS))
    def test_a_shift_and_a_positive_factor_change_nothing(self, logits, shift, factor, p):
        expected = normalize_logits(told_apart(logits), p)
        np.testing.assert_allclose(normalize_logits(logits * factor + shift, p), expected, atol=1e-8)
        each = np.linspace(0.5, 2, len(logits))[:, None]
        np.testing.assert_allclose(normalize_logits(logits * each - 3 * each, p), expected, atol=1e-12)

    @settings(max_examples=50)
    @given(ROWS, st.sampled_from(ORDERS))
    def test_order_and_likeliest_class_stay(self, logits, p):
        found = normalize_logits(logits, p)
        np.testing.assert_array_equal(found.argmax(axis=1), logits.argmax(axis=1))
        np.testing.assert_array_equal(np.argsort(found, kind="stable"), np.argsort(logits, kind="stable"))

    @pytest.mark.parametrize(
        ("p", "expected"), [(1, [-0.5, 0.5, 0.0]), (2, [-(0.5**0.5), 0.5**0.5, 0.0]), (np.inf, [-1.0, 1.0, 0.0])]
    )
    def test_by_hand(self, p, expected):
        np.testing.assert_allclose(
            normalize_logits([[1.0, 5.0, 3.0], [-2.0, 0.0, -1.0]], p), [expected] * 2, atol=1e-15
        )

    def test_2_is_the_default(self):
        np.testing.assert_array_equal(normalize_logits(LOGITS), normalize_logits(LOGITS, 2))

    @pytest.mark.parametrize("p", ORDERS)
    @settings(max_examples=20)
    @given(value=st.floats(-1e30, 1e30), classes=st.integers(2, 9))
    def test_equal_logits_become_0(self, p, value, classes):
        assert not normalize_logits(np.full((1, classes), value), p).any()

    def test_a_row_of_equal_logits_leaves_the_others_alone(self):
        found = normalize_logits([[0.1, 0.1, 0.1], [0.0, 1.0, 2.0]], np.inf)
        assert found.tolist() == [[0, 0, 0], [-1, 0, 1]]

    @pytest.mark.parametrize("scale", [1e-300, 1e-200, 1e200, 1e300])
    def test_neither_tiny_nor_huge_logits_are_lost(self, scale):
        np.testing.assert_allclose(normalize_logits(np.array([[0.0, 1.0, 5.0]]) * scale), normalize_logits([[0, 1, 5]]))

    def test_float32_logits_are_taken_as_they_are(self):
        logits = LOGITS.astype("float32")
        np.testing.assert_array_equal(normalize_logits(logits), normalize_logits(logits.astype("float64")))

    def test_the_logits_stay_as_they_are(self):
        logits = LOGITS.copy()
        normalize_logits(logits)
        np.testing.assert_array_equal(logits, LOGITS)

    @pytest.mark.parametrize("p", [0.5, 0, -1, float("nan")])
    def test_an_order_that_is_no_norm_is_refused(self, p):
        with pytest.raises(ValueError, match=rf"`p` must be a number in \[1, inf\]\. Received: p={p}"):
            normalize_logits(LOGITS, p)

    @pytest.mark.parametrize("wrong", [np.inf, -np.inf, np.nan])
    def test_logits_that_are_not_finite_are_refused(self, wrong):
        with pytest.raises(ValueError, match="`logits` must"):
            normalize_logits([[0.0, wrong], [1.0, 2.0]])

    @pytest.mark.parametrize("logits", [[1.0, 2.0], np.zeros((2, 3, 4)), np.zeros((0, 3))])
    def test_logits_of_another_shape_are_refused(self, logits):
        with pytest.raises(ValueError, match=r"`logits` must be of shape \(N, K\)"):
            normalize_logits(logits)
