"""Metrics for sampling, from whatever tells how wide the posterior is and along which directions."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import arviz as az
import numpy as np
import numpy.typing as npt
import pyro
import torch
from pyro.infer.autoguide import AutoContinuous

from ..bridge.bound import BoundModel
from ..bridge.reparametrise import NonCentered
from ..density import LogDensity, Metric, find_blocks, places_of_sites
from ..errors import SamplingError
from ..inference.seeds import stream_seed
from ..inference.structured import BlockMatrix, metric_of_draws
from .fit import Fit

__all__ = ["Metrical", "check_same_offsets", "draws_of_fit", "make_metric", "metric", "metric_of_fit"]

Metrical = Metric | Fit | az.InferenceData | Mapping[str, npt.ArrayLike] | npt.ArrayLike
"""What a metric can be made of."""

DRAWS_OF_A_FIT = 400
"""How many draws tell the variances of a fit that has no covariance of its own."""

DRAWS_OF_A_POSTERIOR = 200
"""How many draws of an earlier run, evenly spread over it, tell the metric; with their gradients these are enough."""


def metric(given: Metrical, bound: BoundModel, noncentered: NonCentered = "auto") -> Metric:
    """The inverse mass matrix that a fit, draws or numbers suggest: to be read, kept, or given to `sample`.

    Args:
        given: One of

            - a fit of the model: its covariance if it is a joint normal, otherwise the variances of its draws;
            - an earlier posterior of the model: its covariance, with the structure of the graph;
            - variances ``(dim,)`` or a covariance ``(dim, dim)`` of all unconstrained values, in the order of
              ``ck.LogDensity(bound).slices``;
            - by site, variances ``(*plates, *shape)`` or a number, or covariances ``(*plates, k, k)`` of the ``k`` values of
              each member, all of unconstrained values (of offsets, where the site is non-centred); other sites have
              variance 1.
        bound: The model with its data.
        noncentered: Which sites are sampled as offsets: ``"auto"``, True, False or names.

    Returns:
        The metric.

    Raises:
        SamplingError: What is given belongs to another model, or is no covariance; the message names sites and shapes.

    Example:
        >>> import caskade_pyro as ck, pyro.distributions as dist, torch
        >>> class Mean(ck.Module):
        ...     def __init__(self):
        ...         super().__init__()
        ...         self.mu = ck.Param("mu", prior=dist.Normal(0.0, 1.0))
        ...
        ...     @ck.forward
        ...     def data(self, mu):
        ...         return dist.Normal(mu, 1.0)
        >>> bound = ck.PyroModel(Mean().data).bind(obs=torch.tensor([0.9, 1.1]))
        >>> ck.metric({"mu": 0.25}, bound)
        Metric of 1 unconstrained values, from variances and covariances by site; standard deviations:
          mu  0.5
        correlations: none
    """
    return make_metric(LogDensity(bound, noncentered), given)


def make_metric(density: LogDensity, given: Metrical) -> Metric:
    """The same for a density."""
    if isinstance(given, Metric):
        given.check_fits(density.slices)
        return given
    if isinstance(given, Fit):
        found = metric_of_fit(density, given)
        if found is None:
            raise SamplingError(f"{given} is a point and tells no variances; fit with guide='normal', say.")
        return found
    if isinstance(given, az.InferenceData):
        return _of_posterior(density, given)
    if isinstance(given, Mapping):
        return _of_sites(density, given)
    return _of_array(density, np.asarray(given, dtype=np.float64))


def check_same_offsets(density: LogDensity, fit: Fit) -> None:
    """Check that a fit describes the sites that the density has.

    Raises:
        SamplingError: It does not.
    """
    theirs = fit.fitted.bound.decisions(fit.fitted.noncentered)
    ours = density.bound.decisions(density.noncentered)
    if theirs.keys() != ours.keys():
        raise SamplingError(
            f"The fit is of another model: it has the sites {', '.join(theirs)}, and this model {', '.join(ours)}."
        )
    if density.bound.decisions(fit.fitted.noncentered) != ours:
        raise SamplingError("The fit was made with another noncentered= than is asked for here; give both the same.")


def draws_of_fit(density: LogDensity, fit: Fit, draws: int, seed: int) -> torch.Tensor:
    """Unconstrained draws of a fit, ``(draws, dim)``."""
    check_same_offsets(density, fit)
    drawn = fit.fitted.draw_seeded(draws, seed)
    _check_sites(density, {name: tuple(value.shape[1:]) for name, value in drawn.items()})
    return density.from_sampled(drawn)


def _check_sites(density: LogDensity, shapes: Mapping[str, tuple[int, ...]]) -> None:
    ours = {name: tuple(value.shape[1:]) for name, value in density.sampled(torch.zeros(1, density.dim)).items()}
    for name in [*ours, *shapes]:
        if ours.get(name) != shapes.get(name):
            raise SamplingError(
                f"The fit is of another model: it has {name} of shape {shapes.get(name, 'none')}, and this model of shape "
                f"{ours.get(name, 'none')}."
            )


def metric_of_fit(density: LogDensity, fit: Fit) -> Metric | None:
    """The metric of a fit; None if it is a point.

    Raises:
        SamplingError: It is of another model.
    """
    guide = fit.guide
    name = type(guide).__name__
    if isinstance(guide, AutoContinuous):
        check_same_offsets(density, fit)
        prototype: Any = guide.prototype_trace
        sites = {site: node["value"] for site, node in prototype.iter_stochastic_nodes()}
        _check_sites(density, {site: tuple(value.shape) for site, value in sites.items()})
        with torch.no_grad(), pyro.get_param_store().scope(fit.fitted.params):
            found = _of_normal(density, guide.get_posterior(), tuple(sites), f"a fit with {name}")
        if found is not None:
            return found
    z = draws_of_fit(density, fit, DRAWS_OF_A_FIT, stream_seed(fit.fitted.seed, 1)).double().numpy()
    variances = z.var(axis=0)
    if not (variances > 0).all():
        return None
    return Metric.diagonal(density.slices, variances, f"draws of a fit with {name}")


def _of_normal(density: LogDensity, posterior: Any, sites: tuple[str, ...], source: str) -> Metric | None:
    """The metric of a joint distribution of unconstrained values, if it is a normal; its sites may be in another order."""
    if sites != density.names:
        return None
    if isinstance(posterior, torch.distributions.LowRankMultivariateNormal):
        variances, columns = (one.double().numpy() for one in (posterior.cov_diag, posterior.cov_factor))
        return Metric.low_rank(density.slices, variances, columns, source)
    if isinstance(posterior, torch.distributions.MultivariateNormal):
        return Metric.from_factor(density.slices, posterior.scale_tril.double().numpy(), source)
    if isinstance(getattr(posterior, "base_dist", None), torch.distributions.Normal):
        return Metric.diagonal(density.slices, posterior.variance.double().numpy(), source)
    return None


def _of_posterior(density: LogDensity, given: az.InferenceData) -> Metric:
    if "posterior" not in given.groups():
        raise SamplingError(f"The data given as a metric have no group 'posterior', but {', '.join(given.groups())}.")
    posterior = given["posterior"]
    names = [site.name for site in density.bound.plan.sites if not site.discrete]
    missing = [name for name in names if name not in posterior]
    if missing:
        raise SamplingError(
            f"The posterior given as a metric is of another model: it lacks {', '.join(missing)} and has "
            f"{', '.join(map(str, posterior.data_vars))}."
        )
    count = posterior.sizes["chain"] * posterior.sizes["draw"]
    rows = np.unique(np.linspace(0, count - 1, min(count, DRAWS_OF_A_POSTERIOR)).astype(int))
    draws = {}
    for name in names:
        values = posterior[name].transpose("chain", "draw", ...).values
        draws[name] = torch.as_tensor(values.reshape((count, *values.shape[2:]))[rows])
    z = density.unconstrain_draws(draws)
    gradients = density.value_and_grad(z)[1].double().numpy()
    blocks = find_blocks(density.bound, density.noncentered, density.slices)
    found = metric_of_draws(density.slices, blocks, z.double().numpy(), gradients, "an earlier posterior")
    if found is None:
        raise SamplingError(
            "The posterior given as a metric has values that do not move, or a density that is not finite."
        )
    return found


def _of_array(density: LogDensity, given: np.ndarray[Any, Any]) -> Metric:
    dim = density.dim
    if given.shape == (dim,):
        _check_positive("metric=", given)
        return Metric.diagonal(density.slices, given, "variances")
    if given.shape != (dim, dim):
        raise SamplingError(
            f"Expected metric= to be variances of shape ({dim},) or a covariance of shape ({dim}, {dim}) of the unconstrained "
            f"values of {', '.join(density.names)}; got {given.shape}."
        )
    return Metric.from_factor(density.slices, _cholesky("metric=", given), "a covariance")


def _of_sites(density: LogDensity, given: Mapping[str, npt.ArrayLike]) -> Metric:
    decisions = density.bound.decisions(density.noncentered)
    sampled_as = {name: one.sampled_as for name, one in decisions.items()} | {name: name for name in density.names}
    known = {name: value for name, value in sampled_as.items() if value in density.slices}
    unknown = [name for name in given if name not in known]
    if unknown:
        raise SamplingError(f"metric= names {', '.join(unknown)}, but the sites are {', '.join(decisions)}.")
    places = places_of_sites(density.bound, density.noncentered, density.slices)
    factor = BlockMatrix(density.dim)
    by_site = {known[name]: (name, np.asarray(value, dtype=np.float64)) for name, value in given.items()}
    for sampled, (plates, own) in places.items():
        name, value = by_site.get(sampled, (sampled, np.ones(())))
        _put_site(factor, name, own, len(plates), value)
    return Metric.from_factor(density.slices, factor.matrix(), "variances and covariances by site")


def _put_site(
    factor: BlockMatrix, name: str, own: np.ndarray[Any, Any], plates: int, given: np.ndarray[Any, Any]
) -> None:
    """Enter the factor of one site's variances or covariances."""
    members, each = own.shape[:plates], math.prod(own.shape[plates:])
    if given.shape in {(), own.shape}:
        _check_positive(name, given)
        alone = own.reshape(-1, 1)
        factor.put(alone, alone, np.broadcast_to(np.sqrt(given), own.shape).reshape(-1, 1, 1))
    elif given.shape == (*members, each, each):
        of_members = own.reshape(math.prod(members), each)
        factor.put(of_members, of_members, _cholesky(name, given).reshape(-1, each, each))
    else:
        raise SamplingError(
            f"Expected the variances of {name} in metric= as a number or of shape {own.shape}, or covariances of shape "
            f"{(*members, each, each)}; got {given.shape}."
        )


def _check_positive(name: str, variances: np.ndarray[Any, Any]) -> None:
    if not (np.isfinite(variances).all() and (variances > 0).all()):
        raise SamplingError(f"The variances of {name} must be finite and positive.")


def _cholesky(name: str, given: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    symmetric = np.allclose(given, given.swapaxes(-1, -2), rtol=1e-6, atol=0.0)
    try:
        if symmetric and np.isfinite(given).all():
            return np.asarray(np.linalg.cholesky(given))
    except np.linalg.LinAlgError:
        pass
    raise SamplingError(f"The covariance of {name}, of shape {given.shape}, is not symmetric and positive definite.")
