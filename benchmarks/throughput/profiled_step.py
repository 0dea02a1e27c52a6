"""What TensorFlow does in a training step, as a process that takes turns: its profiler's times of operations, grouped.

`python -m benchmarks.throughput.profiled_step JSON`, with the settings that `benchmarks.throughput.step_profile` gives.
"""

import json
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

import decathlon
from benchmarks.runner.networks import compiled_model, precision_policy
from benchmarks.runner.train import training_batches
from benchmarks.throughput.keras_steps import make_trial
from benchmarks.throughput.peers.answering import answer

PROFILED_STEPS = 3
GROUPS = (
    "convolution",
    "its input gradient",
    "its filter gradient",
    "batch normalisation",
    "its gradient",
    "ReLU and gradient",
    "additions, concatenations",
    "casts",
    "optimiser",
    "L2 penalty",
    "loss and metrics",
    "other",
)
JOINING = {"AddN", "AddV2", "ConcatV2", "Slice", "StridedSlice", "StridedSliceGrad"}
PENALTY = {"Square", "Sum", "Mul", "L2Loss", "Tile", "Reshape"}


def group_of(name, operation, optimizer):
    """Returns to which of `GROUPS` an operation belongs.

    Args:
        name: Its name in the graph, scopes included, such as `gradient_tape/resnet20v1/conv2d/Conv2DBackpropFilter`.
        operation: Its kind, such as `_MklNativeConv2DBackpropFilter`.
        optimizer: The scope of the optimizer's operations.

    Example:

    >>> group_of("gradient_tape/resnet20v1/conv2d/Conv2DBackpropFilter", "_MklNativeConv2DBackpropFilter", "adam")
    'its filter gradient'
    >>> group_of("adam/Sub_1", "Sub", "adam")
    'optimiser'
    """
    of_gradient = name.startswith("gradient_tape/")
    scopes = name.removeprefix("gradient_tape/").split("/")[:-1]
    if "Conv2DBackpropFilter" in operation:
        return "its filter gradient"
    if "Conv2DBackpropInput" in operation:
        return "its input gradient"
    if "Conv2D" in operation:
        return "convolution"
    if "BatchNorm" in operation or any(scope.startswith("batch_normalization") for scope in scopes):
        return "its gradient" if of_gradient or "Grad" in operation else "batch normalisation"
    if "Relu" in operation:
        return "ReLU and gradient"
    if scopes[:1] == [optimizer]:
        return "optimiser"
    if operation == "Cast":
        return "casts"
    if "compile_loss" in scopes:
        return "loss and metrics"
    if operation in JOINING:
        return "additions, concatenations"
    if not scopes:
        return "L2 penalty" if operation in PENALTY else "loss and metrics"
    return "other"


def operation_seconds(directory, optimizer):
    """Returns `{group: seconds}` of the operations in a profile that `tf.profiler.experimental` wrote.

    Args:
        directory: The profile's directory.
        optimizer: The scope of the optimizer's operations.
    """
    from tensorflow.tsl.profiler.protobuf import xplane_pb2

    space = xplane_pb2.XSpace()
    (file,) = Path(directory).rglob("*.xplane.pb")
    space.ParseFromString(file.read_bytes())
    seconds = Counter(dict.fromkeys(GROUPS, 0.0))
    for plane in space.planes:
        if not plane.name.startswith("/host:CPU"):
            continue
        for line in plane.lines:
            for event in line.events:
                name, colon, operation = plane.event_metadata[event.metadata_id].name.partition(":")
                if colon and operation.isidentifier():  # not `Class::Method`, nor `Stage: function`
                    seconds[group_of(name, operation, optimizer)] += event.duration_ps / 1e12
    return dict(seconds)


def prepare(settings):
    """Builds, compiles and warms up a trial's training step; returns nothing and the function of the turns.

    Args:
        settings: Dictionary with `model`, `batch_size`, `precision` and, of the prepared data set, `dataset`,
            `image_size` and `data_dir`.
    """
    import tensorflow as tf

    dataset = decathlon.open(settings["dataset"], settings["image_size"], settings["data_dir"])
    trial = make_trial(dataset, settings["model"], settings["batch_size"], settings["precision"])
    batches = training_batches(trial, dataset)
    with precision_policy(trial.precision):
        model = compiled_model(trial, dataset, len(batches))
        for index in range(2):
            model.train_on_batch(*batches.batch(0, index % len(batches)))
    images, labels = batches.batch(0, 0)

    def turn():
        start = time.perf_counter()
        for index in range(PROFILED_STEPS):
            batches.batch(1, index % len(batches))
        made = time.perf_counter() - start
        with tempfile.TemporaryDirectory() as directory:
            tf.profiler.experimental.start(directory)
            start = time.perf_counter()
            for _ in range(PROFILED_STEPS):
                model.train_on_batch(images, labels)
            trained = time.perf_counter() - start
            tf.profiler.experimental.stop()
            groups = operation_seconds(directory, model.optimizer.name)
        return {
            "step": trained / PROFILED_STEPS,
            "input": made / PROFILED_STEPS,
            "groups": {group: seconds / PROFILED_STEPS for group, seconds in groups.items()},
        }

    return {}, turn


if __name__ == "__main__":
    settings = json.loads(sys.argv[1])
    answer(lambda: prepare(settings))
