"""Losses on softened labels, each a `keras.losses.Loss` that works on every Keras backend."""

import math

import keras
from keras import ops

from kls.targets import (
    check_dtype,
    holds_indices,
    known_distributions,
    known_indices,
    known_probabilities,
    real_numbers,
    smoothing_weights,
    squeeze_indices,
    unpack_teacher,
)
from kls.utils.arrays import check_bool, check_choice, check_number


class ClassifierLoss(keras.losses.Loss):
    """What the losses here share: checks of what they are given, a short `repr`, and a config that keeps the dtype.

    Args:
        from_logits: Whether `y_pred` are logits.
        reduction: As in `keras.losses.Loss`.
        name: Name of the loss.
        dtype: `"float32"` or `"float64"`, which hold every class index; `keras.backend.floatx()` by default.
    """

    def __init__(self, from_logits, reduction, name, dtype):
        check_dtype(dtype)
        super().__init__(name=name, reduction=reduction, dtype=dtype)
        self.from_logits = check_bool(from_logits, "from_logits")

    def __call__(self, y_true, y_pred, sample_weight=None):
        if sample_weight is not None:
            real_numbers(sample_weight, "sample_weight")
        return super().__call__(real_numbers(y_true, "y_true"), real_numbers(y_pred, "y_pred"), sample_weight)

    def __repr__(self):
        inherited = ClassifierLoss.get_config(self)
        arguments = [f"{name}={value!r}" for name, value in self.get_config().items() if name not in inherited]
        return f"{type(self).__name__}({', '.join(arguments)})"

    def get_config(self):
        return {**super().get_config(), "dtype": self.dtype}


@keras.saving.register_keras_serializable(package="kls")
class SmoothedCE(ClassifierLoss):
    """Cross-entropy with smoothed labels: `gamma` on the true class, the rest shared by the others.

    `loss = -(a log p_true + b sum_j log p_j)` with `b = (1 - gamma) / (K - 1)` and `a = gamma - b`, which is the
    cross-entropy (equation 4) with the label distribution of equation 7 of Mezzini 2018, "Empirical study on
    label smoothing in neural networks". `gamma=1` is categorical cross-entropy. The formula is linear in the
    label, so one-hot and mixed label distributions (CutMix, MixUp, soft labels) are taken as well as class
    indices; class indices never become a one-hot matrix.

    Args:
        gamma: Float in (1/K, 1]: the probability of the true class. K is known when the loss is first computed.
        from_logits: Whether `y_pred` are logits. By default they are probabilities, which are normalised and
            clipped to [epsilon, 1 - epsilon] as `keras.losses.CategoricalCrossentropy` does. What cannot be
            probabilities (an entry below 0, a row whose sum is off 1 by more than 1 %) is refused.
        reduction: As in `keras.losses.Loss`: `"sum_over_batch_size"`, `"sum"`, `"mean"`,
            `"mean_with_sample_weight"` or `None`.
        name: Optional name.
        dtype: Dtype of the computation, `"float32"` or `"float64"`; `keras.backend.floatx()` by default.

    Call arguments:
        y_true: Class indices of shape `(N,)` or `(N, 1)`, or distributions of shape `(N, K)`. Further leading axes
            (dense predictions) are allowed in both arguments alike.
        y_pred: Shape `(N, K)`.

    Returns:
        One loss in nats per sample, shape `(N,)`, before the reduction.

    Raises:
        ValueError: If `gamma` is outside (1/K, 1], if the shapes do not fit, if a class index is not one of 0..K-1, or
            if a row is no distribution. Compiled code (`fit`, `tf.function`, `jax.jit`) cannot raise for the last two:
            there the loss of such a sample is NaN, which no mean hides.
        tf.errors.InvalidArgumentError: In a graph of TensorFlow without XLA, if `y_pred` are no probabilities.

    Example:

    >>> loss = SmoothedCE(gamma=0.8)
    >>> round(float(loss([0, 1], [[0.9, 0.05, 0.05], [0.1, 0.6, 0.3]])), 4)
    0.7214

    Usage with `compile()`:

    ```python
    model.compile(optimizer="adam", loss=kls.SmoothedCE(gamma=0.9, from_logits=True), metrics=["accuracy"])
    ```
    """

    def __init__(self, gamma=0.9, from_logits=False, reduction="sum_over_batch_size", name="smoothed_ce", dtype=None):
        super().__init__(from_logits, reduction, name, dtype)
        self.gamma = check_number(gamma, "gamma", "(0, 1]")

    def call(self, y_true, y_pred):
        y_true, y_pred = ops.convert_to_tensor(y_true), ops.convert_to_tensor(y_pred)
        indices = holds_indices(y_true, y_pred)
        a, b = self.label_weights(y_pred.shape[-1])
        log_p = log_probabilities(y_pred, self.from_logits)
        if indices:
            true_term, mass = _gather_true_class(log_p, squeeze_indices(y_true, y_pred)), 1.0
        else:
            true_term, mass = -label_cross_entropy(y_true, log_p), ops.sum(y_true, axis=-1)
        return _smoothed_cross_entropy(a, b, true_term, log_p, mass)

    def label_weights(self, classes):
        """Returns `(a, b)` of the label `a * one_hot + b`: two floats, or of a subclass two scalar tensors.

        Args:
            classes: Integer K >= 2.
        """
        return smoothing_weights(self.gamma, classes)

    def get_config(self):
        return {**super().get_config(), "gamma": self.gamma, "from_logits": self.from_logits}


