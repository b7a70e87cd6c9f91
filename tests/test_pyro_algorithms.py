"""Every algorithm of Pyro takes a bound model with plates, jit-compiled ones too, and finds what it finds by hand."""

import numpy as np
import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro import infer, poutine
from pyro.infer import MCMC, SVI, autoguide
from pyro.infer.reparam import AutoReparam, LocScaleReparam, NeuTraReparam
from registry import PAIRS

import caskade_pyro as ck

pytestmark = [
    pytest.mark.filterwarnings("ignore::torch.jit.TracerWarning"),
    pytest.mark.filterwarnings("ignore:.*torch.jit:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:Encountered NaN"),
]

JIT = {"ignore_jit_warnings": True}
MANY = {"num_particles": 3, "vectorize_particles": True, "max_plate_nesting": 2}
LOSSES = {
    "trace": infer.Trace_ELBO,
    "trace vectorised": lambda: infer.Trace_ELBO(**MANY),
    "mean field": infer.TraceMeanField_ELBO,
    "graph": infer.TraceGraph_ELBO,
    "enum": lambda: infer.TraceEnum_ELBO(max_plate_nesting=2, strict_enumeration_warning=False),
    "tail adaptive": lambda: infer.TraceTailAdaptive_ELBO(**MANY),
    "renyi": lambda: infer.RenyiELBO(num_particles=2),
    "tmc": lambda: infer.TraceTMC_ELBO(max_plate_nesting=2, strict_enumeration_warning=False),
    "reweighted": lambda: infer.ReweightedWakeSleep(max_plate_nesting=2, strict_enumeration_warning=False),
    "jit trace": lambda: infer.JitTrace_ELBO(**JIT),
    "jit vectorised": lambda: infer.JitTrace_ELBO(**MANY, **JIT),
    "jit mean field": lambda: infer.JitTraceMeanField_ELBO(**JIT),
    "jit graph": lambda: infer.JitTraceGraph_ELBO(**JIT),
    "jit enum": lambda: infer.JitTraceEnum_ELBO(max_plate_nesting=2, strict_enumeration_warning=False, **JIT),
}
"""Those that compile keep the first model that they see, so that each model has its own."""

MODELS = ("two_nested", "crossed", "constants_and_inputs_of_members")


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("loss", LOSSES)
def test_losses_are_those_by_hand(loss, name):
    """Each estimate of the ELBO of Pyro is, for the same seed, that of the model in plain Pyro."""
    pair, found = PAIRS[name](), []
    for model in (pair.bound, pair.by_hand):
        pyro.clear_param_store()
        guide = autoguide.AutoNormal(model, init_loc_fn=autoguide.init_to_feasible)
        pyro.set_rng_seed(1)
        guide()
        steps = SVI(model, guide, pyro.optim.Adam({"lr": 0.01}), LOSSES[loss]())
        pyro.set_rng_seed(1)
        found.append(np.array([steps.step() for _ in range(2)]))
    np.testing.assert_allclose(found[0], found[1], rtol=1e-3)


KERNELS = {
    "nuts": lambda model: infer.NUTS(model, step_size=0.01, adapt_step_size=False, max_tree_depth=3),
    "nuts jit": lambda model: infer.NUTS(
        model, step_size=0.01, adapt_step_size=False, max_tree_depth=3, jit_compile=True, **JIT
    ),
    "hmc": lambda model: infer.HMC(model, step_size=0.01, num_steps=3, adapt_step_size=False),
    "hmc jit": lambda model: infer.HMC(
        model, step_size=0.01, num_steps=3, adapt_step_size=False, jit_compile=True, **JIT
    ),
    "random walk": lambda model: infer.RandomWalkKernel(model, init_step_size=0.01),
}


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("kernel", KERNELS)
def test_kernels_take_a_bound_model(kernel, name):
    """Each kernel of Pyro draws from a model with plates, and its draws fit the model's sites."""
    bound = PAIRS[name]().bound
    sampler = MCMC(KERNELS[kernel](bound), num_samples=3, warmup_steps=1, disable_progbar=True)
    sampler.run()
    drawn = sampler.get_samples()
    assert set(drawn) == {site.name for site in bound.plan.sites}
    assert all(bool(torch.isfinite(value).all()) for value in drawn.values())


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("parallel", [False, True])
def test_predictive_takes_a_bound_model(parallel, name):
    """Pyro's Predictive runs the model at draws of a guide, one by one and side by side, as by hand."""
    pair = PAIRS[name]()
    drawn = infer.Predictive(pair.bound, num_samples=3)()
    shapes = []
    for model in (pair.bound, pair.by_hand):
        bare = poutine.uncondition(model)
        found = infer.Predictive(bare, drawn, return_sites=("obs",), parallel=parallel)()
        shapes.append(tuple(found["obs"].shape))
    assert shapes[0] == shapes[1]


@pytest.mark.parametrize("name", MODELS)
def test_importance_takes_a_bound_model(name):
    """Importance sampling weighs draws as it does for the model by hand."""
    pair, found = PAIRS[name](), []
    for model in (pair.bound, pair.by_hand):
        pyro.set_rng_seed(1)
        found.append(infer.Importance(model, num_samples=4).run().get_log_normalizer().item())
    assert found[0] == pytest.approx(found[1], rel=1e-3)


