"""What a picture can be asked for: modules as one node, posteriors in the nodes, HTML; and what models alone show."""

import sys
from dataclasses import replace
from threading import Event, Thread

import caskade
import numpy as np
import pyro.distributions as dist
import pytest
import torch
import xarray as xr
from bridged import PAIRS
from pyro import poutine
from test_diagram import MODELS, Leaf, OnePlate, Shared, bound_model, state

import caskade_pyro as ck
from caskade_pyro.diagram import Box, DiagramEdge, EdgeKind, NodeKind, graph_diagram, model_diagram, render
from caskade_pyro.diagram.page import fragment
from caskade_pyro.diagram.posterior import summarise
from caskade_pyro.errors import CaskadeException
from caskade_pyro.graph.views.description import SiteDescription


def node_of(diagram, name):
    """The node of an id."""
    return next(node for node in diagram.nodes if node.id == name)


def ends(diagram):
    """The edges as pairs."""
    return {(edge.tail, edge.head) for edge in diagram.edges}


# Deterministic nodes


def with_scale(**changes):
    """The description of the three-level model in which a pointer stands between a param and a prior."""
    description = PAIRS["three_nested"]().bound.describe()
    sites = {site.name: site for site in description.sites}
    size, spread = sites["trees.branches.leaves.size"], sites["trees.branches.spread"]
    scale = SiteDescription(
        name="trees.branches.scale",
        distribution="",
        shape=(),
        plates=spread.plates,
        parents=(spread.name,),
        support="",
        deterministic=True,
    )
    parents = tuple(scale.name if one == spread.name else one for one in size.parents)
    sites |= {scale.name: replace(scale, **changes), size.name: replace(size, parents=parents)}
    return replace(description, sites=tuple(sites.values()))


def test_deterministic_nodes():
    """What is computed stands between its parents and what uses it, with a double border and a hollow arrow."""
    diagram = model_diagram(with_scale())
    scale = node_of(diagram, "trees.branches.scale")
    assert (scale.kind, scale.lines) == (NodeKind.DETERMINISTIC, ("scale", "= f(spread)"))
    assert scale.statement == "trees.branches.scale = f(spread)"
    assert diagram.plates()[scale.id] == ("trees", "trees.branches")
    assert DiagramEdge("trees.branches.spread", scale.id, EdgeKind.DETERMINISTIC) in diagram.edges
    assert DiagramEdge(scale.id, "trees.branches.leaves.size", EdgeKind.PRIOR) in diagram.edges
    source = render(diagram).source
    assert source.count("peripheries=2") == source.count("arrowhead=empty") == 1
    assert '{{"scale<br/>= f(spread)"}}:::deterministic' in render(diagram).mermaid()
    assert "border:3px double" in fragment(diagram)


def test_how_a_deterministic_node_is_computed():
    """Where the description says how a value is computed, that is shown; one without parents is set in the call."""
    written = model_diagram(with_scale(distribution="2 * spread"))
    assert node_of(written, "trees.branches.scale").lines == ("scale", "= 2 * spread")
    live = model_diagram(with_scale(parents=()))
    assert node_of(live, "trees.branches.scale").lines == ("scale", "set by the simulator")


# Crossed plates


def test_the_boxes_of_one_plate_are_seen_to_be_one():
    """A plate with two boxes has its own colour, and the second box is dashed; a plate with one box has neither."""
    diagram = bound_model("siblings").diagram().specification
    assert diagram.boxes_by_plate() == {"persons": ("persons",), "items": ("items", "persons/items")}
    lines = render(diagram).source.splitlines()
    style = {box: next(lines[n + 1] for n, line in enumerate(lines) if f"cluster_{box} " in line or f'cluster_{box}"' in line)
             for box in ("persons", "items", "persons-2f-items")}  # fmt: skip
    assert "#D55E00" not in style["persons"]
    assert 'color="#D55E00"' in style["items"]
    assert 'color="#D55E00"' in style["persons-2f-items"]
    assert ["dashed" in one for one in style.values()] == [False, False, True]
    assert "style b1 stroke:#D55E00,stroke-width:2px,stroke-dasharray:6 4" in render(diagram).mermaid()


