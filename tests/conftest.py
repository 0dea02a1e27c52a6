"""What all tests share: a quiet backend and two logical devices, for the tests under two replicas."""

import functools
import gc
import math
import os
import subprocess
import sys
import zlib

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # its threads wait busily, and test processes share the cores

from decathlon.quiet import quiet_tensorflow

with quiet_tensorflow():
    import keras

    if keras.backend.backend() == "tensorflow":
        import tensorflow as tf

        tf.config.set_logical_device_configuration(
            tf.config.list_physical_devices("CPU")[0], [tf.config.LogicalDeviceConfiguration()] * 2
        )
        tf.get_logger().setLevel("ERROR")

import numpy as np
import pytest
from hypothesis import settings
from keras import layers

import decathlon
from decathlon.sources.npz import open_npz
from kls.models import registry
from kls.study import command as command_module
from kls.study import run as run_module
from kls.study.methods import LabelSmoothing
from kls.study.outputs import measure
from kls.study.records import WEIGHTS
from kls.study.store import RunStore
from kls.study.trial import Trial

gc.freeze()  # Keras collects garbage for each model: half a second where it looks through all that is imported
os.environ.setdefault("MPLBACKEND", "agg")
settings.register_profile("kls", deadline=None, derandomize=True)
settings.load_profile("kls")


@pytest.fixture(autouse=True)
def _seeded():
    keras.utils.set_random_seed(0)


@pytest.fixture
def float64():
    keras.config.set_floatx("float64")
    yield
    keras.config.set_floatx("float32")


@pytest.fixture
def needs_bfloat16():
    if "AVX2" in os.environ.get("ONEDNN_MAX_CPU_ISA", ""):
        pytest.skip("held to AVX2, oneDNN has no bfloat16, for which TensorFlow asks the processor alone")


@pytest.fixture
def bfloat16(needs_bfloat16):
    keras.config.set_dtype_policy("mixed_bfloat16")
    yield
    keras.config.set_dtype_policy("float32")


HOLDER = """
import sys
from filelock import FileLock

with FileLock(sys.argv[1]):
    print("held", flush=True)
    sys.stdin.read()
"""


def write_stripes(path, train=96, test=41):
    """Writes a dataset of three classes that a small network learns at once: where a stripe lies."""
    rng = np.random.default_rng(0)
    arrays = {}
    for part, count in (("train", train), ("test", test)):
        labels = np.arange(count) % 3
        images = rng.integers(0, 60, size=(count, 8, 8, 1), dtype=np.uint8)
        images[np.arange(count), 1 + 2 * labels] += 190
        arrays |= {f"x_{part}": images, f"y_{part}": labels}
    np.savez(path, **arrays)
    return path


@pytest.fixture(scope="module", autouse=True)
def no_autotuner_to_wait_for(request):
    """Fails whatever study trains on data that TensorFlow tunes by itself: `kls.utils.data` says why."""
    parts = request.path.parts
    studies = ("study" in parts or "benchmarks" in parts) and "throughput" not in parts
    if keras.backend.backend() != "tensorflow" or not studies:
        yield
        return
    fit = keras.Model.fit

    @functools.wraps(fit)
    def checked(model, x, *args, **kwargs):
        for data in (x, kwargs.get("validation_data")):
            assert data is None or data.options().autotune.enabled is False
        return fit(model, x, *args, **kwargs)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(keras.Model, "fit", checked)
        yield


WRITE_REPORT = command_module.write_report


