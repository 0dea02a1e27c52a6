import keras
import numpy as np
import pytest

from kls import CalibrationCallback, FullStateCheckpoint, OODCallback

from .helpers import FAR, X, Y, compiled, quick, state, train


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


def test_a_resumed_run_ends_with_the_bits_of_an_uninterrupted_one(tmp_path):
    whole = model()
    history = fit(whole, tmp_path / "whole", epochs=4).history
    fit(model(), tmp_path / "parts", epochs=2)
    resumed = model()
    checkpoint = fit(resumed, tmp_path / "parts", epochs=4)
    assert all(np.array_equal(a, b) for a, b in zip(state(whole), state(resumed), strict=True))
    assert checkpoint.history == history
    assert len(history) == checkpoint.epoch == 4


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


def test_evaluations_go_on_too(tmp_path):
    def run(directory, epochs):
        checkpoint = FullStateCheckpoint(directory)
        keras.utils.clear_session()
        network, evaluations = compiled(), [CalibrationCallback((X, Y), every=2), OODCallback({"far": FAR})]
        data = quick(X, Y)
        train(network, [*evaluations, checkpoint], epochs, validation_data=data, initial_epoch=checkpoint.epoch)
        return network, checkpoint.history

    whole, history = run(tmp_path / "whole", 4)
    run(tmp_path / "parts", 3)
    resumed, resumed_history = run(tmp_path / "parts", 4)
    assert all(np.array_equal(a, b) for a, b in zip(state(whole), state(resumed), strict=True))
    assert resumed_history == history
    assert ["val_nll" in logs for logs in history] == [True, False, True, True]
    assert all("auroc_far" in logs for logs in history)


class TestAnotherProcessWritesToo:
    def test_a_later_state_than_the_one_announced_is_refused(self, tmp_path):
        fit(model(), tmp_path, epochs=1)
        checkpoint = FullStateCheckpoint(tmp_path)
        fit(model(), tmp_path, epochs=2)
        network = model()
        before = state(network)
        with pytest.raises(ValueError, match=r"state\.npz must hold epoch 1, .* Received: epoch 2"):
            checkpoint.restore(network)
        assert all(np.array_equal(a, b) for a, b in zip(before, state(network), strict=True))

    def test_fit_refuses_a_state_that_was_not_there_when_it_was_made(self, tmp_path):
        checkpoint = FullStateCheckpoint(tmp_path)
        fit(model(), tmp_path, epochs=1)
        with pytest.raises(ValueError, match="must hold epoch 0"):
            model().fit(X, Y, verbose=0, callbacks=[checkpoint])

    def test_fit_refuses_to_go_on_without_the_state_that_was_there(self, tmp_path):
        fit(model(), tmp_path, epochs=1)
        checkpoint = FullStateCheckpoint(tmp_path)
        (tmp_path / "state.npz").unlink()
        with pytest.raises(ValueError, match=r"state\.npz cannot be read"):
            model().fit(X, Y, epochs=2, initial_epoch=1, verbose=0, callbacks=[checkpoint])

    def test_one_callback_goes_on_in_a_second_fit(self, tmp_path):
        network = model()
        checkpoint = fit(network, tmp_path, epochs=1)
        network.fit(X, Y, epochs=2, initial_epoch=1, verbose=0, callbacks=[checkpoint])
        assert checkpoint.epoch == 2


def _with_a_bit_flipped(content, name):
    """Turns on the bit that says "encrypted" in an archive's entry of a name."""
    entry = content.rindex(b"PK\x01\x02", 0, content.rindex(name))
    return content[: entry + 8] + bytes([content[entry + 8] | 1]) + content[entry + 9 :]


def test_a_bit_flipped_in_the_archive_is_named(tmp_path):
    fit(model(), tmp_path, epochs=1)
    path = tmp_path / "state.npz"
    path.write_bytes(_with_a_bit_flipped(path.read_bytes(), b"state.npy"))
    with pytest.raises(ValueError, match=r"state\.npz cannot be read .*Delete it to start anew"):
        FullStateCheckpoint(tmp_path)


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