def test_labels_stand_where_no_edges_leave():
    """The label of a box is below, but above where more edges leave the box than enter it."""
    crossed = bound_model("siblings").diagram().source
    assert crossed.count("labelloc=t") == 1
    assert crossed.index("cluster_items") < crossed.index("labelloc=t")
    assert "labelloc=t" not in bound_model("one plate").diagram().source


def test_labels_of_wide_pictures():
    """In a picture that leads to the right, edges leave a box on the right, and its label then stands on the left."""

    class Wide(ck.Module):
        def __init__(self):
            super().__init__("wide")
            self.hierarchical_link("leaves", Leaf(), size=4)
            for number in range(30):
                self.leaves.link(f"x{number}", ck.Param(f"x{number}", shape=(), prior=dist.Normal(0.0, 1.0)))

        @ck.forward
        def predict(self):
            return dist.Normal(sum(param.value.sum() for param in self.leaves.children.values()), 1.0)

    source = ck.PyroModel(Wide().predict).bind(obs=torch.tensor(1.0)).diagram().source
    assert source.count("labeljust=l") == source.count("rankdir=LR") == 1
    assert "labelloc=t" not in source


# Modules as one node


def test_a_collapsed_module():
    """A collapsed module stands in its plate for all that it owns, and edges to its params lead to it."""
    one = OnePlate()
    for given in ("leaves", "leaf", one.leaves, ["leaves"], ("leaf",)):
        diagram = graph_diagram(one, collapse=given)
        assert {node.id for node in diagram.nodes} == {"one", "one.mean", "one.scatter", "one.leaves"}
        leaf = node_of(diagram, "one.leaves")
        assert (leaf.kind, leaf.lines) == (NodeKind.COLLAPSED, ("leaf", "Leaf", "1 dynamic"))
        assert diagram.boxes == (Box("leaves", "leaves", 4, ("one.leaves",)),)
        assert DiagramEdge("one.mean", "one.leaves", EdgeKind.PRIOR) in diagram.edges
        assert one.graphviz(collapse=given).specification == diagram
    assert "style=dashed" in render(diagram).source


def lenses():
    """Two lenses in one universe: one module and one param are shared by both."""
    root, universe = ck.Module("root"), ck.Module("universe")
    universe.h0 = ck.Param("h0", 0.7)
    for name in ("first", "second"):
        lens = ck.Module(name)
        lens.universe = universe
        lens.mass = ck.Param("mass", shape=())
        lens.inner = ck.Module("inner")
        lens.inner.core = ck.Param("core", shape=())
        root.link(name, lens)
    root.second.tied = ck.Param("tied", root.first.mass)
    return root


def test_what_collapsed_modules_share_is_drawn():
    """A module that two collapsed ones use stays in the picture; a pointer between them becomes an edge between them."""
    diagram = graph_diagram(lenses(), collapse=["first", "second"])
    names = [node.id.rpartition(".")[2] for node in diagram.nodes]
    assert sorted(names) == ["first", "h0", "root", "second", "universe"]
    assert DiagramEdge("root.second", "root.first", EdgeKind.POINTER) in diagram.edges
    assert {("root.first", "root.first.universe"), ("root.second", "root.first.universe")} < ends(diagram)
    assert node_of(diagram, "root.second").lines == ("second", "Module", "2 dynamic, 1 pointer, 1 module")


def test_depth():
    """The picture goes so many links deep, and modules at its end are drawn as one node each."""
    root = lenses()
    assert [node.lines[0] for node in graph_diagram(root, depth=0).nodes] == ["root"]
    assert {node.lines[0] for node in graph_diagram(root, depth=1).nodes} == {"root", "first", "second", "universe"}
    deep = graph_diagram(root, depth=2)
    assert "inner" in {node.lines[0] for node in deep.nodes}
    assert "core" not in {node.lines[0] for node in deep.nodes}
    assert graph_diagram(root, depth=9) == graph_diagram(root)


def test_upstream_modules_collapse():
    """A graph of modules of the package caskade collapses as ours does."""
    leaf, root = caskade.Module("leaf"), caskade.Module("root")
    leaf.x = caskade.Param("x", shape=())
    root.leaf = leaf
    diagram = graph_diagram(root, depth=1)
    assert [node.lines for node in diagram.nodes] == [("root", "Module"), ("leaf", "Module", "1 dynamic")]