@keras.saving.register_keras_serializable(package="kls")
class OutlierExposure(ClassifierLoss):
    """Cross-entropy on ID samples plus `weight` times that to the uniform distribution on outliers.

    `loss = H(q, p_in) + weight * H(U, p_out)`, equation 1 of Lee & Cheon 2020, "Soft labeling affects
    out-of-distribution detection of deep neural networks", after Hendrycks et al. 2019, "Deep anomaly detection with
    outlier exposure". `H(q, p_in)` is the mean over the ID samples of the batch, with labels smoothed as in
    `kls.SmoothedCE`, and `H(U, p_out) = -(1/K) sum_j log p_j` the mean over its outliers, whatever the two counts. A
    term without samples is 0. Under `tf.distribute` both are means over the global batch, however its outliers fall
    to the replicas.

    Args:
        gamma: Float in (1/K, 1]: the probability of the true class. K is known when the loss is first computed.
        weight: Finite float of at least 0: the weight of the outliers' term.
        from_logits: Whether `y_pred` are logits, as in `kls.SmoothedCE`.
        reduction: As in `keras.losses.Loss`. The mean over the batch, which is the default, gives the formula.
        name: Optional name.
        dtype: Dtype of the computation, `"float32"` or `"float64"`; `keras.backend.floatx()` by default.

    Call arguments:
        y_true: Class indices of shape `(N,)` or `(N, 1)`, -1 for an outlier.
        y_pred: Shape `(N, K)`.
        sample_weight: Optional weights that multiply the losses per sample; the counts stay those of the samples.

    Returns:
        One loss in nats per sample, shape `(N,)`, before the reduction: `N / N_in` times the cross-entropy of a
        ID sample, `weight * N / N_out` times that of an outlier.

    Raises:
        ValueError: If `gamma` is outside (1/K, 1], if `weight` is negative or not finite, if the shapes do not fit,
            if a label is neither -1 nor one of 0..K-1, or if `y_pred` are no probabilities. Compiled code is as with
            `kls.SmoothedCE`.

    Example:

    >>> loss = OutlierExposure(weight=0.5)
    >>> round(float(loss([0, -1, -1], [[0.8, 0.2], [0.5, 0.5], [0.9, 0.1]])), 4)
    0.6974

    Usage with `compile()`, which takes the accuracy of the ID samples:

    ```python
    loss = kls.OutlierExposure(gamma=0.9)
    model.compile(optimizer="adam", loss=loss, metrics=[kls.metrics.IDAccuracy()])
    ```
    """

    def __init__(
        self,
        gamma=1.0,
        weight=0.5,
        from_logits=False,
        reduction="sum_over_batch_size",
        name="outlier_exposure",
        dtype=None,
    ):
        super().__init__(from_logits, reduction, name, dtype)
        self.gamma = check_number(gamma, "gamma", "(0, 1]")
        self.weight = check_number(weight, "weight", "[0, inf)")

    def call(self, y_true, y_pred):
        y_true, y_pred = ops.convert_to_tensor(y_true), ops.convert_to_tensor(y_pred)
        if not holds_indices(y_true, y_pred):
            raise ValueError(
                "`y_true` must hold class indices of shape (N,) or (N, 1), -1 for an outlier. "
                f"Received: y_true.shape={tuple(y_true.shape)}, y_pred.shape={tuple(y_pred.shape)}"
            )
        classes = y_pred.shape[-1]
        a, b = smoothing_weights(self.gamma, classes)
        log_p = log_probabilities(y_pred, self.from_logits)
        labels = squeeze_indices(y_true, y_pred)
        outlier = labels == -1
        labels = ops.where(outlier, ops.zeros_like(labels), labels)
        true_term = _gather_true_class(log_p, labels, besides=", or -1 for an outlier")
        id_loss = _smoothed_cross_entropy(a, b, true_term, log_p)
        outlier_loss = ops.zeros_like(id_loss)
        if self.weight != 0:
            outlier_loss = -self.weight / classes * ops.sum(log_p, axis=-1)
        id_factor, outlier_factor = _factors_of_means(outlier, log_p.dtype)
        return ops.where(outlier, outlier_factor * outlier_loss, id_factor * id_loss)

    def get_config(self):
        return {**super().get_config(), "gamma": self.gamma, "weight": self.weight, "from_logits": self.from_logits}


