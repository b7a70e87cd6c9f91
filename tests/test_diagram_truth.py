"""What diagrams say is so: boxes are the plates of the Pyro trace, edges are what the log density depends on."""

import pyro
import pyro.distributions as dist
import pytest
import torch
from bridged import PAIRS
from hypothesis import given, settings
from hypothesis import strategies as st
from pyro import poutine
from random_graphs import build, plans
from torch.distributions import biject_to

import caskade_pyro as ck
from caskade_pyro.bridge.sites import plates_of
from caskade_pyro.diagram import EdgeKind, NodeKind, graph_diagram
from caskade_pyro.diagram.style import NODES


def drawn_sites(trace):
    """The sites of a trace that are drawn from a distribution, by name."""
    return {
        name: node
        for name, node in trace.nodes.items()
        if node["type"] == "sample"
        and type(node["fn"]).__name__ != "_Subsample"
        and not node["infer"].get("_deterministic", False)
    }


def check_boxes(bound):
    """Compare the boxes of a model's diagram, and what stands in them, with the plates of its trace."""
    diagram = bound.diagram().specification
    frames = {
        name: sorted(node["cond_indep_stack"], key=lambda frame: frame.dim)
        for name, node in poutine.trace(bound).get_trace().nodes.items()
        if node["type"] == "sample" and type(node["fn"]).__name__ != "_Subsample"
    }
    assert diagram.plates() == {name: tuple(frame.name for frame in around) for name, around in frames.items()}
    used = {frame.name: frame.size for around in frames.values() for frame in around}
    assert {name: diagram.sizes()[name] for name in used} == used


def shown_edges(diagram):
    """For each site the sites that the diagram says it depends on, passing through deterministic nodes."""
    direct = {node.id: set() for node in diagram.nodes}
    for edge in diagram.edges:
        direct[edge.head].add(edge.tail)
    computed = {node.id for node in diagram.nodes if node.kind is NodeKind.DETERMINISTIC}

    def drawn(name):
        return set().union(*(drawn(one) if one in computed else {one} for one in direct[name]))

    return {name: drawn(name) for name in direct if name not in computed}


def moved(fn, value):
    """Another value that a distribution may have, different in every component."""
    support = fn.support
    if support.is_discrete:
        other = torch.where(value > 0, value - 1, value + 1)
        return other if support.check(other).all() else value
    transform = biject_to(support)
    free = transform.inv(value)
    return transform(free + 0.1 + 0.1 * torch.rand_like(free))


def true_edges(bound):
    """For each site the sites whose value changes its term of the log density, all other values kept."""
    first = poutine.trace(bound).get_trace()
    values = {name: node["value"].detach() for name, node in drawn_sites(first).items()}

    def terms(changed):
        trace = poutine.trace(poutine.condition(bound, {**values, **changed})).get_trace()
        trace.compute_log_prob()
        return {name: node["log_prob"] for name, node in drawn_sites(trace).items()}

    found = {name: set() for name in values}
    with pyro.validation_enabled(False):
        before = terms({})
        for name, node in drawn_sites(first).items():
            if not node["is_observed"]:
                after = terms({name: moved(node["fn"], values[name])})
                for head, parents in found.items():
                    if head != name and not torch.equal(before[head], after[head]):
                        parents.add(name)
    return found


def check_edges(bound):
    """Compare the edges of a model's diagram with what its log density depends on."""
    assert shown_edges(bound.diagram().specification) == true_edges(bound)


@pytest.mark.parametrize("name", PAIRS)
def test_boxes_of_the_registry(name):
    """Names, sizes, nesting and members of the boxes equal the plates of the trace, for every model of the registry."""
    check_boxes(PAIRS[name]().bound)


@pytest.mark.parametrize("name", PAIRS)
def test_edges_of_the_registry(name):
    """Edges are the true dependencies, found by moving each value and watching the terms of the log density."""
    check_edges(PAIRS[name]().bound)


# Where no derivative can follow


class Hidden(ck.Module):
    """Two params, of which the second enters in a way that derivatives do not see, and one that enters nowhere."""

    def __init__(self, way, prior=None):
        super().__init__()
        self.way = way
        self.seen = ck.Param("seen", prior=dist.Normal(0.0, 1.0))
        self.hidden = ck.Param("hidden", prior=dist.Normal(0.0, 1.0) if prior is None else prior)
        self.idle = ck.Param("idle", prior=dist.Normal(0.0, 1.0))

    @ck.forward
    def predict(self, seen, hidden):
        return {"first": dist.Normal(seen + self.way(hidden), 1.0), "second": dist.Normal(seen, 1.0)}


