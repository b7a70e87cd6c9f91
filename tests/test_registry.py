"""Every model of the registry: reparametrised, pickled, and with what it reports."""

import copy
import pickle

import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro import poutine
from pyro.infer import TraceEnum_ELBO, config_enumerate
from registry import PAIRS
from registry.pair import latents, trace

import caskade_pyro as ck
from caskade_pyro.bridge.circular import SHARPNESS
from caskade_pyro.density.constrain import to_user_params

every_pair = pytest.mark.parametrize("name", PAIRS)
doubles = pytest.mark.usefixtures("float64")


def close(ours, theirs):
    """To rounding."""
    torch.testing.assert_close(ours, theirs, rtol=1e-10, atol=1e-10)


def test_the_registry_covers_many_shapes():
    """There are more than thirty models."""
    assert len(PAIRS) > 40


@doubles
@every_pair
@pytest.mark.parametrize("copied", [lambda one: pickle.loads(pickle.dumps(one)), copy.deepcopy])
def test_copies_have_the_same_density(name, copied):
    """A pickled and unpickled model, with data and without, has the log density of the original; so has a deep copy."""
    pair = PAIRS[name]()
    values = latents(trace(pair.bound))
    expected = trace(pair.bound, values).log_prob_sum()
    again = copied(pair.bound)
    close(trace(again, values).log_prob_sum(), expected)
    model = copied(pair.bound.model)
    close(
        trace(model.bind(*pair.bound.args, obs=pair.bound.data, **pair.bound.kwargs), values).log_prob_sum(), expected
    )


def sampled_density(pair, choice, sampled):
    """The log density of the reparametrised model and the one it should have: the user's, and the Jacobians by hand.

    Returns:
        Both, and the user's params.
    """
    decisions = pair.bound.decisions(choice)
    executed = trace(pair.bound.noncentered(choice), sampled)
    params = {site.name: executed.nodes[site.name]["value"] for site in pair.bound.plan.sites}
    params |= {name: value for name, value in sampled.items() if name not in _renamed(decisions)}
    original = trace(pair.by_hand, params)
    expected = original.log_prob_sum()
    for name, decision in decisions.items():
        if decision.noncentered:
            scale = original.nodes[name]["fn"]
            while hasattr(scale, "base_dist"):
                scale = scale.base_dist
            if decision.multivariate:
                factor = scale.scale_tril
                left = decision.centered * factor.square().sum(-1).sqrt().log()
                spread = factor.diagonal(dim1=-2, dim2=-1).log() - left
                expected = expected + spread.expand(params[name].shape).sum()
            else:
                spread = scale.scale.expand(params[name].shape).log().sum()
                expected = expected + (1 - decision.centered) * spread
        elif decision.circle is not None:
            expected = expected + _ring_density(sampled[f"{name}_ring"], decision.circle).sum()
    return executed.log_prob_sum(), expected, params


def _renamed(decisions):
    return {decision.sampled_as for name, decision in decisions.items() if decision.sampled_as != name}


def _ring_density(point, circle):
    """The log density of a point of the ring beside that of its direction, which is uniform on the circle.

    Its square distance s from (-1, 0) follows Gamma(k, k); the area element is ds dangle / 2.
    """
    low, high = circle
    square = (point[..., 0] + 1) ** 2 + point[..., 1] ** 2
    area = torch.log(torch.tensor(0.5))
    direction = -torch.log(torch.tensor(2 * torch.pi))
    uniform = -torch.log(torch.tensor(high - low))
    return torch.distributions.Gamma(SHARPNESS, SHARPNESS).log_prob(square) - area + direction - uniform


choices = pytest.mark.parametrize("choice", ["auto", "offsets"])


@doubles
@every_pair
@choices
def test_reparametrised_density(name, choice):
    """What samplers see has the hand-written density with the Jacobians of offsets and directions."""
    pair = PAIRS[name]()
    for _ in range(5):
        sampled = latents(trace(pair.bound.noncentered(choice)))
        assert _renamed(pair.bound.decisions(choice)) <= sampled.keys()
        ours, expected, _ = sampled_density(pair, choice, sampled)
        close(ours, expected)


@doubles
@every_pair
def test_draws_come_back_in_the_params_of_the_user(name):
    """Draws of the reparametrised model come back as values of params, plates in the user's order, pointers with them."""
    pair = PAIRS[name]()
    plan = pair.bound.plan
    if pair.bound.discrete and pair.one_by_one:
        with pytest.raises(
            ck.SamplingError, match=r"discrete more cannot be summed out.*samples sources\.\w+, .* itself"
        ):
            pair.bound.check_samplable()
        return
    runs = [trace(pair.bound.noncentered("auto")) for _ in range(3)]
    discrete = {site.name for site in pair.bound.discrete}
    sampled = {
        site: torch.stack([latents(run)[site] for run in runs]) for site in latents(runs[0]) if site not in discrete
    }
    found = to_user_params(pair.bound, sampled, "auto")
    assert {one.name for one in plan.latents} <= found.keys()
    for quantity in plan.latents:
        assert found[quantity.name].shape == (3, *quantity.draw_shape)
        if quantity.name not in discrete:
            expected = torch.stack([run.nodes[quantity.name]["value"] for run in runs])
            close(found[quantity.name], expected.reshape(3, *quantity.draw_shape))
    by_hand = [
        trace(pair.by_hand, {site: run.nodes[site]["value"] for site in latents(trace(pair.by_hand))}) for run in runs
    ]
    for pointer in plan.reported:
        if not pointer.from_simulator and pointer.name in by_hand[0].nodes:
            close(found[pointer.name], torch.stack([run.nodes[pointer.name]["value"] for run in by_hand]))


