"""The form of a density that runs is compared with the next slower one, also where the posterior is."""

import threading

import pyro.distributions as dist
import pytest
import torch

import caskade_pyro as ck
from caskade_pyro.compiler import trace_program
from caskade_pyro.compiler.ops import OPERATIONS, Pointwise
from caskade_pyro.density import compiled, log_density, spread_over
from caskade_pyro.density.agreement import disagreement
from caskade_pyro.inference import svi_steps


class Rope(ck.Module):
    """A length whose hyperbolic sine is measured."""

    def __init__(self):
        super().__init__()
        self.x = ck.Param("x", shape=(), prior=dist.Normal(0.0, 1.0))

    @ck.forward
    def seen(self, x):
        return dist.Normal(torch.sinh(x), 3.0)


def bound(model=Rope):
    """Data that lie far from where chains start: the posterior is a narrow one about asinh(200), 5.99."""
    return ck.PyroModel(model().seen).bind(obs=torch.full((3,), 200.0))


@pytest.fixture
def planted(monkeypatch, tmp_path):
    """A wrong operation in our code: right where priors and starts are, wrong where the posterior is."""
    monkeypatch.setenv("CASKADE_PYRO_CACHE", str(tmp_path))
    wrong = "({0} < 4 ? std::sinh({0}) : 1.05 * std::sinh({0}))"
    monkeypatch.setitem(OPERATIONS, "sinh", Pointwise((wrong, None, None), "r"))


@pytest.fixture
def ours_alone(monkeypatch):
    """Nobody but us makes code."""
    monkeypatch.setattr(log_density, "BACKENDS", {"caskade_pyro wrote": compiled.load_native})


@pytest.mark.usefixtures("planted", "ours_alone", "float64")
@pytest.mark.filterwarnings("ignore::caskade_pyro.ConvergenceWarning")
@pytest.mark.parametrize("options", [{"chains": 2, "cores": 1}, {"chains": 4, "vectorized": True}])
def test_code_that_is_wrong_at_the_posterior_alone_is_not_returned(options):
    """The run is done again on the traced density, with one line that blames the package."""
    with pytest.warns(ck.PerformanceWarning) as caught:
        found = ck.sample(bound(), draws=60, tune=80, seed=1, progress=False, **options)
    lines = [str(one.message) for one in caught if one.category is ck.PerformanceWarning]
    assert len(lines) == 1
    assert "done again on the traced density, because the code that caskade_pyro wrote differs" in lines[0]
    assert "a bug of caskade_pyro and not of the model: please report" in lines[0]
    assert found.posterior.x.mean().item() == pytest.approx(5.9915, abs=0.02)
    assert found.sample_stats.attrs["density"].startswith("traced, because")


@pytest.mark.usefixtures("planted", "ours_alone", "float64")
def test_a_fit_on_wrong_code_is_done_again():
    """What a fit found on code that is wrong at its draws is not returned."""
    with pytest.warns(ck.PerformanceWarning, match="done again on the traced density"):
        fit = ck.fit(bound(), steps=400, lr=0.05, seed=1, progress=False)
    assert fit.engine == "traced"
    assert fit.sample(100, seed=1).posterior.x.mean().item() == pytest.approx(5.9915, abs=0.02)


@pytest.mark.usefixtures("float64")
def test_a_guide_whose_code_is_wrong_runs_as_it_was_traced(monkeypatch):
    """A fit whose guide was compiled wrong is done again with the guide as traced, and the density stays compiled."""

    def wrong(program):
        return lambda vector: (program.run(vector)[0], program.run(vector)[1] * (1 + 0.1 * (vector[0] > 0.5)))

    class Near(Rope):
        @ck.forward
        def seen(self, x):
            return dist.Normal(x, 0.1)

    monkeypatch.setattr(svi_steps, "_fast", wrong)
    model = ck.PyroModel(Near().seen).bind(obs=torch.full((3,), 2.0))
    with pytest.warns(ck.PerformanceWarning, match="the code of the guide differs, which is a bug of caskade_pyro"):
        fit = ck.fit(model, steps=300, lr=0.05, seed=1, progress=False)
    assert fit.engine == "compiled"
    assert fit.sample(200, seed=1).posterior.x.mean().item() == pytest.approx(2.0, abs=0.05)


