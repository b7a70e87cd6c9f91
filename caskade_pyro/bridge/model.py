"""Simulators as Pyro models."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any
from warnings import warn

import pyro
import torch
from pyro import poutine
from torch import Tensor

from ..errors import PrecisionWarning
from ..graph.nodes.arrays import carries, in_double
from ..graph.nodes.node import Node
from ..graph.plates.layout import PlateLayout, plate_layout
from ..graph.plates.subsample import Picks
from .bound import BoundModel
from .data import as_data
from .door import check_inputs, checked_dims, checked_likelihood, checked_priors, checked_sizes
from .guard import Guard, Parents, plain_shapes
from .inputs import as_input
from .memory import Memory, Seen
from .plan import Plan, subsampled
from .precision import is_double
from .preflight import Call, make_plan
from .resolution import roundings
from .run import Role, Run
from .simulate import Likelihood, Simulator, owner
from .subsampling import SubsampleSize, check_subsample, resolved_sizes

__all__ = ["PyroModel"]


class PyroModel:
    """A simulator as a Pyro model.

    Every dynamic param of the graph is a sample site, named by its path; every hierarchical link is a plate. What the
    forward method returns is observed: a distribution (the site ``obs``), or a dict of them.

    Args:
        method: A bound forward method, such as ``survey.stamps``.
        likelihood: From what the method returns, a distribution or a dict of them.
        priors: Priors by site name, or the end of one, in place of those of the params.
        dims: Names of the batch dims of an observation, by its name, from the left: plates of the graph, by their paths or
            ends of these that no other plate has, or other names for plates of the data. Further dims are named
            ``obs_dim_0``, ...
        subsample_size: How many members each run looks at, by plate: of the graph, or of the data. The log densities of
            what lies in the plate are scaled up, so that they are right on average.

    Raises:
        ModelError: ``method`` is no bound forward method, ``likelihood`` no function or ``priors`` no dict.
        ObservationError: ``dims`` is no dict of tuples of names.

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
        self.likelihood = checked_likelihood(likelihood)
        self.priors = checked_priors(priors)
        self.dims = checked_dims(dims)
        self.subsample_size = checked_sizes(subsample_size)
        self._memory = Memory()

    def bind(
        self, *args: Any, obs: Any = None, subsample_size: SubsampleSize | None = None, **kwargs: Any
    ) -> BoundModel:
        """The model with its inputs and data: a Pyro model of no arguments.

        Args:
            args: The inputs of the forward method; arrays of numpy and pandas become tensors.
            obs: A tensor; for several data sets a dict of them by the name of the observation,
                ``obs={"stay": ..., "readmitted": ...}``. NaN, or what a masked array of numpy hides, is missing: it has no
                part in the density, and is predicted like the rest; so is a data set that is left out.
            subsample_size: In place of the model's own, by plate.
            kwargs: Further inputs by keyword.

        Raises:
            ModelError: The inputs are not those of the forward method; or, with data, that draws random numbers which are no
                sites, or keeps state between calls, so that it has no density.
            MissingPriorError: Params have no prior.
            PriorError: A prior does not fit its param.
            ObservationError: Data do not fit the prediction, or are infinite; or a dim has a name that is close to a plate's.
            PlateError: The graph's plates contradict each other, another link takes the members of one out of it, it has the
                name of a dim of draws (chain, draw, sample), or one cannot be subsampled.
        """
        sizes = self.subsample_size if subsample_size is None else checked_sizes(subsample_size)
        args, kwargs, data = self._given(args, kwargs, obs)
        bound = BoundModel(self, args, kwargs, data, sizes)
        for message in roundings(bound):
            warn(PrecisionWarning(message), stacklevel=2)
        return bound

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
        sizes = self.subsample_size if subsample_size is None else checked_sizes(subsample_size)
        args, kwargs, data = self._given(args, kwargs, obs)
        return self.run(args, kwargs, data, sizes, Role.MODEL)

    def _given(
        self, args: tuple[Any, ...], kwargs: dict[str, Any], obs: Any
    ) -> tuple[tuple[Any, ...], dict[str, Any], dict[str, Tensor]]:
        """Checked inputs and data as tensors; what was given as numbers of Python in the precision of the model."""
        check_inputs(self.method, self.module, args, kwargs)
        args, kwargs, data = (
            tuple(map(as_input, args)),
            {key: as_input(one) for key, one in kwargs.items()},
            as_data(obs),
        )
        numbers = any(carries(one) for one in (*args, *kwargs.values(), *data.values()))
        if not numbers or not (
            is_double(self._layout, (args, kwargs), data, self.priors) or self.plan(args, kwargs, data).layout.double
        ):
            return args, kwargs, data
        return (
            tuple(map(in_double, args)),
            {key: in_double(one) for key, one in kwargs.items()},
            {key: in_double(one) for key, one in data.items()},
        )

    @property
    def _layout(self) -> PlateLayout:
        # Our own graphs have another layout after every change; those of the other package are looked at each time.
        known = isinstance(self.module, Node)
        layout: PlateLayout = self.module.structure.layout if known else plate_layout(self.module)
        return layout

    def run(
        self,
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        data: Mapping[str, Tensor],
        subsample_size: SubsampleSize,
        role: Role,
        memory: Memory | None = None,
    ) -> Any:
        """Run the model once.

        Args:
            args: The inputs of the forward method.
            kwargs: Its inputs by keyword.
            data: The data by observation.
            subsample_size: How many members to look at, by plate.
            role: What becomes of the data.
            memory: Of earlier runs with these inputs and data; the model's own by default.
        """
        seen = self._look(args, kwargs, data, memory)
        with plain_shapes(), Guard(_prior_parents(seen.plan)) as guard:
            run = self._start(seen, subsample_size)
            run.sample()
            if guard.tracked:
                guard.parents.update(self._parents(args, kwargs, data, seen))
            outcome = run.simulate(self.simulator(args, kwargs))
            run.report(outcome.reported)
            run.observe(outcome.predicted, seen.prepared(data), role)
        return outcome.prediction

    def latents(
        self,
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        data: Mapping[str, Tensor],
        subsample_size: SubsampleSize,
        memory: Memory | None = None,
        pointers: Collection[str] | None = None,
    ) -> None:
        """Sample the params alone, as the full model does, and report what pointers make of them: all, or some by name."""
        seen = self._look(args, kwargs, data, memory)
        with plain_shapes(), Guard(_prior_parents(seen.plan)) as guard:
            run = self._start(seen, subsample_size)
            run.sample()
            if guard.tracked:
                guard.parents.update(self._parents(args, kwargs, data, seen))
            run.report_pointers(pointers)

    def _parents(
        self, args: tuple[Any, ...], kwargs: dict[str, Any], data: Mapping[str, Tensor], seen: Seen
    ) -> Parents:
        """By site, those that it depends on directly."""
        if not seen.parents:
            with poutine.block():
                described = BoundModel(self, args, kwargs, dict(data), {}).describe()
            seen.parents.update({site.name: site.parents for site in described.sites})
        return seen.parents

    def _start(self, seen: Seen, subsample_size: SubsampleSize) -> Run:
        """Open a run, with the members that it looks at."""
        plan = seen.plan
        sizes = resolved_sizes(plan, subsample_size)
        chosen = {name: size for name, size in sizes.items() if size != plan.sizes[name]}
        plates = {
            name: pyro.plate(name, size, dim=plan.dims[name], subsample_size=chosen.get(name))
            for name, size in plan.sizes.items()
        }
        # A guide may have picked other members, or all of them.
        indices = {name: plate.indices for name, plate in plates.items() if plate.subsample_size != plan.sizes[name]}
        if not indices:
            return Run(plan, plates, Picks())
        sizes = {name: len(one) for name, one in indices.items()}
        views = seen.views
        key = tuple(sorted(sizes.items()))
        if key not in views:
            check_subsample(plan, sizes)
            views[key] = subsampled(plan, sizes)
        view = views[key]
        picks = Picks(indices, {name: plan.sizes[name] for name in indices})
        return Run(view.with_picks(picks), plates, picks)

    def plan(
        self,
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        data: Mapping[str, Tensor],
        memory: Memory | None = None,
    ) -> Plan:
        """What is known of the model before it runs; kept until the graph or the shapes of inputs and data change."""
        return self._look(args, kwargs, data, memory).plan

    def _look(
        self, args: tuple[Any, ...], kwargs: dict[str, Any], data: Mapping[str, Tensor], memory: Memory | None
    ) -> Seen:
        # Our own graphs have another layout after every change; those of the other package are looked at each time.
        layout = self._layout
        state = () if isinstance(self.module, Node) else _state(layout)
        key = (layout, state, _shapes([*args, *kwargs.values()]), _shapes(data.values()), tuple(data), tuple(kwargs))
        memory = self._memory if memory is None else memory
        seen = memory.seen
        if seen is None or not _same(seen.key, key):
            plan = make_plan(layout, Call(self.simulator(args, kwargs), data, self.dims, self.priors))
            memory.seen = seen = Seen(key, plan)
        return seen

    def simulator(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Simulator:
        """The forward method with inputs."""
        return Simulator(self.method, args, kwargs, self.likelihood)

    def __repr__(self) -> str:
        return f"PyroModel({self.method.__qualname__} of {self.module!r})"


def _prior_parents(plan: Plan) -> dict[str, tuple[str, ...]]:
    """By site of a param, those that its prior depends on."""
    paths = plan.layout.paths
    return {site.name: tuple(paths[one] for one in site.source.parents) for site in plan.sites if site.source.parents}


def _shapes(values: Any) -> tuple[Any, ...]:
    # Integers become floating later, and the plan stays the same.
    return tuple((*value.shape, value.dtype == torch.float64) if hasattr(value, "shape") else value for value in values)


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
