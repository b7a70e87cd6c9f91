"""Steps of a fit that sees some members at a time: the members of each step arrive before the params that all share move.

If all params follow their gradients at the same pace, those of a member that is seen once in a hundred steps lag a hundred
times behind, and the population closes in on members that have not moved: its scale falls to zero. So, as in stochastic
variational inference (Hoffman et al. 2013), each step first brings the members that it sees to their best given the rest, by
natural gradients with the curvature of the density (Khan and Nielsen 2018), and then takes one step of Adam in the params
that they share. What keeps the steps in hand:

- Members are always faster than what they share, but no faster than they need be: of a plate whose members are seen often,
  each moves a little at a time, so that curvatures of single draws average out (`_pace`).
- Gradients in what they share are divided by their usual size before Adam clips them. Adam clips at a fixed number, and
  gradients scaled up from a few members to all are far beyond: only their signs would be left, which are biased.
- The fit is the mean over the last quarter of the steps, since the last step alone is as noisy as the few members that it saw.
- Then all members are brought to their best, with a pace that falls.

How far what they share still wandered over these last steps says whether the fit has arrived (`wander`).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from operator import attrgetter
from typing import Any

import torch
from pyro.infer.autoguide import AutoDelta, AutoNormal
from pyro.optim import clipped_adam
from torch import Tensor
from torch.distributions import transform_to

from ..bridge.bound import BoundModel
from ..bridge.reparametrise import NonCentered
from ..compiler import unwatched
from ..errors import CompilationError
from .minibatch_objective import Local, Objective, make_objective
from .pieces import pieces
from .trail import Trail

__all__ = ["MinibatchSteps", "minibatch_steps"]

PACE = 0.7
"""How far a member goes towards its best at once, from where it is: one draw from what it depends on tells it."""

TIMES = 2
"""So often a member moves at each step that sees it."""

FASTER = 10.0
"""So many times faster than the params that all share are members at least, counted in steps of the fit."""

STEADY = 4
"""When the fit ends, so many moves at full pace; later ones are averaged."""

FEWEST_AT_LAST, MOST_AT_LAST, PIECES_AT_LAST = 6, 40, 200
"""How often each member moves when the fit ends: more often where few pieces have all members."""

SLOWEST = 0.02
"""Of the pace of a member of whose data a step sees only a part, or that is seen at nearly every step."""

MEMORY = 0.99
"""Of the usual size of the gradients in what members share."""

LONGEST, LONGEST_IN_ALL = 3.0, 30.0
"""In standard deviations: curvatures far from a mode may promise too much."""

MOST_WIDER = 2.0
"""A scale grows or shrinks at most by this factor at once."""

LEAST, MOST_OF_A_POINT, MOST_OF_A_WIDTH = 0.005, 0.05, 0.5
"""What a location, the location of a guide without width, and a width may be off, before a fit is said not to have arrived."""

FASTEST = 0.25
"""So steadily may nothing move one way, in units of the learning rate."""

UNIT = 2.0
"""Steps up to this many units are trusted beyond `LONGEST`: offsets and logarithms are of that order."""


class MinibatchSteps:
    """Steps of an `AutoNormal` or `AutoDelta` of a model with subsampled plates.

    Args:
        guide: The guide, which has run before.
        objective: The density that members suggest.
        settings: Of the optimiser.
        particles: How many draws estimate the gradient in what members share.
    """

    form = "traced"
    guide_is_wrong = False

    def distrust(self, stacklevel: int) -> bool:  # noqa: ARG002 - as of other steps
        """They run on the model's own operations, and nothing faster is to be compared with them."""
        return False

    def __init__(
        self, guide: AutoNormal | AutoDelta, objective: Objective, settings: dict[str, float], particles: int
    ) -> None:
        self.guide, self.objective, self.particles = guide, objective, particles
        self.wide = isinstance(guide, AutoNormal)
        slots = objective.flat.slots
        self.locs = {name: self._begin(name) for name in slots}
        self.scales = {name: torch.full_like(loc, self._width()) for name, loc in self.locs.items()}
        self.shared = [name for name in slots if name not in objective.locals]
        self.moving = torch.cat([torch.empty(0, dtype=objective.flat.dtype), *self._of_shared()])
        self.optimiser = clipped_adam.ClippedAdam([self.moving], lr=settings["lr"], lrd=settings["lrd"])
        self.usual, self.taken, self.trail = torch.zeros_like(self.moving), 0, Trail()
        self.queues: dict[str, Iterator[Tensor]] = {
            name: _rounds(objective.plan.sizes[name], size) for name, size in objective.sizes.items()
        }

    def _begin(self, name: str) -> Tensor:
        if isinstance(self.guide, AutoNormal):
            loc = self.guide._get_loc_and_scale(name)[0]
        else:
            loc = self.objective.flat.fixed[name].inv(attrgetter(name)(self.guide))
        found: Tensor = loc.detach().clone().to(self.objective.flat.dtype)
        return found

    def _width(self) -> float:
        return float(self.guide._init_scale) if isinstance(self.guide, AutoNormal) else 0.0

    def _of_shared(self) -> list[Tensor]:
        """The params of what members share, as the optimiser moves them."""
        locs = [self.locs[name].reshape(-1) for name in self.shared]
        if not self.wide:
            return locs
        to = transform_to(AutoNormal.scale_constraint)
        return [*locs, *(to.inv(self.scales[name]).reshape(-1) for name in self.shared)]

    def _take_shared(self) -> None:
        """Read them back from the vector that the optimiser moves."""
        begin = 0
        for name in self.shared:
            loc = self.locs[name]
            self.locs[name] = self.moving[begin : begin + loc.numel()].reshape(loc.shape)
            begin += loc.numel()
        for name in self.shared if self.wide else ():
            raw = self.moving[begin : begin + self.scales[name].numel()]
            self.scales[name] = transform_to(AutoNormal.scale_constraint)(raw).reshape(self.scales[name].shape)
            begin += raw.numel()

    def step(self) -> float:
        """Take one, and say the loss before what members share moves."""
        picked = {name: next(queue) for name, queue in self.queues.items()}
        with torch.no_grad():
            for _ in range(TIMES):
                self._move_members(picked)
            loss, gradient = 0.0, torch.zeros_like(self.moving)
            for _ in range(self.particles):
                seen = self._seen(picked)
                with unwatched():
                    one, slope = self._slope(picked, *seen)
                loss += one / self.particles
                gradient += slope / self.particles
            with unwatched():
                lr = float(self.optimiser.param_groups[0]["lr"])
                self.moving.grad = self._of_usual_size(gradient)
                self.optimiser.step()
                self._take_shared()
                self.trail.add(self.moving, lr)
        return loss

    def _of_usual_size(self, gradient: Tensor) -> Tensor:
        """A gradient in units of the root of the mean square of those so far."""
        self.taken += 1
        self.usual.mul_(MEMORY).add_((1 - MEMORY) * gradient**2)
        size = (self.usual / (1 - MEMORY**self.taken)).sqrt()
        return gradient / torch.where(size > 0, size, 1.0)

    def _pace(self, local: Local) -> float:
        """How far members go towards their best at once."""
        lr = float(self.optimiser.param_groups[0]["lr"])
        needed = FASTER * lr * local.scale / TIMES
        partly = PACE if local.share == 1.0 else PACE * local.share
        return max(min(PACE, needed, partly), SLOWEST)

    def _seen(self, picked: dict[str, Tensor]) -> tuple[Tensor, Tensor, Tensor]:
        """The locations and scales of what a step sees, and standard normal noise, as vectors."""
        noise = (torch.randn if self.wide else torch.zeros)(self.objective.flat.dim, dtype=self.objective.flat.dtype)
        locs: list[Tensor] = []
        scales: list[Tensor] = []
        with unwatched():
            for name in self.objective.flat.slots:
                local = self.objective.locals.get(name)
                for found, values in ((locs, self.locs[name]), (scales, self.scales[name])):
                    found.append((values if local is None else local.rows(values, picked)).reshape(-1))
            return torch.cat(locs), torch.cat(scales), noise

    def _move_members(self, picked: dict[str, Tensor], most: float | None = None) -> None:
        """Bring the members that a step sees towards their best, the rest as it is.

        Args:
            picked: Which they are.
            most: Their pace, where they see all of their data; that of the steps where it is None.
        """
        if not self.objective.locals:
            return
        loc, scale, noise = self._seen(picked)
        z = loc + scale * noise
        gradient, curvature = self.objective.curvature(z, picked)
        for name, local in self.objective.locals.items():
            pace = self._pace(local) if most is None else max(most * local.share, SLOWEST)
            with unwatched():
                parts = [one[local.slot.slice] for one in (loc, scale, z, gradient, curvature)]
                self._move(name, local, picked, pace, *parts)

    def _move(
        self, name: str, local: Local, picked: dict[str, Tensor], pace: float, loc: Tensor, scale: Tensor, z: Tensor,
        gradient: Tensor, curvature: Tensor,
    ) -> None:  # fmt: skip
        """One natural gradient step of the members of a site."""
        curvature = curvature / local.scale
        concave = torch.isfinite(curvature) & (curvature < 0)
        # Where the density does not curve downwards at the draw, the width that the guide has says how far to go.
        precision = torch.where(concave, -curvature, (scale if self.wide else torch.ones_like(scale)) ** -2)
        # The gradient where the draw is, brought to the mean: for a normal density that is exact, whatever the draw.
        towards = gradient / local.scale / precision + torch.where(concave, z - loc, 0.0)
        wide = torch.maximum(scale, precision.rsqrt())
        farthest = torch.where(concave, torch.maximum(LONGEST * wide, (LONGEST_IN_ALL * wide).clamp(max=UNIT)), wide)
        moved = loc + pace * torch.where(torch.isfinite(towards), towards.clamp(-farthest, farthest), 0.0)
        local.put(self.locs[name], picked, moved.reshape(local.slot.shape))
        if self.wide:
            before = scale**-2
            mixed = (1 - pace) * before + pace * precision
            mixed = torch.clamp(mixed, before / MOST_WIDER**2, before * MOST_WIDER**2)
            local.put(self.scales[name], picked, mixed.rsqrt().reshape(local.slot.shape))

    def _slope(self, picked: dict[str, Tensor], loc: Tensor, scale: Tensor, noise: Tensor) -> tuple[float, Tensor]:
        """The loss at one draw, and its gradient in what members share."""
        value, gradient = self.objective.slope(loc + scale * noise, picked)
        loss, by_loc, by_scale, begin = -value, [], [], 0
        for name, slot in self.objective.flat.slots.items():
            part = slice(begin, begin + slot.slice.stop - slot.slice.start)
            begin = part.stop
            local = self.objective.locals.get(name)
            if self.wide:
                normal = (noise[part] ** 2 + math.log(2 * math.pi)) / 2 + scale[part].log()
                loss = loss - normal.sum() * (1.0 if local is None else local.scale)
            if local is None:
                by_loc.append(-gradient[part])
                # Scales are kept as what softplus makes of a number, whose slope is this.
                slope = -torch.expm1(-scale[part])
                by_scale.append(-(gradient[part] * noise[part] + 1 / scale[part]) * slope)
        return float(loss), torch.cat([self.moving[:0], *by_loc, *(by_scale if self.wide else ())])

    def finish(self) -> None:
        """Take the mean over the last steps, bring all members to their best, and give the guide its params."""
        with torch.no_grad():
            wander = self.trail.wander()
            if wander is not None:
                self.moving = wander.mean
                self._take_shared()
            parts = list(pieces(self.objective.plan, self.objective.sizes))
            times = max(FEWEST_AT_LAST, min(MOST_AT_LAST, PIECES_AT_LAST // len(parts)))
            for time in range(times):
                for picked in parts:
                    self._move_members(picked, PACE if time < STEADY else 1 / (time - STEADY + 2))
            values = dict(self.guide.named_parameters())
            prototype: Any = self.guide.prototype_trace
            for name, loc in self.locs.items():
                if self.wide:
                    to = transform_to(AutoNormal.scale_constraint)
                    values[f"locs.{name}_unconstrained"].copy_(loc)
                    values[f"scales.{name}_unconstrained"].copy_(to.inv(self.scales[name]))
                else:
                    support = transform_to(prototype.nodes[name]["fn"].support)
                    values[f"{name}_unconstrained"].copy_(support.inv(self.objective.flat.fixed[name](loc)))

    def wander(self) -> dict[str, float]:
        """By site, how much what members share still moved over the last steps: more than 1 is more than a settled fit does.

        Empty where the steps were too few to tell.
        """
        wander = self.trail.wander()
        if wander is None:
            return {}
        units = [self._unit(name).reshape(-1) for name in self.shared]
        names = list(self.shared)
        if self.wide:
            units += [torch.full_like(one, MOST_OF_A_WIDTH) for one in units]
            names += self.shared
        moved = torch.maximum(wander.error / torch.cat([self.moving[:0], *units]), wander.speed / FASTEST)
        moved = moved.nan_to_num(nan=math.inf)  # what cannot be told is not settled
        found = dict.fromkeys(self.shared, 0.0)
        for name, part in zip(names, moved.split([one.numel() for one in units]), strict=True) if units else ():
            found[name] = max([found[name], *part.tolist()])
        return found

    def _unit(self, name: str) -> Tensor:
        """What a location may be off."""
        return self.scales[name].clamp(min=LEAST) if self.wide else torch.full_like(self.locs[name], MOST_OF_A_POINT)


def _rounds(members: int, size: int) -> Iterator[Tensor]:
    """Some members after the other, all of them once in each round."""
    left = torch.empty(0, dtype=torch.long)
    while True:
        while len(left) < size:
            again = torch.randperm(members)
            # Those that are still to come in this round are the last of the next, so that none comes twice at one step.
            waiting = torch.isin(again, left)
            left = torch.cat([left, again[~waiting], again[waiting]])
        yield left[:size].sort().values
        left = left[size:]


def minibatch_steps(
    bound: BoundModel, guide: Any, model: Callable[[], Any], noncentered: NonCentered, settings: dict[str, float],
    particles: int,
) -> MinibatchSteps:  # fmt: skip
    """Steps of a fit that sees some members at a time.

    Raises:
        CompilationError: The guide or the model has no such steps.
    """
    if type(guide) not in (AutoNormal, AutoDelta):
        raise CompilationError("its params are not known one by one")
    if bound.has_discrete:
        raise CompilationError("discrete params are summed out")
    objective = make_objective(bound, model, noncentered, jacobian=isinstance(guide, AutoNormal))
    return MinibatchSteps(guide, objective, settings, particles)
