"""Properties of random graphs: calls, values and edits, against loops over the members written out."""

import copy
import shutil
import threading

import numpy as np
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from random_graphs import Broken, Part, build, plans

import caskade_pyro as ck
from caskade_pyro.graph.calls.evaluation import current_evaluation

seeds = st.integers(0, 2**32 - 1).map(np.random.default_rng)
X = 0.4


def close(result, expected):
    torch.testing.assert_close(result, torch.as_tensor(expected, dtype=torch.float64))


@settings(max_examples=150, report_multiple_bugs=False)
@given(plan=plans(groups=True), numbers=seeds)
def test_a_call_is_the_loop_over_all_members(plan, numbers):
    """Params given as a vector, a list or a dict, or held by the graph, give what loops without any vmap give."""
    graph = build(plan)
    x = torch.tensor(X, dtype=torch.float64)
    values = graph.values(numbers)
    for form in ("vector", "list", "dict"):
        close(graph.root.total(x, params=graph.form(values, form)), graph.reference(X, values))
    close(graph.root.total(x), graph.reference(X, graph.stored()))


@settings(max_examples=60)
@given(plan=plans(), numbers=seeds, chunk_size=st.sampled_from([None, 1, 2]))
def test_an_outer_batch_is_the_loop_over_it(plan, numbers, chunk_size):
    """torch.vmap over params, whole or in chunks, gives what each of them gives alone."""
    graph = build(plan)
    assume(graph.root.dynamic_params)
    values = [graph.values(numbers) for _ in range(3)]
    expected = [graph.reference(X, one) for one in values]
    x = torch.tensor(X, dtype=torch.float64)
    vectors = torch.stack([graph.form(one, "vector") for one in values])
    close(torch.vmap(graph.root.total, in_dims=(None, 0), chunk_size=chunk_size)(x, vectors), expected)
    stacked = {plan: np.stack([one[plan] for one in values]) for plan in values[0]}
    params = graph.form(stacked, "list")
    close(torch.vmap(graph.root.total, in_dims=(None, 0), chunk_size=chunk_size)(x, params), expected)
    if vectors.shape[1]:
        twice = torch.vmap(torch.vmap(graph.root.total, in_dims=(None, 0)), in_dims=(None, 0), chunk_size=chunk_size)
        close(twice(x, torch.stack([vectors, vectors.flip(0)])), [expected, expected[::-1]])


# Values


def shown(root):
    """Everything that the graph holds, to be compared."""
    return {
        node: (
            tuple(node.children.items()),
            frozenset(node.parents),
            dict(node.plate_declarations),
            *(
                (
                    node.role,
                    node.target,
                    node.declared_shape,
                    node.declared_batch_shape,
                    node.group,
                    node.valid,
                    node.units,
                )
                if isinstance(node, ck.Param)
                else ()
            ),
        )
        for node in root.topological_ordering()
    }


def stored(root):
    return {param: param.stored_value for param in root.all_params}


def same_values(root, before, exactly=True):
    """Whether each param holds the same; the vector may have written one value out for all members."""
    for param, value in before.items():
        now = param.stored_value
        if value is None or exactly:
            assert (now is None) == (value is None)
            assert value is None or (now.shape == value.shape and torch.equal(now, value))
        else:
            placement = ck.plate_layout(root).placement(param)
            full = in_full(now, placement)
            assert torch.equal(full, in_full(value, placement).broadcast_to(full.shape))


def in_full(value, placement):
    """A value with a dim for each plate around its param."""
    batch = value.ndim - len(placement.shape)
    missing = (1,) * (len(placement.chain) - batch)
    return value.reshape(value.shape[:batch] + missing + value.shape[batch:])


def with_replicates(graph, replicates, numbers):
    """Give some params values for each replicate of the whole model."""
    values = graph.stored()
    for plan in values:
        if numbers.random() < 0.7:
            padded = plan.dims + (1,) * (len(plan.chain) - len(plan.dims))
            values[plan] = numbers.uniform(-1, 1, (*replicates, *padded, *plan.shape))
    graph.root.set_values(graph.form(values, "list"))


