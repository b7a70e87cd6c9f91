"""Calls: how params reach a forward method, what a call may do, and that it leaves nothing behind."""

import threading
from contextlib import suppress

import pytest
import torch

import caskade_pyro as ck
from caskade_pyro.graph.calls import evaluation as evaluation_module


class Profile(ck.Module):
    """A light profile: one param of two components, one scalar, one derived."""

    def __init__(self, name=None):
        super().__init__(name)
        self.centre = ck.Param("centre", shape=(2,))
        self.width = ck.Param("width", shape=())
        self.area = ck.Param("area", lambda p: p.width.value**2, link=self.width)

    @ck.forward
    def at(self, x, centre, width, area):
        return area * torch.exp(-((x - centre[..., 0] - centre[..., 1]) ** 2) / width**2)


class Scene(ck.Module):
    """Two profiles that share a width, and a sky."""

    def __init__(self):
        super().__init__("scene")
        self.sky = ck.Param("sky", 0.5)
        self.disc, self.bulge = Profile("disc"), Profile("bulge")
        self.bulge.width = self.disc.width

    @ck.forward
    def at(self, x, sky):
        return sky + self.disc.at(x) + 2 * self.bulge.at(x)


VECTOR = torch.tensor([0.1, 0.2, 0.3, -0.2, 1.5])
ONE = torch.tensor([0.1, 0.2, 1.5])
X = torch.linspace(-1, 1, 4)


def profile(x, centre, width):
    return width**2 * torch.exp(-((x - centre[0] - centre[1]) ** 2) / width**2)


def scene(x, vector, sky=0.5):
    """The scene, written out."""
    disc, bulge, width = vector[:2], vector[2:4], vector[4]
    return sky + profile(x, disc, width) + 2 * profile(x, bulge, width)


FORMS = {
    "tensor": VECTOR,
    "list": [torch.tensor([0.1, 0.2]), [0.3, -0.2], 1.5],
    "tuple": (torch.tensor([0.1, 0.2]), torch.tensor([0.3, -0.2]), torch.tensor(1.5)),
    "nested dict": {"disc": {"centre": [0.1, 0.2], "width": 1.5}, "bulge": {"centre": [0.3, -0.2]}},
    "dotted keys": {"disc.centre": [0.1, 0.2], "disc.width": 1.5, "bulge.centre": [0.3, -0.2]},
    "dict of vectors": {"disc": torch.tensor([0.1, 0.2, 1.5]), "bulge.centre": torch.tensor([0.3, -0.2])},
    "dict of lists": {"disc": [[0.1, 0.2], 1.5], "bulge": {"centre": [0.3, -0.2]}},
}


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("place", ["last", "keyword"])
def test_params_come_in_many_forms(form, place):
    """A vector, a list and every kind of dict give the same, as the last argument or as params=."""
    sim = Scene()
    assert [param.name for param in sim.dynamic_params] == ["centre", "centre", "width"]
    result = sim.at(X, FORMS[form]) if place == "last" else sim.at(X, params=FORMS[form])
    torch.testing.assert_close(result, scene(X, VECTOR))


@pytest.mark.parametrize("batch", [(7,), (2, 3)], ids=str)
def test_batched_params(batch):
    """Batch dims in front of a vector are those of every param, directly and under vmap."""
    sim = Scene()
    params = VECTOR + torch.rand(*batch, 5)
    direct = sim.at(torch.tensor(0.3), params)
    assert direct.shape == batch
    over = (
        torch.vmap(sim.at, in_dims=(None, 0))
        if len(batch) == 1
        else torch.vmap(torch.vmap(sim.at, in_dims=(None, 0)), in_dims=(None, 0))
    )
    torch.testing.assert_close(over(torch.tensor(0.3), params), direct)
    torch.testing.assert_close(direct.reshape(-1)[0], scene(torch.tensor(0.3), params.reshape(-1, 5)[0]))


