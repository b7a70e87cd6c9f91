"""Values between their bounds and on the real line: exact inverses, for one param and for a whole graph."""

import caskade
import hypothesis.strategies as st
import pytest
import torch
from hypothesis import given
from torch.func import jacfwd, vmap

import caskade_pyro as ck

BOUNDS = {
    "none": None,
    "low": (-1.5, None),
    "high": (None, 3.0),
    "both": (-1.5, 3.0),
    "vector": (torch.tensor([0.0, -2.0]), torch.tensor([1.0, 2.0])),
    "vector_low": (torch.tensor([0.0, -2.0]), None),
}
reals = st.floats(-12.0, 12.0)


def bounded(bounds, **settings):
    return ck.Param("p", shape=(2,), valid=BOUNDS[bounds], dtype=torch.float64, **settings)


class Disk(ck.Module):
    def __init__(self, group=0):
        super().__init__()
        self.q = ck.Param("q", 0.3, shape=(), valid=(0.0, 1.0), dynamic=True)
        self.radius = ck.Param("radius", [2.0, 3.0], shape=(2,), valid=(0.0, None), dynamic=True, group=group)
        self.angle = ck.Param("angle", 1.0, shape=(), valid=(0.0, 3.0), cyclic=True, dynamic=True)
        self.offset = ck.Param("offset", -1.0, shape=(), dynamic=True)

    @ck.forward
    def all(self, q, radius, angle, offset):
        return torch.cat([q[..., None], radius, angle[..., None], offset[..., None]], -1)


class Sky(ck.Module):
    def __init__(self, n=3):
        super().__init__()
        disk = Disk()
        disk.radius = torch.rand(n, 2) + 0.5
        disk.q = torch.rand(n) * 0.8 + 0.1
        self.hierarchical_link("disks", disk)
        self.noise = ck.Param("noise", 0.5, shape=(), valid=(0.0, 1.0), dynamic=True)


@given(x=st.tuples(reals, reals), bounds=st.sampled_from(sorted(BOUNDS)))
def test_real_numbers_come_back(x, bounds):
    """Going from the real line into the bounds and back gives the same numbers."""
    param = bounded(bounds)
    x = torch.tensor(x, dtype=torch.float64)
    torch.testing.assert_close(param.to_valid(param.from_valid(x)), x, rtol=1e-8, atol=1e-8)


@given(u=st.tuples(st.floats(0.001, 0.999), st.floats(0.001, 0.999)), bounds=st.sampled_from(sorted(BOUNDS)))
def test_values_come_back(u, bounds):
    """Going from inside of the bounds to the real line and back gives the same values."""
    param = bounded(bounds)
    low, high = param.valid
    u = torch.tensor(u, dtype=torch.float64)
    value = u + low if high is None and low is not None else high - u if low is None and high is not None else u
    value = low + (high - low) * u if low is not None and high is not None else value
    torch.testing.assert_close(param.from_valid(param.to_valid(value)), value)


@given(x=st.floats(allow_nan=False, width=32), bounds=st.sampled_from(["low", "high", "both"]))
def test_no_real_number_reaches_a_bound(x, bounds):
    """Whatever an optimiser proposes gives a value strictly inside, which can be mapped back."""
    param = ck.Param("p", shape=(), valid=BOUNDS[bounds])
    value = param.from_valid(torch.tensor(x))
    low, high = param.valid
    assert low is None or value > low
    assert high is None or value < high
    param.to_valid(value)


@pytest.mark.parametrize("bounds", sorted(BOUNDS))
@pytest.mark.parametrize("x", [-50.0, -10.0, 0.0, 10.0, 50.0])
def test_gradients_are_those_of_the_function(bounds, x):
    """Gradients are finite everywhere, never cut off, and agree with those of forward mode."""
    param = ck.Param("p", shape=(2,), valid=BOUNDS[bounds])
    z = torch.full((2,), x, requires_grad=True)
    (gradient,) = torch.autograd.grad(param.from_valid(z).sum(), z)
    assert gradient.isfinite().all()
    assert (gradient != 0).all()
    torch.testing.assert_close(jacfwd(param.from_valid)(z.detach()).diagonal(), gradient)


