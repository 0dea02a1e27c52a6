"""Losses class by class over a training run, the overfitting-to-generalisation ratio, and a loss that follows it."""

import keras
import numpy as np
from keras import ops

from kls.calibration.samples import as_indices, per_sample
from kls.callbacks.evaluation import _EpochEvaluation
from kls.distillation import Distiller
from kls.losses.base import ClassifierLoss, label_cross_entropy, log_probabilities, true_log_p
from kls.targets import check_classes
from kls.utils.arrays import as_numbers, check_choice, check_number, check_whole, naming
from kls.utils.data import batches_of
from kls.utils.feature_extractor import Network
from kls.utils.loss_variable import LossVariable
from kls.utils.tensors import holds_indices, squeeze_indices

_NO_LABELS = "`data` must have labels: a pair (images, labels), or batches of them. Received: none in `{}`"


class ClassLosses(_EpochEvaluation):
    """Records, over a training run, the mean log-loss and the accuracy of each class on fixed datasets.

    The loss of a class is the mean of `-log p_true` over its samples, from the model in inference mode and without
    sample weights, whatever loss it trains with; a class without samples has NaN. Of a `kls.Distiller` the student is
    evaluated. `kls.FullStateCheckpoint(..., callbacks=[losses])` keeps the record.

    Args:
        data: `{name: data with labels}`, such as `{"train": ..., "validation": ...}`; each as
            `kls.utils.data.batches_of` takes it, with class indices or one-hot labels.
        every: Evaluate in the first epoch, in every `every`-th after it, and in the last.
        batch_size: Samples per batch, for arrays.

    Attributes:
        epochs: The E epochs evaluated so far, counted from 0.
        losses: `{name: array of shape (E, K)}`, in nats.
        accuracies: `{name: array of shape (E, K)}`: the share of a class's samples that are recognised.

    Raises:
        ValueError: If there is no dataset, if data are of another type, if `every` is not a whole number of at least
            1, or if data have no labels: of arrays at once, of batches at an epoch's end.

    Example:

    ```python
    record = kls.analysis.overfitting.ClassLosses({"train": (x, y), "validation": (x_validation, y_validation)})
    model.fit(x, y, epochs=30, callbacks=[record])
    worst = record.losses["validation"][-1].argsort()[-5:]
    ```
    """

    def __init__(self, data, every=1, batch_size=128):
        if not isinstance(data, dict) or not data:
            raise ValueError(
                f"`data` must be {{name: data}} with one dataset at least. Received: a {type(data).__name__}"
            )
        super().__init__(every, batch_size)
        for name, part in data.items():
            _check_labelled(part, name, self.batch_size)
        self.data = data
        self.epochs = np.zeros(0, np.int64)
        self.record = np.zeros((0, len(data), 2, 0))  # epochs, datasets, loss and accuracy, classes

    @property
    def losses(self):
        return {name: self.record[:, index, 0] for index, name in enumerate(self.data)}

    @property
    def accuracies(self):
        return {name: self.record[:, index, 1] for index, name in enumerate(self.data)}

    @property
    def network(self):
        model = self.model.student if isinstance(self.model, Distiller) else self.model
        if self._network is None or self._network.model is not model:
            self._network = Network(model)
        return self._network

    def on_epoch_begin(self, epoch, logs=None):
        known = self.epochs < epoch  # a run that starts anew forgets the last one
        self.epochs, self.record = self.epochs[known], self.record[known]

    def evaluate(self, epoch):
        """Records the classes' losses and accuracies; returns nothing to log."""
        found = np.stack([self._class_means(name, data) for name, data in self.data.items()])
        self.epochs = np.append(self.epochs, epoch)
        self.record = np.concatenate([self.record.reshape(-1, *found.shape), found[None]])
        return {}

    def _class_means(self, name, data):
        """Returns losses and accuracies, shape `(2, K)`."""
        outputs = self.network.outputs(data, batch_size=self.batch_size)
        if outputs.labels is None:
            raise ValueError(_NO_LABELS.format(name))
        samples = per_sample(outputs.labels, outputs.logits, from_logits=True)
        classes = outputs.logits.shape[1]
        labels = as_indices(outputs.labels, *outputs.logits.shape)
        sums = [np.bincount(labels, values, classes) for values in (samples.nll, samples.correct)]
        with np.errstate(invalid="ignore"):
            return sums / np.bincount(labels, minlength=classes)


