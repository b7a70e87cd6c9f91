"""What a model means: editing the graph edits the inference, and modules of the package `caskade` are models too."""

import caskade
import pyro.distributions as dist
import pytest
import torch
from bridged import PAIRS, Galaxy, Line, Survey, axes, data
from pyro import poutine

import caskade_pyro as ck


def log_density(model, values):
    """The log density of a model at values of its latent sites."""
    return poutine.trace(poutine.condition(model, data=values)).get_trace().log_prob_sum()


def sites(bound):
    """The names of the latent sites."""
    return [site.name for site in bound.plan.sites]


def fit_line(line, **kwargs):
    """A line through five points, as a bound model."""
    x = torch.linspace(0, 1, 5)
    return ck.PyroModel(line.at, likelihood=lambda y: dist.Normal(y, 0.1), **kwargs).bind(x, obs=x)


@pytest.fixture
def line():
    """A line with priors."""
    made = Line()
    made.slope.prior = dist.Normal(0.0, 2.0)
    made.offset.prior = dist.Normal(1.0, 0.5)
    return made


def test_fixing_a_param_conditions_on_its_value(line):
    """A static param is no site, and the rest has the density at that value without its prior."""
    bound = fit_line(line)
    values = {"slope": torch.tensor(0.4), "offset": torch.tensor(-0.2)}
    free = log_density(bound, values)
    line.slope.to_static(0.4)
    assert sites(bound) == ["offset"]
    prior = dist.Normal(0.0, 2.0).log_prob(torch.tensor(0.4))
    torch.testing.assert_close(log_density(bound, {"offset": torch.tensor(-0.2)}), free - prior)
    line.slope.to_dynamic()
    torch.testing.assert_close(log_density(bound, values), free)


def test_a_pointer_ties_params(line):
    """A pointer is no site of its own and follows its target."""
    bound = fit_line(line)
    expected = log_density(bound, {"slope": torch.tensor(0.4), "offset": torch.tensor(0.8)})
    prior = dist.Normal(1.0, 0.5).log_prob(torch.tensor(0.8))
    line.offset = lambda p: 2 * p.slope.value
    line.offset.link(line.slope)
    assert sites(bound) == ["slope"]
    torch.testing.assert_close(log_density(bound, {"slope": torch.tensor(0.4)}), expected - prior)


def test_bounds_make_a_uniform_prior():
    """A param with bounds on both sides and no prior is uniform between them, and the report says so."""
    line = Line()
    line.slope.valid = (-1.0, 3.0)
    line.offset.prior = dist.Normal(0.0, 1.0)
    bound = fit_line(line)
    drawn = poutine.trace(bound).get_trace().nodes["slope"]
    assert -1 <= drawn["value"] <= 3
    torch.testing.assert_close(drawn["fn"].log_prob(drawn["value"]), torch.tensor(0.25).log())
    assert "from valid=" in str(bound.report())


def test_priors_of_a_model_go_before_those_of_params(line):
    """priors= replaces priors by site, for this model alone."""
    bound = fit_line(line, priors={"slope": dist.Normal(5.0, 0.1)})
    assert poutine.trace(bound).get_trace().nodes["slope"]["fn"].loc == 5.0
    assert line.slope.prior.fixed.loc == 0.0


def test_plain_torch_distributions_are_priors_and_likelihoods(line):
    """Distributions of torch itself work wherever Pyro's do."""
    line.slope.prior = torch.distributions.Normal(0.0, 2.0)
    x = torch.linspace(0, 1, 5)
    plain = ck.PyroModel(line.at, likelihood=lambda y: torch.distributions.Normal(y, 0.1)).bind(x, obs=x)
    values = {"slope": torch.tensor(0.4), "offset": torch.tensor(-0.2)}
    torch.testing.assert_close(log_density(plain, values), log_density(fit_line(line), values))


def test_a_param_without_shape_takes_that_of_its_prior():
    """A param that declares no shape and has no value is shaped by its prior, through hyperparameters as well."""
    module = ck.Module("m")
    module.centre = ck.Param("centre", prior=dist.Normal(torch.zeros(3), 1.0).to_event(1))
    module.point = ck.Param("point", prior=ck.prior(dist.Normal, module.centre, 1.0))
    assert module.centre.shape == (3,)
    assert module.point.shape == (3,)


def test_a_param_can_be_kept_out_of_a_sized_plate():
    """batch_shape=() said explicitly makes one param that all members share: a site outside of the plate."""
    galaxy = Galaxy()
    survey = Survey(galaxy, 4)
    galaxy.log_I0.batch_shape = ()
    bound = ck.PyroModel(survey.stamps, dims={"obs": ("galaxies",)}).bind(*axes(), obs=data(4, 7, 7))
    trace = poutine.trace(bound).get_trace()
    assert trace.nodes["galaxies.log_I0"]["value"].shape == ()
    assert trace.nodes["galaxies.log_I0"]["cond_indep_stack"] == ()
    assert [frame.name for frame in trace.nodes["galaxies.x0"]["cond_indep_stack"]] == ["galaxies"]