def test_the_map_is_smooth_in_the_middle():
    """The scaled logit has a second derivative everywhere, unlike a clip."""
    param = ck.Param("p", shape=(), valid=(0.0, 2.0), dtype=torch.float64)
    x = torch.linspace(-3, 3, 7, dtype=torch.float64, requires_grad=True)
    torch.autograd.gradgradcheck(param.from_valid, x)


@pytest.mark.parametrize(("bounds", "value"), [("both", 3.0), ("both", -2.0), ("low", -1.5), ("high", 4.0)])
def test_a_value_that_is_not_inside_is_an_error(bounds, value):
    """A value on a bound or beyond has no unconstrained form, and the error says whose."""
    param = ck.Module("m")
    param.p = ck.Param("p", shape=(), valid=BOUNDS[bounds])
    with pytest.raises(ck.ParamConfigurationError, match=r"m\.p.*lies not inside"):
        param.p.to_valid(value)


def test_under_vmap_a_value_on_a_bound_is_infinite():
    """Where values cannot be looked at, those on a bound become infinite and those beyond it NaN."""
    param = ck.Param("p", shape=(), valid=(0.0, 1.0))
    x = vmap(param.to_valid)(torch.tensor([0.0, 0.5, 1.0, 2.0]))
    assert x[0] == -torch.inf
    assert x[1] == 0
    assert x[2] == torch.inf
    assert x[3].isnan()


@given(x=st.floats(-1e3, 1e3))
def test_a_cyclic_param_is_wrapped(x):
    """Any number becomes the point of the circle that it names, with the gradient of the identity."""
    param = ck.Param("p", shape=(), valid=(1.0, 3.0), cyclic=True, dtype=torch.float64)
    z = torch.tensor(x, dtype=torch.float64, requires_grad=True)
    value = param.from_valid(z)
    assert 1.0 <= value <= 3.0
    turns = (z - value) / 2.0
    torch.testing.assert_close(turns, turns.round(), atol=1e-9, rtol=0)
    assert torch.autograd.grad(value, z)[0] == 1
    assert param.from_valid(value) == value
    assert param.to_valid(value) == value


def test_bounds_of_members_broadcast():
    """Bounds of a vector hold for every member of a batch."""
    param = bounded("vector")
    x = torch.randn(4, 5, 2, dtype=torch.float64)
    assert param.from_valid(x).shape == (4, 5, 2)
    torch.testing.assert_close(param.from_valid(x)[2, 3], param.from_valid(x[2, 3]))


def test_dtypes_stay():
    """The dtype of the values wins over that of the bounds."""
    param = ck.Param("p", shape=(), valid=(0.0, 1.0))
    for dtype in (torch.float32, torch.float64):
        assert param.from_valid(torch.zeros(3, dtype=dtype)).dtype == dtype
        assert param.to_valid(torch.full((3,), 0.5, dtype=dtype)).dtype == dtype


@pytest.mark.parametrize("valid", [None, (-1.5, None), (None, 3.0)])
def test_one_sided_bounds_agree_with_upstream(valid):
    """Without bounds or with one, both packages use the same numbers."""
    ours, theirs = (package.Param("p", shape=(), valid=valid) for package in (ck, caskade))
    x = torch.linspace(-3, 2, 9)
    torch.testing.assert_close(ours.from_valid(x), theirs.from_valid(x))
    torch.testing.assert_close(ours.to_valid(ours.from_valid(x)), theirs.to_valid(theirs.from_valid(x)))


