"""Training a student on its teachers' softened outputs."""

from types import SimpleNamespace

import keras
import numpy as np
from keras import ops

from kls.distillation.contrastive import ContrastiveDistillation
from kls.losses import KnowledgeDistillation, SmoothedCE, WeightedSoftLabels
from kls.losses.base import log_probabilities, logits_of
from kls.losses.teachers import pack_teacher, teachers_packed
from kls.utils.arrays import check_bool, check_choice, check_number, shown
from kls.utils.compiled import random_states
from kls.utils.data import batches_of
from kls.utils.feature_extractor import Network
from kls.utils.files import atomic_write
from kls.utils.last_layer import last_layer
from kls.utils.tensors import shapes_fit


class LabelPlusTeacher:
    """`H(q, p) + alpha temperature^2 H(p_teacher, p)`, in which the label keeps its whole weight (Tian et al. 2020)."""

    def __init__(self, alpha, temperature, from_logits):
        self.alpha = check_number(alpha, "alpha", "[0, inf)")
        self.label_loss = KnowledgeDistillation(0.0, from_logits=from_logits)
        self.teacher_loss = KnowledgeDistillation(1.0, temperature, from_logits, scale_by_temperature=True)

    def call(self, y_true, y_pred):
        return self.label_loss.call(y_true, y_pred) + self.alpha * self.teacher_loss.call(y_true, y_pred)


# each mode's loss and its arguments
MODES = {
    "kd": (KnowledgeDistillation, {"alpha": 0.1, "temperature": 3.0}),
    "ensemble": (KnowledgeDistillation, {"alpha": 1.0, "temperature": 1.0}),
    "multi": (KnowledgeDistillation, {"alpha": 1.0, "temperature": 1.0, "reduce_teachers": "sum"}),
    "wsl": (WeightedSoftLabels, {"alpha": 2.25, "temperature": 4.0}),
    "crd": (LabelPlusTeacher, {"alpha": 0.0, "temperature": 4.0}),
}


