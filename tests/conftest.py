"""What all tests share: a quiet backend and two logical devices, for the tests under two replicas."""

import os

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

import pytest
from hypothesis import settings

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
