"""A function of tensors compiled by the backend, once, whatever is trained meanwhile."""

import keras


def compiled(function, model):
    """Returns a function of a batch of images that a model is part of, compiled, in inference.

    Args:
        function: Function of a tensor to a tuple of tensors.
        model: The Keras model that it calls: further training is seen without another compilation.
    """
    backend = keras.backend.backend()
    if backend == "tensorflow":
        import tensorflow as tf

        return tf.function(function, reduce_retracing=True)
    if backend == "jax":
        import jax

        states = random_states(model)

        def stateless(values, images):
            with keras.StatelessScope(zip(model.variables, values, strict=True)):
                return function(images), [state.value for state in states]

        jitted = jax.jit(stateless)

        def run(images):
            outputs, drawn = jitted([variable.value for variable in model.variables], images)
            for state, value in zip(states, drawn, strict=True):
                state.assign(value)
            return outputs

        return run
    if backend == "torch":
        import torch

        return torch.no_grad()(function)
    return function


def random_states(model):
    """Returns the variables of a model that are no weights: the states of its random generators."""
    weights = {id(variable) for variable in model.weights}
    return [variable for variable in model.variables if id(variable) not in weights]
