"""Counts in categories, and successes, whose totals differ from row to row."""

import arviz as az
import numpy as np
import pyro.distributions as dist
import pytest
import torch
from pyro import poutine
from scipy import stats

import caskade_pyro as ck

COUNTS = torch.tensor([[3.0, 1.0, 1.0], [20.0, 20.0, 10.0], [0.0, 2.0, 0.0]])
TOTALS = COUNTS.sum(1).double()  # the counts in single precision, as pandas may give them

pytestmark = pytest.mark.usefixtures("float64")


class Cell(ck.Module):
    """The shares of one cell, and how many were counted there."""

    def __init__(self, totals):
        super().__init__()
        self.shares = ck.Param("shares", shape=(3,), prior=dist.Dirichlet(torch.ones(3)))
        self.total = ck.Param("total", totals, shape=())

    @ck.forward
    def own(self, shares):
        return shares

    @ck.forward
    def counted(self, shares, total):
        return ck.Multinomial(total, shares)

    @ck.forward
    def counted_by_pyro(self, shares, total):
        return dist.Multinomial(total, shares)


class Cells(ck.Module):
    """Cells, with a way to make a distribution of their shares."""

    def __init__(self, way=None, totals=TOTALS):
        super().__init__()
        self.way = way
        self.hierarchical_link("cells", Cell(totals), size=3)

    @ck.forward
    def data(self):
        return self.way(ck.vmap(self.cells.own)())

    @ck.forward
    def by_member(self):
        return ck.vmap(self.cells.counted)()

    @ck.forward
    def by_member_of_pyro(self):
        return ck.vmap(self.cells.counted_by_pyro)()


WAYS = {
    "ours": lambda p: ck.Multinomial(TOTALS, p),
    "ours of logits": lambda p: ck.Multinomial(TOTALS, logits=p.log()),
    "pyro's": lambda p: dist.Multinomial(total_count=TOTALS.long(), probs=p),
    "pyro's, unchecked": lambda p: dist.Multinomial(50, p, validate_args=False),
    "Dirichlet": lambda p: dist.DirichletMultinomial(5 * p, TOTALS),
    "Dirichlet, unchecked": lambda p: dist.DirichletMultinomial(5 * p, 50, validate_args=False),
}


def bound(way, obs=COUNTS):
    """The cells with counts."""
    return ck.PyroModel(Cells(WAYS[way]).data, dims={"obs": ("cells",)}).bind(obs=obs)


def exact(way, shares):
    """The log density by SciPy."""
    found = 0.0
    for row, share in zip(COUNTS.numpy(), shares.numpy(), strict=True):
        one = stats.dirichlet_multinomial(5 * share, int(row.sum())) if "Dirichlet" in way else None
        found += (one or stats.multinomial(int(row.sum()), share)).logpmf(row.astype(int)) + np.log(2)
    return found


@pytest.mark.parametrize("way", WAYS)
def test_density_and_predictions_have_the_totals_of_the_rows(way):
    """The density is that of SciPy, and each row is predicted with its own total, missing rows with what was said."""
    model = bound(way)
    shares = torch.tensor([[0.2, 0.3, 0.5], [0.4, 0.4, 0.2], [0.1, 0.8, 0.1]])
    assert abs(float(model.log_density({"cells.shares": shares[None]})) - exact(way, shares)) < 1e-10
    posterior = some_posterior()
    predicted = ck.predict(model, posterior, seed=1, progress=False).posterior_predictive["obs"]
    assert (predicted.sum("obs_dim_1") == xr_like(TOTALS)).all()
    assert (predicted >= 0).all()
    prior = ck.prior_predictive(model, 20, seed=1, progress=False).prior_predictive["obs"]
    assert (prior.sum("obs_dim_1") == xr_like(TOTALS)).all()
    pointwise = ck.log_likelihood(model, posterior, progress=False).log_likelihood["obs"]
    assert pointwise.shape == (1, 50, 3)


def some_posterior():
    """Shares of each cell, for predictions."""
    torch.manual_seed(1)
    shares = dist.Dirichlet(torch.ones(3)).sample((1, 50, 3))
    return az.from_dict(posterior={"cells.shares": shares.numpy()})


@pytest.mark.parametrize("way", ["ours", "Dirichlet"])
def test_nuts_samples_it_compiled(way):
    """The density compiles, and members with few counts stay near their prior."""
    posterior = ck.sample(bound(way), 150, 150, 1, seed=1, progress=False).posterior
    assert posterior.attrs["density"] == "compiled"
    if way == "ours":  # conjugate
        expected = (COUNTS + 1) / (TOTALS + 3)[:, None]
        assert np.abs(posterior["cells.shares"].mean(("chain", "draw")) - expected.numpy()).max() < 0.08


def xr_like(values):
    """Values along the last dim."""
    return values.numpy()[None, None]


@pytest.mark.parametrize("method", ["by_member", "by_member_of_pyro"])
def test_each_member_has_its_own_total(method):
    """A total that is a constant of members goes through ck.vmap."""
    model = ck.PyroModel(getattr(Cells(), method), dims={"obs": ("cells",)}).bind(obs=COUNTS)
    posterior = some_posterior()
    predicted = ck.predict(model, posterior, seed=1, progress=False).posterior_predictive["obs"]
    assert (predicted.sum("obs_dim_1") == xr_like(TOTALS)).all()


