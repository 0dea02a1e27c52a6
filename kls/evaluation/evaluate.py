"""One call: are a classifier's confidences true, and does it know what it does not know?"""

import copy
import warnings

from kls.calibration.reliability import check_binning
from kls.calibration.samples import as_indices
from kls.calibration.scaling import SCALERS
from kls.calibration.scaling.base import Scaler, cross_scaled
from kls.evaluation.result import UNSCALED, Evaluation, calibration_rows, full_name, ood_rows, row_remarks
from kls.ood.metrics import CONVENTIONS
from kls.ood.scores import SCORES, Score, get
from kls.utils.arrays import check_choice, check_whole, naming, shown
from kls.utils.data import check_labels
from kls.utils.feature_extractor import Network
from kls.utils.scale import scale_remark


def evaluate(
    model,
    data,
    ood=None,
    scores=("msp",),
    scaling=None,
    training_data=None,
    scaling_data=None,
    features=None,
    bins=15,
    convention="guo",
    ood_convention="odin",
    resamples=0,
    batch_size=128,
    seed=0,
):
    """Measures calibration and the power to tell OOD inputs apart, in one pass over each dataset.

    Args:
        model: A Keras classifier that returns logits or probabilities; which of them is found out from its last layer,
            as `kls.utils.feature_extractor.Network` says, also of one output for two classes.
        data: ID data with labels that the model was not trained on: a pair of arrays, a `keras.utils.PyDataset`
            or a `tf.data.Dataset` of batches.
        ood: `{name: OOD data}`, or groups of them with their means, `{"near": {...}, "far": {...}}`. Labels
            may be missing and are not used.
        scores: Names or `Score`s of `kls.ood.scores`; `"all"` takes every one that this model can give, and says
            which were skipped and why.
        scaling: Name of a scaler of `kls.calibration.scaling` (`"temperature"`, ...), or a scaler, to judge beside the
            model as trained. OOD scores are always those of the model as trained.
        training_data: ID training data for the scores that are fitted.
        scaling_data: What the scaler is fitted to. By default each half of `data` is scaled by what was fitted to the
            other half, so that no sample is judged by a scaler that saw it.
        features: Name of the layer to take features from; by default that which a score names, or the last layer's
            input.
        bins: Number of bins of ECE, MCE and UCE.
        convention: As in `kls.calibration.expected_calibration_error`.
        ood_convention: Which side is positive in AUPR and FPR, as in `kls.ood.fpr_at_tpr`: `"odin"` or `"openood"`.
        resamples: Number of bootstrap resamples for 95 % confidence intervals of every number; 0 for none.
        batch_size: Samples per batch, for arrays.
        seed: Integer from which the halves and the resamples are drawn.

    Returns:
        An `Evaluation`.

    Warns:
        UserWarning: If scores are skipped; or if images lie on another scale than those that the model was trained on,
            by its first batch normalisation, or than those of `data`, judged by the first batch of each. Of a model
            without batch normalisation and without `training_data` that a score needs, the right scale is not known.

    Raises:
        ValueError: If labels are missing, if scores need training data and there are none, or if an argument is not as
            above.

    Example:

    Images are given as the model was trained on them, here by `decathlon.Batches`:

    ```python
    test = decathlon.Batches(x_test, y_test, classes=10, batch_size=128)
    fashion = decathlon.Batches(x_fashion, y_fashion, classes=10, batch_size=128)
    evaluation = kls.evaluate(model, test, ood={"fashion": fashion}, scores=["msp", "energy"])
    print(evaluation.summary)
    print(evaluation.to_markdown())
    evaluation.plot_reliability().savefig("reliability.png")
    ```
    """
    check_binning(bins, "width", convention)
    check_choice(ood_convention, "ood_convention", CONVENTIONS)
    check_whole(resamples, "resamples", 0)
    check_whole(batch_size, "batch_size", 1)
    check_whole(seed, "seed", 0)
    groups = _groups({} if ood is None else ood)
    named_scores = _named_scores(scores, features) if groups else {}
    scaler_name, scaler = _scaler(scaling)
    if features is None:
        features = next((score.features for score in named_scores.values() if score.features), None)
    network = Network(model, features)
    skipped = {} if isinstance(scores, str) and scores == "all" else None
    _keep(named_scores, lambda _, score: score.check_network(network), skipped)
    _check_needs(named_scores, training_data, network)

    def outputs_of(data):
        images = {name: score.of_images for name, score in named_scores.items() if score.uses_images}
        return network.outputs(data, any(score.uses_features for score in named_scores.values()), batch_size, images)

    id_outputs = outputs_of(data)
    labels = as_indices(check_labels(id_outputs.labels, "data"), *id_outputs.logits.shape)
    samples = {"`data`": id_outputs.sample}
    fitted = [score for score in named_scores.values() if score.uses_training_data]
    if fitted and training_data is not None:
        with naming("training_data"):
            training = network.outputs(training_data, any(score.uses_features for score in fitted), batch_size)
        samples["`training_data`"] = training.sample

        def learn(_, score):
            if score.uses_training_data:
                score.fit_outputs(training)

        _keep(named_scores, learn, skipped)
    ood_outputs = {}
    for (group, name), values in groups.items():
        with naming(full_name(group, name)):
            ood_outputs[group, name] = outputs_of(values)
        samples[f"`ood` {full_name(group, name)}"] = ood_outputs[group, name].sample

    logits, note, fitted_scaler, remarks = {UNSCALED: id_outputs.logits}, "", None, []
    if scaler is not None:
        held_out = None
        if scaling_data is not None:
            with naming("scaling_data"):
                held_out = network.outputs(scaling_data, batch_size=batch_size)
            samples["`scaling_data`"] = held_out.sample
        logits[scaler_name], note, scalers = _scaled(scaler_name, scaler, id_outputs.logits, labels, held_out, seed)
        fitted_scaler = scalers[0] if held_out is not None else None
        remarks += _bound_remarks(scaler_name, scalers)

    def on_all(name, score):
        return _scores(name, score, id_outputs), {key: _scores(name, score, part) for key, part in ood_outputs.items()}

    found_scores = _keep(named_scores, on_all, skipped)
    rows = calibration_rows(labels, logits, bins, convention, resamples, seed)
    rows += ood_rows(found_scores, ood_convention, resamples, seed)
    remarks += row_remarks(rows)
    if skipped:
        remarks.append(f"Scores that were skipped: {'; '.join(f'{name} ({why})' for name, why in skipped.items())}.")
        warnings.warn(remarks[-1], stacklevel=2)
    if (remark := scale_remark(network, samples)) is not None:
        remarks.append(remark)
        warnings.warn(remark, stacklevel=2)
    return Evaluation(
        *(labels, logits, found_scores, rows, note, fitted_scaler, bins, convention, ood_convention),
        *(skipped or {}, remarks),
    )


