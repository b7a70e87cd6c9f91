"""Populations that the simulator draws itself: any number, any child, inside of Pyro and out."""

import numpy as np
import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro import poutine

import caskade_pyro as ck


class Bump(ck.Module):
    def __init__(self):
        super().__init__()
        self.place = ck.Param("place", shape=(), prior=dist.Normal(0.0, 1.0))
        self.height = ck.Param("height", shape=(), prior=dist.LogNormal(0.0, 0.1))

    @ck.forward
    def at(self, x, place, height):
        return height * torch.exp(-((x - place) ** 2))


class Box(ck.Module):
    """Another kind of child, with other params."""

    def __init__(self):
        super().__init__()
        self.edges = ck.Param("edges", shape=(2,), prior=dist.Uniform(0.0, 1.0))

    @ck.forward
    def at(self, x, edges):
        return ((x > edges.min()) & (x < edges.max())).to(x.dtype)


class Scene(ck.Module):
    def __init__(self, child):
        super().__init__()
        self.hierarchical_link("members", child)
        self.centre = ck.Param("centre", prior=dist.Normal(5.0, 0.1))

    @ck.forward
    def image(self, x, n):
        params, dims = ck.draw_members(self.members, n)
        if n == 0:  # most operations of torch cannot be mapped over nothing
            return torch.zeros_like(x)
        return torch.vmap(self.members.at, in_dims=(None, dims))(x, params).sum(0)

    @ck.forward
    def random(self, x):
        n = pyro.sample("n", dist.Poisson(2.0))
        return dist.Normal(self.image(x, n), 0.1).to_event(1)

    @ck.forward
    def fixed(self, x):
        return dist.Normal(self.image(x, 4), 0.1).to_event(1)

    @ck.forward
    def members_drawn(self, n):
        return ck.draw_members(self.members, n)

    @ck.forward
    def slots(self, x, n):
        params, dims, occupied = ck.draw_slots(self.members, n, maximum=5)
        images = torch.vmap(self.members.at, in_dims=(None, dims))(x, params)
        return (images * occupied[:, None]).sum(0), params[0], occupied


X = torch.linspace(-1, 1, 6)


@pytest.mark.parametrize("n", [0, 1, 7, torch.tensor(3), torch.tensor(2.0)])
def test_any_number_of_members(n):
    """The params of n members come with the members in front, also of none."""
    scene = Scene(Bump())
    params, dims = scene.members_drawn(n, params={"centre": 5.0})
    assert [param.shape for param in params] == [(int(n),), (int(n),)]
    assert dims == [0, 0]
    assert scene.image(X, n, params={"centre": 5.0}).shape == (6,)
    assert (n != 0) == bool((scene.image(X, n, params={"centre": 5.0}) != 0).any())


def test_other_children_and_other_free_params():
    """Neither another kind of child, nor fixing or freeing its params, needs a change of the simulator."""
    scene = Scene(Bump())
    scene.members.height.to_static(2.0)
    params, _ = scene.members_drawn(3, params={"centre": 5.0})
    assert [param.shape for param in params] == [(3,)]
    assert scene.image(X, 3, params={"centre": 5.0}).max() <= 3 * 2.0
    other = Scene(Box())
    [edges], dims = other.members_drawn(4, params={"centre": 5.0})
    assert edges.shape == (4, 2)
    assert dims == [0]
    assert ((edges >= 0) & (edges <= 1)).all()
    assert other.image(X, 4, params={"centre": 5.0}).shape == (6,)


def test_priors_with_params_of_the_scene():
    """A prior of the members may depend on params outside of them, and on other params of each member."""
    bump = Bump()
    scene = Scene(bump)
    bump.place.prior = ck.prior(dist.Normal, scene.centre, 0.01)
    bump.height.prior = ck.prior(dist.Normal, bump.place, 0.001)
    (places, heights), _ = scene.members_drawn(200, params={"centre": torch.tensor(7.0)})
    assert places.mean().item() == pytest.approx(7.0, abs=0.005)
    assert places.std().item() == pytest.approx(0.01, rel=0.3)
    assert (heights - places).abs().max() < 0.01


def test_shared_params():
    """A param that says batch_shape=() is drawn once, and one that is owned outside is not drawn at all."""
    bump = Bump()
    scene = Scene(bump)
    bump.height.batch_shape = ()
    params, dims = scene.members_drawn(3, params={"centre": 5.0})
    assert [param.shape for param in params] == [(3,), ()]
    assert dims == [0, None]
    bump.place = scene.centre
    (centre, height), dims = scene.members_drawn(3, params={"centre": 5.0})
    assert (height.shape, centre.item(), dims) == ((), 5.0, [None, None])


class Cluster(ck.Module):
    """A member that is repeated inside: bumps around a place of their own."""

    def __init__(self):
        super().__init__()
        self.hierarchical_link("bumps", Bump(), size=2)
        self.middle = ck.Param("middle", shape=(), prior=dist.Normal(0.0, 10.0))
        self.bumps.place.prior = ck.prior(dist.Normal, self.middle, 0.01)

    @ck.forward
    def at(self, x):
        return ck.vmap(self.bumps.at)(x).sum(0)


