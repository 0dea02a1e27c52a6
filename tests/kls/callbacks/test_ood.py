import keras
import numpy as np
import pytest

import kls
from kls import OODCallback
from kls.ood import scores

from .helpers import FAR, NEAR, TENSORFLOW, Counting, X, Y, quick, separated, train


class Failing(keras.callbacks.Callback):
    def on_epoch_end(self, epoch, logs=None):
        raise RuntimeError("stopped")


class TestIDData:
    @pytest.mark.parametrize("kind", ["arrays", "weighted arrays", "tensorflow", "batches", "split"])
    def test_it_is_the_validation_data_of_fit(self, small, kind):
        if kind == "tensorflow" and not TENSORFLOW:
            pytest.skip("tf.data.Dataset")
        data, id_data = (X[:40], Y[:40]), X[:40]
        callback = OODCallback({"far": FAR})
        if kind == "split":
            id_data = X[48:]
            history = small.fit(
                X, Y, batch_size=16, validation_split=0.25, epochs=2, verbose=0, callbacks=[callback], shuffle=False
            ).history
        else:
            kinds = {
                "arrays": lambda: data,
                "weighted arrays": lambda: (*data, np.ones(40)),
                "tensorflow": lambda: quick(*data),
                "batches": lambda: Counting(*data),
            }
            history = train(small, [callback], validation_data=kinds[kind]())
        assert history["auroc_far"][-1] == pytest.approx(separated(small, id_data), abs=1e-9)
        assert len(history["auroc_far"]) == len(history["val_loss"]) == 2
        assert "evaluate" not in vars(small)
        assert small.evaluate.__func__ is type(small).evaluate

    def test_what_is_given_comes_before_the_validation_data(self, small):
        validation = quick(NEAR, np.zeros(30, int))
        history = train(small, [OODCallback({"far": FAR}, id_data=X)], validation_data=validation)
        assert history["auroc_far"][-1] == pytest.approx(separated(small, X), abs=1e-9)

    def test_without_any_the_error_says_what_to_pass(self, small):
        with pytest.raises(ValueError, match="pass `id_data`, or `validation_data` to `fit`"):
            train(small, [OODCallback({"far": FAR})])
        with pytest.raises(RuntimeError, match="stopped"):
            train(small, [OODCallback({"far": FAR}, id_data=X), Failing()])

    def test_two_of_them_listen_to_one_fit(self, small):
        validation = quick(X, Y)
        callbacks = [OODCallback({"far": FAR}), OODCallback({"near": NEAR}, score="energy")]
        history = train(small, callbacks, validation_data=validation)
        assert history["auroc_far"][-1] == pytest.approx(separated(small, X))
        assert history["auroc_near"][-1] == pytest.approx(separated(small, X, NEAR, "energy"))
        assert "evaluate" not in vars(small)

    def test_a_first_epoch_without_validation_is_told_what_to_pass(self, small):
        with pytest.raises(ValueError, match="pass `id_data`"):
            train(small, [OODCallback({"far": FAR})], 4, validation_data=quick(X, Y), validation_freq=2)

    def test_the_validation_data_of_an_earlier_fit_are_forgotten(self, small):
        callback = OODCallback({"far": FAR})
        train(small, [callback], epochs=1, validation_data=quick(X, Y))
        with pytest.raises(ValueError, match="needs ID data"):
            train(small, [callback], epochs=1)

    def test_it_is_not_what_another_callback_evaluates(self, small):
        class Other(keras.callbacks.Callback):
            def on_epoch_end(self, epoch, logs=None):
                self.model.evaluate(NEAR, np.zeros(30, int), verbose=0)

        validation = quick(X, Y)
        history = train(small, [Other(), OODCallback({"far": FAR})], epochs=1, validation_data=validation)
        assert history["auroc_far"][-1] == pytest.approx(separated(small, X))

    def test_a_method_that_the_caller_has_set_is_given_back(self, small):
        original = type(small).evaluate.__get__(small)

        def mine(*arguments, **options):
            return original(*arguments, **options)

        small.evaluate = mine
        train(small, [OODCallback({"far": FAR})], epochs=1, validation_data=quick(X, Y))
        assert small.evaluate is mine

    def test_after_a_fit_that_failed_the_model_evaluates_and_fits_again(self, small):
        callback, validation = OODCallback({"far": FAR}), quick(X, Y)
        with pytest.raises(RuntimeError, match="stopped"):
            train(small, [callback, Failing()], validation_data=validation)
        loss = small.evaluate(X, Y, verbose=0)
        assert loss == pytest.approx(kls.calibration.negative_log_likelihood(Y, small(X), from_logits=True), rel=1e-5)
        history = train(small, [callback], validation_data=validation)
        assert history["auroc_far"][-1] == pytest.approx(separated(small, X))
        assert "evaluate" not in vars(small)


class TestScores:
    def test_a_fitted_score_learns_anew_each_epoch(self, small):
        values, score = [], scores.KNN(k=3)
        listening = keras.callbacks.LambdaCallback(
            on_epoch_end=lambda epoch, logs: values.append(separated(small, NEAR, score=scores.KNN(k=3).fit(small, X)))
        )
        callback = OODCallback({"far": FAR}, score, id_data=NEAR, training_data=X)
        history = train(small, [callback, listening], epochs=3)
        assert history["auroc_far"] == pytest.approx(values)
        assert len(set(values)) > 1

    def test_named_features_are_taken(self, small):
        callback = OODCallback({"far": FAR}, scores.KNN(k=3, features="hidden"), id_data=NEAR, training_data=X)
        history = train(small, [callback], epochs=1)
        expected = separated(small, NEAR, score=scores.KNN(k=3, features="hidden").fit(small, X))
        assert expected != pytest.approx(separated(small, NEAR, score=scores.KNN(k=3).fit(small, X)))
        assert history["auroc_far"][0] == pytest.approx(expected)

    def test_a_score_is_not_modified(self, small):
        score = scores.KNN(k=3)
        train(small, [OODCallback({"far": FAR}, score, id_data=NEAR, training_data=X)], epochs=1)
        assert not score.fitted

    def test_training_data_are_asked_for_at_once(self):
        with pytest.raises(ValueError, match="`training_data` must be given for the score 'knn'"):
            OODCallback({"far": FAR}, score="knn")

    @pytest.mark.parametrize(
        "ood", [None, {}, FAR, [FAR], {"near": {"far": FAR}}], ids=["none", "empty", "array", "list", "nested"]
    )
    def test_without_names_and_data_it_is_refused(self, ood):
        with pytest.raises(ValueError, match="`ood` must"):
            OODCallback(ood)
