"""What is stored of a finished network, of one whose decoder returns its input: its errors are known by hand."""

import shutil
from types import SimpleNamespace

import keras
import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

import decathlon
from benchmarks.mnist_zero import examine as module
from benchmarks.mnist_zero.examine import Denoised, denoise, examine, proxy_ood
from kls.calibration.samples import softmax
from kls.models import registry
from kls.ood import Threshold
from kls.study.methods import CrossEntropy, Denoising
from kls.study.networks import build_network, save_weights
from kls.study.store import RunStore
from kls.study.trial import Trial

SPLITS = {"id_test": "test", "held_out": "held_out", "id_validation": "validation"}  # by the names of their outputs
DENOISING = Denoising(0.086, (3, 4))
SETS = ["held_out", "id_test", "id_validation", "proxy_ood"]


class Echo:
    """A model that takes every image for restored, and its mean for its logit."""

    def __init__(self):
        self.batches = []

    def predict_on_batch(self, images):
        self.batches.append(len(images))
        images = images / 255
        return {"class": images.mean(axis=(1, 2)), "image": images}


def of_side(side, noise, sides):
    """Returns what `proxy_ood` asks of a trial and of its dataset."""
    return SimpleNamespace(method=Denoising(noise, sides)), SimpleNamespace(image_shape=(side, side, 1))


def squares(images):
    """Returns the sides of what lies on images of twos, and checks that each is a square of one grey level."""
    sides = []
    for image in images[..., 0]:
        covered = image != 2
        rows, columns = np.flatnonzero(covered.any(axis=1)), np.flatnonzero(covered.any(axis=0))
        assert len(rows) == len(columns)
        assert covered[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1].all()
        assert covered.sum() == len(rows) ** 2
        (grey,) = set(image[covered].tolist())
        assert 0 <= grey <= 1
        sides.append(len(rows))
    return sides


class TestDenoised:
    def test_errors_by_hand(self):
        clean = np.zeros((2, 2, 2, 1), np.float32)
        restored = np.array([[[0.5, 0], [0, 0]], [[1, -1], [2, 0]]], np.float32)[..., None]
        errors = Denoised(clean, None, restored, None).errors
        assert errors.tolist() == [0.25 / 4, 6 / 4]
        assert errors.dtype == np.float64

    def test_all_images_are_shown_to_the_model_under_noise_in_their_order(self):
        images = np.linspace(0, 1, 130 * 64, dtype=np.float32).reshape(130, 8, 8, 1)
        model = Echo()
        found = denoise(model, images, decathlon.Noise(0.1, (3, 4)))
        assert model.batches == [128, 128]  # full ones alone, so that one is compiled
        assert found.clean is images
        np.testing.assert_array_equal(found.restored, found.noised)
        np.testing.assert_allclose(found.logits, found.noised.mean(axis=(1, 2)))
        outside = np.abs(found.noised - images)
        assert np.median(outside) == pytest.approx(0.1 * 0.8, abs=0.02)  # most lies outside the square
        np.testing.assert_array_equal(denoise(model, images, decathlon.Noise(0.1, (3, 4))).noised, found.noised)


