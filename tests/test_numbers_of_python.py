"""Numbers of Python are doubles: however and wherever they are given, a model in double precision sees all their digits."""

import copy
import pickle

import numpy as np
import pandas as pd
import pyro.distributions as dist
import pytest
import torch
import xarray as xr

import caskade_pyro as ck

N = 4
EPOCHS = [2458001.1357, 2458004.3530, 2458007.5703, 2458010.7876]
ERROR = 7e-4
DOUBLE = torch.float64

WAYS = {
    "list": list,
    "tuple": tuple,
    "numpy": np.array,
    "list of numpy": lambda values: [np.float64(one) for one in values],
    "pandas": pd.Series,
    "xarray": lambda values: xr.DataArray(np.array(values), dims="x"),
    "torch": lambda values: torch.tensor(values, dtype=DOUBLE),
}
SCALAR_WAYS = {
    "python": float,
    "numpy": np.float64,
    "numpy of no dims": np.array,
    "torch": lambda value: torch.tensor(value, dtype=DOUBLE),
}


class Star(ck.Module):
    """A star with a reference epoch of its own."""

    def __init__(self, reference):
        super().__init__()
        self.reference = ck.Param("reference", reference, shape=())

    @ck.forward
    def seen(self, epoch, shift, reference):
        return dist.Normal(epoch + shift + reference, ERROR)


class Stars(ck.Module):
    """Stars whose epochs are the sum of an input, a constant of each, a common constant and what is to be found."""

    def __init__(self, reference, common=0.0, prior=None, valid=None):
        super().__init__()
        self.hierarchical_link("stars", Star(reference), size=N)
        prior = None if valid is not None else prior or ck.prior(dist.Normal, 0.0, 1.0)
        self.shift = ck.Param("shift", shape=(), prior=prior, valid=valid)
        self.common = ck.Param("common", common, shape=())

    @ck.forward
    def seen(self, epoch, shift, common):
        return ck.vmap(self.stars.seen, in_dims=(0, None))(epoch, shift + common)


ZEROS = torch.zeros(N, dtype=DOUBLE)


def bound(data, epoch=ZEROS, reference=ZEROS, **settings):
    """The model with its data."""
    return ck.PyroModel(Stars(reference, **settings).seen, dims={"obs": ("stars",)}).bind(epoch, obs=data)


def log_densities(model, at):
    """The log density by the model itself, by its flat form and by the compiled one, less what its coordinates add."""
    value = torch.tensor([at], dtype=DOUBLE)
    density = ck.LogDensity(model)
    z = density.unconstrain({"shift": value[0]})
    plain = model.log_density({"shift": value})[0]
    slope = torch.autograd.functional.jacobian(lambda one: density.constrain(one)["shift"], z).abs().log().sum()
    found = [plain, density.value(z) - slope, density.compile().value(z) - slope]
    assert {one.dtype for one in found} == {DOUBLE}
    return [float(one) for one in found]


def check(model, at, loc, data=EPOCHS, prior=None):
    """Compare with the density by numpy, of which nothing is rounded to single precision."""
    standard = (np.array(data) - np.array(loc)) / ERROR
    expected = float((-(standard**2) / 2 - np.log(ERROR) - np.log(2 * np.pi) / 2).sum())
    prior = dist.Normal(torch.tensor(0.0, dtype=DOUBLE), 1.0) if prior is None else prior
    expected += float(prior.log_prob(torch.tensor(at, dtype=DOUBLE)))
    # Of numbers near 2.5 million a double has ten digits behind the point, and the density is as steep as the error is small.
    rounding = 4 * np.spacing(3e6) / ERROR * np.abs(standard).sum()
    for found in log_densities(model, at):
        assert abs(found - expected) <= 1e-12 * abs(expected) + rounding


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("place", ["data", "input", "member"])
def test_lists_of_numbers_keep_their_digits(place, way):
    """Data, an input and constants of members have the density of float64 however they are given."""
    given, exact = WAYS[way](EPOCHS), torch.tensor(EPOCHS, dtype=DOUBLE)
    if place == "data":
        check(bound(given, epoch=exact), 3e-4, np.array(EPOCHS) + 3e-4)
    elif place == "input":
        check(bound(exact, epoch=given), 3e-4, np.array(EPOCHS) + 3e-4)
    else:
        check(bound(exact, reference=given), 3e-4, np.array(EPOCHS) + 3e-4)


