"""Pictures of graphs and of models: their parts, their boxes, and the files they are written to."""

import stat
import sys
from pathlib import Path
from threading import Event, Thread

import caskade
import numpy as np
import pyro.distributions as dist
import pytest
import torch
from pyro import poutine
from seed_models import BlobPopulation, BlobPopulation_v2, BlobPopulation_v3, Gaussian, MultiBlob, SetLiveParam

import caskade_pyro as ck
from caskade_pyro.diagram import Box, Drawing, EdgeKind, NodeKind, graph_diagram, model_diagram, render
from caskade_pyro.errors import CaskadeException, MissingDependencyError, PlateError

# The graphs of the seed document


def five_blobs():
    """Five blobs whose positions are batched."""
    G = Gaussian("G", q=1.0, phi=0.0, sigma=1.0, I0=1.0)
    G.x0 = torch.tensor([[0, 0], [3, 1], [-2, 4], [-3, -3], [1, -4]])
    return MultiBlob(G)


def six_times_five_blobs(batched_positions):
    """Six pictures of five blobs, of different width, and with positions that differ or are the same."""
    blobs = five_blobs()
    blobs.sigma = ck.Param("sigma", torch.linspace(0.5, 2, 6), shape=(), dynamic=True)
    blobs.gauss.sigma = blobs.sigma
    if batched_positions:
        blobs.gauss.x0 = np.zeros((6, 5, 2))
    return blobs


def population(kind=BlobPopulation):
    """A population whose number of members is not known before the call."""
    G = Gaussian("G", q=1.0, phi=0.0, I0=1.0)
    if kind is BlobPopulation:
        G.x0.to_dynamic([0, 0])
        G.sigma.to_dynamic(0)
        G.x0.batch_shape = (1,)
        G.sigma.batch_shape = (1,)
    else:
        G.x0.to_static()
        G.sigma.to_static()
    pop = kind(G, [0, 0], [1, 4], 0.1, 1)
    pop.to_dynamic()
    return pop


SEED_GRAPHS = {
    "live": lambda: SetLiveParam(Gaussian("G", x0=[0, 0], q=1, phi=0, I0=1.0)),
    "five": five_blobs,
    "six of five": lambda: six_times_five_blobs(batched_positions=False),
    "six times five": lambda: six_times_five_blobs(batched_positions=True),
    "population": population,
    "population, live": lambda: population(BlobPopulation_v2),
    "population, meta": lambda: population(BlobPopulation_v3),
}

# Models


class Leaf(ck.Module):
    """One member, with a quantity of its own."""

    def __init__(self, name="leaf", **options):
        super().__init__(name)
        self.effect = ck.Param("effect", shape=(), prior=dist.Normal(0.0, 1.0), units="m", **options)

    @ck.forward
    def read(self, effect):
        return effect


def normal(value):
    """What is observed of a prediction."""
    return dist.Normal(value, 1.0)


class OnePlate(ck.Module):
    """Members around a common mean."""

    def __init__(self, name="one", **options):
        super().__init__(name)
        self.hierarchical_link("leaves", Leaf(**options), size=4)
        self.mean = ck.Param("mean", prior=dist.Normal(0.0, 5.0))
        self.scatter = ck.Param("scatter", prior=dist.HalfNormal(5.0))
        self.leaves.effect.prior = ck.prior(dist.Normal, self.mean, self.scatter)

    @ck.forward
    def predict(self):
        return normal(ck.vmap(self.leaves.read)())


class Branch(ck.Module):
    """Leaves on a branch that has a level."""

    def __init__(self):
        super().__init__("branch")
        self.hierarchical_link("leaves", Leaf(), size=4)
        self.level = ck.Param("level", shape=(), prior=dist.Normal(0.0, 1.0))
        self.leaves.effect.prior = ck.prior(dist.Normal, self.level, 1.0)

    @ck.forward
    def read(self):
        return ck.vmap(self.leaves.read)()


class Nested(ck.Module):
    """Leaves on branches."""

    def __init__(self):
        super().__init__("tree")
        self.hierarchical_link("branches", Branch(), size=3)

    @ck.forward
    def predict(self):
        return normal(ck.vmap(self.branches.read)())


