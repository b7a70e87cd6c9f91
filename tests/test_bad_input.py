"""Mistakes that people make: each gets an error of ours that names the param and says the mend, and changes nothing."""

import math

import numpy as np
import pyro.distributions as dist
import pytest
import torch
from bridged import Galaxy, Line, Survey, axes, data
from pyro import poutine

import caskade_pyro as ck


def survey(n=4):
    return Survey(Galaxy(), n)


def model(of=None, **kwargs):
    return ck.PyroModel((of or survey()).stamps, **{"dims": {"obs": ("galaxies",)}, **kwargs})


def stamps(n=4):
    return data(n, 7, 7)


def test_missing_priors(unchanged):
    """All params without a prior are listed at once, with the ways to give one."""
    bare = unchanged(survey())
    bare.galaxies.log_I0.prior = None
    bare.noise.prior = None
    with pytest.raises(
        ck.MissingPriorError, match=r"(?s)noise \(\).*galaxies\.log_I0 \(\).*param\.prior = .*to_static"
    ):
        model(bare).bind(*axes(), obs=stamps())


def test_prior_of_a_wrong_shape(unchanged):
    """A prior that cannot fill its param names the param and both shapes."""
    wrong = unchanged(survey())
    wrong.galaxies.x0.prior = dist.Normal(torch.zeros(3), 1.0)
    with pytest.raises(ck.PriorError, match=r"galaxies\.x0 .*shape \(3,\).*own shape is \(2,\)"):
        model(wrong).bind(*axes(), obs=stamps())


def test_prior_that_is_a_class():
    """A class in place of a distribution is told apart from one."""
    with pytest.raises(ck.ParamTypeError, match=r"'mass'.*Call the class"):
        ck.Param("mass", prior=dist.Normal)


def test_prior_with_impossible_arguments(unchanged):
    """What torch says of a negative scale arrives with the name of the param; a param that may be negative is named."""
    wrong = unchanged(survey())
    wrong.scatter.prior = dist.Normal(-5.0, 1e-3)
    with pytest.raises(
        ck.PriorError, match=r"scatter is the scale of the Normal that is the prior of galaxies\.log_sigma"
    ):
        model(wrong).bind(*axes(), obs=stamps())
    wrong.scatter.prior = ck.prior(dist.Normal, 0.0, -5.0)
    with pytest.raises(ck.PriorError, match=r"Normal\(0, -5\) of param scatter cannot be built"):
        model(wrong).bind(*axes(), obs=stamps())


def test_prior_on_a_param_outside_of_the_graph(unchanged):
    """A hyperparameter that belongs to no module is asked to be attached."""
    wrong = unchanged(survey())
    wrong.galaxies.log_I0.prior = ck.prior(dist.Normal, ck.Param("stray", prior=dist.Normal(0.0, 1.0)), 1.0)
    with pytest.raises(ck.PriorError, match=r"galaxies\.log_I0 depends on param 'stray', which is not in the graph"):
        model(wrong).bind(*axes(), obs=stamps())


def test_prior_on_a_param_of_an_inner_plate(unchanged):
    """A param outside of a plate cannot depend on one that each member has."""
    wrong = unchanged(survey())
    wrong.noise.prior = ck.prior(dist.HalfNormal, wrong.galaxies.log_I0)
    with pytest.raises(ck.PriorError, match=r"noise, in the plates none, depends on galaxies\.log_I0.*of galaxies"):
        model(wrong).bind(*axes(), obs=stamps())


def test_priors_in_a_circle(unchanged):
    """Priors that wait for each other are named in order."""
    wrong = unchanged(survey())
    wrong.mean.prior = ck.prior(dist.Normal, wrong.scatter, 1.0)
    wrong.scatter.prior = ck.prior(dist.HalfNormal, wrong.mean)
    with pytest.raises(ck.PriorError, match=r"mean -> scatter -> mean"):
        model(wrong).bind(*axes(), obs=stamps())


def test_priors_for_unknown_sites():
    """priors= with a name that is no site lists those that are."""
    with pytest.raises(ck.PriorError, match=r"names galaxies\.size, but the sites are .*galaxies\.log_sigma"):
        model(priors={"galaxies.size": dist.Normal(0.0, 1.0)}).bind(*axes(), obs=stamps())


def test_value_of_a_wrong_shape(unchanged):
    """A value that does not end with the param's own shape is refused when it is set."""
    galaxy = unchanged(survey()).galaxies
    with pytest.raises(ck.ParamConfigurationError, match=r"Survey\.galaxies\.x0.*shape \(3,\).*own shape is \(2,\)"):
        galaxy.x0 = [1.0, 2.0, 3.0]


