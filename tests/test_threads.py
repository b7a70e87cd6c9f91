"""Several threads and processes: calls take turns, and nobody's random numbers change."""

# ruff: noqa: NPY002 - the generators that all threads share are what this is about

import functools
import multiprocessing
import random
import threading
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor

import numpy as np
import pyro.distributions as dist
import pytest
import torch

import caskade_pyro as ck
from caskade_pyro.bridge.randomness import TAKE_A_GENERATOR, TAKE_NONE, own_numbers
from caskade_pyro.bridge.turns import in_turn, in_turn_of_another, out_of_turn


class Mean(ck.Module):
    def __init__(self):
        super().__init__()
        self.mu = ck.Param("mu", prior=dist.Normal(0.0, 1.0))

    @ck.forward
    def data(self, mu):
        return dist.Normal(mu, 1.0)


class Branching(Mean):
    @ck.forward
    def data(self, mu):
        return dist.Normal(mu, 1.0) if float(mu.detach()) < 9.0 else dist.Normal(mu, 2.0)  # can only run eagerly


def bind(kind=Mean):
    return ck.PyroModel(kind().data, dims={"obs": ("stars",)}).bind(obs=torch.tensor([0.3, 0.9, 1.1]))


def sampled(**settings):
    found = ck.sample(bind(), draws=9, tune=30, chains=2, seed=3, progress=False, **settings)
    return found.posterior["mu"].values


@pytest.fixture(scope="module")
def posterior():
    return ck.sample(bind(), draws=100, tune=200, chains=2, seed=3, progress=False)


CALLS = {
    "processes": lambda _: sampled(),
    "here": lambda _: sampled(cores=1),
    "vectorized": lambda _: sampled(vectorized=True),
    "pyro": lambda _: ck.sample(bind(), 5, 20, 1, 3, engine="pyro", cores=1, progress=False).posterior["mu"].values,
    "fit": lambda _: ck.fit(bind(), steps=20, seed=3, progress=False).fitted.draw(9, 1)["mu"],
    "pyro's fit": lambda _: ck.fit(bind(), steps=9, seed=3, engine="pyro", progress=False).losses,
    "prior": lambda _: ck.prior_predictive(bind(), 9, 3, progress=False).prior_predictive["obs"].values,
    "predict": lambda p: ck.predict(bind(), p, 9, 3, progress=False).posterior_predictive["obs"].values,
    "likelihood": lambda p: ck.log_likelihood(bind(), p, progress=False).log_likelihood["obs"].values,
    "calibrate": lambda _: ck.calibrate(bind(), 2, 9, tune=50, seed=3, cores=1, progress=False).ranks["mu"].values,
}


def states():
    return torch.get_rng_state().tolist(), np.random.get_state()[1].tolist(), random.getstate()


def seed_all():
    torch.manual_seed(5)
    np.random.seed(5)
    random.seed(5)


@pytest.mark.filterwarnings("ignore::caskade_pyro.ConvergenceWarning")
@pytest.mark.parametrize("name", CALLS)
def test_the_generators_of_the_process(name, posterior):
    """A seeded call leaves them as they were, and gives the same whatever another thread draws, which sees only its own."""
    seed_all()
    before = states()
    alone = CALLS[name](posterior)
    assert states() == before
    drawn = []
    stop = threading.Event()

    def draw():
        while not stop.wait(0.001):
            drawn.append((torch.rand(()).item(), np.random.rand(), random.random()))

    other = threading.Thread(target=draw)
    other.start()
    try:
        beside = CALLS[name](posterior)
    finally:
        stop.set()
        other.join()
    np.testing.assert_array_equal(beside, alone)
    seed_all()
    assert drawn == [(torch.rand(()).item(), np.random.rand(), random.random()) for _ in drawn]


@pytest.mark.filterwarnings("ignore::caskade_pyro.ConvergenceWarning")
def test_calls_from_several_threads(posterior):
    """Calls of all kinds from threads at the same time give what each gives alone."""
    names = ("processes", "here", "fit", "prior", "likelihood")
    alone = {name: CALLS[name](posterior) for name in names}
    with ThreadPoolExecutor(len(alone)) as threads:
        together = {name: threads.submit(CALLS[name], posterior) for name in alone}
        for name, found in together.items():
            np.testing.assert_array_equal(found.result(timeout=100), alone[name], err_msg=name)


@pytest.mark.filterwarnings("ignore::caskade_pyro.PerformanceWarning", "ignore::caskade_pyro.ConvergenceWarning")
def test_an_eager_density_in_this_process():
    """A density of Python is called by nutpie from a thread that does not wait for the one that waits."""
    found = ck.sample(bind(Branching), 5, 9, 1, 3, cores=1, progress=False)
    assert found.posterior.sizes["draw"] == 5


def in_a_process(_):
    torch.set_num_threads(1)
    return sampled()


@pytest.mark.filterwarnings("ignore::caskade_pyro.ConvergenceWarning", "ignore::DeprecationWarning")
@pytest.mark.parametrize("kind", ["pool", "executor", "thread", "forked"])
def test_sampling_elsewhere(kind):
    """A worker of a pool, which may have no children, of an executor, a thread and a forked process draw the same."""
    context = multiprocessing.get_context("fork")
    expected = sampled()
    if kind == "pool":
        with context.Pool(1) as pool:
            found = pool.map(in_a_process, [0])[0]
    elif kind == "executor":
        with ProcessPoolExecutor(1, mp_context=context) as executor:
            found = executor.submit(in_a_process, 0).result()
    elif kind == "thread":
        with ThreadPoolExecutor(1) as executor:
            found = executor.submit(in_a_process, 0).result()
    else:
        receiving, sending = context.Pipe()
        process = context.Process(target=lambda: sending.send(in_a_process(0)))
        process.start()
        found = receiving.recv()
        process.join()
    np.testing.assert_array_equal(found, expected)