@keras.saving.register_keras_serializable(package="kls")
class KnowledgeDistillation(ClassifierLoss):
    """Cross-entropy to the label mixed with that to the teachers' distributions at a temperature.

    `loss = (1 - alpha) H(q, p) + alpha H(p_teacher, p)`, equation 5 of Lee & Cheon 2020, "Soft labeling affects
    out-of-distribution detection of deep neural networks", after Hinton et al. 2015, "Distilling the knowledge in a
    neural network". In the second term both distributions are `softmax(logits / temperature)`; the first is at
    temperature 1. Of T teachers `p_teacher` is the mean of their distributions. `kls.Distiller` runs the teachers and
    trains a student with this loss.

    Cross-entropy is linear in its target. So the sum over the teachers `sum_t H(p_t, p)` (multiple teachers, MT, of the
    label distribution learning paper, section 3.2) is exactly T times the cross-entropy to their mean (teacher
    ensemble, En): `reduce_teachers="sum"` is to weigh the teachers' term T times as much, which makes the step on that
    term T times as large, while weight decay and the label's term stay as they are.

    Whose values: 0.1 at temperature 3 is the distillation of the label distribution learning paper. Mueller et al.
    2019, "When does label smoothing help?", to whom Lee & Cheon refer, take the teacher's output alone (1.0), and
    equation 5 has no temperature (1.0), which is what `benchmarks.ood` trains with.

    Args:
        alpha: Float in [0, 1]: the weight of the teachers' term.
        temperature: Finite float above 0.
        from_logits: Whether `y_pred` are logits. By default they are probabilities, taken as in `kls.SmoothedCE`; their
            logarithms are divided by the temperature.
        scale_by_temperature: Whether to multiply the teachers' term by the square of the temperature, as Hinton et
            al. do to keep the size of its gradients.
        reduce_teachers: `"mean"` of the cross-entropies to the teachers' distributions, or their `"sum"`.
        reduction: As in `keras.losses.Loss`.
        name: Optional name.
        dtype: Dtype of the computation, `"float32"` or `"float64"`; `keras.backend.floatx()` by default.

    Call arguments:
        y_true: Shape `(N, (1 + T) K)`, from `kls.pack_teacher(labels, teacher_logits)`.
        y_pred: Shape `(N, K)`.

    Returns:
        One loss in nats per sample, shape `(N,)`, before the reduction.

    Raises:
        ValueError: If `alpha` is outside [0, 1], if `temperature` is not above 0 and finite, if `reduce_teachers` is
            something else, if the shapes do not fit, or if labels or `y_pred` are no distributions. Compiled code is as
            with `kls.SmoothedCE`.

    Example:

    >>> loss = KnowledgeDistillation(alpha=0.5, temperature=2.0, from_logits=True)
    >>> one_hot, teacher_logits = [1.0, 0.0], [2.0, 0.0]
    >>> round(float(loss([one_hot + teacher_logits], [[4.0, 0.0]])), 4)
    0.3415
    """

    def __init__(
        self,
        alpha=0.1,
        temperature=3.0,
        from_logits=False,
        scale_by_temperature=False,
        reduce_teachers="mean",
        reduction="sum_over_batch_size",
        name="knowledge_distillation",
        dtype=None,
    ):
        super().__init__(from_logits, reduction, name, dtype)
        self.alpha = check_number(alpha, "alpha", "[0, 1]")
        self.temperature = check_number(temperature, "temperature", "(0, inf)")
        self.scale_by_temperature = check_bool(scale_by_temperature, "scale_by_temperature")
        self.reduce_teachers = check_choice(reduce_teachers, "reduce_teachers", ("mean", "sum"))

    def call(self, y_true, y_pred):
        label, teachers, log_p = _distillation_parts(y_true, y_pred, self.from_logits)
        if self.alpha == 0:
            return label_cross_entropy(label, log_p)
        if self.alpha == 1:
            return self._teacher_term(teachers, log_p)
        return (1 - self.alpha) * label_cross_entropy(label, log_p) + self.alpha * self._teacher_term(teachers, log_p)

    def _teacher_term(self, teachers, log_p):
        scale = self.temperature**2 if self.scale_by_temperature else 1.0
        count = len(teachers) if self.reduce_teachers == "sum" else 1
        return scale * count * _tempered_cross_entropy(teachers, log_p, self.temperature)

    def get_config(self):
        return {
            **super().get_config(),
            "alpha": self.alpha,
            "temperature": self.temperature,
            "from_logits": self.from_logits,
            "scale_by_temperature": self.scale_by_temperature,
            "reduce_teachers": self.reduce_teachers,
        }