@pytest.mark.parametrize("way", SCALAR_WAYS)
@pytest.mark.parametrize("place", ["constant", "prior", "valid"])
def test_single_numbers_keep_their_digits(place, way):
    """A constant, arguments of a prior and bounds have the density of float64 however they are given."""
    near, given = 2458001.1357, SCALAR_WAYS[way]
    data = torch.tensor([near] * N, dtype=DOUBLE)
    if place == "constant":
        check(bound(data, common=given(near)), 3e-4, np.full(N, near + 3e-4), [near] * N)
    elif place == "prior":
        prior = ck.prior(dist.Normal, given(near), given(0.0011))
        exact = dist.Normal(torch.tensor(near, dtype=DOUBLE), 0.0011)
        check(bound(data, prior=prior), near + 3e-4, np.full(N, near + 3e-4), [near] * N, exact)
    else:
        valid = given(near - 0.0013), given(near + 0.0027)
        exact = dist.Uniform(torch.tensor(near - 0.0013, dtype=DOUBLE), torch.tensor(near + 0.0027, dtype=DOUBLE))
        check(bound(data, valid=valid), near + 3e-4, np.full(N, near + 3e-4), [near] * N, exact)


@pytest.mark.parametrize("way", [name for name in WAYS if name != "xarray"])
def test_values_set_later_keep_their_digits(way):
    """What is set by assignment, to_static, set_values with a list or a dict is seen in double."""
    exact = torch.tensor(EPOCHS, dtype=DOUBLE)
    for put in (
        lambda stars, value: setattr(stars.stars, "reference", value),
        lambda stars, value: stars.stars.reference.to_static(value),
        lambda stars, value: stars.set_values([value, 0.0], dynamic=False),
        lambda stars, value: stars.set_values({"stars": {"reference": value}}, dynamic=False),
    ):
        stars = Stars([0.0] * N)
        put(stars, WAYS[way](EPOCHS))
        model = ck.PyroModel(stars.seen, dims={"obs": ("stars",)}).bind(ZEROS, obs=exact)
        check(model, 3e-4, np.array(EPOCHS) + 3e-4)


def test_copies_and_pickles_keep_the_digits():
    """A graph that was copied or pickled still has all digits, and so has a bound model."""
    exact = torch.tensor(EPOCHS, dtype=DOUBLE)
    for again in (copy.deepcopy, copy.copy, lambda one: pickle.loads(pickle.dumps(one))):
        stars = again(Stars(EPOCHS))
        check(ck.PyroModel(stars.seen, dims={"obs": ("stars",)}).bind(ZEROS, obs=exact), 3e-4, np.array(EPOCHS) + 3e-4)
    check(pickle.loads(pickle.dumps(bound(EPOCHS, epoch=exact))), 3e-4, np.array(EPOCHS) + 3e-4)


def test_to_double_keeps_the_digits():
    """module.to(dtype=torch.float64) takes the numbers that were given, not those that torch had rounded."""
    stars = Stars(EPOCHS, valid=(0.1, 0.3))
    stars.to(dtype=DOUBLE)
    assert stars.stars.reference.value.tolist() == EPOCHS
    assert [float(bound) for bound in stars.shift.valid] == [0.1, 0.3]


def test_a_constant_that_the_simulator_holds_in_double_counts():
    """A tensor in double precision that is no param makes the whole model double, too."""

    class Own(ck.Module):
        def __init__(self):
            super().__init__()
            self.shift = ck.Param("shift", prior=ck.prior(dist.Normal, 0.0, 1.0))
            self.grid = torch.tensor(EPOCHS, dtype=DOUBLE)

        @ck.forward
        def seen(self, shift):
            return dist.Normal(self.grid + shift, ERROR)

    check(ck.PyroModel(Own().seen).bind(obs=EPOCHS), 3e-4, np.array(EPOCHS) + 3e-4)


