import keras
import numpy as np

import kls
from kls.utils.compiled import compiled, random_states

X = np.random.default_rng(0).normal(size=(4, 6)).astype("float32")


def test_weights_that_change_later_are_seen():
    model = keras.Sequential([keras.Input((6,)), keras.layers.Dense(2)])
    run = compiled(lambda images: (model(images, training=False),), model)
    for factor in (1.0, 3.0):
        model.set_weights([np.full((6, 2), factor), np.zeros(2)])
        found = keras.ops.convert_to_numpy(run(keras.ops.convert_to_tensor(X))[0])
        np.testing.assert_allclose(found, factor * X.sum(axis=1, keepdims=True).repeat(2, axis=1), rtol=1e-4, atol=1e-6)


def test_random_layers_draw_anew_in_each_call():
    dropout = kls.layers.MonteCarloDropout(0.5, seed=0)
    model = keras.Sequential([keras.Input((6,)), dropout])
    assert [state is dropout.seed_generator.state for state in random_states(model)] == [True]
    run = compiled(lambda images: (model(images),), model)
    first, second = (keras.ops.convert_to_numpy(run(keras.ops.ones((4, 6)))[0]) for _ in range(2))
    assert not np.array_equal(first, second)
