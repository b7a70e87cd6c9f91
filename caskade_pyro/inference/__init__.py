"""Running inference: NUTS in several processes, variational fits, and draws in the user's params."""

from .chains import Draws, run_chains
from .predictive import draw_predictions
from .svi import Fitted, run_svi

__all__ = ["Draws", "Fitted", "draw_predictions", "run_chains", "run_svi"]
