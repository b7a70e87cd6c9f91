"""Plates: what they are read from, how members are computed, and every way in which they can be wrong."""

import pyro.distributions as dist
import pytest
import torch

import caskade_pyro as ck

X = torch.linspace(-1.0, 1.0, 4)


class Star(ck.Module):
    """The innermost module: a flux, a position of two components, and a colour that is the same for all by default."""

    def __init__(self):
        super().__init__("star")
        self.flux = ck.Param("flux", shape=())
        self.place = ck.Param("place", shape=(2,))
        self.colour = ck.Param("colour", 1.0, shape=())

    @ck.forward
    def light(self, x, flux, place, colour):
        return colour * flux * torch.exp(-((x - place[0] - place[1]) ** 2))

    @ck.forward
    def distribution(self, x, kind, flux):
        return kind(flux * x)


class Group(ck.Module):
    """A module whose members are repeated, by ck.vmap or with the params and dims that the seed document uses."""

    def __init__(self, key, child, by_hand=False, **declaration):
        super().__init__(key + "_group")
        self.hierarchical_link(key, child, **declaration)
        self.key, self.by_hand = key, by_hand
        self.scale = ck.Param("scale", 1.0, shape=())

    @ck.forward
    def light(self, x, scale):
        member = getattr(self, self.key)
        if self.by_hand:
            return scale * self.summed(x)
        return scale * ck.vmap(member.light)(x).sum(0)

    @ck.forward
    def each(self, x):
        return ck.vmap(getattr(self, self.key).light)(x)

    @ck.forward
    def distributions(self, x, kind):
        return ck.vmap(getattr(self, self.key).distribution)(x, kind)


class Stars(Group):
    """A group with a plate called stars, whose values by hand are stars_params and stars_dims."""

    def __init__(self, child, **kwargs):
        super().__init__("stars", child, **kwargs)

    @ck.forward
    def summed(self, x, stars_params, stars_dims):
        return torch.vmap(self.stars.light, in_dims=(None, stars_dims))(x, stars_params).sum(0)


class Clusters(Group):
    def __init__(self, child, **kwargs):
        super().__init__("clusters", child, **kwargs)

    @ck.forward
    def summed(self, x, clusters_params, clusters_dims):
        return torch.vmap(self.clusters.light, in_dims=(None, clusters_dims))(x, clusters_params).sum(0)


class Galaxies(Group):
    def __init__(self, child, **kwargs):
        super().__init__("galaxies", child, **kwargs)

    @ck.forward
    def summed(self, x, galaxies_params, galaxies_dims):
        return torch.vmap(self.galaxies.light, in_dims=(None, galaxies_dims))(x, galaxies_params).sum(0)


def star(x, flux, place, colour=1.0):
    return colour * flux * torch.exp(-((x - place[0] - place[1]) ** 2))


def nested(by_hand=False, sizes=(2, 3, 4)):
    """Stars in clusters in galaxies, with the sizes said by the links."""
    one = Star()
    galaxies, clusters, stars = sizes
    return one, Galaxies(
        Clusters(Stars(one, by_hand=by_hand, size=stars), by_hand=by_hand, size=clusters),
        by_hand=by_hand,
        size=galaxies,
    )


def plates(module):
    return {plate.name: (plate.size, plate.parent) for plate in ck.plate_layout(module).plates}


def placed(module):
    return {p.site: p.plates for p in ck.plate_layout(module).placements}


# What the layout says


def test_plates_are_named_by_the_path_of_link_keys():
    """Each hierarchical link is a plate, with its size, the plate around it and the params that lie in it."""
    _, sim = nested()
    assert plates(sim) == {
        "galaxies": (2, None),
        "galaxies.clusters": (3, "galaxies"),
        "galaxies.clusters.stars": (4, "galaxies.clusters"),
    }
    everywhere = tuple(plates(sim))
    assert placed(sim) == {
        "galaxies.clusters.stars.flux": everywhere,
        "galaxies.clusters.stars.place": everywhere,
        "galaxies.clusters.stars.colour": (),
        "galaxies.clusters.scale": (),
        "galaxies.scale": (),
        "scale": (),
    }