@pytest.mark.usefixtures("planted", "float64")
def test_inductor_is_asked_before_the_traced_form_runs(monkeypatch):
    """Where our code differs or cannot be had, that of the next is taken."""
    asked = []

    def other(program):
        asked.append(program)
        return Runs(program)

    monkeypatch.setattr(log_density, "BACKENDS", {"caskade_pyro wrote": compiled.load_native, "another wrote": other})
    density = ck.LogDensity(bound()).compile()
    assert not asked
    assert "caskade_pyro wrote differs" in density.distrust(torch.full((1, 1), 6.0))
    assert (density.form, density.eager_because, len(asked)) == ("compiled", None, 1)
    assert density.distrust(torch.full((1, 1), 6.0)) is None
    torch.testing.assert_close(density.value_and_grad(torch.tensor([6.0])), density._eager(torch.tensor([6.0])))


class Runs:
    """A traced density that passes for compiled."""

    def __init__(self, program):
        self.run = program.run


@pytest.mark.usefixtures("float64")
def test_a_traced_form_that_is_wrong_at_the_posterior_is_left(monkeypatch):
    """A simulator that does something else far from the start is run as it is, and what is said of it is true."""

    class Turns(Rope):
        @ck.forward
        def seen(self, x):
            far = bool(torch._C._functorch.is_functorch_wrapped_tensor(x)) is False and float(x.detach()) > 4
            return dist.Normal(torch.sinh(x) + (5.0 if far else 0.0), 3.0)

    density = ck.LogDensity(bound(Turns))
    assert density.form == "traced"
    assert "keeps state does that, and with any other it is a bug" in density.distrust(torch.full((1, 1), 6.0))
    assert density.form == "eager"
    assert density.distrust(torch.full((1, 1), 6.0)) is None


@pytest.mark.usefixtures("float64")
@pytest.mark.parametrize("seed", range(5))
def test_rounding_is_no_disagreement(seed):
    """Sums of large terms that cancel may differ by their rounding, and by no more."""
    generator = torch.Generator().manual_seed(seed)
    t = 2.4e6 + torch.rand(50, generator=generator)

    def first(z):
        return (((t - 2.4e6 * z[0] - z[1]) / 1e-5) ** 2).sum()

    def second(z):
        return ((t / 1e-5 - (2.4e6 * z[0] + z[1]) / 1e-5) ** 2).sum()

    z = torch.tensor([[1.0000003, 0.3]])
    one, other = trace_program(first, z[0]), trace_program(second, z[0])
    values = [form.run(z[0])[0].item() for form in (one, other)]
    assert values[0] != values[1]
    assert disagreement(other.run, one.run, z, one) is None

    def wrong(z):
        return one.run(z)[0] * (1 + 1e-3), one.run(z)[1]

    assert disagreement(wrong, one.run, z, one) == 0


def test_draws_are_spread_over_all_chains():
    """The draws that are looked at come of all chains, and of their whole length."""
    draws = torch.arange(4 * 100.0).reshape(4, 100, 1)
    found = spread_over(draws, 12)[:, 0]
    assert len(found) == 12
    assert sorted({int(one) // 100 for one in found}) == [0, 1, 2, 3]
    assert found.remainder(100).min() < 10
    assert found.remainder(100).max() > 90
    assert len(spread_over(draws[:1, :3], 12)) == 3


class Sky(ck.Module):
    """Many numbers, so that calls overlap."""

    def __init__(self):
        super().__init__()
        self.a = ck.Param("a", shape=(200,), prior=dist.Normal(0.0, 1.0))

    @ck.forward
    def seen(self, a):
        return dist.Normal((a[:, None] - a).tanh().sum(-1), 1.0)


@pytest.mark.usefixtures("float64")
@pytest.mark.parametrize("many", [False, True])
@pytest.mark.parametrize("form", ["compiled", "eager"])
def test_threads_share_a_density(form, many):
    """Called from several threads, a density gives each its own value and gradient."""
    density = ck.LogDensity(ck.PyroModel(Sky().seen).bind(obs=torch.zeros(200)))
    if form == "compiled":
        density.compile()
    else:
        density._program = None
    assert density.form == form
    points = torch.randn(6, 3, 200) if many else torch.randn(6, 200)
    expected = [density.value_and_grad(z) for z in points] if form == "compiled" else None
    found = {}

    def work(number):
        found[number] = [density.value_and_grad(points[number]) for _ in range(60 if form == "compiled" else 2)]

    if form == "eager":
        density._told = True
        expected = [density.value_and_grad(z) for z in points]
    threads = [threading.Thread(target=work, args=(number,)) for number in range(6)]
    for one in threads:
        one.start()
    for one in threads:
        one.join()
    for number, results in found.items():
        for value, gradient in results:
            torch.testing.assert_close(value, expected[number][0], rtol=1e-12, atol=0)
            torch.testing.assert_close(gradient, expected[number][1], rtol=1e-12, atol=1e-12)
    assert len(found) == 6