class Shared(OnePlate):
    """Members that share a factor, which stands in the module of the member."""

    def __init__(self):
        super().__init__("shared")
        self.leaves.factor = ck.Param("factor", shape=(), batch_shape=(), prior=dist.LogNormal(0.0, 1.0))

    @ck.forward
    def predict(self):
        return normal(ck.vmap(self.leaves.read)() * self.leaves.factor.value)


class Siblings(ck.Module):
    """Persons who answer items: two plates side by side that cross in the data."""

    def __init__(self):
        super().__init__("exam")
        self.hierarchical_link("persons", Leaf("person"), size=5)
        self.hierarchical_link("items", Leaf("item"), size=3)

    @ck.forward
    def predict(self):
        return normal(ck.vmap(self.persons.read)()[:, None] - ck.vmap(self.items.read)())


class Replicates(ck.Module):
    """The whole model twice."""

    def __init__(self):
        super().__init__("twice")
        self.hierarchical_link("leaves", Leaf(batch_shape=(2, 4)), size=4)
        self.mean = ck.Param("mean", shape=(), batch_shape=(2,), prior=dist.Normal(0.0, 5.0))
        self.leaves.effect.prior = ck.prior(dist.Normal, self.mean, 1.0)

    @ck.forward
    def predict(self):
        return normal(ck.vmap(self.leaves.read)() + self.mean.value)


MODELS = {
    "one plate": (OnePlate, ("leaves",)),
    "two nested": (Nested, ("branches", "branches.leaves")),
    "shared param": (Shared, ("leaves",)),
    "siblings": (Siblings, ("persons", "items")),
    "outer batch": (Replicates, ("leaves",)),
}


def bound_model(name):
    """A model of the registry with data, drawn from itself."""
    kind, dims = MODELS[name]
    model = ck.PyroModel(kind().predict, dims={"obs": dims})
    obs = poutine.trace(model).get_trace().nodes["obs"]["value"]
    return model.bind(obs=obs.detach().squeeze())


def kinds(diagram):
    """What each node stands for, by the last part of its path."""
    return {node.id.rpartition(".")[2]: node.kind for node in diagram.nodes}


def param_plates(diagram):
    """The plates around every param of a graph, by the path below the root."""
    modules = {node.id for node in diagram.nodes if node.kind is NodeKind.MODULE}
    return {one.partition(".")[2]: plates for one, plates in diagram.plates().items() if one not in modules}


# Graphs


@pytest.mark.parametrize("name", SEED_GRAPHS)
def test_every_node_and_link_is_drawn_once(name):
    """The picture has every node and every link of the graph, once."""
    root = SEED_GRAPHS[name]()
    diagram = graph_diagram(root)
    nodes = root.topological_ordering()
    assert len({node.id for node in diagram.nodes}) == len(diagram.nodes) == len(nodes)
    links = sum(len(node.children) for node in nodes)
    assert len(set(diagram.edges)) == len(diagram.edges) == links
    boxed = [node for box, _ in diagram.walk() for node in box.nodes]
    assert len(set(boxed)) == len(boxed)


def test_styles_of_the_roles():
    """Dynamic params are white, fixed ones grey, live ones grey with a black border; pointers are arrows."""
    root = SEED_GRAPHS["live"]()
    root.p = ck.Param("p", root.a)
    diagram = graph_diagram(root)
    found = kinds(diagram)
    assert {found[name] for name in ("SetLiveParam", "gaussian")} == {NodeKind.MODULE}
    assert (found["a"], found["b"], found["c"], found["p"]) == (
        NodeKind.DYNAMIC,
        NodeKind.STATIC,
        NodeKind.LIVE,
        NodeKind.POINTER,
    )
    assert found["sigma"] is NodeKind.LIVE
    lines = render(diagram).source.splitlines()
    style = {name: next(line for line in lines if f'"SetLiveParam.{name}" [' in line) for name in "abcp"}
    ink, grey = 'color="#1A1A1A"', 'color="#E0E0E0"'
    assert f"node [{ink}" in "\n".join(lines)  # the border where a node names no other
    assert "fillcolor=white" in style["a"]
    assert "shape=box" in style["a"]
    assert style["b"].count(grey) == 2  # border and filling
    assert f"fill{grey}" in style["c"]
    assert style["c"].count(grey) == 1
    assert "shape=rarrow" in style["p"]


