"""Params as a vector, a list and a dict: what get_values gives, set_values takes, in the order of the package caskade."""

import caskade as upstream
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import caskade_pyro as ck


class Leaf(ck.Module):
    def __init__(self, name="leaf"):
        super().__init__(name)
        self.scalar = ck.Param("scalar", shape=())
        self.pair = ck.Param("pair", shape=(2,))
        self.empty = ck.Param("empty", torch.zeros(0), shape=(0,), dynamic=True)
        self.fixed = ck.Param("fixed", [1.0, 2.0, 3.0])


def filled(module):
    """Give every dynamic param a value of its own."""
    start = 0
    for placement in ck.plate_layout(module).placements:
        param = placement.param
        if param.dynamic:
            shape = placement.root_shape + placement.plate_shape + placement.shape
            size = torch.Size(shape).numel()
            param.value = torch.arange(start, start + size, dtype=torch.float).reshape(shape)
            start += size
    return module


def plain():
    return filled(Leaf())


def nested():
    root, middle, leaf = ck.Module("root"), ck.Module("middle"), Leaf()
    root.own = ck.Param("own", shape=())
    middle.own = ck.Param("own", shape=(3,))
    middle.hierarchical_link("leaves", leaf, size=4)
    root.hierarchical_link("middles", middle, size=2)
    leaf.pair.batch_shape = (1, 4)
    return filled(root)


def shared():
    root, one, two = ck.Module("root"), Leaf("one"), Leaf("two")
    root.link([one, two])
    two.pair = one.pair
    return filled(root)


def replicated():
    root = nested()
    root.own.value = torch.rand(5)
    return root


def replicated_inside():
    root = nested()
    leaf = root.middles.leaves
    leaf.scalar.batch_shape = None
    leaf.scalar.value = torch.rand(5, 2, 4)
    return root


def many_replicates():
    root = replicated_inside()
    root.own.value = torch.rand(3, 5)
    return root


GRAPHS = [plain, nested, shared, replicated, replicated_inside, many_replicates]


def grouped(build):
    module = build()
    for index, param in enumerate(module.dynamic_params):
        param.group = index % 2
    return module


def stored(module):
    return {param: param.value.clone() for param in module.dynamic_params}


def same(before):
    """Whether the values are those of before."""
    for param, value in before.items():
        torch.testing.assert_close(param.value, value)


@pytest.mark.parametrize("scheme", ["array", "tensor", "list", "dict"])
@pytest.mark.parametrize("build", GRAPHS)
@pytest.mark.parametrize("groups", [False, True], ids=["one group", "two groups"])
def test_set_values_of_get_values_is_the_identity(scheme, build, groups):
    """Reading the values in any form and writing them back changes none, with plates, replicates and groups."""
    module = grouped(build) if groups else build()
    values = module.get_values(scheme)
    assert isinstance(values, list) or not groups
    before = stored(module)
    for param in module.dynamic_params:
        param.value = torch.zeros_like(param.value)
    module.set_values(values)
    again = module.get_values(scheme)
    torch.testing.assert_close(again, values)
    if scheme in ("list", "dict") or not ck.plate_layout(module).root_shape:
        same(before)


@pytest.mark.parametrize("build", GRAPHS)
def test_the_vector_has_the_replicates_in_front_and_all_else_in_one_dim(build):
    """The last dim counts every entry of every param once; the dims in front are those of the root."""
    module = build()
    layout = ck.plate_layout(module)
    length = sum(torch.Size(p.plate_shape + p.shape).numel() for p in layout.placements if p.param.dynamic)
    assert module.get_values().shape == (*layout.root_shape, length)


def test_the_form_of_a_dict_follows_the_links():
    """A nested dict has the keys of the links, each param once."""
    assert set(shared().get_values("dict")) == {"one", "two"}
    assert sum(len(part) for part in shared().get_values("dict").values()) == 5


