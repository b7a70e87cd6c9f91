"""Params: their roles, values, shapes and pointers, and what an edit may and may not do."""

import copy
import pickle
from itertools import pairwise

import numpy as np
import pytest
import torch

import caskade_pyro as ck


class Line(ck.Module):
    def __init__(self, name="line"):
        super().__init__(name)
        self.slope = ck.Param("slope", shape=())
        self.offset = ck.Param("offset", 1.0)

    @ck.forward
    def at(self, x, slope, offset):
        return offset + slope * x


def twice_the_slope(param):
    """A pointer function that pickles."""
    return 2 * param.slope.value


@pytest.fixture
def line():
    return Line()


@pytest.mark.parametrize(
    ("value", "dynamic", "role", "live"),
    [
        (None, None, ck.Role.DYNAMIC, False),
        (1.0, None, ck.Role.STATIC, False),
        (1.0, True, ck.Role.DYNAMIC, False),
        (None, False, ck.Role.STATIC, True),
        (lambda p: torch.ones(()), None, ck.Role.POINTER, False),
    ],
    ids=["dynamic", "static", "dynamic with value", "live", "pointer"],
)
def test_the_role_follows_from_value_and_dynamic(value, dynamic, role, live):
    """A param is static with a value, dynamic without, live when static without, a pointer when given a function."""
    param = ck.Param("p", value, dynamic=dynamic)
    assert (param.role, param.live) == (role, live)
    assert (param.static, param.dynamic, param.pointer) == tuple(
        role is one for one in (ck.Role.STATIC, ck.Role.DYNAMIC, ck.Role.POINTER)
    )


@pytest.mark.parametrize(("value", "dynamic"), [(2.0, False), (2.0, True), (None, True), (None, False)])
def test_setting_a_value_keeps_the_role(value, dynamic):
    """A plain value changes the value and not the role of a static, dynamic or live param."""
    param = ck.Param("p", value, dynamic=dynamic)
    param.value = 3.0
    assert param.dynamic is dynamic
    assert param.value == 3.0


def test_a_value_fixes_a_pointer(line):
    """Setting a value on a pointer makes it static and gives up what it pointed to."""
    line.offset = line.slope
    line.offset = 4.0
    assert line.offset.static
    assert not line.offset.children
    assert [param.name for param in line.dynamic_params] == ["slope"]


@pytest.mark.parametrize("role", ["to_static", "to_dynamic"])
def test_fixing_a_pointer_keeps_its_present_value(line, role):
    """A pointer that is made static or dynamic keeps the value that it has."""
    line.slope = 3.0
    line.offset = lambda p: 2 * p.slope.value
    line.offset.link(line.slope)
    getattr(line.offset, role)()
    assert line.offset.value == 6.0
    assert line.offset.node_type == role.removeprefix("to_")


@pytest.mark.parametrize("number", [1, [1, 2], np.arange(3), torch.tensor(3)], ids=str)
def test_integers_become_floating(number):
    """Integers given to a dynamic param take the default floating dtype; a static one keeps tensors as they are."""
    assert ck.Param("p", number, dynamic=True).value.dtype == torch.get_default_dtype()
    kept = isinstance(number, (np.ndarray, torch.Tensor))
    assert ck.Param("p", number).value.dtype == (torch.int64 if kept else torch.get_default_dtype())
    assert ck.Param("p", True).value.dtype == torch.bool


def test_the_default_dtype_is_respected(float64):
    """In double precision numbers become doubles, and float32 tensors stay what they are."""
    assert ck.Param("p", 1).value.dtype == torch.float64
    assert ck.Param("p", torch.ones(2, dtype=torch.float32)).value.dtype == torch.float32
    assert ck.Param("p", 1, dtype=torch.float32).value.dtype == torch.float32


