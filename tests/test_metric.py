"""The metric of ck.sample: what it may be made of, what it does to the density, and that it never changes the posterior."""

import ctypes
import pickle
import warnings

import arviz as az
import numpy as np
import pyro.distributions as dist
import pytest
import torch
from bridged import PAIRS

import caskade_pyro as ck
from caskade_pyro.density import NativeWhitened, Whitened, find_blocks, places_of_sites
from caskade_pyro.inference.structured import metric_of_draws
from caskade_pyro.results.metric import make_metric

short_runs = pytest.mark.filterwarnings("ignore::caskade_pyro.ConvergenceWarning")


class Line(ck.Module):
    """A straight line of strongly correlated params of very different widths: its posterior is normal and known."""

    def __init__(self):
        super().__init__()
        self.offset = ck.Param("offset", prior=dist.Normal(0.0, 100.0))
        self.slope = ck.Param("slope", prior=dist.Normal(0.0, 100.0))

    @ck.forward
    def data(self, x, offset, slope):
        return dist.Normal(offset + slope * x, 0.5)


X = torch.linspace(5.0, 8.0, 12)
Y = 1.0 + 2.0 * X + 0.5 * torch.randn(12, generator=torch.Generator().manual_seed(1))


def line():
    return ck.PyroModel(Line().data).bind(X.to(torch.get_default_dtype()), obs=Y.to(torch.get_default_dtype()))


def exact():
    """Mean and covariance of the posterior of offset and slope, by linear algebra."""
    design = np.stack([np.ones(12), X.double().numpy()], 1)
    covariance = np.linalg.inv(design.T @ design / 0.25 + np.eye(2) / 1e4)
    return covariance @ design.T @ Y.double().numpy() / 0.25, covariance


def some_metric(density, seed=0, rank=0):
    """A metric with entries everywhere below the diagonal, and some directions."""
    random = np.random.default_rng(seed)
    if rank:
        return ck.Metric.low_rank(
            density.slices, random.uniform(0.5, 2.0, density.dim), random.normal(size=(density.dim, rank)), "a test"
        )
    factor = np.tril(random.normal(size=(density.dim, density.dim)), -1) + np.diag(
        random.uniform(0.5, 2.0, density.dim)
    )
    return ck.Metric.from_factor(density.slices, factor, "a test")


# What it does


@pytest.mark.parametrize("rank", [0, 1, 3])
def test_a_metric_is_its_factor_times_its_transpose(rank):
    """Stretching unit vectors gives the covariance; shrinking and pushing undo stretching and pulling."""
    density = ck.LogDensity(PAIRS["one_plate"]().bound)
    metric = some_metric(density, rank=rank)
    factor = metric.stretch(np.eye(density.dim)).T
    np.testing.assert_allclose(metric.covariance(), factor @ factor.T, rtol=1e-10, atol=1e-12)
    np.testing.assert_allclose(metric.variances, np.diag(factor @ factor.T), rtol=1e-10)
    if rank:
        random = np.random.default_rng(0)
        variances, columns = random.uniform(0.5, 2.0, density.dim), random.normal(size=(density.dim, rank))
        np.testing.assert_allclose(
            metric.covariance(), np.diag(variances) + columns @ columns.T, rtol=1e-10, atol=1e-12
        )
    rows = np.random.default_rng(1).normal(size=(3, density.dim))
    np.testing.assert_allclose(metric.pull(rows), rows @ factor, rtol=1e-10, atol=1e-12)
    np.testing.assert_allclose(metric.shrink(metric.stretch(rows)), rows, rtol=1e-9, atol=1e-11)
    np.testing.assert_allclose(metric.push(metric.pull(rows)), rows, rtol=1e-9, atol=1e-11)
    np.testing.assert_allclose(metric.shrink(metric.stretch(rows[0])), rows[0], rtol=1e-9, atol=1e-11)