def test_static_values_are_read_and_written_too():
    """With dynamic=False the static params are meant."""
    module = shared()
    values = module.get_values(dynamic=False)
    assert values.shape == (6,)
    module.set_values(values + 1, dynamic=False)
    torch.testing.assert_close(module.get_values(dynamic=False), values + 1)


def test_attributes_are_collected_in_the_same_forms():
    """Any attribute, or function of the params, comes in the form that the values have."""
    module = plain()
    assert module.get_values("list", attribute="name") == ["scalar", "pair", "empty"]
    assert module.get_values("dict", attribute=lambda param: param.shape) == {"scalar": (), "pair": (2,), "empty": (0,)}


def test_values_do_not_alias_the_vector():
    """Changing the vector that was set does not change the params."""
    module = plain()
    vector = torch.zeros(3)
    module.set_values(vector)
    vector += 1
    assert module.scalar.value == 0


BAD = {
    "too short": (lambda m: torch.zeros(2), ck.FillParamsArrayError, "vector of 3"),
    "too few": (lambda m: [1.0], ck.FillParamsSequenceError, "3 params, got 1.*scalar, pair, empty"),
    "unknown name": (lambda m: {"scalar": 5.0, "triple": 1.0}, ck.FillParamsMappingError, "'triple'.*scalar, pair"),
    "wrong shape": (lambda m: [5.0, [1.0, 2.0, 3.0], []], ck.FillParamsError, r"pair.*\(3,\).*\(2,\)"),
    "no number": (lambda m: {"scalar": 5.0, "pair": "much"}, ck.ParamTypeError, "pair.*much"),
    "text": (lambda m: "much", ck.FillParamsError, "not a str"),
}


@pytest.mark.parametrize("bad", BAD)
def test_set_values_is_all_or_nothing(bad):
    """If one value does not fit, the error names its param and none is changed."""
    make, error, match = BAD[bad]
    module = plain()
    before = stored(module)
    with pytest.raises(error, match=match):
        module.set_values(make(module))
    same(before)


def test_set_values_refuses_sizes_that_disagree():
    """Values of different lengths for one plate are refused as a whole; together they may change its size."""
    root = ck.Module("root")
    leaf = Leaf()
    leaf.unlink(["empty", "fixed"])
    root.hierarchical_link("leaves", leaf)
    leaf.scalar, leaf.pair = torch.zeros(3), torch.zeros(3, 2)
    before = stored(root)
    with pytest.raises(ck.PlateError, match=r"leaves.*scalar"):
        root.set_values({"leaves": {"scalar": torch.ones(4)}})
    same(before)
    assert ck.plate_layout(root).plate("leaves").size == 3
    root.set_values({"leaves": {"scalar": torch.ones(4), "pair": torch.ones(4, 2)}})
    assert ck.plate_layout(root).plate("leaves").size == 4


def test_set_values_refuses_pointers():
    """A pointer has no value of its own to set."""
    module = shared()
    with pytest.raises(ck.FillParamsMappingError, match=r"two\.pair.*pointer"):
        module.set_values({"two": {"pair": [1.0, 2.0], "scalar": 1.0}})
    assert module.two.pair.pointer


def test_a_warning_that_is_an_error_changes_nothing():
    """Where warnings are errors, a value outside of its bounds leaves all others unset as well."""
    module = plain()
    module.pair.valid = (-10.0, 10.0)
    before = stored(module)
    with pytest.raises(ck.InvalidValueWarning, match="pair"):
        module.set_values(torch.tensor([7.0, 20.0, 0.0]))
    same(before)


@pytest.mark.parametrize("call", [lambda m: m.get_values(), lambda m: m.get_values("list")], ids=["array", "list"])
def test_reading_values_that_are_not_there_names_the_params(call):
    """A param without a value is named by its path."""
    root = ck.Module("root")
    root.leaf = Leaf()
    with pytest.raises(ck.ParamConfigurationError, match=r"leaf\.scalar, leaf\.pair have no value"):
        call(root)


