"""Trials of one process that share a compiled model end with the bits of trials that have one each."""

import shutil
from dataclasses import replace
from functools import wraps

import keras
import numpy as np
import pytest

from kls.study import reuse
from kls.study.methods import LabelSmoothing, OverfittingRatio, SoftLabels
from kls.study.methods.cross_entropy import AssignableSmoothedCE
from kls.study.outputs import Wanted
from kls.study.store import RunStore
from kls.utils.feature_extractor import Network

from .helpers import compiled_model, train


@pytest.fixture(autouse=True)
def nothing_kept(monkeypatch):
    monkeypatch.setattr(reuse, "_last", None)


@pytest.fixture
def make(make_trial, tiny):
    def make(gamma=0.9, **changes):
        common = {name: changes.pop(name) for name in ("dropout", "mixing", "title") if name in changes}
        recipe = {
            "model": tiny,
            "backend": keras.backend.backend(),
            "epochs": 1,
            "method": LabelSmoothing(gamma, **common),
        }
        return make_trial(**{**recipe, **changes})

    return make


def left_by(store, trial):
    """Returns all that a trial leaves but its times, as bytes."""
    directory = store.directory(trial)
    with np.load(directory / "checkpoint" / "state.npz", allow_pickle=False) as file:
        state = {key: file[key].tobytes() for key in file if key.startswith("variable/")}
    paths = [directory / "weights.weights.h5", directory / "history.csv", *(directory / "logits").iterdir()]
    return state | {path.name: path.read_bytes() for path in paths}


def kept_model():
    return reuse._last and reuse._last.model


class TestSweep:
    def test_trials_end_with_the_bits_that_they_have_alone(self, make, stripes, store, tmp_path, monkeypatch):
        """Also where the initial values of a seed are kept no longer."""
        recipe = {"optimizer": "nesterov", "learning_rate": 0.05, "schedule": "cosine", "dropout": 0.2, "epochs": 2}
        last = make(gamma=0.8, seed=1, **recipe)
        models = []
        for gamma, seed in [(1.0, 0), (1.0, 1), (0.9, 0)]:
            train(make(gamma=gamma, seed=seed, **recipe), stripes, store)
            models.append(kept_model())
        assert list(reuse._last._initial) == [(0, None), (1, None)]
        monkeypatch.setattr(reuse, "INITIAL_BYTES", 0)
        for trial in (make(seed=2, **recipe), last):
            train(trial, stripes, store)
            models.append(kept_model())
            assert list(reuse._last._initial) == [(trial.seed, None)]
        assert all(model is models[0] for model in models)
        monkeypatch.setattr(reuse, "_last", None)
        alone = RunStore(tmp_path / "alone")
        train(last, stripes, alone)
        assert left_by(store, last) == left_by(alone, last)

    def test_nothing_is_traced_twice_and_outputs_are_of_the_new_weights(self, make, stripes, store, monkeypatch):
        traced = []

        def counted(function):
            @wraps(function)
            def count(*arguments, **options):
                traced.append(function.__name__)
                return function(*arguments, **options)

            return count

        monkeypatch.setattr(AssignableSmoothedCE, "call", counted(AssignableSmoothedCE.call))
        monkeypatch.setattr(Network, "_forward_with_features", counted(Network._forward_with_features))
        wanted = Wanted(features=True)
        train(make(), stripes, store, wanted=wanted)
        assert set(traced) == {"call", "_forward_with_features"}
        if keras.backend.backend() == "tensorflow":
            assert sorted(traced) == ["_forward_with_features", "call", "call"]  # one to train, one to evaluate
        traced.clear()
        for changes in ({"gamma": 1.0}, {"seed": 1}, {"shift": 0.0, "flip": True}):
            train(make(**changes), stripes, store, wanted=wanted)
            found = store.outputs(make(**changes), "test")
            kernel, bias = kept_model().get_layer("classifier").get_weights()
            np.testing.assert_allclose(found["features"] @ kernel + bias, found["logits"], atol=2e-2)
        assert traced == []

    def test_a_resumed_trial_goes_on_in_the_model_of_another(self, make, stripes, store, tmp_path):
        trial, other = make(gamma=0.9, epochs=2), make(gamma=1.0, seed=1, epochs=2)
        checkpoint = store.directory(trial) / "checkpoint"

        class Copy(keras.callbacks.Callback):
            def on_epoch_begin(self, epoch, logs=None):
                if epoch == 1:
                    shutil.copytree(checkpoint, tmp_path / "half")

        train(trial, stripes, store, callbacks=[Copy()])
        whole = left_by(store, trial)
        train(other, stripes, store)
        shared = kept_model()
        shutil.rmtree(store.directory(trial))
        shutil.copytree(tmp_path / "half", checkpoint)
        train(trial, stripes, store)
        assert kept_model() is shared
        assert left_by(store, trial) == whole


class TestWhatIsKept:
    @pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
    def test_the_model_of_a_trial_that_fails_is_dropped(self, error, make, stripes, store):
        class Fail(keras.callbacks.Callback):
            def on_train_begin(self, logs=None):
                raise error

        trial = make()
        reuse.keep(reuse.CompiledModel(compiled_model(trial, stripes, 6), trial, "none"))
        with pytest.raises(error):
            train(make(gamma=1.0), stripes, store, callbacks=[Fail()])
        assert kept_model() is None

    @pytest.mark.parametrize(
        "changes",
        [
            {"precision": "mixed_bfloat16"},
            {"batch_size": 8},
            {"model": "resnet8v1"},
            {"dataset": "waves"},
            {"data": "0123"},
            {"image_size": "16"},
            {"optimizer": "momentum"},
            {"dropout": 0.1},
            {"weight_decay": 1e-4},
            {"mixing": "cutmix"},
            {"method": SoftLabels(np.eye(3))},
            {"schedule": "cosine"},
        ],
    )
    def test_another_step_is_another_key(self, changes, make):
        assert reuse.key_of(make(**changes), "none") != reuse.key_of(make(), "none")

    @pytest.mark.parametrize(
        "changes",
        [
            {"gamma": 1.0},
            {"seed": 3},
            {"shift": 0.0, "flip": True, "fill": "reflect"},
            {"schedule": (), "learning_rate": 0.1},
            {"title": "LS"},
        ],
    )
    def test_what_no_step_contains_is_not_in_the_key(self, changes, make):
        assert reuse.key_of(make(**changes), "none") == reuse.key_of(make(), "none")

    @pytest.mark.parametrize("changes", [{"epochs": 7}, {"learning_rate": 0.1}])
    def test_a_cosine_is_compiled_in(self, changes, make):
        trial = make(schedule="cosine")
        assert reuse.key_of(replace(trial, **changes), "none") != reuse.key_of(trial, "none")

    def test_models_of_other_losses_and_of_several_replicas_are_not_kept(self, make, stripes):
        model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(2)])
        for trial, strategy in ((make(method=OverfittingRatio()), "none"), (make(), "mirrored")):
            reuse.keep(reuse.CompiledModel(model, trial, strategy))
            assert reuse.take(trial, strategy) is None

    def test_it_is_taken_once_and_makes_room_for_another(self, make):
        model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(2)])
        compiled = reuse.CompiledModel(model, make(), "none")
        reuse.keep(compiled)
        assert reuse.take(make(gamma=1.0), "none") is compiled
        assert reuse.take(make(gamma=1.0), "none") is None
        reuse.keep(compiled)
        assert reuse.take(make(batch_size=8), "none") is None
        assert reuse.take(make(), "none") is None
