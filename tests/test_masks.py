"""Likelihoods that a user's own masks leave entries out of: the same as with these entries missing."""

import arviz as az
import numpy as np
import pyro.distributions as dist
import pytest
import torch
from pyro import poutine

import caskade_pyro as ck

GROUPS, VISITS = 4, 3
THERE = torch.tensor([[True, True, False], [True, False, False], [True, True, True], [False, False, False]])


class One(ck.Module):
    def __init__(self):
        super().__init__()
        self.a = ck.Param("a", shape=())

    @ck.forward
    def own(self, a):
        return a


class Table(ck.Module):
    """Groups that were visited several times; of the data whatever a function makes of the means and the noise."""

    def __init__(self, make):
        super().__init__()
        self.make = make
        self.hierarchical_link("groups", One(), size=GROUPS)
        self.groups.a.prior = dist.Normal(0.0, 1.0)
        self.noise = ck.Param("noise", prior=dist.HalfNormal(1.0))
        self.idle = ck.Param("idle", prior=dist.Normal(0.0, 1.0))

    @ck.forward
    def data(self, noise):
        return self.make(ck.vmap(self.groups.own)()[:, None].expand(GROUPS, VISITS), noise)


def bind(make, observed, dims=("groups", "visits")):
    return ck.PyroModel(Table(make).data, dims={"obs": dims}).bind(obs=observed)


def posterior(dtype):
    rng = np.random.default_rng(1)
    draws = {
        "groups.a": rng.normal(size=(2, 10, GROUPS)),
        "noise": rng.uniform(0.5, 1.5, (2, 10)),
        "idle": np.zeros((2, 10)),
    }
    return az.from_dict({name: value.astype(dtype) for name, value in draws.items()})


def observed():
    return torch.randn(GROUPS, VISITS, generator=torch.Generator().manual_seed(1))


def single(mean, noise):
    return dist.Normal(mean, noise)


def rows(mean, noise):
    return dist.Normal(mean, noise).to_event(1)


def without(data):
    return torch.where(THERE, data, torch.nan)


first = torch.arange(VISITS) < 2
MASKED = {
    "mask": lambda mean, noise: single(mean, noise).mask(THERE),
    "mask of a row": lambda mean, noise: single(mean, noise).mask(THERE).mask(True),
    "nested masks": lambda mean, noise: single(mean, noise).mask(THERE | ~first).mask(THERE | first),
    "expanded": lambda mean, noise: dist.Normal(0.0, 1.0).mask(torch.tensor(True)).expand(mean.shape).mask(THERE),
}
UNMASKED = {"expanded": lambda mean, noise: dist.Normal(0.0, 1.0).expand(mean.shape)}


@pytest.fixture(params=[torch.float32, torch.float64], ids=["single", "double"])
def dtype(request):
    torch.set_default_dtype(request.param)
    yield "float32" if request.param is torch.float32 else "float64"
    torch.set_default_dtype(torch.float32)


def same(masked, missing, dtype):
    """Two models have the same density, and the same observations with the same log likelihoods."""
    draws = posterior(dtype)
    params = {
        name: torch.as_tensor(draws.posterior[name].values.reshape(20, *draws.posterior[name].shape[2:]))
        for name in draws.posterior
    }
    torch.testing.assert_close(masked.log_density(params), missing.log_density(params))
    found, expected = (ck.log_likelihood(one, draws, progress=False).log_likelihood for one in (masked, missing))
    assert found["obs"].dims == expected["obs"].dims
    assert set(found.coords) == set(expected.coords)
    np.testing.assert_allclose(found["obs"], expected["obs"], rtol=1e-5)
    for name in found.coords:
        assert list(found[name].values) == list(expected[name].values)


@pytest.mark.parametrize("kind", MASKED)
def test_what_a_mask_leaves_out_is_no_datum(kind, dtype):
    """Log likelihoods, their number and their coordinates are those of the table with NaN in the same places."""
    masked = bind(MASKED[kind], observed())
    missing = bind(UNMASKED.get(kind, single), without(observed()))
    same(masked, missing, dtype)
    assert ck.log_likelihood(masked, posterior(dtype), progress=False).log_likelihood["obs"].sizes[
        "obs_observed"
    ] == int(THERE.sum())


@pytest.mark.parametrize("kind", MASKED)
def test_the_parents_of_a_masked_likelihood_are_those_of_the_unmasked_one(kind):
    """A mask neither adds parents to the data in the report nor takes some away, and the distribution is written out."""
    sites = [bind(make, observed()).describe().sites[-1] for make in (MASKED[kind], UNMASKED.get(kind, single))]
    assert sites[0].parents == sites[1].parents
    assert "idle" not in sites[0].parents
    assert sites[0].distribution == sites[1].distribution


def test_a_mask_of_components(dtype):
    """Where an observation is a row, it is a datum as long as one of its components is."""
    masked = bind(lambda mean, noise: single(mean, noise).mask(THERE).to_event(1), observed(), ("groups",))
    same(masked, bind(rows, without(observed()), ("groups",)), dtype)


def test_a_mask_of_rows(dtype):
    """A mask over the batch dims leaves whole rows out."""
    whole = THERE.any(-1)
    data = torch.where(whole[:, None], observed(), torch.nan)
    same(
        bind(lambda mean, noise: rows(mean, noise).mask(whole), observed(), ("groups",)),
        bind(rows, data, ("groups",)),
        dtype,
    )


