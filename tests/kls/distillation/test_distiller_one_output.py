import keras
import numpy as np
import pytest

import kls

X = np.random.default_rng(0).normal(size=(24, 4)).astype("float32")
Y = (X[:, 0] > 0).astype("int64")


def network(seed, activation="sigmoid", units=1):
    keras.utils.set_random_seed(seed)
    return keras.Sequential(
        [keras.layers.Input((4,)), keras.layers.Dense(5, "tanh"), keras.layers.Dense(units, activation)]
    )


def of_two_classes(model, activation):
    """Returns the network of two outputs that gives what that of one does."""
    twin = network(0, activation, units=2)
    *hidden, kernel, bias = model.get_weights()
    twin.set_weights([*hidden, np.hstack([0 * kernel, kernel]), np.hstack([0 * bias, bias])])
    return twin


def distiller_of(student, teacher, **arguments):
    distiller = kls.Distiller(student, teacher, **arguments)
    distiller.compile(keras.optimizers.SGD(0.1), metrics=["accuracy"], run_eagerly=True)
    return distiller


@pytest.mark.parametrize(("activation", "twin", "from_logits"), [("sigmoid", "softmax", False), (None, None, True)])
class TestOneOutput:
    @pytest.mark.parametrize("mode", ["kd", "wsl"])
    def test_the_loss_is_that_of_two_classes(self, mode, activation, twin, from_logits):
        student, teacher = network(1, activation), network(2, activation)
        pairs = (student, teacher), (of_two_classes(student, twin), of_two_classes(teacher, twin))
        found, expected, mixed = (
            distiller_of(*pair, mode=mode, from_logits=from_logits).evaluate(X, Y, verbose=0, return_dict=True)
            for pair in (*pairs, (student, pairs[1][1]))
        )
        assert found == pytest.approx(expected, rel=1e-5)
        assert mixed == pytest.approx(expected, rel=1e-5)

    def test_training_moves_what_is_saved(self, activation, twin, from_logits, tmp_path):
        student = network(1, activation)
        distiller = distiller_of(student, network(2, activation), from_logits=from_logits)
        losses = distiller.fit(X, Y[:, None], epochs=5, batch_size=8, verbose=0).history["loss"]
        assert losses[-1] < losses[0]
        distiller.save(tmp_path / "student.keras")
        outputs, expected = keras.models.load_model(tmp_path / "student.keras")(X), distiller(X)
        assert (outputs.shape, expected.shape) == ((24, 1), (24, 2))
        np.testing.assert_allclose(outputs, expected[:, 1:], rtol=1e-5, atol=1e-6)

    def test_the_contrast_is_of_the_features(self, activation, twin, from_logits):
        contrast = kls.ContrastiveDistillation(Y, dimension=3, negatives=2, seed=0)
        networks = network(1, activation), network(2, activation)
        distiller = distiller_of(*networks, mode="crd", contrast=contrast, from_logits=from_logits)
        labels = np.hstack([np.eye(2, dtype="float32")[Y], np.arange(24.0)[:, None]])
        before = contrast.get_weights()
        assert np.isfinite(distiller.fit(X, labels, verbose=0).history["loss"]).all()
        assert distiller(X).shape == (24, 2)
        assert any((old != new).any() for old, new in zip(before, contrast.get_weights(), strict=True))

    def test_offline_logits_are_those_of_two_classes(self, activation, twin, from_logits, tmp_path):
        student, teacher = network(1, activation), network(2, activation)
        logits = kls.teacher_logits(teacher, X, tmp_path / "logits.npy")
        expected = kls.teacher_logits(of_two_classes(teacher, twin), X, tmp_path / "two.npy")
        np.testing.assert_allclose(logits, expected, rtol=1e-5, atol=1e-6)
        packed = kls.pack_teacher(Y, logits)
        offline = distiller_of(student, None, from_logits=from_logits)
        offline.compile(keras.optimizers.SGD(0.0), run_eagerly=True)
        online = distiller_of(student, teacher, from_logits=from_logits)
        loss = offline.fit(X, packed, batch_size=24, verbose=0).history["loss"][0]
        assert loss == pytest.approx(online.evaluate(X, Y, verbose=0)[0], rel=1e-5)


def test_three_classes_of_a_teacher_are_refused():
    with pytest.raises(ValueError, match=r"outputs of the same shape.*\(None, 2\).*\(None, 3\)"):
        kls.Distiller(network(1), network(2, "softmax", units=3))


def test_a_saturated_student_has_a_gradient_still():
    student = network(1)
    *hidden, _, _ = student.get_weights()
    student.set_weights([*hidden, np.zeros((5, 1)), np.array([-60.0])])  # sigmoid(-60) = 9e-27
    distiller_of(student, network(2), alpha=0.0).fit(X, np.ones(24), batch_size=24, verbose=0)
    if keras.backend.backend() == "tensorflow":  # others keep no logits beside probabilities
        np.testing.assert_allclose(student.get_weights()[-1], [-60 + 0.1], rtol=1e-5)
