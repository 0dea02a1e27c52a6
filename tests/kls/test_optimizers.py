import keras
import numpy as np
import pytest

from benchmarks.runner.train import mirrored_strategy
from kls.optimizers import SGD, Adam

tensorflow_only = pytest.mark.skipif(keras.backend.backend() != "tensorflow", reason="the fused update is TensorFlow's")
PAIRS = [
    (Adam, keras.optimizers.Adam, {"learning_rate": 0.01}),
    (Adam, keras.optimizers.Adam, {"learning_rate": 0.1, "beta_1": 0.5, "beta_2": 0.9, "epsilon": 1e-3}),
    (Adam, keras.optimizers.Adam, {"amsgrad": True}),
    (Adam, keras.optimizers.Adam, {"weight_decay": 0.1, "clipnorm": 1.0, "use_ema": True}),
    (SGD, keras.optimizers.SGD, {"learning_rate": 0.1, "momentum": 0.9}),
    (SGD, keras.optimizers.SGD, {"learning_rate": 0.1, "momentum": 0.9, "nesterov": True}),
    (SGD, keras.optimizers.SGD, {"learning_rate": 0.1}),
]


def small_model(optimizer):
    keras.utils.set_random_seed(3)
    layers = [keras.layers.Input((5,)), keras.layers.Dense(4, activation="relu"), keras.layers.Dense(3)]
    model = keras.Sequential(layers)
    model.compile(optimizer, keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    return model


def batches(count=6):
    rng = np.random.default_rng(0)
    return [(rng.normal(size=(8, 5)).astype("float32"), rng.integers(0, 3, 8)) for _ in range(count)]


def trained(optimizer):
    model = small_model(optimizer)
    for x, y in batches():
        model.train_on_batch(x, y)
    return [*model.get_weights(), *(variable.numpy() for variable in optimizer.variables)]


@pytest.mark.parametrize(("own", "stock", "arguments"), PAIRS)
def test_weights_and_slots_become_those_of_keras(own, stock, arguments):
    for found, expected in zip(trained(own(**arguments)), trained(stock(**arguments)), strict=True):
        np.testing.assert_allclose(found, expected, rtol=2e-5, atol=1e-7)


@pytest.mark.parametrize("value", [-0.1, float("nan"), float("inf"), "0.1", None, True])
@pytest.mark.parametrize(
    ("kind", "name"),
    [
        (Adam, "learning_rate"),
        (Adam, "beta_1"),
        (Adam, "beta_2"),
        (Adam, "epsilon"),
        (SGD, "learning_rate"),
        (SGD, "momentum"),
    ],
)
def test_what_is_no_number_of_the_range_is_refused_by_name(kind, name, value):
    with pytest.raises(ValueError, match=rf"`{name}` must be a number in \[0, .*Received: {name}={value!r}"):
        kind(**{name: value})


def test_schedules_and_functions_are_learning_rates():
    schedule = keras.optimizers.schedules.ExponentialDecay(0.1, 10, 0.5)
    again = keras.optimizers.deserialize(keras.optimizers.serialize(SGD(schedule, momentum=0.9)))
    assert again.get_config()["learning_rate"] == SGD(schedule).get_config()["learning_rate"]
    assert float(Adam(lambda: 0.25).learning_rate) == 0.25


@tensorflow_only
@pytest.mark.parametrize(
    ("optimizer", "operation"), [(Adam(), "ResourceApplyAdam"), (SGD(momentum=0.9), "ResourceApplyKerasMomentum")]
)
def test_a_weight_takes_one_operation(optimizer, operation):
    import tensorflow as tf

    model = small_model(optimizer)
    x, y = batches(1)[0]
    step = tf.function(lambda x, y: model.train_step((x, y))).get_concrete_function(tf.constant(x), tf.constant(y))
    kinds = [found.type for found in step.graph.get_operations()]
    assert kinds.count(operation) == len(model.trainable_variables) == 4


@tensorflow_only
@pytest.mark.parametrize("optimizer", [Adam, lambda rate: SGD(rate, momentum=0.9)])
def test_two_replicas_end_as_one(optimizer):
    x, y = (np.concatenate(parts) for parts in zip(*batches(), strict=True))
    found = []
    for scope in (mirrored_strategy().scope, None):
        if scope:
            with scope():
                model = small_model(optimizer(0.05))
        else:
            model = small_model(optimizer(0.05))
        model.fit(x, y, batch_size=16, epochs=2, shuffle=False, verbose=0)
        found.append(model.get_weights())
    for two, one in zip(*found, strict=True):
        np.testing.assert_allclose(two, one, rtol=1e-4, atol=1e-5)


@tensorflow_only
@pytest.mark.parametrize(
    ("own", "stock", "arguments"),
    [(Adam, keras.optimizers.Adam, {}), (SGD, keras.optimizers.SGD, {"momentum": 0.9})],
)
def test_variables_of_two_dtypes_and_of_tensorflow_are_updated_as_by_keras(own, stock, arguments):
    import tensorflow as tf

    found = []
    for optimizer in (own(0.1, **arguments), stock(0.1, **arguments)):
        variables = [
            keras.Variable([1.0, 2.0], dtype="float32"),
            keras.Variable([3.0], dtype="float64"),
            tf.Variable([4.0], dtype="float32"),
        ]
        for _ in range(3):
            optimizer.apply([tf.ones_like(tf.convert_to_tensor(variable)) for variable in variables], variables)
        found.append([np.asarray(tf.convert_to_tensor(variable)) for variable in variables])
    for one, other in zip(*found, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-6)


@tensorflow_only
@pytest.mark.parametrize("pair", [(Adam, keras.optimizers.Adam, {}), (SGD, keras.optimizers.SGD, {"momentum": 0.9})])
def test_sparse_gradients_are_taken_as_by_keras(pair):
    import tensorflow as tf

    own, stock, arguments = pair
    found = []
    for optimizer in (own(0.1, **arguments), stock(0.1, **arguments)):
        variable = keras.Variable(np.ones((4, 2)), dtype="float32")
        for rows in ([1, 1], [3, 0]):
            gradient = tf.IndexedSlices(tf.constant([[1.0, 2.0], [3.0, 4.0]]), tf.constant(rows), tf.constant([4, 2]))
            optimizer.apply([gradient], [variable])
        found.append(keras.ops.convert_to_numpy(variable))
    np.testing.assert_array_equal(*found)
    assert (found[0] != 1).any()


@tensorflow_only
@pytest.mark.parametrize("optimizer", [Adam, lambda rate: SGD(rate, momentum=0.9)])
def test_a_strategy_of_one_device_changes_nothing(optimizer):
    import tensorflow as tf

    x, y = (np.concatenate(parts) for parts in zip(*batches(), strict=True))
    found = []
    for strategy in (tf.distribute.MirroredStrategy(["CPU:0"]), tf.distribute.get_strategy()):
        with strategy.scope():
            model = small_model(optimizer(0.05))
        model.fit(x, y, batch_size=16, epochs=2, shuffle=False, verbose=0)
        found.append(model.get_weights())
    for one, other in zip(*found, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-6, atol=1e-7)


@tensorflow_only
def test_gradients_are_gathered_over_steps_as_by_keras():
    arguments = {"learning_rate": 0.05, "gradient_accumulation_steps": 2}
    for found, expected in zip(trained(Adam(**arguments)), trained(keras.optimizers.Adam(**arguments)), strict=True):
        np.testing.assert_allclose(found, expected, rtol=2e-5, atol=2e-6)


def test_a_compiled_model_is_saved_and_goes_on(tmp_path):
    model = small_model(Adam(0.02, beta_1=0.8))
    x, y = batches(1)[0]
    model.train_on_batch(x, y)
    model.save(tmp_path / "model.keras")
    again = keras.models.load_model(tmp_path / "model.keras")
    assert type(again.optimizer) is Adam
    assert again.optimizer.get_config() == model.optimizer.get_config()
    for each in (model, again):
        each.train_on_batch(x, y)
    for one, other in zip(model.get_weights(), again.get_weights(), strict=True):
        np.testing.assert_array_equal(one, other)
