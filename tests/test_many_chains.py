"""Chains that run as one batch: the same posterior as chains in processes, and what goes with draws."""

import os
import signal

import arviz as az
import numpy as np
import pyro.distributions as dist
import pytest
import torch
import xarray as xr
from bridged import PAIRS
from reference_check import check, load
from reference_models import MODELS
from test_batched_density import Branching
from test_engines import Line, Wall, X, Y, exact, line

import caskade_pyro as ck
from caskade_pyro.compiler import library as native
from caskade_pyro.density.batched import FixedRows
from caskade_pyro.density.metric import Metric
from caskade_pyro.inference.settings import ChainSettings
from caskade_pyro.inference.vectorized import superchains, together
from caskade_pyro.inference.vectorized.run import Record
from caskade_pyro.results.nested import nested_rhat

short_runs = pytest.mark.filterwarnings("ignore::caskade_pyro.ConvergenceWarning")
# A few divergences at small scales are known of the references; the check decides whether they matter.
some_diverge = pytest.mark.filterwarnings("ignore:.*draws diverged:caskade_pyro.ConvergenceWarning")


def run(bound, **settings):
    """Vectorized chains, short by default."""
    given = {"draws": 20, "tune": 30, "chains": 5, "seed": 5, "vectorized": True, "progress": False} | settings
    return ck.sample(bound, **given)


def same(a, b):
    """Whether two runs made the same draws."""
    return all(np.array_equal(a.posterior[name], b.posterior[name]) for name in a.posterior.data_vars)


@pytest.mark.parametrize("metric", ["auto", "diagonal"])
def test_a_batch_samples_the_exact_posterior(metric):
    """Means and standard deviations of correlated params are those of linear algebra, after a short warm-up."""
    posterior = run(line(), draws=100, tune=60, chains=200, metric=metric)
    for name, mean, sd in zip(("offset", "slope"), *exact(), strict=True):
        draws = posterior.posterior[name]
        assert abs(draws.mean().item() - mean) < 4 * az.mcse(draws.values)
        assert draws.std().item() == pytest.approx(sd, rel=0.03)


@some_diverge
def test_a_batch_agrees_with_a_reference():
    """Eight schools by a batch agrees with its reference in means, sds, R-hat and effective sample sizes."""
    data, known = load("eight_schools")
    bound, variables = MODELS["eight_schools"](data)
    check(run(bound, draws=150, tune=150, chains=64), known, variables)


@pytest.mark.slow
@some_diverge
@pytest.mark.parametrize("name", [name for name in MODELS if name != "eight_schools"])
def test_batches_agree_with_references(name):
    """Every reference posterior is found by a batch of 64 chains."""
    data, known = load(name)
    bound, variables = MODELS[name](data)
    accept = {"pilots_crossed": 0.99}.get(name, 0.9)
    # The check's R-hat is the common one, which counts the chance of short chains as disagreement: hence so many draws.
    check(run(bound, draws=600, tune=300, chains=64, target_accept=accept), known, variables)


@some_diverge
def test_a_batch_and_processes_agree():
    """Of a hierarchical model, a batch and nutpie's chains have the same means and spreads of every value."""
    bound, _ = MODELS["eight_schools"](load("eight_schools")[0])
    together_, apart = run(bound, draws=100, tune=100, chains=64), ck.sample(bound, seed=2, progress=False)
    for name in apart.posterior.data_vars:
        ours, theirs = (one.posterior[name].values for one in (together_, apart))
        for index in np.ndindex(ours.shape[2:]):
            a, b = ours[(..., *index)], theirs[(..., *index)]
            assert abs(a.mean() - b.mean()) < 4.5 * np.hypot(az.mcse(a), az.mcse(b)), name
            assert np.log(a.std() / b.std()) == pytest.approx(0, abs=0.2), name


@short_runs
def test_the_same_seed_gives_the_same_draws():
    """Draws depend on the seed and the number of chains, and every chain goes its own way."""
    first, again, other = run(line()), run(line()), run(line(), seed=6)
    assert same(first, again)
    assert not same(first, other)
    assert len({float(chain[0]) for chain in first.posterior["slope"].values}) == 5


