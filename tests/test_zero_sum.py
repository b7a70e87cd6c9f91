"""Effects that sum to zero."""

import numpy as np
import pyro
import pyro.distributions as dist
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from pyro.infer import MCMC, NUTS, SVI, Trace_ELBO
from pyro.infer.autoguide import AutoMultivariateNormal
from scipy import stats
from torch.distributions import biject_to, constraints, transform_to
from torch.distributions import transforms as torch_transforms

import caskade_pyro as ck

GROUPS = 5
pytestmark = pytest.mark.usefixtures("float64")

rng = np.random.default_rng(3)
GROUP = torch.tensor(rng.integers(0, GROUPS, 40))
DATA = torch.tensor(1.0 + rng.normal(0, 1, GROUPS)[GROUP] + rng.normal(0, 0.7, 40))
# An orthonormal basis of the plane of values that sum to zero, by linear algebra.
BASIS = torch.tensor(np.linalg.qr(np.column_stack([np.ones(GROUPS), np.eye(GROUPS)[:, :-1]]))[0][:, 1:])


def posterior_of_effects(scale=1.3):
    """Mean and standard deviation of each effect, by linear algebra."""
    design = np.column_stack([np.ones(40), np.eye(GROUPS)[GROUP] @ BASIS.numpy()])
    precision = np.diag(np.r_[1 / 9, np.full(GROUPS - 1, 1 / scale**2)]) + design.T @ design / 0.49
    covariance = np.linalg.inv(precision)
    mean = covariance @ design.T @ DATA.numpy() / 0.49
    spread = np.sqrt(np.diag(BASIS.numpy() @ covariance[1:, 1:] @ BASIS.numpy().T))
    return BASIS.numpy() @ mean[1:], spread


class Groups(ck.Module):
    """Groups with effects beside a common mean."""

    def __init__(self, prior=None):
        super().__init__()
        self.mean = ck.Param("mean", prior=dist.Normal(0.0, 3.0))
        self.effect = ck.Param("effect", shape=(GROUPS,), prior=prior or ck.ZeroSumNormal(1.3, GROUPS))

    @ck.forward
    def seen(self, group, mean, effect):
        return dist.Normal(mean + effect[group], 0.7)


def bound(prior=None):
    """The groups with their data."""
    return ck.PyroModel(Groups(prior).seen).bind(GROUP, obs=DATA)


shapes = st.lists(st.integers(2, 5), min_size=1, max_size=3).map(tuple)


@given(shapes, st.integers(0, 1000))
@settings(max_examples=30, deadline=None)
def test_the_map_keeps_distances_and_its_inverse_undoes_it(shape, seed):
    """Values sum to zero along each dim, have the length of what they came from, and lead back to it."""
    torch.manual_seed(seed)
    onto = biject_to(ck.ZeroSumNormal(1.0, shape).support)
    free = torch.randn(3, *(size - 1 for size in shape))
    values = onto(free)
    assert values.shape == (3, *shape) == onto.forward_shape(free.shape)
    assert free.shape == onto.inverse_shape(values.shape)
    for dim in range(1, values.ndim):
        assert values.sum(dim).abs().max() < 1e-12
    torch.testing.assert_close(values.flatten(1).norm(dim=1), free.flatten(1).norm(dim=1))
    torch.testing.assert_close(onto.inv(values), free)
    assert ck.ZeroSumNormal(1.0, shape).support.check(values).all()
    assert not ck.ZeroSumNormal(1.0, shape).support.check(values + 1.0).any()
    assert onto.log_abs_det_jacobian(free, values).shape == (3,)


@given(shapes, st.floats(0.1, 10), st.integers(0, 1000))
@settings(max_examples=30, deadline=None)
def test_the_density_is_that_of_the_normal_on_its_plane(shape, scale, seed):
    """It is SciPy's normal density of the coordinates along an orthonormal basis, and of SciPy's own degenerate normal."""
    torch.manual_seed(seed)
    prior = ck.ZeroSumNormal(torch.tensor(scale), shape)
    value = prior.sample()
    projector = np.ones((1, 1))
    for size in shape:
        projector = np.kron(projector, np.eye(size) - 1 / size)
    flat = stats.multivariate_normal(cov=scale**2 * projector, allow_singular=True)
    assert abs(float(prior.log_prob(value)) - flat.logpdf(value.numpy().ravel())) < 1e-6
    np.testing.assert_allclose(prior.variance.numpy().ravel(), np.diag(scale**2 * projector))


def test_draws_have_the_covariance_of_the_projected_normal():
    """The covariance is the scale squared times the projector; draws follow the scale of each member of a batch."""
    torch.manual_seed(1)
    scales = torch.tensor([0.5, 2.0])
    drawn = ck.ZeroSumNormal(scales, 4).sample((40_000,)).numpy()
    assert drawn.shape == (40_000, 2, 4)
    for index, scale in enumerate(scales.tolist()):
        np.testing.assert_allclose(np.cov(drawn[:, index].T), scale**2 * (np.eye(4) - 0.25), atol=0.06 * scale**2)


class Onto(torch_transforms.Transform):
    """A user's own map from fewer numbers to those that sum to zero."""

    domain = constraints.real_vector
    bijective = True

    @property
    def codomain(self):
        return OwnSupport()

    def _call(self, x):
        return x @ BASIS.T

    def _inverse(self, y):
        return y @ BASIS

    def log_abs_det_jacobian(self, x, y):
        return torch.zeros(x.shape[:-1])

    def forward_shape(self, shape):
        return torch.Size((*shape[:-1], shape[-1] + 1))

    def inverse_shape(self, shape):
        return torch.Size((*shape[:-1], shape[-1] - 1))


