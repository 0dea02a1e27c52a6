"""The paper's figures, drawn from what the study's networks left behind."""

import itertools
from functools import partial

import keras
import numpy as np
import pandas as pd

from benchmarks.ldl.tables import BASELINE, BINS, scaled
from kls import plots
from kls.analysis.classwise import class_scores
from kls.analysis.projection import project_onto_templates
from kls.calibration import summarize
from kls.calibration.samples import softmax
from kls.study.devices import precision_policy
from kls.study.networks import trained_network
from kls.study.outputs import CONVENTION, evaluation_batches
from kls.study.report.tables import display_name
from kls.study.store import read_logits
from kls.utils.feature_extractor import Network
from kls.utils.panels import grid, legend_below, styles

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
    save = partial(store.write_figure, dpi=120)
    least = min(record["seed"] for record in records)
    first = [record for record in records if record["seed"] == least]
    save("accuracy_against_ece", accuracy_against_calibration(calibration_panels(networks)))
    trials = {trial.id: trial for trial in plan.trials}
    students = pd.DataFrame(first).groupby(["dataset", "model"], sort=False)
    for (dataset, model), group in students:
        name, group = f"{dataset}_{model}", group.to_dict("records")
        outputs = {record["configuration"]: _probabilities(store, record) for record in group}
        reliabilities = {**outputs, **_scaled(outputs.get(BASELINE))}
        save(f"reliability_{name}", plots.reliability_diagrams(reliabilities, BINS, convention=CONVENTION))
        panels = {f"{display_name(dataset)}, {model}": outputs}
        save(f"class_confidence_{name}", class_confidence(panels))
        losses = {
            method: _curves(*found, datasets[dataset])
            for method, record in _shown(group, FIGURE_8).items()
            if (found := store.class_losses(record["trial"]))
        }
        if losses:
            save(f"class_losses_{name}", class_loss_curves(losses))
        shown = _shown(group, FIGURE_7).values()
        rows = projections([trials[record["trial"]] for record in shown], datasets[dataset], store)
        if rows:
            save(f"projection_{name}", penultimate_projection(rows))


def calibration_panels(networks):
    """Returns what `accuracy_against_calibration` draws: means over seeds, in percent.

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
    """Returns what `penultimate_projection` draws: features of three classes, training above evaluation.

    The classes are the two that the first of the networks confuses most on the evaluation images, which are the
    paper's "semantically similar" ones, and the one that it confuses least with these.

    Args:
        trials: Finished trials of one model and dataset.
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
            network = Network(trained_network(trial, dataset, store)[0])
            if network.head is None:
                continue
            for samples, split in zip(rows, ("train", dataset.evaluation), strict=True):
                images, labels = dataset.split(split)
                chosen = np.concatenate([np.flatnonzero(labels == k)[:SAMPLES_PER_CLASS] for k in classes])
                chosen.sort()
                batches = evaluation_batches(trial, dataset, images[chosen], labels[chosen])
                found = network.outputs(batches, features=True)
                points = project_onto_templates(found.features, network.head[0], classes)
                rows[samples][trial.method.title] = {dataset.class_names[k]: points[found.labels == k] for k in classes}
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
    return losses.astype(float), accuracies[-1], 100 * np.nansum(accuracies * shares, axis=1) / shares.sum()


def _probabilities(store, record):
    logits, labels = read_logits(store.outputs_path(record["trial"], record["evaluation"]))
    return labels, softmax(logits)


def _scaled(vanilla):
    """Returns `{title with the temperatures: (labels, probabilities)}` of a vanilla network, where there is one."""
    if vanilla is None:
        return {}
    labels, probabilities = vanilla
    logits, temperatures = scaled(labels, np.log(np.maximum(probabilities, np.finfo(probabilities.dtype).tiny)))
    title = f"{BASELINE}, T = {' and '.join(f'{temperature:.2f}' for temperature in temperatures)}"
    return {title: (labels, softmax(logits))}


def class_confidence(panels, bins=BINS):
    """Draws each class's F1 score against its mean confidence, one panel per network.

    As figure 4 of the label distribution learning paper: a point per class and method, at the numbers of
    `kls.analysis.classwise.class_scores`, and the accuracy and the ECE of each method in the legend.

    Args:
        panels: `{network: {method: (class indices, class probabilities)}}`.
        bins: Number of bins of equal width of the ECE.

    Returns:
        A `matplotlib.figure.Figure`.
    """
    looks = styles(panels)
    figure, areas = grid(len(panels), 3, (4.8, 4.4), sharex=True, sharey=True)
    for (network, methods), panel in zip(panels.items(), areas, strict=True):
        for method, sample in methods.items():
            f1, confidence = class_scores(*sample)
            summary = summarize(*sample, bins)
            label = f"{method} ({100 * summary['accuracy']:.2f} %, {100 * summary['ece']:.2f} %)"
            panel.scatter(confidence, f1, s=16, alpha=0.7, linewidths=0, label=label, **looks[method])
        panel.set(title=network, xlabel="mean confidence in the true class", ylabel="F1 score")
        panel.grid(alpha=0.3)
        legend_below(panel, 0.16, title="method (accuracy, ECE)", title_fontsize="small", ncols=2)
    return figure