@pytest.mark.parametrize(
    ("batch", "inside", "root"),
    [
        ((2, 3), ("clusters", "clusters.stars"), ()),
        ((1, 3), ("clusters.stars",), ()),
        ((2, 1), ("clusters",), ()),
        ((2,), ("clusters",), ()),
        ((6, 2, 3), ("clusters_group", "clusters", "clusters.stars"), (6,)),
        ((6, 1, 3), ("clusters_group", "clusters.stars"), (6,)),
        ((6, 1, 1), ("clusters_group",), (6,)),
        ((5, 6, 2, 3), ("clusters_group_0", "clusters_group_1", "clusters", "clusters.stars"), (5, 6)),
    ],
    ids=str,
)
def test_batch_dims_are_read_outside_in(batch, inside, root):
    """The last dims are those of the plates, a 1 repeats nothing, fewer are the outermost, more are the root's."""
    one = Star()
    sim = Clusters(Stars(one, size=3), size=2)
    one.flux.batch_shape = batch
    assert placed(sim)["clusters.stars.flux"] == inside
    assert ck.plate_layout(sim).root_shape == root


def test_batch_shape_of_nothing_keeps_one_shared():
    """With a size declared, a param that says nothing is repeated, and one with batch_shape=() is shared."""
    one = Star()
    sim = Stars(one, size=4)
    one.flux.batch_shape = ()
    assert placed(sim)["stars.flux"] == ()
    assert placed(sim)["stars.place"] == ("stars",)
    flux, place = torch.tensor(2.0), torch.rand(4, 2)
    torch.testing.assert_close(sim.light(X, [flux, place]), sum(star(X, flux, p) for p in place))


def test_the_size_is_read_from_params_or_names_of_members():
    """Without a declared size the batched params tell it; names of members count too."""
    one = Star()
    one.flux.batch_shape = (7,)
    assert plates(Stars(one)) == {"stars": (7, None)}
    assert plates(Stars(Star(), members=["a", "b"])) == {"stars": (2, None)}
    assert plates(Stars(Star())) == {"stars": (None, None)}


def test_a_param_lies_where_it_is_owned():
    """A param that others point to lies where its module is, from outside and from inside."""
    one = Star()
    sim = Stars(one, size=4)
    one.flux = sim.scale
    sim.total = ck.Param("total", lambda p: p.place.value.sum(), link=one.place)
    assert placed(sim) == {"stars.place": ("stars",), "stars.colour": (), "scale": ()}


def test_a_param_lies_in_the_plates_of_its_shortest_path():
    """A param owned by a module outside and one inside lies outside."""
    one = Star()
    sim = Stars(one, size=4)
    sim.shared_colour = one.colour
    one.colour.to_dynamic()
    assert placed(sim)["shared_colour"] == ()


def test_sibling_plates_are_crossed():
    """Two plates of one module stand beside each other."""
    one, two = Star(), Star()
    sim = Stars(one, size=4)
    sim.hierarchical_link("others", two, size=5)
    assert plates(sim) == {"stars": (4, None), "others": (5, None)}
    assert placed(sim)["others.flux"] == ("others",)


# What the members compute


@pytest.mark.parametrize("by_hand", [False, True], ids=["ck.vmap", "params and dims"])
@pytest.mark.parametrize("form", ["tensor", "list", "dict", "stored"])
def test_three_nested_plates(by_hand, form):
    """Stars in clusters in galaxies sum up to the image written out, whatever form the params come in."""
    _, sim = nested(by_hand)
    flux, place = torch.rand(2, 3, 4), torch.rand(2, 3, 4, 2)
    expected = sum(star(X, f, p) for f, p in zip(flux.flatten(), place.reshape(-1, 2), strict=True))
    by_name = {"galaxies": {"clusters": {"stars": {"flux": flux, "place": place}}}}
    given = {
        "list": [flux, place],
        "dict": by_name,
        "tensor": torch.cat([flux.flatten(), place.flatten()]),
        "stored": None,
    }
    if form == "stored":
        sim.set_values(by_name)
    torch.testing.assert_close(sim.light(X, params=given[form]), expected)


