"""Models that cannot be what was meant: each gets an error that names param, plate and mend, and leaves the graph alone."""

import math

import arviz as az
import pyro
import pyro.distributions as dist
import pytest
import torch
from bridged import Galaxy, Survey, axes, data
from pyro import poutine
from registry import PAIRS
from registry.populations import Source
from registry.shared import Lines
from torch.distributions import constraints

import caskade_pyro as ck


def survey(n=4):
    return Survey(Galaxy(), n)


def bind(of, stamps=None, **kwargs):
    """A survey with its data, and inputs of the bridge."""
    given = {name: kwargs.pop(name) for name in ("dims", "priors") if name in kwargs}
    model = ck.PyroModel(of.stamps, **{"dims": {"obs": ("galaxies",)}, **given})
    return model.bind(*axes(), obs=data(4, 7, 7) if stamps is None else stamps, **kwargs)


# Priors


@pytest.mark.parametrize(
    ("name", "prior", "valid", "message"),
    [
        ("scatter", dist.HalfNormal(0.5), (0.0, 1.0), r"HalfNormal\(0\.5\) of param scatter.*>= 0.*valid=\(0, 1\)"),
        (
            "mean",
            dist.Normal(0.0, 1.0),
            (0.0, None),
            r"of param mean.*support real.*valid=\(0, inf\)\. Take .*Truncated",
        ),
        ("noise", dist.Uniform(0.0, 9.0), (1.0, 9.0), r"of param noise.*\[0, 9\].*valid=\(1, 9\).*or widen valid"),
    ],
)
def test_support_beyond_the_bounds(unchanged, name, prior, valid, message):
    """A prior that draws values outside of the valid range contradicts it."""
    wrong = unchanged(survey())
    getattr(wrong, name).valid = valid
    getattr(wrong, name).prior = prior
    with pytest.raises(ck.PriorError, match=message):
        bind(wrong)


def test_numbers_of_too_many_members(unchanged):
    """A prior with five means in a plate of four names both."""
    wrong = unchanged(survey())
    wrong.galaxies.log_I0.prior = dist.Normal(torch.zeros(5), 1.0)
    with pytest.raises(ck.PriorError, match=r"galaxies\.log_I0 draws .*\(5,\).*plates of the sizes \(4,\)"):
        bind(wrong)


def test_a_joint_prior_of_a_wrong_length(unchanged):
    """A multivariate prior of three numbers for a param of two names both shapes."""
    wrong = unchanged(survey())
    wrong.galaxies.x0.prior = ck.prior(dist.MultivariateNormal, torch.zeros(3), torch.eye(3))
    with pytest.raises(ck.PriorError, match=r"galaxies\.x0 draws .*event shape \(3,\).*own shape is \(2,\)"):
        bind(wrong)


@pytest.mark.parametrize(
    ("args", "kwargs", "message"),
    [
        ((), {}, r"Normal\(mean\) of param galaxies\.log_I0 cannot be built: .*'scale'"),
        ((1.0,), {"sigma": 1.0}, r"sigma=1\) of param galaxies\.log_I0 cannot be built: .*unexpected keyword.*'sigma'"),
    ],
)
def test_arguments_that_a_distribution_does_not_have(unchanged, args, kwargs, message):
    """Missing and unknown arguments of a prior name its param."""
    wrong = unchanged(survey())
    wrong.galaxies.log_I0.prior = ck.prior(dist.Normal, wrong.mean, *args, **kwargs)
    with pytest.raises(ck.PriorError, match=message):
        bind(wrong)


@pytest.mark.parametrize("high", [1.0, 2.0])
def test_truncation_to_nothing(unchanged, high):
    """Bounds in the wrong order are refused, where the distribution is made and in a prior."""
    with pytest.raises(ck.PriorError, match=rf"low must be below high everywhere, got low=2\.0, high={high}"):
        ck.TruncatedNormal(0.0, 1.0, low=2.0, high=high)
    wrong = unchanged(survey())
    wrong.galaxies.log_I0.prior = ck.prior(ck.TruncatedNormal, wrong.mean, 1.0, low=2.0, high=high)
    with pytest.raises(ck.PriorError, match=r"galaxies\.log_I0 cannot be built: TruncatedNormal: low must be below"):
        bind(wrong)


