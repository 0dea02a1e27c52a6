"""Studies of networks, data and methods of a user's own."""

import os
import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import pytest

import decathlon
import kls
from kls.__main__ import main
from kls.study.methods import CrossEntropy, Distillation, LabelSmoothing, Method
from kls.study.plan import PlanError

from . import my_models
from .my_methods import Penalised

HERE = Path(__file__).parent
METHODS = [CrossEntropy(), LabelSmoothing(0.9)]


@pytest.fixture(scope="module")
def data(data_dir):
    dataset = decathlon.open("stripes", data_dir=data_dir)
    return tuple(tuple(map(np.asarray, dataset.split(split))) for split in ("train", "test"))


@pytest.fixture
def features(data):
    return tuple((images.reshape(len(images), -1).astype(np.float32) / 255, labels) for images, labels in data)


@pytest.fixture
def study(tmp_path):
    """Returns a function that makes a study of few epochs."""

    def make(model, data, methods=METHODS, **options):
        return kls.Study(
            model, data, methods, **{"seeds": 1, "epochs": 2, "batch_size": 16, "out": tmp_path / "out", **options}
        )

    return make


def all_logits(results):
    return [results.logits(record["method"], record["seed"])[0] for record in results.records]


class TestOwnModels:
    @pytest.mark.parametrize(
        "model", [my_models.sequential, my_models.subclassed, my_models.mlp], ids=lambda f: f.__name__
    )
    def test_stopped_and_run_again_it_ends_with_the_same_bits(self, model, data, features, study, tmp_path):
        given = features if model is my_models.mlp else data
        whole = study(model, given).run()
        assert [record["method"] for record in whole.records] == ["gamma=1", "gamma=0.9"]

        class Stop(keras.callbacks.Callback):
            def on_epoch_begin(self, epoch, logs=None):
                if epoch == 1:
                    raise KeyboardInterrupt

        def stop(trial):
            return [Stop()] if (trial.method.gamma, trial.seed) == (0.9, 0) else []

        with pytest.raises(KeyboardInterrupt):
            study(model, given, callbacks=stop, out=tmp_path / "again").run()
        resumed = study(model, given, out=tmp_path / "again").run()
        for one, other in zip(all_logits(whole), all_logits(resumed), strict=True):
            np.testing.assert_array_equal(one, other)

    def test_its_model_takes_the_users_images_and_returns_what_it_did(self, data, study):
        results = study(my_models.sequential, data).run()
        model = results.model(METHODS[1])
        probabilities = model.predict(data[1][0], verbose=0)
        np.testing.assert_allclose(probabilities.sum(axis=1), 1, atol=1e-6)
        logits, labels = results.logits("gamma=0.9")
        np.testing.assert_allclose(keras.ops.softmax(logits), probabilities, atol=1e-5)
        np.testing.assert_array_equal(labels, data[1][1])

    @pytest.mark.parametrize("model", [my_models.one_sigmoid, my_models.one_logit], ids=lambda f: f.__name__)
    def test_one_output_stands_for_two_classes(self, model, data, study):
        two = tuple((images[labels < 2], labels[labels < 2]) for images, labels in data)
        results = study(model, two, epochs=1, features=True, scores=("knn",)).run()
        logits, labels = results.logits("gamma=0.9")
        assert logits.shape == (len(labels), 2)
        outputs = results.model(METHODS[1]).predict(two[1][0], verbose=0)
        expected = logits[:, 1:] if model is my_models.one_logit else 1 / (1 + np.exp(-logits[:, 1:]))
        np.testing.assert_allclose(outputs, expected, rtol=1e-4, atol=1e-5)
        assert results.records[1]["accuracy_last"] == np.mean(logits.argmax(axis=1) == labels)

    def test_a_registered_network_gives_its_logits(self, data, study):
        results = study("resnet8v1", data, METHODS[:1], epochs=1).run()
        logits = results.model(CrossEntropy()).predict(data[1][0], verbose=0)
        np.testing.assert_allclose(logits, results.logits(CrossEntropy())[0], atol=1e-5)

    def test_its_own_preprocessing_is_the_only_one(self, data, study, capsys):
        trial = study(my_models.with_rescaling, data).plan().trials[0]
        assert (trial.scaling, trial.shift, trial.flip) == ("none", 0.1, True)
        assert capsys.readouterr().out == "with_rescaling: it gets pixels in 0..255\n"
        assert study(my_models.sequential, data).plan().trials[0].scaling == "mean"
        assert capsys.readouterr().out.startswith("sequential: pixels are scaled to [0, 1] and the mean")
        assert study(my_models.with_rescaling, data, normalisation="scale").plan().trials[0].scaling == "scale"

    def test_probabilities_without_logits_are_trained_on(self, data, study):
        results = study(my_models.softmax_in_call, data, epochs=8, learning_rate=0.01).run()
        assert min(record["accuracy_last"] for record in results.records) > 0.6
        logits, _ = results.logits(METHODS[0])
        np.testing.assert_allclose(np.exp(logits).sum(axis=1), 1, atol=1e-4)

    def test_features_are_neither_scaled_nor_augmented(self, features, study):
        (trial, _) = study(my_models.mlp, features).plan().trials
        assert (trial.normalisation, trial.shift, trial.flip) == ("none", 0.0, False)

    def test_another_architecture_of_one_name_is_trained_anew(self, data, study):
        def build(input_shape, classes, width=4):
            return keras.Sequential(
                [
                    keras.layers.Input(input_shape),
                    keras.layers.Flatten(),
                    keras.layers.Dense(width),
                    keras.layers.Dense(classes),
                ]
            )

        first = study(build, data).plan().trials
        build.__defaults__ = (5,)
        second = study(build, data).plan().trials
        assert {trial.id for trial in first}.isdisjoint(trial.id for trial in second)

    def test_an_optimizer_of_ones_own_is_part_of_the_recipe(self, data, study):
        used = []

        def lion(model, loss, trial):
            model.compile(keras.optimizers.Lion(1e-3), loss)
            used.append(trial.method.label)

        results = study(my_models.sequential, data, compile=lion).run()
        assert used == ["gamma=1", "gamma=0.9"]
        plain = study(my_models.sequential, data).plan().trials
        assert {record["trial"] for record in results.records}.isdisjoint(trial.id for trial in plain)

    def test_what_a_compile_function_holds_is_part_of_the_recipe(self, data, study):
        def with_rate(rate):
            return lambda model, loss, trial: model.compile(keras.optimizers.SGD(rate), loss)

        slow, again, fast = (
            study("resnet8v1", data, compile=with_rate(rate)).plan().trials[0].id for rate in (0.1, 0.1, 0.5)
        )
        assert slow == again != fast

    def test_a_student_of_a_registered_network(self, data, study):
        trials = study(my_models.with_rescaling, data, [Distillation(models="resnet8v1")]).plan().trials
        assert [trial.model for trial in trials] == ["resnet8v1", "with_rescaling"]
        assert [trial.scaling for trial in trials] == ["mean", "none"]
        assert trials[0].architecture is None
        assert trials[1].architecture is not None


