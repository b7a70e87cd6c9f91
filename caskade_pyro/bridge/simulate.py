"""Running a simulator at given values of its params."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, cast

from pyro.poutine.messenger import Messenger
from torch import Tensor

from ..errors import ModelError, NotBatchableError
from ..graph.calls.evaluation import Evaluation, functorch_level
from ..graph.nodes.node import Node
from ..graph.nodes.shapes import Shape
from ..graph.plates.batching import over_members
from ..graph.plates.layout import PlateLayout
from ..graph.plates.members import value_over_members
from .observations import as_distributions

__all__ = ["Likelihood", "Outcome", "Simulator", "Values", "owner", "pointer_values", "simulate"]

Values = dict[Any, Tensor]
"""Values of params. In front of the batch dims that a param's placement gives it stand those of the run: of particles
that run side by side, and of discrete sites that are enumerated; all values have the same number of these."""


Likelihood = Callable[[Any], Any]
"""From what a forward method returns, a distribution or a dict of them."""


@dataclass(frozen=True)
class Simulator:
    """A forward method with its inputs.

    Attributes:
        method: The method, bound to its module.
        args: Its positional arguments, without params.
        kwargs: Its keyword arguments.
        likelihood: From what the method returns, the distributions of the data.
    """

    method: Callable[..., Any]
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    likelihood: Likelihood | None

    @property
    def name(self) -> str:
        """The method's name, for messages."""
        return str(self.method.__qualname__)

    def with_copies(self) -> Simulator:
        """The same with copies of the inputs, into which it may write."""
        args = tuple(one.clone() if isinstance(one, Tensor) else one for one in self.args)
        kwargs = {name: one.clone() if isinstance(one, Tensor) else one for name, one in self.kwargs.items()}
        return replace(self, args=args, kwargs=kwargs)


@dataclass(frozen=True)
class Outcome:
    """What a simulator returns, and what it computed on the way.

    Attributes:
        prediction: What the forward method returns, the dims of the run and of replicates in front.
        predicted: The distributions of the data that follow from it, by name.
        reported: The values of pointers and live params that are to be reported, likewise.
    """

    prediction: Any
    predicted: dict[str, Any]
    reported: Values


def owner(method: Callable[..., Any]) -> Any:
    """The module that a forward method is bound to.

    Raises:
        ModelError: It is no bound method of a module.
    """
    module = getattr(method, "__self__", None)
    if module is None or not hasattr(module, "dynamic_params") or not hasattr(module, "children"):
        raise ModelError(
            f"A model is made of a bound forward method, such as survey.stamps; got {method!r}."
            + (" Give the method, not the module." if hasattr(method, "dynamic_params") else "")
        )
    if not hasattr(method, "__wrapped__"):
        raise ModelError(f"{method.__qualname__} is no forward method: decorate it with @ck.forward.")
    return module


def simulate(
    layout: PlateLayout,
    simulator: Simulator,
    values: Values,
    batch: Shape = (),
    collect: Callable[[Evaluation], Values] = lambda _: {},
) -> Outcome:
    """Run a forward method.

    Args:
        layout: The plates of the graph.
        simulator: The forward method and its inputs.
        values: The value of each param.
        batch: The sizes of the dims of the run, which stand in front of every value.
        collect: Takes the values of pointers and live params at the end of the call.

    Raises:
        ModelError: The method samples a Pyro site where a vmap runs, or returns nothing that can be observed.
    """
    module = owner(simulator.method)
    if not isinstance(module, Node):
        return _simulate_other(layout, simulator, values, batch)

    def run(evaluation: Evaluation, likelihood: Likelihood | None) -> tuple[Any, dict[str, Any], Values]:
        prediction = simulator.method(*simulator.args, **simulator.kwargs)
        # The likelihood is written for one run of the simulator, so it is mapped with it.
        predicted = {} if likelihood is None else as_distributions(prediction, likelihood, simulator.name)
        return prediction, predicted, collect(evaluation)

    with SitesOutsideOfVmap():
        try:
            found = _mapped(layout, values, batch, lambda evaluation: run(evaluation, simulator.likelihood))
        except NotBatchableError:
            if simulator.likelihood is None:
                raise
            # It returns what cannot cross a vmap; then it is given the predictions of all runs at once.
            found = _mapped(layout, values, batch, lambda evaluation: run(evaluation, None))
    prediction, predicted, reported = found
    if not predicted:
        predicted = as_distributions(prediction, simulator.likelihood, simulator.name)
    return Outcome(prediction, predicted, reported)