@pytest.mark.parametrize("by_hand", [False, True], ids=["ck.vmap", "params and dims"])
@pytest.mark.parametrize("flux_batch", [(2, 3), (1, 3), (2, 1), (2,), ()], ids=str)
def test_partly_repeated_params(by_hand, flux_batch):
    """A param that is repeated along some of the plates only is the same for the members of the others."""
    one = Star()
    sim = Clusters(Stars(one, by_hand=by_hand, size=3), by_hand=by_hand, size=2)
    one.flux.batch_shape = flux_batch
    flux, place = torch.rand(flux_batch), torch.rand(2, 3, 2)
    padded = flux.reshape(flux_batch + (1,) * (2 - len(flux_batch))).expand(2, 3)
    expected = sum(star(X, padded[i, j], place[i, j]) for i in range(2) for j in range(3))
    torch.testing.assert_close(sim.light(X, [flux, place]), expected)
    torch.testing.assert_close(sim.light(X, torch.cat([flux.flatten(), place.flatten()])), expected)


@pytest.mark.parametrize("by_hand", [False, True], ids=["ck.vmap", "params and dims"])
def test_an_outer_batch(by_hand):
    """Replicates of the whole model are the first dims of the vector, under vmap and by direct batching."""
    one = Star()
    sim = Clusters(Stars(one, by_hand=by_hand, size=3), by_hand=by_hand, size=2)
    one.flux.batch_shape = (1, 3)
    vectors = torch.rand(5, 3 + 12)
    results = torch.vmap(sim.light, in_dims=(None, 0))(X, vectors)
    for vector, result in zip(vectors, results, strict=True):
        torch.testing.assert_close(sim.light(X, vector), result)
    chunked = torch.vmap(sim.light, in_dims=(None, 0), chunk_size=2)(X, vectors)
    torch.testing.assert_close(chunked, results)


def test_a_shared_outer_param_with_an_outer_batch():
    """A param of the outermost module that members point to, with replicates: each replicate has its own."""
    one = Star()
    sim = Clusters(Stars(one, size=3), size=2)
    one.flux = sim.scale
    sim.scale.to_dynamic(torch.rand(5))
    assert sim.get_values().shape == (5, 12 + 1) if one.place.value is not None else True
    place = torch.rand(5, 2, 3, 2)
    one.place = place
    vectors = sim.get_values()
    assert vectors.shape == (5, 13)
    results = torch.vmap(sim.light, in_dims=(None, 0))(X, vectors)
    for index in range(5):
        flux = sim.scale.value[index]
        expected = flux * sum(star(X, flux, p) for p in place[index].reshape(-1, 2))
        torch.testing.assert_close(results[index], expected)


def test_constants_of_members():
    """A static param with a value for each member is mapped over by ck.vmap."""
    one = Star()
    sim = Stars(one, size=3)
    one.colour = torch.tensor([1.0, 2.0, 3.0])
    flux, place = torch.rand(3), torch.rand(3, 2)
    expected = torch.stack([star(X, *values) for values in zip(flux, place, one.colour.value, strict=True)])
    torch.testing.assert_close(sim.each(X, [flux, place]), expected)
    assert ck.plate_layout(sim).constants("stars") == (one.colour,)


def test_constants_of_members_by_hand():
    """The params and dims of the dynamic params cannot carry them: an error says what can."""
    one = Star()
    sim = Stars(one, by_hand=True, size=3)
    one.colour = torch.tensor([1.0, 2.0, 3.0])
    with pytest.raises(ck.PlateError, match=r"stars\.colour.*plate stars.*ck\.vmap"):
        sim.light(X, [torch.rand(3), torch.rand(3, 2)])


class Mapped(Stars):
    """A call of ck.vmap with whatever is asked for."""

    @ck.forward
    def mapped(self, x, **options):
        return ck.vmap(self.stars.light, **options)(x)