class TestProxyOOD:
    def test_half_are_turned_by_90_or_270_degrees_and_half_stand_upright(self):
        images = np.random.default_rng(0).random((41, 8, 8, 1), np.float32)
        found = proxy_ood(Echo(), images, *of_side(8, 0.1, (3, 4)))
        assert len(found.clean) == len(found.noised) == len(found.restored) == len(found.logits) == 41
        turned, upright = found.clean[:21], found.clean[21:]
        np.testing.assert_array_equal(upright, images[1::2])
        left = images[::2].swapaxes(1, 2)[:, ::-1]  # columns become rows, and the last one the first row
        right = images[::2].swapaxes(1, 2)[:, :, ::-1]
        is_left, is_right = ((turned == wanted).all(axis=(1, 2, 3)) for wanted in (left, right))
        assert (is_left ^ is_right).all()
        assert 5 < is_left.sum() < 16

    @pytest.mark.parametrize(("side", "sides", "heavy"), [(28, (10, 14), range(18, 23)), (8, (3, 4), (5, 6))])
    def test_turned_images_have_the_noise_upright_ones_a_larger_square(self, side, sides, heavy):
        images = np.full((200, side, side, 1), 2, np.float32)
        found = proxy_ood(Echo(), images, *of_side(side, 0.0, sides))
        assert (found.clean == 2).all()
        assert set(squares(found.noised[:100])) == set(range(sides[0], sides[1] + 1))
        assert set(squares(found.noised[100:])) == set(heavy)

    def test_both_halves_lie_under_gaussian_noise(self):
        images = np.full((400, 8, 8, 1), 100, np.float32)
        found = proxy_ood(Echo(), images, *of_side(8, 0.5, (1, 2)))
        for noised in (found.noised[:200], found.noised[200:]):
            assert noised[noised > 50].std() == pytest.approx(0.5, rel=0.03)

    def test_are_the_same_at_every_call_with_errors_to_the_covered(self):
        images = np.random.default_rng(1).random((10, 8, 8, 1), np.float32)
        first, second = (proxy_ood(Echo(), images, *of_side(8, 0.1, (3, 4))) for _ in range(2))
        for one, other in zip(first, second, strict=True):
            np.testing.assert_array_equal(one, other)
        expected = ((first.noised.astype(float) - first.clean) ** 2).mean(axis=(1, 2, 3))
        np.testing.assert_allclose(first.errors, expected, rtol=1e-6)


def echoing(input_shape, classes, classifier_activation, synchronized):
    """Builds a classifier on the pixels themselves, and a decoder that returns its input."""
    inputs = keras.Input(input_shape)
    features = keras.layers.Flatten()(inputs)
    logits = keras.layers.Dense(classes, activation=classifier_activation)(features)
    return keras.Model(inputs, {"class": logits, "image": keras.layers.Identity(dtype="float32")(inputs)})


@pytest.fixture(scope="module")
def echoes():
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(registry._BUILDERS, "denoising_classifier", echoing)
        yield


@pytest.fixture(scope="module")
def dataset(tmp_path_factory, prepare_random):
    directory = tmp_path_factory.mktemp("data")
    base = prepare_random("base", directory, train=96, test=60, classes=4)
    return decathlon.hold_out(base, 0, validation=15, data_dir=directory)


@pytest.fixture(scope="module")
def finished_trial(dataset, write_results):
    """Returns a function that returns a finished trial, whose network is a random one."""

    def finish(store, method=DENOISING):
        recipe = {"normalisation": "scale", "shift": 0.0, "flip": False, "batch_size": 16}
        described = dataset.name, dataset.size, dataset.fingerprint, "denoising_classifier"
        trial = Trial(*described, method, 1, "cosine", **recipe)
        record = write_results(store, trial)
        keras.utils.set_random_seed(1)
        save_weights(build_network(trial, dataset)[0], store.directory(trial) / "weights.weights.h5")
        store.finish(trial, "study", record)
        return trial

    return finish


@pytest.fixture(scope="module")
def examined(echoes, dataset, finished_trial, tmp_path_factory):
    """A trial that `examine` has seen, its store and the order in which its files were written."""
    store = RunStore(tmp_path_factory.mktemp("examined"))
    trial = finished_trial(store)
    written = []
    with pytest.MonkeyPatch.context() as patch:
        for name in ("write_outputs", "write_arrays"):
            patch.setattr(store, name, recording(getattr(store, name), written))
        patch.setattr(Threshold, "save", recording(Threshold.save, written))
        examine(trial, dataset, store)
    return trial, store, written


def recording(function, written):
    """Returns a function that also notes what it is asked to write."""

    def record(*arguments, **options):
        written.append(arguments[1] if isinstance(arguments[1], str) else arguments[1].name)
        return function(*arguments, **options)

    return record


@pytest.fixture
def outputs(examined):
    trial, store, _ = examined
    return {name: store.outputs(trial, name) for name in SETS}


