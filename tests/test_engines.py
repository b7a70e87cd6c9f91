"""The engines of ck.sample: the same posterior, seeds, starting points, and what is said where one cannot be had."""

import importlib.util
import multiprocessing
import os
import signal
import threading
from types import SimpleNamespace

import arviz as az
import numpy as np
import pyro.distributions as dist
import pytest
import torch
from bridged import PAIRS

import caskade_pyro as ck
from caskade_pyro.compiler import library as native
from caskade_pyro.inference import chains, effective, engines, lean
from caskade_pyro.inference.effective import effective_sizes
from caskade_pyro.inference.progress import Progress, SamplingProgress

short_runs = pytest.mark.filterwarnings("ignore::caskade_pyro.ConvergenceWarning")


class Line(ck.Module):
    """A straight line with correlated params."""

    def __init__(self):
        super().__init__()
        self.offset = ck.Param("offset", prior=dist.Normal(0.0, 10.0))
        self.slope = ck.Param("slope", prior=dist.Normal(0.0, 10.0))

    @ck.forward
    def data(self, x, offset, slope):
        return dist.Normal(offset + slope * x, 0.5)


X = torch.linspace(0.0, 3.0, 12)
Y = 1.0 + 2.0 * X + 0.5 * torch.randn(12, generator=torch.Generator().manual_seed(1))


def line():
    return ck.PyroModel(Line().data).bind(X, obs=Y)


def exact():
    """Mean and standard deviation of the posterior of offset and slope, by linear algebra."""
    design = np.stack([np.ones(12), X.double().numpy()], 1)
    covariance = np.linalg.inv(design.T @ design / 0.25 + np.eye(2) / 100)
    return covariance @ design.T @ Y.double().numpy() / 0.25, np.sqrt(np.diag(covariance))


@pytest.mark.filterwarnings("ignore:.*R-hat|.*effective sample size:caskade_pyro.ConvergenceWarning")
@pytest.mark.parametrize(
    "settings",
    [
        {"engine": "compiled", "draws": 2000},
        {"engine": "compiled", "draws": 2000, "metric": "low_rank"},
        {"engine": "compiled", "draws": 2000, "metric": "diagonal"},
        {"engine": "pyro", "draws": 500},
    ],
)
def test_every_engine_samples_the_same_posterior(settings):
    """Means and standard deviations are those of the exact posterior, for each engine and mass matrix."""
    posterior = ck.sample(line(), tune=400, chains=2, seed=2, progress=False, **settings)
    for name, mean, sd in zip(("offset", "slope"), *exact(), strict=True):
        draws = posterior.posterior[name]
        assert abs(draws.mean().item() - mean) < 4.5 * az.mcse(draws.values)
        assert draws.std().item() == pytest.approx(sd, rel=0.15)


@short_runs
def test_a_float64_model_is_sampled_in_double_precision(float64):
    """With double precision as torch's default, the draws are in double precision and the posterior is right."""
    bound = ck.PyroModel(Line().data).bind(X.double(), obs=Y.double())
    posterior = ck.sample(bound, draws=1000, tune=300, chains=2, seed=2, progress=False).posterior["slope"]
    assert posterior.dtype == np.float64
    assert abs(posterior.mean().item() - exact()[0][1]) < 4.5 * az.mcse(posterior.values)


@short_runs
@pytest.mark.parametrize("engine", ["compiled", "pyro"])
def test_same_seed_same_draws_for_any_number_of_processes(engine):
    """Of every engine the draws depend on the seed alone."""
    runs = [
        ck.sample(line(), draws=20, tune=30, chains=3, seed=5, cores=cores, engine=engine, progress=False).posterior
        for cores in (3, 1, 2)
    ]
    for run in runs[1:]:
        np.testing.assert_array_equal(run["slope"], runs[0]["slope"])
    assert len({float(chain[0]) for chain in runs[0]["slope"].values}) == 3


@short_runs
def test_the_statistics_are_those_of_arviz_schema():
    """Draws come with divergences, tree depths, step sizes, energies and log densities, one for each draw."""
    stats = ck.sample(line(), draws=20, tune=30, chains=2, seed=5, cores=1, progress=False).sample_stats
    for name in ("diverging", "tree_depth", "n_steps", "step_size", "energy", "lp", "acceptance_rate"):
        assert stats[name].shape == (2, 20)
    assert stats.attrs["engine"] == "nutpie"
    assert stats.attrs["density"] == "compiled"
    assert np.isfinite(az.bfmi(stats)).all()