@doubles
def test_pointers_and_live_params_are_deterministic_sites():
    """What pointers and the simulator compute stands in the trace as it does in the hand-written model."""
    pair = PAIRS["pointers_and_live_params"]()
    by_hand = trace(pair.by_hand)
    bridged = trace(pair.bound, latents(by_hand))
    deterministic = [site for site, node in by_hand.nodes.items() if node.get("infer", {}).get("_deterministic")]
    assert sorted(deterministic) == ["brightness", "stars.weight", "young"]
    for site in deterministic:
        close(bridged.nodes[site]["value"], by_hand.nodes[site]["value"])
        ours, theirs = (
            [(frame.name, frame.dim) for frame in run.nodes[site]["cond_indep_stack"]] for run in (bridged, by_hand)
        )
        assert ours == theirs


@doubles
@pytest.mark.parametrize("name", ["discrete_in_a_plate", "discrete_global"])
def test_discrete_params_are_summed_out(name):
    """With discrete params enumerated, the log density of the others is that of the hand-written model, enumerated too."""
    pair = PAIRS[name]()
    depth = pair.bound.plan.nesting
    discrete = {site.name for site in pair.bound.discrete}
    assert discrete
    for _ in range(5):
        values = {site: value for site, value in latents(trace(pair.by_hand)).items() if site not in discrete}
        enumerated = (pair.bound.noncentered(False), config_enumerate(pair.by_hand, "parallel"))
        close(*(summed_density(model, values, depth) for model in enumerated))


def summed_density(model, values, depth):
    """The log density of a model at values of its other sites, with the discrete ones summed out."""
    given = poutine.condition(model, data=values)
    return -torch.tensor(TraceEnum_ELBO(max_plate_nesting=depth).loss(given, lambda: None))


@doubles
def test_editing_a_module_of_caskade_edits_the_model():
    """The plan of a model of the other package is kept between runs, and is another one after an edit."""
    pair = PAIRS["module_of_caskade"]()
    bound = pair.bound
    plan = bound.plan
    assert bound.plan is plan
    values = latents(trace(pair.by_hand))
    free = trace(bound, values).log_prob_sum()
    line = bound.model.module.line
    line.slope.valid = (-4.0, 4.0)
    uniform = 3 * torch.tensor(2.0).log()
    close(trace(bound, values).log_prob_sum(), free - uniform)
    line.slope.prior = dist.Uniform(-3.0, 3.0)
    close(trace(bound, values).log_prob_sum(), free - 3 * torch.tensor(1.5).log())
    bound.model.module.noise.to_static(0.5)
    assert [site.name for site in bound.plan.sites if site.name == "noise"] == []


class NestedSites(ck.Module):
    """A simulator with two plates of its own, the inner one two dims away."""

    def __init__(self):
        super().__init__()
        self.level = ck.Param("level", prior=dist.Normal(0.0, 1.0))

    @ck.forward
    def observed(self, level):
        with pyro.plate("rows", 3, dim=-3), pyro.plate("columns", 2, dim=-1):
            shift = pyro.sample("shift", dist.Normal(level, 1.0))
        return dist.Normal(shift[:, 0], 0.5)


@doubles
@pytest.mark.filterwarnings("ignore::caskade_pyro.ConvergenceWarning")
def test_plates_of_the_simulator_keep_their_order():
    """Sites in two plates of the simulator have these as dims, outermost first, in draws, predictions and densities."""
    bound = ck.PyroModel(NestedSites().observed, dims={"obs": ("a", "b")}).bind(obs=torch.zeros(3, 2))
    assert bound.plan.latent_inner[0].draw_shape == (3, 2)
    drawn = ck.prior_predictive(bound, draws=4, seed=1, progress=False)
    assert drawn.prior["shift"].dims == ("chain", "draw", "rows", "columns")
    posterior = ck.sample(bound, draws=4, tune=4, chains=1, seed=1, cores=1, progress=False)
    assert posterior.posterior["shift"].dims == ("chain", "draw", "rows", "columns")
    shift, level = (torch.as_tensor(posterior.posterior[name].values[0]) for name in ("shift", "level"))
    expected = dist.Normal(0.0, 1.0).log_prob(level)
    expected = expected + dist.Normal(level[:, None, None], 1.0).log_prob(shift).sum((1, 2))
    expected = expected + dist.Normal(shift, 0.5).log_prob(torch.zeros(())).sum((1, 2))
    close(bound.log_density({"shift": shift, "level": level}), expected)
    summed = ck.log_likelihood(bound, posterior, progress=False).log_likelihood["obs"].sum(("a", "b")).values[0]
    close(torch.as_tensor(summed), dist.Normal(shift, 0.5).log_prob(torch.zeros(())).sum((1, 2)))
    found = ck.predict(bound, posterior, seed=1, progress=False).posterior_predictive
    assert found["obs"].dims == ("chain", "draw", "a", "b")
