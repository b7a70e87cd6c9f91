"""Data sets without data, models without any, and models whose likelihood is a factor."""

import numpy as np
import pyro
import pyro.distributions as dist
import pytest
import torch

import caskade_pyro as ck


class Two(ck.Module):
    """Two instruments, one of which counts."""

    def __init__(self, n=None):
        super().__init__()
        self.mu = ck.Param("mu", prior=dist.Normal(0.0, 1.0))
        self.rate = ck.Param("rate", prior=dist.LogNormal(0.0, 0.5))

    @ck.forward
    def both(self, mu, rate):
        return {"level": dist.Normal(mu, 1.0), "counts": dist.Poisson(rate), "wide": dist.Normal(mu, rate)}


class Weighed(ck.Module):
    """A model whose likelihood is a factor."""

    def __init__(self, returned=None):
        super().__init__()
        self.mu = ck.Param("mu", prior=dist.Normal(0.0, 1.0))
        self.returned = returned

    @ck.forward
    def weight(self, mu):
        pyro.factor("likelihood", -0.5 * (mu - 1.0) ** 2)
        return self.returned

    @ck.forward
    def also(self, mu):
        pyro.factor("likelihood", -0.5 * (mu - 1.0) ** 2)
        return dist.Normal(mu, 1.0)

    @ck.forward
    def nothing(self, mu):
        return self.returned


NORMAL = dist.Normal(0.0, 1.0)


@pytest.mark.parametrize("missing", [(), ("counts",), ("wide",), ("level", "counts"), ("counts", "wide")])
def test_the_density_without_some_data(missing):
    """What has no data is no part of the density, whatever its kind: neither of the model's nor of the compiled one."""
    data = {"level": torch.tensor(1.0), "counts": torch.tensor(2.0), "wide": torch.tensor(0.5)}
    given = {name: value for name, value in data.items() if name not in missing}
    bound = ck.PyroModel(Two().both).bind(obs=given)
    mu, rate = torch.tensor([0.3, -1.0]), torch.tensor([0.7, 2.0])
    expected = NORMAL.log_prob(mu) + dist.LogNormal(0.0, 0.5).log_prob(rate)
    predicted = {"level": dist.Normal(mu, 1.0), "counts": dist.Poisson(rate), "wide": dist.Normal(mu, rate)}
    for name, value in given.items():
        expected = expected + predicted[name].log_prob(value)
    torch.testing.assert_close(bound.log_density({"mu": mu, "rate": rate}), expected)
    density = ck.LogDensity(bound)
    z = torch.stack([mu, rate.log()], 1)
    torch.testing.assert_close(density.value_and_grad(z)[0], expected + rate.log())
    notes = {row[0]: row[-1] for row in bound.report().rows()}
    assert all("no part of the density" in notes[f"{name} (no data)"] for name in missing)
    kinds = {node.id: node.kind.name for node in bound.diagram().specification.nodes}
    assert all(kinds[name] == ("PREDICTED" if name in missing else "OBSERVED") for name in data)


@pytest.mark.filterwarnings("ignore::caskade_pyro.ConvergenceWarning")
def test_a_posterior_without_some_data():
    """A data set without data changes nothing, and is predicted; also in a fit."""
    bound = ck.PyroModel(Two().both).bind(obs={"level": 1.0})
    posterior = ck.sample(bound, draws=1000, tune=300, chains=2, seed=1, progress=False)
    assert set(posterior.posterior.data_vars) == {"mu", "rate"}
    assert abs(float(posterior.posterior["mu"].mean()) - 0.5) < 0.08
    assert abs(float(posterior.posterior["mu"].std()) - 0.5**0.5) < 0.08
    predicted = ck.predict(bound, posterior, draws=5, seed=1, progress=False).posterior_predictive
    assert set(predicted.data_vars) == {"level", "counts", "wide"}
    assert set(ck.log_likelihood(bound, posterior, progress=False).log_likelihood.data_vars) == {"level"}
    assert set(ck.fit(bound, steps=20, seed=1, progress=False).fitted.draw(3, 1)) == {"mu", "rate"}


def test_params_of_data_that_are_not_there():
    """A param that enters only what has no data keeps its prior, and the report says so."""
    rows = {row[0]: row[-1] for row in ck.PyroModel(Two().both).bind(obs={"level": 1.0}).report().rows()}
    assert rows["rate"] == "enters nothing: its posterior is its prior"
    assert rows["mu"] == ""