def test_value_that_is_no_number(unchanged):
    """Text in place of a number names the param."""
    with pytest.raises(ck.ParamTypeError, match=r"Survey\.noise.*'loud'"):
        unchanged(survey()).noise = "loud"


def test_sizes_that_disagree_within_a_plate():
    """Params that count the members differently are named with their plate and dims."""
    lines = ck.Module("lines")
    line = Line()
    line.slope = torch.zeros(5)
    line.offset = torch.zeros(4)
    lines.hierarchical_link("line", line)
    with pytest.raises(ck.PlateError, match=r"plate line .*5 from line\.slope .*\(5,\); 4 from line\.offset .*\(4,\)"):
        lines.get_values()
    lines.unlink("line")
    line.offset = torch.zeros(5)
    lines.hierarchical_link("line", line, size=6)
    with pytest.raises(ck.PlateError, match=r"6 from size= of the hierarchical link; 5 from line\.slope"):
        lines.get_values()


def test_nothing_batched_in_a_plate():
    """A plate whose size nothing tells says which shapes it saw, and how to give a size."""

    class Lines(ck.Module):
        def __init__(self):
            super().__init__()
            self.hierarchical_link("line", Line())

        @ck.forward
        def at(self, x):
            return ck.vmap(self.line.at)(x)

    with pytest.raises(ck.PlateError, match=r"Nothing is batched along plate line.*slope \(\), offset \(\).*size=n"):
        Lines().at(torch.tensor(1.0), torch.zeros(2))


def test_unknown_name_in_a_dict_of_params(unchanged):
    """A dict that names what is not there lists what is."""
    whole = unchanged(survey())
    with pytest.raises(ck.FillParamsMappingError, match=r"'sky'.*no child 'sky'.*galaxies, mean, scatter, noise"):
        whole.stamps(*axes(), {"sky": 1.0})
    with pytest.raises(ck.FillParamsMappingError, match=r"Galaxy\(Galaxy\) has no child 'flux'"):
        whole.set_values({"galaxies": {"flux": 1.0}})


@pytest.mark.parametrize(("length", "seen"), [(18, 18), (20, 20), (0, 0)])
def test_too_many_or_too_few_values_in_a_vector(unchanged, length, seen):
    """A vector of a wrong length shows how it should be made up."""
    whole = unchanged(survey())
    with pytest.raises(
        ck.FillParamsArrayError, match=rf"(?s)vector of 19 params.*\({seen},\).*galaxies\.x0: 8 \(4, 2\)"
    ):
        whole.stamps(*axes(), torch.zeros(length))
    with pytest.raises(ck.FillParamsArrayError, match="vector of 19 params"):
        whole.set_values(torch.zeros(length))


@pytest.mark.parametrize("length", [5, 7])
def test_too_many_or_too_few_values_in_a_list(unchanged, length):
    """A list of a wrong length shows the order in which params are expected."""
    whole = unchanged(survey())
    with pytest.raises(ck.FillParamsSequenceError, match=rf"list of 6 params, got {length}.*order: .*galaxies\.x0"):
        whole.stamps(*axes(), [torch.zeros(())] * length)


def test_params_left_out(unchanged):
    """A call without params lists the dynamic params that have no value."""
    with pytest.raises(ck.FillParamsError, match=r"no value for .*galaxies\.x0.*Pass params"):
        unchanged(survey()).stamps(*axes())


def test_a_forward_that_raises(unchanged):
    """After an error in the middle of a simulation the graph is as before, live params and pointers included."""

    class Fails(ck.Module):
        def __init__(self):
            super().__init__()
            self.line = Line()
            self.line.slope.to_static(None)
            self.twice = ck.Param("twice", lambda p: 2 * p.offset.value, link=self.line.offset)

        @ck.forward
        def run(self, x, twice):
            self.line.slope = twice
            raise FloatingPointError("diverged")

    fails = unchanged(Fails())
    with pytest.raises(FloatingPointError):
        fails.run(1.0, torch.tensor([3.0]))
    assert fails.line.slope.value is None


def test_infinite_data():
    """Infinite data are refused with the number of them and the place of the first, NaN apart from them."""
    holes = stamps()
    holes[2, 3, 4] = math.nan
    holes[3, 0, 0] = math.inf
    with pytest.raises(ck.ObservationError, match=r"'obs' hold 1 infinite values.*\(3, 0, 0\).*mark them as missing"):
        model().bind(*axes(), obs=holes)
    unbound = model()
    poutine.trace(unbound).get_trace(*axes(), obs=stamps())
    with pytest.raises(ck.ObservationError, match="infinite"):
        poutine.trace(unbound).get_trace(*axes(), obs=holes)