def _simulate_other(layout: PlateLayout, simulator: Simulator, values: Values, batch: Shape) -> Outcome:
    """As `simulate`, for a module of the package ``caskade``."""
    if layout.root_shape:
        raise ModelError(
            f"{layout.root!r} is a module of another package and cannot be replicated here; give it no outer batch."
        )
    params = owner(simulator.method).dynamic_params

    def run(one: Values) -> Any:
        return simulator.method(*simulator.args, params=[one[param] for param in params], **simulator.kwargs)

    prediction = _over_first_dims({param: values[param] for param in params}, batch, run)
    return Outcome(prediction, as_distributions(prediction, simulator.likelihood, simulator.name), {})


class SitesOutsideOfVmap(Messenger):
    """Refuses Pyro's sites under a torch.vmap, whose values would leave it unfinished.

    It belongs around the simulator, inside of the vmap over the dims of the run, if there is one.
    """

    def __enter__(self) -> SitesOutsideOfVmap:
        """Remember how many torch transforms enclose this line."""
        self.level = functorch_level()
        return super().__enter__()

    def _pyro_sample(self, message: Any) -> None:
        if functorch_level() != self.level:
            raise ModelError(
                f"The site {message['name']!r} is sampled inside of a vmap (over the members of a plate, over replicates of "
                "the model, or over particles that run side by side), where Pyro cannot see it as one site. Sample it "
                "in the forward method of the root, outside of ck.vmap; or make it a dynamic param with a prior; and run "
                "particles one after the other."
            )


def pointer_values(
    layout: PlateLayout, values: Values, pointer: Any, batch: Shape = ()
) -> tuple[Tensor, tuple[str, ...]]:
    """What a pointer computes for all members of the plates around it.

    Returns:
        The value, the dims of the run in front, and the names of the plates that its next dims count.

    Raises:
        ModelError: It has no value.
    """
    mapped: list[str] = []
    value = _mapped(layout, values, batch, lambda evaluation: value_over_members(evaluation, pointer, mapped))
    if value is None:
        raise ModelError(f"Param {layout.paths[pointer]} has no value, but a prior depends on it.")
    replicates = [plate.name for plate in layout.plates if plate.module is layout.root]
    return value, (*replicates, *mapped)


def _mapped(layout: PlateLayout, values: Values, batch: Shape, function: Callable[[Evaluation], Any]) -> Any:
    """Call a function in an evaluation with these values, for all dims of the run and all replicates at once."""
    replicates = layout.root_shape

    def at(own: Values) -> Any:
        with Evaluation(layout.standpoint, own) as evaluation:
            return function(evaluation)

    if not batch and not replicates:
        return at(values)
    given = dict(values)
    for placement in layout.placements:
        if placement.param.static and placement.root_shape and placement.param not in given:
            stored = cast("Tensor", layout.held(placement.param))  # its batch dims are those of a value
            given[placement.param] = stored.reshape((1,) * len(batch) + tuple(stored.shape))
    missing = {param: len(replicates) - len(layout.placement(param).root_shape) for param in given}
    padded = {param: _pad(value, len(batch), missing[param]) for param, value in given.items()}
    return _over_first_dims(padded, batch + replicates, at)


def _pad(value: Tensor, after: int, dims: int) -> Tensor:
    """Further dims of size 1 after the first ones."""
    return value.reshape(tuple(value.shape[:after]) + (1,) * dims + tuple(value.shape[after:]))


def _over_first_dims(values: Values, sizes: Shape, function: Callable[[Values], Any]) -> Any:
    """Map a function over the leading dims of all values, where a size of 1 repeats a value."""
    if not sizes:
        return function(values)
    params = list(values)
    shared = [values[param].shape[0] == 1 != sizes[0] for param in params]
    inner = [values[param].squeeze(0) if one else values[param] for param, one in zip(params, shared, strict=True)]
    dims = [None if one else 0 for one in shared]
    return over_members(
        lambda own: _over_first_dims(dict(zip(params, own, strict=True)), sizes[1:], function), in_dims=(dims,)
    )(inner)