@settings(max_examples=100, report_multiple_bugs=False)
@given(
    plan=plans(groups=True),
    numbers=seeds,
    scheme=st.sampled_from(["array", "list", "dict"]),
    replicates=st.sampled_from([(), (2,), (3, 1), (2, 3)]),
    dynamic=st.booleans(),
)
def test_set_values_of_get_values_is_the_identity(plan, numbers, scheme, replicates, dynamic):
    """Written back as they were read, values change nothing: not themselves, nor shapes, roles, links and layout."""
    graph = build(plan)
    root = graph.root
    if replicates:
        with_replicates(graph, replicates, numbers)
    assume(dynamic or all(param.value is not None for param in root.static_params))
    graph_before, before, layout = shown(root), stored(root), ck.plate_layout(root)
    values = root.get_values(scheme, dynamic=dynamic)
    root.set_values(values, dynamic=dynamic)
    same_values(root, before, exactly=scheme != "array")
    torch.testing.assert_close(root.get_values(scheme, dynamic=dynamic), values, rtol=0, atol=0)
    if scheme != "array":
        assert shown(root) == graph_before
        assert ck.plate_layout(root) == layout
    assert [(p.role, p.group) for p in before] == [(p.role, p.group) for p in root.all_params]
    assert plates_of(ck.plate_layout(root)) == plates_of(layout)


def plates_of(layout):
    return layout.plates, {place.site: (place.chain, place.shape) for place in layout.placements}


# Edits


def relinker(node):
    """What puts the links of a node back, in their order."""
    links, plates = dict(node.children), dict(node.plate_declarations)

    def undo():
        node.unlink()
        for key, child in links.items():
            if key in plates:
                node.hierarchical_link(key, child, size=plates[key].size)
            else:
                node.link(key, child)

    return undo


def role_keeper(param):
    """What gives a param its role, value and target back."""
    value, target, links = param.stored_value, param._pointer, list(param.children.values())
    if param.pointer:
        return lambda: param.to_pointer(target.target, link=links)
    return (lambda: param.to_dynamic(value)) if param.dynamic else (lambda: param.to_static(value))


def setter(param, name):
    former = getattr(param, name)
    return lambda: setattr(param, name, former)


def some_edit(draw, graph):
    """Edit a graph at random; returns what undoes it."""
    nodes = graph.root.topological_ordering()
    params = [node for node in nodes if isinstance(node, ck.Param)]
    param = params[draw(st.integers(0, len(params) - 1))]
    modules = [node for node in nodes if isinstance(node, Part)]
    module = modules[draw(st.integers(0, len(modules) - 1))]
    kind = draw(
        st.sampled_from(["static", "dynamic", "point", "link", "plate", "unlink", "resize", "value", "group", "units"])
    )
    if kind in ("static", "dynamic", "point", "value"):
        undo = role_keeper(param)
        if kind == "point":
            param.to_pointer(params[draw(st.integers(0, len(params) - 1))])
        elif kind == "value":
            assume(not param.pointer and param.stored_value is not None)
            param.value = param.stored_value + 1
        else:
            param.to_static() if kind == "static" else param.to_dynamic()
        return undo
    if kind in ("group", "units"):
        undo = setter(param, kind)
        setattr(param, kind, 7 if kind == "group" else "m")
        return undo
    undo = relinker(module)
    if kind == "link":
        module.link(ck.Param(f"extra{len(module.children)}", 1.0, dynamic=True))
    elif kind == "plate":
        extra = ck.Module("extra")
        extra.a = ck.Param("a", shape=())
        module.hierarchical_link(f"extra{len(module.children)}", extra, size=2)
    elif kind == "unlink":
        assume(module.children)
        module.unlink(draw(st.sampled_from(sorted(module.children))))
    else:
        assume(module.plate_declarations)
        key = draw(st.sampled_from(sorted(module.plate_declarations)))
        child = module[key]
        module.unlink(key)
        module.hierarchical_link(key, child, size=draw(st.integers(1, 4)))
    return undo


