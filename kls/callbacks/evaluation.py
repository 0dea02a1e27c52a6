"""Callbacks that evaluate the model while it trains: its calibration, and how well it tells OOD data apart."""

import copy
import warnings

import keras
import numpy as np

from kls import plots
from kls.calibration.metrics import summarize
from kls.calibration.reliability import check_binning
from kls.calibration.samples import as_indices
from kls.ood.metrics import auroc, fpr_at_tpr
from kls.ood.scores import get as get_score
from kls.utils.arrays import check_whole, naming, shown
from kls.utils.data import batches_of, check_labels
from kls.utils.feature_extractor import Network
from kls.utils.files import as_path
from kls.utils.scale import scale_remark


class _EpochEvaluation(keras.callbacks.Callback):
    """Evaluates the model at the end of the first epoch, of every `every`-th after it, and of the last."""

    def __init__(self, every, batch_size, features=None):
        super().__init__()
        self.every = check_whole(every, "every", 1)
        self.batch_size = check_whole(batch_size, "batch_size", 1)
        self.features = features
        self._network = None
        self._is_scale_known = False

    @property
    def network(self):
        """The model taken apart; compiled once, it follows the model's weights."""
        if self._network is None or self._network.model is not self.model:
            self._network = Network(self.model, self.features)
        return self._network

    def on_train_begin(self, logs=None):
        self._is_scale_known = False

    def check(self, data, name):
        """Raises before the first epoch what evaluating the first batch would raise; returns its labels and K."""
        with naming(name):
            return self.network.check(data, self.batch_size)

    def warn_of_scale(self, samples):
        """Warns once in a training of images on another scale, after the first epoch: see `kls.utils.scale`."""
        if not self._is_scale_known and (remark := scale_remark(self.network, samples)) is not None:
            warnings.warn(remark, stacklevel=2)
        self._is_scale_known = True

    def on_epoch_end(self, epoch, logs=None):
        if epoch % self.every == 0 or epoch == self.params.get("epochs", 0) - 1:
            found = self.evaluate(epoch)
            if logs is not None:
                logs.update(found)


class CalibrationCallback(_EpochEvaluation):
    """Adds calibration on held-out data to the logs of an epoch: `val_ece`, `val_nll`, `val_brier` and `val_uce`.

    One pass over the data gives all four. Put it before the callbacks that shall see them: `CSVLogger`, `TensorBoard`,
    or `keras.callbacks.EarlyStopping(monitor="val_nll", mode="min")` and `ModelCheckpoint`, which do not know it.

    Args:
        data: Data with labels: a pair of arrays, a `keras.utils.PyDataset` or a `tf.data.Dataset` of batches.
        every: Evaluate in the first epoch, in every `every`-th after it, and in the last.
        bins: Number of bins of ECE and UCE.
        log_dir: Where TensorBoard finds the reliability diagram as an image; needs TensorFlow.
        batch_size: Samples per batch, for arrays.

    Warns:
        UserWarning: After the first epoch, if images lie on another scale than those that the model is trained on, by
            its first batch normalisation; of a model without any that is not known.

    Raises:
        ValueError: If an argument is not as above; before the first epoch, if the first batch has no labels, wrong
            ones, or images that the model cannot take.

    Example:

    Images are given as the model is trained on them, here by `decathlon.Batches`:

    ```python
    validation = decathlon.Batches(x_validation, y_validation, classes=10, batch_size=128)
    model.fit(training, callbacks=[kls.callbacks.CalibrationCallback(validation)])
    ```
    """

    def __init__(self, data, every=1, bins=15, log_dir=None, batch_size=128):
        super().__init__(every, batch_size)
        check_binning(bins, "width", "guo")
        with naming("CalibrationCallback"):
            batches_of(data)
        self.data = data
        self.bins = bins
        self.log_dir = None if log_dir is None else as_path(log_dir, "log_dir")
        self._writer = None

    def on_train_begin(self, logs=None):
        super().on_train_begin(logs)
        labels, classes = self.check(self.data, "CalibrationCallback")
        check_labels(labels, "data")
        if isinstance(self.data, tuple):
            labels = self.data[1]
        as_indices(labels, len(labels), classes)

    def evaluate(self, epoch):
        """Returns the metrics as logs."""
        outputs = self.network.outputs(self.data, batch_size=self.batch_size)
        self.warn_of_scale({"`data`": outputs.sample})
        if self.log_dir is not None:
            self._write_diagram(outputs, epoch)
        found = summarize(outputs.labels, outputs.logits, self.bins, from_logits=True)
        return {f"val_{name}": found[name] for name in ("ece", "nll", "brier", "uce")}

    def on_train_end(self, logs=None):
        if self._writer is not None:
            self._writer.close()
            self._writer = None

    def _write_diagram(self, outputs, epoch):
        import tensorflow as tf
        from matplotlib.backends.backend_agg import FigureCanvasAgg

        title = f"Reliability, epoch {epoch + 1}"
        figure = plots.reliability_diagram(outputs.labels, outputs.logits, self.bins, from_logits=True, title=title)
        canvas = FigureCanvasAgg(figure)
        canvas.draw()
        if self._writer is None:
            self._writer = tf.summary.create_file_writer(str(self.log_dir))
        with self._writer.as_default():
            tf.summary.image("reliability", np.asarray(canvas.buffer_rgba())[None], step=epoch)
        self._writer.flush()