class UpstreamLens(caskade.Module):
    """A module of the package caskade, with a fixed param beside free ones, one of them with whole numbers as bounds."""

    def __init__(self):
        super().__init__("lens")
        self.mass = caskade.Param("mass", shape=(), units="Msun")
        self.angle = caskade.Param("angle", shape=(), valid=(0, 3), units="unitless")
        self.redshift = caskade.Param("redshift", 0.5)

    @caskade.forward
    def deflect(self, mass, angle, redshift):
        return mass * redshift + angle


def test_the_model_of_an_upstream_module():
    """A model of a module of the package caskade is drawn, and runs."""
    priors = {"mass": dist.LogNormal(0.0, 1.0)}
    model = ck.PyroModel(UpstreamLens().deflect, likelihood=lambda x: dist.Normal(x, 1.0), priors=priors)
    bound = model.bind(obs=torch.tensor(1.0))
    nodes = {node.id: node.lines for node in bound.diagram().specification.nodes}
    assert nodes == {
        "mass": ("mass [Msun]", "~ LogNormal(0, 1)"),
        "angle": ("angle", "~ Uniform(0, 3)"),
        "obs": ("obs", "~ Normal(loc, 1)"),
    }
    assert set(poutine.trace(bound).get_trace().nodes) >= set(nodes)


def test_sites_of_a_collapsed_module():
    """In a model, the sites of a collapsed module are one node in the plates that they have in common."""
    bound = PAIRS["two_nested"]().bound
    diagram = bound.diagram(collapse="schools").specification
    assert [node.id for node in diagram.nodes] == ["mean", "scatter", "noise", "/schools/schools", "obs"]
    schools = node_of(diagram, "/schools/schools")
    assert (schools.kind, schools.lines[:2]) == (NodeKind.COLLAPSED, ("schools", "3 sites:"))
    assert "schools.effect ~ Normal(mean, scale=scatter)" in schools.tooltip
    assert diagram.plates()["/schools/schools"] == ("schools",)
    assert diagram.plates()["obs"] == ("schools", "schools.pupils")
    assert ends(diagram) == {("mean", "/schools/schools"), ("scatter", "/schools/schools"), ("/schools/schools", "obs"),
                             ("noise", "obs")}  # fmt: skip
    assert bound.diagram(depth=1).specification == diagram
    assert bound.diagram(depth=5).specification == bound.diagram().specification


@pytest.mark.parametrize("depth", range(4))
@pytest.mark.parametrize("name", PAIRS)
def test_every_site_is_drawn_or_counted(name, depth):
    """At any depth each site is a node in its plates or one of those that a collapsed module counts, and data stay."""
    full = PAIRS[name]().bound.diagram().specification
    small = PAIRS[name]().bound.diagram(depth=depth).specification
    shown = {node.id for node in small.nodes if node.kind is not NodeKind.COLLAPSED}
    counted = [
        one.partition(" ")[0] for node in small.nodes if node.id not in shown for one in node.statement.split("; ")
    ]
    assert sorted([*shown, *counted]) == sorted(node.id for node in full.nodes)
    assert {node: small.plates()[node] for node in shown} == {node: full.plates()[node] for node in shown}
    assert {node.id for node in full.nodes if node.kind is NodeKind.OBSERVED} <= shown
    assert {edge for edge in full.edges if {edge.tail, edge.head} <= shown} <= set(small.edges)


def test_shared_sites_stay_outside():
    """Sites that the members of a collapsed module share stand outside of its plate, as a node of their own."""
    shared = Shared()
    shared.leaves.power = ck.Param("power", shape=(), batch_shape=(), prior=dist.LogNormal(0.0, 1.0))
    shared.leaves.mass = ck.Param("mass", shape=(), prior=dist.LogNormal(0.0, 1.0))
    diagram = ck.PyroModel(shared.predict, dims={"obs": ("leaves",)}).bind().diagram(collapse="leaf").specification
    groups = {node.id: node.lines for node in diagram.nodes if node.kind is NodeKind.COLLAPSED}
    assert groups == {
        "/leaves": ("leaves", "2 sites:", "factor, power"),
        "/leaves/leaves": ("leaves", "2 sites:", "effect, mass"),
    }
    assert diagram.plates()["/leaves"] == ()
    assert diagram.plates()["/leaves/leaves"] == ("leaves",)


