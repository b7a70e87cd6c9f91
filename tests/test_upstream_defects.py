"""Defects seen in the package caskade 1.1.5, each with the right value or a clear error here."""

import pytest
import torch

import caskade_pyro as ck

X = torch.tensor([1.0, 2.0])


class Blob(ck.Module):
    def __init__(self, name="blob", shape=()):
        super().__init__(name)
        self.size = ck.Param("size", shape=shape)
        self.weight = ck.Param("weight", 1.0, shape=())

    @ck.forward
    def at(self, x, size, weight):
        return weight * size * x


class Blobs(ck.Module):
    def __init__(self, blob, name="blobs", **declaration):
        super().__init__(name)
        self.hierarchical_link("blobs", blob, **declaration)
        self.level = ck.Param("level", 0.5, shape=())

    @ck.forward
    def at(self, x, level):
        return level + ck.vmap(self.blobs.at)(x).sum(0)

    @ck.forward
    def by_hand(self, x, level, blobs_params, blobs_dims):
        return level + torch.vmap(self.blobs.at, in_dims=(None, blobs_dims))(x, blobs_params).sum(0)


BOTH = pytest.mark.parametrize("way", ["at", "by_hand"])


# Silently wrong values


@BOTH
def test_a_batched_param_without_a_declared_shape(way):
    """Nobody can tell its batch dims from its own: the error asks for the shape."""
    blob = Blob()
    blob.width = ck.Param("width", torch.tensor([1.0, 2.0, 3.0]), dynamic=True, batch_shape=(3,))
    with pytest.raises(ck.PlateError, match=r"blobs\.width.*\(3,\).*shape="):
        getattr(Blobs(blob), way)(X, torch.rand(6))
    blob.width.shape = ()
    assert ck.plate_layout(next(iter(blob.parents))).plate("blobs").size == 3


def test_a_static_batched_param_in_a_linked_subgraph():
    """Each member has its own constant; the way that cannot carry it says so."""
    blob = Blob()
    sim = Blobs(blob, size=3)
    blob.weight = torch.tensor([1.0, 10.0, 100.0])
    torch.testing.assert_close(sim.at(X, torch.tensor([1.0, 2.0, 3.0])), 0.5 + 321 * X)
    with pytest.raises(ck.PlateError, match=r"blobs\.weight.*ck\.vmap"):
        sim.by_hand(X, torch.tensor([1.0, 2.0, 3.0]))


def test_the_parent_reads_a_pointer_of_the_child_before_the_vmap():
    """The members do not see the batch that the parent saw."""
    blob = Blob()

    class Reading(Blobs):
        @ck.forward
        def both(self, x):
            before = self.blobs.weight.value
            return before, ck.vmap(self.blobs.at)(x), self.by_hand(x)

    blob.weight = lambda p: 2 * p.size.value
    blob.weight.link(blob.size)
    sizes = torch.tensor([1.0, 2.0, 3.0])
    before, each, total = Reading(blob, size=3).both(X, sizes)
    torch.testing.assert_close(before, 2 * sizes)
    torch.testing.assert_close(each, 2 * sizes[:, None] ** 2 * X)
    torch.testing.assert_close(total, 0.5 + 28 * X)


def test_a_live_param_set_twice_with_a_pointer_that_depends_on_it():
    """The pointer follows each time."""

    class Live(Blob):
        @ck.forward
        def twice(self):
            values = []
            for value in (1.0, 5.0):
                self.size = value
                values.append(self.weight.value.item())
            return values

    sim = Live()
    sim.size.to_static(None)
    sim.weight = lambda p: 2 * p.size.value
    sim.weight.link(sim.size)
    assert sim.twice() == [2.0, 10.0]


def test_only_one_of_several_param_groups_is_passed():
    """The error names the groups."""
    blob = Blob()
    blob.weight.to_dynamic()
    blob.weight.group = 1
    with pytest.raises(ck.FillParamsSequenceError, match=r"groups \[0, 1\]"):
        blob.at(X, torch.tensor([3.0]))
    with pytest.raises(ck.FillParamsSequenceError, match=r"groups \[0, 1\].*1 of them"):
        blob.at(X, [torch.tensor([3.0])])
    torch.testing.assert_close(blob.at(X, [torch.tensor([3.0]), torch.tensor([2.0])]), 6 * X)