def outcome(root, x):
    """What a graph says of itself and gives when called: an error, if it cannot be called."""
    try:
        layout = ck.plate_layout(root)
        said = [(place.site, place.plates, place.shape) for place in layout.placements]
        return said, [param.name for param in root.dynamic_params], root.total(x).item()
    except Exception as error:  # noqa: BLE001 - an edited graph may be of no use to its forward methods
        return type(error)


@settings(max_examples=100, report_multiple_bugs=False)
@given(plan=plans(groups=True), data=st.data())
def test_edits_take_effect_and_can_be_undone(plan, data):
    """After each edit a graph is what a fresh copy of it is, and with all edits undone it is what it was."""
    graph = build(plan)
    root, x = graph.root, torch.tensor(X, dtype=torch.float64)
    before = shown(root), stored(root), root.dynamic_params, ck.plate_layout(root), root.total(x)
    undos = []
    for _ in range(data.draw(st.integers(1, 4))):
        graph_now = shown(root)
        try:
            undos.append(some_edit(data.draw, graph))
        except ck.CaskadeException:  # a pointer to itself, or to a value that does not fit
            assert shown(root) == graph_now
        assert outcome(root, x) == outcome(copy.deepcopy(root), x)
    for undo in reversed(undos):
        undo()
    assert shown(root) == before[0]
    same_values(root, before[1])
    assert root.dynamic_params == before[2]
    assert ck.plate_layout(root) == before[3]
    assert torch.equal(root.total(x), before[4])


# What a call leaves behind


@settings(max_examples=100, report_multiple_bugs=False)
@given(plan=plans(), numbers=seeds, vmapped=st.booleans())
def test_a_call_that_fails_leaves_nothing_behind(plan, numbers, vmapped):
    """A forward method that raises at a random step, ten times, leaves graph and thread as they were."""
    graph = build(plan)
    root, x, trip = graph.root, torch.tensor(X, dtype=torch.float64), graph.tripwire
    values = graph.values(numbers)
    params = graph.form(values, "list")
    method = torch.vmap(root.total, in_dims=(0, None)) if vmapped else root.total
    given_x = torch.stack([x, x + 1]) if vmapped else x
    method(given_x, params=params) if not vmapped else method(given_x, params)
    steps = trip.steps
    before = shown(root), stored(root)
    for at in numbers.integers(1, steps + 1, size=10):
        trip.steps, trip.at = 0, at
        with pytest.raises(Broken):
            method(given_x, params) if vmapped else method(given_x, params=params)
        assert shown(root) == before[0]
        assert all(param.stored_value is value for param, value in before[1].items())
        assert current_evaluation() is None
        assert not any(node.active for node in root.topological_ordering())
    trip.at = None
    close(root.total(x, params=params), graph.reference(X, values))


# One graph with everything: two plates deep, with pointers, constants of members and a live param


class Star(ck.Module):
    def __init__(self):
        super().__init__("star")
        self.flux = ck.Param("flux", shape=())
        self.place = ck.Param("place", shape=(2,))
        self.redshift = ck.Param("redshift", torch.tensor([[0.1, 0.2, 0.3]]), shape=())

    @ck.forward
    def light(self, x, flux, place, redshift, scale, dimmed):
        return dimmed * torch.exp(-((x - place[0] * place[1]) ** 2)) + flux * redshift * torch.sin(scale * x)


class Cluster(ck.Module):
    def __init__(self, star):
        super().__init__("cluster")
        self.depth = ck.Param("depth", shape=())
        self.hierarchical_link("stars", star, size=3)
        self.mean_flux = ck.Param("mean_flux", lambda p: p.flux.value.mean(), link=star.flux)

    @ck.forward
    def light(self, x, depth, mean_flux):
        return depth * ck.vmap(self.stars.light)(x).sum(0) + mean_flux