def accuracy_against_calibration(panels):
    """Draws the calibration error of networks against their accuracy, one panel per dataset or teacher.

    As figure 10 of the label distribution learning paper: a point per network and method; the lower right is better.

    Args:
        panels: `{panel title: {method: {network: (accuracy, ECE)}}}`, in percent; NaN is left out.

    Returns:
        A `matplotlib.figure.Figure`.
    """
    looks = styles(panels)
    figure, areas = grid(len(panels), 2, (6, 4.6))
    text = {"textcoords": "offset points", "fontsize": "x-small", "color": "0.4", "in_layout": False}
    for (title, methods), panel in zip(panels.items(), areas, strict=True):
        for method, networks in methods.items():
            points = np.array(list(networks.values()), float)
            panel.scatter(*points.T, label=method, **looks[method])
            for network, point in zip(networks, points, strict=True):
                if not np.isnan(point).any():
                    panel.annotate(network, point, (5, 0), **text)
        panel.set(title=title, xlabel="accuracy, %", ylabel="ECE, %")
        panel.margins(0.2, 0.1)
        panel.grid(alpha=0.3)
    handles = {handle.get_label(): handle for panel in areas for handle in panel.collections}
    figure.legend(handles=handles.values(), loc="outside right upper", frameon=False, fontsize="small")
    figure.draw_without_rendering()
    for panel in areas:
        _place(panel.texts)
    return figure


def _place(annotations):
    """Moves each annotation to the side of its point where it covers least."""
    from matplotlib.transforms import Bbox

    points = [annotation.axes.transData.transform(annotation.xy) for annotation in annotations]
    taken = [Bbox([point - 5, point + 5]) for point in points]
    sides = [
        {"position": (5 * x, 5 * y), "ha": ("right", "center", "left")[x + 1], "va": ("top", "center", "bottom")[y + 1]}
        for x, y in ((1, 0), (-1, 0), (0, 1), (0, -1), (1, 1), (-1, 1), (1, -1), (-1, -1))
    ]
    for annotation in annotations:
        covered = []
        for side in sides:
            annotation.set(**side)
            shared = [Bbox.intersection(annotation.get_window_extent(), box) for box in taken]
            covered.append(sum(box.width * box.height for box in shared if box is not None))
        annotation.set(**sides[np.argmin(covered)])
        taken.append(annotation.get_window_extent())


def class_loss_curves(methods, counts=(5, 20)):
    """Draws the accuracy, and the loss of the best and of the worst classes, over the epochs.

    As figure 8 of the label distribution learning paper, which has all in one panel: a panel of the accuracy, then for
    each number of classes one of the mean loss of those that a method classifies best at the end, and one of those it
    classifies worst. A line per method.

    Args:
        methods: `{method: (losses, class accuracies, accuracies)}`: the log loss of each class after each epoch,
            shape `(E, K)` with K >= 2; the final accuracy of each class, shape `(K,)`; the accuracy after each epoch,
            in percent, shape `(E,)`.
        counts: Numbers of best and of worst classes. Those above K // 2 become K // 2, and equal numbers one.

    Returns:
        A `matplotlib.figure.Figure`.
    """
    least = min(len(class_accuracies) for _, class_accuracies, _ in methods.values())
    counts = list(dict.fromkeys(min(count, least // 2) for count in counts))
    figure, panels = grid(1 + 2 * len(counts), 3, (2.6, 2.6))
    accuracy, *others = panels
    for method, (losses, class_accuracies, accuracies) in methods.items():
        epochs = range(1, len(accuracies) + 1)
        order = np.argsort(class_accuracies, kind="stable")
        accuracy.plot(epochs, accuracies, label=method)
        chosen = [part for count in counts for part in (order[-count:], order[:count])]
        for panel, classes in zip(others, chosen, strict=True):
            panel.plot(epochs, losses[:, classes].mean(axis=1), label=method)
    titles = [f"{name} {count} class{'es' if count > 1 else ''}" for count in counts for name in ("best", "worst")]
    for panel, title in zip(panels, ["all classes", *titles], strict=True):
        panel.set_title(title, fontsize="medium")
        panel.set(xlabel="epoch", ylabel="accuracy, %" if panel is accuracy else "log loss")
        panel.grid(alpha=0.3)
    for panel in others:
        panel.set_ylim(bottom=0)
    figure.legend(*accuracy.get_legend_handles_labels(), loc="outside lower center", ncols=3, frameon=False)
    return figure


def penultimate_projection(rows):
    """Draws features of three classes in the plane of their templates, a row per samples and a column per method.

    As figure 7 of the label distribution learning paper, which follows Mueller et al. 2019, "When does label
    smoothing help?".

    Args:
        rows: `{samples: {method: {class: features projected to shape (n, 2)}}}`, of the same methods each;
            `kls.analysis.projection.project_onto_templates` projects.

    Returns:
        A `matplotlib.figure.Figure`.
    """
    from matplotlib.figure import Figure

    titles = next(iter(rows.values()))
    figure = Figure(figsize=(2.4 * len(titles) + 1, 2.4 * len(rows)), layout="constrained")
    panels = figure.subplots(len(rows), len(titles), squeeze=False)
    for (samples, methods), row in zip(rows.items(), panels, strict=True):
        for method, panel in zip(titles, row, strict=True):
            for name, points in methods[method].items():
                panel.scatter(*np.transpose(points), s=6, alpha=0.6, linewidths=0, label=name)
            panel.set(xticks=[], yticks=[])
            panel.set_aspect("equal", adjustable="datalim")
        row[0].set_ylabel(samples, fontsize="small")
        row[-1].legend(loc="center left", bbox_to_anchor=(1, 0.5), frameon=False, fontsize="small", markerscale=2)
    for method, panel in zip(titles, panels[0], strict=True):
        panel.set_title(method, fontsize="medium")
    return figure
