"""One and the same model, written for ``caskade`` and run on both packages: all that is seen from outside agrees."""

import caskade
import pytest
import torch

import caskade_pyro

X = torch.linspace(-2.0, 2.0, 7)


# The modules of a small simulator, as somebody would write them for the package that is given.


def blob_class(ck):
    class Blob(ck.Module):
        def __init__(self, name=None, centre=None, width=None, flux=None):
            super().__init__(name)
            self.centre = ck.Param("centre", centre, shape=(2,), units="pixel")
            self.width = ck.Param("width", width, shape=(), valid=(0.0, None), units="pixel")
            self.flux = ck.Param("flux", flux, shape=(), valid=(None, 100.0))

        @ck.forward
        def radius(self, x, centre):
            return ((x - centre[..., :1]) ** 2 + centre[..., 1:] ** 2).sqrt()

        @ck.forward
        def light(self, x, width=None, flux=None):
            return flux[..., None] * torch.exp(-self.radius(x) / width[..., None])

    return Blob


def scene_class(ck):
    class Scene(ck.Module):
        def __init__(self, blobs, sky=0.5):
            super().__init__("scene")
            self.blobs = blobs
            self.sky = ck.Param("sky", sky, shape=(), dynamic=True)
            self.gain = ck.Param("gain", 2.0, shape=())

        @ck.forward
        def image(self, x, sky, gain):
            total = self.blobs[0].light(x)
            for blob in self.blobs[1:]:
                total = total + blob.light(x)
            return gain[..., None] * (total + sky[..., None])

        @ck.forward
        def brighter(self, x):
            with ck.OverrideParam(self.blobs[0].flux, torch.tensor(9.0)):
                inside = self.image(x)
            return inside, self.image(x, gain=torch.tensor(1.0))

    return Scene


def live_class(ck):
    class Live(ck.Module):
        def __init__(self, blob):
            super().__init__("live")
            self.blob = blob
            self.total = ck.Param("total", 6.0, shape=())
            self.blob.flux.to_static(None)

        @ck.forward
        def light(self, x, total):
            self.blob.flux = total / 2
            return self.blob.light(x)

    return Live


def field_class(ck):
    class Field(ck.Module):
        def __init__(self, blob):
            super().__init__("field")
            self.hierarchical_link("blob", blob)
            self.sky = ck.Param("sky", 0.25, shape=())

        @ck.forward
        def image(self, x, blob_params, blob_dims, sky):
            return torch.vmap(self.blob.light, in_dims=(None, blob_dims))(x, blob_params).sum(0) + sky

    return Field


def cached_class(ck):
    class Cached(ck.Module):
        def __init__(self):
            super().__init__("cached")
            self.a = ck.Param("a", 3.0)
            self.runs = []

        @ck.active_cache
        @ck.forward
        def slow(self, a):
            self.runs.append(1)
            return a**2

        @ck.forward
        def both(self):
            return self.slow() + self.slow()

    return Cached


def scene(ck):
    Blob = blob_class(ck)
    one = Blob("one", width=1.0, flux=5.0)
    two = Blob("two", centre=[0.5, 0.1])
    one.centre = (0.0, 1.0)
    one.to_dynamic()
    two.width = lambda p: 2 * p.width.value
    two.width.link(one.width)
    two.flux = one.flux
    return scene_class(ck)([one, two])


def both(build, *args):
    return build(caskade_pyro, *args), build(caskade, *args)


def same(ours, theirs):
    """Numbers in any nesting are equal."""
    flat, expected = (torch.utils._pytree.tree_leaves(form) for form in (ours, theirs))
    assert len(flat) == len(expected)
    for one, other in zip(flat, expected, strict=True):
        torch.testing.assert_close(torch.as_tensor(one), torch.as_tensor(other))


def names(params):
    return [param.name for param in params]


def test_the_order_of_params_agrees():
    """Dynamic, static and pointer params come in the same order, and so do the vector and its finders."""
    ours, theirs = both(scene)
    for kind in ("dynamic_params", "static_params", "pointer_params", "all_params"):
        assert names(getattr(ours, kind)) == names(getattr(theirs, kind))
    assert ours.param_order() == theirs.param_order()
    for i in range(len(theirs.get_values())):
        one, other = ours.find_param(i), theirs.find_param(i)
        assert (one[0].name, one[1]) == (other[0].name, other[1])
    for param, other in zip(ours.dynamic_params, theirs.dynamic_params, strict=True):
        assert ours.find_index(param) == theirs.find_index(other)


@pytest.mark.parametrize("scheme", ["array", "list", "dict"])
def test_values_in_every_form_agree(scheme):
    """Vectors, lists and dicts hold the same numbers, and a call takes each of them."""
    ours, theirs = both(scene)
    form, expected = ours.get_values(scheme), theirs.get_values(scheme)
    same(form, expected)
    if scheme == "dict":
        assert list(form) == list(expected)
    same(ours.image(X, form), theirs.image(X, expected))
    same(ours.image(X, params=form), theirs.image(X, params=expected))


