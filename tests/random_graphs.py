"""Random graphs, and what a call of them must give, written out with numpy and loops over the members.

A `Plan` says what a graph is to be: modules in a directed acyclic graph, plain links and plates, params of all roles.
`build` makes the graph of it, and `Reference` computes what its root must return, from nothing but the plan and the
values of the params.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import product
from typing import Any

import numpy as np
import torch
from hypothesis import strategies as st

import caskade_pyro as ck

SHAPES = ((), (), (2,), (2, 3), (0,))
REQUESTED = ("a", "b", "c", "q", "s")
"""The params that a forward method asks for by name; ``live`` and ``p``, which may depend on it, are read later."""


@dataclass(eq=False)
class PlatePlan:
    """A hierarchical link: how many members, and whether the link says so."""

    size: int
    declared: bool
    spread: bool = False
    chunk_size: int | None = None
    by_hand: bool = False


@dataclass(eq=False, repr=False)
class ParamPlan:
    """A param: where it stands, what it is, and how it says of its batch.

    Attributes:
        chain: The plates around it, outermost first.
        dims: Its batch dims, those of the outermost plates first; 1 where it is not repeated.
        says: How the graph is told: by nothing, by ``batch_shape=`` or by the dims of the ``value``.
        whole: Whether the stored value has the batch dims, or one value serves all members.
        targets: What a pointer reads; ``direct`` says that it has the very value of the only one.
        follows_live: Whether it reads a live param, directly or through other pointers.
    """

    key: str
    module: ModulePlan
    role: str
    shape: tuple[int, ...] = ()
    dims: tuple[int, ...] = ()
    says: str = "value"
    whole: bool = True
    value: np.ndarray | None = None
    group: int = 0
    targets: list[ParamPlan] = field(default_factory=list)
    direct: bool = False
    follows_live: bool = False

    def __repr__(self) -> str:
        targets = f" -> {[target.name for target in self.targets]}, direct={self.direct}" if self.targets else ""
        said = f"{self.shape} dims {self.dims} by {self.says}, whole={self.whole}, group={self.group}"
        return f"{self.name}: {self.role}" + (targets or f" {said}")

    @property
    def chain(self) -> tuple[PlatePlan, ...]:
        return self.module.chain

    @property
    def name(self) -> str:
        return f"{self.key}{self.module.index}"

    def reads(self) -> set[PlatePlan]:
        """The plates of all params on which a pointer depends."""
        return {plate for target in self.targets for plate in (*target.chain, *target.reads())}


@dataclass(eq=False, repr=False)
class ModulePlan:
    """A module: its params by key, and the modules that it calls, plainly or once for each member."""

    index: int
    chain: tuple[PlatePlan, ...] = ()
    path: tuple[str, ...] = ()
    params: dict[str, ParamPlan] = field(default_factory=dict)
    parts: dict[str, ModulePlan] = field(default_factory=dict)
    plates: dict[str, tuple[PlatePlan, ModulePlan]] = field(default_factory=dict)

    def __repr__(self) -> str:
        plates = {key: (plate, f"m{member.index}") for key, (plate, member) in self.plates.items()}
        return f"m{self.index} {list(self.params.values())} parts {list(self.parts)} plates {plates}"

    def below(self) -> Iterator[ModulePlan]:
        """This module and all below, some of them several times."""
        yield self
        for part in self.parts.values():
            yield from part.below()
        for _, member in self.plates.values():
            yield from member.below()


@dataclass(eq=False, repr=False)
class Plan:
    """The modules of a graph, the root first."""

    modules: list[ModulePlan]

    def __repr__(self) -> str:
        return "\n" + "\n".join(map(repr, self.modules))

    def _repr_pretty_(self, printer, cycle):
        printer.text(repr(self))  # hypothesis would print all fields of all parts, again and again

    @property
    def params(self) -> list[ParamPlan]:
        return [p for module in self.modules for key, p in module.params.items() if p.module is module]


def within(inner: tuple[PlatePlan, ...], outer: tuple[PlatePlan, ...]) -> bool:
    """Whether all plates of one chain are around another one too."""
    return inner == outer[: len(inner)]


# Strategies


@st.composite
def plans(draw, most_modules: int = 6, groups: bool = False, depth: int = 3) -> Plan:
    """Plans of graphs, with plates up to three deep."""
    numbers = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    root = ModulePlan(0)
    modules = [root]
    for index in range(1, draw(st.integers(2, most_modules))):
        parent = modules[draw(st.integers(0, index - 1))]
        free = [key for key in ("group", "crew") if key not in parent.plates]
        if free and len(parent.chain) < depth and draw(st.booleans()):
            size = draw(st.integers(1, 3))
            plate = PlatePlan(
                size, size == 1 or draw(st.booleans()), draw(st.booleans()), draw(st.sampled_from([None, 1, 2]))
            )
            module = ModulePlan(index, (*parent.chain, plate), (*parent.path, free[0]))
            parent.plates[free[0]] = plate, module
        else:
            module = ModulePlan(index, parent.chain, (*parent.path, f"part{index}"))
            parent.parts[f"part{index}"] = module
        modules.append(module)
    _share_modules(draw, modules)
    for module in modules:
        _draw_values(draw, module, numbers, groups)
    _draw_pointers(draw, modules)
    for module in modules:
        for plate, member in module.plates.values():
            constants = [
                p for m in member.below() for p in m.params.values() if p.role == "static" and plate in p.chain
            ]
            plate.by_hand = not any(repeated(p, plate) for p in constants) and draw(st.booleans())
            plate.by_hand &= member.params["a"].role == "dynamic"
    return Plan(modules)


def _share_modules(draw, modules: list[ModulePlan]) -> None:
    """Further links to modules that stand outside, or beside, of the one that links them."""
    for child in modules[2:]:
        if f"part{child.index}" != child.path[-1] or not draw(st.booleans()):
            continue
        others = [m for m in modules[: child.index] if within(child.chain, m.chain) and child not in m.parts.values()]
        if others:
            draw(st.sampled_from(others)).parts[f"part{child.index}"] = child


def _draw_values(draw, module: ModulePlan, numbers: np.random.Generator, groups: bool) -> None:
    for key in ("a", "b", "c"):
        first = key == "a"
        role = draw(st.sampled_from(["dynamic", "dynamic", "static"] if first else ["dynamic", "static", "none"]))
        if role == "none":
            continue
        param = ParamPlan(key, module, role, draw(st.sampled_from(SHAPES[: 4 if first else None])))
        if groups:
            param.group = draw(st.sampled_from([0, 0, 2, 5]))
        _draw_dims(draw, param, first and bool(module.chain))
        dims = param.dims if param.whole else ()
        param.value = numbers.uniform(-1, 1, dims + param.shape)
        module.params[key] = param
    if draw(st.integers(0, 3)) == 0:
        module.params["live"] = ParamPlan("live", module, "live", follows_live=True)


def _draw_dims(draw, param: ParamPlan, full: bool) -> None:
    """Batch dims along some of the plates around a param; ``full`` asks for the innermost one at least."""
    chain = param.chain
    declared = any(plate.declared for plate in chain)
    param.whole = draw(st.booleans())
    if param.role == "dynamic" and declared and (not full or chain[-1].declared) and draw(st.booleans()):
        param.says, param.dims = "nothing", tuple(plate.size if plate.declared else 1 for plate in chain)
        param.whole = param.whole and max(param.dims) > 1
        return
    length = len(chain) if full else draw(st.integers(0, len(chain)))
    param.dims = tuple(plate.size if draw(st.booleans()) else 1 for plate in chain[:length])
    if full:
        param.dims = (*param.dims[:-1], chain[-1].size)
    param.says = draw(st.sampled_from(["value", "batch_shape"])) if param.dims else "batch_shape"
    if param.role == "static" or param.says == "value":
        param.says, param.whole = "value", True


def _draw_pointers(draw, modules: list[ModulePlan]) -> None:
    root_live = modules[0].params.get("live")
    known = [p for m in modules for p in m.params.values() if p.role != "live" and 0 not in p.shape]
    # Members of a plate in which it does not stand: what a pointer there reads of all of them is refused.
    called_by_members = {
        inner
        for module in modules
        for part in module.parts.values()
        if part.chain != module.chain
        for inner in part.below()
        if inner.chain
    }
    for module in modules:
        for key in ("q", "p"):
            kind = draw(st.sampled_from(["none", "direct", "function"]))
            if kind == "none":
                continue
            param = ParamPlan(key, module, "pointer", direct=kind == "direct")
            strict = param.direct or module in called_by_members
            targets = [p for p in known if within(p.chain, module.chain) or (not strict and p.reads() <= {*p.chain})]
            if key == "q":
                targets = [p for p in targets if not p.follows_live]
            elif root_live is not None:
                targets.append(root_live)
            if not targets:
                continue
            param.targets = draw(
                st.lists(st.sampled_from(targets), min_size=1, max_size=1 if param.direct else 2, unique=True)
            )
            param.follows_live = any(target.follows_live for target in param.targets)
            module.params[key] = param
            known.append(param)
            if key == "p" and "live" in module.params and not param.direct and draw(st.booleans()):
                # What depends on a live param of a module that is no root makes sense in this module only.
                param.targets, param.follows_live = [module.params["live"]], True
                known.remove(param)
        outer = [p for p in known if p.module is not module and within(p.chain, module.chain) and not p.follows_live]
        outer = [p for p in outer if p.role != "pointer" and p not in module.params.values()]
        if outer and draw(st.booleans()):
            module.params["s"] = draw(st.sampled_from(outer))


def repeated(param: ParamPlan, plate: PlatePlan) -> bool:
    """Whether a param may differ between the members of a plate."""
    return dict(zip(param.chain, param.dims, strict=False)).get(plate, 1) != 1


# Graphs


class Tripwire:
    """Raises at a certain step, to see what a call leaves behind that fails there."""

    def __init__(self):
        self.steps, self.at = 0, None

    def step(self):
        self.steps += 1
        if self.steps == self.at:
            raise Broken


class Broken(Exception):
    pass


def weighed(value):
    """One number of a value, to which every entry contributes differently."""
    if not isinstance(value, torch.Tensor):
        return sum(number * entry for number, entry in enumerate(np.ravel(value).tolist(), start=1))
    flat = value.reshape(-1)
    return (flat * torch.arange(1.0, flat.shape[0] + 1, dtype=flat.dtype)).sum()


class Part(ck.Module):
    """A module of a random graph: it combines its params, its parts and the members of its plates into a number."""

    def __init__(self, plan: ModulePlan, tripwire: Tripwire):
        super().__init__(f"m{plan.index}")
        self.plan, self.tripwire = plan, tripwire

    @ck.forward
    def total(self, x, a=None, b=None, c=None, q=None, s=None):
        out = torch.sin(x)
        self.tripwire.step()
        for key, value in zip(REQUESTED, (a, b, c, q, s), strict=True):
            if value is not None:
                assert self[key].pointer or value.shape == self[key].shape
                weight = weighed(value)
                out = out * torch.cos(weight) + weight
        if "live" in self.children:
            self.live = 0.5 * out + x
            out = out - 2 * self.live.value
        if "p" in self.children:
            out = out + 3 * weighed(self.p.value)
        for key in self.plan.parts:
            if key in self.children:
                out = 0.7 * out + self[key].total(x + 0.3)
        for key, (plate, _) in self.plan.plates.items():
            if key in self.children:
                out = out + weighed(self.members(key, plate, x))
        self.tripwire.step()
        return out

    def members(self, key, plate, x):
        inputs = x + 0.1 * torch.arange(plate.size, dtype=x.dtype) if plate.spread else x
        if plate.by_hand:
            return self.group_by_hand(inputs, plate) if key == "group" else self.crew_by_hand(inputs, plate)
        return ck.vmap(self[key].total, in_dims=0 if plate.spread else None, chunk_size=plate.chunk_size)(inputs)

    @ck.forward
    def group_by_hand(self, x, plate, group_params, group_dims):
        dims = (0 if plate.spread else None, group_dims)
        return torch.vmap(self.group.total, in_dims=dims, chunk_size=plate.chunk_size)(x, group_params)

    @ck.forward
    def crew_by_hand(self, x, plate, crew_params, crew_dims):
        dims = (0 if plate.spread else None, crew_dims)
        return torch.vmap(self.crew.total, in_dims=dims, chunk_size=plate.chunk_size)(x, crew_params)


def combined(param: ParamPlan):
    """The function of a pointer: inside of the plates of a target it sees one value, from outside the mean of all."""

    def follow(p):
        result = 0.0
        for number, target in enumerate(param.targets, start=1):
            value = getattr(p, target.name).value
            near = within(target.chain, param.chain)
            result = result + number * (weighed(value) if near else value.mean())
        return result

    return follow


@dataclass
class Graph:
    """A graph with its plan."""

    plan: Plan
    root: Part
    modules: dict[ModulePlan, Part]
    params: dict[ParamPlan, ck.Param]
    tripwire: Tripwire

    def values(self, numbers: np.random.Generator) -> dict[ParamPlan, np.ndarray]:
        """Random values of the dynamic params, with all their batch dims."""
        dynamic = (p for p in self.plan.params if p.role == "dynamic")
        return {p: numbers.uniform(-1, 1, p.dims + p.shape) for p in dynamic}

    def stored(self) -> dict[ParamPlan, np.ndarray]:
        """The values that the graph was built with."""
        return {
            p: p.value if p.whole else np.broadcast_to(p.value, p.dims + p.shape)
            for p in self.plan.params
            if p.role == "dynamic"
        }

    def form(self, values: dict[ParamPlan, Any], form: str) -> Any:
        """Values as a vector, a list or a nested dict; of several groups, a list of these."""
        plans = {param: plan for plan, param in self.params.items()}
        ordered = [plans[param] for param in self.root.dynamic_params]
        groups = sorted({plan.group for plan in ordered})
        made = [_as_form([p for p in ordered if p.group == group], values, form) for group in groups]
        return made[0] if len(made) == 1 else made

    def reference(self, x: float, values: dict[ParamPlan, np.ndarray]) -> float:
        """What the root must return."""
        return Reference(values).total(self.plan.modules[0], x, {})


def _as_form(plans: list[ParamPlan], values: dict[ParamPlan, Any], form: str) -> Any:
    tensors = [torch.as_tensor(np.array(values[plan])) for plan in plans]
    if form == "vector":
        return torch.cat([tensor.reshape(-1) for tensor in tensors])
    if form == "list":
        return tensors
    result: dict[str, Any] = {}
    for plan, tensor in zip(plans, tensors, strict=True):
        into = result
        for key in plan.module.path:
            into = into.setdefault(key, {})
        into[plan.key] = tensor
    return result


def build(plan: Plan) -> Graph:
    """The graph of a plan, from the root down."""
    tripwire = Tripwire()
    modules = {module: Part(module, tripwire) for module in plan.modules}
    params = {param: _param(param) for param in plan.params}
    for module, part in modules.items():
        for key, param in module.params.items():
            setattr(part, key, params[param])
        for key, child in module.parts.items():
            part.link(key, modules[child])
        for key, (plate, child) in module.plates.items():
            part.hierarchical_link(key, modules[child], size=plate.size if plate.declared else None)
    for param, made in params.items():
        if param.role == "pointer":
            targets = [params[target] for target in param.targets]
            if param.direct:
                made.to_pointer(targets[0])
            else:
                made.to_pointer(combined(param), link=targets)
    return Graph(plan, modules[plan.modules[0]], modules, params, tripwire)


def _param(plan: ParamPlan) -> ck.Param:
    if plan.role in ("live", "pointer"):
        return ck.Param(plan.name, None, dynamic=False)
    return ck.Param(
        plan.name,
        torch.as_tensor(plan.value),
        shape=plan.shape,
        dynamic=plan.role == "dynamic",
        group=plan.group,
        batch_shape=plan.dims if plan.says == "batch_shape" else None,
    )


# The reference


class Reference:
    """What a call must give, one member after the other."""

    def __init__(self, values: dict[ParamPlan, np.ndarray]):
        self.values = values
        self.live: dict[ParamPlan, float] = {}

    def total(self, module: ModulePlan, x: float, where: dict[PlatePlan, int]) -> float:
        """The number that a module computes for one member of the plates around it."""
        out = math.sin(x)
        for key in REQUESTED:
            if key in module.params:
                weight = weighed(self.value(module.params[key], where))
                out = out * math.cos(weight) + weight
        if "live" in module.params:
            self.live[module.params["live"]] = live = 0.5 * out + x
            out -= 2 * live
        if "p" in module.params:
            out += 3 * weighed(self.value(module.params["p"], where))
        for part in module.parts.values():
            out = 0.7 * out + self.total(part, x + 0.3, where)
        for plate, member in module.plates.values():
            for index in range(plate.size):
                own = x + 0.1 * index if plate.spread else x
                out += (index + 1) * self.total(member, own, {**where, plate: index})
        return out

    def value(self, param: ParamPlan, where: dict[PlatePlan, int]) -> np.ndarray:
        """The value of a param for one member of the plates around it."""
        if param.role == "live":
            return np.array(self.live[param])
        if param.role == "pointer":
            return self.followed(param, {plate: where[plate] for plate in param.chain})
        value = self.values.get(param, param.value)
        for plate, size in zip(param.chain, param.dims, strict=False):
            value = value[where[plate] if size != 1 else 0]
        return value

    def followed(self, param: ParamPlan, where: dict[PlatePlan, int]) -> np.ndarray:
        """The value of a pointer, from where it stands."""
        if param.direct:
            return self.value(param.targets[0], where)
        result = 0.0
        for number, target in enumerate(param.targets, start=1):
            ahead = [plate for plate in target.chain if plate not in where]
            members = [dict(zip(ahead, at, strict=True)) for at in product(*(range(plate.size) for plate in ahead))]
            seen = [self.value(target, {**where, **member}) for member in members]
            near = within(target.chain, param.chain)
            result += number * (weighed(seen[0]) if near else float(np.mean(seen)))
        return np.array(result)
