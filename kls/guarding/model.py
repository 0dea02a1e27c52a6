"""A guarded model: a Keras model of four outputs that is saved, loaded and exported like any other."""

from dataclasses import asdict

import keras
from keras import ops

from kls.guarding.drift import drift_of
from kls.guarding.export import check_export
from kls.guarding.report import Report
from kls.utils.arrays import check_whole, naming
from kls.utils.feature_extractor import Network
from kls.utils.last_layer import is_graph


@keras.saving.register_keras_serializable(package="kls")
class Guarded(keras.Model):
    """A classifier that gives calibrated probabilities and says which inputs it does not know; `kls.guard` makes one.

    Its outputs are a dictionary: `probabilities` (calibrated, float32 of shape `(N, K)`), `label` (the likeliest class,
    int32), `score` (the OOD score of the model as trained, larger = more in-distribution, float32) and
    `in_distribution` (whether the score is at least the threshold). A score that overflows to NaN is not
    in-distribution. Scores and probabilities are computed in float32 under every dtype policy.

    The weights of the classifier are shared, not copied: after further training make a new guard.

    Args:
        model: The classifier.
        scoring: A `ScoreLayer`.
        decision: A `DecisionLayer`.
        scaling: A `ScalerLayer`, or `None`.
        report: The `Report`.
        images: Shape of one image and dtype of the images, a pair.
        gives_probabilities: Whether the classifier returns probabilities that it cannot be asked the logits of.
        **kwargs: As in `keras.Model`.
    """

    def __init__(self, model, scoring, decision, scaling, report, images, gives_probabilities=False, **kwargs):
        super().__init__(autocast=False, **{"dtype": "float32"} | kwargs)
        self.model, self.scoring, self.decision, self.scaling = model, scoring, decision, scaling
        self.report = report
        self._images = tuple(images[0]), images[1]
        self._network = Network(model, scoring.score.features)
        self._network.gives_probabilities = gives_probabilities
        self.built = True

    def call(self, images, training=None):
        with naming("images"):
            self._network.check_images(images)
        outputs = self._network.tensors(images, self.scoring.score.uses_features)
        scaled = outputs.logits if self.scaling is None else self.scaling(outputs.logits)
        head = outputs.head if self.scoring.score.uses_head else (None, None)
        score = self.scoring(outputs.logits, outputs.features, *head)
        return {
            "probabilities": ops.softmax(scaled),
            "label": _likeliest(scaled),
            "score": score,
            "in_distribution": self.decision(score),
        }

    def check(self, x, batch_size=128):
        """Compares the scores of a batch with those at calibration.

        Args:
            x: Images, as `kls.utils.data.batches_of` takes them; labels are not used. A few hundred tell small changes.
            batch_size: Images per batch, for arrays.

        Returns:
            A `kls.guarding.Drift`.

        Raises:
            ValueError: If the images are not as the model takes them.

        Example:

        ```python
        print(guarded.check(images_of_today))
        ```
        """
        check_whole(batch_size, "batch_size", 1)
        with naming("x"):
            outputs = self._network.outputs(x, self.scoring.score.uses_features, batch_size)
        scores = self.scoring.of_arrays(outputs, batch_size)
        count, size = self.report.kept_of
        reference, threshold = map(ops.convert_to_numpy, (self.decision.reference, self.decision.threshold))
        return drift_of(scores, reference, threshold, count / size)

    def export(self, filepath, format="tf_saved_model", verbose=None, input_signature=None, **kwargs):
        """Writes the model for a runtime that needs neither Keras nor this library.

        Args:
            filepath: A folder for `"tf_saved_model"`; a file, which for `"litert"` ends in `.tflite`.
            format: `"tf_saved_model"`, `"onnx"` or `"litert"`. The packages that the latter two need are
                `pip install 'kls[export]'`.
            verbose: As in `keras.Model.export`.
            input_signature: As in `keras.Model.export`; by default batches of any size of the images that the
                classifier takes.
            **kwargs: As in `keras.Model.export`.

        Raises:
            ValueError: If the format is none of these, or if it cannot be written here, before anything is written.

        Example:

        ```python
        guarded.export("guarded.onnx", format="onnx")
        ```
        """
        check_export(filepath, format, self.scoring.score, self.model)
        if input_signature is None:
            shape, dtype = self._images
            input_signature = [keras.InputSpec(shape=(None, *shape), dtype=dtype, name="images")]
        return super().export(str(filepath), format, verbose, input_signature, **kwargs)

    def get_config(self):
        parts = {name: getattr(self, name) for name in ("model", "scoring", "decision", "scaling")}
        serialized = {name: keras.saving.serialize_keras_object(part) for name, part in parts.items()}
        serialized["model"].pop("compile_config", None)  # loss and optimizer, of which a user need not have the code
        return {
            "name": self.name,
            **serialized,
            "report": asdict(self.report),
            "images": list(self._images),
            "gives_probabilities": self._network.gives_probabilities,
        }

    @classmethod
    def from_config(cls, config, custom_objects=None):
        config = dict(config)
        for name in ("model", "scoring", "decision", "scaling"):
            config[name] = keras.saving.deserialize_keras_object(config[name], custom_objects)
        counts = {name: tuple(count) for name, count in config["report"]["stopped_of"].items()}
        kept = tuple(config["report"]["kept_of"])
        config["report"] = Report(**config["report"] | {"kept_of": kept, "stopped_of": counts})
        return cls(**config)


def _likeliest(logits):
    """Returns the first of the largest logits; `ops.argmax` looks at single bits, which ONNX and LiteRT do not know."""
    classes = logits.shape[1]
    is_largest = logits == ops.max(logits, axis=1, keepdims=True)
    return ops.min(ops.where(is_largest, ops.arange(classes, dtype="int32"), classes - 1), axis=1)


def images_of(model, sample):
    """Returns the shape of an image and the dtype of the images that a classifier takes, told by a sample at need."""
    if is_graph(model):
        return tuple(model.inputs[0].shape[1:]), keras.backend.standardize_dtype(model.inputs[0].dtype)
    return sample.shape[1:], "float32"