@pytest.mark.parametrize("name", MODELS)
def test_weights_of_many_particles(name):
    """Vectorised importance weights are those of the model by hand."""
    pair, found = PAIRS[name](), []
    for model in (pair.bound, pair.by_hand):
        pyro.clear_param_store()
        guide = autoguide.AutoNormal(model, init_loc_fn=autoguide.init_to_feasible)
        pyro.set_rng_seed(1)
        guide()
        pyro.set_rng_seed(1)
        weights, *_ = infer.importance.vectorized_importance_weights(
            model, guide, num_samples=3, max_plate_nesting=2, normalized=False
        )
        found.append(weights.detach())
    torch.testing.assert_close(found[0], found[1], rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("name", MODELS)
def test_svgd_takes_a_bound_model(name):
    """Stein variational gradient descent moves particles of a model with plates."""
    bound = PAIRS[name]().bound
    steps = infer.SVGD(bound, infer.RBFSteinKernel(), pyro.optim.Adam({"lr": 0.01}), 3, max_plate_nesting=2)
    steps.step()
    assert set(steps.get_named_particles()) == {site.name for site in bound.plan.sites}


@pytest.mark.parametrize("name", MODELS)
def test_reparametrisations_of_pyro(name):
    """Pyro's own reparametrisations act on a bound model as on the one by hand."""
    pair = PAIRS[name]()
    sites = {
        site.name: LocScaleReparam(0.0) for site in pair.bound.plan.sites if "Normal" in str(site.source.prior)[:6]
    }
    found = []
    for model in (pair.bound, pair.by_hand):
        pyro.set_rng_seed(1)
        trace = poutine.trace(poutine.reparam(model, sites)).get_trace()
        found.append(trace.log_prob_sum().item())
        pyro.set_rng_seed(1)
        found.append(poutine.trace(AutoReparam()(model)).get_trace().log_prob_sum().item())
    assert found[:2] == pytest.approx(found[2:], rel=1e-4)


def test_neutra_takes_a_bound_model():
    """A fitted guide transports a bound model, and NUTS runs on what comes of it."""
    bound = PAIRS["one_plate"]().bound
    guide = autoguide.AutoDiagonalNormal(bound)
    SVI(bound, guide, pyro.optim.Adam({"lr": 0.01}), infer.Trace_ELBO()).step()
    moved = NeuTraReparam(guide).reparam(bound)
    sampler = MCMC(
        infer.NUTS(moved, step_size=0.01, adapt_step_size=False, max_tree_depth=3), 2, 1, disable_progbar=True
    )
    sampler.run()
    assert len(sampler.get_samples()) == 1


def test_handlers_of_effects():
    """The handlers of Pyro see a bound model as one of Pyro's: condition, do, mask, scale, replay, seed, block."""
    pair, found = PAIRS["one_plate"](), []
    for model in (pair.bound, pair.by_hand):
        value = torch.tensor(0.4)
        changed = poutine.mask(poutine.scale(poutine.do(model, {"mean": value}), 2.0), True)
        known = poutine.condition(changed, {"scatter": value})
        seeded = poutine.trace(poutine.seed(known, 3)).get_trace()
        again = poutine.trace(poutine.replay(known, seeded)).get_trace()
        hidden = poutine.trace(poutine.block(poutine.seed(known, 3), hide=["obs"])).get_trace()
        found += [one.log_prob_sum().item() for one in (seeded, again, hidden)]
    assert found[:3] == pytest.approx(found[3:])
    assert found[0] == pytest.approx(found[1])


def test_what_is_counted_is_enumerated_in_compiled_steps():
    """A discrete param of each member is summed out by Pyro's jit-compiled ELBO as by the plain one."""

    class Member(ck.Module):
        def __init__(self):
            super().__init__()
            self.outlier = ck.Param("outlier", shape=(), prior=dist.Bernoulli(0.2))

        @ck.forward
        def shift(self, outlier):
            return 5.0 * outlier

    class Mixed(ck.Module):
        def __init__(self):
            super().__init__()
            self.hierarchical_link("members", Member(), size=4)
            self.mu = ck.Param("mu", prior=dist.Normal(0.0, 3.0))

        @ck.forward
        def data(self, mu):
            return dist.Normal(mu + ck.vmap(self.members.shift)(), 0.5)

    bound = ck.PyroModel(Mixed().data, dims={"obs": ("members",)}).bind(obs=torch.tensor([0.1, 5.3, 0.2, -0.1]))
    found = []
    for loss in (infer.TraceEnum_ELBO(max_plate_nesting=1), infer.JitTraceEnum_ELBO(max_plate_nesting=1, **JIT)):
        pyro.clear_param_store()
        guide = autoguide.AutoDelta(poutine.block(bound, hide=["members.outlier"]))
        pyro.set_rng_seed(1)
        guide()
        pyro.set_rng_seed(1)
        found.append(SVI(bound.noncentered(), guide, pyro.optim.Adam({"lr": 0.01}), loss).step())
    assert found[0] == pytest.approx(found[1], rel=1e-4)