@pytest.mark.parametrize(("in_dims", "shape"), [(0, (3, 4)), ((0,), (3, 4)), (1, (4, 3)), (None, (4,))], ids=str)
@pytest.mark.parametrize("chunk_size", [None, 1, 2])
def test_arguments_that_differ_between_members(in_dims, shape, chunk_size):
    """in_dims says along which dim an argument differs; chunks change nothing."""
    sim = Mapped(Star(), size=3)
    flux, place = torch.rand(3), torch.rand(3, 2)
    x = torch.rand(shape)
    rows = x.expand(3, 4) if in_dims is None else x.T if in_dims == 1 else x
    expected = torch.stack([star(*values) for values in zip(rows, flux, place, strict=True)])
    torch.testing.assert_close(sim.mapped(x, in_dims=in_dims, chunk_size=chunk_size, params=[flux, place]), expected)


def test_one_member_is_a_plate_too():
    """A plate of size one is mapped over."""
    sim = Stars(Star(), size=1)
    assert plates(sim) == {"stars": (1, None)}
    assert sim.each(X, torch.rand(3)).shape == (1, 4)


def test_one_stored_value_serves_all_members():
    """With a size declared and one value in the graph, every member has this value."""
    one = Star()
    sim = Stars(one, size=3)
    one.flux, one.place = 2.0, [0.1, 0.2]
    expected = 3 * star(X, torch.tensor(2.0), torch.tensor([0.1, 0.2]))
    torch.testing.assert_close(sim.light(X), expected)
    assert sim.get_values().tolist() == pytest.approx([2.0] * 3 + [0.1, 0.2] * 3)
    torch.testing.assert_close(sim.light(X, sim.get_values()), expected)


def test_randomness_of_members():
    """Members draw different numbers where that is asked for."""

    class Noisy(ck.Module):
        def __init__(self):
            super().__init__()
            self.a = ck.Param("a", shape=())

        @ck.forward
        def draw(self, a):
            return a + torch.randn(())

    class Sky(ck.Module):
        def __init__(self):
            super().__init__()
            self.hierarchical_link("noisy", Noisy(), size=4)

        @ck.forward
        def draws(self):
            return ck.vmap(self.noisy.draw, randomness="different")()

    assert len(set(Sky().draws(torch.zeros(4)).tolist())) == 4


# Distributions of members


def mixture(mean):
    return dist.MixtureSameFamily(
        dist.Categorical(logits=torch.stack([mean, -mean], -1)), dist.Normal(torch.stack([mean, mean + 1], -1), 1.0)
    )


def shared_weights(mean):
    """A mixture whose weights are the same for all of its four observations."""
    weights = torch.stack([torch.sigmoid(mean.sum()), torch.sigmoid(-mean.sum())])
    return dist.MixtureSameFamily(dist.Categorical(weights), dist.Normal(torch.stack([mean, mean + 1], -1), 1.0))


KINDS = {
    "normal": lambda mean: dist.Normal(mean, 1.0),
    "independent": lambda mean: dist.Normal(mean, 1.0).to_event(1),
    "log-normal": lambda mean: dist.LogNormal(mean, 0.5),
    "poisson": lambda mean: dist.Poisson(mean.exp()),
    "bernoulli": lambda mean: dist.Bernoulli(logits=mean),
    "binomial": lambda mean: dist.Binomial(3, probs=torch.sigmoid(mean)),
    "Student": lambda mean: dist.StudentT(3.0, mean, 1.0),
    "covariance": lambda mean: dist.MultivariateNormal(mean, covariance_matrix=2 * torch.eye(4)),
    "low rank": lambda mean: dist.LowRankMultivariateNormal(mean, torch.ones(4, 1), torch.ones(4)),
    "mixture": mixture,
    "mixture with shared weights": shared_weights,
    "masked": lambda mean: dist.Normal(mean, 1.0).mask(mean > 0.3),
    "masked components": lambda mean: dist.Normal(mean, 1.0).mask(mean > 0.3).to_event(1),
    "masked wholly": lambda mean: dist.Normal(mean, 1.0).mask(False),
}


@pytest.mark.parametrize("kind", KINDS)
def test_members_that_return_distributions(kind):
    """ck.vmap gives one distribution with the members as its first batch dim and the log density of each."""
    sim = Stars(Star(), size=3)
    flux = torch.rand(3)
    result = sim.distributions(X, KINDS[kind], [flux, torch.rand(3, 2)])
    each = [KINDS[kind](f * X) for f in flux]
    assert result.batch_shape == (3, *each[0].batch_shape)
    assert result.event_shape == each[0].event_shape
    data = result.sample()
    torch.testing.assert_close(
        result.log_prob(data), torch.stack([o.log_prob(d) for o, d in zip(each, data, strict=True)])
    )