WAYS = {
    "index": Hidden(lambda z: torch.tensor([0.0, 1.0, 5.0])[z.long()], dist.Categorical(torch.ones(3) / 3)),
    "count": Hidden(lambda z: z, dist.Poisson(30.0)),
    "comparison": Hidden(lambda z: torch.where(z > 0, 1.0, 2.0)),
    "detached": Hidden(lambda z: z.detach()),
    "rounded": Hidden(lambda z: (100 * z).floor()),
}


@pytest.mark.parametrize("way", WAYS)
def test_edges_that_no_derivative_shows(way):
    """A param that enters through an index, a comparison or a detached value has an edge, and an idle one has none."""
    bound = ck.PyroModel(WAYS[way].predict).bind(obs={"first": 0.3, "second": 0.2})
    edges = shown_edges(bound.diagram().specification)
    assert edges["first"] == {"seen", "hidden"}
    assert edges["second"] == {"seen"}
    parents = {site.name: site.parents for site in bound.describe().sites}
    assert parents["first"] == ("seen", "hidden")  # in the order of the sites


def test_edges_where_derivatives_are_switched_off():
    """A model that is bound, or first looked at, under no_grad has the same edges."""
    with torch.no_grad():
        diagram = PAIRS["crossed"]().bound.diagram()
    assert diagram.specification == PAIRS["crossed"]().bound.diagram().specification


class Spot(ck.Module):
    """One member of a population."""

    def __init__(self):
        super().__init__()
        self.height = ck.Param("height", shape=())

    @ck.forward
    def own(self, height):
        return height


class Spots(ck.Module):
    """A population whose members, and their number, are drawn in each run."""

    def __init__(self):
        super().__init__()
        spot = Spot()
        self.hierarchical_link("spots", spot)
        self.mean = ck.Param("mean", prior=dist.Normal(0.0, 1.0))
        self.idle = ck.Param("idle", prior=dist.Normal(0.0, 1.0))
        spot.height.prior = ck.prior(dist.Normal, self.mean, 0.1)

    @ck.forward
    def predict(self):
        params, dims = ck.draw_members(self.spots, 1 + int(torch.poisson(torch.tensor(4.0))))
        return dist.Normal(torch.vmap(self.spots.own, in_dims=(dims,))(params).sum(), 1.0)


def test_edges_of_a_population():
    """What a simulator draws itself stands between its hyperparameters and the data, in a plate without a size."""
    diagram = ck.PyroModel(Spots().predict).bind().diagram().specification
    assert shown_edges(diagram) == {"mean": set(), "idle": set(), "spots.height": {"mean"}, "obs": {"spots.height"}}
    assert [(box.label, box.nodes) for box in diagram.boxes] == [("spots", ("spots.height",))]


def test_looking_for_edges_costs_a_few_runs():
    """However many params a model has, a diagram runs its simulator four times; not at all if derivatives reach all."""
    runs = []

    class Counted(ck.Module):
        def __init__(self, idle):
            super().__init__()
            for number in range(idle):
                self.link(f"idle{number}", ck.Param(f"idle{number}", shape=(), prior=dist.Normal(0.0, 1.0)))
            self.seen = ck.Param("seen", prior=dist.Normal(0.0, 1.0))

        @ck.forward
        def predict(self, seen):
            runs.append(seen)
            return dist.Normal(seen, 1.0)

    for idle, expected in ((0, 0), (1, 4), (30, 4)):
        bound = ck.PyroModel(Counted(idle).predict).bind(obs=torch.tensor(1.0))
        runs.clear()
        bound.diagram()
        assert len(runs) == expected


def test_looking_for_edges_changes_no_random_state():
    """Reports and diagrams run the simulator, but what is drawn afterwards is what would have been drawn without."""
    bound = ck.PyroModel(WAYS["count"].predict).bind(obs={"first": 0.3, "second": 0.2})
    pyro.set_rng_seed(5)
    expected = torch.rand(3)
    pyro.set_rng_seed(5)
    bound.diagram()
    assert torch.equal(torch.rand(3), expected)
    assert not pyro.get_param_store()


# Random graphs


def without_live(plan):
    """The plan without its live params: what random modules add for these cancels, and with it the dependence."""
    for module in plan.modules:
        for key in [key for key, param in module.params.items() if param.follows_live]:
            del module.params[key]
    return plan


