"""Copies of graphs: alike, independent, whole, and of any depth."""

import copy
import gc
import io
import pickle
from pickle import _dumps as python_dumps

import hypothesis.strategies as st
import pyro.distributions as dist
import pytest
import torch
from hypothesis import given

import caskade_pyro as ck
from caskade_pyro.graph.nodes import copying


def doubled(param):
    return 2 * param.a.value


class Part(ck.Module):
    def __init__(self, name=None):
        super().__init__(name)
        self.a = ck.Param("a", 1.0, shape=(), dynamic=True, valid=(0.0, 5.0), units="m")
        self.double = ck.Param("double", doubled, link=self.a)

    @ck.forward
    def value(self, a, double):
        return a + double


class Copying(Part):
    @ck.forward
    def run(self):
        assert self.double.value == 20
        return self.copied(self)


class Odd(ck.Param):
    """A param whose constructor has another signature."""

    def __init__(self, power, note):
        super().__init__(f"odd_{power}", 2.0**power, shape=())
        self.note = note


class Whole(ck.Module):
    def __init__(self, prior=True):
        super().__init__("whole")
        self.left, self.right = Part("left"), Part("right")
        self.right.b = ck.Param("b", self.left.a)
        self.shared = self.left.a
        self.parts = [Part("x"), Part("y"), self.left]
        self.pair = (Part("x"), self.right)
        self.table = {"k": Part("z"), "l": self.left}
        self.hierarchical_link("members", Part("member"), size=3)
        self.odd = Odd(3, note=["n"])
        self.meta.aside = Part("aside")
        if prior:
            self.members.a.prior = ck.prior(dist.Normal, self.left.a, 1.0)
            self.left.a.prior = dist.Normal(0.0, torch.tensor(2.0))

    @ck.forward
    def total(self):
        return self.left.value() + 10 * self.right.value() + ck.vmap(self.members.value)().sum()


def pickled(node, protocol=pickle.HIGHEST_PROTOCOL):
    return pickle.loads(pickle.dumps(node, protocol))


def python_pickled(node):
    return pickle.loads(python_dumps(node))


def with_torch(node):
    file = io.BytesIO()
    torch.save(node, file)
    file.seek(0)
    return torch.load(file, weights_only=False)


COPIES = {"deepcopy": copy.deepcopy, "pickle": pickled, "python": python_pickled, "torch": with_torch}
copies = pytest.mark.parametrize("copied", COPIES.values(), ids=COPIES.keys())


def description(root):
    """All that there is to compare of a graph: nodes in order, links, parents, params."""
    order = root.topological_ordering()
    number = {node: i for i, node in enumerate(order)}
    lines = []
    for node in order:
        links = {key: number[child] for key, child in node.children.items()}
        parents = [number[parent] for parent in node.parents if parent in number]
        plates = dict(node.plate_declarations)
        row = [type(node), node.name, links, parents, plates]
        if isinstance(node, ck.Param):
            row += [node.role, node.shape, node.batch_shape, str(node.valid), node.units, str(node.prior)]
            row += [None if node.stored_value is None else node.stored_value.tolist()]
        if isinstance(node, (list, tuple)):
            row += [[number[member] for member in node]]
        lines.append(row)
    return lines


@copies
def test_a_copy_is_alike(copied):
    """Nodes, links, names, plates, values, bounds and priors of the copy are those of the original."""
    whole = Whole()
    whole.total(torch.ones(9))
    before = description(whole)
    new = copied(whole)
    assert description(new) == before
    assert description(whole) == before
    assert set(new.topological_ordering()).isdisjoint(whole.topological_ordering())
    assert repr(ck.plate_layout(new)) == repr(ck.plate_layout(whole))
    torch.testing.assert_close(new.total(torch.arange(9.0) / 2), whole.total(torch.arange(9.0) / 2))


@copies
def test_a_copy_is_independent(copied):
    """Values, roles and links of the copy change without the original, and the other way round."""
    whole = Whole()
    new = copied(whole)
    before = description(whole)
    new.left.a = 3.0
    new.left.a.value.mul_(2)
    new.right.a.to_static()
    new.parts.append(ck.Module("more"))
    del new.pair
    new.odd.note.append("m")
    assert description(whole) == before
    assert whole.odd.note == ["n"]
    assert new.left.double.value == 12


@copies
def test_shared_nodes_stay_shared(copied):
    """A node that stands in several places is one node in the copy too, also beside the graph."""
    new = copied(Whole())
    assert new.shared is new.left.a is new.table["l"].a
    assert new.parts[2] is new.left is new.table["l"]
    assert new.pair[1] is new.right is new.pair.right
    assert new.right.b.value is new.left.a.value
    assert new.members.a.prior.parents == (new.left.a,)
    assert new.meta.aside.double.value == 2


@copies
def test_nodes_beside_each_other(copied):
    """Whatever is copied in one go keeps its identity, in any order."""
    whole = Whole()
    for one, other in ((whole, whole.left), (whole.left, whole), (whole.pair, whole), (whole.parts, whole)):
        new_one, new_other = copied([one, other])
        part, root = (new_other, new_one) if one is whole else (new_one, new_other)
        assert description(root) == description(whole)
        assert part in root.topological_ordering()


@copies
def test_what_is_above_is_not_copied(copied):
    """A copied part stands alone; its own params and those that it points to come with it."""
    whole = Whole(prior=False)
    right = copied(whole.right)
    assert list(right.parents) == []
    assert right.b.value == 1
    assert right.b.value is not whole.left.a.value
    param = copied(whole.left.double)
    assert param.value == 2
    assert [node.name for node in param.topological_ordering()] == ["double", "a"]


