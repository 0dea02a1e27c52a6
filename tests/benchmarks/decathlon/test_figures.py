import numpy as np
import pandas as pd
import pytest

from benchmarks.decathlon.figures import differences_against_gamma

METRICS = {"accuracy": 0.0025, "nll": 0.01, "brier": 0.005, "ece": 0.005, "auroc_far": 0.01}


def numbers(metrics=METRICS, difference=0.001, n=3, **changes):
    """Returns a frame of comparisons of two gammas, with intervals of 0.001 to either side."""
    cells = {"dataset": "digits", "model": "resnet8v1", "baseline": 0.9, "difference": difference, "n": n}
    ends = {"low": difference - 0.001, "high": difference + 0.001, "word": "cannot tell"}
    return pd.DataFrame(
        [
            {**cells, **ends, "metric": metric, "margin": METRICS.get(metric, 0.01), "gamma": gamma, **changes}
            for metric in metrics
            for gamma in (0.9, 0.5)
        ]
    )


def panels(figure):
    return [axes for axes in figure.axes if axes.get_visible()]


def test_each_metric_has_a_panel_and_each_network_a_block():
    figure = differences_against_gamma(pd.concat([numbers(), numbers(["accuracy", "nll"], dataset="glyphs")]), {})
    titles = [axes.get_title().splitlines() for axes in panels(figure)]
    assert titles[:4] == [
        ["accuracy", "90.00 % at γ = 1"],
        ["NLL", "0.9000 nats at γ = 1"],
        ["ECE", "90.00 % at γ = 1"],
        ["AUROC far", "90.00 % at γ = 1"],
    ]
    assert [title[0] for title in titles[4:]] == ["accuracy", "NLL"]
    blocks = [block.get_suptitle() for block in figure.subfigs]
    assert blocks[0] == "digits, resnet8v1, n = 3\ndifferences from γ = 1 with 95 % confidence intervals"
    assert blocks[1].startswith("glyphs (synthetic), resnet8v1")


def test_a_panel_shows_the_numbers_with_their_intervals_and_zero():
    panel, *_ = panels(differences_against_gamma(numbers(["accuracy"], difference=-0.02), {}))
    bars = panel.containers[0]
    np.testing.assert_allclose(bars.lines[0].get_xydata(), [[0.9, -2.0], [0.5, -2.0]])
    np.testing.assert_allclose(bars.lines[2][0].get_segments()[0], [[0.9, -2.1], [0.9, -1.9]])
    assert panel.get_ylabel() == "points (larger is better)"
    assert [0, 0] in [list(line.get_ydata()) for line in panel.lines]
    low, high = panel.get_ylim()
    assert low < -2.1
    assert high > 0


@pytest.mark.parametrize("metric", ["accuracy", "nll"])
def test_axes_show_that_nothing_happened(metric):
    """The differences are a tenth of what matters: they lie at zero, and are not zoomed to."""
    scale = 1 if metric == "nll" else 100
    panel, *_ = panels(differences_against_gamma(numbers([metric], difference=METRICS[metric] / 10), {}))
    assert panel.get_ylim()[0] < -4 * scale * METRICS[metric]
    assert panel.get_ylim()[1] > 4 * scale * METRICS[metric]


def test_the_papers_differences_are_drawn_for_accuracy_alone():
    published = {("digits", "resnet8v1"): {1.0: 0.0, 0.9: -0.01, 0.2: -0.03}}
    figure = differences_against_gamma(numbers(["accuracy", "nll"]), published)
    drawn = [[line.get_xydata().tolist() for line in axes.lines if line.get_marker() == "x"] for axes in panels(figure)]
    np.testing.assert_allclose(drawn[0][0], [[0.2, -3.0], [0.9, -1.0], [1.0, 0.0]])
    assert drawn[1] == []
    assert "published (best epoch)" in [text.get_text() for text in figure.subfigs[-1].legends[0].get_texts()]


def test_the_legend_names_the_words_that_are_there():
    figure = differences_against_gamma(numbers(word="worse"), {})
    assert [text.get_text() for text in figure.subfigs[-1].legends[0].get_texts()] == ["worse", "too little to matter"]


def test_one_seed_is_said_to_be_for_new_images_alone(tmp_path):
    figure = differences_against_gamma(numbers(n=1), {})
    assert figure.subfigs[0].get_suptitle().endswith("confidence intervals, for new images alone")
    figure.savefig(tmp_path / "figure.png")
    assert (tmp_path / "figure.png").read_bytes().startswith(b"\x89PNG")
