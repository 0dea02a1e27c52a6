import math
import shutil
from dataclasses import replace

import h5py
import keras
import numpy as np
import pytest

import decathlon
from kls.study import train as train_module
from kls.study.methods import LabelSmoothing, OverfittingRatio
from kls.study.networks import TrainingError, learning_rate
from kls.study.outputs import Wanted, evaluation_batch_size
from kls.study.plan import PlanError
from kls.study.store import RunStore, StoreError
from kls.study.train import Stopwatch, check_strategy
from kls.study.trial import Trial

from .helpers import arrays, build_network, evaluate_again, exposed, history, student, train, trained_network


@pytest.fixture(scope="module")
def trained(tmp_path_factory, data_dir):
    """One trial trained for all tests that only look at what it left."""
    dataset = decathlon.open("stripes", data_dir=data_dir)
    method, schedule = LabelSmoothing(0.9), ((2, 0.1), (3, 0.01))
    trial = Trial("stripes", "8", dataset.fingerprint, "resnet8v1", method, 4, schedule, batch_size=16, flip=False)
    store = RunStore(tmp_path_factory.mktemp("out"))
    return trial, store, train(trial, dataset, store)


class TestWhatATrialLeaves:
    def test_measures(self, trained, stripes):
        trial, store, record = trained
        logits, labels = store.logits(trial, "test")
        assert logits.shape == (41, 3)
        np.testing.assert_array_equal(labels, stripes.split("test")[1])
        assert record["accuracy_last"] == np.mean(logits.argmax(axis=1) == labels)
        best = max(float(row["val_accuracy"]) for row in history(store, trial))
        assert record["accuracy_best"] == pytest.approx(best, abs=1e-6)
        assert record["accuracy_best"] * 41 == pytest.approx(round(record["accuracy_best"] * 41), abs=1e-9)
        assert (record["train_images"], record["evaluation_images"], record["classes"]) == (96, 41, 3)
        assert record["seconds"] > 0
        assert record["images_per_second"] > 0
        assert f"keras {keras.__version__}" in record["machine"]

    def test_it_learns(self, trained):
        trial, store, _ = trained
        losses = [float(row["loss"]) for row in history(store, trial)]
        assert losses[-1] < losses[0]

    def test_the_learning_rate_follows_the_schedule(self, trained):
        trial, store, _ = trained
        rates = [float(row["learning_rate"]) for row in history(store, trial)]
        np.testing.assert_allclose(rates, [1e-3, 1e-3, 1e-4, 1e-5], rtol=1e-6)

    def test_its_weights_give_its_logits(self, trained, stripes):
        trial, store, _ = trained
        model = build_network(trial, stripes)
        model.load_weights(store.directory(trial) / "weights.weights.h5")
        logits = model.predict(stripes.split("test")[0], verbose=0)
        np.testing.assert_allclose(logits, store.logits(trial, "test")[0], atol=1e-5)

    def test_its_weights_are_the_networks_alone(self, trained, stripes):
        trial, store, _ = trained
        stored = []
        with h5py.File(store.directory(trial) / "weights.weights.h5") as file:
            file.visititems(lambda name, entry: stored.append(entry.size) if isinstance(entry, h5py.Dataset) else None)
        model = build_network(trial, stripes)
        assert sorted(stored) == sorted(int(np.prod(weight.shape)) for weight in model.weights)


def test_the_same_recipe_gives_the_same_bits_and_another_seed_others(trained, stripes, store):
    trial, first, _ = trained
    other = replace(trial, seed=1, epochs=1)
    train(other, stripes, store)
    train(trial, stripes, store)
    one, two, three = arrays(first, trial), arrays(store, trial), arrays(store, other)
    assert all(np.array_equal(one[key], two[key]) for key in one)
    assert not all(np.array_equal(one[key], three[key]) for key in one)


def test_a_trial_stopped_after_its_last_epoch_is_only_evaluated(trained, stripes, make_trial):
    trial, store, record = trained
    before = arrays(store, trial)
    again = train(trial, stripes, store)
    assert again["accuracy_last"] == record["accuracy_last"]
    assert all(np.array_equal(value, arrays(store, trial)[key]) for key, value in before.items())


def test_a_loss_that_is_not_finite_ends_the_trial_with_its_reason(make_trial, stripes, store, tiny):
    trial = make_trial(model=tiny, optimizer="nesterov", learning_rate=1e30, schedule=())
    with pytest.raises(TrainingError, match=r"loss became (nan|inf) in epoch 1"):
        train(trial, stripes, store)
    assert not (store.directory(trial) / "checkpoint" / "state.npz").exists()


