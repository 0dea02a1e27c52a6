import keras
import pandas as pd
import pytest

from benchmarks.throughput import step_profile
from benchmarks.throughput.images import open_images
from benchmarks.throughput.profiled_step import GROUPS, group_of, operation_seconds, prepare
from kls.layers import BatchNormalization
from kls.models import registry

on_tensorflow = pytest.mark.skipif(keras.backend.backend() != "tensorflow", reason="TensorFlow's profiler")


@pytest.mark.parametrize(
    ("name", "group"),
    [
        ("resnet20v1_1/conv2d_1/BiasAdd:_MklNativeFusedConv2D", "convolution"),
        ("gradient_tape/resnet20v1_1/conv2d_1/convolution/X:_MklNativeConv2DBackpropInput", "its input gradient"),
        ("gradient_tape/resnet20v1_1/conv2d/X:_MklNativeConv2DBackpropFilterWithBias", "its filter gradient"),
        ("resnet20v1_1/batch_normalization_1/FusedBatchNormV3:_MklNativeFusedBatchNormEx", "batch normalisation"),
        ("resnet20v1_1/batch_normalization_1/AssignVariableOp:AssignVariableOp", "batch normalisation"),
        ("gradient_tape/n/batch_normalization_1/X:_MklNativeFusedBatchNormGradV3", "its gradient"),
        ("gradient_tape/n/batch_normalization_1/moments/mul:Mul", "its gradient"),
        ("resnet20v1_1/re_lu_10_1/Relu:Relu", "ReLU and gradient"),
        ("gradient_tape/resnet20v1_1/re_lu_1/ReluGrad:ReluGrad", "ReLU and gradient"),
        ("resnet20v1_1/add_1/Add:AddV2", "additions, concatenations"),
        ("densenet/concatenate_1/concat:ConcatV2", "additions, concatenations"),
        ("AddN_19:AddN", "additions, concatenations"),
        ("gradient_tape/n/conv2d_3_1/convolution/Cast/Cast:Cast", "casts"),
        ("adam/Cast_404:Cast", "optimiser"),
        ("adam/Add_160:AddV2", "optimiser"),
        ("Square_9:Square", "L2 penalty"),
        ("gradient_tape/Tile_37:Tile", "L2 penalty"),
        ("compile_loss/smoothed_ce/LogSoftmax:LogSoftmax", "loss and metrics"),
        ("ArgMax:ArgMax", "loss and metrics"),
        ("resnet20v1_1/classifier_1/BiasAdd:_MklNativeFusedMatMul", "other"),
    ],
)
def test_operations_are_grouped(name, group):
    assert group_of(*name.split(":"), "adam") == group


@on_tensorflow
def test_a_profile_is_summed_over_its_operations_alone(tmp_path):
    from tensorflow.tsl.profiler.protobuf import xplane_pb2

    space = xplane_pb2.XSpace()
    names = ("n/conv2d/X:Conv2D", "adam/Sub:Sub", "ExecutorState::Process", "EagerLocalExecute: __inference_1", "Run")
    for plane_name in ("/host:CPU", "Task Environment"):
        plane = space.planes.add(name=plane_name)
        line = plane.lines.add()
        for number, name in enumerate(names, start=1):
            plane.event_metadata[number].name = name
            line.events.add(metadata_id=number, duration_ps=number * 10**12)
        line.events.add(metadata_id=1, duration_ps=10**12)
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "host.xplane.pb").write_bytes(space.SerializeToString())
    expected = dict.fromkeys(GROUPS, 0.0) | {"convolution": 2.0, "optimiser": 2.0}
    assert operation_seconds(tmp_path, "adam") == expected


def build_small(input_shape, classes, classifier_activation, synchronized):
    inputs = keras.Input(input_shape)
    x = keras.layers.Conv2D(4, 3, kernel_regularizer=keras.regularizers.L2(0.1))(inputs)
    x = keras.layers.ReLU()(BatchNormalization()(x))
    return keras.Model(inputs, keras.layers.Dense(classes)(keras.layers.GlobalAveragePooling2D()(x)))


@on_tensorflow
def test_a_step_is_profiled(tmp_path, monkeypatch):
    monkeypatch.setitem(registry._BUILDERS, "small", build_small)
    dataset = open_images(None, 8, tmp_path / "data", tmp_path)
    place = {"dataset": dataset.name, "image_size": dataset.size, "data_dir": str(tmp_path)}
    _, turn = prepare({"model": "small", "batch_size": 4, "precision": "float32", **place})
    found = turn()
    taken = [group for group, seconds in found["groups"].items() if seconds > 0]
    assert {"convolution", "its filter gradient", "batch normalisation", "optimiser", "L2 penalty"} <= set(taken)
    assert found["input"] > 0


def test_shares_are_medians_of_the_rounds_shares():
    parts = {**dict.fromkeys(GROUPS, 0.0), "convolution": 0.5, step_profile.NO_OPERATION: 0.5, step_profile.INPUT: 0.1}
    frame = pd.DataFrame(
        {"network": "n", "precision": "float32", "round": number, "step": step, "part": part, "seconds": seconds}
        for number, step in enumerate((1.0, 2.0, 5.0), start=1)
        for part, seconds in parts.items()
    )
    table = step_profile.profile_table(frame, 64)
    shares = dict(table.rows)
    assert shares["convolution"] == shares["no operation"] == "25.0"
    assert shares["making a batch"] == "5.0"
    assert shares["step, ms"] == "2,000.0"
    assert "n = 3 rounds" in table.caption


def test_other_backends_have_no_profile(monkeypatch, capsys):
    monkeypatch.setattr(keras.backend, "backend", lambda: "jax")
    step_profile.measure(None)
    assert capsys.readouterr().out == ("profile is left out: it needs the TensorFlow backend. Keras runs on jax.\n")
