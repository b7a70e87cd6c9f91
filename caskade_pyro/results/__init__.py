"""Results: draws as ArviZ data, predictions, and values written back into the graph."""

from .calibration import Calibration, calibrate
from .fit import Fit, fit
from .metric import metric
from .point import point
from .predict import log_likelihood, predict, prior_predictive
from .sample import sample

__all__ = [
    "Calibration",
    "Fit",
    "calibrate",
    "fit",
    "log_likelihood",
    "metric",
    "point",
    "predict",
    "prior_predictive",
    "sample",
]