def test_boxes_of_the_seed_graphs():
    """What is batched stands in a box with its size; what the root owns, and the root's own batch, does not."""
    boxes = {name: graph_diagram(make()).boxes for name, make in SEED_GRAPHS.items()}
    inside = tuple(f"MultiBlob.gauss{end}" for end in ("", ".x0", ".q", ".phi", ".sigma", ".I0"))
    assert boxes["five"] == (Box("gauss", "gauss", 5, inside),)
    assert boxes["six of five"] == (
        Box("gauss", "gauss", 5, inside),
        Box("MultiBlob", "MultiBlob", 6, ("MultiBlob.sigma",)),
    )
    inner = Box("MultiBlob/gauss", "gauss", 5, inside)
    assert boxes["six times five"] == (Box("MultiBlob", "MultiBlob", 6, ("MultiBlob.sigma",), (inner,)),)
    assert boxes["live"] == boxes["population, live"] == boxes["population, meta"] == ()


def test_a_population_of_unknown_size_has_a_box():
    """A hierarchical link is a box with its name alone as long as nothing tells the number of members."""
    [box] = graph_diagram(population()).boxes
    assert (box.label, box.size) == ("gauss", None)
    assert {"BlobPopulation.gauss.x0", "BlobPopulation.gauss.sigma"} < set(box.nodes)
    live = population(BlobPopulation_v2)
    gauss = live.gauss
    live.unlink("gauss")
    live.hierarchical_link("gauss", gauss)
    assert graph_diagram(live).boxes[0].label == "gauss"


@pytest.mark.parametrize("name", MODELS)
def test_boxes_of_graphs_are_the_plates(name):
    """The boxes are the plates of the layout, and each free param stands in the boxes of exactly its plates."""
    root = MODELS[name][0]()
    layout, diagram = ck.plate_layout(root), graph_diagram(root)
    assert diagram.sizes() == {plate.name: plate.size for plate in layout.plates}
    assert param_plates(diagram) == {placement.site: placement.plates for placement in layout.placements}


def test_a_shared_param_stands_outside():
    """A free param of the repeated module that its members share is drawn outside of the box, the module inside."""
    plates = graph_diagram(Shared()).plates()
    assert plates["shared.leaves.factor"] == ()
    assert plates["shared.leaves"] == plates["shared.leaves.effect"] == ("leaves",)


def test_a_param_of_the_inner_plate_only():
    """A param that is not repeated along the outer plate stands in a box of the inner one alone."""
    tree = Nested()
    tree.branches.leaves.effect.batch_shape = (1, 4)
    tree.branches.leaves.mass = ck.Param("mass", shape=())
    plates = graph_diagram(tree).plates()
    assert plates["tree.branches.leaves.effect"] == ("branches.leaves",)
    assert plates["tree.branches.leaves.mass"] == ("branches", "branches.leaves")


def test_a_fixed_param_stands_with_its_module():
    """Constants, of each member or of all, are drawn with the module that is repeated."""
    one = OnePlate()
    one.leaves.error = ck.Param("error", [1.0, 2.0, 3.0, 4.0], shape=())
    one.leaves.scale = ck.Param("scale", 2.0, shape=())
    plates = graph_diagram(one).plates()
    assert plates["one.leaves.error"] == plates["one.leaves.scale"] == ("leaves",)


def test_a_plate_without_nodes_keeps_its_box():
    """A module that is also linked without a plate is drawn there, and its plate is an empty box."""
    root, middle, leaf = ck.Module("root"), ck.Module("middle"), Leaf()
    root.middle = middle
    middle.hierarchical_link("leaves", leaf)
    root.leaf = leaf
    picture = Drawing().graph(root)
    assert picture.specification.boxes == (Box("middle.leaves", "middle.leaves", None),)
    assert b"middle.leaves" in picture.pipe("svg")


def test_arguments_of_priors_are_edges():
    """An edge leads from a param to each free param whose prior uses it; a fixed one has no use for its prior."""
    one = OnePlate()
    edges = {(e.tail, e.head) for e in graph_diagram(one).edges if e.kind is EdgeKind.PRIOR}
    assert edges == {("one.mean", "one.leaves.effect"), ("one.scatter", "one.leaves.effect")}
    line = next(line for line in one.graphviz().source.splitlines() if '"one.mean" -> "one.leaves.effect"' in line)
    assert "style=dashed" in line
    one.leaves.effect.to_static(1.0)
    assert not [e for e in graph_diagram(one).edges if e.kind is EdgeKind.PRIOR]