class TestOOD:
    def test_arrays_are_held_against_the_networks(self, data, study):
        noise = np.random.default_rng(0).integers(0, 256, (20, 8, 8, 1), dtype=np.uint8)
        results = study(my_models.sequential, data, ood={"noise": noise}).run()
        assert results.to_frame()["auroc_noise"].between(0, 1).all()
        assert results.logits(METHODS[0], split="noise")[0].shape == (20, 3)

    def test_features(self, features, study):
        results = study(my_models.mlp, features, ood={"far": 5 + features[1][0]}).run()
        assert results.logits(METHODS[0], split="far")[0].shape == (41, 3)

    @pytest.mark.parametrize(
        ("ood", "message"),
        [
            (
                {"far": np.zeros((5, 3), np.float32)},
                r"samples of shape \(64,\). Received: shape \(3,\)",
            ),
            ({"far": np.zeros((0, 64), np.float32)}, r"`ood` must hold samples. Received: far="),
            ({"test": np.zeros((5, 64), np.float32)}, r"--ood test: a dataset of that name"),
        ],
    )
    def test_others_are_refused(self, features, study, ood, message):
        with pytest.raises(PlanError, match=message):
            study(my_models.mlp, features, ood=ood)


class TestOwnMethods:
    def test_one_goes_into_a_study_as_it_is(self, data, study):
        results = study(my_models.sequential, data, [CrossEntropy(), Penalised(0.5)]).run()
        assert list(results.to_frame()["method"]) == ["gamma=1", "penalised beta=0.5"]
        assert list(results.to_frame()["loss"]) == ["label_smoothing", "penalised"]
        assert "penalised beta=0.5" in repr(results)

    def test_two_workers_of_the_command_line_import_it(self, data_dir, tmp_path):
        command = [sys.executable, "-m", "kls", "study", "stripes", "--model", f"{HERE / 'my_models.py'}:sequential"]
        command += ["--methods", "cross_entropy", "my_methods:Penalised:beta=0.5", "--seeds", "2", "--epochs", "1"]
        command += ["--batch-size", "16", "--workers", "2", "--data-dir", str(data_dir), "--out", str(tmp_path / "two")]
        root = str(Path(kls.__file__).parents[1])
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join([root, str(HERE)])}
        run = subprocess.run(command, capture_output=True, text=True, env=environment, cwd=tmp_path, check=False)
        assert (run.returncode, run.stderr) == (0, "")
        told, tables = run.stdout.split("\nCalibration of the last", 1)
        assert told.count("penalised beta=0.5") == 2 * 2  # an epoch and its end for each seed
        assert tables.count("| penalised beta=0.5 |") == 1 + 1  # its means, and its name beside the differences


