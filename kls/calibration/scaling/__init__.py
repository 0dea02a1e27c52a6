"""Post-hoc calibration: scalers fitted to held-out logits. SciPy and scikit-learn do the optimisation.

One protocol: `fit(logits, y_true)` returns the scaler itself, `transform(logits)` the calibrated logits of shape
`(N, K)`, whose softmax are the calibrated probabilities (a logit of `-inf` is a probability of 0). Fit on data that the
network was not trained on, and judge on other data still.
"""

from kls.calibration.scaling.classwise import HistogramBinning, IsotonicScaling
from kls.calibration.scaling.linear import DirichletScaling, MatrixScaling, VectorScaling
from kls.calibration.scaling.temperature import TemperatureScaling

SCALERS = {
    "temperature": TemperatureScaling,
    "vector": VectorScaling,
    "matrix": MatrixScaling,
    "dirichlet": DirichletScaling,
    "isotonic": IsotonicScaling,
    "histogram": HistogramBinning,
}