def test_plates_inside_of_a_member():
    """Members that have plates of their own are drawn with them, each with its own hyperparameters."""
    scene = Scene(Cluster())
    params, dims = scene.members_drawn(30, params={"centre": 5.0})
    shapes = dict(zip([param.name for param in scene.members.dynamic_params], params, strict=True))
    assert {name: tuple(value.shape) for name, value in shapes.items()} == {
        "middle": (30,),
        "place": (30, 2),
        "height": (30, 2),
    }
    assert dims == [0, 0, 0]
    assert (shapes["place"] - shapes["middle"][:, None]).abs().max() < 0.1
    assert scene.image(X, 3, params={"centre": 5.0}).shape == (6,)
    trace = poutine.trace(ck.PyroModel(scene.fixed).bind(X)).get_trace()
    place = trace.nodes["members.bumps.place"]
    assert [(frame.name, frame.size) for frame in place["cond_indep_stack"]] == [
        ("members", 4),
        ("members.bumps", 2),
    ]
    assert (place["value"] - trace.nodes["members.middle"]["value"]).abs().max() < 0.1


def test_populations_of_varying_size_in_prior_predictions():
    """A number of members that is drawn differs between predictions; what is not there is NaN."""
    bound = ck.PyroModel(Scene(Bump()).random).bind(X)
    found = ck.prior_predictive(bound, draws=40, seed=3, progress=False)
    numbers = found.prior["n"].values[0]
    assert len(set(numbers)) > 2
    assert 0 in numbers
    there = ~np.isnan(found.prior["members.place"].values[0])
    np.testing.assert_array_equal(there.sum(-1), numbers)
    assert (there[:, :-1] >= there[:, 1:]).all()
    images = found.prior_predictive["obs"].values[0]
    assert np.isfinite(images).all()
    assert np.abs(images[numbers == 0]).max() < 0.6
    assert images[numbers > 3].mean() > images[numbers == 1].mean()


def test_the_density_counts_each_member_once():
    """The log density of a population is the sum of its members' priors and of the data."""
    bound = ck.PyroModel(Scene(Bump()).random).bind(X, obs=torch.zeros(6))
    values = {"centre": torch.tensor(5.0), "n": torch.tensor(2.0)}
    values |= {"members.place": torch.tensor([0.1, -0.4]), "members.height": torch.tensor([1.0, 0.9])}
    found = poutine.trace(poutine.condition(bound, values)).get_trace().log_prob_sum()
    image = (values["members.height"] * torch.exp(-((X[:, None] - values["members.place"]) ** 2))).sum(-1)
    expected = (
        dist.Normal(5.0, 0.1).log_prob(values["centre"])
        + dist.Poisson(2.0).log_prob(values["n"])
        + dist.Normal(0.0, 1.0).log_prob(values["members.place"]).sum()
        + dist.LogNormal(0.0, 0.1).log_prob(values["members.height"]).sum()
        + dist.Normal(image, 0.1).log_prob(torch.zeros(6)).sum()
    )
    torch.testing.assert_close(found, expected)


def test_a_drawn_population_can_be_sampled():
    """NUTS samples the params of a fixed number of drawn members like any others."""
    scene = Scene(Bump())
    scene.centre.to_static(5.0)
    scene.members.height.to_static(1.0)
    bound = ck.PyroModel(scene.fixed).bind(X, obs=4 * torch.exp(-(X**2)))
    fitted = ck.fit(bound, guide="delta", steps=400, seed=1, lr=0.05, progress=False)
    places = fitted.sample(draws=1).posterior["members.place"]
    assert places.dims == ("chain", "draw", "members", *places.dims[3:])
    assert abs(float(places.mean())) < 0.1


def test_slots_under_vmap():
    """With a fixed maximum a population is batched by torch.vmap, with another number and other draws in each row."""
    scene = Scene(Bump())
    numbers = torch.tensor([0, 1, 5, 3])
    images, places, occupied = torch.vmap(lambda n: scene.slots(X, n, params={"centre": 5.0}), randomness="different")(
        numbers
    )
    assert occupied.sum(-1).tolist() == numbers.tolist()
    assert places.shape == (4, 5)
    assert places.unique().numel() == 20
    assert (images[0] == 0).all()
    assert (images[1:] > 0).any(-1).all()
    many = torch.vmap(lambda n: scene.slots(X, n, params={"centre": 5.0})[1], randomness="different")(
        numbers.repeat(500)
    )
    assert many.mean().abs() < 4.5 / many.numel() ** 0.5
    assert many.std().item() == pytest.approx(1.0, abs=0.05)


def test_slots_compile():
    """All shapes of a population with a fixed maximum are known, so that the whole graph compiles."""
    scene = Scene(Bump())
    compiled = torch.compile(lambda x, n: scene.slots(x, n, params={"centre": 5.0})[0], fullgraph=True, backend="eager")
    assert compiled(X, torch.tensor(2)).shape == (6,)


@pytest.mark.parametrize(
    "prior",
    [
        dist.Normal(2.0, 0.5),
        dist.LogNormal(0.0, 0.5),
        dist.Uniform(1.0, 3.0),
        dist.Exponential(2.0),
        dist.HalfNormal(2.0),
        dist.Laplace(1.0, 2.0),
        dist.Gumbel(1.0, 2.0),
        ck.TruncatedNormal(0.0, 1.0, low=0.5),
    ],
    ids=lambda prior: type(prior).__name__,
)
def test_draws_under_vmap_follow_the_prior(prior):
    """Under torch.vmap the draws have the moments of the prior, as they have outside."""
    scene = Scene(Bump())
    scene.members.place.prior = prior
    drawn = torch.vmap(lambda n: scene.slots(X, n, params={"centre": 5.0})[1], randomness="different")(
        torch.zeros(2000)
    )
    plain = scene.members_drawn(10_000, params={"centre": 5.0})[0][0]
    for values in (drawn.flatten(), plain):
        assert values.mean().item() == pytest.approx(float(prior.mean), abs=6 * float(plain.std()) / 100)
        assert values.std().item() == pytest.approx(float(plain.std()), rel=0.1)