@keras.saving.register_keras_serializable(package="kls")
class WeightedSoftLabels(ClassifierLoss):
    """Cross-entropy to the label plus that to the teacher's distribution, which counts where the teacher is better.

    `loss = H(q, p) + alpha w temperature^2 H(p_teacher, p)` with `w = 1 - exp(-H(q, p) / H(q, p_teacher))`, Zhou et al.
    2021, "Rethinking soft labels for knowledge distillation: a bias-variance tradeoff perspective". In the last term
    both distributions are at the temperature, in the others at 1. `w` is near 1 where the teacher's loss on the label
    is small beside the student's, and near 0 where it is large; no gradient flows through it, and 1e-7 is added to its
    denominator, both as in the authors' code (`knowledge_distiller.py`). Of several teachers `p_teacher` is the mean of
    their distributions.

    Whose values: the authors' code, which is for ImageNet, has `alpha=2.5` at temperature 2. The defaults are meant
    for CIFAR-100, for which they published no code that would confirm them.

    Args:
        alpha: Finite float of at least 0: the weight of the teachers' term.
        temperature: Finite float above 0.
        from_logits: Whether `y_pred` are logits, as in `kls.KnowledgeDistillation`.
        reduction: As in `keras.losses.Loss`.
        name: Optional name.
        dtype: Dtype of the computation, `"float32"` or `"float64"`; `keras.backend.floatx()` by default.

    Call arguments:
        y_true: Shape `(N, (1 + T) K)`, from `kls.pack_teacher(labels, teacher_logits)`.
        y_pred: Shape `(N, K)`.

    Returns:
        One loss in nats per sample, shape `(N,)`, before the reduction.

    Raises:
        ValueError: If `alpha` is negative or not finite, if `temperature` is not above 0 and finite, if the shapes do
            not fit, or if labels or `y_pred` are no distributions. Compiled code is as with `kls.SmoothedCE`.

    Example:

    >>> loss = WeightedSoftLabels(alpha=2.5, temperature=2.0, from_logits=True)
    >>> one_hot, teacher_logits = [1.0, 0.0], [2.0, 0.0]
    >>> round(float(loss([one_hot + teacher_logits], [[4.0, 0.0]])), 4)
    0.9039
    """

    def __init__(
        self,
        alpha=2.25,
        temperature=4.0,
        from_logits=False,
        reduction="sum_over_batch_size",
        name="weighted_soft_labels",
        dtype=None,
    ):
        super().__init__(from_logits, reduction, name, dtype)
        self.alpha = check_number(alpha, "alpha", "[0, inf)")
        self.temperature = check_number(temperature, "temperature", "(0, inf)")

    def call(self, y_true, y_pred):
        label, teachers, log_p = _distillation_parts(y_true, y_pred, self.from_logits)
        label_loss = label_cross_entropy(label, log_p)
        log_teachers = ops.log_softmax(ops.stack(teachers), axis=-1)
        log_teacher = ops.logsumexp(log_teachers, axis=0) - math.log(len(teachers))
        ratio = label_loss / (_cross_entropy(label, log_teacher) + 1e-7)
        weight = ops.stop_gradient(1 - ops.exp(-ratio))
        soft_loss = self.temperature**2 * _tempered_cross_entropy(teachers, log_p, self.temperature)
        return label_loss + self.alpha * weight * soft_loss

    def get_config(self):
        return {
            **super().get_config(),
            "alpha": self.alpha,
            "temperature": self.temperature,
            "from_logits": self.from_logits,
        }