@BOTH
def test_an_outer_pointer_reads_a_batched_inner_param(way):
    """It sees all members, and the param stays in its plate."""
    blob = Blob()
    sim = Blobs(blob, size=3)
    sim.level = lambda p: p.size.value.sum()
    sim.level.link(blob.size)
    torch.testing.assert_close(getattr(sim, way)(X, torch.tensor([1.0, 2.0, 3.0])), 6 + 6 * X)


@BOTH
def test_one_parent_links_a_child_hierarchically_and_another_plainly(way):
    """The plain link is the shorter path, so that there is no plate, and the vmap over it says so."""
    blob = Blob()
    sim = Blobs(blob)

    class Root(ck.Module):
        def __init__(self):
            super().__init__("root")
            self.sim, self.blob = sim, blob

        @ck.forward
        def at(self, x):
            return getattr(self.sim, way)(x)

    with pytest.raises(ck.PlateError, match=r"links Blob.* a second time"):
        Root().at(X, torch.tensor([1.0]))


@pytest.mark.parametrize("name", ["core_active", "active_nucleus", "params", "value", "static_"])
def test_names_that_resemble_states(name):
    """A name is only a name: during a call, after it, and in an error."""

    class Root(ck.Module):
        def __init__(self):
            super().__init__("root")
            setattr(self, f"key_{name}", Blob(name))

        @ck.forward
        def at(self, x):
            return self[f"key_{name}"].at(x)

    root = Root()
    for _ in range(2):
        torch.testing.assert_close(root.at(X, torch.tensor([3.0])), 3 * X)
    assert not root.active
    assert len(root.children) == 1


def test_a_repointed_pointer_is_fixed():
    """Its former targets are no longer asked for."""
    blob = Blob()
    first, second = ck.Param("first", 1.0, dynamic=True), ck.Param("second", 2.0, dynamic=True)
    blob.weight = first
    blob.weight = second
    blob.weight.to_static()
    assert blob.dynamic_params == (blob.size,)
    assert blob.weight.value == 2.0


def test_a_failed_hierarchical_link_then_a_plain_one():
    """What failed declares no plate."""
    sim, blob = ck.Module("sim"), Blob()
    blob.sim = sim
    with pytest.raises(ck.GraphError, match="cycle"):
        sim.hierarchical_link("blob", blob, size=3)
    blob.unlink(sim)
    sim.link("blob", blob)
    assert not sim.subgraphs
    assert ck.plate_layout(sim).plates == ()


def test_siblings_of_one_name():
    """They stay two in the vector, the dict and the picture."""
    root = ck.Module("root")
    root.left, root.right = Blob("same"), Blob("same")
    root.set_values({"left.size": 1.0, "right.size": 2.0})
    assert root.get_values().tolist() == [1.0, 2.0]
    assert root.get_values("dict") == {"left": {"size": 1.0}, "right": {"size": 2.0}}
    source = root.graphviz().source
    assert source.count("same") >= 2
    assert source.count("size") >= 2


# Errors and crashes


@BOTH
@pytest.mark.parametrize("declared", [False, True], ids=["batch of the value", "explicit batch shape"])
def test_a_pointer_from_level_2_to_level_1_with_an_outer_batch(way, declared):
    """A param of the middle module that the innermost one points to has one value for each replicate and group."""
    blob = Blob()
    groups = Blobs(blob, "groups", size=3)
    blob.weight = groups.level

    class Root(ck.Module):
        def __init__(self):
            super().__init__("root")
            self.hierarchical_link("groups", groups, size=2)

        @ck.forward
        def at(self, x):
            return ck.vmap(getattr(self.groups, way))(x).sum(0)

    root = Root()
    levels, sizes = torch.rand(5, 2), torch.rand(5, 2, 3)
    groups.level.to_dynamic(levels)
    if declared:
        groups.level.batch_shape = (5, 2)
    blob.size = sizes
    results = torch.vmap(root.at, in_dims=(None, 0))(X, root.get_values())
    expected = (levels[..., None] + levels[..., None] * sizes.sum(-1, keepdim=True) * X).sum(1)
    torch.testing.assert_close(results, expected)


@BOTH
def test_an_explicit_batch_shape_on_a_shared_outer_param_under_an_outer_vmap(way):
    """Replicates of the root may be declared on a param that the members share."""
    blob = Blob()
    sim = Blobs(blob, size=3)
    blob.weight = sim.level
    sim.level.to_dynamic(torch.rand(5))
    sim.level.batch_shape = (5,)
    blob.size = torch.rand(3)
    vectors = sim.get_values()
    assert vectors.shape == (5, 4)
    results = torch.vmap(getattr(sim, way), in_dims=(None, 0))(X, vectors)
    levels = sim.level.value[:, None]
    torch.testing.assert_close(results, levels + levels * blob.size.value.sum() * X)