@pytest.mark.parametrize("name", PAIRS)
def test_running_a_model_changes_nothing(name):
    """A run of a model leaves every value, role and link as it was."""
    bound = PAIRS[name]().bound
    module = bound.model.module
    nodes = module.topological_ordering()
    before = [(node, dict(node.children), getattr(node, "stored_value", None)) for node in nodes]
    poutine.trace(bound).get_trace()
    assert [(node, dict(node.children), getattr(node, "stored_value", None)) for node in nodes] == before


def test_two_models_of_one_module_do_not_meet(line):
    """Models of two methods of a module, and runs with inputs of other shapes, keep their own plans."""
    model = ck.PyroModel(line.at, likelihood=lambda y: dist.Normal(y, 0.1))
    for n in (3, 6, 3):
        assert poutine.trace(model).get_trace(torch.zeros(n)).nodes["obs"]["value"].shape == (n,)


# Modules of the package `caskade`


class UpstreamGalaxy(caskade.Module):
    def __init__(self):
        super().__init__("galaxy")
        self.x0 = caskade.Param("x0", shape=())
        self.width = caskade.Param("width", shape=(), valid=(0.1, 2.0))

    @caskade.forward
    def light(self, x, x0, width):
        return torch.exp(-(((x - x0) / width) ** 2))


class UpstreamSurvey(caskade.Module):
    def __init__(self, galaxy):
        super().__init__("survey")
        self.hierarchical_link("galaxies", galaxy)
        self.noise = caskade.Param("noise", shape=())

    @caskade.forward
    def stamps(self, x, noise, galaxies_params, galaxies_dims):
        images = torch.vmap(self.galaxies.light, in_dims=(None, galaxies_dims))(x, galaxies_params)
        return dist.Normal(images, noise)


def test_modules_of_the_other_package_are_models():
    """A module of `caskade` is a model as it is: sites, plates, bounds and density as for ours."""
    galaxy = UpstreamGalaxy()
    survey = UpstreamSurvey(galaxy)
    galaxy.x0.batch_shape = galaxy.width.batch_shape = (3,)
    galaxy.x0.prior = dist.Normal(0.0, 1.0)
    survey.noise.prior = dist.HalfNormal(1.0)
    x, observed = torch.linspace(-1, 1, 6), data(3, 6)
    bound = ck.PyroModel(survey.stamps, dims={"obs": ("galaxies",)}).bind(x, obs=observed)
    values = {
        "noise": torch.tensor(0.3),
        "galaxies.x0": torch.tensor([-0.5, 0.0, 0.5])[:, None],
        "galaxies.width": torch.tensor([0.5, 1.0, 1.5])[:, None],
    }
    images = torch.exp(-(((x - values["galaxies.x0"]) / values["galaxies.width"]) ** 2))
    expected = (
        dist.HalfNormal(1.0).log_prob(values["noise"])
        + dist.Normal(0.0, 1.0).log_prob(values["galaxies.x0"]).sum()
        + 3 * torch.tensor(1 / 1.9).log()
        + dist.Normal(images, values["noise"]).log_prob(observed).sum()
    )
    torch.testing.assert_close(log_density(bound, values), expected)
    trace = poutine.trace(bound).get_trace()
    assert {frame.name for frame in trace.nodes["obs"]["cond_indep_stack"]} == {"galaxies", "obs_dim_1"}
    assert all(param.value is None for param in survey.dynamic_params)


class Spare(ck.Module):
    """A simulator with a param that it does not use, and one that only the prior of that one uses."""

    def __init__(self):
        super().__init__()
        self.level = ck.Param("level", prior=dist.Normal(0.0, 1.0))
        self.width = ck.Param("width", prior=dist.HalfNormal(1.0))
        self.spare = ck.Param("spare", shape=())
        self.spare.prior = ck.prior(dist.Normal, 0.0, self.width)

    @ck.forward
    def seen(self, level):
        return dist.Normal(level, 1.0)


def test_params_that_enter_nothing_are_noted():
    """The report says which params no observation depends on, directly or through the priors of others."""
    rows = {row[0]: row[-1] for row in ck.PyroModel(Spare().seen).bind(obs=torch.zeros(3)).report().rows()}
    assert rows["level"] == ""
    assert rows["width"] == "enters nothing: its posterior is its prior"
    assert rows["spare"].endswith("it lies in no plate; enters nothing: its posterior is its prior")
