import keras
import numpy as np
import pytest

from kls import FullStateCheckpoint

X = np.random.default_rng(0).normal(size=(64, 6)).astype("float32")
Y = (X[:, 0] > 0).astype("int32")


def model(units=8, optimizer="adam", dropout=0.3):
    """A network with all that has a state: batch statistics, dropout seeds, Adam's moments."""
    keras.utils.clear_session()
    keras.utils.set_random_seed(7)
    layers = [
        keras.layers.Input((6,)),
        keras.layers.Dense(units, activation="relu"),
        keras.layers.BatchNormalization(),
        keras.layers.Dropout(dropout),
        keras.layers.Dense(2, activation="softmax"),
    ]
    network = keras.Sequential(layers)
    network.compile(optimizer, "sparse_categorical_crossentropy", metrics=["accuracy"])
    return network


def fit(network, directory, epochs, others=()):
    checkpoint = FullStateCheckpoint(directory, callbacks=others)
    network.fit(
        X,
        Y,
        batch_size=16,
        epochs=epochs,
        initial_epoch=checkpoint.epoch,
        shuffle=False,
        verbose=0,
        validation_data=(X, Y),
        callbacks=[*others, checkpoint],
    )
    return checkpoint


def state(network):
    return [np.array(v) for v in [*network.variables, *network.optimizer.variables]]


def test_a_resumed_run_ends_with_the_bits_of_an_uninterrupted_one(tmp_path):
    whole = model()
    history = fit(whole, tmp_path / "whole", epochs=4).history
    fit(model(), tmp_path / "parts", epochs=2)
    resumed = model()
    checkpoint = fit(resumed, tmp_path / "parts", epochs=4)
    assert all(np.array_equal(a, b) for a, b in zip(state(whole), state(resumed), strict=True))
    assert checkpoint.history == history
    assert len(history) == checkpoint.epoch == 4


def test_without_the_optimiser_it_would_not(tmp_path):
    whole, half, weights_alone = (model(dropout=0.0) for _ in range(3))
    fit(whole, tmp_path / "whole", epochs=4)
    fit(half, tmp_path / "parts", epochs=2)
    weights_alone.set_weights(half.get_weights())
    weights_alone.fit(X, Y, batch_size=16, epochs=2, shuffle=False, verbose=0)
    assert not np.array_equal(weights_alone.get_weights()[0], whole.get_weights()[0])


def test_other_callbacks_go_on_where_they_were(tmp_path):
    def patience():
        return keras.callbacks.EarlyStopping(monitor="loss", min_delta=100, patience=3, restore_best_weights=True)

    first = patience()
    fit(model(), tmp_path, epochs=3, others=[first])
    second = patience()
    checkpoint = fit(model(), tmp_path, epochs=9, others=[second])
    assert (first.wait, second.wait) == (2, 3)
    assert checkpoint.epoch == 4
    assert second.best == first.best
    assert all(np.array_equal(a, b) for a, b in zip(first.best_weights, second.best_weights, strict=True))


def test_a_finished_model_is_restored_without_fit(tmp_path):
    trained = model()
    fit(trained, tmp_path, epochs=1)
    again = model()
    FullStateCheckpoint(tmp_path).restore(again)
    assert all(np.array_equal(a, b) for a, b in zip(state(trained), state(again), strict=True))


@pytest.mark.parametrize("other", [{"units": 9}, {"optimizer": "adamax"}])
def test_another_model_or_optimiser_is_refused(tmp_path, other):
    fit(model(), tmp_path, epochs=1)
    with pytest.raises(ValueError, match="saved by another model"):
        fit(model(**other), tmp_path, epochs=2)


def test_other_callbacks_than_the_saved_are_refused(tmp_path):
    fit(model(), tmp_path, epochs=1)
    with pytest.raises(ValueError, match="other callbacks"):
        fit(model(), tmp_path, epochs=2, others=[keras.callbacks.EarlyStopping()])


def test_a_model_that_is_not_built_is_refused(tmp_path):
    fit(model(), tmp_path, epochs=1)
    with pytest.raises(ValueError, match="begin it with an `Input` layer"):
        FullStateCheckpoint(tmp_path).restore(keras.Sequential([keras.layers.Dense(2)]))


def test_the_wrong_initial_epoch_is_refused(tmp_path):
    fit(model(), tmp_path, epochs=2)
    with pytest.raises(ValueError, match="`initial_epoch` must be 2"):
        model().fit(X, Y, epochs=3, verbose=0, callbacks=[FullStateCheckpoint(tmp_path)])


@pytest.mark.parametrize("content", [b"", b"PK damaged"])
def test_a_damaged_file_is_named(tmp_path, content):
    (tmp_path / "state.npz").write_bytes(content)
    with pytest.raises(ValueError, match=r"state\.npz cannot be read .*Delete it to start anew"):
        FullStateCheckpoint(tmp_path)


def test_a_write_that_fails_leaves_the_last_whole_state(tmp_path, monkeypatch):
    fit(model(), tmp_path, epochs=1)
    before = (tmp_path / "state.npz").read_bytes()

    def disk_full(*_, **__):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(np, "savez", disk_full)
    with pytest.raises(OSError, match="No space left"):
        fit(model(), tmp_path, epochs=2)
    assert (tmp_path / "state.npz").read_bytes() == before
    assert FullStateCheckpoint(tmp_path).epoch == 1


def test_the_file_holds_nothing_pickled(tmp_path):
    fit(model(), tmp_path, epochs=1)
    with np.load(tmp_path / "state.npz", allow_pickle=False) as file:
        assert all(file[key].dtype != object for key in file)