def test_a_call_without_params_uses_the_values_of_the_graph():
    """Values in the graph stand in for params that are not given, all of them or those that a dict leaves out."""
    sim = Scene()
    sim.set_values(VECTOR)
    torch.testing.assert_close(sim.at(X), scene(X, VECTOR))
    torch.testing.assert_close(sim.at(x=X), scene(X, VECTOR))
    other = VECTOR.clone()
    other[4] = 3.0
    torch.testing.assert_close(sim.at(X, {"disc": {"width": 3.0}}), scene(X, other))
    assert sim.disc.width.value == 1.5


@pytest.mark.parametrize(
    ("params", "error", "match"),
    [
        (torch.zeros(4), ck.FillParamsArrayError, r"vector of 5.*\(4,\)"),
        (torch.zeros(6), ck.FillParamsArrayError, r"disc\.centre: 2"),
        (torch.zeros(()), ck.FillParamsArrayError, "vector of 5"),
        ([1.0, 2.0], ck.FillParamsSequenceError, r"3 params, got 2.*disc\.centre, bulge\.centre, disc\.width"),
        ({"halo": 1.0}, ck.FillParamsMappingError, "'halo'.*sky, disc, bulge"),
        ({"disc": {"depth": 1.0}}, ck.FillParamsMappingError, "'depth'.*centre, width, area"),
        ({"disc.depth": 1.0}, ck.FillParamsMappingError, "depth"),
        ({"disc": {"width": 1.0}}, ck.FillParamsError, r"disc\.centre, bulge\.centre"),
        ([[1.0, 2.0, 3.0], 1.0, [1.0, 2.0]], ck.FillParamsError, r"disc\.centre.*\(3,\).*\(2,\)"),
        (["wide", 1.0, [1.0, 2.0]], ck.ParamTypeError, r"disc\.centre.*wide"),
        ("much", ck.FillParamsError, "str"),
        (None, ck.FillParamsError, r"disc\.centre, bulge\.centre, disc\.width"),
    ],
    ids=str,
)
def test_params_that_do_not_fit_are_named(params, error, match):
    """Too many or too few values, unknown names and wrong shapes name the params and leave the graph as it was."""
    sim = Scene()
    with pytest.raises(error, match=match):
        sim.at(X, params=params)
    assert all(param.value is None for param in sim.dynamic_params)
    assert not sim.active


def test_integers_given_to_a_call_become_floating():
    """Whole numbers in a list, a tensor or a dict do not make a computation in integers."""
    sim = Profile()
    for params in ([[0, 1], 2], torch.tensor([0, 1, 2]), {"centre": torch.tensor([0, 1]), "width": 2}):
        torch.testing.assert_close(sim.at(X, params), profile(X, torch.tensor([0.0, 1.0]), 2.0))


def test_gradients_reach_the_params():
    """A call is differentiable in what it is given."""
    params = VECTOR.clone().requires_grad_()
    Scene().at(X, params).sum().backward()
    expected = torch.func.grad(lambda v: scene(X, v).sum())(VECTOR)
    torch.testing.assert_close(params.grad, expected)


@pytest.mark.parametrize("transform", [torch.func.jacrev, torch.func.jacfwd, torch.func.hessian])
def test_function_transforms(transform):
    """Derivatives of a forward method are those of the computation written out."""
    sim = Scene()
    torch.testing.assert_close(transform(lambda v: sim.at(X, v))(VECTOR), transform(lambda v: scene(X, v))(VECTOR))


# Overrides


def test_a_keyword_overrides_one_call():
    """A param given by keyword has this value in this call, for pointers that depend on it as well."""
    sim = Profile()
    sim.set_values(ONE)
    torch.testing.assert_close(sim.at(X, width=torch.tensor(2.0)), profile(X, VECTOR[:2], 2.0))
    torch.testing.assert_close(sim.at(X, ONE, width=2), profile(X, VECTOR[:2], 2.0))
    torch.testing.assert_close(sim.at(X, area=torch.tensor(1.0)), profile(X, VECTOR[:2], 1.5) / 1.5**2)
    assert sim.width.value == 1.5