def test_names_of_nothing_are_an_error():
    """A name of no module with parts is refused with those that there are, and so is a negative depth."""
    with pytest.raises(CaskadeException, match="'leafs', but the modules with parts are one, leaves"):
        OnePlate().graphviz(collapse="leafs")
    with pytest.raises(CaskadeException, match="leaves"):
        bound_model("one plate").diagram(collapse=["mean"])
    with pytest.raises(CaskadeException, match="got -1"):
        OnePlate().graphviz(depth=-1)


def test_a_large_graph_stays_readable():
    """Of a graph of a thousand nodes, a picture of depth 1 shows the modules below the root and no more."""
    root = ck.Module("root")
    for index in range(20):
        part = ck.Module(f"part{index}")
        for number in range(49):
            part.link(f"x{number}", ck.Param(f"x{number}", shape=()))
        root.link(f"part{index}", part)
    assert len(graph_diagram(root).nodes) == 1001
    picture = root.graphviz(depth=1)
    assert len(picture.specification.nodes) == 21
    assert picture.source.count("49 dynamic") == 20


# Direction


def test_wide_pictures_lead_to_the_right():
    """Where nodes beside each other would be wider than a page they stand one below the other."""
    root = ck.Module("root")
    for index in range(30):
        root.link(f"x{index}", ck.Param(f"x{index}", shape=()))
    assert "rankdir=LR" in root.graphviz().source
    assert root.graphviz().mermaid().startswith("flowchart LR")
    assert "rankdir=TB" in OnePlate().graphviz().source


# Posteriors


def draws():
    """ArviZ's way of holding draws: two chains of a scalar and of a site in a plate, and something else recorded."""
    numbers = np.random.default_rng(1)
    return xr.Dataset(
        {
            "mean": (("chain", "draw"), numbers.normal(2.0, 0.5, (2, 500))),
            "leaves.effect": (("chain", "draw", "leaves"), numbers.normal([-1.0, 0, 1, 3], 0.1, (2, 500, 4))),
            "log_likelihood": (("chain", "draw"), numbers.normal(size=(2, 500))),
        }
    )


class Inference:
    """What holds a posterior beside other groups, as ArviZ's InferenceData does."""

    posterior = draws()


@pytest.mark.parametrize("given", [Inference(), draws()])
def test_a_posterior_in_the_nodes(given):
    """Nodes with draws show mean and standard deviation, of many members the range of both, and a histogram."""
    picture = bound_model("one plate").diagram(posterior=given)
    nodes = {node.id: node for node in picture.specification.nodes}
    [mean] = nodes["mean"].summary
    assert mean.startswith(("2.0", "1.9"))
    assert mean.endswith(("± 0.49", "± 0.50", "± 0.51"))
    assert nodes["leaves.effect"].summary == ("means −1.00 to 3.00", "sds 0.10")
    assert nodes["scatter"].summary == nodes["obs"].summary == ()
    assert max(nodes["mean"].histogram) == 8
    assert len(nodes["mean"].histogram) == 12
    assert nodes["mean"].lines == bound_model("one plate").diagram().specification.nodes[0].lines
    assert picture.source.count('bgcolor="') == sum(height > 0 for n in nodes.values() for height in n.histogram)
    assert picture.pipe("svg").count(b"means ") >= 1
    assert "█" in picture.mermaid()
    assert "means −1.00 to 3.00" in picture.html()


def test_draws_in_plain_arrays():
    """A mapping from sites to arrays is taken as it is, draws first; components of a vector are written out."""
    found = summarise({"a": np.array([[1.0, 10.0], [2.0, 10.0], [3.0, 10.0]]), "b": [2, 2, 2]}, ["a", "b", "c"])
    assert found["a"].lines == ("2.0 ± 1.0, 10.00 ± 0.00",)
    assert found["b"].lines == ("2.00 ± 0.00",)
    assert found["b"].histogram == ()
    assert "c" not in found