@keras.saving.register_keras_serializable(package="kls")
class FocalStd(ClassifierLoss):
    """Cross-entropy with a penalty on confident wrong scores, and one on uneven scores of wrong predictions.

    `loss = L_focal + std_weight * L_std`, equations 3 and 4 of Song, "Deep Learning Lab final project report", Yonsei
    University:

    - `L_focal = -log p_t - k sum_{i != t} p_i log(1 - p_i)` for the true class `t`. The printed minus sign is taken to
      stand before the whole sum, so both terms are penalties. Unlike the focal loss of Lin et al. 2017, which weighs
      down easy samples, it adds to the loss of confident errors.
    - `L_std = 1[t != argmax p] std(p)` with the standard deviation over the K classes, `sqrt(mean_i (p_i - 1/K)^2)`.
      The paper does not say whether it divides by K or by K - 1. The indicator carries no gradient.

    Equation 4 is printed with a minus sign, which rewards wrong predictions for being uneven. The text wants the
    opposite ("making the scores even", "evenly-low scores for difficult samples"), and so does this loss unless
    `as_printed`.

    Equation 3 is linear in the label, so distributions q are taken as well as class indices:
    `L_focal = -sum_i q_i log p_i - k sum_i (1 - q_i) p_i log(1 - p_i)`, and `t = argmax q` in equation 4. `k=0` and
    `std_weight=0` make it categorical cross-entropy.

    Whose values: `k=1` is the paper's ("k around 1", section 3.3). Its Figure 4 shows coefficients of 0, 1 and 5, of
    which `std_weight=1` is one; its text warns that too large a coefficient of the deviation costs accuracy.

    Args:
        k: Finite float of at least 0: the weight of the wrong classes' scores.
        std_weight: Finite float of at least 0: the weight of the standard deviation.
        from_logits: Whether `y_pred` are logits. By default they are probabilities, taken as in `kls.SmoothedCE`;
            `1 - p` is clipped at epsilon too. From logits, `log(1 - p)` is right even where softmax rounds `p` to 1.
        as_printed: Whether to subtract the standard deviation, as equation 4 is printed.
        reduction: As in `keras.losses.Loss`.
        name: Optional name.
        dtype: Dtype of the computation, `"float32"` or `"float64"`; `keras.backend.floatx()` by default.

    Call arguments:
        y_true: Class indices of shape `(N,)` or `(N, 1)`, or distributions of shape `(N, K)`. Further leading axes
            (dense predictions) are allowed in both arguments alike.
        y_pred: Shape `(N, K)`.

    Returns:
        One loss per sample, shape `(N,)`, before the reduction: `L_focal` in nats, `L_std` a difference of
        probabilities.

    Raises:
        ValueError: If `k` or `std_weight` is negative or not finite, if the shapes do not fit, if a class index is not
            one of 0..K-1, or if a row is no distribution. Compiled code is as with `kls.SmoothedCE`.

    Example:

    >>> loss = FocalStd(k=1.0, std_weight=1.0)
    >>> round(float(loss([0], [[0.2, 0.7, 0.1]])), 4)
    2.7252

    Usage with `compile()`:

    ```python
    model.compile(optimizer="adam", loss=kls.FocalStd(from_logits=True), metrics=["accuracy"])
    ```
    """

    def __init__(
        self,
        k=1.0,
        std_weight=1.0,
        from_logits=False,
        as_printed=False,
        reduction="sum_over_batch_size",
        name="focal_std",
        dtype=None,
    ):
        super().__init__(from_logits, reduction, name, dtype)
        self.k = check_number(k, "k", "[0, inf)")
        self.std_weight = check_number(std_weight, "std_weight", "[0, inf)")
        self.as_printed = check_bool(as_printed, "as_printed")

    def call(self, y_true, y_pred):
        y_true, y_pred = ops.convert_to_tensor(y_true), ops.convert_to_tensor(y_pred)
        indices = holds_indices(y_true, y_pred)
        classes = y_pred.shape[-1]
        log_p = log_probabilities(y_pred, self.from_logits)
        if indices:
            labels = squeeze_indices(y_true, y_pred)
            cross_entropy = -_gather_true_class(log_p, labels)
            besides = ops.cast(ops.expand_dims(labels, -1) != ops.arange(classes, dtype=labels.dtype), log_p.dtype)
        else:
            labels = ops.cast(ops.argmax(y_true, axis=-1), log_p.dtype)
            cross_entropy = label_cross_entropy(y_true, log_p)
            besides = 1 - y_true
        p = ops.exp(log_p)
        wrong_scores = -ops.sum(besides * p * _log_complements(y_pred, self.from_logits), axis=-1)
        wrong = ops.cast(labels != ops.cast(ops.argmax(log_p, axis=-1), labels.dtype), log_p.dtype)
        std_weight = -self.std_weight if self.as_printed else self.std_weight
        return cross_entropy + self.k * wrong_scores + std_weight * wrong * _deviation_from_uniform(p)

    def get_config(self):
        return {
            **super().get_config(),
            "k": self.k,
            "std_weight": self.std_weight,
            "from_logits": self.from_logits,
            "as_printed": self.as_printed,
        }


