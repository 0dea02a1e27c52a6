import csv
import math
import shutil
from dataclasses import replace

import h5py
import keras
import numpy as np
import pytest

import decathlon
import kls
from benchmarks.runner import train as train_module
from benchmarks.runner.estimate import steps_per_epoch
from benchmarks.runner.networks import (
    DENOISING,
    TrainingError,
    accuracy_name,
    build_model,
    compiled_model,
    learning_rate,
    trained_model,
)
from benchmarks.runner.outputs import Wanted, evaluation_batch_size
from benchmarks.runner.plan import PlanError
from benchmarks.runner.progress import Watch
from benchmarks.runner.store import RunStore, StoreError
from benchmarks.runner.train import (
    Stopwatch,
    check_strategy,
    evaluate_again,
    stored_logits,
    train,
    training_batches,
    training_data,
    weight_callbacks,
)
from benchmarks.runner.trial import Trial
from kls.calibration.samples import softmax
from kls.models import registry


def arrays(store, trial):
    with np.load(store.directory(trial) / "checkpoint" / "state.npz") as file:
        return {key: file[key] for key in file if key.startswith("variable/")}


def history(store, trial):
    with open(store.directory(trial) / "history.csv") as file:
        return list(csv.DictReader(file))


@pytest.fixture(scope="module")
def trained(tmp_path_factory, data_dir):
    """One trial trained for all tests that only look at what it left."""
    dataset = decathlon.open("stripes", data_dir=data_dir)
    trial = Trial(
        "stripes", "8", dataset.fingerprint, "resnet8v1", 0.9, ((2, 0.1), (3, 0.01)), 4, batch_size=16, flip=False
    )
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
        model = kls.models.build("resnet8v1", (8, 8, 1), 3, classifier_activation=None)
        model.load_weights(store.directory(trial) / "weights.weights.h5")
        images, _ = stripes.split("test")
        logits = model.predict(images.astype("float32") / 255 - stripes.mean, verbose=0)
        np.testing.assert_allclose(logits, store.logits(trial, "test")[0], atol=1e-5)

    def test_its_weights_are_the_networks_alone(self, trained):
        trial, store, _ = trained
        stored = []
        with h5py.File(store.directory(trial) / "weights.weights.h5") as file:
            file.visititems(lambda name, entry: stored.append(entry.size) if isinstance(entry, h5py.Dataset) else None)
        model = kls.models.build("resnet8v1", (8, 8, 1), 3)
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
        from benchmarks.runner.store import RunStore

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
        with pytest.raises(PlanError, match=r"needs the TensorFlow backend. Keras runs on jax"):
            check_strategy("mirrored", batch_size=16)


@pytest.mark.usefixtures("needs_bfloat16")
def test_mixed_precision_is_set_for_the_trial_alone(make_trial, stripes, store, monkeypatch):
    policies = []

    def remember(*arguments, **options):
        model = compiled_model(*arguments, **options)
        policies.append(model.layers[1].dtype_policy.name)
        return model

    monkeypatch.setattr(train_module, "compiled_model", remember)
    train(make_trial(precision="mixed_bfloat16", epochs=1), stripes, store)
    assert policies == ["mixed_bfloat16"]
    assert keras.config.dtype_policy().name == "float32"


def test_weight_decay_adds_what_sgd_of_pytorch_does_to_the_gradient(make_trial, stripes, tiny):
    """PyTorch adds `weight_decay * w` to the gradient of each weight; biases, scales and offsets are weights."""
    import tensorflow as tf

    model = build_model(make_trial(model=tiny, weight_decay=0.3), stripes)
    with tf.GradientTape() as tape:
        penalty = sum(model.losses)
    gradients = tape.gradient(penalty, [variable.value for variable in model.trainable_variables])
    assert len(gradients) == 6
    for gradient, variable in zip(gradients, model.trainable_variables, strict=True):
        np.testing.assert_allclose(gradient, 0.3 * variable.numpy(), rtol=1e-6)


def test_a_recipe_that_asks_for_what_is_not_there_is_refused(make_trial, stripes, store):
    with pytest.raises(TrainingError, match="loss='focal'"):
        train(make_trial(loss="focal"), stripes, store)
    with pytest.raises(TrainingError, match=r"loss='distillation' .* parents=\(\)"):
        train(make_trial(loss="distillation"), stripes, store)
    with pytest.raises(TrainingError, match="optimizer='sgdm'"):
        train(make_trial(optimizer="sgdm"), stripes, store)