@pytest.mark.skipif(keras.backend.backend() != "tensorflow", reason="MirroredStrategy is TensorFlow's")
class TestMirrored:
    def test_two_replicas_train_as_one(self, make_trial, stripes, tmp_path):
        from kls.study.store import RunStore

        one, two = RunStore(tmp_path / "1"), RunStore(tmp_path / "2")
        trial = make_trial(optimizer="nesterov", learning_rate=0.05, batch_size=8, epochs=1)
        record_one = train(trial, stripes, one)
        record_two = train(trial, stripes, two, strategy="mirrored")
        alone, shared = arrays(one, trial), arrays(two, trial)
        assert list(alone) == list(shared)
        for key, value in alone.items():
            np.testing.assert_allclose(shared[key], value, rtol=1e-3, atol=2e-4)
        np.testing.assert_allclose(two.logits(trial, "test")[0], one.logits(trial, "test")[0], rtol=1e-2, atol=2e-3)
        assert record_two["accuracy_last"] == record_one["accuracy_last"]
        assert record_two["accuracy_best"] == record_one["accuracy_best"]

    @pytest.mark.parametrize(
        ("count", "batch_size", "replicas", "size"),
        [(41, 8, 1, 8), (41, 8, 2, 6), (40, 8, 2, 8), (10_000, 64, 4, 64), (7, 64, 2, 4)],
    )
    def test_every_replica_gets_a_share_of_every_evaluation_batch(self, count, batch_size, replicas, size):
        assert evaluation_batch_size(count, batch_size, replicas) == size
        for images in {size, count % size} - {0}:
            share = -(-images // replicas)
            assert min(share, images - (replicas - 1) * share) > 0

    def test_too_few_evaluation_images_are_refused(self):
        with pytest.raises(PlanError, match="9 evaluation images cannot be shared by 4 replicas"):
            evaluation_batch_size(9, 64, 4)

    def test_a_batch_that_two_replicas_cannot_share_is_refused(self):
        with pytest.raises(PlanError, match=r"multiple of the 2 replicas. Received: 15"):
            check_strategy("mirrored", batch_size=15)

    def test_other_backends_are_refused(self, monkeypatch):
        monkeypatch.setattr(keras.backend, "backend", lambda: "jax")
        with pytest.raises(PlanError, match=r"must be 'none' but on TensorFlow.* Keras on jax"):
            check_strategy("mirrored", batch_size=16)


@pytest.mark.usefixtures("needs_bfloat16")
def test_mixed_precision_is_set_for_the_trial_alone(make_trial, stripes, store, monkeypatch):
    policies = []

    whole = train_module.compiled_model

    def remember(*arguments, **options):
        model = whole(*arguments, **options)
        policies.append(model.layers[2].dtype_policy.name)
        return model

    monkeypatch.setattr(train_module, "compiled_model", remember)
    train(make_trial(precision="mixed_bfloat16", epochs=1), stripes, store)
    assert policies == ["mixed_bfloat16"]
    assert keras.config.dtype_policy().name == "float32"


def test_weight_decay_adds_what_sgd_of_pytorch_does_to_the_gradient(make_trial, stripes, tiny):
    """PyTorch adds `weight_decay * w` to the gradient of each weight; biases, scales and offsets are weights."""
    import tensorflow as tf

    model = build_network(make_trial(model=tiny, weight_decay=0.3), stripes)
    with tf.GradientTape() as tape:
        penalty = sum(model.losses)
    gradients = tape.gradient(penalty, [variable.value for variable in model.trainable_variables])
    assert len(gradients) == 6
    for gradient, variable in zip(gradients, model.trainable_variables, strict=True):
        np.testing.assert_allclose(gradient, 0.3 * variable.numpy(), rtol=1e-6)


def test_a_recipe_that_asks_for_what_is_not_there_is_refused(make_trial, stripes, store):
    with pytest.raises(ValueError, match=r"`optimizer` must be one of .* Received: optimizer='sgdm'"):
        make_trial(optimizer="sgdm")


class TestChildren:
    """Trials that start from another one: fine-tuned with outliers, or taught."""

    @pytest.mark.parametrize("kind", ["exposed", "student", "drawing", "offline", "adaptive"])
    def test_a_stopped_child_ends_with_the_bits_of_one_that_was_not(self, kind, parent, stripes, store, tmp_path):
        children = {
            "exposed": exposed(parent),
            "student": student(parent),
            "drawing": student(parent, mode="ensemble", mixing="ricap", teacher_dropout=0.2, dropout=0.2),
            "offline": student(parent, mode="ensemble", offline=True),
            "adaptive": replace(parent, method=OverfittingRatio("loss", 1)),
        }
        child = replace(children[kind], epochs=3)
        given = {"parents": [parent] if child.parents else [], "others": [stripes] if kind == "exposed" else ()}
        train(child, stripes, store, **given)
        whole = arrays(store, child), store.logits(child, "test")[0]
        shutil.rmtree(store.directory(child))

        class Stop(keras.callbacks.Callback):
            def on_epoch_begin(self, epoch, logs=None):
                if epoch == 2:
                    raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            train(child, stripes, store, **given, callbacks=[Stop()])
        train(child, stripes, store, **given)
        again = arrays(store, child)
        assert all(np.array_equal(value, again[key]) for key, value in whole[0].items())
        np.testing.assert_array_equal(store.logits(child, "test")[0], whole[1])

    def test_a_parent_without_weights_is_named(self, parent, stripes, store):
        (store.directory(parent) / "weights.weights.h5").unlink()
        with pytest.raises(StoreError, match=r"weights\.weights\.h5 is missing"):
            train(student(parent), stripes, store, parents=[parent])

    def test_a_parent_that_is_not_finished_is_named(self, parent, stripes, store):
        (store.directory(parent) / "record.json").unlink()
        with pytest.raises(StoreError, match=r"stripes tiny gamma=1 seed=0 has to be trained first"):
            train(student(parent), stripes, store, parents=[parent])

    @pytest.mark.parametrize("offline", [False, True])
    def test_nothing_is_computed_from_damaged_weights(self, parent, stripes, store, offline):
        path = store.weights(parent)
        content = bytearray(path.read_bytes())
        content[-100] ^= 1
        path.write_bytes(content)
        taught = student(parent, mode="ensemble", offline=offline)
        with pytest.raises(StoreError, match=r"weights\.weights\.h5 is damaged"):
            train(taught, stripes, store, parents=[parent])
        with pytest.raises(StoreError, match=r"weights\.weights\.h5 is damaged"):
            evaluate_again(parent, store.record(parent), stripes, store, Wanted({"stripes": stripes}))
        assert not store.outputs_path(parent.id, "stripes").exists()

    def test_weights_that_give_other_logits_are_not_evaluated(self, parent, stripes, store, monkeypatch):
        """As when the code that builds a network has changed."""
        model = trained_network(parent, stripes, store)
        model.set_weights([1.1 * weights for weights in model.get_weights()])
        monkeypatch.setattr(train_module, "trained_network", lambda *_: (model, True))
        directory = store.directory(parent)
        before = {path: path.read_bytes() for path in directory.rglob("*") if path.is_file()}
        with pytest.raises(StoreError, match=r"test\.npz holds other logits than its trial's weights give now"):
            evaluate_again(parent, store.record(parent), stripes, store, Wanted({"stripes": stripes}))
        assert before == {path: path.read_bytes() for path in directory.rglob("*") if path.is_file()}

    def test_other_data_of_the_same_name_are_evaluated_anew(self, parent, stripes, store, prepare_random, tmp_path):
        first, second = (prepare_random(name, tmp_path / "data", test=count) for name, count in (("a", 9), ("b", 11)))
        for waves, count in ((first, 9), (second, 11)):
            record = evaluate_again(parent, store.record(parent), stripes, store, Wanted({"waves": waves}))
            assert record["ood"] == {"waves": waves.fingerprint}
            store.finish(parent, "study", record)
            assert len(store.logits(parent, "waves")[0]) == count
            assert store.believed(store.records()) == [store.record(parent)]

    def test_a_cosine_ends_at_a_millionth(self, parent):
        rate = learning_rate(parent, steps_per_epoch=10)
        rates = [float(rate(step)) for step in (0, 15, 30, 60)]
        halfway = [0.1, (0.1 - 1e-6) * (1 + math.cos(math.pi / 4)) / 2 + 1e-6, 0.05 + 0.5e-6, 1e-6]
        assert rates == pytest.approx(halfway, rel=1e-4)


class TestStopwatch:
    def run(self, stopwatch, clock, monkeypatch, epochs):
        times = iter(clock)
        monkeypatch.setattr("time.perf_counter", lambda: next(times))
        stopwatch.on_train_begin()
        for epoch in range(epochs):
            stopwatch.on_epoch_begin(epoch)
            stopwatch.on_test_begin()
            stopwatch.on_epoch_end(epoch)

    def test_the_first_epoch_of_a_process_is_left_out_of_the_rate(self, monkeypatch):
        stopwatch = Stopwatch(images_per_epoch=100)
        self.run(stopwatch, [0, 20, 22, 22, 27, 28, 28, 33, 34], monkeypatch, epochs=3)
        assert stopwatch.seconds == 34
        assert stopwatch.images_per_second == 100 * 2 / 10

    def test_one_epoch_alone_gives_its_own_rate(self, monkeypatch):
        stopwatch = Stopwatch(images_per_epoch=100)
        self.run(stopwatch, [0, 20, 22], monkeypatch, epochs=1)
        assert stopwatch.images_per_second == 5