def test_pointers_have_edges_of_their_own():
    """A pointer's edge to its target is another kind than a link."""
    edges = {e.kind: (e.tail, e.head) for e in graph_diagram(six_times_five_blobs(batched_positions=False)).edges}
    assert edges[EdgeKind.POINTER] == ("MultiBlob.gauss.sigma", "MultiBlob.sigma")


def test_plates_that_contradict_each_other_are_an_error():
    """A graph whose sizes disagree cannot be drawn, and the error names the plate."""
    one = OnePlate()
    one.leaves.mass = ck.Param("mass", torch.zeros(5), shape=(), dynamic=True)
    with pytest.raises(PlateError, match="leaves"):
        one.graphviz()


def test_a_param_alone_can_be_drawn():
    """A param is a graph of one node, in a box if it is batched."""
    picture = ck.Param("x", torch.zeros(3), shape=(), dynamic=True).graphviz()
    assert picture.specification.boxes == (Box("x", "x", 3, ("x",)),)


def test_identical_graphs_give_identical_pictures():
    """Equal graphs have equal specifications and the same source, letter by letter; others do not."""
    first, second = graph_diagram(Nested()), graph_diagram(Nested())
    assert first == second
    assert render(first).source == render(second).source
    assert hash(first) == hash(second)
    assert first != graph_diagram(OnePlate())


def test_a_ladder_of_diamonds():
    """A thousand diamonds one above the other are drawn, each link once, without recursion."""
    top = node = ck.Module("top")
    for index in range(1000):
        left, right, bottom = (ck.Module(f"{side}{index}") for side in ("left", "right", "bottom"))
        node.left, node.right = left, right
        left.bottom = right.bottom = bottom
        node = bottom
    node.x = ck.Param("x")
    limit = sys.getrecursionlimit()
    sys.setrecursionlimit(300)
    try:
        source, text = top.graphviz().source, top.graphviz().mermaid()
    finally:
        sys.setrecursionlimit(limit)
    assert source.count("->") == text.count("-->") == 4001


# Nothing changes


def state(root):
    """All that a picture could change: links, roles, values, shapes, plates."""
    nodes = root.topological_ordering()
    links = [(node, tuple(node.children.items()), tuple(node.parents), dict(node.plate_declarations)) for node in nodes]
    params = [node for node in nodes if isinstance(node, ck.Param)]
    return links, [(p.role, p.stored_value, p.declared_shape, p.declared_batch_shape, p.prior) for p in params]


@pytest.mark.parametrize("name", [*SEED_GRAPHS, *MODELS])
def test_drawing_changes_nothing(name):
    """The graph is the same before and after it was drawn."""
    root = SEED_GRAPHS[name]() if name in SEED_GRAPHS else MODELS[name][0]()
    before = state(root)
    root.graphviz().pipe("svg")
    assert state(root) == before


def test_drawing_runs_no_function_of_a_pointer():
    """A pointer is drawn without computing its value."""

    def refuse(_):
        raise AssertionError("drawing ran a pointer's function")

    module = ck.Module("m")
    module.p = ck.Param("p", refuse)
    assert kinds(module.graphviz().specification)["p"] is NodeKind.POINTER


def test_drawing_during_a_call_in_another_thread():
    """While a call runs in one thread, another draws the same picture as before."""
    entered, drawn = Event(), Event()

    class Slow(ck.Module):
        def __init__(self):
            super().__init__("slow")
            self.a = ck.Param("a")
            self.live = ck.Param("live_value", None, dynamic=False)

        @ck.forward
        def run(self, a):
            self.live.value = a
            entered.set()
            drawn.wait(10)
            return a

    slow = Slow()
    before = graph_diagram(slow)
    thread = Thread(target=slow.run, args=(torch.ones(1),))
    thread.start()
    try:
        assert entered.wait(10)
        assert graph_diagram(slow) == before
    finally:
        drawn.set()
        thread.join()


# Models


@pytest.mark.parametrize("name", MODELS)
def test_boxes_of_models_are_the_plates_of_the_trace(name):
    """Names, sizes, nesting and members of the boxes equal those of the plates in a Pyro trace."""
    bound = bound_model(name)
    diagram = model_diagram(bound.describe())
    sites = {
        site: sorted(node["cond_indep_stack"], key=lambda frame: frame.dim)
        for site, node in poutine.trace(bound).get_trace().nodes.items()
        if node["type"] == "sample" and type(node["fn"]).__name__ != "_Subsample"
    }
    assert diagram.plates() == {site: tuple(frame.name for frame in frames) for site, frames in sites.items()}
    assert diagram.sizes() == {frame.name: frame.size for frames in sites.values() for frame in frames}
    assert bound.diagram().specification == diagram