@pytest.mark.parametrize(
    ("shape", "value_shape", "batch_shape"),
    [
        ((), (), ()),
        ((), (5,), (5,)),
        ((2,), (5, 2), (5,)),
        ((2,), (6, 5, 2), (6, 5)),
        ((0,), (0,), ()),
        ((0,), (3, 0), (3,)),
        ((None,), (4, 7), (4,)),
    ],
)
def test_leading_dims_are_batch_dims(shape, value_shape, batch_shape):
    """What stands in front of the declared shape is the batch shape."""
    param = ck.Param("p", torch.zeros(value_shape), shape=shape)
    assert param.batch_shape == batch_shape
    assert param.batched is bool(batch_shape)
    assert param.shape == value_shape[len(batch_shape) :]


@pytest.mark.parametrize("value", [(3,), (5, 3), ()], ids=str)
def test_a_value_of_another_shape_is_refused(value):
    """A value that does not end with the declared shape names the param and both shapes, and changes nothing."""
    parent = ck.Module("parent")
    parent.p = ck.Param("p", [1.0, 2.0], shape=(2,))
    with pytest.raises(ck.ParamConfigurationError, match=r"parent\.p.*\(2,\)"):
        parent.p = torch.zeros(value)
    assert parent.p.value.tolist() == [1.0, 2.0]


@pytest.mark.parametrize(
    ("change", "error"),
    [
        ({"shape": (3,)}, ck.ParamConfigurationError),
        ({"shape": 3}, ck.ParamConfigurationError),
        ({"batch_shape": (3,)}, ck.ParamConfigurationError),
        ({"batch_shape": (None,)}, ck.ParamConfigurationError),
        ({"value": "much"}, ck.ParamTypeError),
        ({"valid": (2.0, 1.0)}, ck.ParamConfigurationError),
        ({"valid": 2.0}, ck.ParamConfigurationError),
        ({"cyclic": True}, ck.ParamConfigurationError),
        ({"group": 1.5}, ck.ParamConfigurationError),
        ({"prior": "normal"}, ck.ParamTypeError),
    ],
    ids=str,
)
def test_a_refused_setting_leaves_the_param_as_it_was(change, error):
    """Each setting that does not fit raises an error that names the param, and changes nothing."""
    param = ck.Param("width", torch.zeros(4, 2), shape=(2,))

    def state():
        return (
            param.role,
            param.shape,
            param.batch_shape,
            param.valid,
            param.cyclic,
            param.group,
            param.prior,
            param.value.tolist(),
        )

    before = state()
    with pytest.raises(error, match="width"):
        setattr(param, *next(iter(change.items())))
    assert state() == before


def test_only_params_and_functions_can_be_pointed_to():
    """A number is no target of a pointer, and a function no value to be fixed at."""
    param = ck.Param("width", 2.0)
    with pytest.raises(ck.ParamTypeError, match="width"):
        param.to_pointer(3.0)
    with pytest.raises(ck.ParamTypeError, match="width"):
        param.to_static(lambda p: 1.0)
    assert param.static


def test_a_pointer_is_followed(line):
    """A direct pointer and a function pointer have the present value of what they point to."""
    other = ck.Param("other", 2.0, dynamic=True)
    line.slope = other
    line.offset = lambda p: p.other.value + 1
    line.offset.link(other)
    assert (line.slope.value, line.offset.value) == (2.0, 3.0)
    assert line.at(1.0, [torch.tensor(5.0)]) == 11.0


def test_a_pointer_function_is_called_once_for_each_read_outside_of_calls(line):
    """Diamonds of pointers are followed once each, also when no call runs."""
    calls = []
    top = ck.Param("p0", 1.0)
    for level in range(60):
        left, right = ck.Param("left", top), ck.Param("right", top)
        top = ck.Param(
            f"p{level + 1}", lambda p: (calls.append(1), p.left.value + p.right.value)[1] / 2, link=(left, right)
        )
    assert top.value == 1.0
    assert len(calls) == 60