@short_runs
def test_no_global_generator_moves():
    """A run takes no random numbers from torch's global generator."""
    before = torch.get_rng_state()
    run(line(), draws=3, tune=3)
    assert torch.equal(before, torch.get_rng_state())


@short_runs
def test_the_statistics_are_those_of_arviz_schema():
    """Draws come with the statistics that chains in processes have, of the same kinds, and say who made them."""
    ours = run(line()).sample_stats
    theirs = ck.sample(line(), draws=20, tune=30, chains=2, seed=5, cores=1, progress=False).sample_stats
    assert set(ours.data_vars) == set(theirs.data_vars)
    for name in ours.data_vars:
        assert ours[name].shape == (5, 20)
        assert np.dtype(ours[name].dtype).kind == np.dtype(theirs[name].dtype).kind.replace("u", "i"), name
    assert ours.attrs["engine"] == "vectorized"
    assert ours.attrs["density"] == "compiled"
    assert np.isfinite(az.bfmi(ours)).all()
    assert (ours["n_steps"] >= 1).all()
    assert ((ours["acceptance_rate"] > 0) & (ours["acceptance_rate"] <= 1)).all()
    assert (ours["tree_depth"] >= 1).all()


@short_runs
def test_the_statistics_belong_to_their_draws():
    """The log density of each draw is that of the model there."""
    bound = line()
    posterior = run(bound)
    density = ck.LogDensity(bound)
    values = {name: torch.as_tensor(posterior.posterior[name].values.reshape(-1)) for name in ("offset", "slope")}
    expected = density.value(density.from_sampled(values)).reshape(5, 20)
    np.testing.assert_allclose(posterior.sample_stats["lp"], expected, rtol=1e-4)


@short_runs
def test_double_precision_stays_double(float64):
    """With double precision as torch's default, so are the draws."""
    bound = ck.PyroModel(Line().data).bind(X.double(), obs=Y.double())
    posterior = run(bound, chains=50, draws=50, tune=50).posterior["slope"]
    assert posterior.dtype == np.float64
    assert abs(posterior.mean().item() - exact()[0][1]) < 4.5 * az.mcse(posterior.values)


@short_runs
def test_chains_start_where_they_are_told():
    """Given values and fits are where chains start."""
    runs = [run(line(), draws=1, tune=0, max_tree_depth=1, start={"slope": slope}) for slope in (-2.5, 2.5)]
    assert not same(*runs)
    bound = PAIRS["two_nested"]().bound
    fitted = ck.fit(bound, steps=50, seed=1, progress=False)
    assert run(bound, draws=3, tune=3, start=fitted).posterior.sizes["draw"] == 3


@short_runs
@pytest.mark.parametrize("chains", [1, 3])
def test_few_chains_run_too(chains):
    """A batch of one chain, and of fewer than a covariance needs, runs with and without warm-up."""
    for tune in (0, 1, 40):
        posterior = run(line(), chains=chains, tune=tune)
        assert dict(posterior.posterior.sizes) == {"chain": chains, "draw": 20}
        assert np.isfinite(posterior.posterior["slope"]).all()


@short_runs
@pytest.mark.parametrize("metric", ["variances", "covariance"])
def test_a_metric_is_where_warm_up_begins(metric):
    """A known covariance is the metric of a batch without warm-up, which then takes few steps."""
    bound = line()
    long = run(bound, chains=50, draws=60, tune=60)
    z = np.stack([long.posterior[name].values.reshape(-1) for name in ("offset", "slope")])
    known = np.cov(z) if metric == "covariance" else np.var(z, axis=1)
    density = ck.LogDensity(bound)
    factor = np.linalg.cholesky(known) if known.ndim == 2 else np.sqrt(known)
    made = Metric.from_factor(density.slices, np.diag(factor) if factor.ndim == 1 else factor, "a test")
    without = run(bound, tune=0, draws=60, metric=made)
    steps = without.sample_stats["n_steps"].mean().item()
    assert steps < (5 if metric == "covariance" else 20)
    assert abs(without.posterior["slope"].mean().item() - exact()[0][1]) < 0.3