@short_runs
def test_chains_start_where_they_are_told():
    """Values for params are where chains start; what is not given starts by chance; unknown names are errors."""
    density = ck.LogDensity(line())
    torch.testing.assert_close(
        density.initial(1, density.sampled_values({"offset": 3.0, "slope": -2.5})), torch.tensor([3.0, -2.5])
    )
    some = [density.initial(seed, density.sampled_values({"slope": -2.5})) for seed in (1, 2)]
    assert [one[1].item() for one in some] == [-2.5, -2.5]
    assert some[0][0] != some[1][0]
    runs = [
        ck.sample(line(), draws=2, tune=0, chains=1, seed=1, start={"slope": slope}, max_tree_depth=1, progress=False)
        for slope in (-2.5, 2.5)
    ]
    assert runs[0].posterior["slope"][0, 0] != runs[1].posterior["slope"][0, 0]
    with pytest.raises(ck.SamplingError, match="no site tilt"):
        ck.sample(line(), draws=1, tune=0, start={"tilt": 1.0}, progress=False)


@short_runs
def test_a_fit_gives_the_starting_points():
    """Chains start at draws from a fit of the same model; a fit with other offsets is refused."""
    bound = PAIRS["two_nested"]().bound
    fitted = ck.fit(bound, steps=50, seed=1, progress=False)
    posterior = ck.sample(bound, draws=5, tune=5, chains=2, seed=1, cores=1, start=fitted, progress=False)
    assert posterior.posterior.sizes["draw"] == 5
    with pytest.raises(ck.SamplingError, match="another noncentered="):
        ck.sample(bound, draws=5, tune=5, start=fitted, noncentered=False, progress=False)


# What is said


def test_an_unknown_engine_is_an_error_that_lists_the_known():
    """A name that is no engine is an error with the names of all."""
    with pytest.raises(ck.SamplingError, match="choose 'auto', 'compiled', 'pyro'"):
        ck.sample(line(), engine="stan")


@short_runs
def test_without_nutpie_pyro_samples(monkeypatch):
    """Where nutpie is missing, Pyro's NUTS runs and one line says so; asked for, its absence is an error."""
    find = importlib.util.find_spec
    monkeypatch.setattr(engines, "find_spec", lambda name: None if name == "nutpie" else find(name))
    with pytest.warns(ck.PerformanceWarning, match="nutpie is not installed .pip install nutpie.: Pyro's NUTS runs"):
        posterior = ck.sample(line(), draws=5, tune=5, chains=1, seed=1, progress=False)
    assert posterior.sample_stats.attrs["engine"] == "pyro"
    with pytest.raises(ck.MissingDependencyError, match="nutpie is not installed"):
        ck.sample(line(), engine="compiled", progress=False)


@short_runs
def test_without_a_compiler_the_draws_are_the_same(monkeypatch):
    """From one start, chains on the traced density go where they go on the compiled one; one line says that they are slower."""
    settings = {"draws": 5, "tune": 5, "chains": 1, "seed": 1, "start": {"slope": 1.5}, "progress": False}
    with_compiler = ck.sample(line(), **settings)
    monkeypatch.setenv("CXX", "no-such-compiler")
    native._compiler.cache_clear()
    try:
        with pytest.warns(ck.PerformanceWarning, match="runs traced instead of compiled, because .* no C") as caught:
            without = ck.sample(line(), **settings)
        with pytest.raises(ck.SamplingError, match="there is no C"):
            ck.sample(line(), engine="compiled", progress=False)
    finally:
        native._compiler.cache_clear()
    np.testing.assert_allclose(without.posterior["slope"], with_compiler.posterior["slope"], rtol=1e-2)
    assert "\n" not in str(caught[0].message)
    assert caught[0].filename == __file__


@short_runs
@pytest.mark.parametrize("cores", [1, 2])
def test_an_interrupt_keeps_the_draws_made_so_far(cores):
    """Ctrl-C in the middle of sampling returns what all chains have drawn, with a warning."""
    bound = line()
    ck.LogDensity(bound).compile()
    threading.Timer(2.5, lambda: os.kill(os.getpid(), signal.SIGINT)).start()
    with pytest.warns(ck.ConvergenceWarning, match="Interrupted"):
        posterior = ck.sample(bound, draws=50_000_000, tune=20, chains=2, seed=1, cores=cores, progress=False)
    assert 0 < posterior.posterior.sizes["draw"] < 50_000_000


class Wall(ck.Module):
    """A density that is not a number behind a wall."""

    def __init__(self):
        super().__init__()
        self.x = ck.Param("x", prior=dist.Normal(0.0, 1.0))

    @ck.forward
    def data(self, x):
        return dist.Normal((2.0 - x).sqrt(), 1.0)


@pytest.mark.filterwarnings("ignore:.*draws diverged:caskade_pyro.ConvergenceWarning")
@short_runs
def test_a_density_that_is_not_finite_is_a_divergence():
    """Trajectories that meet a NaN end there as divergences, and the chain goes on."""
    bound = ck.PyroModel(Wall().data).bind(obs=torch.tensor(0.1))
    posterior = ck.sample(bound, draws=500, tune=100, chains=1, seed=1, progress=False)
    assert posterior.sample_stats["diverging"].sum() > 0
    assert np.isfinite(posterior.posterior["x"]).all()
    assert posterior.posterior["x"].max() < 2.0