def test_nodes_of_a_model():
    """A site shows its name within its plate, its distribution, its shape and its units; data are shaded."""
    bound = bound_model("one plate")
    nodes = {node.id: node for node in bound.diagram().specification.nodes}
    assert nodes["mean"].lines == ("mean", "~ Normal(0, 5)")
    assert nodes["leaves.effect"].lines == ("effect [m]", "~ Normal(mean, scatter)")
    assert nodes["leaves.effect"].tooltip.startswith("leaves.effect\n")
    assert nodes["obs"].lines == ("obs", "~ Normal(effect, 1)")
    assert [node.kind for node in nodes.values()] == [NodeKind.LATENT] * 3 + [NodeKind.OBSERVED]
    unseen = ck.PyroModel(OnePlate().predict, dims={"obs": ("leaves",)}).bind()
    assert unseen.diagram().specification.nodes[-1].kind is NodeKind.PREDICTED
    assert "dashed" in unseen.diagram().source


def test_a_shared_site_keeps_its_full_name():
    """Outside of its plate a site is named by its whole path, so that nobody wonders whose it is."""
    nodes = {node.id: node for node in bound_model("shared param").diagram().specification.nodes}
    assert nodes["leaves.factor"].lines[0] == "leaves.factor"


def test_edges_of_a_model():
    """Edges lead from the arguments of a prior to its site, and from what enters the forward method to the data."""
    edges = {(e.tail, e.head, e.kind) for e in bound_model("one plate").diagram().specification.edges}
    assert edges == {
        ("mean", "leaves.effect", EdgeKind.PRIOR),
        ("scatter", "leaves.effect", EdgeKind.PRIOR),
        ("leaves.effect", "obs", EdgeKind.FORWARD),
    }


def test_crossed_plates():
    """A node in two crossed plates stands in a box of each."""
    diagram = bound_model("siblings").diagram().specification
    assert [box.label for box in diagram.boxes] == ["persons = 5", "items = 3"]
    assert diagram.boxes[0].boxes == (Box("persons/items", "items", 3, ("obs",)),)


# Files


@pytest.fixture
def no_dot(monkeypatch, tmp_path):
    """A machine without Graphviz."""
    monkeypatch.setenv("PATH", str(tmp_path / "nothing"))


@pytest.mark.parametrize(
    ("ending", "start"),
    [(".svg", b"<?xml"), (".png", b"\x89PNG"), (".pdf", b"%PDF"), (".dot", b"digraph"), (".mmd", b"flowchart")],
)
def test_files_without_dot(no_dot, tmp_path, ending, start):
    """Every format is written on a machine without Graphviz, for graphs and for models."""
    for draw in (Nested().graphviz, bound_model("two nested").diagram):
        path = tmp_path / f"picture{ending}"
        draw(str(path))
        assert path.read_bytes().startswith(start)


def test_a_picture_shows_itself_without_dot(no_dot, tmp_path):
    """In a notebook the picture is an SVG with the plates' labels, and Graphviz's own methods work."""
    picture = Nested().graphviz()
    svg = picture._repr_mimebundle_()["image/svg+xml"]
    assert svg.startswith("<?xml")
    assert "branches.leaves" in svg
    assert picture.pipe("svg", encoding="utf-8") == svg
    written = Path(picture.render("tree", directory=tmp_path, format="png", cleanup=True))
    assert written == tmp_path / "tree.png"
    assert written.read_bytes().startswith(b"\x89PNG")
    assert not (tmp_path / "tree").exists()


def test_nothing_that_draws(no_dot, tmp_path, monkeypatch):
    """Without any Graphviz the error says what to install, a notebook shows that, and the source can be saved."""
    monkeypatch.setitem(sys.modules, "pygraphviz", None)
    picture = OnePlate().graphviz()
    with pytest.raises(MissingDependencyError, match=r"pip install caskade_pyro\[diagram\]"):
        picture.save_as(tmp_path / "a.svg")
    assert not (tmp_path / "a.svg").exists()
    assert "pip install" in picture._repr_mimebundle_()["text/plain"]
    picture.save_as(tmp_path / "a.dot")
    assert (tmp_path / "a.dot").read_text() == picture.source