def test_repointing_gives_up_the_former_target(line):
    """A pointer that is pointed elsewhere no longer holds its former target, also under the same name."""
    first, second = ck.Param("target", 1.0, dynamic=True), ck.Param("target", 2.0, dynamic=True)
    line.offset = first
    line.offset = second
    assert line.offset.value == 2.0
    assert list(line.dynamic_params) == [line.slope, second]
    line.offset.to_static()
    assert list(line.dynamic_params) == [line.slope]


def test_a_pointer_to_itself_is_a_cycle(line):
    """Pointers cannot go round in a circle, and a refused one leaves the former target linked."""
    line.offset = line.slope
    with pytest.raises(ck.GraphError, match="cycle"):
        line.slope = line.offset
    assert line.offset.pointer
    assert list(line.offset.children.values()) == [line.slope]
    assert line.slope.dynamic


def test_a_child_with_the_name_of_its_parent(line):
    """A pointer may point to a param of its own name."""
    outer = ck.Param("slope", 7.0)
    line.slope = outer
    assert line.slope.value == 7.0
    assert line.at(1.0) == 8.0


@pytest.mark.parametrize("key", ["at", "name", "children", "dynamic_params", "active", "two words", "class", ""])
def test_a_key_that_cannot_be_an_attribute_of_its_own_is_refused(line, key):
    """A child cannot take the name of an attribute, nor one that is no identifier, and the graph stays as it was."""
    with pytest.raises((ck.GraphError, ck.NodeConfigurationError, AttributeError)):
        line.link(key, ck.Param("p", 1.0))
    assert list(line.children) == ["slope", "offset"]


def test_links_come_and_go(line):
    """A node can be unlinked by key, node or deletion, and linked again."""
    slope = line.slope
    for unlink in (
        lambda: line.unlink("slope"),
        lambda: line.unlink(slope),
        lambda: delattr(line, "slope"),
        lambda: line.unlink(["slope", slope]),
    ):
        unlink()
        assert list(line.children) == ["offset"]
        assert line not in slope.parents
        assert not hasattr(line, "slope")
        line.slope = slope
    assert line["slope"] is slope
    line.unlink()
    assert not line.children


@pytest.mark.parametrize("what", ["curvature", ck.Param("curvature")], ids=["key", "node"])
def test_unlinking_what_is_not_linked_names_the_children(line, what):
    """The error lists what is linked, and is an AttributeError and a KeyError for those who catch these."""
    with pytest.raises(ck.NotLinkedError, match="slope, offset") as caught:
        line.unlink(["slope", what])
    assert isinstance(caught.value, AttributeError)
    assert isinstance(caught.value, KeyError)
    assert list(line.children) == ["slope", "offset"]


def test_linking_several_is_all_or_nothing(line):
    """If one of several nodes cannot be linked, none is."""
    with pytest.raises(ck.GraphError):
        line.link([ck.Param("a"), ck.Param("b"), line])
    assert list(line.children) == ["slope", "offset"]


def test_one_node_has_one_key_and_one_key_one_node(line):
    """Linking a node twice, or a second node under a key, is refused by name."""
    part = ck.Module("part")
    line.part = part
    line.part = part
    with pytest.raises(ck.GraphError, match="part"):
        line.other = part
    with pytest.raises(ck.GraphError, match="part"):
        line.part = ck.Module("part")
    assert list(line.children) == ["slope", "offset", "part"]


def test_a_cycle_of_modules_is_refused():
    """No chain of links leads back to where it began."""
    nodes = [ck.Module(f"m{i}") for i in range(5)]
    for parent, child in pairwise(nodes):
        parent.part = child
    with pytest.raises(ck.GraphError, match="cycle"):
        nodes[-1].part = nodes[0]
    assert not nodes[-1].children


def test_what_lies_below_a_plate_key_is_not_linked_plainly_too(line):
    """A hierarchical link on top of a plain one, or of a taken key, is refused and declares no plate."""
    root = ck.Module("root")
    root.lines = line
    with pytest.raises(ck.GraphError, match="without a plate"):
        root.hierarchical_link("lines", line, size=3)
    with pytest.raises(ck.GraphError, match="lines"):
        root.hierarchical_link("lines", Line("second"))
    assert not root.subgraphs


