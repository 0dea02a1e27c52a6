"""The page of an evaluation: what was found, first in words, then in tables, figures and images."""

import numpy as np

from kls.calibration.samples import softmax
from kls.pages.classes import confusions, worst_classes
from kls.pages.curves import reliability_diagrams, risk_coverage_curves, roc_curves
from kls.pages.page import Chapter, File, Grid, Page, Section, Text
from kls.pages.thumbnails import as_images, confidently_wrong, least_in_distribution, pictures_of
from kls.utils.arrays import shown

AS_TRAINED = "as trained"
NO_IMAGES = "There are no images to show: `save_report` was not given `images`."


def evaluation_page(evaluation, tables, images=None, class_names=None):
    """Returns the `Page` of an evaluation.

    Args:
        evaluation: The `kls.evaluation.Evaluation`.
        tables: Caption, header and lines of its tables, that of calibration first.
        images: As in `Evaluation.save_report`.
        class_names: As in `Evaluation.save_report`.

    Raises:
        ValueError: If an argument is not as above.
    """
    unscaled, *_ = evaluation.logits.values()
    class_names = _checked_names(class_names, unscaled.shape[1])
    images = None if images is None else as_images(images, len(evaluation.labels))
    calibration, *detection = tables
    sections = [
        Section("What was found", (Text(_sentence(evaluation.headline), "lead"), *_remarks(evaluation))),
        Section("Calibration", (_grid(calibration, evaluation), *_calibration(evaluation))),
    ]
    if detection:
        grids = [_grid(table) for table in detection]
        sections.append(Section("Out-of-distribution detection", (*grids, _roc(evaluation))))
    sections.append(Section("Classes", _classes(evaluation, unscaled, class_names)))
    sections.append(Section("Images to look at", _pictures(evaluation, unscaled, images, class_names)))
    return Page("Evaluation of a classifier", (), (Chapter("", tuple(sections)),))


def _checked_names(class_names, classes):
    if class_names is None:
        return [str(index) for index in range(classes)]
    names = list(class_names) if isinstance(class_names, list | tuple | np.ndarray) else []
    if len(names) != classes or not all(isinstance(name, str) for name in names):
        raise ValueError(f"`class_names` must be {classes} texts. Received: class_names={shown(class_names)}")
    return names


def _sentence(text):
    return f"{text[:1].upper()}{text[1:]}."


def _remarks(evaluation):
    return [Text(remark, "caveat") for remark in evaluation.remarks]


def _grid(table, evaluation=None):
    """Returns a table of an evaluation as a `Grid`, the first with all numbers as its file."""
    caption, header, lines = table
    file = None if evaluation is None else File.of_frame("metrics", evaluation.to_frame())
    return Grid(caption, tuple(header), tuple(map(tuple, lines)), file)


def _calibration(evaluation):
    titles = {scaling: f"{scaling} scaling" for scaling in evaluation.logits}
    titles[next(iter(titles))] = AS_TRAINED
    networks = {titles[scaling]: logits for scaling, logits in evaluation.logits.items()}
    count = f"n = {len(evaluation.labels):,} samples"
    yield reliability_diagrams(
        "reliability",
        {title: (evaluation.labels, logits) for title, logits in networks.items()},
        evaluation.bins,
        evaluation.convention,
        " ".join(filter(None, [f"Accuracy by confidence; {count}.", evaluation.scaling_note])),
    )
    caption = f"Error among the most confident samples, by how many are answered; {count}."
    yield risk_coverage_curves("risk_coverage", evaluation.labels, networks, caption)


def _roc(evaluation):
    score, (id_scores, ood_scores) = next(iter(evaluation.scores.items()))
    named = {" ".join(filter(None, key)): scores for key, scores in ood_scores.items()}
    others = f", the first of {len(evaluation.scores)} scores" if len(evaluation.scores) > 1 else ""
    counts = ", ".join(f"{len(scores):,} of {name}" for name, scores in named.items())
    caption = f"By {score}{others}; n = {len(id_scores):,} ID samples; {counts}."
    return roc_curves("roc", {score: (id_scores, named)}, caption)


def _classes(evaluation, logits, class_names):
    guesses = {AS_TRAINED: logits.argmax(axis=1)[None]}
    found = confusions("confusions", evaluation.labels, guesses, class_names)
    worst = worst_classes("classes", evaluation.labels, guesses, class_names)
    return (worst, Text("No sample is wrong.") if found is None else found)


def _pictures(evaluation, logits, images, class_names):
    if images is None:
        return (Text(NO_IMAGES),)
    labels, guesses, confidence = evaluation.labels, logits.argmax(axis=1), softmax(logits).max(axis=1)
    wrong = confidently_wrong(labels, guesses, confidence)
    score, scores = "confidence", confidence
    if evaluation.scores:
        score, (scores, _) = next(iter(evaluation.scores.items()))
    least = least_in_distribution(scores)
    given = images, labels, guesses
    caption = f"The {len(wrong)} samples that are wrong with most confidence."
    lowest = f"The {len(least)} samples that score lowest by {score}: the least in-distribution."
    return (
        pictures_of("wrong", caption, wrong, *given, confidence, "confidence", class_names),
        pictures_of("unusual", lowest, least, *given, scores, score, class_names),
    )