@pytest.mark.parametrize("infer", [ck.sample, ck.fit])
def test_no_data_at_all(infer):
    """Without data nothing can be inferred: the prior is not sampled as if it were a posterior."""
    bound = ck.PyroModel(Two().both).bind()
    with pytest.raises(
        ck.SamplingError, match=r"has no data, so that its posterior is its prior.*ck\.prior_predictive"
    ):
        infer(bound, progress=False)
    assert ck.LogDensity(bound).dim == 2
    assert ck.prior_predictive(bound, 3, seed=1, progress=False).prior_predictive["counts"].shape == (1, 3)


def test_nothing_to_observe():
    """A forward that returns nothing and weighs nothing is no model."""
    for returned in (None, {}):
        with pytest.raises(ck.ModelError, match=r"returns nothing that can be observed\..*pyro\.factor"):
            ck.PyroModel(Weighed(returned).nothing).bind()


@pytest.mark.filterwarnings("ignore::caskade_pyro.ConvergenceWarning")
@pytest.mark.parametrize("returned", [None, {}])
def test_a_model_of_a_factor(returned):
    """Its posterior is sampled and fitted; there is nothing to predict and no single observations, and that is said."""
    bound = ck.PyroModel(Weighed(returned).weight).bind()
    posterior = ck.sample(bound, draws=1000, tune=300, chains=2, seed=1, progress=False)
    assert abs(float(posterior.posterior["mu"].mean()) - 0.5) < 0.08
    assert abs(float(posterior.posterior["mu"].std()) - 0.5**0.5) < 0.08
    assert np.isfinite(ck.fit(bound, steps=20, seed=1, progress=False).losses).all()
    with pytest.raises(
        ck.ObservationError, match="predicts nothing: its likelihood is what the simulator weighs itself"
    ):
        ck.predict(bound, posterior, progress=False)
    with pytest.raises(ck.ObservationError, match=r"what the simulator weighs itself, with likelihood.*no single"):
        ck.log_likelihood(bound, posterior, progress=False)
    with pytest.raises(ck.SamplingError, match="likelihood of the simulator's own"):
        ck.calibrate(bound, 2, progress=False)
    assert ck.prior_predictive(bound, 3, seed=1, progress=False).groups() == ["prior"]
    assert ck.point(posterior, bound.model.module)["mu"].shape == ()
    assert bound.report().rows()[-1][:4] == ("likelihood (observed)", "pyro.factor", "-", "()")
    assert [node.id for node in bound.diagram().specification.nodes] == ["mu", "likelihood"]


def test_a_factor_beside_data():
    """A factor and data are both parts of the density; without the data the factor stays."""
    model = ck.PyroModel(Weighed().also)
    mu = torch.tensor([0.2, 0.9])
    without = NORMAL.log_prob(mu) - 0.5 * (mu - 1.0) ** 2
    torch.testing.assert_close(model.bind().log_density({"mu": mu}), without)
    torch.testing.assert_close(
        model.bind(obs=2.0).log_density({"mu": mu}), without + dist.Normal(mu, 1.0).log_prob(torch.tensor(2.0))
    )


def test_a_calibration_leaves_a_data_set_out():
    """A data set that has no data is simulated for nobody."""
    bound = ck.PyroModel(Two().both).bind(obs={"level": 1.0})
    seen = []

    def infer(simulated, seed):
        seen.append(set(simulated.data))
        return ck.fit(simulated, steps=2, seed=seed, progress=False).sample(9)

    with pytest.warns(ck.ConvergenceWarning):
        ck.calibrate(bound, 1, 9, infer=infer, seed=1, cores=1, progress=False)
    assert seen == [{"level"}]


def test_names_of_dims_of_data_that_are_not_there():
    """The plate of a data set that has no data is none; a plate of the graph that a prediction lacks is still an error."""
    model = ck.PyroModel(Two().both, dims={"level": ("nights",), "counts": ("exposures", "pixels")})
    bound = model.bind(obs={"level": [1.0, 2.0]})
    assert bound.plan.sizes == {"nights": 2}
    assert model.bind(obs={"counts": torch.ones(2, 3)}).plan.sizes == {"exposures": 2, "pixels": 3}
