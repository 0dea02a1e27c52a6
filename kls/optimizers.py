"""Keras's optimizers with one operation per weight on TensorFlow, where Keras takes about twenty."""

import keras

from kls.utils.arrays import check_number


@keras.saving.register_keras_serializable(package="kls")
class Adam(keras.optimizers.Adam):
    """Adam (Kingma & Ba 2015) by TensorFlow's fused update, Keras's own elsewhere.

    `m += (1 - beta_1) (g - m)`, `v += (1 - beta_2) (g^2 - v)` and `w -= lr sqrt(1 - beta_2^t) / (1 - beta_1^t) m /
    (sqrt(v) + epsilon)`, as in Keras, but not to the last bit: float32 weights of a small network were up to 3e-8 apart
    after one step of 0.001, and 3e-7 after 100 (those of `SGD` had Keras's bits). A network of many small layers takes
    fewer operations per step, and fewer to trace. Under several replicas, with `amsgrad`, and where a gradient is
    sparse or weights are of several dtypes, the update is Keras's.

    Args:
        learning_rate: Finite float of at least 0, a `keras.optimizers.schedules.LearningRateSchedule`, or a function
            without arguments.
        beta_1, beta_2: Floats in [0, 1).
        epsilon: Finite float of at least 0.
        **kwargs: As in `keras.optimizers.Adam`.

    Example:

    ```python
    model.compile(kls.optimizers.Adam(1e-3), kls.SmoothedCE(gamma=0.9))
    ```
    """

    def __init__(self, learning_rate=0.001, beta_1=0.9, beta_2=0.999, epsilon=1e-7, **kwargs):
        beta_1, beta_2 = check_number(beta_1, "beta_1", "[0, 1)"), check_number(beta_2, "beta_2", "[0, 1)")
        epsilon = check_number(epsilon, "epsilon", "[0, inf)")
        super().__init__(_checked_rate(learning_rate), beta_1, beta_2, epsilon, **kwargs)

    def _backend_update_step(self, grads, trainable_variables, learning_rate):
        if self.amsgrad or not _fusible(grads, trainable_variables):
            super()._backend_update_step(grads, trainable_variables, learning_rate)
            return
        import tensorflow as tf

        dtype = trainable_variables[0].dtype
        step = tf.cast(self.iterations + 1, dtype)
        beta_1, beta_2 = tf.constant(self.beta_1, dtype), tf.constant(self.beta_2, dtype)
        settings = {
            "lr": tf.cast(tf.convert_to_tensor(learning_rate), dtype),
            "epsilon": tf.constant(self.epsilon, dtype),
            "beta1": beta_1,
            "beta2": beta_2,
            "beta1_power": tf.pow(beta_1, step),
            "beta2_power": tf.pow(beta_2, step),
        }
        for gradient, variable in zip(grads, trainable_variables, strict=True):
            index = self._get_variable_index(variable)
            tf.raw_ops.ResourceApplyAdam(
                var=variable.value.handle,
                m=self._momentums[index].value.handle,
                v=self._velocities[index].value.handle,
                grad=tf.cast(gradient, dtype),
                **settings,
            )


@keras.saving.register_keras_serializable(package="kls")
class SGD(keras.optimizers.SGD):
    """Gradient descent with momentum by TensorFlow's fused update, Keras's own elsewhere.

    `m = momentum m - lr g`, then `w += m`, or `w += momentum m - lr g` by Nesterov, as in Keras. Without momentum,
    under several replicas, and where a gradient is sparse or weights are of several dtypes, the update is Keras's.

    Args:
        learning_rate: Finite float of at least 0, a `keras.optimizers.schedules.LearningRateSchedule`, or a function
            without arguments.
        momentum: Float in [0, 1].
        **kwargs: As in `keras.optimizers.SGD`.

    Example:

    ```python
    model.compile(kls.optimizers.SGD(0.1, momentum=0.9, nesterov=True), kls.SmoothedCE(gamma=0.9))
    ```
    """

    def __init__(self, learning_rate=0.01, momentum=0.0, **kwargs):
        super().__init__(_checked_rate(learning_rate), check_number(momentum, "momentum", "[0, 1]"), **kwargs)

    def _backend_update_step(self, grads, trainable_variables, learning_rate):
        if not self.momentum or not _fusible(grads, trainable_variables):
            super()._backend_update_step(grads, trainable_variables, learning_rate)
            return
        import tensorflow as tf

        dtype = trainable_variables[0].dtype
        learning_rate = tf.cast(tf.convert_to_tensor(learning_rate), dtype)
        momentum = tf.constant(self.momentum, dtype)
        for gradient, variable in zip(grads, trainable_variables, strict=True):
            tf.raw_ops.ResourceApplyKerasMomentum(
                var=variable.value.handle,
                accum=self.momentums[self._get_variable_index(variable)].value.handle,
                lr=learning_rate,
                grad=tf.cast(gradient, dtype),
                momentum=momentum,
                use_nesterov=self.nesterov,
            )


def _checked_rate(learning_rate):
    if callable(learning_rate):  # a schedule too
        return learning_rate
    return check_number(learning_rate, "learning_rate", "[0, inf)")


def _fusible(gradients, variables):
    """Whether gradients are dense, on TensorFlow, and the variables Keras's, of one dtype and in one place."""
    if keras.backend.backend() != "tensorflow":
        return False
    import tensorflow as tf

    return (
        all(isinstance(gradient, tf.Tensor) for gradient in gradients)
        and all(isinstance(variable, keras.Variable) for variable in variables)
        and len({variable.dtype for variable in variables}) == 1
        and tf.distribute.get_strategy().num_replicas_in_sync == 1
    )
