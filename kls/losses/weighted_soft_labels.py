"""Cross-entropy to labels and, where the teacher is better, to the teacher's distribution."""

import math

import keras
from keras import ops

from kls.losses.base import ClassifierLoss, cross_entropy, label_cross_entropy, log_probabilities
from kls.losses.teachers import tempered_cross_entropy, unpack_teacher
from kls.utils.arrays import check_number


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
        label, teachers = unpack_teacher(y_true, y_pred)
        log_p = log_probabilities(y_pred, self.from_logits)
        label_loss = label_cross_entropy(label, log_p)
        log_teachers = ops.log_softmax(ops.stack(teachers), axis=-1)
        log_teacher = ops.logsumexp(log_teachers, axis=0) - math.log(len(teachers))
        ratio = label_loss / (cross_entropy(label, log_teacher) + 1e-7)
        weight = ops.stop_gradient(1 - ops.exp(-ratio))
        soft_loss = self.temperature**2 * tempered_cross_entropy(teachers, log_p, self.temperature)
        return label_loss + self.alpha * weight * soft_loss