def calibrated(_):
    return ck.calibrate(bind(), 2, 9, tune=50, seed=3, progress=False).ranks["mu"].values


def test_calibrating_in_a_pool():
    """A calibration in a worker of a pool runs its simulations there."""
    with multiprocessing.get_context("fork").Pool(1) as pool:
        np.testing.assert_array_equal(pool.map(calibrated, [0])[0], calibrated(0))


def test_a_process_forked_while_another_thread_has_its_turn():
    """A turn that a thread of the parent has does not block its children."""
    begun, over = threading.Event(), threading.Event()

    def long():
        with in_turn():
            begun.set()
            over.wait(60)

    other = threading.Thread(target=long)
    other.start()
    begun.wait()
    try:
        context = multiprocessing.get_context("fork")
        with context.Pool(1) as pool:
            assert pool.apply_async(calibrated, [0]).get(timeout=60).shape == (2,)
    finally:
        over.set()
        other.join()


def test_turns():
    """A turn is for one thread, for all that it calls, and for those that work for it; it may be interrupted."""
    order = []

    def wait():
        with in_turn():
            order.append("other")

    with in_turn(), in_turn():
        other = threading.Thread(target=wait)
        other.start()
        other.join(0.05)
        assert other.is_alive()
        helper = threading.Thread(target=lambda: [order.append("helper") for _ in [0] if _helped()])
        helper.start()
        helper.join()
        with out_of_turn():
            other.join()
        order.append("own")
    assert order == ["helper", "other", "own"]
    with out_of_turn(), in_turn():
        pass


def _helped():
    with in_turn_of_another(), in_turn():
        return True


DRAWS = {
    "rand": lambda: torch.rand(3),
    "randn": lambda: torch.randn(3, dtype=torch.float64),
    "randn_like": lambda: torch.randn_like(torch.zeros(3)),
    "normal": lambda: torch.normal(torch.zeros(3), torch.ones(3)),
    "randint": lambda: torch.randint(10, (3,)),
    "randperm": lambda: torch.randperm(5),
    "multinomial": lambda: torch.multinomial(torch.ones(5), 2),
    "bernoulli_": lambda: torch.zeros(3).bernoulli_(0.5),
    "dropout": lambda: torch.nn.functional.dropout(torch.ones(8)),
    "rrelu": lambda: torch.nn.functional.rrelu(-torch.ones(4), training=True),
    "layer": lambda: torch.nn.init.kaiming_uniform_(torch.empty(2, 2)),
    "vmap": lambda: torch.vmap(lambda x: x + torch.randn(()), randomness="different")(torch.zeros(3)),
} | {
    str(one): functools.partial(one.sample)
    for one in (
        dist.Normal(torch.zeros(3), 1.0),
        dist.Gamma(torch.ones(3), 1.0),
        dist.Beta(torch.ones(3), 2.0),
        dist.Dirichlet(torch.ones(3)),
        dist.Categorical(torch.ones(4)),
        dist.Poisson(torch.ones(3)),
        dist.Binomial(5, torch.ones(3) / 2),
        dist.NegativeBinomial(5.0, torch.ones(3) / 2),
        dist.Exponential(torch.ones(3)),
        dist.Geometric(torch.ones(3) / 2),
        dist.Cauchy(torch.zeros(3), 1.0),
        dist.StudentT(torch.ones(3) * 4),
        dist.VonMises(torch.zeros(3), 1.0),
        dist.LKJCholesky(3, 2.0),
        dist.MultivariateNormal(torch.zeros(2), torch.eye(2)),
        dist.LogNormal(torch.zeros(2), 1.0),
        dist.HalfCauchy(torch.ones(2)),
    )
}


@pytest.mark.parametrize("name", DRAWS)
def test_own_numbers(name):
    """Our own generators give the numbers of the seed, as the one of the process does, and leave that alone."""
    torch.manual_seed(7)
    expected = DRAWS[name]()
    torch.manual_seed(3)
    before = torch.get_rng_state()
    with own_numbers(1), own_numbers(7):
        found = DRAWS[name]()
    assert torch.equal(found, expected)
    assert torch.equal(torch.get_rng_state(), before)


def test_all_functions_that_draw_are_known():
    """Every operation of torch that takes a generator is one that we give ours."""
    assert {"normal_", "rand", "poisson"} <= TAKE_A_GENERATOR
    drawing = {
        name.removeprefix("aten::")
        for name in torch._C._dispatch_get_all_op_names()
        if name.startswith("aten::") and "." not in name
        for schema in torch._C._jit_get_schemas_for_operator(name)
        if any(argument.name == "generator" for argument in schema.arguments)
    }
    internal = {"rrelu_with_noise", "rrelu_with_noise_", "rrelu_with_noise_functional", "normal_functional"}
    functional = {"cauchy", "exponential", "geometric", "log_normal", "random", "uniform"}  # which Python does not show
    assert len(drawing) > 10
    assert drawing - internal - functional - {"_fused_dropout"} <= TAKE_A_GENERATOR | TAKE_NONE