class Sky(ck.Module):
    def __init__(self):
        super().__init__("sky")
        self.scale = ck.Param("scale", shape=())
        star = Star()
        star.scale = self.scale
        self.hierarchical_link("clusters", Cluster(star), size=2)
        star.dimmed = ck.Param(
            "dimmed", lambda p: p.flux.value * p.depth.value**2, link=[star.flux, self.clusters.depth]
        )
        self.offset = ck.Param("offset", None, dynamic=False)
        self.shifted = ck.Param("shifted", lambda p: p.offset.value * p.scale.value, link=[self.offset, self.scale])

    @ck.forward
    def light(self, x, scale):
        self.offset = scale + 1
        return ck.vmap(self.clusters.light)(x).sum(0) + self.shifted.value


GRID = torch.linspace(-1.0, 1.0, 4)
LENGTHS = {"depth": 2, "flux": 6, "place": 12, "scale": 1}


def sky(x, vector):
    """The sky, star by star."""
    order = [param.name for param in SKY.dynamic_params]
    pieces = dict(zip(order, vector.split([LENGTHS[name] for name in order]), strict=True))
    depth, scale = pieces["depth"], pieces["scale"][0]
    flux, place = pieces["flux"].reshape(2, 3), pieces["place"].reshape(2, 3, 2)
    total = (scale + 1) * scale
    for i in range(2):
        total = total + flux[i].mean()
        for j in range(3):
            bump = flux[i, j] * depth[i] ** 2 * torch.exp(-((x - place[i, j, 0] * place[i, j, 1]) ** 2))
            total = total + depth[i] * (bump + flux[i, j] * 0.1 * (j + 1) * torch.sin(scale * x))
    return total


SKY = Sky()


def vectors(*batch):
    return torch.rand(*batch, sum(LENGTHS.values()))


@pytest.mark.parametrize("transform", ["jacfwd", "jacrev", "hessian"])
def test_derivatives_of_nested_plates(transform):
    """Derivatives are those of the computation written out, also of batches."""
    apply = getattr(torch.func, transform)
    vector = vectors(2)
    derivative, expected = apply(lambda v: SKY.light(GRID, v)), apply(lambda v: sky(GRID, v))
    torch.testing.assert_close(derivative(vector[0]), expected(vector[0]))
    torch.testing.assert_close(torch.vmap(derivative)(vector), torch.stack([expected(one) for one in vector]))


@pytest.mark.parametrize("chunk_size", [None, 1, 2])
def test_nested_vmap_over_nested_plates(chunk_size):
    """A batch of batches, whole or in chunks, and of inputs as well, is computed one by one."""
    vector = vectors(2, 3)
    expected = torch.stack([torch.stack([sky(GRID, one) for one in row]) for row in vector])
    inner = torch.vmap(SKY.light, in_dims=(None, 0), chunk_size=chunk_size)
    torch.testing.assert_close(torch.vmap(inner, in_dims=(None, 0), chunk_size=chunk_size)(GRID, vector), expected)
    per_input = torch.vmap(torch.vmap(SKY.light, in_dims=(0, None), chunk_size=chunk_size), in_dims=(None, 0))
    torch.testing.assert_close(per_input(GRID, vector[0]), expected[0])


@pytest.mark.parametrize(
    "backend",
    ["eager", pytest.param("inductor", marks=pytest.mark.skipif(not shutil.which("g++"), reason="needs g++"))],
)
def test_nested_plates_compile(backend):
    """The whole call compiles into one graph, which gives what the plain call gives."""
    torch.compiler.reset()
    compiled = torch.compile(SKY.light, fullgraph=True, backend=backend)
    for vector in vectors(2):
        torch.testing.assert_close(compiled(GRID, vector), sky(GRID, vector))
    torch.compiler.reset()