def _groups(ood):
    """Returns `{(group, name): data}`; the group is empty where `ood` has none."""
    if not isinstance(ood, dict):
        raise ValueError(f"`ood` must be {{name: data}}, or {{group: {{name: data}}}}. Received: {shown(ood)}")
    grouped = [isinstance(values, dict) for values in ood.values()]
    if any(grouped) and not all(grouped):
        raise ValueError("`ood` must be {name: data}, or {group: {name: data}} throughout. Received: a mixture")
    groups = ood if any(grouped) else {"": ood}
    found = {(str(group), str(name)): values for group, members in groups.items() for name, values in members.items()}
    if any(name == "mean" for _, name in found):
        raise ValueError("`ood` must not name a dataset 'mean', as the means of groups are. Received: 'mean'")
    return found


def _named_scores(scores, features):
    """Returns `{name: score}`, none of which is the caller's own where it is fitted here."""
    if isinstance(scores, str | Score):
        scores = list(SCORES) if isinstance(scores, str) and scores == "all" else [scores]
    if not isinstance(scores, list | tuple) or not scores:
        raise ValueError(f"`scores` must be 'all', or names or `Score`s in a list. Received: scores={shown(scores)}")
    named = {}
    for score in scores:
        found = copy.copy(get(score))
        if found.uses_features and not found.uses_head:
            found.features = found.features or features
        named[score if isinstance(score, str) else repr(score)] = found
    return named


def _check_needs(named_scores, training_data, network):
    """Raises before any pass over data what would be raised after it."""
    hungry = [name for name, score in named_scores.items() if score.uses_training_data and not score.fitted]
    if hungry and training_data is None:
        raise ValueError(f"`training_data` must be given for the scores {', '.join(hungry)}. Received: None")
    for name, score in named_scores.items():
        if score.features != (network.feature_layer if score.uses_features and not score.uses_head else None):
            raise ValueError(f"{name} takes other features: name the layer by `features` of `evaluate` instead")


def _keep(named_scores, step, skipped):
    """Returns `{name: step(name, score)}`; a score that fails is taken out of the scores where some may be skipped.

    Args:
        named_scores: `{name: score}`, from which those that fail are removed.
        step: What is done with each; a `ValueError` says why it cannot be.
        skipped: `{name: why}` of those taken out; `None` where none may be.
    """
    found = {}
    for name, score in list(named_scores.items()):
        try:
            found[name] = step(name, score)
        except ValueError as error:
            if skipped is None:
                raise
            skipped[name] = str(error).removesuffix(".")
            del named_scores[name]
    return found


def _scores(name, score, outputs):
    return outputs.scores[name] if score.uses_images else score.of_outputs(outputs)


def _scaler(scaling):
    """Returns the name of a scaler and the scaler, `(None, None)` without one."""
    if scaling is None:
        return None, None
    if not isinstance(scaling, Scaler):
        name = check_choice(scaling, "scaling", SCALERS)
        return name, SCALERS[name]()
    return type(scaling).__name__, scaling


def _scaled(name, scaler, logits, labels, held_out, seed):
    """Returns scaled logits, how they came about, and the scalers that made them."""
    if held_out is not None:
        fitted = copy.deepcopy(scaler).fit(held_out.logits, check_labels(held_out.labels, "scaling_data"))
        note = f"{name}: fitted to {len(held_out.logits):,} other samples{_temperatures([fitted])}."
        return fitted.transform(logits), note, [fitted]
    if len(labels) < 2:
        raise ValueError("`data` must hold two samples at least to be scaled in halves. Received: 1")
    scaled, scalers = cross_scaled(scaler, logits, labels, seed)
    note = f"{name}: each half of the samples is scaled by what was fitted to the other half{_temperatures(scalers)}."
    return scaled, note, scalers


def _temperatures(scalers):
    values = [f"{scaler.temperature:.3f}" for scaler in scalers if hasattr(scaler, "temperature")]
    return f" (T = {', '.join(values)})" if values else ""


def _bound_remarks(name, scalers):
    """Remarks on temperatures beyond which the search did not go."""
    ends = sorted({scaler.temperature for scaler in scalers if getattr(scaler, "is_at_bound", False)})
    return [f"{name} scaling: T = {end:g} is an end of the range searched, the best lies beyond." for end in ends]