def test_nested_lists_and_rows_are_taken():
    """A table as a list of lists has all its digits, as data and as an input."""
    table = [[2458001.1357, 2458002.7753], [2458003.0001, 2458004.9999]]

    class Table(ck.Module):
        def __init__(self):
            super().__init__()
            self.shift = ck.Param("shift", prior=ck.prior(dist.Normal, 0.0, 1.0))

        @ck.forward
        def seen(self, epoch, shift):
            return dist.Normal(epoch + shift, ERROR)

    model = ck.PyroModel(Table().seen).bind(tuple(map(tuple, table)), obs={"obs": np.array(table)})
    check(model, 3e-4, np.array(table) + 3e-4, table)


def test_models_of_the_default_precision_stay_in_it():
    """Numbers of Python alone make no model double, whatever place they have."""
    model = bound([0.1, 0.2, 0.3, 0.4], [0.1] * N, [0.2] * N, common=0.3, valid=(0.1, 0.7))
    density = ck.LogDensity(model)
    assert density.dtype == torch.float32
    assert model.data["obs"].dtype == torch.float32
    assert {one.dtype for one in (Stars([0.1] * N).stars.reference.value, density.value(torch.zeros(1)))} == {
        torch.float32
    }


def test_calls_with_double_values_see_numbers_in_double():
    """A call that is given params or inputs in double precision sees constants in it, compiled too."""
    stars = Stars(EPOCHS)
    shift, epoch = torch.tensor([3e-4], dtype=DOUBLE), torch.zeros(N, dtype=DOUBLE)
    expected = [one + 3e-4 for one in EPOCHS]
    for found in (
        stars.seen(epoch, shift).loc,
        stars.seen(torch.zeros(N), shift).loc,
        stars.seen(epoch, {"shift": 3e-4}).loc,
        stars.seen(epoch, [3e-4]).loc,
    ):
        assert found.tolist() == expected


def test_start_values_and_points_keep_their_digits():
    """start= takes all digits of Python's numbers, and ck.point returns those of the draws."""
    data = torch.tensor([2458001.1357] * N, dtype=DOUBLE)
    prior = ck.prior(dist.Normal, 2458001.1357, 0.0011)
    model = bound(data, prior=prior)
    density = ck.LogDensity(model)
    z = density.unconstrain({"shift": 2458001.1359})
    assert float(density.constrain(z)["shift"]) == 2458001.1359
    posterior = ck.sample(model, 500, 200, 4, seed=1, progress=False, start={"shift": 2458001.1359})
    point = ck.point(posterior, model.model.module)
    assert abs(float(point["shift"]) - 2458001.1357) < 1e-3
    model.model.module.set_values(point)
    assert model.model.module.shift.value.dtype == DOUBLE


def joint(loc):
    """One joint normal distribution."""
    return dist.MultivariateNormal(loc, torch.eye(N, dtype=loc.dtype) * ERROR**2)


def mixture(loc):
    """Two components."""
    weights = dist.Categorical(torch.ones(N, 2, dtype=loc.dtype))
    return dist.MixtureSameFamily(weights, dist.Normal(torch.stack([loc, loc + 1], -1), ERROR))


def robust(loc):
    """Student's t."""
    return dist.StudentT(4.0, loc, ERROR)


@pytest.mark.parametrize("missing", [False, True])
@pytest.mark.parametrize("likelihood", [joint, mixture, robust])
def test_other_likelihoods_and_missing_data(likelihood, missing):
    """Joint distributions, mixtures, Student's t and missing entries have the density of float64, given lists."""

    class Own(ck.Module):
        def __init__(self, reference):
            super().__init__()
            self.shift = ck.Param("shift", prior=dist.Normal(torch.tensor(0.0, dtype=DOUBLE), 1.0))
            self.reference = ck.Param("reference", reference, shape=(N,))

        @ck.forward
        def seen(self, shift, reference):
            return reference + shift

    data = [float("nan") if missing and index == 1 else one for index, one in enumerate(EPOCHS)]
    params = {"shift": torch.tensor([3e-4], dtype=DOUBLE)}
    found, exact = (
        ck.PyroModel(Own(given(EPOCHS)).seen, likelihood=likelihood).bind(obs=given(data)).log_density(params)
        for given in (list, np.array)
    )
    assert found.dtype == DOUBLE
    torch.testing.assert_close(found, exact, rtol=1e-12, atol=0.0)