@pytest.mark.usefixtures("float64")
@pytest.mark.parametrize("rank", [0, 2])
@pytest.mark.parametrize("name", ["one_plate", "two_nested"])
def test_the_whitened_density_is_the_plain_one_in_other_coordinates(name, rank):
    """At w its value is the density's at z = T w, and its gradient is T' times the density's: in Python and compiled."""
    density = ck.LogDensity(PAIRS[name]().bound).compile()
    metric = some_metric(density, rank=rank)
    w = 0.1 * torch.randn(density.dim)
    value, gradient = density.value_and_grad(torch.as_tensor(metric.stretch(w.numpy())))
    pulled = metric.pull(gradient.numpy())
    in_python = Whitened(density, metric).value_and_grad(w)
    torch.testing.assert_close(in_python[0], value)
    np.testing.assert_allclose(in_python[1], pulled, rtol=1e-8, atol=1e-9)
    by_autograd = w.clone().requires_grad_()
    Whitened(density, metric).potential({"w": by_autograd}).backward()
    np.testing.assert_allclose(-by_autograd.grad, pulled, rtol=1e-8, atol=1e-9)
    native = NativeWhitened(density.native, metric)
    function = ctypes.CFUNCTYPE(ctypes.c_int64, ctypes.c_uint64, *[ctypes.c_void_p] * 4)(native.address)
    at, slope, found = w.numpy().copy(), np.zeros(density.dim), np.zeros(1)
    pointers = (at.ctypes.data, slope.ctypes.data, found.ctypes.data, native.data_address)
    assert function(density.dim, *pointers) == 0
    np.testing.assert_allclose(found[0], value, rtol=1e-12)
    np.testing.assert_allclose(slope, pulled, rtol=1e-8, atol=1e-9)


# The posterior stays what it is


def fitted(guide):
    """A fit that is cut short on purpose: it says that it has not arrived."""
    with warnings.catch_warnings(action="ignore", category=ck.ConvergenceWarning):
        return ck.fit(line(), guide, steps=300, seed=1, progress=False)


GIVEN = {
    "variances": lambda: [4.0, 0.01],
    "covariance": lambda: exact()[1],
    "wrong covariance": lambda: [[1.0, 0.9], [0.9, 1.0]],
    "by site": lambda: {"offset": 400.0, "slope": [[0.2]]},
    "full-rank fit": lambda: fitted("full_rank"),
    "low-rank fit": lambda: fitted("low_rank"),
    "Laplace fit": lambda: fitted("laplace"),
    "mean-field fit": lambda: fitted("normal"),
}


@pytest.mark.filterwarnings("ignore:.*R-hat|.*effective sample size:caskade_pyro.ConvergenceWarning")
@pytest.mark.parametrize("given", GIVEN)
def test_the_posterior_is_the_same_with_every_metric(given):
    """Means and standard deviations are those of the exact posterior, whatever the metric, right or wrong."""
    posterior = ck.sample(line(), draws=1500, tune=400, chains=2, seed=3, metric=GIVEN[given](), progress=False)
    check_exact(posterior.posterior)


@pytest.mark.filterwarnings("ignore:.*R-hat|.*effective sample size:caskade_pyro.ConvergenceWarning")
def test_the_posterior_is_the_same_with_a_metric_in_pyro():
    """Pyro's own NUTS runs in the metric too, and its draws come back in the user's params."""
    posterior = ck.sample(
        line(), draws=600, tune=200, chains=1, seed=3, metric=exact()[1], engine="pyro", progress=False
    )
    check_exact(posterior.posterior)


@pytest.mark.filterwarnings("ignore:.*R-hat|.*effective sample size:caskade_pyro.ConvergenceWarning")
@pytest.mark.parametrize("adapt", ["structured", "low_rank", "diagonal"])
def test_the_posterior_is_the_same_whatever_the_warm_up_learns(adapt):
    """Means and standard deviations are those of the exact posterior for each kind of warm-up."""
    posterior = ck.sample(
        line(), draws=1500, tune=600, chains=2, seed=3, metric=adapt, start={"slope": 2.0}, progress=False
    )
    check_exact(posterior.posterior)


def check_exact(posterior):
    for name, mean, variance in zip(("offset", "slope"), exact()[0], np.diag(exact()[1]), strict=True):
        draws = posterior[name]
        assert abs(draws.mean().item() - mean) < 4.5 * az.mcse(draws.values)
        assert draws.std().item() == pytest.approx(variance**0.5, rel=0.2)


def steps(settings):
    return ck.sample(line(), draws=200, chains=1, seed=1, progress=False, **settings).sample_stats["n_steps"].sum()


