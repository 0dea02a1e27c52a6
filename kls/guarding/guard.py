"""One call: a trained classifier becomes a model that gives calibrated probabilities and says "I don't know"."""

import copy
import warnings

import numpy as np

from kls.calibration.samples import as_indices
from kls.calibration.scaling import SCALERS
from kls.calibration.scaling.base import Scaler
from kls.guarding.layers import DecisionLayer, ScalerLayer, ScoreLayer
from kls.guarding.model import Guarded, images_of
from kls.guarding.report import Report
from kls.ood.scores import RESTORABLE, SCORES, get
from kls.ood.threshold import Threshold
from kls.utils.arrays import check_number, check_whole, naming, shown
from kls.utils.data import check_labels
from kls.utils.scale import scale_remark

SCALINGS = {name: kind for name, kind in SCALERS.items() if kind.formula is not None}
KEPT_SCORES = 10_000  # calibration scores that are kept to compare those of other data with


def guard(
    model,
    calibration,
    scaling="temperature",
    score="energy",
    tpr=0.95,
    training_data=None,
    ood=None,
    bank=10_000,
    batch_size=128,
    seed=0,
):
    """Makes a classifier one that gives calibrated probabilities and says which inputs it does not know.

    The result is one Keras model, saved with all that was fitted: `guarded.save("guarded.keras")`, and after
    `import kls` `keras.models.load_model("guarded.keras")`.

    Scaler and threshold are chosen on the same images. What the guard keeps of new images is not flattered by that: the
    threshold is a rank among the calibration scores, which do not see the scaler. A calibration error of the new
    probabilities taken on the calibration images is: judge it by `kls.evaluate`, or on other images.

    Args:
        model: A Keras classifier that returns logits or probabilities, as `kls.evaluate` takes it; its weights are
            shared, not copied.
        calibration: ID data with labels that the model was not trained on, as `kls.utils.data.batches_of` takes it.
        scaling: Name of a scaler of `kls.calibration.scaling`, or a scaler, which is taken as it is where it is fitted:
            `"temperature"`, `"vector"`, `"matrix"` or `"dirichlet"`; `None` for the probabilities of the model.
        score: Name or `Score` of `kls.ood.scores`, which is taken as it is where it is fitted; `"odin"` cannot be part
            of a model. `KNN(features="NAME")` takes the features of a layer of that name.
        tpr: Share of the calibration images to keep, in (0, 1]: the threshold is the highest that keeps it.
        training_data: ID training data for a score that is fitted.
        ood: `{name: OOD data}` of which to report how much is stopped; nothing is chosen by them.
        bank: The most training samples that `KNN` keeps in the model, drawn by the seed; its k counts among them.
        batch_size: Samples per batch, for arrays.
        seed: Integer from which samples to keep are drawn.

    Returns:
        A `kls.guarding.Guarded`.

    Warns:
        UserWarning: If images lie on another scale than those that the model was trained on, or than those of
            `calibration`, as in `kls.evaluate`.

    Raises:
        ValueError: If labels are missing, if the score needs training data and there are none, or if an argument is
            not as above.

    Example:

    ```python
    guarded = kls.guard(model, (x_calibration, y_calibration), score="knn", training_data=x_train, ood={"noise": noise})
    print(guarded.report)
    outputs = guarded.predict(images)  # probabilities, label, score, in_distribution
    guarded.save("guarded.keras")
    guarded.export("guarded.onnx", format="onnx")
    ```
    """
    check_number(tpr, "tpr", "(0, 1]")
    for name, value, least in (("bank", bank, 1), ("batch_size", batch_size, 1), ("seed", seed, 0)):
        check_whole(value, name, least)
    scaler, score = _scaler(scaling), _score(score)
    if not isinstance(ood, dict | None):
        raise ValueError(f"`ood` must be {{name: data}}, or None. Received: {shown(ood)}")
    if score.uses_training_data and not score.fitted and training_data is None:
        raise ValueError(f"`training_data` must be given for the score {score!r}. Received: training_data=None")
    network = score.network_of(model)
    score.check_network(network)
    with naming("calibration"):
        labels, _ = network.check(calibration, batch_size)
        check_labels(labels, "calibration")
    samples = {}

    def outputs_of(name, data):
        with naming(name):
            outputs = network.outputs(data, score.uses_features, batch_size)
        samples[f"`{name}`"] = outputs.sample
        return outputs

    outputs = outputs_of("calibration", calibration)
    score.check_outputs(outputs)
    if score.uses_training_data and not score.fitted:
        score.fit_outputs(outputs_of("training_data", training_data))
    score = score.bounded(bank, seed)
    score.check_fitted(outputs)
    with naming("calibration"):
        labels = as_indices(outputs.labels, *outputs.logits.shape)
        if scaler is not None and not scaler.fitted:
            scaler.fit(outputs.logits, labels)

    scoring = ScoreLayer(score)
    id_scores = scoring.of_arrays(outputs, batch_size)
    threshold = Threshold(score=None).fit(id_scores, tpr=tpr).value
    stopped = {}
    for name, data in (ood or {}).items():
        ood_scores = scoring.of_arrays(outputs_of(f"ood {name}", data), batch_size)
        stopped[str(name)] = int((ood_scores < threshold).sum()), len(ood_scores)
    if (remark := scale_remark(network, samples)) is not None:
        warnings.warn(remark, stacklevel=2)

    kept = int((id_scores >= threshold).sum()), len(id_scores)
    report = Report(repr(score), None if scaler is None else repr(scaler), float(tpr), threshold, kept, stopped)
    if len(id_scores) > KEPT_SCORES:
        id_scores = np.random.default_rng(seed).choice(id_scores, KEPT_SCORES, replace=False)
    return Guarded(
        model,
        scoring,
        DecisionLayer(threshold, id_scores),
        None if scaler is None else ScalerLayer(scaler),
        report,
        images_of(model, outputs.sample),
        network.gives_probabilities,
    )


def _scaler(scaling):
    """Returns a scaler of the guard's own, `None` without one."""
    if scaling is None:
        return None
    if isinstance(scaling, str) and scaling in SCALINGS:
        return SCALINGS[scaling]()
    if isinstance(scaling, Scaler) and type(scaling) in SCALINGS.values():
        return copy.copy(scaling)
    raise ValueError(
        f"`scaling` must be one of {', '.join(SCALINGS)}, such a scaler, or None: no other is a formula of logits that "
        f"can be saved in a model. Received: scaling={shown(scaling)}"
    )


def _score(score):
    """Returns a score of the guard's own."""
    found = copy.copy(get(score))
    if found.formula is None or type(found) not in RESTORABLE.values():
        taken = [name for name, make in SCORES.items() if make().formula is not None]
        raise ValueError(
            f"`score` must be one of {', '.join(taken)}, or such a `Score`: no other is a formula of logits and "
            f"features that can be saved in a model. Received: score={shown(score)}"
        )
    return found