def test_an_override_is_seen_by_the_methods_that_are_called():
    """What a call overrides holds for everything that it calls, and for nothing after it."""

    class Outer(Profile):
        @ck.forward
        def both(self, x):
            inside = self.nested(x, width=torch.tensor(2.0))
            return inside, self.at(x)

        @ck.forward
        def nested(self, x, width):
            return self.at(x)

    inside, after = Outer().both(X, ONE)
    torch.testing.assert_close(inside, profile(X, VECTOR[:2], 2.0))
    torch.testing.assert_close(after, profile(X, VECTOR[:2], 1.5))


def test_an_override_of_the_wrong_shape_names_the_param():
    """A keyword that does not have the param's shape is refused."""
    with pytest.raises(ck.FillParamsError, match=r"centre.*\(3,\).*\(2,\)"):
        Profile().at(X, ONE, centre=torch.zeros(3))


# Pointers and live params


def counted(count, function):
    def pointer(param):
        count.append(param.name)
        return function(param)

    return pointer


def test_a_pointer_is_computed_once_in_a_call():
    """However many methods and pointers read it, and also where an override changes something else."""

    class Many(ck.Module):
        def __init__(self):
            super().__init__()
            self.a, self.b = ck.Param("a", 1.0, dynamic=True), ck.Param("b", 2.0)
            self.p = ck.Param("p", counted(count, lambda p: p.a.value + 1), link=self.a)
            self.q = ck.Param("q", counted(count, lambda p: p.p.value * 2), link=self.p)

        @ck.forward
        def one(self, p, q, b):
            return p + q + b

        @ck.forward
        def many(self, p):
            return [
                self.one(),
                self.one(),
                self.one(b=torch.tensor(5.0)),
                self.one(a=torch.tensor(2.0)),
                self.one(),
                p,
                self.q.value,
            ]

    count = []
    sim = Many()
    values = [float(value) for value in sim.many(sim.get_values())]
    assert values == [8.0, 8.0, 11.0, 11.0, 8.0, 2.0, 4.0]
    assert sorted(count) == ["p", "p", "q", "q"]  # once, and once more where a is overridden


class Live(ck.Module):
    def __init__(self):
        super().__init__()
        self.a = ck.Param("a", 1.0, dynamic=True)
        self.c = ck.Param("c", None, dynamic=False)
        self.double = ck.Param("double", lambda p: 2 * p.c.value, link=self.c)
        self.more = ck.Param("more", lambda p: p.double.value + 1, link=self.double)

    @ck.forward
    def set_c(self, a):
        self.c = a

    @ck.forward
    def read(self, more):
        return more

    @ck.forward
    def twice(self):
        self.set_c()
        first = self.read()
        self.c = 10.0
        return first, self.read(), self.c.value

    @ck.forward
    def by_override(self):
        self.set_c()
        first = self.read()
        self.set_c(a=torch.tensor(10.0))
        return first, self.read()

    @ck.forward
    def in_vmap(self, values):
        return torch.vmap(self.of)(values), self.c.value

    @ck.forward
    def of(self, value):
        self.c = value
        return self.read()

    @ck.forward
    def bare_vmap(self, values):
        def of(value):
            self.c = value

        torch.vmap(of)(values)


def test_a_live_param_set_twice():
    """Pointers follow a live param each time that it is set, and it is gone after the call."""
    sim = Live()
    assert [float(v) for v in sim.twice(torch.tensor([3.0]))] == [7.0, 21.0, 10.0]
    assert sim.c.value is None
    assert sim.c.live


def test_a_live_param_set_by_a_method_with_an_override_stays_set():
    """The override ends with the method; what the method set for the call does not."""
    assert [float(v) for v in Live().by_override(torch.tensor([3.0]))] == [7.0, 21.0]


