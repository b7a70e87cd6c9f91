"""The sites of a population: the params of members that the simulator draws itself."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

import pyro
import torch
from pyro import poutine
from pyro.poutine.runtime import am_i_wrapped
from torch import Tensor

from ..errors import MissingPriorError, PlateError, PriorError
from ..graph.calls.evaluation import Evaluation, current_evaluation
from ..graph.nodes.prior import as_prior
from ..graph.nodes.structure import is_param
from ..graph.plates.layout import PlateLayout, plate_layout
from .distributions import to_pyro
from .functional_draws import functional_draws
from .plates import SitePlates
from .precision import in_precision
from .priors import default_prior, fit_prior, site_distribution
from .sites import parents_first

__all__ = ["Drawn", "draw_population", "recording_draws"]


class _Recorder(threading.local):
    def __init__(self) -> None:
        self.drawn: set[Any] | None = None


_recorder = _Recorder()


@contextmanager
def recording_draws() -> Iterator[set[Any]]:
    """Keep account of the params that the simulator draws in this thread."""
    drawn: set[Any] = set()
    before, _recorder.drawn = _recorder.drawn, drawn
    try:
        yield drawn
    finally:
        _recorder.drawn = before


@dataclass(frozen=True)
class Drawn:
    """The value of a param of all members.

    Attributes:
        value: ``(members, *plates inside of a member, *shape)``; without the members where all share it.
        dim: The dim that counts the members; None where all share it.
        plates: The plates in which it was drawn; none for a param that lies outside of the module.
        shape: The param's own shape.
    """

    value: Tensor
    dim: int | None
    plates: SitePlates
    shape: tuple[int, ...]

    def at_dims(self) -> tuple[Tensor, int]:
        """The value with its plates at their Pyro dims, and how many dims these are."""
        return self.plates.spread(self.value.reshape(self.plates.sizes + self.shape), len(self.plates.names))


def draw_population(module: Any, size: int, occupied: Tensor | None) -> dict[Any, Drawn]:
    """Draw the dynamic params of a module for many members, parents first.

    Args:
        module: The module of one member.
        size: How many members.
        occupied: Which of them exist, ``(size,)``; None where all do.

    Returns:
        For each dynamic param what was drawn.
    """
    population = _Population(module, size, occupied)
    params = module.dynamic_params
    parents = {param: tuple(one for one in _prior_parents(param) if one in params) for param in params}
    for param in parents_first(parents, lambda param: str(param.name)):
        population.draw(param)
    return population.drawn


def _prior_parents(param: Any) -> tuple[Any, ...]:
    return tuple(getattr(getattr(param, "prior", None), "parents", ()))


class _Population:
    """The members that are being drawn of one module.

    Attributes:
        module: The module of one member.
        size: How many members are drawn.
        occupied: Which of them exist; None where all do.
        evaluation: The call that draws them, if one runs.
        layout: Where the module's params lie: in the graph of that call, or in the module's own.
        in_graph: Whether the module is part of the graph of that call.
        plate: The name of the members' plate.
        dims: The Pyro dim of this plate, and of those inside of a member.
        plates: Pyro's plates by name.
        drawn: What was drawn so far.
    """

    def __init__(self, module: Any, size: int, occupied: Tensor | None) -> None:
        self.module, self.size, self.occupied = module, size, occupied
        self.evaluation = current_evaluation()
        around = None if self.evaluation is None else self.evaluation.layout
        self.in_graph = around is not None and module in around.chains
        if self.evaluation is not None and around is not None and self.in_graph:
            self.layout, self.plate = around, _linked_plate(around, self.evaluation, module)
        else:
            self.layout, self.plate = plate_layout(module), str(module.name)
        below = module.structure.members
        inner = [one.name for one in self.layout.plates if one.module in below and one.module is not module]
        self.dims = {name: dim for dim, name in enumerate([self.plate, *inner], -1 - len(inner))}
        self.plates: dict[str, Any] = {}
        self.drawn: dict[Any, Drawn] = {}

    def draw(self, param: Any) -> None:
        """Draw a param of all members; one that stands outside of them has its value already."""
        if self.in_graph and self.plate not in self.layout.chains[param]:
            value = self._outside(param)
            self.drawn[param] = Drawn(value, None, SitePlates((), (), ()), tuple(value.shape))
            return
        if _recorder.drawn is not None:
            _recorder.drawn.add(param)
        placement = self.layout.placement(param)
        shared = getattr(param, "declared_batch_shape", None) == ()
        plates = self._site_plates(placement.plates, shared)
        ahead = placement.chain.index(self.plate) + 1 if self.plate in placement.chain else 0
        members = () if shared else (self.size,)
        value = self._sample(param, placement.shape, plates, shared)
        value = value.reshape(members + placement.plate_shape[ahead:] + placement.shape)
        self.drawn[param] = Drawn(value, None if shared else 0, plates, placement.shape)

    def _site_plates(self, around: tuple[str, ...], shared: bool) -> SitePlates:
        inner = tuple(name for name in around if name in self.dims and name != self.plate)
        names, sizes = inner, self.layout.sizes(inner)
        if not shared:
            names, sizes = (self.plate, *inner), (self.size, *sizes)
        return SitePlates(names, sizes, tuple(self.dims[name] for name in names))

    def _sample(self, param: Any, shape: tuple[int, ...], plates: SitePlates, shared: bool) -> Tensor:
        site = self.layout.paths[param] if self.in_graph else f"{self.plate}.{self.layout.paths[param]}"
        layout = self.layout.doubled() if self.evaluation is not None and self.evaluation.double else self.layout
        given = as_prior(getattr(param, "prior", None), site)
        prior = default_prior(layout.bounds(param)) if given is None else in_precision(given, layout.double)
        if prior is None:
            raise MissingPriorError(
                f"Param {site} is to be drawn for {self.size} members, but has neither a prior nor bounds to make one of: "
                "param.prior = dist.Normal(0.0, 1.0), or fix it with to_static(value)."
            )
        if 0 in plates.sizes:
            return torch.zeros(plates.sizes + shape)
        template = to_pyro(prior.build(lambda arg: self._of_first(arg) if is_param(arg) else arg))
        fit = fit_prior(site, prior, shape, plates.sizes, template)
        distribution = site_distribution(site, prior, fit, plates, self._argument)
        if not am_i_wrapped():  # no algorithm of Pyro looks; so this can be compiled
            with functional_draws():
                batch = torch.broadcast_shapes(distribution.batch_shape, plates.batch_shape)
                drawn: Tensor = distribution.expand(batch).sample()
            return drawn
        with ExitStack() as stack:
            for name, size in zip(plates.names, plates.sizes, strict=True):
                stack.enter_context(self._plate(name, size))
            if self.occupied is not None and not shared:
                occupied: Any = self.occupied.reshape((self.size,) + (1,) * (len(self.dims) - 1))
                stack.enter_context(poutine.mask(mask=occupied))
            stack.enter_context(functional_draws())
            return pyro.sample(site, distribution)

    def _plate(self, name: str, size: int) -> Any:
        if name not in self.plates:
            self.plates[name] = pyro.plate(name, size, dim=self.dims[name])
        return self.plates[name]

    def _argument(self, param: Any) -> tuple[Tensor, int]:
        """The value of a param among a prior's arguments at Pyro's dims, and how many dims these are."""
        return self.drawn[param].at_dims() if param in self.drawn else (self._outside(param), 0)

    def _of_first(self, param: Any) -> Tensor:
        value, dims = self._argument(param)
        return value[(0,) * dims]

    def _outside(self, param: Any) -> Tensor:
        """The value of a param that is the same for all members."""
        value: Tensor | None = param.value if self.evaluation is None else self.evaluation.value(param)
        if value is None:
            raise PriorError(
                f"Members of {self.module!r} are to be drawn with the value of param {param.name}, which has none here: "
                "draw them inside of a forward method, or set it."
            )
        return value


def _linked_plate(layout: PlateLayout, evaluation: Evaluation, module: Any) -> str:
    """The plate of a module that the running call links.

    Raises:
        PlateError: It is none, or the graph says how many members it has.
    """
    plate = layout.plate_of(module, evaluation.inside)
    if plate is None:
        raise PlateError(
            f"The members of {module!r} cannot be drawn here: link it with hierarchical_link, or hold it as self.meta.name."
        )
    if plate.size is not None:
        raise PlateError(
            f"The members of plate {plate.name} cannot be drawn by the simulator: the graph says that there are "
            f"{plate.size}, so the model samples them. Use ck.vmap(self.{plate.name.rpartition('.')[2]}.method)(...), or "
            "leave size= and batch dims out."
        )
    return plate.name