def test_one_line_tells_where_all_chains_stand():
    """The line of progress counts steps, divergences and stages over all chains, and shows the range of step sizes."""
    with SamplingProgress(chains=3, tune=10, draws=10, show=False) as shown:
        shown.update(Progress(chain=0, step=20, divergences=2, step_size=0.5))
        shown.update(Progress(chain=1, step=12, divergences=1, step_size=0.25))
        shown.update(Progress(chain=2, step=3, divergences=0, step_size=0.5))
        assert shown.summary() == "chains: 1 warming up, 1 sampling, 1 done; step size 0.25 to 0.5; 3 divergences"


def test_the_line_of_progress_tells_the_smallest_effective_sample_size():
    """The effective sample sizes of the chains are added up by value, and the smallest sum is shown; NaN is none."""
    with SamplingProgress(chains=2, tune=10, draws=10, show=False) as shown:
        shown.update(Progress(0, 15, 0, 0.5, np.array([100.0, 20.0, np.nan])))
        assert shown.summary().endswith("0 divergences; smallest ESS 20")
        shown.update(Progress(1, 15, 0, 0.5, np.array([30.0, 200.0, np.nan])))
        assert shown.summary().endswith("0 divergences; smallest ESS 130")
    with SamplingProgress(chains=1, tune=10, draws=10, show=False) as shown:
        shown.update(Progress(0, 15, 0, 0.5, np.array([np.nan])))
        assert shown.summary().endswith("0 divergences")


@pytest.mark.parametrize("correlation", [-0.5, 0.0, 0.5, 0.9])
def test_effective_sample_sizes_are_those_of_arviz(correlation):
    """Of a long chain, the sizes that progress shows are ArviZ's without ranks, within a few per cent."""
    random = np.random.default_rng(1)
    draws = np.zeros((2000, 5))
    for step in range(1, 2000):
        draws[step] = correlation * draws[step - 1] + random.normal(size=5)
    known = az.ess({"x": draws[None]}, method="mean")["x"].values
    np.testing.assert_allclose(effective_sizes(draws), known, rtol=0.1)


def test_there_is_no_effective_sample_size_of_what_stands_still():
    """Columns that do not move, and chains of a few draws, have none."""
    draws = np.random.default_rng(1).normal(size=(100, 2))
    draws[:, 1] = 3.0
    assert np.isnan(effective_sizes(draws)).tolist() == [False, True]
    assert np.isnan(effective_sizes(draws[:5])).all()


@short_runs
@pytest.mark.parametrize("engine", ["compiled", "pyro"])
def test_looking_at_the_draws_does_not_change_them(engine, monkeypatch):
    """Effective sample sizes are told while a chain runs, and its draws are what they are without anyone looking."""
    count = 1500 if engine == "compiled" else 40
    settings = {"draws": count, "tune": 50, "chains": 1, "seed": 4, "engine": engine, "progress": False}
    alone = ck.sample(line(), **settings).posterior
    told = []
    monkeypatch.setattr(effective, "SECONDS_BETWEEN_LOOKS", 0.0)
    monkeypatch.setattr(effective, "SHARE", 1.0)
    look, finished = effective.Looks.look, lean._Sampler._finished

    def seen():
        return any(sizes is not None and np.isfinite(sizes).all() for sizes in told)

    def tell(looks, draws):
        look(looks, draws)
        told.append(looks.sizes)

    def finished_once_seen(sampler):
        """However fast the chain is: it counts as running until it was looked at; the exploring steps make no draws."""
        return finished(sampler) and (seen() or sampler.stage.explores)

    monkeypatch.setattr(effective.Looks, "look", tell)
    monkeypatch.setattr(lean._Sampler, "_finished", finished_once_seen)
    watched = ck.sample(line(), **settings).posterior
    np.testing.assert_array_equal(watched["slope"], alone["slope"])
    assert seen()


def test_last_words_of_a_sampler(monkeypatch):
    """What the thread of a sampler reports after its chain has ended goes nowhere, and is no error."""
    receiving, sending = multiprocessing.Pipe(duplex=False)
    said = []
    monkeypatch.setattr(chains.signal, "signal", lambda *_: None)
    monkeypatch.setattr(chains, "_run_chain", lambda *rest: said.append(rest[3]) or "drawn")
    settings = SimpleNamespace(tune=10, draws=10)
    chains._work(sending, None, settings, 0, threading.Event())
    (report,) = said
    report(Progress(0, 20, 0, 0.5, ()))
    assert receiving.recv() == "drawn"
    with pytest.raises(EOFError):
        receiving.recv()
    receiving.close()