def test_a_live_param_set_under_vmap():
    """Each element of a vmap has its own live param, which is gone after it."""
    values, after = Live().in_vmap(torch.tensor([1.0, 2.0]), torch.tensor([3.0]))
    assert values.tolist() == [3.0, 5.0]
    assert after is None


def test_a_live_param_set_where_its_value_would_escape():
    """Under a bare vmap, which would leave a dead value behind, setting is refused with the way out."""
    with pytest.raises(ck.ActiveStateError, match=r"'c'.*@forward"):
        Live().bare_vmap(torch.tensor([1.0, 2.0]), torch.tensor([3.0]))


def test_a_live_param_that_was_not_set():
    """Asking for a live param before it is set names it."""

    class Unset(Live):
        @ck.forward
        def ask(self, c):
            return c

    with pytest.raises(ck.FillParamsError, match=r"c is asked for.*live"):
        Unset().ask(torch.tensor([3.0]))


# Nothing is left behind


def snapshot(module):
    """Everything that a call might change."""
    return [
        (
            node,
            tuple(node.children.items()),
            tuple(node.parents),
            getattr(node, "role", None),
            getattr(node, "stored_value", None),
        )
        for node in module.topological_ordering()
    ]


EDITS = {
    "link": lambda sim: sim.link("extra", ck.Param("extra")),
    "hierarchical link": lambda sim: sim.hierarchical_link("extra", ck.Module("extra")),
    "unlink": lambda sim: sim.unlink("double"),
    "delete": lambda sim: delattr(sim, "double"),
    "value of a dynamic param": lambda sim: setattr(sim, "a", 3.0),
    "value of a pointer": lambda sim: setattr(sim, "double", 3.0),
    "to_dynamic": lambda sim: sim.to_dynamic(),
    "to_static": lambda sim: sim.a.to_static(),
    "to_pointer": lambda sim: sim.a.to_pointer(sim.c),
    "shape": lambda sim: setattr(sim.a, "shape", ()),
    "batch shape": lambda sim: setattr(sim.a, "batch_shape", (1,)),
    "group": lambda sim: setattr(sim.a, "group", 1),
    "bounds": lambda sim: setattr(sim.a, "valid", (0.0, 1.0)),
    "prior": lambda sim: setattr(sim.a, "prior", None),
    "set_values": lambda sim: sim.set_values(torch.tensor([2.0])),
    "dtype": lambda sim: sim.to(dtype=torch.float64),
}


@pytest.mark.parametrize("edit", EDITS)
def test_the_graph_cannot_be_edited_during_a_call(edit):
    """Every edit during a call is refused, and possible again after it."""

    class Editing(Live):
        @ck.forward
        def run(self):
            EDITS[edit](self)

    sim = Editing()
    before = snapshot(sim)
    with pytest.raises(ck.ActiveStateError):
        sim.run(torch.tensor([3.0]))
    assert snapshot(sim) == before
    assert not sim.active
    if edit != "value of a pointer":
        EDITS[edit](sim)


@pytest.mark.parametrize("depth", range(4))
def test_an_exception_leaves_nothing_behind(depth):
    """A forward that raises, at whatever depth, leaves values, roles, links and thread state as they were."""

    class Chain(ck.Module):
        def __init__(self, level):
            super().__init__(f"level{level}")
            self.level = level
            self.a = ck.Param("a", 1.0, dynamic=True)
            self.c = ck.Param("c", None, dynamic=False)
            if level:
                self.part = Chain(level - 1)

        @ck.forward
        def run(self, fail, a):
            self.c = a
            if self.level == fail:
                raise RuntimeError("broken")
            return self.part.run(fail, a=torch.tensor(2.0)) if self.level else self.c.value

    sim = Chain(3)
    before = snapshot(sim)
    for _ in range(3):
        with pytest.raises(RuntimeError, match="broken"):
            torch.vmap(sim.run, in_dims=(None, 0))(depth, torch.ones(5, 4))
    assert snapshot(sim) == before
    assert evaluation_module.current_evaluation() is None
    assert sim.run(None, torch.ones(4)) == 2.0