@short_runs
def test_a_metric_makes_correlated_params_easy_from_the_start():
    """With the covariance known, a chain of hardly any warm-up takes less than half of the gradients that variances take."""
    start = {"offset": exact()[0][0], "slope": exact()[0][1]}
    known = steps({"tune": 50, "start": start, "metric": exact()[1]})
    assert 2 * known < steps({"tune": 50, "start": start, "metric": np.diag(exact()[1])})
    assert 2 * known < steps({"tune": 50, "start": start, "metric": "diagonal"})


@short_runs
@pytest.mark.parametrize("metric", ["structured", "given"])
def test_with_a_metric_the_draws_depend_on_the_seed_alone(metric):
    """The draws are the same for any number of processes, with a metric that is given and with one that is learnt."""
    given = exact()[1] if metric == "given" else metric
    runs = [
        ck.sample(line(), draws=20, tune=60, chains=3, seed=5, cores=cores, metric=given, progress=False).posterior
        for cores in (3, 1)
    ]
    np.testing.assert_array_equal(runs[0]["slope"], runs[1]["slope"])


# What it is made of


def test_a_fit_gives_its_own_covariance():
    """The metric of a joint normal guide is its covariance exactly; that of independent normals their variances about."""
    bound = line()
    for guide in ("full_rank", "laplace"):
        fit = fitted(guide)
        scale = fit.guide.get_posterior().scale_tril.detach().double().numpy()
        np.testing.assert_allclose(ck.metric(fit, bound).covariance(), scale @ scale.T, rtol=1e-6)
    fit = fitted("low_rank")
    np.testing.assert_allclose(
        ck.metric(fit, bound).covariance(), fit.guide.get_posterior().covariance_matrix.detach().double(), rtol=1e-5
    )
    mean_field = ck.metric(fitted("normal"), bound)
    assert mean_field.is_diagonal
    assert np.all(mean_field.variances > 0)
    with pytest.raises(ck.SamplingError, match="is a point and tells no variances"):
        ck.metric(fitted("delta"), bound)


@short_runs
def test_a_start_from_a_fit_brings_its_covariance():
    """With start= a joint fit, the chains run in its metric too; with metric= said, in that one."""
    fit = fitted("full_rank")
    alone = ck.sample(line(), draws=20, tune=20, chains=1, seed=1, start=fit, progress=False)
    both = ck.sample(line(), draws=20, tune=20, chains=1, seed=1, start=fit, metric=fit, progress=False)
    other = ck.sample(line(), draws=20, tune=20, chains=1, seed=1, start=fit, metric="diagonal", progress=False)
    np.testing.assert_array_equal(alone.posterior["slope"], both.posterior["slope"])
    assert not np.array_equal(alone.posterior["slope"], other.posterior["slope"])


@short_runs
@pytest.mark.parametrize("name", ["one_plate", "two_nested", "crossed"])
def test_an_earlier_posterior_gives_a_metric_that_a_run_can_go_on_with(name):
    """A metric of a posterior is what sampling takes from it, survives a pickle, and then gives the same draws."""
    bound = PAIRS[name]().bound
    earlier = ck.sample(bound, draws=40, tune=100, chains=2, seed=1, progress=False)
    metric = ck.metric(earlier, bound)
    in_sample = make_metric(ck.LogDensity(bound).compile(), earlier)
    np.testing.assert_allclose(in_sample.variances, metric.variances, rtol=1e-2)  # gradients rounded otherwise
    runs = [
        ck.sample(bound, draws=10, tune=20, chains=1, seed=2, metric=given, progress=False).posterior
        for given in (metric, pickle.loads(pickle.dumps(metric)))
    ]
    for variable in runs[0].data_vars:
        np.testing.assert_array_equal(runs[0][variable], runs[1][variable])


@pytest.mark.filterwarnings("ignore:.*R-hat|.*effective sample size:caskade_pyro.ConvergenceWarning")
def test_the_metric_of_a_normal_posterior_is_its_covariance():
    """Of a posterior that is normal, the metric of its draws is the exact covariance within their error."""
    posterior = ck.sample(line(), draws=1000, tune=400, chains=2, seed=1, progress=False)
    np.testing.assert_allclose(ck.metric(posterior, line()).covariance(), exact()[1], rtol=0.05)


class Member(ck.Module):
    def __init__(self):
        super().__init__()
        self.a = ck.Param("a", shape=(2,))
        self.b = ck.Param("b", shape=(), prior=dist.HalfNormal(1.0))

    @ck.forward
    def values(self, a, b):
        return dist.Normal(a, b).to_event(1)