def test_data_that_are_all_missing():
    """Data of nothing but NaN are no data."""
    with pytest.raises(ck.ObservationError, match=r"'obs' are all missing.*Leave obs= out"):
        model().bind(*axes(), obs=torch.full((4, 7, 7), math.nan))


def test_data_of_a_wrong_shape():
    """Data that the prediction cannot explain are refused with both shapes."""
    with pytest.raises(ck.ObservationError, match=r"shape \(3, 7, 7\).*batch shape \(4,\) with \(7, 7\)"):
        model().bind(*axes(), obs=stamps(3))


def test_data_outside_of_the_support():
    """Negative counts for a Poisson likelihood are refused."""

    class Counts(ck.Module):
        def __init__(self):
            super().__init__()
            self.rate = ck.Param("rate", prior=dist.Gamma(2.0, 1.0))

        @ck.forward
        def counts(self, rate):
            return dist.Poisson(rate)

    with pytest.raises(ck.ObservationError, match=r"'obs' lie outside of the support.*Poisson.*from -1 to 3"):
        ck.PyroModel(Counts().counts).bind(obs=torch.tensor([3, -1, 0]))


def test_data_under_an_unknown_name():
    """Data for an observation that the model does not make list those that it makes."""
    with pytest.raises(ck.ObservationError, match=r"The data name spectra, but the model predicts obs"):
        model().bind(*axes(), obs={"spectra": stamps()})


@pytest.mark.parametrize(
    ("dims", "message"),
    [
        ({"obs": ("galaxies", "rows")}, r"names 2 batch dims of 'obs', galaxies, rows.*\(4,\)"),
        ({"spectra": ("galaxies",)}, "dims names spectra"),
        ({"obs": "galaxies"}, r"tuple of names, such as \('galaxies',\)"),
    ],
)
def test_dims_that_do_not_fit(dims, message):
    """Names for batch dims that do not exist are refused."""
    with pytest.raises(ck.ObservationError, match=message):
        model(dims=dims).bind(*axes(), obs=stamps())


def test_a_forward_that_returns_no_distribution():
    """A prediction without likelihood says what is needed; with likelihood= it is a model."""
    lines = Line()
    lines.slope.prior = lines.offset.prior = dist.Normal(0.0, 1.0)
    x = torch.linspace(0, 1, 5)
    with pytest.raises(ck.ModelError, match=r"Line\.at must return a distribution.*returns a Tensor.*likelihood="):
        ck.PyroModel(lines.at).bind(x, obs=x)
    bound = ck.PyroModel(lines.at, likelihood=lambda y: dist.Normal(y, 0.1)).bind(x, obs=x)
    assert poutine.trace(bound).get_trace().nodes["obs"]["fn"].batch_shape == (5,)


def test_a_module_in_place_of_a_method():
    """A model is made of a method; giving the module says so."""
    with pytest.raises(ck.ModelError, match="Give the method, not the module"):
        ck.PyroModel(survey())


@pytest.mark.parametrize("size", [0, -1, 2.5, True])
def test_impossible_sizes(size):
    """The size of a plate is a positive integer."""
    with pytest.raises(ck.NodeConfigurationError, match="size must be a positive integer"):
        ck.Module("m").hierarchical_link("line", Line(), size=size)


def test_edits_during_a_call(unchanged):
    """The graph cannot be edited by the simulation that runs on it."""

    class Edits(ck.Module):
        def __init__(self):
            super().__init__()
            self.a = ck.Param("a", 1.0, dynamic=True)

        @ck.forward
        def run(self, what):
            what(self)

    edits = unchanged(Edits())
    for what in (
        lambda self: self.a.to_static(),
        lambda self: self.unlink("a"),
        lambda self: setattr(self, "b", ck.Param("b", 1.0)),
        lambda self: setattr(self, "a", 2.0),
        lambda self: self.set_values([2.0]),
    ):
        with pytest.raises(ck.ActiveStateError):
            edits.run(what, [1.0])


def test_numpy_and_integer_data_are_taken():
    """Data as lists, arrays or integers are not a mistake."""
    galaxies = survey()
    for observed in (np.zeros((4, 7, 7)), np.zeros((4, 7, 7), dtype=int), stamps().tolist()):
        bound = model(galaxies).bind(*axes(), obs=observed)
        assert torch.isfinite(poutine.trace(bound).get_trace().log_prob_sum())