def test_calls_agree():
    """Calls with a vector, without params, under keyword overrides and with an OverrideParam give the same."""
    ours, theirs = both(scene)
    params = theirs.get_values() * 1.5
    same(ours.image(X, params), theirs.image(X, params))
    same(ours.image(X), theirs.image(X, params=()))  # upstream cannot tell that X is no params
    same(ours.brighter(X, params), theirs.brighter(X, params))
    same(
        torch.vmap(ours.image, (None, 0))(X, torch.stack([params, 2 * params])),
        torch.vmap(theirs.image, (None, 0))(X, torch.stack([params, 2 * params])),
    )
    same(torch.func.jacfwd(ours.image, 1)(X, params), torch.func.jacfwd(theirs.image, 1)(X, params))


def test_a_batch_of_vectors_agrees():
    """Dims in front of the vector are batch dims for every param."""
    ours, theirs = both(lambda ck: blob_class(ck)("blob"))
    params = torch.rand(5, 4) + 0.5
    same(ours.light(X, params), theirs.light(X, params))


def test_edits_agree():
    """Roles, pointers and values follow the same edits."""

    def edited(ck):
        s = scene(ck)
        one, two = s.blobs
        one.width.to_static()
        two.width.to_static(0.7)
        two.flux.unlink(one.flux)  # what upstream leaves linked when a pointer gets a value
        two.flux = 3.0
        two.flux.to_dynamic()
        two.unlink("centre")
        two.centre = ck.Param("centre", [0.2, 0.3], shape=(2,))
        s.sky = 0.75
        s.gain = s.sky
        return s

    ours, theirs = both(edited)
    assert names(ours.dynamic_params) == names(theirs.dynamic_params)
    assert names(ours.static_params) == names(theirs.static_params)
    same(ours.get_values(), theirs.get_values())
    same(ours.get_values(dynamic=False), theirs.get_values(dynamic=False))
    same(ours.image(X, ours.get_values() + 0.1), theirs.image(X, theirs.get_values() + 0.1))


def test_live_params_agree():
    """A live param takes the value that the simulator sets, for the time of the call."""
    ours, theirs = both(lambda ck: live_class(ck)(blob_class(ck)("blob")))
    params = torch.tensor([0.1, 0.2, 0.9])
    same(ours.light(X, params), theirs.light(X, params))
    assert ours.blob.flux.value is theirs.blob.flux.value is None


def field(ck):
    blob = blob_class(ck)("blob", flux=2.0)
    blob.centre = [[0.0, 0.1], [0.5, 0.2], [1.0, 0.3]]
    blob.width = [1.0, 2.0, 3.0]
    return field_class(ck)(blob)


def test_hierarchical_links_agree():
    """Members in the vector, in a call and in the finders are the same."""
    ours, theirs = both(field)
    same(ours.get_values(), theirs.get_values())
    same(ours.image(X, ours.get_values()), theirs.image(X, theirs.get_values()))
    for i in range(len(theirs.get_values())):
        assert ours.find_param(i)[1] == theirs.find_param(i)[1]
    new = torch.rand(len(theirs.get_values())) + 0.5
    ours.set_values(new)
    theirs.set_values(new)
    same(ours.image(X, new), theirs.image(X, new))
    same(ours.get_values("list"), theirs.get_values("list"))


def test_unconstrained_values_agree():
    """With one-sided bounds the two packages use the same unconstrained numbers, in a ValidContext too."""
    for build in (scene, field):
        ours, theirs = both(build)
        params = theirs.get_values()
        same(ours.to_valid(params), theirs.to_valid(params))
        same(ours.from_valid(ours.to_valid(params)), params)
        with caskade_pyro.ValidContext(ours), caskade.ValidContext(theirs):
            same(ours.get_values(), theirs.get_values())
            free = theirs.get_values() + 0.1
            same(ours.image(X, free), theirs.image(X, free))
            ours.set_values(free)
            theirs.set_values(free)
        same(ours.get_values(), theirs.get_values())


def test_groups_agree():
    """Params in groups are passed as a list of vectors, in the order of the groups."""

    def grouped(ck):
        s = scene(ck)
        s.blobs[0].width.group = 2
        s.sky.group = 1
        return s

    ours, theirs = both(grouped)
    assert ours.dynamic_param_groups == theirs.dynamic_param_groups
    assert ours.param_order() == theirs.param_order()
    for scheme in ("array", "list", "dict"):
        same(ours.get_values(scheme), theirs.get_values(scheme))
        same(ours.image(X, ours.get_values(scheme)), theirs.image(X, theirs.get_values(scheme)))
    same(ours.get_values(group=2), theirs.get_values(group=2))
    same(ours.to_valid(ours.get_values()), theirs.to_valid(theirs.get_values()))
    assert ours.find_index(ours.sky) == theirs.find_index(theirs.sky)