def test_maps_compile():
    """Both directions compile into one graph."""
    param = ck.Param("p", shape=(), valid=(0.0, 2.0))
    x = torch.linspace(-2, 2, 5)
    there = torch.compile(param.from_valid, fullgraph=True, backend="eager")(x)
    torch.testing.assert_close(there, param.from_valid(x))
    back = torch.compile(param.to_valid, fullgraph=True, backend="eager")(there)
    torch.testing.assert_close(back, x)


# Whole graphs


def leaves(form):
    return torch.utils._pytree.tree_leaves(form)


@pytest.mark.parametrize("scheme", ["array", "list", "dict"])
@pytest.mark.parametrize("group", [0, 1])
@pytest.mark.parametrize("make", [Disk, Sky])
def test_every_form_comes_back(scheme, group, make):
    """Vectors, lists and dicts, in groups or not, keep their form and come back equal."""
    module = make()
    if make is Disk:
        module.radius.group = group
    else:
        module.disks.q.group = group
    params = module.get_values(scheme)
    there = module.to_valid(params)
    back = module.from_valid(there)
    assert torch.utils._pytree.tree_structure(back) == torch.utils._pytree.tree_structure(params)
    assert any(not torch.equal(a, b) for a, b in zip(leaves(there), leaves(params), strict=True))
    for one, other in zip(leaves(back), leaves(params), strict=True):
        torch.testing.assert_close(one, other)


def test_forms_agree():
    """The vector, the list and the dict of a graph are changed by the same maps."""
    disk = Disk()
    array, row, tree = (disk.to_valid(disk.get_values(scheme)) for scheme in ("array", "list", "dict"))
    assert torch.equal(array, torch.cat([value.reshape(-1) for value in row]))
    assert list(tree) == ["q", "radius", "angle", "offset"]
    assert all(torch.equal(a, b) for a, b in zip(tree.values(), row, strict=True))


@pytest.mark.parametrize("make", [Disk, Sky])
def test_outer_batch_dims_stay_in_front(make):
    """A batch of vectors is changed row by row."""
    module = make()
    x = torch.randn(4, 2, len(module.get_values()))
    values = module.from_valid(x)
    assert values.shape == x.shape
    torch.testing.assert_close(values[3, 1], module.from_valid(x[3, 1]))
    changed = [i for i in range(x.shape[-1]) if not module.find_param(i)[0].cyclic]
    torch.testing.assert_close(module.to_valid(values)[..., changed], x[..., changed], rtol=1e-4, atol=1e-4)


def test_a_dict_may_hold_vectors_for_a_module():
    """A tensor in the place of a module's dict stands for all params below it, with a row for each member."""
    sky = Sky()
    members = sky.disks.get_values()
    there = sky.to_valid({"disks": members, "noise": torch.tensor(0.2)})
    assert there["disks"].shape == members.shape == (3, 5)
    assert torch.equal(there["disks"], sky.disks.to_valid(members))
    torch.testing.assert_close(sky.from_valid(there)["disks"], members)


def test_one_group_alone():
    """A group can be changed without the others."""
    disk = Disk(group=1)
    torch.testing.assert_close(disk.to_valid(torch.tensor([1.0, 2.0]), group=1), torch.log(torch.tensor([1.0, 2.0])))
    with pytest.raises(ck.ParamConfigurationError, match="group 3"):
        disk.to_valid(torch.zeros(2), group=3)
    with pytest.raises(ck.FillParamsSequenceError, match="groups"):
        disk.to_valid(torch.zeros(5))


def test_wrong_sizes_are_errors():
    """Vectors and lists that do not match the params are refused, by the errors that calls give."""
    disk = Disk()
    with pytest.raises(ck.FillParamsArrayError):
        disk.to_valid(torch.zeros(4))
    with pytest.raises(ck.FillParamsSequenceError):
        disk.from_valid([torch.zeros(())])
    with pytest.raises(ck.FillParamsMappingError):
        disk.from_valid({"p": 0.0})
    with pytest.raises(ck.FillParamsError):
        disk.from_valid(3.0)