def test_values_are_read_inside_a_call():
    """get_values during a call gives the values of the call, of a member in a plate as well."""

    class Reading(Blob):
        @ck.forward
        def vector(self):
            return self.get_values()

    class Root(Blobs):
        @ck.forward
        def vectors(self):
            return self.get_values(), ck.vmap(self.blobs.vector)()

    outer, inner = Root(Reading(), size=3).vectors(torch.tensor([1.0, 2.0, 3.0]))
    assert outer.tolist() == [1.0, 2.0, 3.0]
    assert inner.tolist() == [[1.0], [2.0], [3.0]]


def test_a_live_param_set_in_a_vmap_and_read_after_it():
    """Its value has ended with the vmap: the error says that it is not set."""

    class Live(Blob):
        @ck.forward
        def one(self, value):
            self.size = value
            return self.size.value

        @ck.forward
        def ask(self, size):
            return size

        @ck.forward
        def after(self, values):
            torch.vmap(self.one)(values)
            return self.ask()

    sim = Live()
    sim.size.to_static(None)
    with pytest.raises(ck.FillParamsError, match=r"size is asked for.*not set"):
        sim.after(torch.tensor([1.0, 2.0]))


def test_parent_and_child_with_one_name():
    """Names need not differ along a path."""
    root = Blob("same")
    root.same = Blob("same")
    root.same.size.to_dynamic(2.0)
    root.size = root.same.size
    torch.testing.assert_close(root.at(X, {"same.size": 4.0}), 4 * X)


def test_a_plain_link_followed_by_a_hierarchical_one_under_the_same_key():
    """The error says what to unlink first, and afterwards it works."""
    sim, blob = ck.Module("sim"), Blob()
    sim.blob = blob
    with pytest.raises(ck.GraphError, match=r"unlink\('blob'\) first"):
        sim.hierarchical_link("blob", blob, size=3)
    sim.unlink("blob")
    sim.hierarchical_link("blob", blob, size=3)
    assert ck.plate_layout(sim).plate("blob").size == 3


def test_repointing_to_a_param_of_the_same_name():
    """The new target replaces the old one."""
    blob = Blob()
    first, second = ck.Param("target", 1.0), ck.Param("target", 2.0)
    blob.size = first
    blob.size = second
    torch.testing.assert_close(blob.at(X), 2 * X)
    assert blob not in first.parents
    assert not list(first.parents)


def test_a_param_of_shape_zero():
    """Nothing is a value too, in every form and under a plate."""
    blob = Blob(shape=(0,))
    sim = Blobs(blob, size=3)
    blob.weight.to_dynamic(torch.rand(3))
    blob.size = torch.zeros(3, 0)
    assert sim.get_values().shape == (3,)
    sim.set_values(sim.get_values())
    assert blob.size.value.shape == (3, 0)
    assert sim.get_values("list")[0].numel() == 0


@pytest.mark.parametrize("role", ["to_static", "to_dynamic"])
def test_a_pointer_that_raises_is_fixed(role):
    """The error of the pointer's function comes through, and the pointer stays one."""
    blob = Blob()
    blob.weight = lambda p: 1 / 0
    with pytest.raises(ZeroDivisionError):
        getattr(blob.weight, role)()
    assert blob.weight.pointer


def test_boxes_of_graphs_nested_two_deep():
    """The inner box is drawn inside of the outer one."""
    middle = Blobs(Blob(), "middle", size=3)
    root = ck.Module("root")
    root.hierarchical_link("middle", middle, size=2)
    lines = root.graphviz().source.splitlines()
    depth, deepest = 0, 0
    for line in lines:
        depth += line.count("{") - line.count("}")
        deepest = max(deepest, depth if "subgraph" in line else 0)
    assert sum("subgraph" in line for line in lines) == 2
    assert deepest == 3


def test_whole_numbers_are_floating():
    """Param("a", 1) can be differentiated."""
    assert ck.Param("a", 1).value.dtype == torch.get_default_dtype()


def test_unlinking_what_is_not_linked():
    """Code that catches AttributeError goes on."""
    blob = Blob()
    other = ck.Param("other", 1.0)
    blob.size = other
    blob.size = None
    with pytest.raises(AttributeError, match="not linked"):
        blob.size.unlink(other)