@pytest.mark.parametrize(
    ("values", "line"),
    [
        ([np.nan, np.inf], "no finite draws"),
        ([1.0, np.nan, 3.0], "2.0 ± 1.4"),
        ([-0.001, 0.001], "0.0000 ± 0.0014"),
        ([1e9, 2e9], "1.50e+09 ± 7.07e+08"),
        ([1e-9, 3e-9], "2.00e−09 ± 1.41e−09"),
        ([1234.0, 5678.0], "3456 ± 3142"),
    ],
)
def test_numbers_of_a_summary(values, line):
    """Numbers have the digits that the standard deviation leaves; draws that are no numbers are left out."""
    assert summarise({"x": values}, ["x"])["x"].lines == (line,)


def test_a_posterior_of_another_model():
    """Draws of no site of the model are an error that names both, and what holds no draws is refused."""
    with pytest.raises(CaskadeException, match=r"draws of tau; expected some of mean, scatter, leaves\.effect"):
        bound_model("one plate").diagram(posterior={"tau": [1.0, 2.0]})
    with pytest.raises(CaskadeException, match="expects ArviZ data"):
        bound_model("one plate").diagram(posterior=3.0)


# HTML


@pytest.mark.parametrize("drawn", [True, False])
def test_a_page_of_its_own(monkeypatch, tmp_path, drawn):
    """The page shows the picture, or without Graphviz its boxes, and all nodes in words; it loads nothing."""
    if not drawn:
        monkeypatch.setenv("PATH", str(tmp_path))
        monkeypatch.setitem(sys.modules, "pygraphviz", None)
    path = tmp_path / "picture.html"
    bound_model("one plate").diagram(str(path))
    text = path.read_text(encoding="utf-8")
    assert text.startswith("<!DOCTYPE html>")
    assert ("<svg" in text) is drawn
    assert ("<i>leaves</i> = 4" in text) is not drawn
    assert "leaves.effect ~ Normal(mean, scatter)" in text
    assert "leaves = 4" in text
    assert "src=" not in text
    assert "<script" not in text


def test_a_notebook_without_graphviz_shows_boxes(monkeypatch, tmp_path):
    """Where nothing can draw, a notebook shows boxes inside of boxes, nodes with their parents, and what to install."""
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setitem(sys.modules, "pygraphviz", None)
    html = bound_model("two nested").diagram()._repr_mimebundle_()["text/html"]
    outer, inner = html.index("~ Normal(0, 1)"), html.index("<i>branches.leaves</i> = 4")
    assert outer < inner < html.index("<i>branches</i> = 3")
    assert "← branches.level" in html
    assert "pip install" in html
    crossed = bound_model("siblings").diagram()._repr_mimebundle_()["text/html"]
    assert crossed.count("dashed #D55E00") == 1


# Nothing changes


@pytest.mark.parametrize("name", MODELS)
def test_drawing_a_model_changes_nothing(name):
    """The graph of a model is the same after its diagram was drawn in every way."""
    bound = bound_model(name)
    before = state(bound.model.module)
    latents = [site.name for site in bound.plan.sites]
    bound.diagram(depth=1, posterior={name: torch.ones(3) for name in latents}).pipe("svg")
    bound.model.module.graphviz(depth=1)
    assert state(bound.model.module) == before


def test_a_diagram_during_a_call_in_another_thread():
    """While a model runs in one thread, another draws the same diagram as before."""
    entered, drawn, slow = Event(), Event(), Event()

    class Slow(ck.Module):
        def __init__(self):
            super().__init__("slow")
            self.a = ck.Param("a", prior=dist.Normal(0.0, 1.0))

        @ck.forward
        def run(self, a):
            if slow.is_set():
                slow.clear()
                entered.set()
                drawn.wait(10)
            return dist.Normal(a, 1.0)

    bound = ck.PyroModel(Slow().run).bind(obs=torch.tensor(1.0))
    before = bound.diagram().source
    slow.set()
    thread = Thread(target=bound.model.module.run, args=(torch.ones(1),))
    thread.start()
    try:
        assert entered.wait(10)
        assert bound.diagram(depth=1).source == before
    finally:
        drawn.set()
        thread.join()
