"""The plate layout: which plates a graph has, and which of them each param lies in.

Everything that needs to know about plates reads it here: the vmap over members, the packing of params into a vector,
the Pyro plates, the boxes of diagrams and the dims of draws. It relies on a small protocol (``children``,
``subgraphs``, ``shape``, ``batch_shape``, the roles), so that modules of the package ``caskade`` have a layout too.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any, cast

from ...errors import PlateError
from ..nodes.arrays import in_double
from ..nodes.declaration import PlateDeclaration
from ..nodes.shapes import Shape, broadcast_shapes, show
from ..nodes.structure import is_param
from ..nodes.traversal import topological_order
from .routes import Route, find_routes, is_pointer
from .standpoint import Standpoint
from .subsample import ALL_MEMBERS, Picks

if TYPE_CHECKING:
    from torch import Tensor

    from ..nodes.node import Node
    from ..nodes.param import Param

__all__ = ["Placement", "Plate", "PlateLayout", "plate_layout"]


@dataclass(frozen=True)
class Plate:
    """A part of the graph that is repeated.

    Attributes:
        name: The path of link keys from the root, joined by dots; for replicates of the whole model, the root's name.
        size: How many members it has; None as long as nothing says so.
        parent: The plate around it.
        module: The module of one member.
        members: Names of the members, where given.
    """

    name: str
    size: int | None
    parent: str | None
    module: Node = field(repr=False)
    members: tuple[str, ...] | None = field(default=None, repr=False)


@dataclass(frozen=True)
class Placement:
    """Where a param stands.

    Attributes:
        param: The param.
        site: Its name in a model: the path of link keys from the root, joined by dots.
        chain: The plates on its shortest path from the root, outermost first.
        shape: The shape of one value.
        root_shape: Batch dims in front of those of the plates: replicates of the whole model.
        plate_shape: The batch dims that belong to the plates of ``chain``, outermost first; 1 where it is not repeated.
        plates: The plates along which it is repeated, outermost first.
    """

    param: Param = field(repr=False)
    site: str
    chain: tuple[str, ...]
    shape: Shape
    root_shape: Shape
    plate_shape: Shape
    plates: tuple[str, ...]


@dataclass(frozen=True)
class PlateLayout:
    """The plates of a graph and the placement of every param that is not a pointer.

    Attributes:
        root: The module whose graph this is.
        plates: All plates, outer ones first.
        placements: One for each static and dynamic param, in the order of the graph.
        paths: The path of every node from the root.
        chains: The plates around every node, outermost first.
        picks: The members that a run sees of plates that are subsampled; all by default.
        double: Whether values that the graph was given as numbers of Python are seen in double.
        remembered: What others derive from the layout and want to keep as long as it.
    """

    root: Node = field(repr=False)
    plates: tuple[Plate, ...]
    placements: tuple[Placement, ...]
    paths: Mapping[Node, str] = field(repr=False)
    chains: Mapping[Node, tuple[str, ...]] = field(repr=False)
    picks: Picks = field(default=ALL_MEMBERS, repr=False, compare=False)
    double: bool = field(default=False, repr=False, compare=False)
    remembered: dict[Any, Any] = field(default_factory=dict, repr=False, compare=False)

    def doubled(self) -> PlateLayout:
        """The same layout for a model in double precision."""
        found: PlateLayout | None = self if self.double else self.remembered.get("doubled")
        if found is None:
            found = self.remembered["doubled"] = replace(self, double=True, remembered={})
        return found

    def held(self, param: Any) -> Tensor | None:
        """The value that the graph holds of a param, in the precision of the model."""
        value: Tensor | None = param.value
        # Params of the package `caskade` have but one value; a context may override that of ours.
        held = self.double and value is not None and value is getattr(param, "stored_value", None)
        return param.exact_value if held else in_double(value) if self.double else value

    def bounds(self, param: Any) -> tuple[Tensor | None, Tensor | None]:
        """The bounds of a param, in the precision of the model."""
        found: tuple[Tensor | None, Tensor | None] = getattr(
            param, "exact_valid" if self.double else "valid", param.valid
        )
        return found

    def plate(self, name: str) -> Plate:
        """The plate of this name.

        Raises:
            PlateError: There is none.
        """
        for plate in self.plates:
            if plate.name == name:
                return plate
        raise PlateError(
            f"There is no plate {name!r}; the plates are {', '.join(p.name for p in self.plates) or 'none'}."
        )

    def sizes(self, names: Iterable[str]) -> Shape:
        """The sizes of some plates; 1 as long as nothing says how many members one has."""
        return tuple(self.plate(name).size or 1 for name in names)

    @cached_property
    def plate_names(self) -> frozenset[str]:
        """The names of all plates."""
        return frozenset(plate.name for plate in self.plates)

    def placement(self, param: Param) -> Placement:
        """Where a param stands."""
        return self._by_param[param]

    def plate_of(self, child: Node, around: tuple[str, ...]) -> Plate | None:
        """The plate that repeats a module, if it is the next one for who is inside of the plates ``around``."""
        ahead = [name for name in self.chains.get(child, ()) if name not in around]
        for plate in self.plates:
            if plate.module is child and ahead == [plate.name]:
                return plate
        return None

    @cached_property
    def standpoint(self) -> Standpoint:
        """From where a call of the root sees the graph."""
        return Standpoint(self.root, self)

    @cached_property
    def root_shape(self) -> Shape:
        """The batch dims of the root: how often the whole model is repeated."""
        return broadcast_shapes(*(placement.root_shape for placement in self.placements))

    def constants(self, plate: str) -> tuple[Param, ...]:
        """The static params that have a value for each member of a plate."""
        return self._constants.get(plate, ())

    @cached_property
    def _constants(self) -> dict[str, tuple[Param, ...]]:
        found: dict[str, tuple[Param, ...]] = {}
        for placement in self.placements:
            if placement.param.static:
                for plate in placement.plates:
                    found[plate] = (*found.get(plate, ()), placement.param)
        return found

    def statics_with_dim(self, plate: str) -> tuple[Param, ...]:
        """The static params whose values have a dim for a plate: its constants, and those with a dim of 1."""
        return self._statics_with_dim.get(plate, ())

    @cached_property
    def _statics_with_dim(self) -> dict[str, tuple[Param, ...]]:
        found: dict[str, tuple[Param, ...]] = {}
        for placement in self.placements:
            if placement.param.static:
                for plate, _ in zip(placement.chain, placement.plate_shape, strict=False):
                    found[plate] = (*found.get(plate, ()), placement.param)
        return found

    def fill(self) -> None:
        """Work out now what is otherwise worked out when it is first asked for."""
        _ = self.summaries, self._constants, self._statics_with_dim, self._by_param

    @cached_property
    def summaries(self) -> dict[Node, frozenset[str]]:
        """The pointers that use nodes in plates in which they do not stand, and these plates.

        They read all members of them at once. What other pointers read in turn is the business of these.
        """
        found: dict[Node, frozenset[str]] = {}
        reached: dict[Node, frozenset[str]] = {}
        for node in reversed(topological_order(self.root)):
            own = frozenset(self.chains[node])
            below = own.union(*(reached[child] for child in node.children.values()))
            pointer = is_pointer(node)
            reached[node] = own if pointer else below
            if pointer and below != own:
                found[node] = below - own
        return found

    @cached_property
    def _by_param(self) -> dict[Param, Placement]:
        return {placement.param: placement for placement in self.placements}


def plate_layout(module: Node) -> PlateLayout:
    """Read the plates of a graph off its hierarchical links and the batch dims of its params.

    Args:
        module: The root, ours or a module of the package ``caskade``.

    Returns:
        The plates and where each param stands in them.

    Raises:
        PlateError: Sizes disagree within a plate; a batched param lies in two different plates at once, or does not
            say which of its dims are its own.

    Example:
        >>> import caskade_pyro as ck
        >>> galaxy = ck.Module("galaxy")
        >>> galaxy.flux = ck.Param("flux", shape=())
        >>> survey = ck.Module("survey")
        >>> survey.hierarchical_link("galaxies", galaxy, size=58)
        >>> ck.plate_layout(survey).placements[0]
        Placement(site='galaxies.flux', chain=('galaxies',), shape=(), root_shape=(), plate_shape=(58,), plates=('galaxies',))
    """
    routes, links = find_routes(module)
    params = [(cast("Param", node), route) for node, route in routes.items() if is_param(node) and not is_pointer(node)]
    declared = {name: _declaration(parent, key).size for name, (parent, key) in links.items()}
    dims = {param: _split_dims(param, route, declared) for param, route in params}
    for param, route in params:
        _check_unambiguous(route, dims[param])
    sizes = _resolve_sizes(params, dims, declared)
    root_plates = _root_plates(module, [(routes[p].path, root) for p, (root, _) in dims.items()], routes, links)
    plates = [*root_plates]
    for name, (parent, key) in links.items():
        child, around, members = parent.children[key], routes[parent].chain, _declaration(parent, key).members
        plates.append(Plate(name, sizes[name], around[-1] if around else None, child, members))
    placements = tuple(_place(param, route, *dims[param], root_plates, sizes) for param, route in params)
    return PlateLayout(
        root=module,
        plates=tuple(plates),
        placements=placements,
        paths={node: route.path for node, route in routes.items()},
        chains={node: route.chain for node, route in routes.items()},
    )


def _declaration(parent: Node, key: str) -> PlateDeclaration:
    declarations = getattr(parent, "plate_declarations", None) or {}
    return declarations.get(key) or PlateDeclaration()


def _split_dims(param: Param, route: Route, declared: Mapping[str, int | None]) -> tuple[Shape, Shape]:
    """Split the batch dims of a param, outside-in, into those of the root and those of the plates around it."""
    batch, chain = tuple(param.batch_shape), route.chain
    said = len(batch) > 0 or getattr(param, "declared_batch_shape", None) is not None
    if not said and param.dynamic and any(declared[plate] for plate in chain):
        return (), tuple(declared[plate] or 1 for plate in chain)
    if batch:
        _check_own_shape(param, route.path, batch)
    split = max(0, len(batch) - len(chain))
    return batch[:split], batch[split:]


def _check_own_shape(param: Param, path: str, batch: Shape) -> None:
    value = getattr(param, "stored_value", None)
    if value is None or getattr(param, "declared_shape", ()) is not None or value.ndim == 0:
        return
    raise PlateError(
        f"Param {path} has the batch shape {show(batch)} and a value of shape {show(value.shape)}, but does not declare "
        "which of these dims are its own: give it shape=(...), the shape of ONE value."
    )


def _check_unambiguous(route: Route, dims: tuple[Shape, Shape]) -> None:
    if route.rival is not None and any(size != 1 for size in dims[1]):
        raise PlateError(
            f"Param {route.path} has the batch dims {show(dims[1])}, but stands equally near in two different plates, "
            f"{'.'.join(route.chain[-1:])} and {'.'.join(route.rival[-1:])}: nobody can tell whose dims they are. "
            "Give each subgraph its own param, or link the shared one to their parent as well and leave it unbatched."
        )


def _resolve_sizes(
    params: Iterable[tuple[Param, Route]],
    dims: Mapping[Param, tuple[Shape, Shape]],
    declared: Mapping[str, int | None],
) -> dict[str, int | None]:
    """One size for each plate, from the link and from the dims of its params."""
    said: dict[str, dict[int, list[str]]] = {name: {} for name in declared}
    for name, size in declared.items():
        if size is not None:
            said[name][size] = ["size= of the hierarchical link"]
    for param, route in params:
        for plate, size in zip(route.chain, dims[param][1], strict=False):
            if size != 1:
                said[plate].setdefault(size, []).append(f"{route.path} with batch dims {show(dims[param][1])}")
    for plate, sizes in said.items():
        if len(sizes) > 1:
            found = "; ".join(f"{size} from {', '.join(who)}" for size, who in sizes.items())
            raise PlateError(f"The members of plate {plate} are counted differently: {found}. Give them all one size.")
    _check_undeclared(params, said)
    return {name: next(iter(sizes), None) for name, sizes in said.items()}


def _check_undeclared(params: Iterable[tuple[Param, Route]], said: Mapping[str, Mapping[int, list[str]]]) -> None:
    """A value as long as the plate, of a param that declares no shape, was most likely meant as one for each member."""
    for param, route in params:
        value = getattr(param, "stored_value", None)
        if value is None or value.ndim == 0 or getattr(param, "declared_shape", ()) is not None:
            continue
        for plate in route.chain:
            if value.shape[0] in said[plate]:
                raise PlateError(
                    f"Param {route.path} has a value of shape {show(value.shape)} in the plate {plate} of size "
                    f"{value.shape[0]}, but declares no shape of its own, so nobody can tell whether that is one value for "
                    "each member. Give it shape=(...), the shape of ONE value."
                )


def _root_plates(
    root: Node,
    shapes: list[tuple[str, Shape]],
    routes: Mapping[Node, Route],
    links: Mapping[str, tuple[Node, str]],
) -> tuple[Plate, ...]:
    """The plates of the root's own batch, outermost first."""
    try:
        sizes = broadcast_shapes(*(shape for _, shape in shapes))
    except ValueError:
        found = ", ".join(f"{path}: {show(shape)}" for path, shape in shapes if shape)
        raise PlateError(
            f"The batch dims in front of those of the plates count the replicates of {root.name}, and they disagree: {found}."
        ) from None
    taken = {route.path for route in routes.values()} | set(links)
    name = root.name if root.name not in taken else f"{root.name}_replicates"
    names = [name] if len(sizes) == 1 else [f"{name}_{index}" for index in range(len(sizes))]
    plates: list[Plate] = []
    for plate_name, size in zip(names, sizes, strict=True):
        plates.append(Plate(plate_name, size, plates[-1].name if plates else None, root))
    return tuple(plates)


def _place(
    param: Param,
    route: Route,
    root_shape: Shape,
    plate_shape: Shape,
    root_plates: tuple[Plate, ...],
    sizes: Mapping[str, int | None],
) -> Placement:
    in_root = [
        plate.name
        for plate, size in zip(root_plates[len(root_plates) - len(root_shape) :], root_shape, strict=True)
        if size == plate.size
    ]
    in_chain = [name for name, size in zip(route.chain, plate_shape, strict=False) if size == sizes[name]]
    shape = tuple(param.shape)
    return Placement(param, route.path, route.chain, shape, root_shape, plate_shape, (*in_root, *in_chain))  # type: ignore[arg-type]
