"""Simulators as Pyro models."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import pyro
from pyro import poutine
from torch import Tensor

from ..errors import ModelError, ObservationError, SamplingError
from ..graph.nodes.node import Node
from ..graph.plates.layout import plate_layout
from ..graph.views.description import ModelDescription
from ..graph.views.drawing import renderer
from .hidden import with_hidden_parents
from .noncentered import Decision, NonCentered, decide, reparametrise
from .observations import align, as_data, as_distributions, check_data, name_dims
from .plan import Call, Plan, Site, make_plan
from .report import Report, describe
from .simulate import Values, owner, simulate

if TYPE_CHECKING:
    import graphviz

__all__ = ["BoundModel", "PyroModel"]


class PyroModel:
    """A simulator as a Pyro model.

    Every dynamic param of the graph is a sample site, named by its path; every hierarchical link is a plate. What the
    forward method returns is observed: a distribution (the site ``obs``), or a dict of them.

    Args:
        method: A bound forward method, such as ``survey.stamps``.
        likelihood: From what the method returns, a distribution or a dict of them.
        priors: Priors by site name, in place of those of the params.
        dims: Names of the batch dims of an observation, by its name, from the left: plates of the graph, or other names
            for plates of the data. Further dims are named ``obs_dim_0``, ...

    Raises:
        ModelError: ``method`` is no bound forward method.

    Example:
        >>> import caskade_pyro as ck, pyro.distributions as dist, torch
        >>> class Coin(ck.Module):
        ...     def __init__(self):
        ...         super().__init__()
        ...         self.p = ck.Param("p", prior=dist.Beta(1.0, 1.0))
        ...
        ...     @ck.forward
        ...     def flips(self, p):
        ...         return dist.Bernoulli(p)
        >>> model = ck.PyroModel(Coin().flips, dims={"obs": ("flips",)})
        >>> bound = model.bind(obs=torch.tensor([1.0, 0.0, 1.0]))
        >>> import pyro.poutine as poutine
        >>> list(poutine.trace(bound).get_trace().nodes)
        ['_INPUT', 'flips', 'p', 'obs', '_RETURN']
    """

    def __init__(
        self,
        method: Callable[..., Any],
        *,
        likelihood: Callable[[Any], Any] | None = None,
        priors: Mapping[str, object] | None = None,
        dims: Mapping[str, Sequence[str]] | None = None,
    ) -> None:
        self.module = owner(method)
        self.method = method
        self.likelihood = likelihood
        self.priors = dict(priors or {})
        self.dims = {name: _names(name, given) for name, given in (dims or {}).items()}
        self._last: tuple[Any, Plan] | None = None
        self._checked: dict[str, Tensor] = {}

    def bind(self, *args: Any, obs: Any = None, **kwargs: Any) -> BoundModel:
        """The model with its inputs and data: a Pyro model of no arguments.

        Args:
            args: The inputs of the forward method.
            obs: A tensor, or a dict of them by the name of the observation.
            kwargs: Further inputs by keyword.

        Raises:
            MissingPriorError: Params have no prior.
            PriorError: A prior does not fit its param.
            ObservationError: Data do not fit the prediction, or hold NaN.
            PlateError: The graph's plates contradict each other.
        """
        return BoundModel(self, args, kwargs, as_data(obs))

    def __call__(self, *args: Any, obs: Any = None, **kwargs: Any) -> Any:
        """Sample the params, run the simulator, and observe; to be run by Pyro's algorithms.

        Args:
            args: The inputs of the forward method.
            obs: A tensor, or a dict of them by the name of the observation; without it the data are sampled.
            kwargs: Further inputs by keyword.

        Returns:
            What the forward method returns.
        """
        call = self._call(args, kwargs, as_data(obs))
        plan = self.plan(call)
        plates = {name: pyro.plate(name, size, dim=plan.dims[name]) for name, size in plan.sizes.items()}
        values = sample_sites(plan, plates)
        prediction = simulate(plan.layout, self.method, args, kwargs, values)
        self._observe(plan, plates, prediction, call)
        return prediction

    def latents(self, *args: Any, obs: Any = None, **kwargs: Any) -> dict[str, Tensor]:
        """Sample the params alone, as the full model does, and return them by site."""
        plan = self.plan(self._call(args, kwargs, as_data(obs)))
        plates = {name: pyro.plate(name, size, dim=plan.dims[name]) for name, size in plan.sizes.items()}
        values = sample_sites(plan, plates)
        return {site.name: values[site.source.placement.param] for site in plan.sites}

    def plan(self, call: Call) -> Plan:
        """What is known of the model before it runs; kept until the graph or the shapes of inputs and data change."""
        layout = self.module.structure.layout if isinstance(self.module, Node) else plate_layout(self.module)
        key = (layout, _shapes([*call.args, *call.kwargs.values()]), _shapes(call.data.values()), tuple(call.data))
        if self._last is None or not _same(self._last[0], key):
            self._last = (key, make_plan(layout, call))
            self._checked = dict(call.data)
        return self._last[1]

    def _call(self, args: tuple[Any, ...], kwargs: dict[str, Any], data: Mapping[str, Tensor]) -> Call:
        return Call(self.method, args, kwargs, data, self.likelihood, self.dims, self.priors)

    def _observe(self, plan: Plan, plates: Mapping[str, Any], prediction: Any, call: Call) -> None:
        replicates = len(plan.layout.root_shape)
        predicted = as_distributions(prediction, self.likelihood, self.method.__qualname__)
        for name, distribution in predicted.items():
            data = call.data.get(name)
            if data is not None and self._checked.get(name) is not data:
                check_data(name, distribution, data)
                self._checked[name] = data
            names, sizes = name_dims(name, distribution, data, self.dims.get(name, ()), plan.layout, replicates)
            aligned, aligned_data = align(distribution, data, names, sizes, plan.dims)
            _in_plates([plates[one] for one in names], name, aligned, aligned_data)

    def __repr__(self) -> str:
        return f"PyroModel({self.method.__qualname__} of {self.module!r})"


def sample_sites(plan: Plan, plates: Mapping[str, Any]) -> Values:
    """Sample every param of a plan in its plates, and give it the shape that it has in the graph."""
    values: Values = {}
    for site in plan.sites:
        distribution = site.distribution(plan.layout, values, plan.dims)
        drawn = _in_plates([plates[name] for name in site.plates.names], site.name, distribution, None)
        values[site.source.placement.param] = _as_value(site, drawn)
    return values


def _as_value(site: Site, drawn: Tensor) -> Tensor:
    try:
        return drawn.reshape(site.value_shape)
    except RuntimeError:
        raise ModelError(
            f"Site {site.name} has a value of shape {tuple(drawn.shape)} where {site.value_shape} is expected: more batch dims "
            "than its plates give it. Run the algorithm without vectorised particles, chains or parallel draws."
        ) from None


def _in_plates(plates: Sequence[Any], name: str, distribution: Any, data: Tensor | None) -> Tensor:
    """`pyro.sample` inside of some plates."""
    if not plates:
        return pyro.sample(name, distribution, obs=data)
    with plates[0]:
        return _in_plates(plates[1:], name, distribution, data)


def _names(observation: str, given: Sequence[str]) -> tuple[str, ...]:
    if isinstance(given, str):
        raise ObservationError(
            f"dims of {observation!r} must be a tuple of names, such as ({given!r},), not one string."
        )
    return tuple(given)


def _shapes(values: Any) -> tuple[Any, ...]:
    return tuple(tuple(value.shape) if hasattr(value, "shape") else value for value in values)


def _same(former: tuple[Any, ...], key: tuple[Any, ...]) -> bool:
    return former[0] is key[0] and all(_equal(a, b) for a, b in zip(former[1:], key[1:], strict=True))


def _equal(a: tuple[Any, ...], b: tuple[Any, ...]) -> bool:
    return len(a) == len(b) and all(
        x is y or (isinstance(x, (tuple, str, int)) and x == y) for x, y in zip(a, b, strict=True)
    )


class BoundModel:
    """A `PyroModel` with its inputs and data: a Pyro model of no arguments.

    Attributes:
        model: The model.
        args: Its inputs.
        kwargs: Its inputs by keyword.
        data: Its data by observation.
    """

    def __init__(
        self, model: PyroModel, args: tuple[Any, ...], kwargs: dict[str, Any], data: dict[str, Tensor]
    ) -> None:
        self.model, self.args, self.kwargs = model, args, kwargs
        call = model._call(args, kwargs, data)
        observations = model.plan(call).observations
        self.data = {name: check_data(name, observations[name].distribution, one) for name, one in data.items()}

    @property
    def plan(self) -> Plan:
        """What is known of the model before it runs."""
        return self.model.plan(self.model._call(self.args, self.kwargs, self.data))

    def __call__(self) -> Any:
        """Run the model; for Pyro's algorithms."""
        return self.model(*self.args, obs=self.data, **self.kwargs)

    def latents(self) -> dict[str, Tensor]:
        """Sample the params alone, as the full model does."""
        return self.model.latents(*self.args, obs=self.data, **self.kwargs)

    def predictive(self) -> Any:
        """Run the model with its data sampled instead of observed, in the same shapes."""
        return poutine.uncondition(self)()

    def noncentered(self, choice: NonCentered = "auto") -> Callable[[], Any]:
        """The reparametrised model for Pyro's own algorithms: its non-centred sites are ``{site}_decentered``.

        Args:
            choice: ``"auto"`` where the graph says it pays; True or False; or the names of sites.
        """
        return reparametrise(self, self.decisions(choice))

    def decisions(self, choice: NonCentered = "auto") -> dict[str, Decision]:
        """Which sites are sampled non-centred, and why."""
        return decide(self.plan, choice)

    def check_continuous(self) -> None:
        """Check that samplers that follow gradients can take the model.

        Raises:
            SamplingError: It has no latent sites, or discrete ones.
        """
        sites = self.plan.sites
        if not sites:
            raise SamplingError(f"{self!r} has nothing to sample: no param is dynamic. Free some with to_dynamic().")
        discrete = [site.name for site in sites if getattr(site.template.support, "is_discrete", False)]
        if discrete:
            raise SamplingError(
                f"NUTS and variational fits follow gradients and cannot sample the discrete {', '.join(discrete)}. "
                "Sum them out in the likelihood, or fix them with to_static(value)."
            )

    def describe(self) -> ModelDescription:
        """The model in plain data."""
        return with_hidden_parents(self, describe(self.model.module, self.plan))

    def report(self) -> Report:
        """Every site with its prior, support, shape, plates and parents, to read before sampling.

        Returns:
            A table that prints itself, in a terminal and in a notebook.
        """
        return Report(self.describe())

    def diagram(
        self,
        saveto: str | None = None,
        *,
        collapse: str | Node | Sequence[str | Node] = (),
        depth: int | None = None,
        posterior: Any = None,
    ) -> graphviz.Digraph:
        """The plate diagram: a box for each plate, a node for each site, data shaded.

        Args:
            saveto: A file to write, its format taken from the ending (``.svg``, ``.png``, ``.pdf``, ``.html``, ``.dot``,
                ``.mmd``).
            collapse: Modules whose sites are drawn as one node: paths from the root, names, or the modules themselves.
            depth: How many links from the root the picture goes; the sites of modules at the end of that many are drawn
                as one node.
            posterior: Draws, as ``ck.sample`` returns them, whose mean, standard deviation and histogram are put into the
                nodes.

        Returns:
            A graphviz object, which shows itself in a notebook.

        Raises:
            CaskadeException: The ending of ``saveto`` is no known format, ``collapse`` names no module, ``depth`` is
                negative, or ``posterior`` has draws of no site.
            MissingDependencyError: A file is to be written and there is no Graphviz.
        """
        return renderer().model(self.describe(), saveto, collapse=collapse, depth=depth, posterior=posterior)

    def __repr__(self) -> str:
        return f"{self.model!r} with data {', '.join(self.data) or 'none'}"
