"""A model card for one network of a study, as Hugging Face has it: YAML, then Markdown."""

import json

import pandas as pd

from kls.calibration.metrics import METRICS as CALIBRATION
from kls.calibration.metrics import interval
from kls.ood.metrics import METRICS as DETECTION
from kls.ood.metrics import interval as detection_interval
from kls.pages.page import Code, File
from kls.study.outputs import BINS, CONVENTION, score_of_logits
from kls.study.report.caveats import caveats
from kls.study.report.comparisons import SCORE
from kls.study.report.recipe import machine_of
from kls.study.report.tables import display_name, images_note, percent, plain
from kls.utils.escaping import escape_markdown
from kls.utils.formats import NOT_PERCENT, with_interval

MEASURED = {"accuracy": "accuracy", "ece": "ECE", "nll": "NLL", "brier": "Brier score"}
DETECTED = {"auroc": "AUROC", "fpr95": "FPR at 95 % TPR"}
UNITS = {"nll": " (nats)", "brier": ""}  # of all others percent
RESAMPLES = 1000


def model_card(group, command):
    """Returns the model card of the chosen network of a `Group`, to be shown and as a file.

    Args:
        group: The `Group`.
        command: The command that trains the networks again; as in `recipe_parts`.
    """
    record = group.chosen
    found = _measured(group, record)
    text = "\n".join([*_head(group, record, found), *_body(group, record, found, command)]) + "\n"
    caption = f"A model card for the network of {record['method']}, seed {record['seed']}."
    return Code(text, caption, File(f"{group.prefix}model_card.md", text))


def _measured(group, record):
    """Returns `{(metric, OOD dataset): Interval}` of a network, the dataset empty for the evaluation split."""
    logits, labels = group.outputs(record)
    found = {}
    for metric in MEASURED:
        options = {"bins": BINS, "convention": CONVENTION} if metric == "ece" else {}
        found[metric, ""] = interval(CALIBRATION[metric], labels, logits, RESAMPLES, from_logits=True, **options)
    id_scores = _scores(group, record)
    for ood in group.ood:
        ood_scores = _scores(group, record, ood)
        for metric in DETECTED:
            found[metric, ood] = detection_interval(DETECTION[metric], id_scores, ood_scores, RESAMPLES)
    return found


def _head(group, record, found):
    """Yields the lines of the YAML head; each text is a JSON string, which YAML reads as it is."""
    text = json.dumps
    yield from ("---", "library_name: keras", "pipeline_tag: image-classification", "tags:")
    yield from (f"- {text(tag)}" for tag in ("keras", "kls", "image-classification", record["loss"]))
    yield from ("datasets:", f"- {text(record['dataset'])}", "metrics:")
    yield from (f"- {text(metric)}" for metric in dict.fromkeys(metric for metric, _ in found))
    yield from ("model-index:", f"- name: {text(_name(record))}", "  results:")
    yield from ("  - task:", "      type: image-classification", "    dataset:")
    yield from (f"      name: {text(record['dataset'])}", f"      type: {text(record['dataset'])}")
    yield from (f"      split: {text(record['evaluation'])}", "    metrics:")
    for (metric, ood), one in found.items():
        yield f"    - type: {text(metric)}"
        yield f"      name: {text(_heading(metric, ood))}"
        yield f"      value: {text(one.value)}"
    yield "---"


def _body(group, record, found, command):
    """Yields the paragraphs of the Markdown."""
    safe, recipe = escape_markdown, record["recipe"]
    rate = f"{record['images_per_second']:,.0f} images/s"
    yield from (
        f"\n# {safe(_name(record))}\n",
        f"An image classifier, {safe(record['model'])} with "
        f"{record['parameters']:,} parameters, trained on {safe(record['dataset'])} by {safe(record['method'])}.",
    )
    yield from ("\n## Training\n", f"{safe(images_note(record))}.\n")
    for name, value in recipe.items():
        if value not in (None, []):
            yield f"- {safe(name)}: {safe(value if isinstance(value, str) else json.dumps(value))}"
    yield f"\nTraining took {record['seconds']:,.1f} s ({rate}) on {safe(machine_of(record))}"
    if command:
        yield f"\n    {' '.join(command.splitlines())}"
    yield from (
        "\n## Evaluation\n",
        f"On {group.evaluated}; brackets: 95 % confidence intervals for new images. Over "
        "seeds: mean ± standard deviation of n networks trained alike.\n",
    )
    yield from ("| metric | this network | over seeds |", "|---|---|---|")
    alike = [one for _, one in sorted(group.by_method[record["method"]].items())]
    for (metric, ood), one in found.items():
        shown = with_interval(metric, one.value, one.low, one.high)
        unit = UNITS.get(metric, " (%)")
        yield f"| {safe(_heading(metric, ood))}{unit} | {shown} | {_over_seeds(group, alike, metric, ood)} |"
    if group.verdict is not None:
        yield f"\n{safe(group.verdict.headline)}"
    yield from ("\n## Limits\n", "- These numbers are of images like those it was evaluated on, not of others.")
    yield "- One network is not its method: others of the same recipe differ as far as the column over seeds says."
    yield from (f"- {safe(clause)}." for clause in caveats(record))
    if not group.ood:
        yield "- What it makes of images of no class of its own has not been measured."


def _name(record):
    return f"{record['model']} on {record['dataset']}, {record['method']}, seed {record['seed']}"


def _heading(metric, ood):
    """Returns what people call a metric."""
    return f"{DETECTED[metric]} against {display_name(ood)}" if ood else MEASURED[metric]


def _over_seeds(group, records, metric, ood):
    """Returns the mean and the standard deviation of a metric over networks, with their number."""
    if metric == "fpr95":
        values = [DETECTION[metric](_scores(group, record), _scores(group, record, ood)) for record in records]
    else:
        column = {"accuracy": "accuracy_last", "auroc": f"auroc_{ood}"}.get(metric, metric)
        values = [record[column] for record in records]
    form = plain if metric in NOT_PERCENT else percent
    return f"{form(pd.Series(values))} (n = {len(values)})"


def _scores(group, record, ood=None):
    return score_of_logits(group.outputs(record, ood)[0], SCORE)