class TestRefusals:
    @pytest.mark.parametrize(
        ("options", "message"),
        [
            ({"methods": [5]}, r"`methods` must be `kls.study.methods`, or texts. Received: 5"),
            ({"methods": []}, r"`methods` must be .* Received: none"),
            ({"methods": ["nothing"]}, r"A method must be one of .*label_smoothing.* Received: 'nothing'"),
            ({"methods": [Method()]}, r"`methods` must be registered.* Received: Method"),
            ({"methods": [LabelSmoothing(0.9), LabelSmoothing(0.9, epochs=1)]}, r"must differ in their labels"),
            ({"methods": [LabelSmoothing(0.2)]}, r"gamma=0.2 seed=0: `gamma` must be"),
            ({"batch_size": 97}, r"`batch_size` must be at most 96, the training images of arrays. Received: 97"),
            ({"epochs": 0}, r"`epochs` must be a whole number"),
            ({"seeds": -1}, r"`seeds` must be a whole number"),
            ({"precision": "float16"}, r"`precision` must be one of"),
            ({"compile": 5}, r"`compile` must be a function \(model, loss, trial\). Received: 5"),
            (
                {"scores": ["knn"], "model": my_models.subclassed},
                r"need a model that ends in a Dense layer or a 1x1 convolution. Received: subclassed",
            ),
            ({"scores": ["nothing"]}, r"`scores` must be"),
            ({"scores": 3}, r"`scores` must be"),
            ({"name": 3}, r"`name` must be a text. Received: name=3"),
            ({"out": None}, r"`out` must be"),
            ({"optimizer": keras.optimizers.Adam}, r"`optimizer` must be one of"),
            ({"schedule": 0.1}, r"`schedule` must be 'cosine', or pairs"),
            ({"shift": "a"}, r"`shift` must be a number"),
            ({"seeds": []}, r"`seeds` must be a whole number"),
            ({"ood": 3}, r"`ood` must be names of datasets, or {name: data}. Received: ood=3"),
            ({"ood": {"../far": np.zeros((5, 8, 8, 1), np.uint8)}}, r"`ood` must have names of letters"),
            ({"ood": {"far": None}}, r"`ood` must hold samples. Received: far=None"),
            ({"ood": {"far": np.zeros((5, 8, 8, 1), np.float32)}}, r"`ood` far must hold uint8 images"),
            ({"methods": LabelSmoothing}, r"`methods` must be `kls.study.methods`, or texts"),
            ({"methods": Distillation(models="resnet9000")}, r"`models` must be registered names.* resnet9000"),
            (
                {"methods": LabelSmoothing(dropout=0.1), "model": my_models.subclassed},
                r"need a model that ends in a Dense",
            ),
            ({"callbacks": [5]}, r"`callbacks` must be a function of a trial. Received: callbacks=\[5\]"),
            ({"data": {"train": 5}}, r"`data` must have a pair of samples and labels as train. Received: 5"),
        ],
    )
    def test_what_cannot_be_run_is_said_before_any_training(self, options, message, data, study, tmp_path):
        with pytest.raises((PlanError, ValueError), match=message):
            study(**{"model": my_models.sequential, "data": data, **options})
        assert not (tmp_path / "out").exists()

    def test_workers_need_a_function_that_they_can_import(self, data, study):
        def build(input_shape, classes):
            return my_models.sequential(input_shape, classes)

        with pytest.raises(PlanError, match=r"must be importable .* Move it to the top level of a module"):
            study(build, data).run(workers=2)

    def test_results_that_are_not_there(self, data, study):
        results = study(my_models.sequential, data).results()
        assert (results.records, repr(results)) == ([], "0 of 2 trials finished")
        with pytest.raises(PlanError, match=r"the methods are 'gamma=1', 'gamma=0.9'. Received: method='gamma=0.5'"):
            results.logits("gamma=0.5")

    def test_the_command_says_it_in_a_sentence(self, tmp_path, capsys):
        assert main(["study", str(tmp_path / "nothing"), "--model", "resnet8v1"]) == 2
        assert capsys.readouterr().err.startswith("error: `data` must be the name of a prepared dataset, or a folder.")