def test_a_cyclic_param_without_ends(unchanged):
    """A circle needs both of its ends."""
    with pytest.raises(ck.ParamConfigurationError, match=r"phase is cyclic: it needs valid=\(low, high\)"):
        ck.Param("phase", cyclic=True)


def twice(p):
    return 2 * p.unit.value


class Unit(ck.Module):
    """A level with a prior around a unit that has no value."""

    def __init__(self, pointer=None):
        super().__init__()
        self.unit = ck.Param("unit", shape=())
        self.unit.to_static(None)
        self.mean = ck.Param("mean", self.unit if pointer is None else pointer, link=self.unit)
        self.level = ck.Param("level", shape=(), prior=ck.prior(dist.Normal, self.mean, 1.0))

    @ck.forward
    def observed(self, level):
        return dist.Normal(level, 1.0)


def test_pointers_without_a_value(unchanged):
    """A prior that follows a pointer to a param without value names the pointer."""
    with pytest.raises(ck.ModelError, match="mean has no value, but a prior depends on it"):
        ck.PyroModel(unchanged(Unit()).observed).bind(obs=data(3))
    with pytest.raises(ck.PriorError, match=r"Normal\(mean, 1\) of param level cannot be built: .*NoneType"):
        ck.PyroModel(unchanged(Unit(twice)).observed).bind(obs=data(3))


def test_priors_that_need_a_live_param(unchanged):
    """A prior on something that only the simulator knows says so."""
    wrong = unchanged(Unit())
    wrong.level.prior = ck.prior(dist.Normal, wrong.unit, 1.0)
    with pytest.raises(ck.PriorError, match="depends on unit, a live param, which has no value before the simulator"):
        ck.PyroModel(wrong.observed).bind(obs=data(3))


class SetsItself(Unit):
    @ck.forward
    def observed(self, level):
        self.unit = 2 * level
        return dist.Normal(self.own(), 1.0)

    @ck.forward
    def own(self, unit):
        return unit


def test_a_prior_on_what_the_simulator_sets(unchanged):
    """A prior on a live param would have no part in the density, so it is refused."""
    wrong = unchanged(SetsItself())
    wrong.level.prior = wrong.unit.prior = dist.Normal(0.0, 1.0)
    with pytest.raises(ck.PriorError, match=r"unit has the prior Normal\(0, 1\), but the simulator sets its value"):
        ck.PyroModel(wrong.observed).bind(obs=data(3))


def test_improper_priors_cannot_be_drawn_from(unchanged):
    """A prior predictive with flat priors names them."""
    bound = PAIRS["improper"]().bound
    unchanged(bound.model.module)
    with pytest.raises(ck.SamplingError, match=r"prior of mean, spread, shift is improper.*priors=\{\"mean\""):
        ck.prior_predictive(bound, draws=2, progress=False)


# Plates


@pytest.mark.parametrize("size", [0, 5, 2.5, True, "2"])
def test_impossible_subsamples(unchanged, size):
    """Sizes of subsamples lie between 1 and the size of the plate."""
    model = ck.PyroModel(unchanged(survey()).stamps, dims={"obs": ("galaxies",)})
    message = rf"plate galaxies must be a number from 1 to its size 4, not {size!r}"
    with pytest.raises(ck.PlateError, match=message):
        model.bind(*axes(), obs=data(4, 7, 7), subsample_size={"galaxies": size})
    with pytest.raises(ck.PlateError, match=message):
        poutine.trace(model).get_trace(*axes(), obs=data(4, 7, 7), subsample_size={"galaxies": size})


def test_subsamples_of_an_unknown_plate(unchanged):
    """A name that is no plate lists the plates."""
    model = ck.PyroModel(unchanged(survey()).stamps, dims={"obs": ("galaxies",)}, subsample_size={"stars": 2})
    with pytest.raises(ck.PlateError, match="subsample_size= names 'stars', but the plates are galaxies"):
        model.bind(*axes(), obs=data(4, 7, 7))
    with pytest.raises(ck.PlateError, match="subsample_size= names 'stars'"):
        model(*axes(), obs=data(4, 7, 7))


