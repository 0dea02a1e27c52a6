"""The figures of the paper, drawn from what is stored of the networks."""

import itertools

import numpy as np

from benchmarks.mnist_zero.examine import PICTURED, PICTURES, THRESHOLD
from benchmarks.mnist_zero.plan import HELD_OUT, PROXY, TEST, VALIDATION
from benchmarks.mnist_zero.tables import ERROR, SOFTMAX, base_and_class
from kls import plots
from kls.calibration.samples import softmax
from kls.ood import Threshold
from kls.study.outputs import score_of
from kls.study.store import read_outputs
from kls.utils.panels import grid, histogram_edges, legend_below, styles

LARGEST = 200
LINES = ("-", "--", ":", "-.")
KINDS = {"ID": {"facecolor": "0.85"}, "OOD": {"facecolor": "tab:orange", "hatch": "///"}}
PARTS = {"clean": "original", "noised": "under noise", "restored": "restored"}
SHOWN_AS = {PROXY: "proxy OOD images", HELD_OUT: "held-out class"}


def draw_figures(records, store, datasets):
    """Draws Figures 3, 4 and 6 to 9 of each dataset and held-out class, of the networks of the first seed.

    All but Figure 4, which compares the methods, are of the first network that was trained with `kls.FocalStd`, or else
    of the first with a decoder.

    Args:
        records: Records of examined networks, with a decoder or without.
        store: The `RunStore`.
        datasets: `{name: Dataset}`.
    """
    least = min(record["seed"] for record in records)
    decoders = [record for record in records if record["seed"] == least and record["loss"] == "denoising"]
    for name in dict.fromkeys(record["dataset"] for record in decoders):
        group = [record for record in decoders if record["dataset"] == name]
        record = next((record for record in group if record["recipe"]["method"]["std_weight"]), group[0])
        _, index = base_and_class(name)
        store.write_figure(f"confidence_{name}", _confidences(group, store), dpi=120)
        for figure, drawn in _of_one_network(record, store, datasets[name].class_names, index):
            store.write_figure(f"{figure}_{name}", drawn, dpi=120)


def _confidences(records, store):
    """Draws Figure 4: the maximum softmax of correct, wrong and OOD test images per method."""
    panels, thresholds = {}, {}
    for record in records:
        id_test, held_out = (read_outputs(store.outputs_path(record["trial"], name)) for name in (TEST, HELD_OUT))
        confidence = score_of(id_test, SOFTMAX)
        right = id_test["logits"].argmax(axis=1) == id_test["labels"]
        panels[record["method"]] = {
            "correct": confidence[right],
            "wrong": confidence[~right],
            "OOD": score_of(held_out, SOFTMAX),
        }
        thresholds[record["method"]] = _threshold(record, store).value
    return confidence_histograms(panels, thresholds)


def _of_one_network(record, store, class_names, index):
    """Yields the names and figures of one network: 3, 6, 7, 8 and twice 9, on the validation and the test images."""
    pictures = store.arrays(record["trial"], PICTURES)
    outputs = {
        name: read_outputs(store.outputs_path(record["trial"], name)) for name in (VALIDATION, PROXY, TEST, HELD_OUT)
    }
    yield "restored", _restored(pictures, class_names)
    yield "proxy_ood", _proxy_ood(pictures)
    held_out = f"{index} (held out)"
    by_class = [-outputs[TEST][ERROR][outputs[TEST]["labels"] == label] for label in range(len(class_names))]
    errors = list(zip(class_names, by_class, strict=True))
    errors.insert(int(index), (held_out, -outputs[HELD_OUT][ERROR]))
    errors = dict(errors)
    yield "error_by_class", error_by_class(errors, [held_out])
    count = min(LARGEST, sum(map(len, errors.values())))
    yield "largest_errors", largest_by_class(errors, count, [held_out])
    threshold = _threshold(record, store)
    for split, id_set, ood_set in (("validation", VALIDATION, PROXY), ("test", TEST, HELD_OUT)):
        kept, passed = (score_of(outputs[name], SOFTMAX) for name in (id_set, ood_set))
        point = {f"threshold {threshold.value:.3f}": tuple((s >= threshold.value).mean() for s in (passed, kept))}
        title = f"Maximum softmax, {split} images"
        yield f"roc_{split}", plots.roc_curves(kept, {SHOWN_AS[ood_set]: passed}, title, point)


