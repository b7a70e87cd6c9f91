"""Inputs, constants and data as scientists have them: arrays of numpy, columns of pandas, what FITS files hold."""

import numpy as np
import pyro.distributions as dist
import pytest
import torch
from scipy.special import erf

import caskade_pyro as ck

POINTS = np.linspace(0.5, 2.0, 4)

ARRAYS = {
    "numpy": POINTS,
    "byte order of FITS": POINTS.astype(">f8"),
    "reversed": POINTS[::-1].copy()[::-1],
    "read-only": np.broadcast_to(POINTS, (1, 4))[0],
}


class Line(ck.Module):
    """A line through zero, with a known error for each point."""

    def __init__(self, error=1.0):
        super().__init__()
        self.slope = ck.Param("slope", shape=(), prior=dist.Normal(0.0, 1.0))
        self.error = ck.Param("error", error)

    @ck.forward
    def at(self, x, slope, error):
        return dist.Normal(slope * x, error)

    @ck.forward
    def product(self, x, slope):
        return dist.Normal(x @ slope.expand(4), 1.0)

    @ck.forward
    def by_scipy(self, x, slope):
        return dist.Normal(torch.as_tensor(erf(slope * x)), 1.0)

    @ck.forward
    def by_numpy(self, x, slope):
        return np.sin(slope.detach().numpy() * x.numpy())

    @ck.forward
    def by_number(self, x, slope):
        return dist.Normal(float(slope) * x, 1.0)


class Lines(ck.Module):
    """Four lines, each with inputs of its own."""

    def __init__(self):
        super().__init__()
        self.hierarchical_link("lines", Line(), size=4)

    @ck.forward
    def at(self, x):
        return ck.vmap(self.lines.at, in_dims=0)(x)

    @ck.forward
    def by_number(self, x):
        return ck.vmap(self.lines.by_number)(x)


@pytest.mark.parametrize("kind", ARRAYS)
def test_arrays_are_taken_as_inputs_constants_and_data(kind):
    """Whatever memory an array has, the density is that of the tensor with its numbers."""
    array, tensor = ARRAYS[kind], torch.tensor(POINTS)
    bound = ck.PyroModel(Line(array).at).bind(array, obs=array)
    expected = ck.PyroModel(Line(tensor).at).bind(tensor, obs=tensor)
    params = {"slope": torch.tensor([0.7])}
    torch.testing.assert_close(bound.log_density(params), expected.log_density(params))


def test_a_masked_array_of_another_byte_order_is_taken():
    """What it hides is missing."""
    data = np.ma.masked_array(POINTS.astype(">f4"), [True, False, False, False])
    bound = ck.PyroModel(Line().at).bind(torch.ones(4), obs=data)
    assert bound.data["obs"].isnan().tolist() == [True, False, False, False]


def test_arrays_differ_between_members():
    """ck.vmap takes the rows of an array that was given to bind, or to the model as a Pyro model."""
    model = ck.PyroModel(Lines().at, dims={"obs": ("lines",)})
    x = np.ones((4, 3))
    assert model.bind(x, obs=x).plan.sizes["lines"] == 4
    assert model(x).batch_shape == (4, 3)


@pytest.mark.parametrize(
    ("method", "x", "likelihood", "message"),
    [
        (
            Line().product,
            torch.ones(3, 4),
            None,
            r"product fails.*float64: slope.*float32: x.*set_default_dtype",
        ),
        (Line().by_scipy, torch.ones(4), None, r"by_scipy fails.*numpy or scipy.*Write it in torch"),
        (Line().by_numpy, torch.ones(4), lambda found: dist.Normal(found, 1.0), r"by_numpy fails.*Write it in torch"),
        (Lines().by_number, torch.ones(4), None, r"by_number fails.*torch\.where"),
        (Line().at, [1, 2, 3, 4], None, r"at fails.*Its input x is a list.*tensor or an array"),
    ],
)
def test_errors_of_torch_in_a_simulator_are_explained(method, x, likelihood, message):
    """What torch says of numpy, dtypes, numbers and lists comes with what to do about it."""
    with pytest.raises(ck.ModelError, match=message):
        ck.PyroModel(method, likelihood=likelihood).bind(x, obs=np.zeros(4))


class Writes(ck.Module):
    """Simulators that write into what they are given."""

    def __init__(self):
        super().__init__()
        self.slope = ck.Param("slope", shape=(), prior=dist.Normal(0.0, 1.0))
        self.counts = ck.Param("counts", torch.tensor([1, 2, 3]))

    @ck.forward
    def input(self, x, slope):
        x *= slope
        return dist.Normal(x, 1.0)

    @ck.forward
    def param(self, x, slope):
        slope *= 2
        return dist.Normal(slope * x, 1.0)

    @ck.forward
    def constant(self, x, slope, counts):
        counts += 1
        return dist.Normal(slope * x * counts, 1.0)

    @ck.forward
    def own(self, x, slope):
        x = x.clone()
        x *= 2
        return dist.Normal(slope * x, 1.0)


@pytest.mark.parametrize(("method", "what"), [("input", "x,"), ("param", "a param"), ("constant", "counts")])
def test_a_simulator_that_writes_into_what_it_is_given_is_refused(method, what):
    """Its next run would see other inputs, and the posterior would be wrong; nothing of the user's is changed."""
    writes, x = Writes(), torch.ones(3)
    with pytest.raises(ck.ModelError, match=rf"Writes\.{method}.*writes into {what}"):
        ck.PyroModel(getattr(writes, method)).bind(x, obs=torch.zeros(3))
    assert x.tolist() == [1.0, 1.0, 1.0]
    assert writes.counts.value.tolist() == [1, 2, 3]


def test_a_simulator_may_write_into_its_own_tensors():
    """A copy of an input is the simulator's."""
    bound = ck.PyroModel(Writes().own).bind(torch.ones(3), obs=torch.zeros(3))
    posterior = ck.sample(bound, draws=1500, tune=300, chains=2, seed=1, progress=False)
    assert abs(float(posterior.posterior["slope"].std()) - 13**-0.5) < 0.02


class Decay(ck.Module):
    """A series that is written into one tensor, step by step."""

    def __init__(self):
        super().__init__()
        self.rate = ck.Param("rate", shape=(), prior=dist.HalfNormal(1.0))

    @ck.forward
    def series(self, rate):
        level = torch.ones(5)
        for i in range(1, 5):
            level[i] = level[i - 1] * torch.exp(-rate)
        return dist.Normal(level.mul_(2.0), 1.0)


def test_a_tensor_that_a_derivative_needs_is_written_into():
    """One can draw from the model; inference says what keeps it from a derivative."""
    bound = ck.PyroModel(Decay().series).bind(obs=torch.zeros(5))
    with pytest.raises(
        ck.SamplingError, match=r"no gradient.*modified by an inplace operation.*write into no tensor that"
    ):
        ck.sample(bound, progress=False)


def test_other_errors_of_a_simulator_are_its_own():
    """An error that torch says well comes through as it is."""
    with pytest.raises(RuntimeError, match="size"):
        ck.PyroModel(Line().product).bind(torch.ones(3, 5), obs=torch.zeros(3))