def files(directory):
    return {path.relative_to(directory): path.read_bytes() for path in directory.rglob("*") if path.is_file()}


@pytest.fixture
def copy(examined, tmp_path):
    """A store of its own with the examined trial."""
    return RunStore(shutil.copytree(examined[1].out, tmp_path / "copy"))


class TestWhatIsStored:
    @pytest.fixture
    def restored(self, dataset, examined):
        """The proxy OOD images, from a decoder that returns what it sees."""
        images = dataset.split("validation")[0].astype(np.float32) / 255
        return proxy_ood(Echo(), images, examined[0], dataset)

    @pytest.fixture
    def images(self, dataset, restored):
        """What the network is shown without noise."""
        images = {name: dataset.split(split)[0] / 255 for name, split in SPLITS.items()}
        return {**images, "proxy_ood": np.clip(restored.restored, 0, 1).astype(float)}

    def test_labels(self, dataset, outputs):
        for name, split in SPLITS.items():
            np.testing.assert_array_equal(outputs[name]["labels"], dataset.split(split)[1])
        assert outputs["held_out"]["labels"].tolist() == [-1] * 15
        assert outputs["proxy_ood"]["labels"].tolist() == [-1] * 15

    def test_logits_are_those_of_clean_and_of_restored_images(self, examined, dataset, outputs, images):
        trial, store, _ = examined
        model, _ = build_network(trial, dataset)
        model.load_weights(store.directory(trial) / "weights.weights.h5")
        kernel, bias = (np.float64(weight) for weight in model.get_weights())
        for name, of in images.items():
            np.testing.assert_allclose(outputs[name]["logits"], of.reshape(len(of), 64) @ kernel + bias, atol=1e-5)

    def test_restored_images_are_clipped_to_what_an_image_can_be(self, restored):
        assert restored.restored.min() < 0
        assert restored.restored.max() > 1

    def test_without_noise_there_is_nothing_to_reconstruct(self, outputs):
        for found in outputs.values():
            np.testing.assert_allclose(found["reconstruction"], 0, atol=1e-12)

    def test_denoising_is_minus_the_error_against_the_clean_image(self, outputs, images, restored, examined):
        noise = examined[0].method.noise
        for name in SPLITS:
            clean = images[name].astype(np.float32)
            left = noise(255 * clean, np.random.default_rng(0)) / 255 - clean.astype(float)
            np.testing.assert_allclose(outputs[name]["denoising"], -(left**2).mean(axis=(1, 2, 3)), rtol=1e-5)
        left = restored.noised.astype(float) - restored.clean
        np.testing.assert_allclose(outputs["proxy_ood"]["denoising"], -(left**2).mean(axis=(1, 2, 3)), rtol=1e-5)
        turned, covered = -outputs["proxy_ood"]["denoising"][:8], -outputs["proxy_ood"]["denoising"][8:]
        assert covered.mean() > 1.5 * turned.mean()

    def test_scores_of_features_know_the_training_images_alone(self, dataset, outputs, images):
        """The features are the pixels: KNN is minus the distance to the nearest 50th of the training images."""
        train = dataset.split("train")[0].reshape(-1, 64) / 255
        train /= np.linalg.norm(train, axis=1, keepdims=True)
        for name, of in images.items():
            own = of.reshape(-1, 64) / np.linalg.norm(of.reshape(-1, 64), axis=1, keepdims=True)
            distances = np.linalg.norm(own[:, None] - train[None], axis=2)
            np.testing.assert_allclose(outputs[name]["knn"], -np.sort(distances, axis=1)[:, 49], atol=1e-4)
            assert outputs[name]["mahalanobis"].shape == (len(of),)

    def test_the_threshold_is_fitted_on_validation_and_proxy_images(self, examined, outputs):
        trial, store, _ = examined
        threshold = Threshold.load(store.directory(trial) / "threshold.json")
        assert repr(threshold.score) == "MSP()"
        kept, passed = (softmax(outputs[name]["logits"]).max(axis=1) for name in ("id_validation", "proxy_ood"))
        accuracies = {value: (np.mean(kept >= value) + np.mean(passed < value)) / 2 for value in [*kept, *passed]}
        assert accuracies[min(accuracies, key=lambda value: abs(value - threshold.value))] == max(accuracies.values())
        assert threshold.chosen["rule"] == "largest detection accuracy"
        assert (threshold.chosen["id_samples"], threshold.chosen["ood_samples"]) == (15, 15)
        expected = roc_auc_score([1] * 15 + [0] * 15, np.concatenate([kept, passed]))
        assert threshold.chosen["auroc"] == pytest.approx(expected, abs=1e-6)

    def test_pictures_are_twelve_of_each_set_as_they_are_shown(self, examined, dataset, restored):
        trial, store, _ = examined
        pictures = store.arrays(trial.id, "pictures")
        parts = ("clean", "noised", "restored", "logits")
        assert set(pictures) == {f"{name}_{part}" for name in SETS for part in parts}
        rows = [0, 1, 2, 3, 5, 6, 7, 8, 10, 11, 12, 14]  # 15 images, 12 of them evenly
        np.testing.assert_array_equal(pictures["held_out_clean"], dataset.split("held_out")[0][rows])
        np.testing.assert_array_equal(pictures["id_validation_clean"], dataset.split("validation")[0][rows])
        for name in SETS:
            np.testing.assert_array_equal(pictures[f"{name}_restored"], pictures[f"{name}_noised"])
            assert pictures[f"{name}_noised"].dtype == np.uint8
            assert pictures[f"{name}_logits"].shape == (12, 3)
        shown = 255 * np.clip(restored.noised[rows], 0, 1)
        assert np.abs(pictures["proxy_ood_noised"] - shown).max() <= 0.501

    def test_the_classifier_alone_has_neither_threshold_nor_stand_ins(self, echoes, dataset, finished_trial, store):
        trial = finished_trial(store, CrossEntropy())
        examine(trial, dataset, store)
        assert sorted(path.stem for path in (store.directory(trial) / "logits").iterdir()) == sorted([*SPLITS, "test"])
        assert not (store.directory(trial) / "threshold.json").exists()
        assert store.arrays(trial.id, "pictures") is None
        assert set(store.outputs(trial, "id_test")) == {"logits", "labels", "knn", "mahalanobis"}