def test_groups_of_members_agree():
    """The params of members come in groups as well, ready for torch.vmap."""

    def grouped(ck):
        f = field(ck)
        f.blob.width.group = 1
        return f

    ours, theirs = both(grouped)
    same(ours.get_values(), theirs.get_values())
    same(ours.image(X, ours.get_values()), theirs.image(X, theirs.get_values()))


def test_an_opened_call_agrees():
    """ActiveContext and fill_params open a call for several methods."""
    ours, theirs = both(scene)
    params = theirs.get_values() * 1.2
    with caskade_pyro.ActiveContext(ours), caskade.ActiveContext(theirs):
        ours.fill_params(params)
        theirs.fill_params(params)
        same(ours.image(X), theirs.image(X))
        same(ours.blobs[1].radius(X), theirs.blobs[1].radius(X))


def test_cached_methods_agree():
    """A method under active_cache runs once for each call."""
    ours, theirs = both(lambda ck: cached_class(ck)())
    for module in (ours, theirs):
        assert module.both() == 18
        assert module.both() == 18
    assert len(ours.runs) == len(theirs.runs) == 2


def test_no_params_ask_for_the_values_of_the_graph():
    """An empty list of params lets a call use what the graph holds, even if what it does not need is missing."""

    def unfinished(ck):
        s = scene(ck)
        s.blobs[1].centre.to_dynamic(None)
        return s

    ours, theirs = both(unfinished)
    same(ours.blobs[0].light(X, ()), theirs.blobs[0].light(X, ()))
    same(ours.blobs[0].radius(X, params=[]), theirs.blobs[0].radius(X, params=[]))
    for module, package in ((ours, caskade_pyro), (theirs, caskade)):
        with pytest.raises((package.FillParamsError, TypeError)):
            module.image(X, params=())


def test_params_behind_a_filled_argument():
    """Without dynamic params, an empty last argument is recognised although the method has optional ones."""

    def image(ck):
        class Image(ck.Module):
            def __init__(self):
                super().__init__("image")
                self.scale = ck.Param("scale", 2.0)

            @ck.forward
            def pixel(self, i, j, scale, shift=0.0):
                return i * scale + j + shift

        return Image()

    ours, theirs = both(image)
    for module in (ours, theirs):
        assert module.pixel(1.0, 2.0, ()) == 4
        assert module.pixel(1.0, 2.0) == 4
        assert module.pixel(1.0, 2.0, shift=1.0) == 5


def test_set_values_of_another_attribute():
    """A vector can be laid out over any attribute of the params, such as uncertainties."""
    ours, theirs = both(scene)
    vector = torch.arange(len(theirs.get_values()), dtype=torch.float32)
    ours.set_values(vector, attribute="uncertainty")
    theirs.set_values(vector, attribute="uncertainty")
    same([p.uncertainty for p in ours.dynamic_params], [p.uncertainty for p in theirs.dynamic_params])
    same(ours.get_values(attribute="uncertainty"), vector)


@pytest.mark.parametrize("axis", [0, 1])
def test_the_backend_agrees(axis):
    """The array functions that go by the name of ``backend`` do what upstream's do on torch."""
    ours, theirs = caskade_pyro.backend, caskade.backend
    assert ours.backend == theirs.backend == "torch"
    assert ours.module is theirs.module is torch
    assert ours.array_type is theirs.array_type is torch.Tensor
    a = ours.make_array([[1.0, 2.0], [3.0, 4.0]], dtype=torch.float64)
    for name, args in {
        "make_array": ([1.0, 2.0],),
        "as_array": ([1, 2],),
        "concatenate": ((a, a), axis),
        "broadcast_cat": ((a, a[:1]),),
        "tolist": (a,),
        "view": (a, (4,)),
        "detach": (a,),
        "to": (a, torch.float32),
        "to_numpy": (a,),
        "any": (a > 3,),
        "all": (a > 3,),
        "log": (a,),
        "exp": (a,),
        "sum": (a, axis),
    }.items():
        same(getattr(ours, name)(*args), getattr(theirs, name)(*args))
    assert ours.sum(a) == 10


def test_the_backend_is_torch():
    """Setting the backend to what it is does nothing; any other is an error that says so."""
    caskade_pyro.backend.backend = "torch"
    for other in ("jax", "numpy"):
        with pytest.raises(caskade_pyro.BackendError, match=f"torch only.*{other}"):
            caskade_pyro.backend.backend = other
    assert caskade_pyro.backend.backend == "torch"
    assert caskade_pyro.ArrayLike is torch.Tensor
