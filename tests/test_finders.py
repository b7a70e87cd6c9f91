"""Finding params by their index and indices by their params: the two are inverses of each other."""

import caskade
import hypothesis.strategies as st
import pytest
import torch
from hypothesis import given

import caskade_pyro as ck

SHAPES = [(), (1,), (2,), (2, 3), (0,), (3, 1, 2)]


def module_of(shapes, groups=None, package=ck):
    module = package.Module("module")
    for i, shape in enumerate(shapes):
        group = 0 if groups is None else groups[i]
        param = package.Param(f"p{i}", torch.zeros(shape), shape=shape, dynamic=True, group=group)
        setattr(module, f"p{i}", param)
    return module


@given(st.lists(st.sampled_from(SHAPES), max_size=5))
def test_every_entry_of_the_vector_is_found(shapes):
    """The entry that an index names is the one that a change of the vector at that index changes."""
    module = module_of(shapes)
    n = len(module.get_values())
    for i in range(n):
        module.set_values(torch.eye(n)[i])
        param, index = module.find_param(i)
        assert param.value[index] == 1
        assert module.find_param(i - n) == (param, index)
    assert module.find_param(range(n)) == tuple(module.find_param(i) for i in range(n))


@given(st.lists(st.sampled_from(SHAPES), min_size=1, max_size=5))
def test_every_param_is_found(shapes):
    """The index of a param cuts exactly its values out of the vector."""
    module = module_of(shapes)
    vector = torch.arange(len(module.get_values()), dtype=torch.get_default_dtype())
    module.set_values(vector)
    for param in module.dynamic_params:
        index = module.find_index(param)
        assert isinstance(index, int) == (param.value.numel() == 1)
        assert torch.equal(vector[index].reshape(param.shape), param.value)
        assert module.find_param(module.find_index(param, "list"), scheme="list") is param


def test_upstream_finds_the_same():
    """Where upstream finds anything, both packages find the same, in vectors and in lists."""
    shapes = [(), (1,), (2,), (2, 3), (3, 1, 2)]
    ours, theirs = module_of(shapes), module_of(shapes, package=caskade)
    for i in range(len(ours.get_values())):
        found, expected = ours.find_param(i), theirs.find_param(i)
        assert (found[0].name, found[1]) == (expected[0].name, expected[1])
    for scheme in ("array", "list"):
        for name in ours.children:
            assert ours.find_index(ours[name], scheme) == theirs.find_index(theirs[name], scheme)
        assert ours.find_index(ours, scheme) == theirs.find_index(theirs, scheme)
    assert ours.param_order() == theirs.param_order()
    assert ours.find_param((0, 3), scheme="list")[1].name == theirs.find_param((0, 3), scheme="list")[1].name


def test_groups_are_counted_apart():
    """With several groups an index is one of its group, as upstream has it."""
    groups = [1, 0, 1, 3, 0]
    shapes = [(), (2,), (2,), (), ()]
    ours, theirs = module_of(shapes, groups), module_of(shapes, groups, caskade)
    for name in ours.children:
        for scheme in ("array", "list"):
            assert ours.find_index(ours[name], scheme) == theirs.find_index(theirs[name], scheme)
        group, index = ours.find_index(ours[name])
        first = index if isinstance(index, int) else index.start
        assert ours.find_param(first, group)[0] is ours[name]
    assert ours.param_order() == theirs.param_order() == "module: p1, module: p4\nmodule: p0, module: p2\nmodule: p3"
    assert ours.find_param(5)[0].name == theirs.find_param(5)[0].name
    assert ours.find_param(1, 1, "list") is ours.p2


def test_members_of_a_plate_are_counted():
    """A param of members takes an entry for each of them, and its index leads with the member."""
    member = module_of([(), (2,)])
    survey = ck.Module("survey")
    survey.hierarchical_link("members", member, size=3)
    survey.total = ck.Param("total")
    member.p0.value, member.p1.value = None, None
    assert survey.find_index(member.p1) == slice(3, 9)
    assert survey.find_index(survey.total) == 9
    assert survey.find_param(6) == (member.p1, (1, 1))
    assert survey.find_param(1) == (member.p0, (1,))
    assert survey.find_index(member) == (slice(0, 3), slice(3, 9))
    assert member.find_index(member.p1) == slice(1, 3)


def test_finders_within_a_call_count_the_values_of_that_call():
    """Inside of a member's call an index counts what one member is given."""

    class Member(ck.Module):
        def __init__(self):
            super().__init__()
            self.a = ck.Param("a", shape=(2,))
            self.b = ck.Param("b", shape=())

        @ck.forward
        def where(self):
            return torch.tensor(self.find_index(self.b))

    class Survey(ck.Module):
        def __init__(self):
            super().__init__()
            self.hierarchical_link("member", Member(), size=3)

        @ck.forward
        def where(self):
            return ck.vmap(self.member.where)()

    survey = Survey()
    assert survey.find_index(survey.member.b) == slice(6, 9)
    assert torch.equal(survey.where(torch.zeros(9)), torch.tensor([2, 2, 2]))


def test_params_without_values_are_found():
    """Only shapes count, not values."""
    module = ck.Module("module")
    module.a, module.b = ck.Param("a", shape=(2,)), ck.Param("b")
    assert module.find_param(2) == (module.b, ())
    assert module.find_index([module.b, module.a]) == (2, slice(0, 2))


def test_collections_find_too():
    """A list of params has a vector of its own."""
    params = ck.NodeList([ck.Param("a"), ck.Param("b", shape=(2,))])
    assert params.find_param(2) == (params[1], (1,))
    assert params.find_index(params) == (0, slice(1, 3))


def test_what_is_not_there_is_an_error():
    """A param of another graph, an index too far, an unknown scheme or group: errors that say what there is."""
    module = module_of([(), (2,)])
    stranger = ck.Param("stranger")
    with pytest.raises(ck.ParamConfigurationError, match=r"stranger is not among the dynamic params .*p0"):
        module.find_index(stranger)
    with pytest.raises(ValueError, match="stranger"):
        module.find_index(stranger)
    for index in (3, -4):
        with pytest.raises(ck.ParamIndexError, match=f"3 of these params.*{index}"):
            module.find_param(index)
    with pytest.raises(IndexError):
        module.find_param(2, scheme="list")
    with pytest.raises(ck.ParamConfigurationError, match="dict"):
        module.find_param(0, scheme="dict")
    with pytest.raises(ck.ParamConfigurationError, match="group 2"):
        module.find_param(0, group=2)
    with pytest.raises(ck.ParamIndexError):
        ck.Module("empty").find_param(0)
    module.p0.to_static()
    with pytest.raises(ck.ParamConfigurationError, match="p0"):
        module.find_index(module.p0)