class TestAnotherCall:
    def test_what_the_tables_wait_for_is_written_last(self, examined):
        written = examined[2]
        assert written[:2] == ["pictures", "threshold.json"]
        assert sorted(written[2:]) == SETS
        assert written[-1] == "held_out"

    def test_an_examined_network_is_left_as_it_is(self, examined, dataset, copy, monkeypatch, capsys):
        monkeypatch.setattr(module, "trained_network", None)
        before = files(copy.out)
        examine(examined[0], dataset, copy)
        assert files(copy.out) == before
        assert capsys.readouterr().out == ""

    def test_one_that_was_stopped_is_examined_again(self, examined, dataset, echoes, copy):
        before = files(copy.out)
        record = copy.record(examined[0])
        copy.outputs_path(examined[0].id, "held_out").unlink()
        (copy.directory(examined[0]) / "threshold.json").unlink()
        copy.finish(examined[0], record["study"], record)
        examine(examined[0], dataset, copy)
        assert files(copy.out) == before

    def test_what_the_runner_keeps_of_the_evaluation_split_is_left_to_it(self, examined, dataset, echoes, copy):
        """Its features and scores, which `--features` and `--scores` ask for, and its logits for a new `--ood`."""
        trial, record = examined[0], copy.record(examined[0])
        copy.write_outputs(trial, "test", *copy.logits(trial, "test"), scores={"odin": np.ones((60, 3))})
        copy.finish(trial, record["study"], record)
        before = files(copy.out)
        copy.outputs_path(trial.id, "held_out").unlink()
        copy.finish(trial, record["study"], record)
        examine(trial, dataset, copy)
        assert files(copy.out) == before