@pytest.mark.parametrize(
    "declaration",
    [
        {"size": 0},
        {"size": 2.0},
        {"size": True},
        {"members": "abc"},
        {"members": ["a", "a"]},
        {"members": ["a"], "size": 2},
    ],
    ids=str,
)
def test_a_plate_is_declared_sensibly(line, declaration):
    """A size is a positive integer, names of members differ and are as many as the size says."""
    root = ck.Module("root")
    with pytest.raises(ck.NodeConfigurationError, match="lines"):
        root.hierarchical_link("lines", line, **declaration)
    assert not root.children


def test_a_module_must_be_initialised_before_it_is_linked_to():
    """A param set before super().__init__() is explained."""

    class Early(ck.Module):
        def __init__(self):
            self.a = ck.Param("a")

    with pytest.raises(ck.NodeConfigurationError, match="super"):
        Early()


@pytest.mark.parametrize(
    "duplicate", [copy.deepcopy, lambda node: pickle.loads(pickle.dumps(node))], ids=["deepcopy", "pickle"]
)
def test_copies_are_independent(line, duplicate):
    """A copy holds what is below the node and not what is above, and neither feels what happens to the other."""
    root = ck.Module("root")
    root.line = line
    line.slope = 3.0
    line.offset = twice_the_slope
    line.offset.link(line.slope)
    assert line.at(1.0, line.get_values()) == 9.0
    twin = duplicate(line)
    assert not list(twin.parents)
    assert set(twin.slope.parents) == {twin, twin.offset}
    twin.slope = 5.0
    assert twin.at(1.0, twin.get_values()) == 15.0
    assert line.at(1.0, line.get_values()) == 9.0


def test_a_param_can_be_subclassed():
    """A subclass of Param with its own init is a param like others."""

    class Positive(ck.Param):
        def __init__(self, name, value=None):
            super().__init__(name, value, valid=(0.0, None))
            self.note = "positive"

    module = ck.Module("m")
    module.p = Positive("p", 2.0)
    module.p = 3.0
    assert (module.p.note, module.p.value) == ("positive", 3.0)
    with pytest.warns(ck.InvalidValueWarning, match=r"m\.p"):
        module.p = -1.0


def test_a_graph_moves_to_another_dtype(line):
    """`to` changes the dtype of all values and bounds below, once each."""
    line.slope = 2
    line.offset.valid = (0.0, 3.0)
    assert line.to(dtype=torch.float64) is line
    assert {param.value.dtype for param in line.all_params} == {torch.float64}
    assert line.offset.valid[1].dtype == torch.float64
    line.slope = 3
    assert line.slope.value.dtype == torch.float64


@pytest.mark.parametrize("plates", [False, True])
@pytest.mark.parametrize("kind", ["direct", "function"])
def test_long_chains_of_pointers(kind, plates):
    """Pointers to pointers may be as many as one likes; a chain of functions that is too deep for Python says so."""
    module = ck.Module("chain")
    module.first = ck.Param("first", 1.0, shape=(), dynamic=True)
    if plates:
        module.hierarchical_link("members", ck.Module("members"), size=2)
    last = module.first
    for index in range(2000):
        target = last if kind == "direct" else next_after(last)
        last = ck.Param(f"p{index}", target)
        module.link(last)
        if index == 20:
            early = last
    if kind == "direct" and not plates:
        assert last.value == module.first.value
    else:
        with (
            pytest.raises(ck.GraphError, match="p1999 cannot be followed: Python's recursion limit"),
            ck.ActiveContext(module),
        ):
            _ = last.value
    with ck.ActiveContext(module):
        module.fill_params([3.0])
        assert early.value == (3.0 if kind == "direct" else 24.0)
    assert not module.active


def next_after(param):
    def function(p):
        return p[param.name].value + 1

    function.params = (param,)
    return function