def _distillation_parts(y_true, y_pred, from_logits):
    """Returns label distributions, a list of each teacher's logits, and the log-probabilities of predictions."""
    y_true, y_pred = ops.convert_to_tensor(y_true), ops.convert_to_tensor(y_pred)
    label, teachers = unpack_teacher(y_true, y_pred)
    return label, teachers, log_probabilities(y_pred, from_logits)


def label_cross_entropy(y_true, log_p):
    """Returns `-sum_k q_k log p_k` of label distributions q, NaN where a row is none.

    Args:
        y_true: Shape `(..., K)`.
        log_p: Likewise.

    Raises:
        ValueError: If a row is no distribution. Compiled code cannot raise.
    """
    return ops.where(known_distributions(y_true), _cross_entropy(y_true, log_p), float("nan"))


def _cross_entropy(target, log_p):
    return -ops.sum(target * log_p, axis=-1)


def _tempered_cross_entropy(teachers, log_p, temperature):
    """Returns the cross-entropy to the mean of the teachers' distributions, all at the temperature."""
    logits = ops.stack(teachers)
    tempered = ops.softmax(logits / temperature, axis=-1)
    target = ops.sum(tempered, axis=0) / len(teachers)  # on JAX Keras takes means of float64 in float32
    value = _cross_entropy(target, ops.log_softmax(log_p / temperature, axis=-1))
    unknown = ops.any(ops.isnan(logits), axis=(0, -1))  # XLA's `exp` makes a number of NaN on some processors
    return ops.where(unknown, float("nan"), value)