class Distiller(keras.Model):
    """Trains a student on labels and on its teachers' outputs, with a loss that it compiles itself.

    The modes are those of the label distribution learning paper (LDL, figure 2), whose #1 (vanilla) and #2 (label
    smoothing) need no teacher: see `kls.SmoothedCE`.

    | mode | loss | alpha, temperature | the paper's |
    |---|---|---|---|
    | `"kd"` | `kls.KnowledgeDistillation`: the label and the mean of the teachers | 0.1, 3 | #3 KD |
    | `"ensemble"` | the mean of the teachers alone | 1, 1 | #4 Off-LDL, #5 Off-En-LDL, #7 On-LDL, #8 On-En-LDL |
    | `"multi"` | the sum over the teachers alone | 1, 1 | #6 Off-MT-LDL, #9 On-MT-LDL |
    | `"wsl"` | `kls.WeightedSoftLabels`: the label and, weighed per sample, the mean of the teachers | 2.25, 4 | WSL |
    | `"crd"` | `H(q, p) + alpha temperature^2 H(p_teacher, p)`, plus `contrast` | 0, 4 | CRD; alpha = 1: CRD+KD |

    Online (`teachers` given), each teacher runs once per batch, in inference mode and outside the gradient, on the same
    images as the student; on batches whose images are mixed that is the paper's On-LDL. Labels are those of the student
    alone. Offline (`teachers=None`), labels come with the teachers' stored logits, as `kls.pack_teacher` puts them side
    by side and `kls.teacher_logits` computes them. There labels without logits, such as those of validation data, are
    taken in evaluation: their loss is the cross-entropy to the label.

    The teachers stay as they are and are no part of the model. Its variables are the student's and the states of the
    teachers' random generators, so that a teacher that draws (`kls.monte_carlo`) goes on drawing. Metrics compare the
    student's outputs with the label, never with the teachers: of packed labels with the distribution in front, for
    which `"accuracy"` and validation on class indices do not fit together, but `kls.metrics.IDAccuracy` fits.
    `save`, `save_weights` and `load_weights` are those of the student.

    Mode `"crd"` adds `kls.ContrastiveDistillation` of the features before the last layer. It has to know which of the
    training samples a batch holds, so labels to train on are `[distribution | row]`, of shape `(N, K + 1)`, as
    `decathlon.Batches(..., appended=rows)` makes them, `rows` being 0.0, 1.0, 2.0, ... of shape `(M, 1)`. Labels
    without rows, such as those of validation data, are taken in evaluation, and their loss is without the contrast.

    The one output of a student or teacher of two classes, of shape `(N, 1)`, is the probability p of class 1, or with
    `from_logits` its logit z. The Distiller returns that of both classes, `(1 - p, p)` or `(0, z)`: losses, metrics and
    labels are those of two classes. The student that it saves has its one output.

    Args:
        student: Keras model to train, which maps images to outputs of shape `(N, K)`, or `(N, 1)` for two classes.
        teachers: Trained Keras model of the same inputs and classes, or a list of such models; `None` if the labels
            come with stored logits.
        mode: `"kd"`, `"ensemble"`, `"multi"`, `"wsl"` or `"crd"`.
        alpha: The weight of the teachers' term, as the mode's loss takes it; `None` is the mode's own.
        temperature: Finite float above 0; `None` is the mode's own.
        from_logits: Whether student and teachers return logits. By default all return probabilities.
        scale_by_temperature: Whether to multiply the teachers' term by the square of the temperature, as `"wsl"` does
            and `"crd"` do in any case.
        contrast: The `kls.ContrastiveDistillation` of mode `"crd"`, which takes one teacher. Its weights are trained
            with the student's, and the last layers of both networks must be found: see
            `kls.utils.feature_extractor.Network`.

    Raises:
        ValueError: If `mode` is none of these, if `teachers` is an empty list, if a teacher's inputs or classes are not
            the student's, if `alpha` or `temperature` is out of its range, or if `contrast` does not go with the mode
            or the networks; in `fit`, if there are neither teachers nor stored logits, or if `"crd"` is given labels
            without rows.

    Example:

    ```python
    distiller = kls.Distiller(student, [teacher, other], mode="ensemble")
    distiller.compile("adam", metrics=["accuracy"])
    distiller.fit(images, labels, epochs=10)
    distiller.save("student.keras")
    ```

    Offline, with logits that are computed once:

    ```python
    logits = kls.teacher_logits([teacher, other], images, "logits.npy")
    distiller = kls.Distiller(student, mode="ensemble")
    distiller.compile("adam", metrics=[kls.metrics.IDAccuracy()])
    distiller.fit(images, kls.pack_teacher(labels, logits), epochs=10, validation_data=(others, other_labels))
    ```
    """

    def __init__(
        self,
        student,
        teachers=None,
        mode="kd",
        alpha=None,
        temperature=None,
        from_logits=False,
        scale_by_temperature=False,
        contrast=None,
    ):
        teachers = _listed(teachers)
        for model in (student, *(teachers or [])):
            if not isinstance(model, keras.Model):
                raise ValueError(f"`student` and `teachers` must be Keras models. Received: {shown(model)}")
        if teachers == []:
            raise ValueError("`teachers` must be a model, a list of at least one, or None. Received: []")
        check_choice(mode, "mode", MODES)
        check_bool(scale_by_temperature, "scale_by_temperature")
        super().__init__(dtype=student.dtype_policy)
        for teacher in teachers or []:
            _check_tensors(student, teacher, "inputs")
            _check_tensors(student, teacher, "outputs")
        self.student = student
        self.mode = mode
        self.from_logits = from_logits
        self._distillation = _loss_of(mode, alpha, temperature, from_logits, scale_by_temperature)
        self._cross_entropy = SmoothedCE(gamma=1.0, from_logits=from_logits)
        # Keras tracks models in attributes, lists and dictionaries, and does not look into other objects
        self._untracked = SimpleNamespace(teachers=teachers)
        self._teacher_states = [state for teacher in teachers or [] for state in random_states(teacher)]
        self.contrast = contrast
        if mode == "crd" or contrast is not None:
            self._prepare_contrast(mode, teachers)
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
                "`loss` must be left out: a Distiller trains with the loss of its mode, to which its own arguments go. "
                f"Received: loss={loss}"
            )
        super().compile(optimizer, loss=self.losses_per_sample, **kwargs)

    def call(self, inputs, training=None):
        if self.contrast is None:
            return _two_classes(self.student(inputs, training=training), self.from_logits)
        self._untracked.features, outputs = self._features_and_outputs(self._untracked.student, inputs, training)
        return outputs

    def losses_per_sample(self, y_true, y_pred):
        """Returns the loss of each sample: that of the mode, or the cross-entropy to labels without logits.

        Args:
            y_true: What `kls.pack_teacher` returns, or labels.
            y_pred: The student's outputs, of shape `(N, K)` with K >= 2.
        """
        loss = self._distillation if teachers_packed(y_true, y_pred) else self._cross_entropy
        return loss.call(y_true, y_pred)

    def compute_loss(self, x=None, y=None, y_pred=None, sample_weight=None, training=True):
        if self.contrast is not None:
            return self._contrastive_loss(x, y, y_pred, sample_weight, training)
        if self._untracked.teachers:
            y = pack_teacher(y, ops.stack(self._teacher_logits(x, y_pred), axis=1))
        elif training and not teachers_packed(y, y_pred):
            raise ValueError(
                "Without `teachers`, the labels to train on must come with stored logits, in shape (N, (1 + T) K), as "
                f"`kls.pack_teacher` returns them. Received: labels of shape {tuple(y.shape)} for outputs of shape "
                f"{tuple(y_pred.shape)}"
            )
        return super().compute_loss(x, y, y_pred, sample_weight, training)

    def _contrastive_loss(self, x, y, y_pred, sample_weight, training):
        label, rows = _split_rows(y, y_pred)
        if training and rows is None:
            raise ValueError(
                "In mode 'crd' the labels to train on must be [distribution | row], of shape (N, K + 1). "
                f"Received: labels of shape {tuple(y.shape)} for outputs of shape {tuple(y_pred.shape)}"
            )
        features, outputs = self._features_and_outputs(self._untracked.teacher, x, training=False)
        logits = log_probabilities(ops.cast(outputs, keras.config.floatx()), self.from_logits, "teacher_outputs")
        packed = pack_teacher(label, ops.stop_gradient(logits))
        loss = super().compute_loss(x, packed, y_pred, sample_weight, training)
        if not training:
            return loss
        contrast = self.contrast(self._untracked.features, ops.stop_gradient(features), rows, training=True)
        if sample_weight is not None:
            contrast = contrast * ops.cast(ops.reshape(sample_weight, (-1,)), contrast.dtype)
        return loss + ops.cast(ops.mean(contrast), loss.dtype)

    def _prepare_contrast(self, mode, teachers):
        """Takes both networks apart, and builds the contrast, whose variables compiled code cannot make."""
        if mode != "crd" or not isinstance(self.contrast, ContrastiveDistillation) or len(teachers or []) != 1:
            raise ValueError(
                "`mode='crd'` needs one teacher and, as `contrast`, a `kls.ContrastiveDistillation`, which other modes "
                f"do not take. Received: mode={mode!r}, contrast={shown(self.contrast)}, {len(teachers or [])} teachers"
            )
        if keras.backend.backend() == "tensorflow":
            import tensorflow as tf

            if tf.distribute.get_strategy().num_replicas_in_sync > 1:
                raise ValueError("`mode='crd'` keeps the memory of one replica. Received: a strategy of several")
        parts = [last_layer(network) for network in (self.student, teachers[0])]
        if None in parts:
            raise ValueError(
                "`mode='crd'` needs functional or Sequential networks that end in a Dense layer or a 1x1 convolution. "
                f"Received: student {self.student.name!r}, teacher {teachers[0].name!r}"
            )
        self._untracked.student, self._untracked.teacher = parts
        if not self.contrast.built:
            self.contrast.build(*(last.trunk.outputs[0].shape for last in parts), (None,))

    def _features_and_outputs(self, last, inputs, training):
        """Returns the features before a network's last layer, and its outputs per class, from one pass."""
        features = last.trunk(inputs, training=training)
        logits = last.logits_of(features)
        return features, logits if self.from_logits else keras.activations.softmax(logits)

    def compute_metrics(self, x, y, y_pred, sample_weight=None):
        if self.contrast is not None:
            y, _ = _split_rows(y, y_pred)
        elif teachers_packed(y, y_pred):
            y = y[..., : y_pred.shape[-1]]
        return super().compute_metrics(x, y, y_pred, sample_weight)

    def save(self, filepath, overwrite=True, zipped=None, **kwargs):
        """Saves the student; arguments as in `keras.Model.save`."""
        self.student.save(filepath, overwrite=overwrite, zipped=zipped, **kwargs)

    def save_weights(self, filepath, overwrite=True, **kwargs):
        """Saves the student's weights, not the optimiser's state; arguments as in `keras.Model.save_weights`."""
        self.student.save_weights(filepath, overwrite=overwrite, **kwargs)

    def load_weights(self, filepath, **kwargs):
        """Loads the student's weights; arguments as in `keras.Model.load_weights`."""
        self.student.load_weights(filepath, **kwargs)

    def _teacher_logits(self, x, y_pred):
        logits = []
        for teacher in self._untracked.teachers:
            outputs = _two_classes(teacher(x, training=False), self.from_logits)
            outputs = ops.cast(outputs, keras.config.floatx())
            _check_shapes(self.student, [y_pred.shape], teacher, [outputs.shape], "outputs")
            logits.append(ops.stop_gradient(log_probabilities(outputs, self.from_logits, "teacher_outputs")))
        return logits

    def get_config(self):
        raise NotImplementedError("A Distiller has no config, as its teachers are not saved: use its `save`.")