@copies
def test_parents_of_a_prior_come_with_a_part(copied):
    """A prior's parents that stand outside of the copied part are copied with it."""
    whole = Whole()
    member = copied(whole.members)
    (mean,) = member.a.prior.parents
    assert mean is not whole.left.a
    assert mean.name == "a"
    assert mean.value == 1


@copies
@pytest.mark.parametrize("members", ["pair", "parts", "table"])
def test_collections(copied, members):
    """Collections are copied with their members and work on."""
    new = copied(Whole(prior=False)[members])
    assert type(new) is {"pair": ck.NodeTuple, "parts": ck.NodeList, "table": ck.NodeDict}[members]
    assert len(new) == len(Whole()[members])
    assert list(new.parents) == []
    first = next(iter(new.children.values()))
    assert first in (new.values() if isinstance(new, dict) else list(new))
    assert list(first.parents)[-1] is new or new in first.parents


@copies
@pytest.mark.parametrize("levels", [300, 3000])
def test_depth_costs_no_recursion(copied, levels):
    """Graphs nested hundreds of levels deep are copied like any other."""
    root = node = Part("root")
    for _ in range(levels):
        below = ck.Module("level")
        node.link("below", below)
        node = below
    node.link("top_value", root.a)
    node.link("p", ck.Param("p", root.a))
    new = copied(root)
    order = new.topological_ordering()
    assert len(order) == len(root.topological_ordering())
    new.a = 4.0
    assert next(one for one in order if one.name == "p").value == 4


@pytest.mark.parametrize("protocol", range(2, pickle.HIGHEST_PROTOCOL + 1))
def test_every_protocol(protocol):
    """All protocols that know the state of objects work."""
    assert description(pickled(Whole(), protocol)) == description(Whole())


@copies
def test_a_copy_made_within_a_call_is_one_of_the_graph(copied):
    """Values of a running call, and what it has computed, are no part of a copy."""
    part = Copying()
    part.copied = copied
    new = part.run([10.0])
    assert not new.active
    assert new.double.value == 2


def test_a_shallow_copy_shares_its_children():
    """copy.copy makes another node with the same children, to be linked and unlinked on its own."""
    part = Part()
    new = copy.copy(part)
    assert new is not part
    assert new.a is part.a
    assert set(part.a.parents) == {part, new, part.double}
    new.unlink("a")
    assert part.a.name == "a"
    new.meta.x = 1
    assert not hasattr(part.meta, "x")
    pair = ck.NodeTuple([part, new])
    assert list(copy.copy(pair)) == [part, new]


def test_a_param_without_a_module_is_copied():
    """Params stand for themselves."""
    param = ck.Param("p", [1.0, 2.0], cyclic=True, valid=(0.0, 4.0), group=2, batch_shape=(2,), shape=())
    new = pickled(param)
    assert description(new) == description(param)
    assert (new.cyclic, new.group, new.batch_shape) == (True, 2, (2,))


def test_what_cannot_be_pickled_leaves_nothing_behind():
    """A lambda as pointer function is an error of pickle's; afterwards the graph without it is pickled as ever."""
    whole = Whole()
    whole.pointer = ck.Param("pointer", lambda p: p.a.value, link=whole.left.a)
    with pytest.raises((pickle.PicklingError, AttributeError)):
        pickle.dumps(whole)
    assert copy.deepcopy(whole).pointer.value == 1
    del whole.pointer
    assert description(pickled(whole)) == description(whole)
    gc.collect()
    assert all(table() is None for table in copying._started.tables)


def test_one_pickler_for_several_graphs():
    """A pickler that is used again finds what it has met, and takes up what is new."""
    file = io.BytesIO()
    pickler = pickle.Pickler(file)
    whole = Whole()
    pickler.dump(whole.left)
    pickler.dump(whole)
    file.seek(0)
    unpickler = pickle.Unpickler(file)
    left, root = unpickler.load(), unpickler.load()
    assert root.left is left
    assert description(root) == description(whole)


@given(st.lists(st.tuples(st.integers(0, 9), st.integers(0, 9)), max_size=25), st.integers(0, 9))
def test_any_graph_is_copied(links, start):
    """Random graphs with shared nodes come back with the same nodes, links and order, from any node."""
    nodes = [Part(f"n{i}") for i in range(10)]
    for low, high in links:
        if low < high and f"n{high}" not in nodes[low].children:
            nodes[low].link(nodes[high])
    for copied in (copy.deepcopy, pickled):
        assert description(copied(nodes[start])) == description(nodes[start])


# Removing, sharing and subclassing


def test_a_subclass_with_another_constructor():
    """A subclass of Param may take what it likes, and is used, copied and pickled as itself."""
    module = ck.Module("module")
    module.odd = Odd(2, note="n")
    new = pickled(copy.deepcopy(module)).odd
    assert isinstance(new, Odd)
    assert (new.value, new.note, new.name) == (4.0, "n", "odd_2")


def test_a_param_is_removed_and_shared():
    """A removed param is free to be linked elsewhere, and one param may belong to several modules."""
    one, other = ck.Module("one"), ck.Module("other")
    param = ck.Param("a", 1.0, dynamic=True)
    one.a, other.a = param, param
    assert list(param.parents) == [one, other]
    del one.a
    assert not hasattr(one, "a")
    assert one.dynamic_params == ()
    assert other.dynamic_params == (param,)
    other.unlink(param)
    assert list(param.parents) == []
    one.a = param
    assert one.dynamic_params == (param,)
