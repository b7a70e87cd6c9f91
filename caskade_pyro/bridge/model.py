"""Simulators as Pyro models."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import pyro
from pyro import poutine
from torch import Tensor

from ..errors import ObservationError
from ..graph.nodes.node import Node
from ..graph.plates.layout import PlateLayout, plate_layout
from ..graph.plates.subsample import Picks
from .bound import BoundModel
from .data import Data, as_data, prepare
from .guard import Guard, Parents, plain_shapes
from .inputs import as_input
from .plan import Plan, subsampled
from .preflight import Call, make_plan
from .run import Run
from .simulate import Likelihood, Simulator, owner
from .subsampling import SubsampleSize, check_subsample, check_subsample_sizes

__all__ = ["PyroModel"]


@dataclass(frozen=True)
class _Memory:
    """What a model remembers from run to run, as long as the graph and the shapes of inputs and data stay.

    Attributes:
        key: The graph, and the shapes.
        plan: What is known of the model.
        data: The data, looked at once.
        views: By the sizes of subsamples, the plan of a run that looks at these.
        parents: By site, those that it depends on; empty until Pyro asks.
    """

    key: Any
    plan: Plan
    data: dict[str, Data] = field(default_factory=dict)
    views: dict[Any, Plan] = field(default_factory=dict)
    parents: dict[str, tuple[str, ...]] = field(default_factory=dict)


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
        subsample_size: How many members each run looks at, by plate: of the graph, or of the data. The log densities of
            what lies in the plate are scaled up, so that they are right on average.

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
        likelihood: Likelihood | None = None,
        priors: Mapping[str, object] | None = None,
        dims: Mapping[str, Sequence[str]] | None = None,
        subsample_size: SubsampleSize | None = None,
    ) -> None:
        self.module = owner(method)
        self.method = method
        self.likelihood = likelihood
        self.priors = dict(priors or {})
        self.dims = {name: _names(name, given) for name, given in (dims or {}).items()}
        self.subsample_size = dict(subsample_size or {})
        self._memory: _Memory | None = None

    def bind(
        self, *args: Any, obs: Any = None, subsample_size: SubsampleSize | None = None, **kwargs: Any
    ) -> BoundModel:
        """The model with its inputs and data: a Pyro model of no arguments.

        Args:
            args: The inputs of the forward method; arrays of numpy and pandas become tensors.
            obs: A tensor, or a dict of them by the name of the observation. NaN, or what a masked array of numpy hides,
                is missing: it has no part in the density, and is predicted like the rest.
            subsample_size: In place of the model's own, by plate.
            kwargs: Further inputs by keyword.

        Raises:
            MissingPriorError: Params have no prior.
            PriorError: A prior does not fit its param.
            ObservationError: Data do not fit the prediction, or are infinite.
            PlateError: The graph's plates contradict each other, or one cannot be subsampled.
        """
        sizes = self.subsample_size if subsample_size is None else dict(subsample_size)
        args, kwargs = _as_inputs(args, kwargs)
        return BoundModel(self, args, kwargs, as_data(obs), sizes)

    def __call__(self, *args: Any, obs: Any = None, subsample_size: SubsampleSize | None = None, **kwargs: Any) -> Any:
        """Sample the params, run the simulator, and observe; to be run by Pyro's algorithms.

        Args:
            args: The inputs of the forward method.
            obs: A tensor, or a dict of them by the name of the observation; without it the data are sampled.
            subsample_size: In place of the model's own, by plate.
            kwargs: Further inputs by keyword.

        Returns:
            What the forward method returns.
        """
        sizes = self.subsample_size if subsample_size is None else subsample_size
        args, kwargs = _as_inputs(args, kwargs)
        return self.run(args, kwargs, as_data(obs), sizes, predict=False)

    def run(
        self,
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        data: Mapping[str, Tensor],
        subsample_size: SubsampleSize,
        predict: bool,
    ) -> Any:
        """Run the model once.

        Args:
            args: The inputs of the forward method.
            kwargs: Its inputs by keyword.
            data: The data by observation.
            subsample_size: How many members to look at, by plate.
            predict: Whether to sample the data, in the shapes of those that are given.
        """
        plan = self.plan(args, kwargs, data)
        with plain_shapes(), Guard(_prior_parents(plan)) as guard:
            run = self._start(plan, subsample_size)
            run.sample()
            if guard.tracked:
                guard.parents.update(self._parents(args, kwargs, data))
            outcome = run.simulate(self.simulator(args, kwargs))
            run.report(outcome.reported)
            run.observe(outcome.predicted, {} if predict else self._prepared(plan, data))
        return outcome.prediction

    def latents(
        self, args: tuple[Any, ...], kwargs: dict[str, Any], data: Mapping[str, Tensor], subsample_size: SubsampleSize
    ) -> None:
        """Sample the params alone, as the full model does, and report what pointers make of them."""
        plan = self.plan(args, kwargs, data)
        with plain_shapes(), Guard(_prior_parents(plan)) as guard:
            run = self._start(plan, subsample_size)
            run.sample()
            if guard.tracked:
                guard.parents.update(self._parents(args, kwargs, data))
            run.report_pointers()

    def _parents(self, args: tuple[Any, ...], kwargs: dict[str, Any], data: Mapping[str, Tensor]) -> Parents:
        """By site, those that it depends on directly."""
        memory = self._memory
        if memory is None:
            return {}
        if not memory.parents:
            with poutine.block():
                described = BoundModel(self, args, kwargs, dict(data), {}).describe()
            memory.parents.update({site.name: site.parents for site in described.sites})
        return memory.parents

    def _start(self, plan: Plan, subsample_size: SubsampleSize) -> Run:
        """Open a run, with the members that it looks at."""
        check_subsample_sizes(plan, subsample_size)
        chosen = {name: size for name, size in subsample_size.items() if size != plan.sizes.get(name)}
        plates = {
            name: pyro.plate(name, size, dim=plan.dims[name], subsample_size=chosen.get(name))
            for name, size in plan.sizes.items()
        }
        # A guide may have picked other members, or all of them.
        indices = {name: plate.indices for name, plate in plates.items() if plate.subsample_size != plan.sizes[name]}
        if not indices:
            return Run(plan, plates, Picks())
        sizes = {name: len(one) for name, one in indices.items()}
        views = {} if self._memory is None else self._memory.views
        key = tuple(sorted(sizes.items()))
        if key not in views:
            check_subsample(plan, sizes)
            views[key] = subsampled(plan, sizes)
        view = views[key]
        picks = Picks(indices, {name: plan.sizes[name] for name in indices})
        return Run(view.with_picks(picks), plates, picks)

    def plan(self, args: tuple[Any, ...], kwargs: dict[str, Any], data: Mapping[str, Tensor]) -> Plan:
        """What is known of the model before it runs; kept until the graph or the shapes of inputs and data change."""
        # Our own graphs have another layout after every change; those of the other package are looked at each time.
        known = isinstance(self.module, Node)
        layout: PlateLayout = self.module.structure.layout if known else plate_layout(self.module)
        state = () if known else _state(layout)
        key = (layout, state, _shapes([*args, *kwargs.values()]), _shapes(data.values()), tuple(data), tuple(kwargs))
        memory = self._memory
        if memory is None or not _same(memory.key, key):
            plan = make_plan(layout, Call(self.simulator(args, kwargs), data, self.dims, self.priors))
            self._memory = memory = _Memory(key, plan)
        return memory.plan

    def simulator(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Simulator:
        """The forward method with inputs."""
        return Simulator(self.method, args, kwargs, self.likelihood)

    def _prepared(self, plan: Plan, data: Mapping[str, Tensor]) -> dict[str, Data]:
        """The data, looked at once."""
        known = {} if self._memory is None else self._memory.data
        for name, given in data.items():
            if name not in known or known[name].source is not given:
                known[name] = prepare(plan.observations[name], given)
        return {name: known[name] for name in data}

    def __getstate__(self) -> dict[str, Any]:
        """For pickle: the model without what it remembers of its last runs."""
        return {name: value for name, value in self.__dict__.items() if name != "_memory"}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state, _memory=None)

    def __repr__(self) -> str:
        return f"PyroModel({self.method.__qualname__} of {self.module!r})"


def _prior_parents(plan: Plan) -> dict[str, tuple[str, ...]]:
    """By site of a param, those that its prior depends on."""
    paths = plan.layout.paths
    return {site.name: tuple(paths[one] for one in site.source.parents) for site in plan.sites if site.source.parents}


def _as_inputs(args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[tuple[Any, ...], dict[str, Any]]:
    return tuple(as_input(one) for one in args), {name: as_input(one) for name, one in kwargs.items()}


def _names(observation: str, given: Sequence[str]) -> tuple[str, ...]:
    if isinstance(given, str):
        raise ObservationError(
            f"dims of {observation!r} must be a tuple of names, such as ({given!r},), not one string."
        )
    return tuple(given)


def _shapes(values: Any) -> tuple[Any, ...]:
    return tuple(tuple(value.shape) if hasattr(value, "shape") else value for value in values)


def _state(layout: PlateLayout) -> tuple[Any, ...]:
    """What a plan depends on besides the layout."""
    params = [placement.param for placement in layout.placements]
    return tuple(one for param in params for one in (param.dynamic, getattr(param, "prior", None), *param.valid))


def _same(former: tuple[Any, ...], key: tuple[Any, ...]) -> bool:
    same = former[0] is key[0] or (not isinstance(key[0].root, Node) and former[0] == key[0])
    return same and all(_equal(a, b) for a, b in zip(former[1:], key[1:], strict=True))


def _equal(a: tuple[Any, ...], b: tuple[Any, ...]) -> bool:
    return len(a) == len(b) and all(
        x is y or (isinstance(x, (tuple, str, int, float)) and type(x) is type(y) and x == y)
        for x, y in zip(a, b, strict=True)
    )