def test_two_threads_call_one_module():
    """Calls in several threads, each with its own params, do not see each other."""
    sim = Scene()
    wrong = []
    barrier = threading.Barrier(4)

    def work(number):
        generator = torch.Generator().manual_seed(number)
        barrier.wait()
        for _ in range(200):
            vector = VECTOR + torch.rand(5, generator=generator)
            if not torch.allclose(sim.at(X, vector), scene(X, vector)):
                wrong.append(number)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong
    assert sim.disc.width.value is None


def test_a_call_within_a_call_of_the_same_module():
    """A module called with other params during a call of it computes with these, and then goes on with its own."""

    class Again(Profile):
        @ck.forward
        def both(self, x, other):
            return self.at(x), self.at(x, params=other), self.at(x)

    first, second, third = Again().both(X, ONE + 1, ONE)
    torch.testing.assert_close(first, profile(X, VECTOR[:2], 1.5))
    torch.testing.assert_close(second, profile(X, VECTOR[:2] + 1, 2.5))
    torch.testing.assert_close(third, first)


def test_values_can_be_read_during_a_call():
    """get_values inside a call gives the values of the call."""

    class Reading(Profile):
        @ck.forward
        def vector(self):
            return self.get_values(), self.get_values("dict")["width"], self.width.npvalue

    sim = Reading()
    sim.set_values(torch.zeros(3))
    vector, width, array = sim.vector(ONE)
    torch.testing.assert_close(vector, ONE)
    assert width == array == 1.5


# Compiled


@pytest.fixture
def fresh_compiler():
    """No versions of other tests are left in the compiler."""
    torch.compiler.reset()
    yield
    torch.compiler.reset()


class Repeated(ck.Module):
    """Profiles under a plate, with a width that they share and a pointer."""

    def __init__(self, by_hand):
        super().__init__()
        self.by_hand = by_hand
        self.width = ck.Param("width", shape=())
        member = Profile("member")
        self.hierarchical_link("members", member, size=3)
        member.width = self.width

    @ck.forward
    def at(self, x):
        return ck.vmap(self.members.at)(x).sum(0)

    @ck.forward
    def at_by_hand(self, x, members_params, members_dims):
        return torch.vmap(self.members.at, in_dims=(None, members_dims))(x, members_params).sum(0)


def repeated(x, vector):
    return sum(profile(x, vector[2 * i : 2 * i + 2], vector[6]) for i in range(3))


@pytest.mark.parametrize("backend", ["eager", "aot_eager"])
@pytest.mark.parametrize("case", ["nested", "plate", "plate by hand", "live", "stored values"])
def test_forward_methods_compile(fresh_compiler, backend, case):
    """A whole call compiles into one graph, with pointers, nested modules, plates and live params."""
    if case == "nested":
        sim, params, expected = Scene(), VECTOR, scene(X, VECTOR)
        method = sim.at
    elif case == "stored values":
        sim, params, expected = Scene(), {"sky": torch.tensor(1.0)}, scene(X, VECTOR, 1.0)
        sim.set_values(VECTOR)
        method = sim.at
    elif case == "live":
        sim, params = Live(), torch.tensor([3.0])
        compiled = torch.compile(sim.twice, fullgraph=True, backend=backend)
        assert [float(v) for v in compiled(params)] == [7.0, 21.0, 10.0]
        return
    else:
        sim, params = Repeated(case), torch.rand(7) + 1
        expected = repeated(X, params)
        method = sim.at if case == "plate" else sim.at_by_hand
    compiled = torch.compile(method, fullgraph=True, backend=backend)
    torch.testing.assert_close(compiled(X, params), expected)
    torch.testing.assert_close(compiled(X + 0, params), expected)
    assert evaluation_module.current_evaluation() is None