@pytest.mark.parametrize(
    "kind",
    [
        lambda mean: dist.TransformedDistribution(dist.Normal(mean, 1.0), [dist.transforms.AffineTransform(mean, 2.0)]),
    ],
    ids=["transformed"],
)
def test_distributions_that_cannot_cross_a_vmap(kind):
    """The error says to return the prediction and to give likelihood=."""
    sim = Stars(Star(), size=3)
    with pytest.raises(ck.ModelError, match=r"Distribution.*likelihood="):
        sim.distributions(X, kind, [torch.rand(3), torch.rand(3, 2)])


# Pointers across plates


class Summary(Stars):
    """A pointer outside of the plate over all members, and one inside over the outer one."""

    def __init__(self, one):
        super().__init__(one, size=3)
        self.total = ck.Param("total", lambda p: p.flux.value.sum(), link=one.flux)
        one.colour = lambda p: p.flux.value / p.total.value
        one.colour.link([one.flux, self.total])

    @ck.forward
    def both(self, x, total):
        return self.each(x), total, self.stars.colour.value


def test_pointers_see_the_members_from_where_they_stand():
    """From outside a pointer reads all members, and from inside the same pointer has the same value."""
    flux, place = torch.rand(3), torch.rand(3, 2)
    each, total, fractions = Summary(Star()).both(X, {"stars": {"flux": flux, "place": place}})
    assert total == flux.sum()
    torch.testing.assert_close(fractions, flux / flux.sum())
    expected = torch.stack([star(X, f, p, f / flux.sum()) for f, p in zip(flux, place, strict=True)])
    torch.testing.assert_close(each, expected)


def test_a_pointer_inside_read_from_outside_is_computed_for_each_member():
    """What a pointer does with ONE value is done for every member, not with the batch."""
    one = Star()

    class Reading(Stars):
        @ck.forward
        def norms(self):
            return self.stars.norm.value

    one.norm = ck.Param("norm", lambda p: p.place.value[0] + 10 * p.place.value[1], link=one.place)
    place = torch.rand(3, 2)
    result = Reading(one, size=3).norms([torch.rand(3), place])
    torch.testing.assert_close(result, place[:, 0] + 10 * place[:, 1])


# Errors


def test_sizes_that_disagree():
    """Two counts of the members are named with who says so and the dims."""
    one = Star()
    one.flux.batch_shape, one.place.batch_shape = (3,), (4,)
    with pytest.raises(
        ck.PlateError, match=r"plate stars.*3 from stars\.flux with batch dims \(3,\); 4 from stars\.place"
    ):
        ck.plate_layout(Stars(one))
    with pytest.raises(ck.PlateError, match=r"plate stars.*5 from size=.*3 from stars\.flux"):
        ck.plate_layout(Stars(one, size=5) if not list(one.parents) else _regrouped(one, 5))


def _regrouped(one, size):
    one.place.batch_shape = (3,)
    return Stars(one, size=size)


@pytest.mark.parametrize("by_hand", [False, True], ids=["ck.vmap", "params and dims"])
def test_sizes_that_disagree_in_a_call(by_hand):
    """Values of different lengths given to one call are named with their shapes."""
    sim = Stars(Star(), by_hand=by_hand, size=3)
    with pytest.raises(ck.PlateError, match=r"plate stars.*flux \(3,\).*place \(4, 2\)"):
        sim.light(X, [torch.rand(3), torch.rand(4, 2)])


def test_replicates_that_disagree():
    """The dims in front of those of the plates count the replicates of the root, and must agree."""
    one = Star()
    one.flux.batch_shape, one.place.batch_shape = (6, 3), (5, 3)
    with pytest.raises(ck.PlateError, match=r"stars_group.*stars\.flux: \(6,\), stars\.place: \(5,\)"):
        ck.plate_layout(Stars(one))