def test_masks_of_vectors(dtype):
    """Vectors of a multivariate normal are masked wholly, and those of their components that are NaN are marginalised."""

    def vectors(mean, noise):
        return dist.MultivariateNormal(mean, noise**2 * (torch.eye(VISITS) + 0.5))

    whole, data = THERE.any(-1), observed()
    data[2, 1] = torch.nan
    missing = torch.where(whole[:, None], data, torch.nan)
    same(bind(lambda m, s: vectors(m, s).mask(whole), data, ("groups",)), bind(vectors, missing, ("groups",)), dtype)


def test_a_mask_and_missing_data(dtype):
    """An entry is a datum that neither is NaN nor left out by a mask."""
    data = observed()
    data[0, 0] = data[3, 0] = torch.nan
    same(bind(MASKED["mask"], data), bind(single, without(data)), dtype)


def test_mixtures_of_masked_components(dtype):
    """A mixture all of whose components are masked has no part in the density."""

    def mixture(mean, noise, mask):
        weights = dist.Categorical(torch.ones(*mean.shape, 2))
        components = dist.Normal(torch.stack([mean, -mean], -1), noise[..., None])
        return dist.MixtureSameFamily(weights, components.mask(mask[..., None].expand(GROUPS, VISITS, 2)))

    every = torch.ones_like(THERE)
    masked = bind(lambda mean, noise: mixture(mean, noise, THERE), observed())
    same(masked, bind(lambda mean, noise: mixture(mean, noise, every), without(observed())), dtype)


def test_members_that_mask_themselves(dtype):
    """A mask within ck.vmap leaves out what each member says."""

    class Visited(One):
        def __init__(self):
            super().__init__()
            self.a.prior = dist.Normal(0.0, 1.0)

        @ck.forward
        def seen(self, there, a):
            return dist.Normal(a.expand(VISITS), 1.0).mask(there)

    class Study(ck.Module):
        def __init__(self):
            super().__init__()
            self.hierarchical_link("groups", Visited(), size=GROUPS)

        @ck.forward
        def data(self, there):
            return ck.vmap(self.groups.seen, in_dims=0)(there)

    every = torch.ones_like(THERE)
    model = ck.PyroModel(Study().data, dims={"obs": ("groups", "visits")})
    draws = az.from_dict({"groups.a": posterior(dtype).posterior["groups.a"].values})
    found = ck.log_likelihood(model.bind(THERE, obs=observed()), draws, progress=False).log_likelihood
    expected = ck.log_likelihood(model.bind(every, obs=without(observed())), draws, progress=False).log_likelihood
    np.testing.assert_allclose(found["obs"], expected["obs"], rtol=1e-5)
    assert found["obs"].sizes["obs_observed"] == int(THERE.sum())


def test_data_that_are_masked_wholly():
    """A data set without any entry is left out of the log likelihoods; if it is the only one, that is an error."""
    with pytest.raises(ck.ObservationError, match="Masks leave out all data of obs"):
        ck.log_likelihood(bind(lambda m, s: single(m, s).mask(False), observed()), posterior("float32"), progress=False)

    def two(mean, noise):
        return {"one": single(mean, noise).mask(False), "other": single(mean, noise).mask(THERE)}

    bound = ck.PyroModel(Table(two).data).bind(obs={"one": observed(), "other": observed()})
    found = ck.log_likelihood(bound, posterior("float32"), progress=False).log_likelihood
    assert list(found.data_vars) == ["other"]
    assert found["other"].sizes == {"chain": 2, "draw": 10, "other_observed": int(THERE.sum())}


def test_a_mask_that_depends_on_params():
    """Where a mask leaves out other entries for other draws, there is no log likelihood of single observations."""
    bound = bind(lambda mean, noise: single(mean, noise).mask(mean > 0.0), observed())
    with pytest.raises(ck.ObservationError, match="depends on params"):
        ck.log_likelihood(bound, posterior("float32"), progress=False)


@pytest.mark.parametrize("filler", [-1.0, 0.0, torch.inf, torch.nan])
def test_what_stands_where_a_mask_leaves_out_is_no_matter(filler):
    """Values that no distribution can explain may stand where a mask leaves them out, and gradients stay finite."""
    data = torch.where(THERE, observed().exp(), filler)
    masked = bind(lambda mean, noise: dist.LogNormal(mean, noise).mask(THERE), data)
    missing = bind(dist.LogNormal, without(observed().exp()))
    same(masked, missing, "float32")
    density, other = ck.LogDensity(masked), ck.LogDensity(missing)
    z = density.initial(1)
    for found, expected in zip(density.value_and_grad(z), other.value_and_grad(z), strict=True):
        torch.testing.assert_close(found, expected)
    assert poutine.trace(masked).get_trace().nodes["obs"]["value"].isfinite().all()


def test_values_outside_of_the_support_that_are_not_masked():
    """The mask excuses nothing that it does not leave out."""
    with pytest.raises(ck.ObservationError, match="outside of the support"):
        bind(lambda mean, noise: dist.LogNormal(mean, noise).mask(THERE), torch.full((GROUPS, VISITS), -1.0))


def test_predictions_are_made_for_what_a_mask_leaves_out():
    """Entries without a part in the likelihood are predicted like the rest."""
    found = ck.predict(bind(MASKED["mask"], observed()), posterior("float32"), seed=1, progress=False)
    assert found.posterior_predictive["obs"].shape == (2, 10, GROUPS, VISITS)
    assert np.isfinite(found.posterior_predictive["obs"]).all()
