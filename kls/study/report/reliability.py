"""Reliability of the baseline and of the method compared, as trained and after temperature scaling."""

import pandas as pd

from kls.calibration import TemperatureScaling, expected_calibration_error
from kls.calibration.scaling.base import cross_scaled
from kls.pages.curves import reliability_diagrams
from kls.pages.page import File, Grid
from kls.study.outputs import BINS, CONVENTION
from kls.study.report.tables import percent

HOW = "each half of the images is scaled by the temperature T that was fitted to the other half"
AT_END = "A temperature is an end of the range that is searched: the best lies beyond."


def reliability_parts(group):
    """Returns a table of temperatures, and reliability diagrams of one network of each method in detail."""
    rows, numbers, networks, at_end = [], [], {}, False
    for method in group.detailed:
        found = []
        for seed, record in sorted(group.by_method[method].items()):
            logits, labels = group.outputs(record)
            scaled, scalers = cross_scaled(TemperatureScaling(), logits, labels)
            at_end |= any(scaler.is_at_bound for scaler in scalers)
            temperatures = [scaler.temperature for scaler in scalers]
            of = {"as_trained": _ece(labels, logits), "scaled": _ece(labels, scaled)}
            found.append({"method": method, "seed": seed, **of, **dict(zip(("T1", "T2"), temperatures, strict=True))})
            if record is group.first(method):
                shown = ", ".join(f"{value:.3f}" for value in temperatures)
                networks[f"{method}, as trained"] = labels, logits
                networks[f"{method}, T = {shown}"] = labels, scaled
        frame = pd.DataFrame(found)
        ends = frame[["T1", "T2"]].to_numpy()
        rows.append(
            (
                *(method, str(len(frame)), percent(frame["as_trained"]), percent(frame["scaled"])),
                f"{ends.min():.3f} to {ends.max():.3f}",
            )
        )
        numbers.append(frame)
    table = Grid(
        f"ECE with {BINS} bins of equal width on {group.evaluated}; after temperature scaling: {HOW}. Above 1 a "
        "temperature makes a network less confident. n: networks; ±: standard deviation over them.",
        ("method", "n", "ECE % as trained", "ECE % after", "T"),
        tuple(rows),
        File.of_frame(f"{group.prefix}temperatures", pd.concat(numbers)),
        (AT_END,) * at_end,
    )
    caption = f"Networks of {group.first_seeds}, {group.evaluated}. With a T: {HOW}. A bar is the accuracy of a bin."
    return table, reliability_diagrams(f"{group.prefix}reliability", networks, BINS, CONVENTION, caption)


def _ece(labels, logits):
    return expected_calibration_error(labels, logits, BINS, from_logits=True, convention=CONVENTION)