def test_a_graph_without_dynamic_params():
    """Nothing to change is nothing."""
    module = ck.Module("empty")
    assert module.to_valid(torch.zeros(0)).shape == (0,)
    assert module.to_valid([]) == []
    assert module.from_valid({}) == {}


# ValidContext


@pytest.mark.parametrize("scheme", ["array", "list", "dict"])
def test_valid_context_exchanges_unconstrained_values(scheme):
    """Within the context get_values, set_values and calls agree on unconstrained values."""
    disk = Disk()
    plain = disk.get_values(scheme)
    expected = disk.all(plain)
    with ck.ValidContext(disk):
        assert disk.valid_context
        free = disk.get_values(scheme)
        for one, other in zip(leaves(free), leaves(disk.to_valid(plain)), strict=True):
            assert torch.equal(one, other)
        torch.testing.assert_close(disk.all(free), expected)
        torch.testing.assert_close(disk.all(params=free), expected)
        disk.set_values(free)
        assert torch.equal(disk.get_values(respect_valid=False), disk.get_values("array", True, "value", None, False))
    assert not disk.valid_context
    torch.testing.assert_close(disk.get_values(), Disk().get_values())


def test_valid_context_lets_an_optimiser_run():
    """Gradient steps in unconstrained values end at a minimum inside of the bounds."""
    disk = Disk()
    goal = torch.tensor([0.9, 0.1, 5.0, 2.0, 7.0])
    with ck.ValidContext(disk):
        x = disk.get_values().requires_grad_()
        optimiser = torch.optim.Adam([x], lr=0.1)
        for _ in range(400):
            optimiser.zero_grad()
            ((disk.all(x) - goal) ** 2).sum().backward()
            optimiser.step()
        disk.set_values(x.detach())
    torch.testing.assert_close(disk.get_values(), goal, atol=0.05, rtol=0.05)


def test_valid_context_concerns_the_module_and_all_below():
    """A context of a part leaves the whole alone; one of the whole holds for its parts."""
    sky = Sky()
    with ck.ValidContext(sky.disks):
        assert sky.disks.valid_context
        assert not sky.valid_context
    with ck.ValidContext(sky):
        assert sky.disks.valid_context


def test_valid_context_leaves_nothing_behind():
    """An exception ends the context as a normal exit does, and contexts nest."""
    disk = Disk()
    with pytest.raises(ZeroDivisionError), ck.ValidContext(disk), ck.ValidContext(disk):
        raise ZeroDivisionError
    assert not disk.valid_context


def test_values_passed_within_a_call_are_what_they_are():
    """The params of members go through torch.vmap unchanged: only what comes from outside is mapped."""

    class Total(ck.Module):
        def __init__(self, disk):
            super().__init__()
            self.hierarchical_link("disk", disk)

        @ck.forward
        def by_hand(self, disk_params, disk_dims):
            return torch.vmap(self.disk.all, in_dims=(disk_dims,))(disk_params).sum(0)

        @ck.forward
        def by_name(self):
            return ck.vmap(self.disk.all)().sum(0)

    disk = Disk()
    disk.q = [0.2, 0.4]
    total = Total(disk)
    expected = total.by_hand(total.get_values())
    with ck.ValidContext(total):
        torch.testing.assert_close(total.by_hand(total.get_values()), expected)
        torch.testing.assert_close(total.by_name(total.get_values()), expected)


def test_valid_context_compiles():
    """A call in the context compiles, and does not mix up its two meanings."""
    disk = Disk()
    compiled = torch.compile(disk.all, fullgraph=True, backend="eager")
    plain = disk.get_values()
    expected = disk.all(plain)
    torch.testing.assert_close(compiled(plain), expected)
    with ck.ValidContext(disk):
        torch.testing.assert_close(compiled(disk.to_valid(plain)), expected)
    torch.testing.assert_close(compiled(plain), expected)