@pytest.fixture(scope="session", autouse=True)
def _without_reports():
    """Leaves out the reports of commands, which take seconds each; tests of reports ask for `with_reports`."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(command_module, "write_report", lambda study, results: None)
        yield


@pytest.fixture
def with_reports(monkeypatch):
    monkeypatch.setattr(command_module, "write_report", WRITE_REPORT)


@pytest.fixture(scope="session")
def data_dir(tmp_path_factory):
    """A data directory with one dataset, `stripes`: 96 training and 41 test images, 41 = 2 * 16 + 9 and 5 * 8 + 1."""
    directory = tmp_path_factory.mktemp("data")
    decathlon.prepare("stripes", open_npz(write_stripes(directory / "stripes.npz")), data_dir=directory)
    return directory


@pytest.fixture(scope="session")
def prepare_random():
    """Returns a function that prepares random images, other ones for each name, as a dataset."""

    def prepare(name, data_dir, train=14, test=21, shape=(8, 8, 1), classes=2):
        rng = np.random.default_rng(zlib.crc32(name.encode()))
        arrays = {}
        for part, count in (("train", train), ("test", test)):
            images = rng.integers(0, 256, (count, *shape), dtype=np.uint8)
            arrays |= {f"x_{part}": images, f"y_{part}": np.arange(count) % classes}
        data_dir.mkdir(exist_ok=True)
        path = data_dir / f"{name}.npz"
        np.savez(path, **arrays)
        return decathlon.prepare(name, open_npz(path), data_dir=data_dir)

    return prepare


@pytest.fixture
def stripes(data_dir):
    return decathlon.open("stripes", data_dir=data_dir)


@pytest.fixture
def make_trial(stripes):
    def make(gamma=0.9, **changes):
        recipe = {
            "dataset": "stripes",
            "image_size": "8",
            "data": stripes.fingerprint,
            "model": "resnet8v1",
            "method": LabelSmoothing(gamma),
            "schedule": ((1, 0.1),),
            "epochs": 2,
            "batch_size": 16,
            "flip": False,
        }
        return Trial(**{**recipe, **changes})

    return make


def build_tiny(input_shape, classes, classifier_activation, synchronized, l2=0.0):
    x = inputs = keras.Input(input_shape)
    for layer in (layers.Flatten(), layers.Dense(16), layers.BatchNormalization(momentum=0.5), layers.Dropout(0.3)):
        x = layer(x)
    return keras.Model(inputs, layers.Dense(classes, activation=classifier_activation, name="classifier")(x))


@pytest.fixture(scope="session")
def tiny_builder():
    return build_tiny


@pytest.fixture(scope="session")
def tiny_denoising_classifier():
    """A builder of a network of two outputs that compiles at once."""

    def build(input_shape, classes, classifier_activation, synchronized):
        classifier = build_tiny(input_shape, classes, classifier_activation, synchronized)
        pixels = layers.Dense(math.prod(input_shape))(classifier.layers[-2].output)
        outputs = {"class": classifier.output, "image": layers.Reshape(input_shape)(pixels)}
        return keras.Model(classifier.input, outputs)

    return build


@pytest.fixture
def tiny(monkeypatch):
    """The name of a network that compiles at once, with all that makes training hard to repeat."""
    monkeypatch.setitem(registry._BUILDERS, "tiny", build_tiny)
    return "tiny"


@pytest.fixture
def store(tmp_path):
    return RunStore(tmp_path / "out")


@pytest.fixture(scope="session")
def write_results():
    """Returns a function that writes what a trained trial leaves, from a generator in place of a network."""

    def write(store, trial, ood=(), **changes):
        """Returns the record, for `RunStore.finish`."""
        directory = store.begin(trial)
        rng = np.random.default_rng(int(trial.id, 16))
        logits, labels = 3 * rng.normal(size=(60, 3)), np.arange(60) % 3
        accuracy = float(np.mean(logits.argmax(axis=1) == labels))
        (directory / WEIGHTS).write_bytes(trial.id.encode())
        store.write_history(trial, [{"val_accuracy": value} for value in (0.0, accuracy)])
        store.write_outputs(trial, "test", logits, labels)
        for name in ood:
            store.write_outputs(trial, name, rng.normal(size=(40, 3)), np.full(40, -1))
        outputs = {"evaluation": "test", "ood": dict.fromkeys(ood, "0"), "features": [], "scores": {}}
        return {
            **{
                "accuracy_best": accuracy,
                "accuracy_train": accuracy,
                "seconds": 61.0,
                "images_per_second": 10.0,
                "train_images": 96,
            },
            **{"evaluation_images": 60, "classes": 3, "parameters": 1234},
            **outputs,
            **measure(store, trial, outputs),
            **changes,
        }

    return write


@pytest.fixture
def finish(store, write_results):
    """Returns a function that gives trials a record and what belongs to it."""

    def finish_trials(*trials, **options):
        for trial in trials:
            store.finish(trial, "study", write_results(store, trial, **options))

    return finish_trials


@pytest.fixture
def trainer(monkeypatch, write_results):
    """Returns a function that puts a generator in the place of training, and returns the list of what it is asked for.

    A function of gamma is called before.
    """

    def replace_training(before=lambda gamma: None):
        asked = []

        def train(training, strategy, wanted, callbacks, compile_function):
            gamma = training.trial.method.gamma
            asked.append(gamma)
            training.store.begin(training.trial)
            before(gamma)
            return write_results(training.store, training.trial)

        monkeypatch.setattr(run_module, "train", train)
        return asked

    return replace_training


@pytest.fixture
def hold(store):
    """Returns a function that starts a process which holds a lock of the store until it is killed."""
    started = []

    def start(name):
        path = store.out / ".locks" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        command = [sys.executable, "-c", HOLDER, path]
        process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        started.append(process)
        assert process.stdout.readline() == "held\n"
        return process

    yield start
    for process in started:
        process.kill()
        process.communicate()