@pytest.mark.skipif(sys.platform == "win32", reason="the stand-in for dot is a shell script")
def test_the_systems_dot_is_used(monkeypatch, tmp_path):
    """Where there is a `dot`, it is given the source and its output is the file; its errors are shown."""
    dot = tmp_path / "dot"
    dot.write_text('#!/bin/sh\necho "$@"\nread first\necho "$first"\n')
    dot.chmod(dot.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setenv("PATH", str(tmp_path))
    OnePlate().graphviz(str(tmp_path / "a.png"))
    assert (tmp_path / "a.png").read_text() == "-Tpng -Gdpi=192\ndigraph one {\n"
    dot.write_text("#!/bin/sh\necho no such thing >&2\nexit 1\n")
    with pytest.raises(CaskadeException, match="no such thing"):
        OnePlate().graphviz(str(tmp_path / "b.svg"))
    assert not (tmp_path / "b.svg").exists()


@pytest.mark.parametrize("name", ["picture", "picture.tiff"])
def test_an_unknown_format_is_an_error(tmp_path, name):
    """A name without a known ending is refused, with the endings that there are."""
    with pytest.raises(CaskadeException, match=r"\.svg, \.png, \.pdf"):
        OnePlate().graphviz(str(tmp_path / name))


def test_names_that_graphviz_would_misread():
    """Names of data with signs that mean something to Graphviz or to HTML are shown as they are."""

    class Odd(ck.Module):
        def __init__(self):
            super().__init__("odd")
            self.x = ck.Param("x", prior=dist.Normal(0.0, 1.0), units="<&>")

        @ck.forward
        def predict(self, x):
            return {"flux:a <1>": normal(x)}

    picture = ck.PyroModel(Odd().predict).bind(obs={"flux:a <1>": torch.tensor(1.0)}).diagram()
    assert len(picture.specification.edges) == 1
    svg = picture.pipe("svg", encoding="utf-8")
    assert svg.count('class="node"') == 2
    assert "flux:a &lt;1&gt;" in svg
    assert 'n1(["flux:a #lt;1#gt;' in picture.mermaid()


def test_mermaid():
    """The same picture as a Mermaid flowchart, plates as subgraphs inside of subgraphs."""
    text = Nested().graphviz().mermaid()
    assert text.index('subgraph b0["branches = 3"]') < text.index('subgraph b1["branches.leaves = 4"]')
    assert text.count("\n    end\n") == text.count("\n  end\n") == 1


# The package caskade


class UpstreamLeaf(caskade.Module):
    def __init__(self):
        super().__init__("leaf")
        self.effect = caskade.Param("effect", torch.zeros(4), shape=(), dynamic=True)
        self.fixed = caskade.Param("fixed", 1.0)
        self.set_later = caskade.Param("set_later", None, dynamic=False)
        self.tied = caskade.Param("tied", self.fixed)


class UpstreamRoot(caskade.Module):
    def __init__(self):
        super().__init__("root")
        self.hierarchical_link("leaves", UpstreamLeaf())
        self.mean = caskade.Param("mean", shape=())


def ours():
    """The same graph as the one of upstream's classes, in ours."""
    leaf, root = ck.Module("leaf"), ck.Module("root")
    leaf.effect = ck.Param("effect", torch.zeros(4), shape=(), dynamic=True)
    leaf.fixed = ck.Param("fixed", 1.0)
    leaf.set_later = ck.Param("set_later", None, dynamic=False)
    leaf.tied = ck.Param("tied", leaf.fixed)
    root.hierarchical_link("leaves", leaf)
    root.mean = ck.Param("mean", shape=())
    return root


def test_upstream_modules_give_the_same_picture():
    """A graph of modules of the package caskade has the nodes, edges and boxes of the same graph in ours."""
    upstream, own = graph_diagram(UpstreamRoot()), graph_diagram(ours())
    assert upstream.boxes == own.boxes
    assert {(node.id, node.kind) for node in upstream.nodes} == {(node.id, node.kind) for node in own.nodes}
    assert set(upstream.edges) == set(own.edges)
    assert Drawing().graph(UpstreamRoot()).source.startswith("digraph root {")