class OwnSupport(constraints.Constraint):
    """Where that leads."""

    event_dim = 1
    is_discrete = False

    def check(self, value):
        return value.sum(-1).abs() < 1e-6


def own_prior():
    """A prior made by the user's own transform."""
    return dist.TransformedDistribution(dist.Normal(torch.zeros(GROUPS - 1), 1.3).to_event(1), [Onto()])


@pytest.mark.parametrize("prior", [None, own_prior], ids=["ours", "own transform"])
def test_sampling_finds_the_exact_posterior(prior):
    """NUTS has the means and standard deviations of linear algebra, with a compiled density."""
    model = bound(prior and prior())
    mean, spread = posterior_of_effects()
    posterior = ck.sample(model, 1000, 400, 2, seed=1, progress=False).posterior
    assert posterior.attrs["density"] == "compiled"
    effects = posterior["effect"]
    assert np.abs((effects.mean(("chain", "draw")) - mean) / spread).max() < 0.15
    assert np.abs(effects.std(("chain", "draw")) / spread - 1).max() < 0.1
    assert np.abs(effects.sum("effect_dim_0")).max() < 1e-10


@pytest.mark.parametrize("prior", [None, own_prior], ids=["ours", "own transform"])
@pytest.mark.slow
def test_pyros_algorithms_take_it(prior):
    """Pyro's NUTS and a guide of Pyro's find it, as ck.fit and ck.predict do."""
    model = bound(prior and prior())
    mean, spread = posterior_of_effects()
    pyro.set_rng_seed(1)
    sampler = MCMC(NUTS(model, max_tree_depth=4), num_samples=60, warmup_steps=40, disable_progbar=True)
    sampler.run()
    assert np.abs((sampler.get_samples()["effect"].numpy().mean(0) - mean) / spread).max() < 0.8
    guide = AutoMultivariateNormal(model)
    svi = SVI(model, guide, pyro.optim.Adam({"lr": 0.01}), Trace_ELBO())
    assert np.isfinite([svi.step() for _ in range(3)]).all()
    fit = ck.fit(model, guide="full_rank", steps=1000, seed=1, progress=False)
    draws = fit.sample(500, seed=1)
    assert np.abs((draws.posterior["effect"].mean(("chain", "draw")) - mean) / spread).max() < 0.5
    predicted = ck.predict(model, draws, draws=20, seed=1, progress=False)
    assert predicted.posterior_predictive["obs"].shape == (1, 20, 40)


def test_effects_of_members_with_a_scale_to_be_found():
    """A scale that is a param, effects of each member of a plate, and several dims that sum to zero."""

    class Site(ck.Module):
        def __init__(self):
            super().__init__()
            self.effect = ck.Param("effect", shape=(2, 3))

        @ck.forward
        def seen(self, effect):
            return dist.Normal(effect, 1.0).to_event(2)

    class Sites(ck.Module):
        def __init__(self):
            super().__init__()
            site = Site()
            self.hierarchical_link("sites", site, size=4)
            self.scale = ck.Param("scale", prior=dist.HalfNormal(1.0))
            site.effect.prior = ck.prior(ck.ZeroSumNormal, self.scale, (2, 3))

        @ck.forward
        def seen(self):
            return ck.vmap(self.sites.seen)()

    torch.manual_seed(2)
    data = ck.ZeroSumNormal(torch.tensor(1.0), (2, 3)).sample((4,)) + torch.randn(4, 2, 3)
    model = ck.PyroModel(Sites().seen, dims={"obs": ("sites",)}).bind(obs=data)
    assert "sums to zero" in str(model.report())
    params = {"scale": torch.tensor([0.7])}
    params["sites.effect"] = ck.ZeroSumNormal(torch.tensor(0.7), (2, 3)).sample((1, 4))
    expected = dist.HalfNormal(1.0).log_prob(params["scale"])
    expected = expected + ck.ZeroSumNormal(params["scale"][0], (2, 3)).log_prob(params["sites.effect"][0]).sum()
    expected = expected + dist.Normal(params["sites.effect"][0], 1.0).log_prob(data).sum()
    torch.testing.assert_close(model.log_density(params), expected)
    posterior = ck.sample(model, 200, 200, 1, seed=1, progress=False).posterior
    assert posterior["sites.effect"].shape == (1, 200, 4, 2, 3)
    assert np.abs(posterior["sites.effect"].sum("sites.effect_dim_1")).max() < 1e-10


def test_a_support_that_nothing_leads_to_says_what_to_register():
    """The error names the class, and how torch is told of a bijection."""

    class Nowhere(dist.TorchDistribution):
        support = OwnSupport()
        arg_constraints = {}  # noqa: RUF012 - as torch has it

        def sample(self, sample_shape=()):
            return torch.zeros(*sample_shape, GROUPS)

        def log_prob(self, value):
            return value.sum(-1)

        def expand(self, batch_shape, _instance=None):
            return self

    prior = Nowhere(torch.Size(()), torch.Size((GROUPS,)), validate_args=False)
    with pytest.raises(ck.SamplingError, match=r"effect.*biject_to\.register\(OwnSupport, lambda"):
        ck.LogDensity(bound(prior))


@pytest.mark.parametrize("shape", [1, (3, 1), ()])
def test_too_few_values_are_refused(shape):
    """One value that sums to zero is zero."""
    with pytest.raises(ck.PriorError, match="at least two values"):
        ck.ZeroSumNormal(1.0, shape)


def test_torch_knows_the_way_there():
    """Both registries of torch lead to the support."""
    support = ck.ZeroSumNormal(1.0, 3).support
    assert biject_to(support) == transform_to(support)
    assert len({biject_to(support), transform_to(support)}) == 1