# Whether chains agree


def test_nested_rhat_compares_groups():
    """Many short chains of one law agree although their means differ; groups of them that lie apart do not."""
    generator = np.random.default_rng(1)
    steps = generator.normal(size=(64, 40))
    for draw in range(1, 40):  # correlated draws, whose chains the common R-hat finds to disagree
        steps[:, draw] = 0.5 * steps[:, draw - 1] + 0.75**0.5 * steps[:, draw]
    draws = xr.Dataset({"x": (("chain", "draw"), steps)})
    assert float(az.rhat(draws)["x"]) > 1.03
    assert 1 < float(nested_rhat(draws, 8)["x"]) < 1.01
    apart = draws.copy(deep=True)
    apart["x"][8:16] += 1.0
    assert float(nested_rhat(apart, 8)["x"]) > 1.03
    wider = draws.copy(deep=True)
    wider["x"][8:16] *= 3.0
    assert float(nested_rhat(wider, 8)["x"]) > 1.03
    still = xr.Dataset({"x": (("chain", "draw"), np.ones((8, 4)))})
    assert float(nested_rhat(still, 4)["x"]) == np.inf


def test_what_is_the_same_in_all_draws_is_no_disagreement():
    """The zero of a triangle has no nested R-hat beside an entry that moves; draws of two values have that of their ranks."""
    signs = np.sign(np.random.default_rng(1).normal(size=(64, 50)))
    entries = np.stack([signs, 0 * signs], axis=-1)
    found = nested_rhat(xr.Dataset({"row": (("chain", "draw", "column"), entries)}), 8)["row"]
    assert 1 < float(found[0]) < 1.01
    assert np.isnan(found[1])


@short_runs
def test_neighbours_start_together():
    """From sixteen chains on, groups of neighbours start at the same points, and the draws say how many."""
    assert [superchains(chains) for chains in (1, 15, 16, 31, 32, 1000)] == [1, 15, 4, 4, 8, 8]
    density = ck.LogDensity(line())
    settings = ChainSettings(draws=1, tune=0, seed=1, target_accept=0.8, max_tree_depth=5, engine="vectorized")
    starts = together._starts(density, settings, 18)
    assert [len(starts[part].unique(dim=0)) for part in (slice(0, 5), slice(0, 10), slice(0, 18))] == [1, 2, 4]
    assert run(line(), chains=20, draws=2, tune=2).posterior.attrs["superchains"] == 4


# Densities that are not compiled


@short_runs
def test_the_traced_density_gives_the_same_posterior_in_chunks_of_any_size(monkeypatch):
    """Without a compiler the graph runs, in chunks, and the chains go where they go on the compiled one."""
    same_start = {"draws": 5, "tune": 5, "start": {"offset": 1.0, "slope": 2.0}}  # rounding parts the paths to others
    compiled = run(line(), **same_start)
    monkeypatch.setenv("CXX", "no-such-compiler")
    native._compiler.cache_clear()
    try:
        for chunk_size in (None, 2):
            with pytest.warns(ck.PerformanceWarning, match="runs traced instead of compiled") as caught:
                traced = run(line(), **same_start, chunk_size=chunk_size)
            assert caught[0].filename == __file__
            np.testing.assert_allclose(traced.posterior["slope"][:, 0], compiled.posterior["slope"][:, 0], rtol=1e-2)
    finally:
        native._compiler.cache_clear()


@pytest.mark.slow
def test_the_graph_over_rows_compiles():
    """Compiled by torch, as on other devices, the graph over rows is the density at each of them."""
    density = ck.LogDensity(PAIRS["one_plate"]().bound)
    z = density.initial(1) + 0.1 * torch.randn(6, density.dim)
    fixed = FixedRows(density._program, 4, compiled=True)
    torch.testing.assert_close(fixed.run(z), density.value_and_grad(z), rtol=1e-4, atol=1e-3)