@pytest.mark.parametrize("by_hand", [False, True], ids=["ck.vmap", "params and dims"])
def test_nothing_batched(by_hand):
    """A plate without any batched param is named, with the shapes that were seen."""
    sim = Stars(Star(), by_hand=by_hand)
    with pytest.raises(ck.PlateError, match=r"plate stars.*flux \(\), place \(2,\).*size=n"):
        sim.light(X, [torch.rand(()), torch.rand(2)])


def test_an_error_of_the_simulator_is_not_taken_for_one_of_the_plate():
    """A ValueError that the user's own code raises comes through as it is."""

    class Picky(Stars):
        @ck.forward
        def summed(self, x, stars_params, stars_dims):
            raise ValueError("too bright")

    with pytest.raises(ValueError, match="too bright"):
        Picky(Star(), by_hand=True).light(X, [torch.rand(()), torch.rand(2)])


def test_a_value_for_each_member_of_a_param_that_declares_no_shape():
    """A value as long as the plate is not guessed to be one for each member: the error asks for the shape."""
    one = Star()
    one.extra = ck.Param("extra", torch.rand(3))
    with pytest.raises(ck.PlateError, match=r"stars\.extra.*\(3,\).*shape="):
        ck.plate_layout(Stars(one, size=3))


def test_two_shortest_paths_through_different_plates():
    """A batched param that two plates own alike is refused by the names of both; unbatched it is shared."""
    shared = ck.Param("shared", shape=())
    one, two = Star(), Star()
    one.extra, two.extra = shared, ck.Param("own", shape=())
    one.link("common", ck.Module("common"))
    one.common.shared = shared
    sim = ck.Module("sim")
    left, right = ck.Module("left"), ck.Module("right")
    left.shared = right.shared = ck.Param("width", shape=(), batch_shape=(3,))
    sim.hierarchical_link("left", left, size=3)
    sim.hierarchical_link("right", right, size=3)
    with pytest.raises(ck.PlateError, match=r"left\.shared.*left and right"):
        ck.plate_layout(sim)
    left.shared.batch_shape = ()
    assert placed(sim) == {"left.shared": ()}


def test_a_member_is_not_called_with_the_values_of_all():
    """A method of a repeated module called without ck.vmap is refused, instead of mixing the members."""

    class Forgetful(Stars):
        @ck.forward
        def wrong(self, x):
            return self.stars.light(x)

    sim = Forgetful(Star(), size=3)
    with pytest.raises(ck.PlateError, match=r"plate stars.*stars\.flux.*\(3,\).*ck\.vmap"):
        sim.wrong(X, [torch.rand(3), torch.rand(3, 2)])


@pytest.mark.parametrize(
    ("method", "match"),
    [
        (lambda x: x, "forward method of a linked module"),
        (Star().light, "no plate of"),
    ],
    ids=["function", "stranger"],
)
def test_vmap_of_something_else(method, match):
    """ck.vmap takes forward methods of repeated children, inside of a call."""

    class Mapping(Stars):
        @ck.forward
        def wrong(self, x):
            return ck.vmap(method)(x)

    with pytest.raises(ck.PlateError, match=match):
        Mapping(Star(), size=3).wrong(X, torch.rand(9))


def test_vmap_outside_of_a_call():
    """Without values there is nothing to map over."""
    sim = Stars(Star(), size=3)
    with pytest.raises(ck.PlateError, match="inside a forward method"):
        ck.vmap(sim.stars.light)(X)


def test_in_dims_that_do_not_fit_the_arguments():
    """As many entries as arguments, and as many elements as members."""
    sim = Mapped(Star(), size=3)
    with pytest.raises(ck.PlateError, match="in_dims has 2 entries for 1 argument"):
        sim.mapped(X, in_dims=(0, 0), params=torch.rand(9))
    with pytest.raises(ck.PlateError, match=r"3 in param flux \(3,\).*4 in argument 0 \(4,\)"):
        sim.mapped(X, in_dims=0, params=torch.rand(9))
    with pytest.raises(ck.PlateError, match=r"no plate 'planets'.*stars"):
        ck.plate_layout(sim).plate("planets")
