"""The cost of everything that walks over a graph grows with its nodes and links, not with the number of paths."""

import pytest
import torch

import caskade_pyro as ck


class Rung(ck.Module):
    """A joint of the ladder: a value, and two sides that both lead to the next joint."""

    def __init__(self, name):
        super().__init__(name)
        self.a = ck.Param("a", 1.0, shape=(), dynamic=True)

    @ck.forward
    def total(self, a):
        return a


def ladder(levels, top_down=False):
    """A ladder of diamonds, which has two to the power of its levels paths from the top to the bottom."""
    rungs = [Rung(f"rung{level}") for level in range(levels + 1)]
    pairs = list(zip(rungs[1:], rungs[:-1], strict=True))
    for upper, lower in reversed(pairs) if top_down else pairs:
        left, right = ck.Module("left"), ck.Module("right")
        if top_down:
            upper.link([left, right])
        for side in (left, right):
            side.link("below", lower)
        if not top_down:
            upper.link([left, right])
    return rungs[-1]


def top_down(levels):
    return ladder(levels, top_down=True)


def called(top, _):
    top.total(torch.ones(len(top.dynamic_params)))


def set_values(top, _):
    top.set_values(torch.zeros(len(top.dynamic_params)))


def relinked(top, _):
    (bottom,) = top.topological_ordering()[-1].parents
    extra = ck.Param("extra")
    for node in (bottom, top):
        node.link(extra)
        assert extra in top.dynamic_params
        node.unlink(extra)


def loaded(top, path):
    top.save_state(path)
    top.load_state(path)


USES = {
    "call": called,
    "get_values": lambda top, _: top.get_values(),
    "get_values as dict": lambda top, _: top.get_values("dict"),
    "set_values": set_values,
    "to": lambda top, _: top.to(dtype=torch.float64),
    "print": lambda top, _: str(top),
    "repr_html": lambda top, _: top._repr_html_(),
    "graphviz": lambda top, _: top.graphviz().source,
    "plate_layout": lambda top, _: ck.plate_layout(top),
    "relink": relinked,
    "save_state": lambda top, path: top.save_state(path),
    "save_state and load_state": loaded,
}
BUILDS = {"bottom up": ladder, "top down": top_down}


class Visits:
    """Counts how often nodes are asked for what they are linked to."""

    def __init__(self, monkeypatch):
        self.count = 0
        for name in ("children", "parents", "subgraphs"):
            getter = getattr(ck.Node, name).fget
            monkeypatch.setattr(ck.Node, name, property(self.counting(getter)))

    def counting(self, getter):
        def counted(node):
            self.count += 1
            return getter(node)

        return counted


def visits(monkeypatch, build, use, levels, path):
    """The number of visits that a use of a ladder takes; of building it, if no use is given."""
    top = None if use is None else build(levels)
    with monkeypatch.context() as patch:
        counter = Visits(patch)
        if use is None:
            build(levels)
        else:
            use(top, path)
        return counter.count


@pytest.mark.parametrize(
    ("build", "use"),
    [(build, None) for build in BUILDS] + [("bottom up", use) for use in USES],
    ids=[f"built {build}" for build in BUILDS] + list(USES),
)
def test_visits_grow_with_the_nodes(build, use, monkeypatch, tmp_path):
    """Ten times the levels take about ten times the visits, at 10, 100 and 1,000 levels."""
    few, some, many = (
        visits(monkeypatch, BUILDS[build], USES.get(use), levels, str(tmp_path / f"{levels}.h5"))
        for levels in (10, 100, 1000)
    )
    assert few > 0
    assert some <= 12 * few
    assert many <= 12 * some