def teacher_logits(teacher, data, path, batch_size=128):
    """Computes teachers' logits over data once and keeps them in a file, for `kls.pack_teacher` to put beside labels.

    The logits of a batch at a time are held in memory. The file is written atomically.

    Args:
        teacher: A Keras classifier that returns logits or probabilities of shape `(N, K)`, or a list of T classifiers.
            Of probabilities whose logits cannot be had, the logarithms are kept.
        data: As `kls.utils.data.batches_of` takes it; the rows of the file are in its order.
        path: Where to write the `.npy` file; its directory is made.
        batch_size: Samples per batch, for arrays.

    Returns:
        Read-only memory map of float32, of shape `(N, K)`, or `(N, T, K)` for a list.

    Raises:
        ValueError: If `data` shuffles or augments (a `decathlon.Batches` with `training=True`), if there is no teacher,
            or if a teacher's outputs are no logits or probabilities of shape `(N, K)`.

    Example:

    ```python
    logits = kls.teacher_logits(teacher, images, "logits.npy")
    distiller.fit(images, kls.pack_teacher(labels, logits), epochs=10)
    ```
    """
    if getattr(data, "training", False):
        raise ValueError("`data` must come in order and unaltered. Received: batches with training=True")
    teachers = _listed(teacher) or [teacher]
    if not all(isinstance(model, keras.Model) for model in teachers):
        raise ValueError(f"`teacher` must be a Keras model or a list of at least one. Received: {shown(teacher)}")
    networks = [Network(model) for model in teachers]
    with atomic_write(path) as file:
        count = 0
        for images, _ in batches_of(data, batch_size):
            logits = np.stack([network.outputs(images, batch_size=len(images)).logits for network in networks], axis=1)
            rows = np.ascontiguousarray(logits if isinstance(teacher, list | tuple) else logits[:, 0], "<f4")
            if count == 0:
                _write_header(file, (0, *rows.shape[1:]))
            file.write(rows.tobytes())
            count += len(rows)
        file.seek(0)
        _write_header(file, (count, *rows.shape[1:]))
    return np.load(path, mmap_mode="r")


