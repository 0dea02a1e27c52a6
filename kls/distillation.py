"""Training a student on its teachers' softened outputs."""

import math
from types import SimpleNamespace

import keras
from keras import ops

from kls.losses import KnowledgeDistillation, log_probabilities
from kls.targets import pack_teacher, shapes_fit


class Distiller(keras.Model):
    """Trains a student with `kls.KnowledgeDistillation`, which it compiles with itself.

    The teachers run once per batch, in inference mode, on the same images as the student, and stay as they are. They
    are no part of the model: its variables are the student's. `fit` and `evaluate` take labels as for the student
    alone; metrics compare these with the student's outputs. Save `distiller.student`.

    Args:
        student: Keras model to train, which maps images to outputs of shape `(N, K)`.
        teachers: Trained Keras model of the same inputs and classes, or a list of such models; of several, the mean of
            their distributions at `temperature` is taken.
        alpha: Float in [0, 1]: the weight of the teachers' term.
        temperature: Finite float above 0.
        from_logits: Whether student and teachers return logits. By default all return probabilities.
        scale_by_temperature: Whether to multiply the teachers' term by the square of the temperature.

    Raises:
        ValueError: If there is no teacher, if a teacher's inputs or classes are not the student's, or if `alpha` or
            `temperature` is out of its range.

    Example:

    ```python
    distiller = kls.Distiller(student, teacher, alpha=0.1, temperature=3.0)
    distiller.compile("adam", metrics=["accuracy"])
    distiller.fit(images, labels, epochs=10)
    distiller.student.save("student.keras")
    ```
    """

    def __init__(self, student, teachers, alpha=0.1, temperature=3.0, from_logits=False, scale_by_temperature=False):
        super().__init__(dtype=student.dtype_policy)
        teachers = teachers if isinstance(teachers, (list, tuple)) else [teachers]
        if not teachers:
            raise ValueError(f"`teachers` must be a model or a list of at least one. Received: {teachers}")
        for teacher in teachers:
            _check_tensors(student, teacher, "inputs")
            _check_tensors(student, teacher, "outputs")
        self.student = student
        self.temperature = float(temperature)
        self.from_logits = from_logits
        self._objective = KnowledgeDistillation(alpha, temperature, from_logits, scale_by_temperature)
        # Keras tracks models in attributes, lists and dictionaries, and does not look into other objects
        self._untracked = SimpleNamespace(teachers=teachers)
        self.built = student.built

    def compile(self, optimizer="rmsprop", loss=None, **kwargs):
        """Configures training; the loss is set already.

        Args:
            optimizer: As in `keras.Model.compile`.
            loss: Must be left out.
            **kwargs: Further arguments of `keras.Model.compile`, such as `metrics`.

        Raises:
            ValueError: If a loss is given.
        """
        if loss is not None:
            raise ValueError(
                "`loss` must be left out: a Distiller trains with `kls.KnowledgeDistillation`, to which its own "
                f"arguments go. Received: loss={loss}"
            )
        super().compile(optimizer, loss=self._objective, **kwargs)

    def call(self, inputs, training=None):
        return self.student(inputs, training=training)

    def compute_loss(self, x=None, y=None, y_pred=None, sample_weight=None, training=True):
        packed = pack_teacher(y, self._teacher_logits(x, y_pred))
        return super().compute_loss(x, packed, y_pred, sample_weight, training)

    def _teacher_logits(self, x, y_pred):
        """Returns logits whose softmax at the temperature is the mean of the teachers' softmax at it."""
        tempered = []
        for teacher in self._untracked.teachers:
            outputs = ops.cast(teacher(x, training=False), keras.config.floatx())
            _check_shapes(self.student, [y_pred.shape], teacher, [outputs.shape], "outputs")
            log_p = log_probabilities(outputs, self.from_logits)
            tempered.append(ops.log_softmax(log_p / self.temperature, axis=-1))
        log_mean = ops.logsumexp(ops.stack(tempered), axis=0) - math.log(len(tempered))
        return ops.stop_gradient(self.temperature * log_mean)

    def get_config(self):
        raise NotImplementedError("A Distiller is not saved, as its teachers' weights would not be: save `.student`.")


def _check_tensors(student, teacher, kind):
    """Compares symbolic inputs or outputs, which subclassed models and models not yet built do not have."""
    tensors = [getattr(model, kind, None) for model in (student, teacher)]
    if None not in tensors:
        ours, theirs = ([tensor.shape for tensor in part] for part in tensors)
        _check_shapes(student, ours, teacher, theirs, kind)


def _check_shapes(student, ours, teacher, theirs, kind):
    if len(ours) != len(theirs) or not all(map(shapes_fit, ours, theirs)):
        raise ValueError(
            f"`student` and `teachers` must have {kind} of the same shape. "
            f"Received: student {student.name!r} with {_shown(ours)}, teacher {teacher.name!r} with {_shown(theirs)}"
        )


def _shown(shapes):
    return ", ".join(str(tuple(shape)) for shape in shapes)
