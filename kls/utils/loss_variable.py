"""Variables of losses that can be changed after the training step is compiled."""

import keras


class LossVariable(keras.metrics.Metric):
    """Holds a variable of a loss, and logs what `result` makes of it.

    Compiled training steps see changes of variables of the model, its optimizer and its metrics alone (on JAX). Those
    of metrics are no part of the model's weights, so a loss keeps its variable in one of these, which must be compiled
    among the metrics.

    Args:
        values: The first values.
        name: Name of the metric.
        dtype: Dtype of the variable.

    Attributes:
        weights: The variable.
    """

    def __init__(self, values, name, dtype=None):
        super().__init__(name=name, dtype=dtype)
        # the sum over replicas, which is a metric's default, would share what is assigned among them
        self.weights = self.add_variable((len(values),), "zeros", dtype=self.dtype, aggregation="mean", name="weights")
        self.weights.assign(values)

    def update_state(self, y_true, y_pred, sample_weight=None):
        """Leaves the variable as it is."""

    def reset_state(self):
        """Leaves the variable as it is."""