def test_algorithms_that_need_all_members(unchanged):
    """NUTS, and guides that are one joint distribution, cannot take a subsampled plate."""
    bound = bind(unchanged(survey()), subsample_size={"galaxies": 2})
    with pytest.raises(ck.SamplingError, match=r"plates galaxies are subsampled.*ck\.fit, or bind without"):
        ck.sample(bound, progress=False)
    for guide in ("full_rank", "low_rank", "laplace"):
        with pytest.raises(ck.SamplingError, match=r"cannot describe galaxies\.x0, .* subsampled.*guide='normal'"):
            ck.fit(bound, guide=guide, progress=False)


def test_rows_for_another_number_of_members(unchanged):
    """ck.subsample names the plate and both numbers; outside of a forward method it says where it belongs."""

    class Weighted(Lines):
        @ck.forward
        def weighted(self, x, weights):
            return dist.Normal(ck.subsample(self.lines, weights)[:, None] * ck.vmap(self.lines.at)(x), 1.0)

    lines = unchanged(Weighted(6))
    with pytest.raises(ck.PlateError, match=r"dim 0 of the tensor of shape \(5,\) should count the 6 members.*lines"):
        ck.PyroModel(lines.weighted).bind(data(3), torch.ones(5))
    with pytest.raises(ck.PlateError, match=r"ck\.subsample of .* runs inside a forward method"):
        ck.subsample(lines.lines, torch.ones(6))


class Bumps(ck.Module):
    """A simulator that draws a population."""

    def __init__(self, n, size=None):
        super().__init__()
        self.hierarchical_link("sources", Source(), size=size)
        self.sources.place.prior = dist.Normal(0.0, 1.0)
        self.n = n

    @ck.forward
    def drawn(self, x):
        params, dims = ck.draw_members(self.sources, self.n)
        return dist.Normal(torch.vmap(self.sources.at, in_dims=(None, dims))(x, params).sum(0), 1.0)

    @ck.forward
    def slots(self, x):
        params, dims, _ = ck.draw_slots(self.sources, self.n, maximum=2)
        return dist.Normal(torch.vmap(self.sources.at, in_dims=(None, dims))(x, params).sum(0), 1.0)


def test_populations_that_cannot_be_drawn(unchanged):
    """Members that the model samples already, a negative number of them, or more than there are slots."""
    x = torch.linspace(0, 1, 4)
    sized = unchanged(Bumps(3, size=3))
    with pytest.raises(ck.PlateError, match=r"plate sources cannot be drawn.*there are 3.*ck\.vmap\(self\.sources\."):
        ck.PyroModel(sized.drawn).bind(x)
    with pytest.raises(ck.PlateError, match="cannot have -1 members"):
        ck.PyroModel(unchanged(Bumps(-1)).drawn).bind(x)
    with pytest.raises(ck.PlateError, match="has 3 members, but there are 2 slots"):
        ck.PyroModel(unchanged(Bumps(3)).slots).bind(x)


def test_populations_without_a_prior(unchanged):
    """A param of the members that has no prior is named, in a model and in a plain call."""
    bumps = unchanged(Bumps(3))
    bumps.sources.place.prior = None
    x = torch.linspace(0, 1, 4)
    for run in (lambda: ck.PyroModel(bumps.drawn).bind(x), lambda: bumps.drawn(x, params=())):
        with pytest.raises(ck.MissingPriorError, match=r"sources\.place is to be drawn for 3 members, but has neither"):
            run()


# The simulator


class Uncut(dist.TorchDistribution):
    """A distribution that hides its params."""

    arg_constraints = {}  # noqa: RUF012 - torch.distributions has it so
    support = constraints.real

    def __init__(self, hidden):
        self.hidden = hidden
        super().__init__(hidden.shape, validate_args=False)


class Noisy(ck.Module):
    def __init__(self):
        super().__init__()
        self.level = ck.Param("level", shape=(), prior=dist.Normal(0.0, 1.0))

    @ck.forward
    def with_site(self, level):
        return dist.Normal(level + pyro.sample("error", dist.Normal(0.0, 1.0)), 1.0)

    @ck.forward
    def uncut(self, level):
        return Uncut(level)


class ManyNoisy(ck.Module):
    def __init__(self):
        super().__init__()
        self.hierarchical_link("members", Noisy(), size=3)

    @ck.forward
    def run(self, method):
        return ck.vmap(getattr(self.members, method))()


