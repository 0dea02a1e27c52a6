"""Cross-entropy to labels and to teachers' distributions."""

import keras

from kls.losses.base import ClassifierLoss, label_cross_entropy, log_probabilities
from kls.losses.teachers import tempered_cross_entropy, unpack_teacher
from kls.utils.arrays import check_bool, check_choice, check_number


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
        label, teachers = unpack_teacher(y_true, y_pred)
        log_p = log_probabilities(y_pred, self.from_logits)
        if self.alpha == 0:
            return label_cross_entropy(label, log_p)
        if self.alpha == 1:
            return self._teacher_term(teachers, log_p)
        return (1 - self.alpha) * label_cross_entropy(label, log_p) + self.alpha * self._teacher_term(teachers, log_p)

    def _teacher_term(self, teachers, log_p):
        scale = self.temperature**2 if self.scale_by_temperature else 1.0
        count = len(teachers) if self.reduce_teachers == "sum" else 1
        return scale * count * tempered_cross_entropy(teachers, log_p, self.temperature)