class OODCallback(_EpochEvaluation):
    """Adds to the logs of an epoch how well OOD data are told apart: `auroc_NAME` and `fpr95_NAME` of each set.

    Each dataset is predicted once an epoch. Put it before the callbacks that shall see them, and tell these the mode:
    `"max"` for AUROC, `"min"` for the false positive rate, that of OOD data where 95 % of the ID samples pass.

    Args:
        ood: `{name: OOD data}`; labels may be missing and are not used.
        score: Name or `Score` of `kls.ood.scores`.
        every: Evaluate in the first epoch, in every `every`-th after it, and in the last.
        id_data: ID data; by default the `validation_data` of `fit`, which must then be evaluated in the first
            epoch (`validation_freq=1`).
        training_data: Training data for a score that is fitted, anew at each evaluation.
        batch_size: Samples per batch, for arrays.

    Warns:
        UserWarning: After the first epoch, if images lie on another scale than those that the model is trained on, by
            its first batch normalisation, or than the ID data.

    Raises:
        ValueError: If an argument is not as above, or if the score must be fitted and there are no training data;
            before the first epoch, if the model cannot take a first batch or give the score what it needs; at an
            epoch's end if there are no ID data.

    Example:

    Images are given as the model is trained on them, here by `decathlon.Batches`:

    ```python
    noise = decathlon.Batches(x_noise, y_noise, classes=10, batch_size=128)
    model.fit(training, validation_data=validation, callbacks=[kls.callbacks.OODCallback({"noise": noise}, "energy")])
    ```
    """

    def __init__(self, ood, score="msp", every=1, id_data=None, training_data=None, batch_size=128):
        if not isinstance(ood, dict) or not ood or any(isinstance(data, dict) for data in ood.values()):
            raise ValueError(f"`ood` must be {{name: data}} with one dataset at least. Received: {shown(ood)}")
        self.score = copy.copy(get_score(score))
        super().__init__(every, batch_size, self.score.features)
        if self.score.uses_training_data and training_data is None:
            raise ValueError(f"`training_data` must be given for the score {shown(score)}. Received: None")
        self.ood = ood
        self.id_data = id_data
        self.training_data = training_data
        self._listener = None
        for name, data in self._given.items():
            with naming(f"OODCallback, {name}"):
                batches_of(data)

    @property
    def _given(self):
        """`{name: data}` of all data that are known before training."""
        optional = {"id_data": self.id_data, "training_data": self.training_data}
        return {name: data for name, data in optional.items() if data is not None} | self.ood

    def on_train_begin(self, logs=None):
        super().on_train_begin(logs)
        self._stop_listening()
        self.score.check_network(self.network)
        for name, data in self._given.items():
            self.check(data, f"OODCallback, {name}")
        if self.id_data is None:
            self._listener = _ValidationListener(self.model)

    def on_train_end(self, logs=None):
        self._stop_listening()

    def evaluate(self, epoch):
        """Returns the metrics as logs."""
        id_data = self.id_data if self._listener is None else self._listener.heard
        if id_data is None:
            raise ValueError(
                "OODCallback needs ID data: pass `id_data`, or `validation_data` to `fit`, used in every epoch."
            )
        samples = {}
        if self.score.uses_training_data:
            training = self.network.outputs(self.training_data, self.score.uses_features, self.batch_size)
            self.score.fit_outputs(training)
            samples["`training_data`"] = training.sample
        id_scores, samples["`id_data`"] = self.score.scores_and_sample(self.network, id_data, self.batch_size)
        logs = {}
        for name, data in self.ood.items():
            ood_scores, samples[f"`ood` {name}"] = self.score.scores_and_sample(self.network, data, self.batch_size)
            logs[f"auroc_{name}"] = auroc(id_scores, ood_scores)
            logs[f"fpr95_{name}"] = fpr_at_tpr(id_scores, ood_scores)
        self.warn_of_scale(samples)
        return logs

    def _stop_listening(self):
        if self._listener is not None:
            self._listener.stop()
            self._listener = None


class _ValidationListener:
    """Stands before a model's `evaluate` and keeps what `fit` validates on: Keras does not say.

    Attributes:
        heard: The data, `None` before the first validation.
    """

    def __init__(self, model):
        self.model = model
        self.own = vars(model).get("evaluate")
        self.heard = None
        self.active = True
        model.evaluate = self

    def __call__(self, x=None, y=None, *arguments, **options):
        if self.active and options.get("_use_cached_eval_dataset"):  # Keras's own call
            self.heard = x if y is None else (x, y)
        evaluate = self.own or type(self.model).evaluate.__get__(self.model)
        return evaluate(x, y, *arguments, **options)

    def stop(self):
        """Steps aside, and takes away whichever stopped listeners stand first in line."""
        self.active = False
        first = self.model.evaluate
        while isinstance(first, _ValidationListener) and not first.active:
            del self.model.evaluate
            if first.own is None:
                return
            first = self.model.evaluate = first.own