class Population(ck.Module):
    def __init__(self, n):
        super().__init__()
        member = Member()
        self.hierarchical_link("members", member, size=n)
        self.mu = ck.Param("mu", prior=dist.Normal(0.0, 1.0))
        self.tau = ck.Param("tau", prior=dist.HalfNormal(1.0))
        member.a.prior = ck.prior(dist.Normal, self.mu, self.tau)

    @ck.forward
    def values(self):
        return ck.vmap(self.members.values)()


def population(n=3):
    return ck.PyroModel(Population(n).values, dims={"obs": ("members",)}).bind(obs=torch.randn(n, 2))


def test_numbers_by_site_are_in_the_users_names():
    """Variances and covariances by site stand at the places of that site, in offsets where it is non-centred."""
    bound = population()
    density = ck.LogDensity(bound)
    of_members = np.array([[[2.0, 0.5], [0.5, 1.0]]] * 3) * np.arange(1.0, 4.0)[:, None, None]
    metric = ck.metric({"mu": 0.25, "members.a": of_members, "members.b": [1.0, 2.0, 3.0]}, bound)
    assert "members.a_decentered" in density.names
    np.testing.assert_allclose(metric.covariance("mu"), [[0.25]])
    np.testing.assert_allclose(metric.covariance("tau"), [[1.0]])
    np.testing.assert_allclose(metric.covariance("members.b"), np.diag([1.0, 2.0, 3.0]))
    found = metric.covariance("members.a_decentered")
    for member in range(3):
        places = slice(2 * member, 2 * member + 2)
        np.testing.assert_allclose(found[places, places], of_members[member])
    assert np.count_nonzero(found) == 12
    np.testing.assert_allclose(ck.metric({"members.b": 4.0}, bound).covariance("members.b"), 4.0 * np.eye(3))


def test_a_metric_prints_the_widths_of_all_sites():
    """Its text names where it comes from, each site with the range of its standard deviations, and the correlations."""
    text = repr(ck.metric({"members.b": [1.0, 4.0, 9.0]}, population()))
    assert "from variances and covariances by site" in text
    assert "members.b             1 to 3" in text
    assert text.endswith("correlations: none")


# What is refused


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ("dense", "no metric 'dense'; choose 'auto', 'structured', 'low_rank', 'diagonal'"),
        (np.ones(3), r"shape \(2,\) or a covariance of shape \(2, 2\) .* of offset, slope; got \(3,\)"),
        (np.ones((2, 3)), r"got \(2, 3\)"),
        ([1.0, -1.0], "variances of metric= must be finite and positive"),
        ([1.0, float("nan")], "must be finite and positive"),
        (np.ones((2, 2)), r"covariance of metric=, of shape \(2, 2\), is not symmetric and positive definite"),
        ([[1.0, 0.5], [0.0, 1.0]], "is not symmetric"),
        ({"tilt": 1.0}, "metric= names tilt, but the sites are offset, slope"),
        (
            {"slope": [1.0, 2.0]},
            r"Expected the variances of slope .* shape \(\), or covariances of shape \(1, 1\); got \(2,\)",
        ),
        ({"slope": 0.0}, "variances of slope must be finite and positive"),
        ({"slope": [[-1.0]]}, "covariance of slope"),
    ],
)
def test_what_is_no_metric_is_an_error_that_says_what_was_expected(given, message):
    """Unknown words, wrong shapes, impossible numbers and unknown sites are errors that name sites and shapes."""
    with pytest.raises(ck.SamplingError, match=message):
        ck.sample(line(), metric=given, progress=False)


@short_runs
def test_a_metric_of_another_model_is_refused():
    """A metric, a fit or a posterior of another model is an error that names what differs."""
    other = population()
    with pytest.raises(ck.SamplingError, match=r"another model.*offset"):
        ck.sample(other, metric=ck.metric([1.0, 1.0], line()), progress=False)
    with pytest.raises(
        ck.SamplingError,
        match=r"its members.a_decentered has the unconstrained shape \(4, 2\), that of the model \(3, 2\)",
    ):
        ck.sample(other, metric=ck.metric({}, population(4)), progress=False)
    for guide in ("full_rank", "normal"):
        with pytest.raises(ck.SamplingError, match="The fit is of another model: it has"):
            ck.sample(other, metric=fitted(guide), noncentered=False, progress=False)
    posterior = ck.sample(line(), draws=10, tune=10, chains=1, seed=1, progress=False)
    with pytest.raises(ck.SamplingError, match=r"another model: it lacks mu, tau, .*members.b and has offset, slope"):
        ck.sample(other, metric=posterior, progress=False)
    with pytest.raises(ck.SamplingError, match="no group 'posterior'"):
        ck.sample(other, metric=ck.prior_predictive(other, draws=5, seed=1, progress=False), progress=False)