class Branches(ck.Module):
    def __init__(self):
        super().__init__()
        self.hierarchical_link("leaves", Slope(), size=3)
        self.height = ck.Param("height", torch.arange(3.0), shape=())
        self.leaves.slope.shape = ()

    @ck.forward
    def levels(self):
        return ck.vmap(self.leaves.own)()


class Trees(ck.Module):
    """As many branches as leaves on each, and a pointer of the root that computes a value for each branch."""

    def __init__(self):
        super().__init__()
        self.hierarchical_link("branches", Branches(), size=3)
        self.expected = ck.Param("expected", lambda p: 0.1 * p.height.value)
        self.expected.link(self.branches.height)
        self.branches.leaves.slope.prior = ck.prior(dist.Normal, self.expected, 1.0)

    @ck.forward
    def measured(self):
        return dist.Normal(ck.vmap(self.branches.levels)(), 1.0)


def test_a_pointer_that_could_belong_to_either_of_two_plates():
    """Values of an outer pointer that could count the members of either plate are refused, and not taken for the inner's."""
    model = ck.PyroModel(Trees().measured, dims={"obs": ("branches", "branches.leaves")})
    with pytest.raises(
        ck.PriorError, match=r"shape \(3,\), which leaves open which of the plates branches, branches\.leaves"
    ):
        model.bind(obs=torch.zeros(3, 3))


def test_inputs_that_are_no_tensors_are_named():
    """Where the simulator cannot compute with an input that is a list, the error says which and what to give."""
    with pytest.raises(
        ck.ModelError, match=r"line fails: .* Its input x is a list or tuple; give a tensor or an array\."
    ):
        ck.PyroModel(Slope().line).bind([0, 1, 2], obs=np.zeros(3))


@pytest.mark.parametrize("run", [ck.sample, ck.fit], ids=["sample", "fit"])
@pytest.mark.parametrize("x", [torch.arange(3), torch.arange(3.0).double()], ids=["single", "double"])
def test_data_in_double_precision_beside_params_in_single(x, run):
    """Data and inputs from numpy, which are double, are fitted with params of torch's default precision."""
    bound = ck.PyroModel(Slope().line).bind(x, obs=np.arange(3.0))
    run(
        bound,
        progress=False,
        **({"steps": 20} if run is ck.fit else {"draws": 500, "tune": 200, "chains": 1, "seed": 1}),
    )
    density = ck.LogDensity(bound)
    value, gradient = density.value_and_grad(torch.tensor([0.5]))
    assert value.dtype == gradient.dtype == torch.float64
    half = torch.tensor(0.5, dtype=torch.float64)
    expected = dist.Normal(half * x, 1.0).log_prob(torch.arange(3.0)).sum() + dist.Normal(0.0, 1.0).log_prob(half)
    torch.testing.assert_close(value, expected)


class Slope(ck.Module):
    def __init__(self):
        super().__init__()
        self.slope = ck.Param("slope", prior=dist.Normal(0.0, 1.0))

    @ck.forward
    def line(self, x, slope):
        return dist.Normal(slope * x, 1.0)

    @ck.forward
    def own(self, slope):
        return slope


def test_priors_are_checked_though_validation_is_off(unchanged):
    """The preflight checks the arguments of priors even where torch.compile, say, has switched such checks off."""
    wrong = unchanged(survey())
    wrong.scatter.prior = ck.prior(dist.Normal, 0.0, -5.0)
    torch.distributions.Distribution.set_default_validate_args(False)
    try:
        with pytest.raises(ck.PriorError, match="cannot be built"):
            model(wrong).bind(*axes(), obs=stamps())
    finally:
        torch.distributions.Distribution.set_default_validate_args(True)


class Level(ck.Module):
    """A level with a prior, and a fixed scale whose value happens to be that of a number in the forward method."""

    def __init__(self, prior):
        super().__init__()
        self.level = ck.Param("level", prior=prior)
        self.unit = ck.Param("unit", 1.0)

    @ck.forward
    def as_mean(self, level, unit):
        return dist.Normal(level * unit, 1.0)

    @ck.forward
    def as_scale(self, level):
        return dist.Normal(0.0, level)

    def undecorated(self, level):
        return dist.Normal(level, 1.0)