def test_two_threads_call_nested_plates():
    """A thousand calls in each of two threads at once, with pointers and a live param, are all right."""
    wrong, barrier = [], threading.Barrier(2)

    def work(number):
        generator = torch.Generator().manual_seed(number)
        many = torch.rand(1000, sum(LENGTHS.values()), generator=generator)
        expected = torch.vmap(lambda one: sky(GRID, one))(many)
        barrier.wait()
        for vector, right in zip(many, expected, strict=True):
            if not torch.allclose(SKY.light(GRID, vector), right, rtol=1e-4, atol=1e-5):
                wrong.append(number)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong
    assert SKY.offset.value is None


# What the random graphs found


class Ray(ck.Module):
    """Sources whose light passes one lens, which has members of its own."""

    def __init__(self, lens):
        super().__init__("ray")
        self.angle = ck.Param("angle", shape=())
        self.lens = lens

    @ck.forward
    def bent(self, angle):
        return angle * self.lens.bent()


class Lens(ck.Module):
    def __init__(self, by_hand, **declaration):
        super().__init__("lens")
        self.by_hand = by_hand
        self.hierarchical_link("halos", Halo(), **declaration)

    @ck.forward
    def bent(self):
        return (self.bent_by_hand() if self.by_hand else ck.vmap(self.halos.bent)()).sum(0)

    @ck.forward
    def bent_by_hand(self, halos_params, halos_dims):
        return torch.vmap(lambda one: self.halos.bent(params=one), in_dims=(halos_dims,))(halos_params)


class Halo(ck.Module):
    def __init__(self):
        super().__init__("halo")
        self.mass = ck.Param("mass", shape=())
        self.slope = ck.Param("slope", torch.tensor([[1.0, 2.0]]), shape=(2,))

    @ck.forward
    def bent(self, mass, slope):
        assert slope.shape == (2,)
        return mass * slope.sum()


class Rays(ck.Module):
    def __init__(self, lens):
        super().__init__("rays")
        self.lens = lens
        self.hierarchical_link("each", Ray(lens), size=3)

    @ck.forward
    def bent(self):
        return ck.vmap(self.each.bent)()


@pytest.mark.parametrize("by_hand", [False, True], ids=["ck.vmap", "params and dims"])
def test_members_call_a_module_that_has_members_of_its_own(by_hand):
    """A module outside of a plate that all members share may have a plate, whose statics of dim 1 lose that dim."""
    rays = Rays(Lens(by_hand, size=2))
    angle, mass = torch.rand(3), torch.rand(2)
    expected = angle * mass.sum() * 3.0
    torch.testing.assert_close(rays.bent({"each.angle": angle, "lens.halos.mass": mass}), expected)


@pytest.mark.parametrize("by_hand", [False, True], ids=["ck.vmap", "params and dims"])
def test_one_stored_value_serves_a_plate_of_one(by_hand):
    """A plate of size one works with a value without batch dims, as plates of every other size do."""
    lens = Lens(by_hand, size=1)
    lens.halos.mass = 2.0
    assert lens.bent() == 6.0


def test_a_pointer_asked_for_by_one_of_those_that_it_reads_all_of():
    """A pointer inside one plate over all members of another is no business of one of these: an error says so."""
    lens = Lens(by_hand=False, size=2)
    rays = Rays(lens)
    ray = rays.each
    lens.halos.total = ck.Param(
        "total", lambda p: p.angle.value.sum() * p.mass.value, link=[ray.angle, lens.halos.mass]
    )
    ray.seen = ck.Param("seen", lambda p: p.total.value.sum(), link=lens.halos.total)

    class Asking(Ray):
        @ck.forward
        def bent(self, seen):
            return seen

    ray.__class__ = Asking
    with pytest.raises(ck.PlateError, match=r"lens\.halos\.total.*plate each.*outside of both"):
        rays.bent({"each.angle": torch.rand(3), "lens.halos.mass": torch.rand(2)})
