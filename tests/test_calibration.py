"""Simulation-based calibration: right inference is not accused, wrong inference is."""

import math
import sys
from pathlib import Path

import arviz as az
import numpy as np
import pyro.distributions as dist
import pytest
import torch
import xarray as xr

import caskade_pyro as ck

sys.path.insert(0, str(Path(__file__).parents[1] / "examples"))
from calibration import MODELS, calibrate


class Mean(ck.Module):
    """A mean with a normal prior, whose posterior is known."""

    def __init__(self):
        super().__init__()
        self.mu = ck.Param("mu", prior=dist.Normal(0.0, 1.0))

    @ck.forward
    def data(self, mu):
        return dist.Normal(mu, 1.0)


def bound(**options):
    """Three data, one of them missing."""
    return ck.PyroModel(Mean().data, **options).bind(obs=torch.tensor([0.0, math.nan, 0.0]))


def exact(shift=0.0, scale=1.0):
    """An inference that draws from the posterior, which is known; shifted, or of another width."""

    def infer(model, seed):
        observed = model.data["obs"]
        present = observed[~torch.isnan(observed)]
        centre, width = present.sum() / (1 + len(present)), (1 + len(present)) ** -0.5
        draws = np.random.default_rng(seed).normal(float(centre) + shift, scale * width, size=(1, 99))
        return az.from_dict(posterior={"mu": draws})

    return infer


def test_exact_inference_is_uniform():
    """Draws from the posterior itself, with a datum missing, give ranks within the band."""
    found = ck.calibrate(bound(), 400, infer=exact(), seed=1, cores=1, progress=False)
    assert found.outside(0.95) == ()
    assert found.ranks["mu"].min() >= 0
    assert found.ranks["mu"].max() <= 99
    assert "all within" in str(found)


@pytest.mark.parametrize("wrong", [{"shift": 0.3}, {"scale": 0.7}, {"scale": 1.5}])
def test_wrong_inference_is_not(wrong):
    """Posteriors that are shifted, too narrow or too wide are named."""
    found = ck.calibrate(bound(), 400, infer=exact(**wrong), seed=1, cores=1, progress=False)
    assert found.outside() == ("mu",)
    assert "not uniform: mu" in str(found)


def test_ranks_are_the_same_for_any_number_of_processes():
    """The seed alone decides the ranks."""
    one, two = (ck.calibrate(bound(), 12, infer=exact(), seed=3, cores=n, progress=False) for n in (1, 2))
    xr.testing.assert_equal(one.ranks, two.ranks)


def test_the_picture_has_a_row_for_each_site():
    """The figure shows a histogram and the difference of distributions for each site."""
    found = ck.calibrate(bound(), 50, infer=exact(), seed=1, cores=1, progress=False)
    figure = found.plot()
    assert len(figure.axes) == 2
    assert figure.axes[0].get_ylabel() == "mu"


def test_too_few_draws_are_refused():
    """An inference that gives fewer draws than are ranked is told so."""
    with pytest.raises(ck.SamplingError, match=r"gave 99 draws of mu, but 200 are needed"):
        ck.calibrate(bound(), 5, draws=200, infer=exact(), seed=1, cores=1, progress=False)
    with pytest.raises(ck.SamplingError, match="must be at least 1"):
        ck.calibrate(bound(), 0)


@pytest.mark.slow
@pytest.mark.parametrize("name", MODELS)
def test_nuts_is_calibrated(name):
    """NUTS on a plate, a nested and a crossed model, and on a circle, gives uniform ranks."""
    assert calibrate(name, 200).outside() == ()


@pytest.mark.slow
def test_a_wrong_model_is_seen():
    """A model that takes half of the noise for the whole gives posteriors that are too narrow, and is named."""
    assert "schools.effect[0]" in calibrate("wrong", 200).outside()
