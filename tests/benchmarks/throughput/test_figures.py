import math

import pandas as pd
import pytest

from benchmarks.throughput.figures import steps_figure

RATES = {("float32", "kls"): 300.0, ("float32", "keras"): 100.0, ("mixed_bfloat16", "kls"): 500.0}


def summary(stock):
    return pd.DataFrame(
        {
            **{"network": network, "batch_size": 64, "precision": precision, "form": form, "training": rate},
            "to_stock": rate / stock,
        }
        for network in ("resnet20v1", "wrn40-2", "densenet40-12")
        for (precision, form), rate in RATES.items()
    )


@pytest.mark.parametrize(("stock", "unit"), [(100, "stock Keras in float32"), (math.nan, "the slowest form")])
def test_bars_are_rates_relative_to_stock_keras_or_the_slowest(stock, unit):
    figure = steps_figure(summary(stock))
    panels = [panel for panel in figure.axes if panel.get_visible()]
    assert [panel.get_title() for panel in panels] == ["resnet20v1", "wrn40-2", "densenet40-12"]
    kls, keras = (bars.datavalues for bars in panels[0].containers)
    assert list(kls) == [3, 5]
    assert list(keras) == [1, 0]
    assert unit in figure.get_suptitle()
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["kls", "keras"]
