"""The paper's figures, drawn from what the study's networks left behind."""

import itertools

import keras
import numpy as np
import pandas as pd

from benchmarks.ldl.tables import BINS
from benchmarks.runner.networks import precision_policy, trained_model
from benchmarks.runner.outputs import CONVENTION, evaluation_batches
from benchmarks.runner.store import read_logits
from benchmarks.runner.tables import display_name
from kls import plots
from kls.calibration.samples import softmax
from kls.network import Network
from kls.projection import project_onto_templates

SAMPLES_PER_CLASS = 100
TEMPLATES = 3
FIGURE_7 = ("vanilla", "ls", "kd", "vanilla-cutmix", "off-ldl", "on-ldl", "on-ldl+")
FIGURE_8 = ("vanilla", "ls", "on-ldl")


def draw_figures(plan, records, networks, store, datasets):
    """Draws Figures 4, 7, 8, 10 and 11 to 14 of the paper, all but 10 of the networks of one seed, the least.

    Args:
        plan: The `Plan`.
        records: Records of its finished trials.
        networks: The frame that `benchmarks.ldl.tables.measured` returns.
        store: The `RunStore`.
        datasets: `{name: opened Dataset}`.
    """
    least = min(record["seed"] for record in records)
    first = [record for record in records if record["seed"] == least]
    _save(store, "accuracy_against_ece", plots.accuracy_against_calibration(calibration_panels(networks)))
    trials = {trial.id: trial for trial in plan.trials}
    students = pd.DataFrame(first).groupby(["dataset", "model"], sort=False)
    for (dataset, model), group in students:
        name, group = f"{dataset}_{model}", group.to_dict("records")
        outputs = {record["configuration"]: _probabilities(store, record) for record in group}
        _save(store, f"reliability_{name}", plots.reliability_diagrams(outputs, BINS, convention=CONVENTION))
        panels = {f"{display_name(dataset)}, {model}": outputs}
        _save(store, f"class_confidence_{name}", plots.class_confidence(panels, BINS))
        losses = {
            method: _curves(*found, datasets[dataset])
            for method, record in _shown(group, FIGURE_8).items()
            if (found := store.class_losses(record["trial"]))
        }
        if losses:
            _save(store, f"class_losses_{name}", plots.class_loss_curves(losses))
        shown = _shown(group, FIGURE_7).values()
        rows = projections([trials[record["trial"]] for record in shown], datasets[dataset], store)
        if rows:
            _save(store, f"projection_{name}", plots.penultimate_projection(rows))


def calibration_panels(networks):
    """Returns what `kls.plots.accuracy_against_calibration` draws: means over seeds, in percent.

    Args:
        networks: The frame that `benchmarks.ldl.tables.measured` returns.
    """
    cells = networks.groupby(["dataset", "configuration", "model"], sort=False)
    means = 100 * cells[["accuracy", "ece"]].mean()
    counts = cells.size().groupby("dataset").min()
    panels = {}
    for (dataset, method, model), row in means.iterrows():
        methods = panels.setdefault(f"{display_name(dataset)} (n={counts[dataset]})", {})
        methods.setdefault(method, {})[model] = (row["accuracy"], row["ece"])
    return panels


def projections(trials, dataset, store):
    """Returns what `kls.plots.penultimate_projection` draws: features of three classes, training above evaluation.

    The classes are the two that the first of the networks confuses most on the evaluation images, which are the
    paper's "semantically similar" ones, and the one that it confuses least with these.

    Args:
        trials: Finished trials of one model and data set.
        dataset: The opened `Dataset`.
        store: The `RunStore`.
    """
    if dataset.classes < TEMPLATES:
        return {}
    classes = similar_and_different(*store.logits(trials[0], dataset.evaluation))
    rows = {"training": {}, dataset.evaluation: {}}
    for trial in trials:
        keras.utils.clear_session()
        with precision_policy(trial.precision):
            network = Network(trained_model(trial, dataset, store))
            if network.head is None:
                continue
            for samples, split in zip(rows, ("train", dataset.evaluation), strict=True):
                images, labels = dataset.split(split)
                chosen = np.concatenate([np.flatnonzero(labels == k)[:SAMPLES_PER_CLASS] for k in classes])
                chosen.sort()
                batches = evaluation_batches(trial, dataset, images[chosen], labels[chosen])
                found = network.outputs(batches, features=True)
                points = project_onto_templates(found.features, network.head[0], classes)
                rows[samples][trial.configuration] = {
                    dataset.class_names[k]: points[found.labels == k] for k in classes
                }
    return rows if rows["training"] else {}


def similar_and_different(logits, labels):
    """Returns the two classes that are confused most, and the one that is confused least with them.

    Args:
        logits: Shape `(N, K)`, K at least 3.
        labels: Class indices of shape `(N,)`.
    """
    classes = logits.shape[1]
    confusion = np.zeros((classes, classes))
    np.add.at(confusion, labels, softmax(logits))
    confusion /= np.maximum(np.bincount(labels, minlength=classes), 1)[:, None]
    confusion = confusion + confusion.T
    np.fill_diagonal(confusion, -1)
    first, second = np.unravel_index(confusion.argmax(), confusion.shape)
    others = confusion[first] + confusion[second]
    others[[first, second]] = np.inf
    return int(first), int(second), int(others.argmin())


def _shown(records, methods):
    """Returns records by method: those of the paper's figure, or of as many others where there are none."""
    by_method = {record["configuration"]: record for record in records}
    return {method: by_method[method] for method in methods if method in by_method} or dict(
        itertools.islice(by_method.items(), len(methods))
    )


def _curves(losses, accuracies, dataset):
    """Returns the losses of the classes, their last accuracies, and the accuracy of all images in percent."""
    shares = np.bincount(dataset.split(dataset.evaluation)[1], minlength=dataset.classes)
    return losses, accuracies[-1], 100 * np.nansum(accuracies * shares, axis=1) / shares.sum()


def _probabilities(store, record):
    logits, labels = read_logits(store.outputs_path(record["trial"], record["evaluation"]))
    return labels, softmax(logits)


def _save(store, name, figure):
    store.write_figure(name, figure, dpi=120)
