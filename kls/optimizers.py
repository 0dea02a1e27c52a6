"""Keras's optimizers with one operation per weight on TensorFlow, where Keras takes about twenty."""

import keras


@keras.saving.register_keras_serializable(package="kls")
class Adam(keras.optimizers.Adam):
    """Adam (Kingma & Ba 2015) by TensorFlow's fused update, Keras's own elsewhere.

    `m += (1 - beta_1) (g - m)`, `v += (1 - beta_2) (g^2 - v)` and `w -= lr sqrt(1 - beta_2^t) / (1 - beta_1^t) m /
    (sqrt(v) + epsilon)`, as in Keras. A network of many small layers takes fewer operations per step, and fewer to
    trace. Under several replicas, with `amsgrad` and for sparse gradients the update is Keras's.

    Args:
        *args, **kwargs: As in `keras.optimizers.Adam`.

    Example:

    ```python
    model.compile(kls.optimizers.Adam(1e-3), kls.SmoothedCE(gamma=0.9))
    ```
    """

    def update_step(self, gradient, variable, learning_rate):
        if self.amsgrad or not _fusible(gradient, variable):
            super().update_step(gradient, variable, learning_rate)
            return
        import tensorflow as tf

        step = tf.cast(self.iterations.value + 1, variable.dtype)
        index = self._get_variable_index(variable)
        tf.raw_ops.ResourceApplyAdam(
            var=variable.handle,
            m=self._momentums[index].value.handle,
            v=self._velocities[index].value.handle,
            beta1_power=tf.pow(tf.cast(self.beta_1, variable.dtype), step),
            beta2_power=tf.pow(tf.cast(self.beta_2, variable.dtype), step),
            lr=tf.cast(learning_rate, variable.dtype),
            beta1=self.beta_1,
            beta2=self.beta_2,
            epsilon=self.epsilon,
            grad=tf.cast(gradient, variable.dtype),
        )


@keras.saving.register_keras_serializable(package="kls")
class SGD(keras.optimizers.SGD):
    """Gradient descent with momentum by TensorFlow's fused update, Keras's own elsewhere.

    `m = momentum m - lr g`, then `w += m`, or `w += momentum m - lr g` by Nesterov, as in Keras. Without momentum,
    under several replicas and for sparse gradients the update is Keras's.

    Args:
        *args, **kwargs: As in `keras.optimizers.SGD`.

    Example:

    ```python
    model.compile(kls.optimizers.SGD(0.1, momentum=0.9, nesterov=True), kls.SmoothedCE(gamma=0.9))
    ```
    """

    def update_step(self, gradient, variable, learning_rate):
        if not self.momentum or not _fusible(gradient, variable):
            super().update_step(gradient, variable, learning_rate)
            return
        import tensorflow as tf

        tf.raw_ops.ResourceApplyKerasMomentum(
            var=variable.handle,
            accum=self.momentums[self._get_variable_index(variable)].value.handle,
            lr=tf.cast(learning_rate, variable.dtype),
            grad=tf.cast(gradient, variable.dtype),
            momentum=self.momentum,
            use_nesterov=self.nesterov,
        )


def _fusible(gradient, variable):
    """Whether a gradient is dense, on TensorFlow, and the variable in one place."""
    if keras.backend.backend() != "tensorflow":
        return False
    import tensorflow as tf

    return tf.distribute.get_strategy().num_replicas_in_sync == 1 and isinstance(gradient, tf.Tensor)
