"""Contrastive distillation: a student's features matched to its teacher's against those of other classes' samples."""

import math

import keras
import numpy as np
from keras import ops

from kls.utils.arrays import as_numbers, check_number, check_whole
from kls.utils.tensors import known_indices, real_numbers, shapes_fit


@keras.saving.register_keras_serializable(package="kls")
class ContrastiveDistillation(keras.layers.Layer):
    """Contrastive loss between a student's and a teacher's features of the same samples (CRD).

    Tian, Krishnan & Isola 2020, "Contrastive representation distillation" (equation 18), after the authors' code
    (`HobbitLong/RepDistiller`, mode `exact`). Student and teacher features are embedded, `v = W f + b` divided by its
    norm, and two memory banks hold the last embeddings `m` of all M training samples. Of a sample's student embedding
    `v` the teacher's bank gives one positive (the sample itself) and `negatives` others (K of them), drawn without
    replacement from the samples of other classes:

    `P_j = exp(v . m_j / temperature) / Z` and
    `L = -log(P_0 / (P_0 + K / M)) - sum_j log((K / M) / (P_j + K / M))`, j = 1..K.

    The loss is `weight (L_student + L_teacher)`, the second term with the two in each other's place. `Z`, one for each
    direction, is M times the mean of `exp(v . m_j / temperature)` over the first training batch. After the loss, the
    rows of the batch become `momentum m + (1 - momentum) v`, divided by its norm.

    Build the layer before `fit`, or call it once, since compiled code cannot make variables. Without `training=True` it
    gives the loss and updates nothing. Rows must differ within a batch, and banks are those of one replica.

    What it costs: the banks hold `2 M dimension` numbers (51 MB for 50,000 samples), and a batch of N samples needs a
    few matrices of `N M` numbers (13 MB each for N = 64): all similarities are computed and the drawn ones taken from
    them, which needs less than gathering `N K dimension` numbers (537 MB for each bank) as the authors' code does.

    Args:
        labels: Class index of each of the M training samples, shape `(M,)`; `rows` count in this order.
        dimension: Length of the embeddings.
        negatives: K, at most M less the samples of the largest class.
        temperature: Finite float of at least 0.02, below which similarities overflow float32.
        momentum: Float in [0, 1): what a row of a bank keeps of itself.
        weight: Finite float of at least 0, the authors' `beta`.
        seed: Integer from which the initial embeddings and banks and all negatives are drawn; `None` takes one at
            random.
        dtype: Dtype of weights and computation. In half precision similarities are too coarse to be exponentiated.
        **kwargs: As in `keras.layers.Layer`.

    Call arguments:
        student_features: Shape `(N, D)`, the inputs of the student's last layer.
        teacher_features: Shape `(N, D')`, likewise of the teacher.
        rows: Integers of shape `(N,)`: which of the M samples the batch holds.
        training: Whether to estimate `Z`, if it is not known yet, and to update the banks.

    Returns:
        One loss in nats per sample, shape `(N,)`.

    Raises:
        ValueError: If `labels` are not class indices of two classes at least, if a number is out of its range, if
            features or `rows` are of another shape or no real numbers, or if a row is not one of 0..M-1. Compiled code
            cannot raise for the last: there the loss of such a sample is NaN.

    Example:

    >>> contrast = ContrastiveDistillation(labels=[0, 0, 1, 1], dimension=8, negatives=2, seed=0)
    >>> tuple(contrast(ops.ones((3, 16)), ops.ones((3, 32)), rows=ops.array([3, 0, 1])).shape)
    (3,)
    """

    def __init__(
        self,
        labels,
        dimension=128,
        negatives=16384,
        temperature=0.07,
        momentum=0.5,
        weight=0.8,
        seed=None,
        dtype="float32",
        **kwargs,
    ):
        super().__init__(dtype=dtype, **kwargs)
        self.labels = _as_labels(labels)
        _, sizes = np.unique(self.labels, return_counts=True)
        self.dimension = check_whole(dimension, "dimension", 1)
        self.negatives = check_whole(negatives, "negatives", 1, len(self.labels) - sizes.max())
        self.temperature = check_number(temperature, "temperature", "[0.02, inf)")
        self.momentum = check_number(momentum, "momentum", "[0, 1)")
        self.weight = check_number(weight, "weight", "[0, inf)")
        self.seed = seed
        self.seed_generator = keras.random.SeedGenerator(seed)
        self.student_embedding, self.teacher_embedding = (
            keras.layers.Dense(
                self.dimension,
                kernel_initializer=keras.initializers.GlorotUniform(self.seed_generator),
                dtype=self.dtype_policy,
                name=f"{name}_embedding",
            )
            for name in ("student", "teacher")
        )

    def __call__(self, student_features, teacher_features, rows, **kwargs):
        given = {"student_features": student_features, "teacher_features": teacher_features, "rows": rows}
        return super().__call__(*(real_numbers(values, name) for name, values in given.items()), **kwargs)

    def build(self, student_features_shape, teacher_features_shape, rows_shape):
        for name, shape in (("student_features", student_features_shape), ("teacher_features", teacher_features_shape)):
            if len(shape) != 2:
                raise ValueError(f"`{name}` must be of shape (N, D). Received: shape {tuple(shape)}")
        self.student_embedding.build(student_features_shape)
        self.teacher_embedding.build(teacher_features_shape)
        bound = math.sqrt(3 / self.dimension)  # rows of a mean square length of 1
        self.student_bank, self.teacher_bank = (
            self.add_weight(
                shape=(len(self.labels), self.dimension),
                initializer=keras.initializers.RandomUniform(-bound, bound, self.seed_generator),
                trainable=False,
                name=f"{name}_bank",
            )
            for name in ("student", "teacher")
        )
        self.student_z, self.teacher_z = (
            self.add_weight(shape=(), initializer="zeros", trainable=False, name=f"{name}_z")
            for name in ("student", "teacher")
        )

    def call(self, student_features, teacher_features, rows, training=None):
        if not shapes_fit(rows.shape, student_features.shape[:1]):
            raise ValueError(
                "`rows` must be of shape (N,) for `student_features` of shape (N, D). "
                f"Received: shapes {tuple(rows.shape)} and {tuple(student_features.shape)}"
            )
        rows, known = known_indices(ops.cast(rows, "float32"), len(self.labels), name="rows", kind="sample")
        student = ops.normalize(self.student_embedding(student_features))
        teacher = ops.normalize(self.teacher_embedding(teacher_features))
        drawn = ops.concatenate([ops.expand_dims(rows, 1), self.draw_negatives(rows)], axis=1)
        loss = self._loss(student, self.teacher_bank, drawn, self.student_z, training)
        loss = loss + self._loss(teacher, self.student_bank, drawn, self.teacher_z, training)
        if training:
            self._update(self.student_bank, rows, student)
            self._update(self.teacher_bank, rows, teacher)
        return self.weight * ops.where(known, loss, float("nan"))

    def draw_negatives(self, rows):
        """Returns, for each sample, the numbers of `negatives` samples of other classes, no number twice.

        Args:
            rows: int32 tensor of shape `(N,)`.
        """
        labels = ops.convert_to_tensor(self.labels)
        own_class = ops.expand_dims(ops.take(labels, rows), 1) == labels
        order = keras.random.uniform(ops.shape(own_class), seed=self.seed_generator)
        return ops.top_k(ops.where(own_class, -1.0, order), self.negatives, sorted=False)[1]

    def _loss(self, embeddings, bank, drawn, z, training):
        z_so_far = ops.convert_to_tensor(z)
        similarities = ops.matmul(embeddings, ops.transpose(bank))
        powers = ops.exp(ops.take_along_axis(similarities, drawn, axis=1) / self.temperature)
        estimate = len(self.labels) * ops.mean(ops.stop_gradient(powers))
        constant = ops.where(z_so_far > 0, z_so_far, estimate)
        if training:
            z.assign(constant)
        noise = self.negatives / len(self.labels)
        p = powers / constant
        return ops.sum(ops.log(p + noise), axis=1) - ops.log(p[:, 0]) - self.negatives * math.log(noise)

    def _update(self, bank, rows, embeddings):
        mixed = self.momentum * ops.take(bank, rows, axis=0) + (1 - self.momentum) * embeddings
        bank.assign(ops.scatter_update(bank, ops.expand_dims(rows, 1), ops.normalize(mixed)))

    def get_config(self):
        return {
            **super().get_config(),
            "labels": self.labels.tolist(),
            "dimension": self.dimension,
            "negatives": self.negatives,
            "temperature": self.temperature,
            "momentum": self.momentum,
            "weight": self.weight,
            "seed": self.seed,
        }


def _as_labels(labels):
    labels = as_numbers(labels, "labels")
    low, high = labels.min(initial=0), labels.max(initial=0)
    fine = labels.ndim == 1 and labels.dtype.kind in "iu" and low >= 0 and high <= np.iinfo(np.int32).max
    if not fine or len(np.unique(labels)) < 2:
        raise ValueError(
            "`labels` must hold the class index of each training sample, shape (M,), of two classes at least. "
            f"Received: {labels.dtype} of shape {labels.shape}, from {low} to {high}"
        )
    return labels.astype(np.int32)
