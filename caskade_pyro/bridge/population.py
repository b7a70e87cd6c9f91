"""Populations: members of a repeated part that the simulator draws itself, in whatever number it wants."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

import pyro
import torch
from pyro import poutine
from torch import Tensor

from ..errors import MissingPriorError, PlateError, PriorError
from ..graph.calls.evaluation import current_evaluation
from ..graph.nodes.prior import Prior, as_prior
from ..graph.nodes.shapes import Shape
from ..graph.nodes.structure import is_param
from ..graph.plates.layout import PlateLayout, plate_layout
from .distributions import to_pyro
from .plates import SitePlates
from .priors import default_prior, fit_prior, site_distribution
from .sites import parents_first

__all__ = ["draw_members", "draw_slots", "recording_draws"]


class _Recorder(threading.local):
    def __init__(self) -> None:
        self.drawn: set[Any] | None = None


_recorder = _Recorder()


@contextmanager
def recording_draws() -> Iterator[set[Any]]:
    """Keep account of the params that the simulator draws in this thread."""
    before, _recorder.drawn = _recorder.drawn, set()
    try:
        yield _recorder.drawn
    finally:
        _recorder.drawn = before


def draw_members(module: Any, n: int | Tensor) -> tuple[list[Any], list[Any]]:
    """Draw the params of ``n`` members of a population from the priors of a module's dynamic params.

    To be used in a forward method, with the result given to ``torch.vmap``. Whatever is dynamic in the module is drawn, in
    its order, so that neither swapping the module for another kind nor fixing some of its params needs a change. Priors may
    have params of the simulator as arguments. Params that lie outside of the module, or say ``batch_shape=()``, are the same
    for all members. In a Pyro model the draws are sites in a plate of size ``n``, which may differ from run to run.

    Args:
        module: The linked module of one member: ``self.gauss``.
        n: How many members.

    Returns:
        The params, one tensor ``(n, *shape)`` for each dynamic param of the module, and for each the dim that counts the
        members: 0, or None where all share it. With several groups of params, a list of each group.

    Raises:
        MissingPriorError: A param has no prior.
        PriorError: A prior has an argument without a value here.
        PlateError: The link already says how many members there are; these are then sampled by the model, and
            ``ck.vmap`` runs over them.

    Example:
        >>> import caskade_pyro as ck, pyro.distributions as dist, torch
        >>> class Blob(ck.Module):
        ...     def __init__(self):
        ...         super().__init__()
        ...         self.x0 = ck.Param("x0", shape=(), prior=dist.Normal(0.0, 1.0))
        ...
        ...     @ck.forward
        ...     def at(self, x, x0):
        ...         return torch.exp(-((x - x0) ** 2))
        >>> class Blobs(ck.Module):
        ...     def __init__(self, blob):
        ...         super().__init__()
        ...         self.hierarchical_link("blobs", blob)
        ...
        ...     @ck.forward
        ...     def image(self, x, n):
        ...         params, dims = ck.draw_members(self.blobs, n)
        ...         return torch.vmap(self.blobs.at, in_dims=(None, dims))(x, params).sum(0)
        >>> Blobs(Blob()).image(torch.linspace(-1, 1, 4), 7, params=()).shape
        torch.Size([4])
    """
    size = int(n)
    if size < 0:
        raise PlateError(f"A population of {module!r} cannot have {size} members.")
    return _as_given_to_vmap(module, _draw(module, size, None))


def draw_slots(module: Any, n: int | Tensor, maximum: int) -> tuple[list[Any], list[Any], Tensor]:
    """Draw a population of at most ``maximum`` members, of which the first ``n`` exist.

    As `draw_members`, but all shapes are fixed, so that the simulator can be batched, vmapped (with
    ``randomness="different"``) and compiled. The caller takes only the occupied slots into account, for example by
    ``(images * occupied[:, None, None]).sum(0)``; in a Pyro model the draws of empty slots have no part in the density.

    Args:
        module: The linked module of one member.
        n: How many members there are; under ``torch.vmap`` this may be a different number for each.
        maximum: How many slots there are.

    Returns:
        The params and dims as from `draw_members`, with ``maximum`` for ``n``; and which slots are occupied, ``(maximum,)``.

    Raises:
        PlateError: ``n`` is known to be larger than ``maximum``.
        MissingPriorError: A param has no prior.

    Example:
        >>> import caskade_pyro as ck, pyro.distributions as dist, torch
        >>> blob = ck.Module("blob")
        >>> blob.x0 = ck.Param("x0", shape=(), prior=dist.Normal(0.0, 1.0))
        >>> [x0], dims, occupied = ck.draw_slots(blob, 3, maximum=5)
        >>> x0.shape, dims, occupied.tolist()
        (torch.Size([5]), [0], [True, True, True, False, False])
    """
    if isinstance(n, int) and not 0 <= n <= maximum:
        raise PlateError(f"A population of {module!r} has {n} members, but there are {maximum} slots.")
    count = torch.as_tensor(n)
    occupied = torch.arange(maximum, device=count.device) < count
    return (*_as_given_to_vmap(module, _draw(module, maximum, occupied)), occupied)


@dataclass(frozen=True)
class _Drawn:
    """The value of a param of all members, and the dim that counts them."""

    value: Tensor
    dim: int | None


def _as_given_to_vmap(module: Any, drawn: dict[Any, _Drawn]) -> tuple[list[Any], list[Any]]:
    params = module.dynamic_params
    groups = module.dynamic_param_groups
    if len(groups) <= 1:
        return [drawn[param].value for param in params], [drawn[param].dim for param in params]
    of = [[param for param in params if param.group == group] for group in groups]
    return [[drawn[p].value for p in group] for group in of], [[drawn[p].dim for p in group] for group in of]


def _draw(module: Any, size: int, occupied: Tensor | None) -> dict[Any, _Drawn]:
    """Draw the dynamic params of a module, parents first."""
    population = _Population(module, size, occupied)
    params = module.dynamic_params
    parents = {p: tuple(one for one in _prior_parents(p) if one in params) for p in params}
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
        plate: The name of their plate.
        drawn: What was drawn so far.
    """

    def __init__(self, module: Any, size: int, occupied: Tensor | None) -> None:
        self.module, self.size, self.occupied = module, size, occupied
        self.evaluation = current_evaluation()
        around = None if self.evaluation is None else self.evaluation.layout
        self.in_graph = around is not None and module in around.chains
        if around is not None and self.in_graph:
            self.layout = around
            self.plate = self._linked_plate(around)
        else:
            self.layout, self.plate = plate_layout(module), module.name
        self.drawn: dict[Any, _Drawn] = {}

    def _linked_plate(self, layout: PlateLayout) -> str:
        inside = () if self.evaluation is None else self.evaluation.inside
        plate = layout.plate_of(self.module, inside)
        if plate is None:
            raise PlateError(
                f"The members of {self.module!r} cannot be drawn here: link it with hierarchical_link, or hold it as "
                "self.meta.name."
            )
        if plate.size is not None:
            raise PlateError(
                f"The members of plate {plate.name} cannot be drawn by the simulator: the graph says that there are "
                f"{plate.size}, so the model samples them. Use ck.vmap(self.{plate.name.rpartition('.')[2]}.method)(...), or "
                "leave size= and batch dims out."
            )
        return plate.name

    def draw(self, param: Any) -> None:
        """Draw a param of all members; one that stands outside of them has its value already."""
        if self.in_graph and self.plate not in self.layout.chains[param]:
            self.drawn[param] = _Drawn(self._outside(param), None)
            return
        if _recorder.drawn is not None:
            _recorder.drawn.add(param)
        site = self.layout.paths[param] if self.in_graph else f"{self.plate}.{self.layout.paths[param]}"
        prior = as_prior(getattr(param, "prior", None), site) or default_prior(param)
        if prior is None:
            raise MissingPriorError(f"Param {site} is to be drawn for {self.size} members, but has no prior.")
        shared = getattr(param, "declared_batch_shape", None) == ()
        plates = self._plates(param, shared)
        placement = self.layout.placement(param)
        if 0 in plates.sizes:
            value = torch.zeros(plates.sizes + placement.shape)
        else:
            value = self._sample(site, prior, placement.shape, plates, shared)
        members = () if shared else (self.size,)
        value = value.reshape(members + self._inner_shape(param) + placement.shape)
        self.drawn[param] = _Drawn(value, None if shared else 0)

    def _inner_shape(self, param: Any) -> Shape:
        """The sizes of the plates inside of a member along which a param is repeated."""
        placement = self.layout.placement(param)
        ahead = placement.chain.index(self.plate) + 1 if self.plate in placement.chain else 0
        return placement.plate_shape[ahead:]

    def _plates(self, param: Any, shared: bool) -> SitePlates:
        inner = tuple(name for name in self.layout.placement(param).plates if name != self.plate)
        names = inner if shared else (self.plate, *inner)
        sizes = self.layout.sizes(inner) if shared else (self.size, *self.layout.sizes(inner))
        return SitePlates(names, sizes, tuple(range(-len(names), 0)))

    def _sample(self, site: str, prior: Prior, shape: Shape, plates: SitePlates, shared: bool) -> Tensor:
        template = to_pyro(prior.build(lambda arg: self._of_first(arg) if is_param(arg) else arg))
        fit = fit_prior(site, prior, shape, plates.sizes, template)
        depth = len(plates.names)
        distribution = site_distribution(site, prior, fit, plates, lambda param: self._argument(param, depth))
        with ExitStack() as stack:
            for name, size, dim in zip(plates.names, plates.sizes, plates.dims, strict=True):
                stack.enter_context(pyro.plate(name, size, dim=dim))
            if self.occupied is not None and not shared:
                spare = (1,) * (len(plates.names) - 1)
                occupied: Any = self.occupied.reshape((self.size, *spare))
                stack.enter_context(poutine.mask(mask=occupied))
            return pyro.sample(site, distribution)

    def _argument(self, param: Any, depth: int) -> tuple[Tensor, int]:
        """The value of a param among a prior's arguments at Pyro's dims, and how many dims these are."""
        if param not in self.drawn or self.drawn[param].dim is None:
            return (self.drawn[param].value if param in self.drawn else self._outside(param)), 0
        value = self.drawn[param].value
        split = value.ndim - len(self.layout.placement(param).shape)
        shape = tuple(value.shape[:split]) + (1,) * (depth - split) + tuple(value.shape[split:])
        return value.reshape(shape), depth

    def _of_first(self, param: Any) -> Tensor:
        value, dims = self._argument(param, 1)
        return value[(0,) * dims] if dims == 1 else value

    def _outside(self, param: Any) -> Tensor:
        """The value of a param that is the same for all members."""
        value: Tensor | None = param.value if self.evaluation is None else self.evaluation.value(param)
        if value is None:
            raise PriorError(
                f"Members of {self.module!r} are to be drawn with the value of param {param.name}, which has none here: "
                "draw them inside of a forward method, or set it."
            )
        return value