def _write_header(file, shape):
    """Writes the header of an `.npy` file, which leaves room for any length of the first axis."""
    np.lib.format.write_array_header_1_0(file, {"descr": "<f4", "fortran_order": False, "shape": shape})


def _listed(models):
    return list(models) if isinstance(models, list | tuple) else None if models is None else [models]


def _loss_of(mode, alpha, temperature, from_logits, scale_by_temperature):
    loss, arguments = MODES[mode]
    given = {"alpha": alpha, "temperature": temperature}
    arguments = {**arguments, **{name: value for name, value in given.items() if value is not None}}
    if loss is KnowledgeDistillation:
        arguments["scale_by_temperature"] = scale_by_temperature
    return loss(from_logits=from_logits, **arguments)


def _split_rows(y_true, y_pred):
    """Returns label distributions and sample numbers of `[distribution | row]`; of other labels these and `None`."""
    classes = y_pred.shape[-1]
    if len(y_true.shape) == 2 and y_true.shape[-1] == classes + 1:
        return y_true[:, :classes], y_true[:, classes]
    return y_true, None


def _two_classes(outputs, from_logits):
    """Returns outputs of one column as those of both classes, others as they are."""
    if outputs.shape[-1] != 1:
        return outputs
    logits = logits_of(outputs, from_logits)
    if logits is None:
        return ops.concatenate([1 - outputs, outputs], axis=-1)
    logits = ops.concatenate([ops.zeros_like(logits), logits], axis=-1)
    return logits if from_logits else keras.activations.softmax(logits)


def _check_tensors(student, teacher, kind):
    """Compares symbolic inputs or outputs, which subclassed models and models not yet built do not have."""
    tensors = [getattr(model, kind, None) for model in (student, teacher)]
    if None not in tensors:
        least = 2 if kind == "outputs" else 1  # one output stands for two classes
        ours, theirs = ([(*t.shape[:-1], t.shape[-1] and max(t.shape[-1], least)) for t in part] for part in tensors)
        _check_shapes(student, ours, teacher, theirs, kind)


def _check_shapes(student, ours, teacher, theirs, kind):
    if len(ours) != len(theirs) or not all(map(shapes_fit, ours, theirs)):
        raise ValueError(
            f"`student` and `teachers` must have {kind} of the same shape. "
            f"Received: student {student.name!r} with {_shown(ours)}, teacher {teacher.name!r} with {_shown(theirs)}"
        )


def _shown(shapes):
    return ", ".join(str(tuple(shape)) for shape in shapes)