def test_unknown_schemes_and_shapes_are_named():
    """A scheme that does not exist, and a vector of a param of unknown length, are explained."""
    module = plain()
    with pytest.raises(ck.ParamConfigurationError, match="'table'"):
        module.get_values("table")
    module.open = ck.Param("open", shape=(None,))
    with pytest.raises(ck.ParamConfigurationError, match=r"open.*\(None,\)"):
        module.set_values(torch.zeros(4))


@pytest.mark.parametrize(
    "params", [torch.zeros(3), [[0.0], [0.0], [0.0]], [torch.zeros(1)]], ids=["tensor", "three", "one"]
)
def test_groups_come_as_a_list(params):
    """With two groups, anything but a list of two is refused by the numbers of the groups."""
    module = grouped(plain)
    with pytest.raises(ck.FillParamsSequenceError, match=r"groups \[0, 1\]"):
        module.set_values(params)
    assert module.dynamic_param_groups == (0, 1)
    assert module.get_values(group=1).shape == (2,)


def random_graph(package, edges, pointers, dynamic):
    """The same graph built with either package: modules with a param each, links between them, and pointers."""

    class Part(package.Module):
        def __init__(self, name):
            super().__init__(name)
            self.a = package.Param("a", 1.0, dynamic=True)
            self.b = package.Param("b", 2.0)

    parts = [Part(f"m{index}") for index in range(8)]
    for parent, child in edges:
        if parent < child:
            setattr(parts[parent], f"k{child}", parts[child])
    for source, target in pointers:
        if source < target:
            parts[source].b = parts[target].a
    for index in dynamic:
        if not parts[index].b.pointer:
            parts[index].b.to_dynamic()
    return parts


pairs = st.lists(st.tuples(st.integers(0, 7), st.integers(0, 7)), max_size=20, unique=True)


@given(edges=pairs, pointers=pairs, dynamic=st.sets(st.integers(0, 7)))
def test_the_order_of_params_is_that_of_caskade(edges, pointers, dynamic):
    """Graphs built with both packages ask for their params in the same order, and read them as the same vector."""
    ours = random_graph(ck, edges, dict(pointers).items(), dynamic)
    theirs = random_graph(upstream, edges, dict(pointers).items(), dynamic)
    for one, other in zip(ours, theirs, strict=True):

        def order(module):
            return [
                (min(p.name for p in param.parents if p.name.startswith("m")), param.name)
                for param in module.dynamic_params
            ]

        assert order(one) == order(other)


@pytest.mark.parametrize("levels", [1, 5])
def test_the_order_of_a_ladder_is_that_of_caskade(levels):
    """Shared parts come after everything that leads to them, as there."""

    def names(package):
        def rung(name, *parts):
            module = package.Module(name)
            module.p = package.Param("p", 1.0, dynamic=True)
            for index, part in enumerate(parts):
                setattr(module, f"part{index}", part)
            return module

        bottom = rung("bottom")
        for level in range(levels):
            bottom = rung(f"r{level}", rung(f"a{level}", bottom), rung(f"b{level}", bottom))
        return [next(iter(param.parents)).name for param in bottom.dynamic_params]

    assert names(ck) == names(upstream)


@pytest.mark.parametrize("shapes", [[], [(0,)], [(0,), (0, 2)]])
def test_vectors_without_entries(shapes):
    """A module without dynamic params, or with empty ones only, takes a vector without entries."""
    module = ck.Module("m")
    for index, shape in enumerate(shapes):
        module.link(ck.Param(f"p{index}", shape=shape))
    with ck.ActiveContext(module):
        module.fill_params(torch.zeros(0))
        assert [param.value.shape for param in module.dynamic_params] == shapes
        with pytest.raises(ck.FillParamsArrayError, match="needs a vector of 0 params"):
            module.fill_params(torch.zeros(1))