@short_runs
def test_a_density_that_branches_runs_with_one_warning():
    """A density that cannot be traced runs at one chain after the other, says so once, and is right."""
    bound = ck.PyroModel(Branching().data).bind(obs=torch.tensor([0.3, -0.2]))
    with pytest.warns(ck.PerformanceWarning, match="one vector after the other, because it cannot be traced") as caught:
        posterior = run(bound, draws=30, tune=30, chains=10)
    assert [one.filename for one in caught if one.category is ck.PerformanceWarning] == [__file__]
    assert np.isfinite(posterior.posterior["mu"]).all()


@short_runs
def test_a_density_that_is_not_finite_is_a_divergence():
    """Trajectories that meet a NaN end there as divergences, and the chains go on."""
    bound = ck.PyroModel(Wall().data).bind(obs=torch.tensor(0.1))
    posterior = run(bound, draws=200, tune=100, chains=8)
    assert posterior.sample_stats["diverging"].sum() > 0
    assert np.isfinite(posterior.posterior["x"]).all()
    assert posterior.posterior["x"].max() < 2.0


# What is said


def test_settings_that_do_not_go_together_are_errors():
    """Pyro's engine has no batches, chunks are for batches, and a chunk has at least one row."""
    with pytest.raises(ck.SamplingError, match="engine='pyro' runs one chain at a time"):
        run(line(), engine="pyro")
    with pytest.raises(ck.SamplingError, match="chunk_size= is for vectorized=True"):
        ck.sample(line(), chunk_size=4, progress=False)
    with pytest.raises(ck.SamplingError, match="chunk_size must be at least 1"):
        run(line(), chunk_size=0)


class Failing(ck.Module):
    """A simulator that looks up what is not there for some values."""

    def __init__(self):
        super().__init__()
        self.x = ck.Param("x", prior=dist.Normal(0.0, 1.0))

    @ck.forward
    def data(self, x):
        return dist.Normal(torch.arange(3.0)[(x.abs() + 1).log().mul(2).long()[None]] + x, 1.0)


def test_an_error_of_the_simulator_is_told():
    """What the simulator raises in the middle of a run is the message of the error."""
    bound = ck.PyroModel(Failing().data).bind(obs=torch.tensor([0.1]))
    with pytest.raises(ck.SamplingError, match=r"The density failed: .*out of bounds"):
        run(bound, draws=5000, tune=50, chains=20)


@short_runs
def test_an_interrupt_keeps_the_draws_made_so_far(monkeypatch):
    """Ctrl-C in the middle of sampling returns what all chains have drawn, with a warning; they are the first draws."""
    whole = run(line())
    add = Record.add

    def add_until_interrupted(record, *args):
        add(record, *args)
        if int(record.count.min()) == 4:
            os.kill(os.getpid(), signal.SIGINT)

    monkeypatch.setattr(Record, "add", add_until_interrupted)
    with pytest.warns(ck.ConvergenceWarning, match="Interrupted: kept [45] of 20 draws of 5 of 5 chains"):
        kept = run(line())
    count = kept.posterior.sizes["draw"]
    np.testing.assert_array_equal(kept.posterior["slope"], whole.posterior["slope"][:, :count])


@short_runs
def test_an_interrupt_before_the_first_draw_is_an_interrupt(monkeypatch):
    """Ctrl-C in warm-up, where there is nothing to keep, stays what it is."""

    def interrupted(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr(together, "warm_up", interrupted)
    with pytest.raises(KeyboardInterrupt):
        run(line())


def test_the_line_of_progress_counts_all_draws(capsys):
    """The line of progress ends with all steps of all chains, the step size and the divergences."""
    with pytest.warns(ck.ConvergenceWarning):
        run(line(), draws=4, tune=12, chains=3, progress=True)
    shown = capsys.readouterr().err
    assert "48/48" in shown
    assert "3 chains sampling" in shown
    assert "0 divergences" in shown