def random_model(plan, numbers):
    """The model of a random graph, with priors that depend on other params where they can."""
    graph = build(without_live(plan))
    root = graph.root
    root.idle = ck.Param("idle", shape=(), prior=dist.Normal(0.0, 1.0))
    root.spread = ck.Param("spread", shape=(), prior=dist.LogNormal(0.0, 0.1))
    layout = ck.plate_layout(root)
    pointers = [graph.params[p] for p in plan.params if p.role == "pointer" and not p.follows_live and not p.direct]
    known = []
    for placement in layout.placements:
        param = placement.param
        if not param.dynamic or param in (root.idle, root.spread):
            continue
        param.prior = dist.Normal(0.0, 1.0)
        scalars = [one for one in known if layout.placement(one).shape in ((), placement.shape)]
        scalars += [one for one in pointers if set(one.structure.dynamic_params) <= set(known)]
        fitting = [one for one in scalars if set(plates_of(layout, one)) <= set(placement.plates)]
        if fitting and 0 not in placement.shape and numbers.random() < 0.7:
            param.prior = ck.prior(dist.Normal, numbers.choice(fitting), numbers.choice([1.0, root.spread]))
        known.append(param)
    model = ck.PyroModel(root.total, likelihood=lambda total: dist.Normal(total, 1.0))
    return model.bind(torch.tensor(0.3), obs=torch.tensor(0.1))


@given(plan=plans(), numbers=st.randoms(use_true_random=False))
@settings(max_examples=25)
def test_random_graphs(plan, numbers):
    """Boxes are the plates of the trace and edges the true dependencies, whatever the graph."""
    bound = random_model(plan, numbers)
    check_boxes(bound)
    check_edges(bound)


# Pictures of graphs


def check_graph(root):
    """Compare where the free params of a graph are drawn with the plates that they lie in."""
    layout, diagram = ck.plate_layout(root), graph_diagram(root)
    drawn = {one.partition(".")[2]: plates for one, plates in diagram.plates().items()}
    free = {one.site: one.plates for one in layout.placements if one.param.dynamic}
    assert {site: drawn[site] for site in free} == free
    sizes = {plate.name: plate.size for plate in layout.plates}
    assert {name: sizes[name] for name in diagram.sizes()} == diagram.sizes()


@pytest.mark.parametrize("name", PAIRS)
def test_boxes_of_the_registry_as_graphs(name):
    """In the picture of the simulator each free param stands in the boxes of exactly its plates as well."""
    check_graph(PAIRS[name]().bound.model.module)


@given(plan=plans(), data=st.data())
@settings(max_examples=50)
def test_random_graphs_collapsed(plan, data):
    """A collapsed picture has no node, box or edge that the full one lacks, and loses only what one module owns."""
    root = build(plan).root
    check_graph(root)
    full = graph_diagram(root)
    ids = {node.id: node for node in full.nodes}
    modules = [node for node in ck.plate_layout(root).paths if isinstance(node, ck.Module) and node.children]
    chosen = data.draw(st.lists(st.sampled_from(modules), unique=True))
    small = graph_diagram(root, collapse=chosen, depth=data.draw(st.none() | st.integers(0, 3)))
    left = {node.id for node in small.nodes}
    assert left <= set(ids)
    assert len(left) == len(small.nodes)
    assert small.plates() == {node: full.plates()[node] for node in left}
    closed = {node.id for node in small.nodes if node.kind is NodeKind.COLLAPSED}
    for edge in full.edges:
        if {edge.tail, edge.head} <= left:
            assert edge in small.edges
        elif edge.tail in left and edge.kind is EdgeKind.LINK:
            assert edge.tail in closed  # only collapsed modules hide their children
    assert all({edge.tail, edge.head} <= left for edge in small.edges)


LOOKS = ("shape", "style", "peripheries", "penwidth")


@pytest.mark.parametrize(
    "kinds",
    [
        [NodeKind.LATENT, NodeKind.OBSERVED, NodeKind.PREDICTED, NodeKind.DETERMINISTIC, NodeKind.COLLAPSED],
        [NodeKind.MODULE, NodeKind.DYNAMIC, NodeKind.STATIC, NodeKind.LIVE, NodeKind.POINTER, NodeKind.COLLAPSED],
    ],
)
def test_kinds_differ_without_colour(kinds):
    """The kinds of nodes that stand in one picture differ in form or border, or in how light they are."""

    def grey(colour):
        digits = {"white": "FFFFFF"}.get(colour, colour[1:])
        red, green, blue = (int(digits[n : n + 2], 16) for n in (0, 2, 4))
        return round((0.3 * red + 0.59 * green + 0.11 * blue) / 32)

    seen = {}
    for kind in kinds:
        style = NODES[kind]
        look = (*(style.get(name) for name in LOOKS), grey(style["fillcolor"]), grey(style.get("color", "#1A1A1A")))
        assert look not in seen, f"{kind} looks like {seen[look]}"
        seen[look] = kind