@pytest.fixture(scope="module")
def trained_parent(tmp_path_factory, data_dir, tiny_builder):
    """A parent, trained once for all tests, and the directory of its results."""
    dataset = decathlon.open("stripes", data_dir=data_dir)
    recipe = {"batch_size": 16, "flip": False, "optimizer": "nesterov", "learning_rate": 0.1}
    parent = Trial("stripes", "8", dataset.fingerprint, "tiny", 1.0, "cosine", 6, **recipe)
    store = RunStore(tmp_path_factory.mktemp("parent"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(registry._BUILDERS, "tiny", tiny_builder)
        store.finish(parent, "study", train(parent, dataset, store))
    return parent, store.out


class TestChildren:
    """Trials that start from another one: fine-tuned with outliers, or taught."""

    @pytest.fixture
    def parent(self, trained_parent, store, tiny):
        """The parent, with results of its own for each test."""
        parent, out = trained_parent
        shutil.copytree(out, store.out)
        return parent

    def exposed(self, parent, **changes):
        exposure = {"outliers": ("stripes",), "outlier_batch_size": 24, "outlier_weight": 0.5, "epochs": 2}
        return replace(parent, loss="outlier_exposure", parents=(parent.id,), **{**exposure, **changes})

    def student(self, parent, **changes):
        lesson = {"teacher": "tiny gamma=1", "teacher_weight": 1.0, "temperature": 1.0}
        return replace(parent, loss="distillation", parents=(parent.id,), **{**lesson, **changes})

    def weights(self, store, trial, stripes):
        return trained_model(trial, stripes, store).get_weights()

    def test_fine_tuning_goes_on_from_the_weights_of_its_parent(self, parent, stripes, store):
        still = self.exposed(parent, learning_rate=1e-5, epochs=1)
        store.finish(still, "study", train(still, stripes, store, parents=[parent], outliers=[stripes]))
        before, after = (self.weights(store, trial, stripes) for trial in (parent, still))
        np.testing.assert_allclose(after[0], before[0], atol=1e-4)
        assert not np.array_equal(after[0], before[0])

    def test_exposure_flattens_what_the_network_makes_of_outliers(self, parent, stripes, store):
        """The outliers are the familiar images themselves, so that only their labels pull towards the uniform."""
        exposed = self.exposed(parent, learning_rate=0.02, epochs=8, outlier_weight=5.0)
        record = train(exposed, stripes, store, parents=[parent], outliers=[stripes])
        confidence = [softmax(store.logits(trial, "test")[0]).max(axis=1).mean() for trial in (parent, exposed)]
        assert confidence[0] > 0.8
        assert confidence[1] < 0.6
        assert record["train_images"] == 96

    def test_a_student_ends_near_its_teacher_which_stays_as_it_is(self, parent, stripes, store):
        before = self.weights(store, parent, stripes)
        student = self.student(parent, seed=1, epochs=12)
        train(student, stripes, store, parents=[parent])
        taught, teacher = (softmax(store.logits(trial, "test")[0]) for trial in (student, parent))
        assert np.abs(taught - teacher).mean() < 0.15
        assert (taught.argmax(axis=1) == teacher.argmax(axis=1)).mean() > 0.9
        for one, other in zip(before, self.weights(store, parent, stripes), strict=True):
            np.testing.assert_array_equal(one, other)

    def ensemble(self, parent, **changes):
        return self.student(parent, distillation="ensemble", **changes)

    @pytest.mark.parametrize("kind", ["exposed", "student", "drawing", "offline", "adaptive"])
    def test_a_stopped_child_ends_with_the_bits_of_one_that_was_not(self, kind, parent, stripes, store, tmp_path):
        children = {
            "exposed": self.exposed(parent),
            "student": self.student(parent),
            "drawing": self.ensemble(parent, mixing="ricap", teacher_dropout=0.2, dropout=0.2),
            "offline": self.ensemble(parent, offline=True),
            "adaptive": replace(parent, loss="overfitting_loss", window=1),
        }
        child = replace(children[kind], epochs=3)
        given = {"parents": [parent] if child.parents else [], "outliers": [stripes] if kind == "exposed" else ()}
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

    def test_stored_logits_are_the_teachers_and_are_computed_once(self, parent, stripes, store, monkeypatch):
        first = stored_logits([parent, parent], stripes, store)
        images, _ = stripes.split("train")
        expected = trained_model(parent, stripes, store).predict(images / 255 - stripes.mean, verbose=0)
        assert first.shape == (96, 2, 3)
        for teacher in range(2):
            np.testing.assert_allclose(first[:, teacher], expected, atol=1e-4)
        monkeypatch.setattr(train_module.kls, "teacher_logits", None)
        np.testing.assert_array_equal(stored_logits([parent, parent], stripes, store), first)

    def test_what_teachers_said_before_teaches_like_teachers_do(self, parent, stripes, store):
        """Where images are not varied."""
        still = replace(parent, shift=0.0, epochs=2, seed=3)
        students = [replace(self.ensemble(still, offline=offline), parents=(parent.id,)) for offline in (True, None)]
        for student in students:
            store.finish(student, "study", train(student, stripes, store, parents=[parent]))
        for found, expected in zip(*(self.weights(store, student, stripes) for student in students), strict=True):
            np.testing.assert_allclose(found, expected, atol=1e-4)

    def test_networks_of_a_seed_begin_alike_whoever_their_teachers_are(self, parent, stripes):
        alone = compiled_model(replace(parent, seed=5), stripes, 6)
        keras.utils.set_random_seed(8)
        origins = [build_model(parent, stripes) for _ in range(2)]
        taught = compiled_model(replace(self.ensemble(parent), seed=5), stripes, 6, origins)
        for found, expected in zip(taught.student.get_weights(), alone.get_weights(), strict=True):
            np.testing.assert_array_equal(found, expected)

    def test_a_trial_whose_loss_follows_overfitting_holds_out_a_tenth(self, parent, stripes):
        trial = replace(parent, loss="overfitting_label", window=1)
        images, labels = training_data(trial, stripes)
        whole, _ = stripes.split("train")
        assert len(images) == len(labels) == 96 - 9
        assert np.bincount(labels).tolist() == [29, 29, 29]
        training = training_batches(trial, stripes)
        assert len(training) == steps_per_epoch(trial, stripes) == 87 // 16
        (weights,) = weight_callbacks(trial, compiled_model(trial, stripes, 5), stripes, training)
        parts = [{image.tobytes() for image in weights.data[name].images} for name in ("train", "validation")]
        assert len(parts[0] & parts[1]) == 0
        assert parts[0] | parts[1] == {image.tobytes() for image in whole}
        assert parts[0] == {image.tobytes() for image in images}

    def test_a_parent_without_weights_is_named(self, parent, stripes, store):
        (store.directory(parent) / "weights.weights.h5").unlink()
        with pytest.raises(StoreError, match=r"weights\.weights\.h5 is missing"):
            train(self.student(parent), stripes, store, parents=[parent])

    def test_a_parent_that_is_not_finished_is_named(self, parent, stripes, store):
        (store.directory(parent) / "record.json").unlink()
        with pytest.raises(StoreError, match=r"stripes tiny gamma=1 seed=0 has to be trained first"):
            train(self.student(parent), stripes, store, parents=[parent])

    @pytest.mark.parametrize("offline", [None, True])
    def test_nothing_is_computed_from_damaged_weights(self, parent, stripes, store, offline):
        path = store.weights(parent)
        content = bytearray(path.read_bytes())
        content[-100] ^= 1
        path.write_bytes(content)
        student = self.ensemble(parent, offline=offline)
        with pytest.raises(StoreError, match=r"weights\.weights\.h5 is damaged"):
            train(student, stripes, store, parents=[parent])
        with pytest.raises(StoreError, match=r"weights\.weights\.h5 is damaged"):
            evaluate_again(parent, store.record(parent), stripes, store, Wanted({"stripes": stripes}))
        assert not store.outputs_path(parent.id, "stripes").exists()

    def test_weights_that_give_other_logits_are_not_evaluated(self, parent, stripes, store, monkeypatch):
        """As when the code that builds a network has changed."""
        model = trained_model(parent, stripes, store)
        model.set_weights([1.1 * weights for weights in model.get_weights()])
        monkeypatch.setattr(train_module, "trained_model", lambda *_: model)
        directory = store.directory(parent)
        before = {path: path.read_bytes() for path in directory.rglob("*") if path.is_file()}
        with pytest.raises(StoreError, match=r"test\.npz holds other logits than its trial's weights give now"):
            evaluate_again(parent, store.record(parent), stripes, store, Wanted({"stripes": stripes}))
        assert before == {path: path.read_bytes() for path in directory.rglob("*") if path.is_file()}

    def test_other_data_of_the_same_name_are_evaluated_anew(self, parent, stripes, store, prepare_random, tmp_path):
        first, second = (prepare_random(name, tmp_path / "room", test=count) for name, count in (("a", 9), ("b", 11)))
        for waves, count in ((first, 9), (second, 11)):
            record = evaluate_again(parent, store.record(parent), stripes, store, Wanted({"waves": waves}))
            assert record["ood"] == {"waves": waves.fingerprint}
            store.finish(parent, "study", record)
            assert len(store.logits(parent, "waves")[0]) == count
            assert store.believed(store.records()) == [store.record(parent)]

    def test_stored_logits_that_are_damaged_are_computed_anew(self, parent, stripes, store):
        first = np.array(stored_logits([parent], stripes, store))
        path = store.teacher_logits_path([parent])
        path.write_bytes(path.read_bytes()[:-4] + b"\x00\x00\x80?")
        assert np.load(path)[-1, 0, -1] == 1
        np.testing.assert_array_equal(stored_logits([parent], stripes, store), first)

    def test_a_cosine_ends_at_a_millionth(self, parent):
        rate = learning_rate(parent, steps_per_epoch=10)
        rates = [float(rate(step)) for step in (0, 15, 30, 60)]
        halfway = [0.1, (0.1 - 1e-6) * (1 + math.cos(math.pi / 4)) / 2 + 1e-6, 0.05 + 0.5e-6, 1e-6]
        assert rates == pytest.approx(halfway, rel=1e-4)


@pytest.fixture(scope="module")
def denoising(tmp_path_factory, data_dir, tiny_denoising_classifier):
    """A trial, its results and its record."""
    dataset = decathlon.open("stripes", data_dir=data_dir)
    recipe = {"batch_size": 16, "shift": 0.0, "flip": False, "subtract_mean": False, "learning_rate": 3e-3}
    noise = {"noise": 0.1, "noise_sides": (2, 3), "focal": 1.0, "std_weight": 5.0}
    trial = Trial("stripes", "8", dataset.fingerprint, DENOISING, 1.0, "cosine", 2, loss="denoising", **recipe, **noise)
    store = RunStore(tmp_path_factory.mktemp("denoising"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(kls.models, "DenoisingClassifier", tiny_denoising_classifier)
        store.finish(trial, "study", train(trial, dataset, store))
        return trial, store, store.record(trial)


class TestDenoising:
    @pytest.fixture
    def model(self, denoising, stripes, tiny_denoising_classifier, monkeypatch):
        """The trained network."""
        monkeypatch.setattr(kls.models, "DenoisingClassifier", tiny_denoising_classifier)
        return trained_model(denoising[0], stripes, denoising[1])

    @pytest.fixture
    def predicted(self, model, stripes):
        """What the outputs make of the evaluation images."""
        images = stripes.split("test")[0].astype("float32") / 255
        return {name: keras.ops.convert_to_numpy(output) for name, output in model(images, training=False).items()}

    def test_it_learns_both(self, denoising):
        trial, store, _ = denoising
        first, last = history(store, trial)
        for name in ("class_loss", "image_loss"):
            assert float(last[name]) < float(first[name])

    def test_logits_are_those_of_the_class_output_without_noise(self, denoising, stripes, predicted):
        trial, store, record = denoising
        logits, labels = store.logits(trial, "test")
        np.testing.assert_allclose(logits, predicted["class"], atol=1e-5)
        np.testing.assert_array_equal(labels, stripes.split("test")[1])
        assert record["accuracy_last"] == np.mean(logits.argmax(axis=1) == labels)
        accuracies = [float(row["val_class_accuracy"]) for row in history(store, trial)]
        assert accuracies[-1] == pytest.approx(record["accuracy_last"])
        assert max(accuracies) == pytest.approx(record["accuracy_best"])

    def test_the_loss_of_evaluation_images_is_equations_2_to_4_by_hand_without_noise(
        self, denoising, stripes, predicted
    ):
        trial, store, _ = denoising
        images, labels = stripes.split("test")
        p = softmax(predicted["class"].astype(np.float64))
        true = labels[:, None] == np.arange(3)
        focal = -np.log(p[true]) - np.where(true, 0, p * np.log(1 - p)).sum(axis=1)
        loss = focal + 5 * np.where(p.argmax(axis=1) == labels, 0, p.std(axis=1))
        error = np.square(predicted["image"] - images / 255).mean()
        assert 0 < np.mean(p.argmax(axis=1) == labels) < 1
        assert float(history(store, trial)[-1]["val_loss"]) == pytest.approx(loss.mean() + error, rel=1e-4)

    def test_finished_ones_are_evaluated_on_other_data_by_their_class_output(
        self, denoising, model, stripes, prepare_random, tmp_path
    ):
        trial, store, record = denoising
        waves = prepare_random("waves", tmp_path, test=9)
        again = evaluate_again(trial, record, stripes, store, Wanted(unfamiliar={"waves": waves}, features=True))
        found = store.outputs(trial, "waves")
        logits = model(waves.split("test")[0].astype("float32") / 255, training=False)["class"]
        np.testing.assert_allclose(found["logits"], logits, atol=1e-5)
        kernel, bias = model.get_layer("classifier").get_weights()
        np.testing.assert_allclose(found["features"] @ kernel + bias, logits, atol=2e-2)
        assert again["ood"] == {"waves": waves.fingerprint}
        assert again["accuracy_last"] == record["accuracy_last"]
        assert 0 <= again["auroc_waves"] <= 1

    def test_images_lie_under_a_square_and_the_targets_are_clean(self, denoising, stripes):
        training = training_batches(replace(denoising[0], noise=0.0), stripes)
        plain = training_batches(replace(denoising[0], loss="smoothed_ce"), stripes)
        for index in range(2):
            noised, targets = training[index]
            images, labels = plain[index]
            np.testing.assert_array_equal(targets["image"], images)
            np.testing.assert_array_equal(targets["class"], labels)
            for changed in (noised != images)[..., 0]:
                height, width = changed.any(axis=1).sum(), changed.any(axis=0).sum()
                assert height == width
                assert height in (2, 3)
                assert changed.sum() == height * width

    def test_the_classifier_alone_begins_with_the_weights_that_it_has_beside_the_decoder(self, denoising, stripes):
        trial, _, _ = denoising
        alone, whole = (compiled_model(of, stripes, 6) for of in (replace(trial, loss="smoothed_ce"), trial))
        assert alone.output_shape == (None, 3)
        assert {name: output.shape[1:] for name, output in whole.output.items()} == {"class": (3,), "image": (8, 8, 1)}
        assert alone.count_params() < whole.count_params()
        beside = kls.models.classifier_of(whole).get_weights()
        for found, expected in zip(alone.get_weights(), beside, strict=True):
            np.testing.assert_array_equal(found, expected)

    def test_reports_get_the_accuracy_under_its_plain_name(self, denoising, make_trial):
        epochs, batches = [], []

        class Report:
            epoch_ends = staticmethod(lambda trial, epoch, logs: epochs.append(logs))
            batch_ends = staticmethod(lambda trial, step, logs: batches.append(logs))

        of_class = {"class_accuracy": 0.5, "class_loss": 0.75, "image_loss": 0.25, "loss": 1.0}
        for trial, logs in ((denoising[0], of_class), (make_trial(), {"accuracy": 0.5, "loss": 1.0})):
            watch = Watch(Report, trial, steps=6)
            watch.on_train_batch_end(0, logs)
            watch.on_epoch_end(0, {**logs, **{f"val_{name}": value / 2 for name, value in logs.items()}})
        assert [accuracy_name(denoising[0]), accuracy_name(make_trial())] == ["class_accuracy", "accuracy"]
        assert batches == [{"loss": 1.0, "accuracy": 0.5}] * 2
        assert epochs == [{"loss": 1.0, "accuracy": 0.5, "val_loss": 0.5, "val_accuracy": 0.25}] * 2

    def test_a_parent_is_refused(self, denoising, stripes, store):
        with pytest.raises(TrainingError, match=r"loss='denoising' .* parents=\('0123',\)"):
            train(replace(denoising[0], parents=("0123",)), stripes, store)


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