def test_two_answers_to_one_question_are_refused():
    """A metric for all sites and a wish for dense blocks of some cannot both be followed."""
    with pytest.raises(ck.SamplingError, match="give one"):
        ck.sample(line(), metric=[1.0, 1.0], dense=True, engine="pyro", progress=False)


# The structure


@pytest.mark.parametrize("name", PAIRS)
def test_blocks_hold_every_value_once(name):
    """The blocks of a model hold each place of the vector once, and parents lie in blocks before."""
    density = ck.LogDensity(PAIRS[name]().bound)
    seen = set()
    for block in find_blocks(density.bound, density.noncentered, density.slices):
        assert set(block.parents.reshape(-1)) <= seen
        own = block.own.reshape(-1).tolist()
        assert len(own) == len(set(own))
        assert not seen & set(own)
        seen |= set(own)
    assert seen == set(range(density.dim))


def test_the_blocks_of_members_are_their_own_values():
    """A member's block holds its values of all sites, and its parents are the shared values."""
    bound = population()
    density = ck.LogDensity(bound)
    shared, members = find_blocks(bound, "auto", density.slices)
    places = places_of_sites(bound, "auto", density.slices)
    assert shared.own.tolist() == [[density.slices[name].slice.start for name in ("mu", "tau")]]
    for member in range(3):
        own = {*places["members.a_decentered"][1][member].tolist(), places["members.b"][1][member].tolist()}
        assert set(members.own[member].tolist()) == own
        assert members.parents[member].tolist() == shared.own[0].tolist()


def normal_with_the_structure_of(blocks, dim, random):
    """A covariance in which members depend on their parents, and otherwise on nothing."""
    factor = np.zeros((dim, dim))
    for block in blocks:
        size, count = block.own.shape[1], block.parents.shape[1]
        for own, parents in zip(block.own, block.parents, strict=True):
            factor[own] = random.normal(size=(size, count)) @ factor[parents]
            factor[np.ix_(own, own)] = np.tril(random.normal(size=(size, size)), -1) + np.diag(
                random.uniform(0.5, 2, size)
            )
    return factor


@pytest.mark.parametrize("name", ["one_plate", "two_nested", "three_nested"])
def test_the_structured_metric_of_normal_draws_is_their_covariance(name):
    """Of draws from a normal with the structure of the graph, and its gradients, it finds the covariance."""
    density = ck.LogDensity(PAIRS[name]().bound)
    blocks = find_blocks(density.bound, density.noncentered, density.slices)
    random = np.random.default_rng(2)
    factor = normal_with_the_structure_of(blocks, density.dim, random)
    draws = random.normal(size=(400, density.dim)) @ factor.T
    gradients = -draws @ np.linalg.inv(factor @ factor.T)
    metric = metric_of_draws(density.slices, blocks, draws, gradients, "a test", doubt=0.01)
    whitened = np.linalg.solve(factor, metric.stretch(np.eye(density.dim)).T)
    spread = np.linalg.svd(whitened, compute_uv=False)
    assert spread.max() < 1.05
    assert spread.min() > 0.95


def test_draws_that_stand_still_tell_no_metric():
    """Where a value does not move, or is not finite, there is no metric rather than a wrong one."""
    density = ck.LogDensity(line())
    blocks = find_blocks(density.bound, density.noncentered, density.slices)
    draws = np.random.default_rng(0).normal(size=(50, 2))
    assert metric_of_draws(density.slices, blocks, draws, -draws, "a test") is not None
    still, broken = draws.copy(), draws.copy()
    still[:, 1], broken[3, 0] = 1.0, np.inf
    for bad in (still, broken, draws[:1]):
        assert metric_of_draws(density.slices, blocks, bad, -bad, "a test") is None