@pytest.mark.parametrize("way", ["pyro's", "ours", "Dirichlet"])
def test_missing_rows_are_predicted_with_the_total_that_was_said(way):
    """A row without counts has no part in the density, and is predicted with its total."""
    obs = COUNTS.clone()
    obs[1] = torch.nan
    model = bound(way, obs)
    posterior = some_posterior()
    predicted = ck.predict(model, posterior, seed=1, progress=False).posterior_predictive["obs"]
    assert (predicted.sum("obs_dim_1") == xr_like(TOTALS)).all()


WRONG = {
    "ours": lambda p: ck.Multinomial(TOTALS + 1, p),
    "pyro's": lambda p: dist.Multinomial(TOTALS + 1, p),
    "pyro's, one": lambda p: dist.Multinomial(51, p),
    "Dirichlet": lambda p: dist.DirichletMultinomial(p, TOTALS + 1),
    "Dirichlet, one": lambda p: dist.DirichletMultinomial(p, 51),
}


@pytest.mark.parametrize("way", WRONG)
def test_totals_that_are_not_those_of_the_data_are_refused(way):
    """Both numbers are said, and what to do."""
    model = ck.PyroModel(Cells(WRONG[way]).data, dims={"obs": ("cells",)})
    with pytest.raises(ck.ObservationError, match=r"obs.*sum to 5.*total_count (6|51).*counts\.sum\(-1\)"):
        model.bind(obs=COUNTS)


def test_torchs_own_multinomial_of_several_totals_is_explained():
    """The error of torch names the simulator and what takes several totals."""
    way = lambda p: torch.distributions.Multinomial(TOTALS.long(), p)  # noqa: E731 - as the others
    with pytest.raises(ck.ModelError, match=r"Cells\.data fails.*ck\.Multinomial"):
        ck.PyroModel(Cells(way).data).bind(obs=COUNTS)


def test_draws_have_the_moments_of_the_multinomial():
    """Means and covariances are those of the formula, for several totals, dims in front, and shares of zero."""
    torch.manual_seed(1)
    probs = torch.tensor([[0.1, 0.2, 0.7], [0.0, 0.6, 0.4], [1.0, 0.0, 0.0]])
    draws = ck.Multinomial(TOTALS, probs).sample((20_000,))
    assert (draws.sum(-1) == TOTALS).all()
    np.testing.assert_allclose(draws.mean(0), TOTALS[:, None] * probs, atol=0.1)
    covariance = TOTALS[1] * (torch.diag(probs[1]) - torch.outer(probs[1], probs[1]))
    np.testing.assert_allclose(np.cov(draws[:, 1].T), covariance, atol=0.5)
    made = ck.Multinomial(TOTALS, probs)
    np.testing.assert_allclose(made.mean, TOTALS[:, None] * probs)
    np.testing.assert_allclose(made.variance[1], torch.diagonal(covariance))
    assert made.support.check(draws).all()
    assert not made.support.check(draws + 1).any()


def test_expanded_and_rebuilt_it_stays_the_same():
    """Further batch dims in front, given shares or logits, change no density."""
    logits = torch.tensor([[0.3, -0.2, 0.1]] * 3)
    for made in (ck.Multinomial(TOTALS, logits=logits), ck.Multinomial(TOTALS, logits.softmax(-1))):
        _ = made.probs, made.logits
        many = made.expand((2, 3))
        assert many.batch_shape == (2, 3)
        torch.testing.assert_close(many.log_prob(COUNTS), made.log_prob(COUNTS).expand(2, 3))
        torch.testing.assert_close(
            made.log_prob(COUNTS), dist.Multinomial(1, logits=logits, validate_args=False).log_prob(COUNTS)
        )


@pytest.mark.parametrize("kind", [dist.Binomial, dist.BetaBinomial])
def test_successes_of_several_totals(kind):
    """Binomial and beta-binomial counts are predicted within their own totals; data beyond one are refused."""
    totals = torch.tensor([5.0, 50.0, 2.0])

    class Trials(ck.Module):
        def __init__(self):
            super().__init__()
            self.p = ck.Param("p", prior=dist.Beta(2.0, 2.0))

        @ck.forward
        def seen(self, p):
            if kind is dist.Binomial:
                return dist.Binomial(totals, p)
            return dist.BetaBinomial(10 * p, 10 * (1 - p), totals)

    model = ck.PyroModel(Trials().seen)
    made = model.bind(obs=torch.tensor([3.0, 20.0, 1.0]))
    posterior = az.from_dict(posterior={"p": np.full((1, 50), 0.5)})
    predicted = ck.predict(made, posterior, seed=1, progress=False).posterior_predictive["obs"]
    assert (predicted <= xr_like(totals)).all()
    assert float(predicted[..., 1].max()) > 5
    with pytest.raises(ck.ObservationError, match="outside of the support"):
        model.bind(obs=torch.tensor([3.0, 20.0, 4.0]))


def test_a_total_that_is_to_be_found_is_not_held_against_the_data():
    """An unknown number of individuals may be smaller at the preflight than what was counted."""

    class Unknown(ck.Module):
        def __init__(self):
            super().__init__()
            self.number = ck.Param("number", prior=dist.Categorical(torch.ones(60)))

        @ck.forward
        def seen(self, number):
            return dist.Binomial(number, torch.tensor(0.5), validate_args=False)

    model = ck.PyroModel(Unknown().seen).bind(obs=torch.tensor([24.0, 31.0]))
    assert "obs" in poutine.trace(model).get_trace().nodes