def log_probabilities(y_pred, from_logits, name="y_pred"):
    """Returns log-probabilities of logits, or of probabilities as Keras's own cross-entropy takes them.

    Args:
        y_pred: Shape `(..., K)`.
        from_logits: Whether `y_pred` are logits. If not, a row that can be no probabilities gives NaN.
        name: What the error calls `y_pred`.

    Raises:
        ValueError: If there is such a row: see `kls.targets.known_probabilities`, also for compiled code.
    """
    logits = _logits_of(y_pred, from_logits)
    if logits is not None:
        log_p = ops.log_softmax(logits, axis=-1)
    else:
        epsilon = keras.config.epsilon()
        probabilities = y_pred / ops.sum(y_pred, axis=-1, keepdims=True)
        log_p = ops.log(ops.clip(probabilities, epsilon, 1 - epsilon))
    if from_logits:
        return log_p
    known = known_probabilities(y_pred, name)  # also where logits are known: they may be those of a sigmoid
    return ops.where(ops.expand_dims(known, -1), log_p, float("nan"))


def _logits_of(y_pred, from_logits):
    """Returns the logits of predictions, or `None` where only probabilities are known.

    Keras leaves the logits on the output of a softmax layer; like its own losses we use them where they are
    there, since the logarithm of a saturated softmax has no gradient.
    """
    return y_pred if from_logits else getattr(y_pred, "_keras_logits", None)


def _log_complements(y_pred, from_logits):
    """Returns `log(1 - p)` of every class.

    Of a class above 1/2, whose softmax may be rounded to 1, it is the logarithm of what the others sum to; at most 1/2,
    `log1p(-p)` loses nothing.
    """
    logits = _logits_of(y_pred, from_logits)
    if logits is None:
        p = y_pred / ops.sum(y_pred, axis=-1, keepdims=True)
        return ops.log(ops.clip(1 - p, keras.config.epsilon(), 1))
    log_p = ops.log_softmax(logits, axis=-1)
    p = ops.exp(log_p)
    likely = p > 0.5
    none = ops.full_like(log_p, -1e30)  # not -inf, whose gradient is NaN where the other logits are -inf as well
    log_rest = ops.logsumexp(ops.where(likely, none, log_p), axis=-1, keepdims=True)
    return ops.where(likely, log_rest, ops.log1p(-ops.where(likely, ops.zeros_like(p), p)))


def _deviation_from_uniform(p):
    """Returns the standard deviation of probabilities over the classes.

    Where they are uniform but for rounding, it and its gradient are 0: there the root would lend the rounding errors a
    gradient as large as any.
    """
    uniform = 1 / p.shape[-1]
    variance = uniform * ops.sum(ops.square(p - uniform), axis=-1)  # on JAX Keras takes means of float64 in float32
    uneven = variance > (1e-6 * uniform) ** 2
    root = ops.sqrt(ops.where(uneven, variance, ops.ones_like(variance)))
    return ops.where(uneven, root, ops.zeros_like(root))


def _gather_true_class(log_p, labels, besides=""):
    indices, known = known_indices(labels, log_p.shape[-1], besides)
    true_term = ops.squeeze(ops.take_along_axis(log_p, ops.expand_dims(indices, -1), axis=-1), axis=-1)
    return ops.where(known, true_term, ops.full_like(true_term, float("nan")))


def _smoothed_cross_entropy(a, b, true_term, log_p, mass=1.0):
    if isinstance(b, float) and b == 0:
        return -true_term
    return -(a * true_term + b * mass * ops.sum(log_p, axis=-1))


def _factors_of_means(outlier, dtype):
    """Returns `N / N_in` and `N / N_out`, which make the mean over a batch those over its two parts.

    Keras divides each replica's sum by its own number of samples and by the number of replicas, so that their product
    takes the place of `N`; the counts below are those of the global batch.
    """
    counts = ops.stack([ops.sum(ops.cast(part, dtype)) for part in (ops.logical_not(outlier), outlier)])
    samples, totals = ops.sum(counts), counts
    if keras.backend.backend() == "tensorflow":
        import tensorflow as tf

        replicas = tf.distribute.get_replica_context()
        if replicas is not None and replicas.num_replicas_in_sync > 1:
            samples = replicas.num_replicas_in_sync * samples
            totals = replicas.all_reduce(tf.distribute.ReduceOp.SUM, counts)
    factors = samples / ops.maximum(totals, 1)
    return factors[0], factors[1]