@pytest.mark.parametrize(
    ("method", "message"),
    [
        ("with_site", r"'error' is sampled inside of a vmap.*outside of ck\.vmap; or make it a dynamic param"),
        ("uncut", r"Uncut .* cannot be taken apart.*give the distribution as likelihood= of the PyroModel"),
    ],
)
def test_what_cannot_cross_a_vmap(unchanged, method, message):
    """Sites of Pyro, and distributions that hide their params, cannot be made for all members at once."""
    with pytest.raises(ck.ModelError, match=message):
        ck.PyroModel(unchanged(ManyNoisy()).run).bind(method, obs=data(3))


class Fickle(ck.Module):
    """A simulator that observes something else each time."""

    def __init__(self):
        super().__init__()
        self.level = ck.Param("level", prior=dist.Normal(0.0, 1.0))
        self.runs = 0

    @ck.forward
    def names(self, level):
        self.runs += 1
        return {f"run{self.runs}": dist.Normal(level, 1.0)}

    @ck.forward
    def shapes(self, level):
        self.runs += 1
        return dist.Normal(level.expand(2 + self.runs), 1.0)


@pytest.mark.parametrize(
    ("method", "message"),
    [("names", "predicts run2 here, but predicted run1"), ("shapes", r"batch shape \(4,\), but \(3,\) was expected")],
)
def test_observations_that_change(unchanged, method, message):
    """What is observed, and its shape, must be the same in each run."""
    fickle = unchanged(Fickle())
    bound = ck.PyroModel(getattr(fickle, method)).bind()
    with pytest.raises(ck.ObservationError, match=message):
        poutine.trace(bound).get_trace()


class Named(ck.Module):
    def __init__(self):
        super().__init__()
        self.level = ck.Param("level", prior=dist.Normal(0.0, 1.0))

    @ck.forward
    def like_a_param(self, level):
        return {"level": dist.Normal(level, 1.0)}

    @ck.forward
    def two(self, level):
        return {"first": dist.Normal(level.expand(3), 1.0), "second": dist.Normal(level.expand(4), 1.0)}


def test_names_that_are_taken(unchanged):
    """An observation cannot have the name of a param, nor one data plate two sizes, nor two dims one name."""
    named = unchanged(Named())
    with pytest.raises(ck.ModelError, match="observation 'level' has the name of a param or plate"):
        ck.PyroModel(named.like_a_param).bind()
    with pytest.raises(ck.ObservationError, match="data plate 't' has the size 3 and, in the observation 'second', 4"):
        ck.PyroModel(named.two, dims={"first": ("t",), "second": ("t",)}).bind()
    lines = unchanged(Lines(6))
    with pytest.raises(ck.ObservationError, match="dims of 'obs' need different names, not lines, lines"):
        ck.PyroModel(lines.points, dims={"obs": ("lines", "lines")}).bind(data(6, 6), obs=data(6, 6))
    with pytest.raises(ck.ObservationError, match=r"dim 1 of 'obs' is plate lines of size 6.*\(6, 9\)"):
        ck.PyroModel(lines.points, dims={"obs": ("x", "lines")}).bind(data(6, 9), obs=data(6, 9))


# Data


class Composition(ck.Module):
    def __init__(self):
        super().__init__()
        self.shares = ck.Param("shares", shape=(3,), prior=dist.Gamma(2.0, 1.0))

    @ck.forward
    def observed(self, shares):
        return dist.Dirichlet(shares)


def test_holes_in_what_has_no_marginal_density(unchanged):
    """Single missing components of a distribution without known marginals are refused, whole observations are not."""
    composition = unchanged(Composition())
    observed = torch.full((4, 3), 1 / 3)
    observed[0] = math.nan
    ck.PyroModel(composition.observed).bind(obs=observed)
    observed[1, 2] = math.nan
    with pytest.raises(ck.ObservationError, match=r"A Dirichlet of event shape \(3,\) has no density.*all components"):
        ck.PyroModel(composition.observed).bind(obs=observed)