def _restored(pictures, class_names):
    """Draws Figure 3: held-out images, under noise and restored, with the class that the noised one is taken for."""
    probabilities = softmax(pictures[f"{HELD_OUT}_logits"])
    titles = [f"{class_names[row.argmax()]}\n{row.max():.2f}" for row in probabilities]
    return image_rows({label: _picture(pictures, HELD_OUT, part) for part, label in PARTS.items()}, titles)


def _proxy_ood(pictures):
    """Draws Figure 6: proxy OOD images and ID images, each original, noised and restored."""
    rows = {
        label: np.concatenate([_picture(pictures, name, part)[::2] for name in (PROXY, TEST)])
        for part, label in PARTS.items()
    }
    return image_rows(rows, gap=PICTURED // 2, titles=("proxy OOD images", "ID images"))


def _picture(pictures, name, part):
    return np.float32(pictures[f"{name}_{part}"]) / 255


def _threshold(record, store):
    return Threshold.load(store.outputs_path(record["trial"], TEST).parents[1] / THRESHOLD)


def confidence_histograms(panels, thresholds, bins=50):
    """Draws how the maximum softmax is distributed in groups of samples, such as correct, wrong and OOD.

    As figure 4 of Song's report on a held-out MNIST digit, one panel per loss. All panels share both axes and the
    bins. Each group is in percent of itself, on a logarithmic axis where the shares span more than two orders of
    magnitude.

    Args:
        panels: `{panel title: {group: scores}}`. An empty group is named with n = 0.
        thresholds: `{panel title: value}` to draw as a dashed line, for any of the panels.
        bins: Number of bins, over the range of all scores.

    Returns:
        A `matplotlib.figure.Figure`.
    """
    scores = [np.asarray(values, float) for groups in panels.values() for values in groups.values()]
    edges = histogram_edges(np.concatenate(scores), bins)
    looks = styles(panels)
    lines = dict(zip(looks, itertools.cycle(LINES), strict=False))
    figure, areas = grid(len(panels), 3, (4, 3.8), sharex=True, sharey=True)
    drawn = []
    for (title, groups), panel in zip(panels.items(), areas, strict=True):
        for group, values in groups.items():
            counts = np.histogram(values, edges)[0]
            shares = np.where(counts, 100 * counts / max(len(values), 1), np.nan)
            drawn.extend(shares[counts > 0])
            color = looks[group]["color"]
            panel.stairs(
                shares,
                edges,
                fill=True,
                facecolor=(color, 0.15),
                edgecolor=color,
                linestyle=lines[group],
                linewidth=1.5,
                label=f"{group} (n = {len(values):,})",
            )
        if title in thresholds:
            value = thresholds[title]
            panel.axvline(value, color="black", linestyle="--", linewidth=1, label=f"threshold {value:.3f}")
        panel.set(title=title, xlabel="maximum softmax probability", ylabel="share of the group, %")
        panel.title.set_fontsize("medium")
        panel.tick_params(labelbottom=True)
        legend_below(panel)
    if drawn and max(drawn) > 100 * min(drawn):
        areas[0].set(yscale="log", ylim=(min(drawn) / 2, 200))
    return figure


def image_rows(rows, columns=None, gap=None, titles=None):
    """Draws rows of images below one another, such as originals, noised and denoised ones.

    As figures 3 and 6 of Song's report.

    Args:
        rows: `{row name: images}`, float images of one shape `(N, H, W, C)` in [0, 1]; values outside are clipped.
        columns: Titles of the N columns, or `None`.
        gap: Index of the column before which a wider space separates two groups, or `None`.
        titles: Titles of the groups, two with a `gap` and one without, or `None`.

    Returns:
        A `matplotlib.figure.Figure`, of one axes per group.
    """
    from matplotlib.figure import Figure

    count, height, width, _ = next(iter(rows.values())).shape
    columns = columns or [""] * count
    groups = [range(count)] if gap is None else [range(gap), range(gap, count)]
    titles = titles or [""] * len(groups)
    heads = [title.split("\n") for title in columns]
    side = max(0.7, 0.085 * max(len(line) for lines in heads for line in lines))
    head = 0.2 * max(map(len, heads)) + 0.3 * any(titles)
    size = (side * count + 0.1 * max(map(len, rows)) + 0.3 * len(groups), side * height / width * len(rows) + head)
    figure = Figure(figsize=size, layout="compressed")
    figure.get_layout_engine().set(w_pad=0.1)
    panels = figure.subplots(1, len(groups), squeeze=False, width_ratios=[len(group) for group in groups]).flat
    for panel, group, title in zip(panels, groups, titles, strict=True):
        for row, images in enumerate(rows.values()):
            for place, column in enumerate(group):
                extent = (place + 0.03, place + 0.97, row + 0.97, row + 0.03)
                panel.imshow(np.clip(images[column], 0, 1), cmap="gray", vmin=0, vmax=1, extent=extent)
        panel.set(xlim=(0, len(group)), ylim=(len(rows), 0), aspect=height / width)
        panel.set_title(title, fontsize="medium")
        panel.xaxis.tick_top()
        panel.set_xticks(np.arange(len(group)) + 0.5, [columns[column] for column in group], fontsize="small")
        panel.set_yticks([])
        panel.tick_params(length=0)
        panel.spines[:].set_visible(False)
    panels[0].set_yticks(np.arange(len(rows)) + 0.5, list(rows))
    return figure


def error_by_class(errors, held_out):
    """Draws how reconstruction errors are distributed in each class, on a logarithmic axis.

    As figure 7 of Song's report: a box per class from the lower to the upper quartile, with a line at the median and
    whiskers to the outermost errors between the 5th and the 95th percentile.

    Args:
        errors: `{class name: errors}`; a class may be empty.
        held_out: Names of the classes that were held out, which are coloured.

    Returns:
        A `matplotlib.figure.Figure`.
    """
    figure, panel, places = _class_figure(errors, held_out)
    values = list(errors.values())
    for kind, of_kind in places.items():
        panel.boxplot(
            [values[place] for place in of_kind],
            positions=of_kind,
            widths=0.6,
            whis=(5, 95),
            showfliers=False,
            patch_artist=True,
            boxprops=KINDS[kind],
            medianprops={"color": "black"},
            manage_ticks=False,
            label=kind,
        )
    panel.set(yscale="log", ylabel="reconstruction error (MSE)")
    figure.legend(loc="outside upper center", ncols=2, frameon=False)
    return figure


def largest_by_class(errors, count, held_out):
    """Draws how many of the largest reconstruction errors over all classes belong to each class.

    As figure 8 of Song's report. A line across each bar marks how many there would be by chance: `count` times the
    share of the class in all samples. Of equal errors those of the class that comes first count as larger.

    Args:
        errors: `{class name: errors}`; a class may be empty.
        count: How many of the largest errors are counted, at most all.
        held_out: Names of the classes that were held out, which are coloured.

    Returns:
        A `matplotlib.figure.Figure`.
    """
    figure, panel, places = _class_figure(errors, held_out)
    sizes = np.array([len(values) for values in errors.values()])
    total = sizes.sum()
    owners = np.repeat(np.arange(len(sizes)), sizes)
    largest = np.argsort(-np.concatenate(list(errors.values())), kind="stable")[:count]
    found = np.bincount(owners[largest], minlength=len(sizes))
    for kind, of_kind in places.items():
        bars = panel.bar(of_kind, found[of_kind], width=0.6, edgecolor="black", label=kind, **KINDS[kind])
        panel.bar_label(bars, padding=3, fontsize="small", bbox={"facecolor": "white", "linewidth": 0, "pad": 1})
    numbers = np.arange(len(sizes))
    panel.hlines(count * sizes / total, numbers - 0.4, numbers + 0.4, color="black", linewidth=2, label="by chance")
    panel.set(ylabel=f"among the {count:,} largest errors")
    panel.margins(y=0.12)
    figure.legend(loc="outside upper center", ncols=3, frameon=False)
    return figure


def _class_figure(errors, held_out):
    """Returns a figure with a tick for each class, its panel, and `{kind: places of its classes}`."""
    from matplotlib.figure import Figure

    places = {kind: [] for kind in KINDS}
    for place, name in enumerate(errors):
        places["OOD" if name in held_out else "ID"].append(place)
    figure = Figure(figsize=(max(4.4, 0.65 * len(errors) + 1), 3.6), layout="constrained")
    panel = figure.subplots()
    ticks = [f"{name}\nn = {len(values):,}" for name, values in errors.items()]
    panel.set_xticks(range(len(errors)), ticks, fontsize="small")
    panel.set(xlabel="class", xlim=(-0.6, len(errors) - 0.4))
    panel.grid(axis="y", alpha=0.3)
    return figure, panel, {kind: of_kind for kind, of_kind in places.items() if of_kind}
