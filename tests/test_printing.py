"""Graphs as text and as HTML."""

from html.parser import HTMLParser

import pyro.distributions as dist
import pytest
import torch

import caskade_pyro as ck


def survey():
    galaxy = ck.Module("galaxy")
    galaxy.x0 = ck.Param("x0", shape=(2,), units="pixel", prior=dist.Normal(0.0, 1.0))
    galaxy.flux = ck.Param("flux", shape=())
    module = ck.Module("survey")
    module.hierarchical_link("galaxies", galaxy, size=58)
    module.mean = ck.Param("mean", 0.5, dynamic=True, valid=(0.0, None))
    galaxy.flux.prior = ck.prior(dist.Normal, module.mean, 1.0)
    module.angle = ck.Param("angle", 1 / 3, valid=(0.0, 2.0), cyclic=True, units="rad")
    module.image = ck.Param("image", torch.linspace(0, 1, 20).reshape(4, 5))
    module.each = ck.Param("each", [[1.0, 2.0], [3.0, 4.0]], shape=(2,))
    module.tie = ck.Param("tie", module.mean)
    module.computed = ck.Param("computed", lambda p: p.mean.value / 0, link=module.mean)
    module.live = ck.Param("live", None, dynamic=False)
    module.parts = [galaxy, module.mean]
    return module


TEXT = """\
survey|Module
    galaxies|Module, plate of 58
        x0|dynamic; shape (2,), units pixel, prior Normal(0, 1)
        flux|dynamic; prior Normal(mean, 1)
    mean|dynamic = 0.5; valid 0 to inf
    angle|static = 0.3333 rad; circle 0 to 2
    image|static = 20 entries from 0 to 1; shape (4, 5)
    each|static = [[1, 2], [3, 4]]; shape (2,), batch (2,)
    tie|pointer -> mean
        mean|dynamic (shared, shown at mean)
    computed|pointer -> function of mean
        mean|dynamic (shared, shown at mean)
    live|static, live
    parts|NodeList
        galaxy|Module (shared, shown at galaxies)
        mean|dynamic (shared, shown at mean)"""


def test_the_printed_graph(capsys):
    """Printing a module shows each node once, with roles, values, shapes, units, bounds, priors and plates."""
    print(survey())  # noqa: T201
    assert capsys.readouterr().out == TEXT + "\n"


def test_a_node_in_a_sentence_is_short():
    """A node in a list or an f-string shows its short form, not its graph."""
    module = survey()
    assert f"{module} {module.mean} {[module.parts]}" == "Module(survey) mean [NodeList(parts)[2]]"
    assert f"{module.mean:>6}" == "  mean"


def test_same_named_siblings_are_both_shown():
    """Two siblings of one name stand on a line each."""
    module = ck.Module("m")
    module.first = ck.Param("p", 1.0)
    module.second = ck.Param("p", 2.0)
    assert str(module) == "m|Module\n    first|static = 1\n    second|static = 2"


def test_a_graph_with_a_mistake_prints_all_the_same():
    """A graph whose plates disagree can be looked at, and the size of the plate is left open."""
    child = ck.Module("child")
    child.a = ck.Param("a", torch.ones(3), shape=(), dynamic=True)
    child.b = ck.Param("b", torch.ones(4), shape=(), dynamic=True)
    module = ck.Module("m")
    module.hierarchical_link("members", child)
    with pytest.raises(ck.PlateError):
        ck.plate_layout(module)
    assert "members|Module, plate of ?" in str(module)
    child.unlink("b")
    assert "members|Module, plate of 3" in str(module)


def test_unusual_values():
    """Values that are no plain numbers are told in short."""
    module = ck.Module("m")
    values = {
        "nan": torch.tensor(float("nan")),
        "some": torch.tensor([float("inf"), *range(9)]),
        "none": torch.full((9,), float("nan")),
        "empty": torch.zeros(0),
        "truth": torch.tensor([True, False]),
        "whole": torch.arange(20),
        "complex": torch.ones(9, dtype=torch.complex64),
    }
    for name, value in values.items():
        setattr(module, name, ck.Param(name, value))
    lines = [line.split(";")[0].strip() for line in str(module).splitlines()[1:]]
    assert lines == [
        "nan|static = nan",
        "some|static = 10 entries from 0 to 8, 1 not finite",
        "none|static = 9 entries, none finite",
        "empty|static = []",
        "truth|static = [True, False]",
        "whole|static = 20 entries from 0 to 19",
        "complex|static = 9 entries",
    ]


class Tags(HTMLParser):
    """Checks that all tags are closed, and collects the text of the cells of each row."""

    def __init__(self, text):
        super().__init__()
        self.open, self.rows = [], []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag, attrs):
        """A tag is opened."""
        self.open.append(tag)
        if tag == "tr":
            self.rows.append([])
        if tag in ("td", "th"):
            self.rows[-1].append("")

    def handle_endtag(self, tag):
        """A tag is closed: the one that was opened last."""
        assert self.open.pop() == tag

    def handle_data(self, data):
        """Text."""
        if self.rows and self.rows[-1]:
            self.rows[-1][-1] += data.strip()


def test_the_notebook_view_shows_the_same_rows():
    """The table has a row for each line of the printed graph, under the same keys."""
    module = survey()
    table = Tags(module._repr_html_())
    assert not table.open
    assert [row[0] for row in table.rows[1:]] == [line.strip().split("|")[0] for line in TEXT.splitlines()]
    assert table.rows[1:][2] == ["x0", "dynamic", "", "(2,)", "", "pixel", "", "Normal(0, 1)"]
    assert table.rows[1:][5] == ["angle", "static", "0.3333", "", "", "rad", "0 to 2, cyclic", ""]
    assert table.rows[1:][-1] == ["mean", "dynamic, shared: shown at mean"]


def test_the_notebook_view_escapes():
    """Text that users give cannot become part of the page."""
    param = ck.Param("p", 1.0, units="<script>alert('x')</script>")
    assert "<script>" not in param._repr_html_()
    assert "&lt;script&gt;" in param._repr_html_()


def test_printing_during_a_call_shows_what_the_graph_holds():
    """A print inside a forward method shows the graph, whose values a call does not change."""

    class Line(ck.Module):
        def __init__(self):
            super().__init__("line")
            self.slope = ck.Param("slope", 1.0, dynamic=True)

        @ck.forward
        def show(self):
            return str(self)

    assert Line().show(torch.tensor([5.0])) == "line|Line\n    slope|dynamic = 1"


def test_a_thousand_diamonds_print():
    """A ladder of 1,000 diamonds prints, each node once, in a text that grows linearly."""
    sizes = []
    for levels in (100, 1000):
        top = current = ck.Module("top")
        for _ in range(levels):
            current.left, current.right, joint = ck.Module("left"), ck.Module("right"), ck.Module("joint")
            current.left.joint = current.right.joint = joint
            current = joint
        text, html = str(top), top._repr_html_()
        assert len(text.splitlines()) == 1 + 4 * levels
        sizes.append((len(text), len(html)))
    assert all(large < 15 * small for small, large in zip(*sizes, strict=True))