def test_a_method_without_the_decorator():
    """A method that is no forward method is told apart from one."""
    with pytest.raises(ck.ModelError, match=r"Level\.undecorated is no forward method: decorate it with @ck\.forward"):
        ck.PyroModel(Level(dist.Normal(0.0, 1.0)).undecorated)


def test_priors_that_leave_the_range_of_the_simulator():
    """What fails for draws from the priors shows these draws."""
    with pytest.raises(
        ck.ModelError, match=r"Level\.as_scale fails for params drawn from their priors \(.*level = -50"
    ):
        ck.PyroModel(Level(dist.Normal(-50.0, 1e-3)).as_scale).bind(obs=torch.zeros(3))


@pytest.mark.parametrize("run", [ck.sample, ck.fit])
def test_nothing_to_sample_and_discrete_latents(run):
    """Models without latents, and with discrete ones, are refused by name before anything starts."""
    discrete = ck.PyroModel(Level(dist.Poisson(3.0)).as_mean).bind(obs=torch.zeros(3))
    with pytest.raises(ck.SamplingError, match=r"cannot sample the discrete level, whose values are too many"):
        run(discrete, progress=False)
    fixed = Level(dist.Normal(0.0, 1.0))
    bound = ck.PyroModel(fixed.as_mean).bind(obs=torch.zeros(3))
    fixed.level.to_static(1.0)
    with pytest.raises(ck.SamplingError, match=r"nothing to sample.*to_dynamic"):
        run(bound, progress=False)


def test_the_report_names_params_where_they_enter_and_numbers_where_they_are():
    """A number that equals the value of a fixed param is written as a number."""
    bound = ck.PyroModel(Level(dist.Normal(0.0, 1.0)).as_mean).bind(obs=torch.zeros(3))
    assert bound.describe().sites[-1].distribution == "Normal(loc, 1)"


class Votes(ck.Module):
    """One distribution of counts."""

    def __init__(self, kind):
        super().__init__()
        self.kind = kind
        self.a = ck.Param("a", shape=(3,), prior=dist.Normal(0.0, 1.0))

    @ck.forward
    def votes(self, a):
        return self.kind(a)


@pytest.mark.parametrize(
    ("kind", "data", "message"),
    [
        (lambda a: dist.Categorical(logits=a), [1, 2, 3], r"IntegerInterval.* of the Categorical .* from 1 to 3"),
        (lambda a: dist.Categorical(logits=a), [-1, 0, 2], "of the Categorical .* from -1 to 2"),
        (lambda a: dist.Categorical(logits=a), [0.5, 0, 2], "of the Categorical .* from 0 to 2"),
        (lambda a: dist.Multinomial(10, logits=a), [[8, 5, 2]], "of the Multinomial"),
    ],
)
def test_labels_that_are_no_classes(kind, data, message):
    """Labels that count from one, halves and too many votes are refused before any sampling."""
    with pytest.raises(ck.ObservationError, match=f"The data of 'obs' lie outside .*{message}"):
        ck.PyroModel(Votes(kind).votes).bind(obs=data)


def test_impossible_data_are_named():
    """Where no params give the data a density, the error names the observation and where it is impossible."""
    tries = torch.tensor([4.0, 4.0, 4.0])
    votes = Votes(lambda a: dist.Binomial(tries + 0 * a, logits=a)).votes  # how many tries, the bind cannot know
    bound = ck.PyroModel(votes).bind(obs=torch.tensor([1.0, 9.0, 2.0]))
    with pytest.raises(ck.SamplingError, match=r"No starting point.*; none have obs \(.* at index \(1,\)\)"):
        ck.LogDensity(bound)


class Polls(ck.Module):
    def __init__(self):
        super().__init__()
        self.a = ck.Param("a", prior=dist.Normal(0.0, 1.0))

    @ck.forward
    def votes(self, asked, a):
        return dist.Binomial(asked, logits=a)


def test_inputs_that_are_arrays():
    """An array is taken where a simulator needs a tensor, by place or by name."""
    asked, votes = np.array([10, 20]), torch.tensor([3.0, 4.0])
    for bound in (
        ck.PyroModel(Polls().votes).bind(asked, obs=votes),
        ck.PyroModel(Polls().votes).bind(asked=asked, obs=votes),
    ):
        found = bound.log_density({"a": torch.zeros(1)})
        expected = dist.Binomial(torch.tensor([10.0, 20.0]), 0.5).log_prob(votes).sum() + dist.Normal(
            0.0, 1.0
        ).log_prob(torch.tensor(0.0))
        torch.testing.assert_close(found, expected[None], check_dtype=False)