def _check_labelled(data, name, batch_size):
    """Raises `ValueError` for what can be told to be no data with labels before any are read."""
    with naming(f"`{name}`"):
        batches_of(data, batch_size)
    if hasattr(data, "shape") or (isinstance(data, tuple) and len(data) == 1):
        raise ValueError(_NO_LABELS.format(name))


def overfitting_to_generalization(train, validation, window=10):
    """Returns the squared overfitting-to-generalisation ratio of each class between epochs N and N + n.

    `((O_{N+n} - O_N) / (V_N - V_{N+n}))^2` with the losses T and V of a class on fixed training and validation data and
    `O = V - T`: how much the gap between them grew, over how much the validation loss fell.

    What the label distribution learning paper prints in its section 6 has lost most of its signs in the copy at hand:
    "OGR_n = (L_{val,N+n} - L_{train,N+n}) - (L_{val,N} - L_{train,N}))^2" over a denominator that begins with
    "L_{val,N}", with "L the average loss of each kth class over the fixed train set" and a gap of n = 10 epochs. The
    numerator is the change of the overfitting O. The denominator is read from its source, Wang, Tran & Feiszli 2020,
    "What makes training multi-modal classification networks hard?", section 3: `OGR = |(O_{N+n} - O_N) / (L*_N -
    L*_{N+n})|`, where the validation loss stands for the true loss L*. So the paper's OGR is the square of Wang's.

    The square hides a sign: a class whose validation loss grew counts as one where it fell by as much. A class whose
    gap did not change has 0; one whose gap did, at a validation loss that did not, has infinity.

    Args:
        train: Mean losses of shape `(E, K)`, one row per epoch: `ClassLosses.losses["train"]`.
        validation: Likewise.
        window: n, in rows.

    Returns:
        float64 array of shape `(E - n, K)`, row N for the epochs N and N + n; without rows up to E = n.

    Raises:
        ValueError: If the shapes are others, or if `window` is not a whole number of at least 1.

    Example:

    >>> overfitting_to_generalization([[2.0, 2.0], [1.0, 1.5]], [[2.5, 2.0], [2.0, 1.0]], window=1).tolist()
    [[1.0, 0.25]]
    """
    train, validation = (
        as_numbers(losses, name).astype(np.float64) for losses, name in ((train, "train"), (validation, "validation"))
    )
    if train.ndim != 2 or train.shape != validation.shape:
        raise ValueError(
            "`train` and `validation` must be of the same shape (epochs, classes). "
            f"Received: shapes {train.shape} and {validation.shape}"
        )
    check_whole(window, "window", 1)
    gap = validation - train
    overfitting = gap[window:] - gap[:-window]
    generalization = validation[:-window] - validation[window:]
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(overfitting == 0, 0, (overfitting / generalization) ** 2)


@keras.saving.register_keras_serializable(package="kls")
class ClassWeights(LossVariable):
    """One weight per class, of mean 1: what `OverfittingCE` reads and `OverfittingWeights` sets, logged as the largest.

    Args:
        classes: Integer K >= 2.
        name: Name of the metric.
        dtype: Dtype of the weights.

    Example:

    >>> float(ClassWeights(classes=3).result())
    1.0
    """

    def __init__(self, classes, name="largest_class_weight", dtype=None):
        check_classes(classes)
        super().__init__([1.0] * int(classes), name, dtype)
        self.classes = classes

    def result(self):
        return ops.max(self.weights)

    def get_config(self):
        return {**super().get_config(), "classes": self.classes}