@pytest.mark.parametrize("observed", ["loud", {"obs": object()}, {"obs": [[1.0], [1.0, 2.0]]}])
def test_data_that_are_no_numbers(unchanged, observed):
    """Text, objects and ragged lists are no data."""
    with pytest.raises(ck.ObservationError, match="data of 'obs' are no array or tensor"):
        bind(unchanged(survey()), observed)


def test_log_likelihood_without_data(unchanged):
    """Without data there is no likelihood."""
    bound = ck.PyroModel(unchanged(survey()).stamps).bind(*axes())
    with pytest.raises(
        ck.ObservationError, match=r"has no data, so there is no likelihood: bind\(\.\.\., obs=\.\.\.\)"
    ):
        ck.log_likelihood(bound, drawn(bound), progress=False)


# Draws


def drawn(bound):
    """Draws from the priors as if they were a posterior."""
    return az.InferenceData(posterior=ck.prior_predictive(bound, draws=3, seed=1, progress=False).prior)


def test_the_posterior_of_another_model(unchanged):
    """Draws that lack a site list those that are there; draws of other members name new= as the way to predict."""
    bound = bind(unchanged(survey()))
    other = ck.PyroModel(unchanged(Composition()).observed).bind(obs=torch.full((4, 3), 1 / 3))
    for use in (ck.predict, ck.log_likelihood):
        with pytest.raises(ck.SamplingError, match=r"no draws of shares; it has mean, scatter, noise, galaxies\.x0"):
            use(other, drawn(bound), progress=False)
    more = ck.PyroModel(unchanged(survey(5)).stamps).bind(*axes())
    with pytest.raises(ck.SamplingError, match=r"galaxies\.x0 have shape \(4, 2\).*\(5, 2\).*new=\(\.\.\.,\)"):
        ck.predict(more, drawn(bound), progress=False)
    with pytest.raises(ck.PlateError, match="new= names stars, but the plates are galaxies"):
        ck.predict(more, drawn(bound), new=("stars",), progress=False)
    assert ck.predict(more, drawn(bound), new="galaxies", progress=False).posterior_predictive["obs"].shape[2] == 5


def test_params_for_the_log_density(unchanged):
    """Missing params, wrong shapes and different numbers of sets are named with what is expected."""
    bound = bind(unchanged(survey()))
    params = {name: torch.as_tensor(one.values[0]) for name, one in drawn(bound).posterior.data_vars.items()}
    assert bound.log_density(params).shape == (3,)
    without = {name: value for name, value in params.items() if name != "noise"}
    with pytest.raises(ck.SamplingError, match="needs a value of noise; got mean, scatter"):
        bound.log_density(without)
    with pytest.raises(ck.SamplingError, match=r"galaxies\.x0: expected values of shape \(n, 4, 2\).*\(3, 3, 2\)"):
        bound.log_density(params | {"galaxies.x0": torch.zeros(3, 3, 2)})
    with pytest.raises(ck.SamplingError, match="count the sets differently: 2, 3"):
        bound.log_density(params | {"noise": torch.ones(2)})


@pytest.mark.parametrize(
    ("choice", "message"),
    [
        ("yes", "must be 'auto', True, False or a list of site names, not 'yes'"),
        (3, "must be 'auto', True, False or a list of site names, not 3"),
        (["galaxies.size"], r"names 'galaxies\.size', but the sites are mean, scatter"),
        (["noise"], "Site noise cannot be non-centred: its prior has no hyperparameters"),
        (["galaxies.log_I0"], r"galaxies\.log_I0 cannot be non-centred: its prior is of no location-scale family"),
    ],
)
def test_sites_that_cannot_be_noncentred(unchanged, choice, message):
    """noncentered= with unknown or unsuitable sites says why."""
    wrong = unchanged(survey())
    wrong.galaxies.log_I0.prior = ck.prior(dist.Gamma, wrong.scatter, 1.0)
    bound = bind(wrong)
    with pytest.raises(ck.ModelError, match=message):
        bound.noncentered(choice)
    with pytest.raises(ck.ModelError, match=message):
        ck.fit(bound, noncentered=choice, progress=False)


def test_unknown_guides(unchanged):
    """A guide that does not exist lists those that do."""
    with pytest.raises(ck.SamplingError, match=r"no guide 'gauss'; choose 'normal', 'full_rank'"):
        ck.fit(bind(unchanged(survey())), guide="gauss", progress=False)