def test_a_compiled_call_follows_edits_of_the_graph(fresh_compiler):
    """A compiled method sees that a param was fixed, tied or given another value since it was compiled."""
    sim = Profile()
    compiled = torch.compile(sim.at, fullgraph=True, backend="eager")
    torch.testing.assert_close(compiled(X, ONE), profile(X, ONE[:2], ONE[2]))
    sim.width.to_static(2.0)
    torch.testing.assert_close(compiled(X, ONE[:2]), profile(X, ONE[:2], 2.0))
    sim.width = 3.0
    torch.testing.assert_close(compiled(X, ONE[:2]), profile(X, ONE[:2], 3.0))
    sim.area = 1.0
    torch.testing.assert_close(compiled(X, ONE[:2]), profile(X, ONE[:2], 3.0) / 9)


def test_a_compiled_call_can_be_differentiated(fresh_compiler):
    """The gradient of a compiled call is that of the plain one."""
    sim = Repeated("plate")
    params = torch.rand(7) + 1
    plain, fast = params.clone().requires_grad_(), params.clone().requires_grad_()
    sim.at(X, plain).sum().backward()
    torch.compile(sim.at, fullgraph=True, backend="aot_eager")(X, fast).sum().backward()
    torch.testing.assert_close(plain.grad, fast.grad)


# Cost


def ladder(levels):
    """A ladder of diamonds: every rung has two sides that both lead to the next rung."""

    class Rung(ck.Module):
        def __init__(self, name, *parts):
            super().__init__(name)
            self.a = ck.Param("a", 1.0, dynamic=True)
            self.parts = parts
            for index, part in enumerate(parts):
                self.link(f"part{index}", part)

        @ck.forward
        def total(self, a):
            return a

    bottom = Rung("bottom")
    for level in range(levels):
        bottom = Rung(f"rung{level}", Rung(f"left{level}", bottom), Rung(f"right{level}", bottom))
    return bottom


@pytest.mark.parametrize("use", ["call", "get_values", "set_values", "to", "topological_ordering", "relink"])
def test_the_cost_of_a_ladder_of_diamonds_is_linear(use, monkeypatch):
    """The number of nodes that are visited grows with the number of nodes, not with the number of paths."""

    def visits(levels):
        count = [0]
        top = ladder(levels)
        values = torch.ones(3 * levels + 1)
        extra = ck.Param("extra")
        original = ck.Node.children.fget

        def counting(self):
            count[0] += 1
            return original(self)

        monkeypatch.setattr(ck.Node, "children", property(counting))
        {
            "call": lambda: top.total(values),
            "get_values": top.get_values,
            "set_values": lambda: top.set_values(values),
            "to": lambda: top.to(dtype=torch.float64),
            "topological_ordering": top.topological_ordering,
            "relink": lambda: (top.link(extra), top.unlink(extra)),
        }[use]()
        monkeypatch.undo()
        return count[0]

    small, large = visits(10), visits(100)
    assert large <= 11 * max(small, 10)


def test_a_thousand_diamonds():
    """A ladder of 1,000 diamonds is built, called, read and written."""
    top = ladder(1000)
    assert len(top.dynamic_params) == 3001
    values = torch.rand(3001)
    top.set_values(values)
    torch.testing.assert_close(top.get_values(), values)
    assert top.total(values) == values[0]


def test_an_independent_module_called_inside_a_call():
    """A module that is held as meta has its own values, and the outer call does not notice."""

    class Holder(Profile):
        def __init__(self):
            super().__init__()
            self.meta.other = Profile("other")

        @ck.forward
        def both(self, x):
            with suppress(RuntimeError):
                self.meta.other.at(x, ONE + 1)
            return self.at(x)

    torch.testing.assert_close(Holder().both(X, ONE), profile(X, VECTOR[:2], 1.5))