@keras.saving.register_keras_serializable(package="kls")
class OverfittingCE(ClassifierLoss):
    """Cross-entropy that follows the classes' overfitting-to-generalisation ratio (OGR).

    The label distribution learning paper (section 6) uses the ratio "as an adaptive loss or as label distribution by
    normalized weighting one-hot label" and says no more. Read here, with weights w of mean 1 over the K classes, which
    `kls.analysis.overfitting.OverfittingWeights` keeps proportional to the ratios:

    - `mode="loss"`, the adaptive loss: `-sum_k w_k q_k log p_k`, which is `w_y` times the cross-entropy of a sample of
      class y.
    - `mode="label"`, the label distribution: the cross-entropy to `(1 - alpha) q + alpha w / K`.

    Until the first weights are set they are all 1, which is plain cross-entropy, and label smoothing with
    `epsilon = alpha`. Larger ratios weigh more, as the paper has it; Wang et al. 2020, from whom it takes the ratio,
    give less weight to what overfits.

    Table 6 of the paper prints an ECE of 0.370 at 77.79 % accuracy for the adaptive loss, which its text calls
    overconfidence. What bins of too high confidence add to the ECE cannot exceed 1 - 0.7779 = 0.222, so that 0.148 of
    it at least must be underconfidence.

    Args:
        classes: Integer K >= 2.
        mode: `"loss"` or `"label"`.
        alpha: Float in [0, 1], the share of the ratios in the label of mode `"label"`; 0.1 is the paper's other
            softening.
        from_logits: Whether `y_pred` are logits, as in `kls.SmoothedCE`.
        reduction: As in `keras.losses.Loss`.
        name: Optional name.
        dtype: Dtype of the computation, `"float32"` or `"float64"`; `keras.backend.floatx()` by default.

    Attributes:
        class_weights: The `ClassWeights` w, to be compiled among the metrics; a model that is loaded has to be compiled
            anew, with a new loss.

    Call arguments:
        y_true: Class indices of shape `(N,)` or `(N, 1)`, or distributions q of shape `(N, K)`.
        y_pred: Shape `(N, K)`.

    Returns:
        One loss in nats per sample, shape `(N,)`, before the reduction.

    Raises:
        ValueError: If `mode` or `alpha` is none of the above, if the shapes do not fit, if a class index is not one of
            0..K-1, or if a row is no distribution. Compiled code is as with `kls.SmoothedCE`.

    Example:

    >>> loss = OverfittingCE(classes=2)
    >>> _ = loss.class_weights.weights.assign([1.5, 0.5])
    >>> round(float(loss([0, 1], [[0.5, 0.5], [0.2, 0.8]])), 4)
    0.5756

    Usage with `compile()` and `fit()`:

    ```python
    loss = kls.analysis.overfitting.OverfittingCE(classes=10)
    weights = kls.analysis.overfitting.OverfittingWeights(loss, train=(x, y), validation=(x_validation, y_validation))
    model.compile("sgd", loss, metrics=["accuracy", loss.class_weights])
    model.fit(x, y, epochs=240, callbacks=[weights])
    ```
    """

    def __init__(
        self,
        classes,
        mode="loss",
        alpha=0.1,
        from_logits=False,
        reduction="sum_over_batch_size",
        name="overfitting_ce",
        dtype=None,
    ):
        super().__init__(from_logits, reduction, name, dtype)
        self.mode = check_choice(mode, "mode", ("loss", "label"))
        self.alpha = check_number(alpha, "alpha", "[0, 1]")
        self.class_weights = ClassWeights(classes)
        self.classes = self.class_weights.classes

    def call(self, y_true, y_pred):
        y_true, y_pred = ops.convert_to_tensor(y_true), ops.convert_to_tensor(y_pred)
        classes = self.classes
        if y_pred.shape[-1] != classes:
            raise ValueError(f"`y_pred` must be of shape (N, {classes}). Received: shape {tuple(y_pred.shape)}")
        indices = holds_indices(y_true, y_pred)
        log_p = log_probabilities(y_pred, self.from_logits)
        weighted = ops.cast(self.class_weights.weights, log_p.dtype) * log_p
        if self.mode == "loss":
            terms = weighted
        else:
            terms = (1 - self.alpha) * log_p + self.alpha / classes * ops.sum(weighted, axis=-1, keepdims=True)
        if not indices:
            return label_cross_entropy(y_true, terms)
        return -true_log_p(terms, squeeze_indices(y_true, y_pred))


