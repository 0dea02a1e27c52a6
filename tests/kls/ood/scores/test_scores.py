import warnings

import keras
import numpy as np
import pytest
from keras import layers
from sklearn.covariance import EmpiricalCovariance

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
    ViM,
)
from kls.utils.feature_extractor import Network, Outputs

from .given import (
    BIAS,
    FITTED,
    GOLDEN,
    IMAGES,
    KERNEL,
    LABELS,
    LOGITS,
    MODELS,
    OF_LOGITS,
    OF_PROBABILITIES,
    TEST,
    TRAIN,
    logsumexp,
    sequential,
    softmax,
)

# What PyTorch-OOD's numbers are multiplied by. Its scores are larger for OOD samples, hence the sign. Beyond that: it
# averages over GEN's classes where the paper sums (equation 4), its covariances are sums over samples where the papers
# have means (Lee et al., equation 1), and it halves the distance of Mahalanobis.
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


class TestProtocol:
    @pytest.mark.parametrize("name", SCORES)
    def test_larger_is_more_in_distribution(self, blobs, name):
        model, train, labels, id_images, ood_images = blobs
        score = scores.get(name)
        assert score.fit(model, (train, labels)) is score
        found = score(model, id_images), score(model, ood_images)
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
            message = "needs logits" if name in OF_LOGITS else "needs features"
            with pytest.raises(ValueError, match=message):
                score.fit(opaque_network, data)(opaque_network, IMAGES)

    @pytest.mark.parametrize("name", SCORES)
    def test_one_output_is_scored_as_two_classes(self, name):
        one, two = (
            keras.Sequential([layers.Input((8,)), layers.Dense(units, activation=activation)])
            for units, activation in ((1, "sigmoid"), (2, "softmax"))
        )
        two.set_weights([KERNEL[:, :2] * [0, 1], BIAS[:2] * [0, 1]])
        one.set_weights([KERNEL[:, 1:2], BIAS[1:2]])
        found, expected = (scores.get(name).fit(model, (TRAIN, LABELS % 2))(model, TEST) for model in (one, two))
        np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)

    @pytest.mark.parametrize("name", [name for name in SCORES if SCORES[name]().uses_features])
    def test_features_of_an_opaque_model_are_refused(self, name):
        model = MODELS["opaque"]()
        with pytest.raises(ValueError, match="needs features"):
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
    def test_sigmoids(self):
        with pytest.raises(ValueError, match=r"logits, or probabilities by softmax.*sigmoid"):
            scores.energy(sequential(layers.Dense(5, activation="sigmoid")), IMAGES)

    @pytest.mark.parametrize("name", ["msp", "knn"])
    def test_two_inputs(self, name):
        first, second = keras.Input((6,)), keras.Input((6,))
        model = keras.Model([first, second], layers.Dense(3)(layers.Add()([first, second])))
        with pytest.raises(ValueError, match=r"`model` must have one input\. Received: a model of 2"):
            scores.get(name).fit(model, IMAGES)(model, IMAGES)


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

    def test_another_attribute(self):
        with pytest.raises(AttributeError, match=r"kls\.ood\.scores.*'mahalanobi'"):
            scores.mahalanobi  # noqa: B018
        with pytest.raises(ImportError, match="softmin"):
            from kls.ood.scores import softmin  # noqa: F401