class OverfittingWeights(ClassLosses):
    """Weighs the classes of an `OverfittingCE` by their overfitting-to-generalisation ratio, epoch by epoch.

    Before each epoch the weights become the ratios of `overfitting_to_generalization` between the last evaluated epoch
    and that `window` epochs before it, divided by their mean. An infinite ratio counts as the largest finite one; where
    all ratios vanish, and until the first window is full, all weights are 1. Nothing else bounds them: a class whose
    validation loss hardly moved can take nearly the whole weight, K. They follow from the record alone, so that a run
    resumed by `kls.FullStateCheckpoint(..., callbacks=[weights])` ends with the same bits.

    Each evaluation passes over both datasets. A fixed part of the training data, or `every=window`, makes it cheaper.

    Args:
        loss: The `OverfittingCE` of the model, which must be compiled with `loss.class_weights` among its metrics.
        train: Fixed training data with labels, without augmentation: as `kls.utils.data.batches_of` takes them.
        validation: Validation data, likewise. Both need samples of every class.
        window: n of the ratio in epochs, a multiple of `every`.
        every: Evaluate, and set new weights, in every `every`-th epoch.
        batch_size: Samples per batch, for arrays.

    Attributes:
        epochs, losses, accuracies: As in `ClassLosses`, of the datasets `"train"` and `"validation"`.

    Raises:
        ValueError: If `loss` is another, if data are of another type or have no labels, if `every` or `window` is out
            of its range; in the first step, if `loss.class_weights` is not among the metrics; after an epoch, if a
            class has no sample.

    Example:

    ```python
    weights = kls.analysis.overfitting.OverfittingWeights(loss, train=(x, y), validation=(x_validation, y_validation))
    checkpoint = kls.FullStateCheckpoint("runs/mine", callbacks=[weights])
    model.compile("sgd", loss, metrics=["accuracy", loss.class_weights])
    model.fit(x, y, epochs=240, initial_epoch=checkpoint.epoch, shuffle=False, callbacks=[weights, checkpoint])
    ```
    """

    def __init__(self, loss, train, validation, window=10, every=1, batch_size=128):
        if not isinstance(loss, OverfittingCE):
            raise ValueError(
                f"`loss` must be a `kls.analysis.overfitting.OverfittingCE`. Received: a {type(loss).__name__}"
            )
        super().__init__({"train": train, "validation": validation}, every, batch_size)
        check_whole(window, "window", 1)
        if window % every:
            raise ValueError(f"`window` must be a multiple of `every`. Received: window={window}, every={every}")
        self.loss = loss
        self.window = window

    def on_train_batch_end(self, batch, logs=None):
        weights = self.loss.class_weights.weights  # Keras builds the metrics with the first batch
        if batch == 0 and not any(variable is weights for variable in self.model.metrics_variables):
            raise ValueError(
                "The model must be compiled with `metrics=[..., loss.class_weights]`, anew after it is loaded. "
                "Received: metrics without it"
            )

    def on_epoch_begin(self, epoch, logs=None):
        super().on_epoch_begin(epoch)
        self.loss.class_weights.weights.assign(self._class_weights())

    def evaluate(self, epoch):
        super().evaluate(epoch)
        empty = np.argwhere(np.isnan(self.record[-1, :, 0]))
        if len(empty):
            name, label = list(self.data)[empty[0][0]], empty[0][1]
            raise ValueError(f"`{name}` must hold samples of every class. Received: none of class {label}")
        return {}

    def _class_weights(self):
        ends = np.flatnonzero(np.isin(self.epochs - self.window, self.epochs))
        classes = self.loss.class_weights.classes
        if not len(ends):
            return np.ones(classes)
        rows = np.isin(self.epochs, [self.epochs[ends[-1]] - self.window, self.epochs[ends[-1]]])
        train, validation = (losses[rows] for losses in self.losses.values())
        ratios = overfitting_to_generalization(train, validation, window=1)[0]
        finite = np.isfinite(ratios)
        ratios = np.where(finite, ratios, ratios[finite].max(initial=0))
        return ratios / ratios.mean() if ratios.any() else np.ones(classes)
