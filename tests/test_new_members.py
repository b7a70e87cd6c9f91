"""Predictions for members that a posterior knows beside members that it does not."""

import arviz as az
import numpy as np
import pyro.distributions as dist
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import caskade_pyro as ck

pytestmark = pytest.mark.usefixtures("float64")

CHAINS, DRAWS = 2, 30
FAR = 1e6
"""Known members stand so far from the population that nobody can confuse them with what is drawn from it."""


class One(ck.Module):
    def __init__(self, shape=()):
        super().__init__()
        self.a = ck.Param("a", shape=shape)
        self.twice = ck.Param("twice", lambda p: 2 * p.a.value, link=self.a)

    @ck.forward
    def own(self, a):
        return a


class Outer(ck.Module):
    def __init__(self, inner):
        super().__init__()
        self.hierarchical_link("inner", One(), **inner)
        self.level = ck.Param("level", shape=())

    @ck.forward
    def all(self):
        return ck.vmap(self.inner.own)()


def said(members):
    return {"size": members} if isinstance(members, int) else {"members": members}


class Flat(ck.Module):
    """Members of one plate; vectors of a multivariate population, or single values."""

    def __init__(self, members, shape=()):
        super().__init__()
        self.hierarchical_link("groups", One(shape), **said(members))
        self.mu = ck.Param("mu", prior=dist.Normal(0.0, 5.0))
        prior = ck.prior(dist.Normal, self.mu, 0.1)
        if shape:
            prior = dist.MultivariateNormal(torch.zeros(shape), 0.01 * torch.eye(shape[0]))
        self.groups.a.prior = prior

    @ck.forward
    def data(self):
        values = ck.vmap(self.groups.own)()
        return dist.Normal(values, 1e-3).to_event(values.ndim - 1)


class Crossed(ck.Module):
    def __init__(self, persons, items):
        super().__init__()
        self.hierarchical_link("persons", One(), **said(persons))
        self.hierarchical_link("items", One(), **said(items))
        self.persons.a.prior = self.items.a.prior = dist.Normal(0.0, 0.1)

    @ck.forward
    def data(self):
        return dist.Normal(ck.vmap(self.persons.own)()[:, None] + ck.vmap(self.items.own)(), 1e-3)


class Nested(ck.Module):
    """Members of an inner plate around the level of their outer member."""

    def __init__(self, outer, inner):
        super().__init__()
        self.hierarchical_link("outer", Outer(said(inner)), **said(outer))
        self.outer.level.prior = dist.Normal(0.0, 0.1)
        self.outer.inner.a.prior = ck.prior(dist.Normal, self.outer.level, 0.1)

    @ck.forward
    def data(self):
        return dist.Normal(ck.vmap(self.outer.all)(), 1e-3)


def value(name, draw):
    """The value of a known member, another one in each draw: far from the population."""
    number = sum(ord(letter) * 31**place for place, letter in enumerate(str(name)))
    return FAR * (1 + number % 97) + draw


def table(*members):
    """The draws of known members: sums of the values of their names."""
    draws = np.arange(CHAINS * DRAWS).reshape(CHAINS, DRAWS)
    total = np.zeros((CHAINS, DRAWS, *(1,) * len(members)))
    for axis, names in enumerate(members):
        own = np.stack([value(name, draws) for name in names], -1)
        total = total + own.reshape(CHAINS, DRAWS, *(-1 if at == axis else 1 for at in range(len(members))))
    return total


def flat_posterior(known, shape=(), named=True):
    values = table(known).reshape(CHAINS, DRAWS, -1, *(1,) * len(shape)) + np.zeros((*shape,))
    draws = {"mu": np.zeros((CHAINS, DRAWS)), "groups.a": values}
    return az.from_dict(draws, coords={"groups": list(known)} if named else {}, dims={"groups.a": ["groups"]})


def flat(members, shape=()):
    return ck.PyroModel(Flat(members, shape).data, dims={"obs": ("groups",)}).bind()


def predict(bound, posterior, **kwargs):
    found = ck.predict(bound, posterior, seed=1, progress=False, **kwargs).posterior_predictive
    assert found.sizes["chain"] == CHAINS
    return found


def check(found, names, known):
    """Known members keep each of their draws in its place; the others are drawn from the population."""
    draws = np.arange(CHAINS * DRAWS).reshape(CHAINS, DRAWS)
    for at, name in enumerate(names):
        one = found[:, :, at].reshape(CHAINS, DRAWS, -1)
        if name in known:
            assert np.abs(one - value(name, draws)[..., None]).max() < 0.01
        else:
            assert np.abs(one).max() < 30.0
            assert len(np.unique(one.round(4))) > CHAINS * DRAWS / 2


@pytest.mark.parametrize("shape", [(), (2,)])
@settings(max_examples=15)
@given(st.data())
def test_known_members_keep_their_draws_beside_new_ones(shape, data):
    """Whatever members are predicted, in any order: those that the posterior knows by name keep their draws."""
    known = data.draw(st.lists(st.sampled_from("abcdef"), min_size=1, max_size=4, unique=True))
    names = data.draw(st.lists(st.sampled_from("abcdefgh"), min_size=1, max_size=5, unique=True))
    fresh = [name for name in names if name not in known]
    anew = data.draw(st.lists(st.sampled_from(names), max_size=2, unique=True))
    bound, posterior = flat(tuple(names), shape), flat_posterior(known, shape)
    if fresh:
        found = predict(bound, posterior, new=("groups",))
        check(found["obs"].values, names, known)
        np.testing.assert_allclose(found["groups.twice"], 2 * found["groups.a"])
        assert list(found["groups"].values) == names
    said_new = list(dict.fromkeys([*fresh, *anew]))
    found = predict(bound, posterior, new={"groups": said_new})
    check(found["obs"].values, names, set(known) - set(said_new))
    assert ("groups.a" in found) == bool(said_new)


def test_names_that_nobody_said_are_new_are_drawn_with_a_warning():
    """Without new=, a name that the posterior lacks is drawn from the population, and a warning names it."""
    with pytest.warns(
        ck.NewMemberWarning, match=r"no draws of plate groups for stranger; it has a, b.*new=\{'groups'"
    ) as seen:
        found = predict(flat(("b", "stranger")), flat_posterior("ab"))
    check(found["obs"].values, ("b", "stranger"), ("b",))
    assert seen[0].filename == __file__


def test_a_plate_without_new_members_is_said():
    """Where new= names a plate all of whose members are known, they keep their draws, and a warning says how to redraw."""
    with pytest.warns(ck.NewMemberWarning, match=r"keep their draws.*new=\{'groups': \['b'\]\}") as seen:
        found = predict(flat(("b",)), flat_posterior("ab"), new="groups")
    check(found["obs"].values, ("b",), ("b",))
    assert seen[0].filename == __file__


def test_members_without_names_are_told_by_their_numbers():
    """Of members that have no names, new= takes the numbers; further ones need no other word."""
    posterior = flat_posterior((0, 1, 2))
    found = predict(flat(4), posterior, new={"groups": [1, 3]})
    check(found["obs"].values, (0, 1, 2, 3), (0, 2))
    with pytest.raises(ck.SamplingError, match="its member 3 of plate groups is none of the posterior's"):
        predict(flat(4), posterior, new={"groups": [1]})
    found = predict(flat(4), posterior, new="groups")
    check(found["obs"].values, (0, 1, 2, 3), ())


def test_numbers_as_names_are_names():
    """Members named by numbers are found by these, though they look like mere counts."""
    found = predict(flat((2, 0)), flat_posterior((0, 1, 2)))
    check(found["obs"].values, (2, 0), (0, 2))


def test_names_on_one_side_alone_do_not_find_members():
    """Where only the model or only the posterior has names, a choice of members is refused; new ones all together are not."""
    unnamed = flat_posterior((0, 1, 2))
    with pytest.raises(ck.SamplingError, match="names in the model and none in the posterior"):
        predict(flat(("a", "b", "c")), unnamed, new={"groups": ["b"]})
    with pytest.raises(ck.SamplingError, match="names in the posterior and none in the model"):
        predict(flat(3), flat_posterior("abc"), new={"groups": [1]})
    found = predict(flat(("a", "b")), unnamed, new={"groups": ["a", "b"]})
    check(found["obs"].values, ("a", "b"), ())


@pytest.mark.parametrize(
    ("new", "error", "message"),
    [
        ("group", ck.PlateError, "new= names group, but the plates are groups.*close to groups"),
        ({"rows": ["a"]}, ck.PlateError, "new= names rows, but the plates are groups"),
        ({"groups": ["Stranger"]}, ck.PlateError, "'Stranger', which is no member of plate groups.*Is it stranger"),
        ({"groups": [7]}, ck.PlateError, "7, which is no member of plate groups"),
        (
            {"groups": "a"},
            ck.SamplingError,
            r"no draws of plate groups for stranger.*new=\{'groups': \['a', 'stranger'\]\}",
        ),
        ({"groups": []}, ck.SamplingError, "no draws of plate groups for stranger"),
    ],
)
def test_what_is_no_plate_or_member_is_refused(new, error, message):
    """new= takes names of plates and of members, and says which there are."""
    with pytest.raises(error, match=message):
        predict(flat(("a", "stranger")), flat_posterior("ab"), new=new)


def test_another_case_is_no_new_member():
    """A name that differs from a known one by case or blanks alone is refused rather than drawn anew."""
    with pytest.raises(ck.SamplingError, match=r"Is it a\?"):
        predict(flat(("A ", "b")), flat_posterior("ab"))


def test_crossed_plates_have_their_own_new_members():
    """A new person meets known items, and a known person new ones."""
    bound = ck.PyroModel(Crossed(("p", "new"), ("j", "i", "k")).data, dims={"obs": ("persons", "items")}).bind()
    posterior = az.from_dict(
        {"persons.a": table("pq"), "items.a": table("ij")},
        coords={"persons": list("pq"), "items": list("ij")},
        dims={"persons.a": ["persons"], "items.a": ["items"]},
    )
    found = predict(bound, posterior, new=("persons", "items"))
    np.testing.assert_allclose(
        found["obs"], found["persons.a"].values[..., None] + found["items.a"].values[:, :, None], atol=0.01
    )
    check(found["persons.a"].values, ("p", "new"), "pq")
    check(found["items.a"].values, "jik", "ij")


def test_new_members_of_known_ones_keep_the_draws_around_them():
    """In plates in plates a new inner member stands around its known outer one; all members of a new outer one are new."""
    bound = ck.PyroModel(Nested(("x", "new"), ("a", "fresh", "b")).data, dims={"obs": ("outer", "inner")}).bind()
    level = table("yx")
    posterior = az.from_dict(
        {"outer.level": level, "outer.inner.a": level[..., None] + table("yx", "ab")},
        coords={"outer": list("yx"), "outer.inner": list("ab")},
        dims={"outer.level": ["outer"], "outer.inner.a": ["outer", "outer.inner"]},
    )
    found = predict(bound, posterior, new=("outer", "inner"))
    check(found["outer.level"].values, ("x", "new"), "x")
    of_known = found["obs"].values[:, :, 0]
    expected = posterior.posterior["outer.inner.a"].sel(outer="x").values
    np.testing.assert_allclose(of_known[..., [0, 2]], expected, atol=0.01)
    assert np.abs(of_known[..., 1] - level[:, :, 1]).max() < 1.0  # around the level of x
    assert np.abs(found["obs"].values[:, :, 1]).max() < 2.0
    known = ck.PyroModel(Nested(("x",), ("b", "a")).data, dims={"obs": ("outer", "inner")}).bind()
    np.testing.assert_allclose(predict(known, posterior)["obs"].values[:, :, 0], expected[..., ::-1], atol=0.01)


def test_dims_of_the_posterior_in_another_order():
    """Draws whose dims a user has transposed are read by the names of the dims."""
    posterior = flat_posterior("ab")
    turned = az.InferenceData(posterior=posterior.posterior.transpose("groups", "draw", "chain"))
    check(predict(flat(("b", "a")), turned)["obs"].values, "ba", "ab")
    with pytest.raises(ck.SamplingError, match=r"no dim chain.*isel\(chain=\[0\]\)"):
        predict(flat(("b", "a")), az.InferenceData(posterior=posterior.posterior.isel(chain=0)))


def test_several_members_of_one_name_are_refused():
    """A posterior in which two members have one name cannot be asked for either."""
    with pytest.raises(ck.SamplingError, match="several members of plate groups under one name: a"):
        predict(flat(("a",)), flat_posterior("aab"))


class Loop(Flat):
    """A simulator that branches on values, and so runs for one draw after the other."""

    @ck.forward
    def data(self):
        values = ck.vmap(self.groups.own)()
        return dist.Normal(values if values.sum() > -1e300 else -values, 1e-3)


def test_simulators_that_run_for_one_draw_after_the_other_keep_known_members():
    """A simulator that no vmap takes predicts known and new members alike."""
    bound = ck.PyroModel(Loop(("b", "new")).data, dims={"obs": ("groups",)}).bind()
    check(predict(bound, flat_posterior("ab"), new="groups")["obs"].values, ("b", "new"), "b")


class Switches(ck.Module):
    """Members with a discrete param, and a shared one."""

    def __init__(self, members):
        super().__init__()
        self.hierarchical_link("groups", One(), members=members)
        self.p = ck.Param("p", prior=dist.Beta(1.0, 1.0))
        self.groups.a.prior = ck.prior(dist.Bernoulli, self.p)

    @ck.forward
    def data(self):
        return dist.Normal(ck.vmap(self.groups.own)(), 1e-3)


def test_discrete_params_of_known_members_are_kept():
    """A known member keeps its class in every draw, though the population of that draw would hardly give it."""
    bound = ck.PyroModel(Switches(("a", "new")).data, dims={"obs": ("groups",)}).bind()
    posterior = az.from_dict(
        {"p": np.full((CHAINS, DRAWS), 1e-9), "groups.a": np.ones((CHAINS, DRAWS, 1))},
        coords={"groups": ["a"]},
        dims={"groups.a": ["groups"]},
    )
    found = predict(bound, posterior, new="groups")["groups.a"].values
    assert (found == [1.0, 0.0]).all()


def test_fewer_draws_keep_members_in_step():
    """Some draws of each chain are the same ones for known members and for the shared params."""
    found = predict(flat(("b", "new")), flat_posterior("ab"), new="groups", draws=4)["groups.a"].values
    picked = np.linspace(0, DRAWS - 1, 4).round().astype(int)
    np.testing.assert_allclose(found[..., 0], table("ab")[:, picked, 1])


def test_a_subsampled_model_is_predicted_wholly():
    """Predictions of a model that was bound with subsample_size= are for all members."""
    module = Flat(("a", "b"))
    bound = ck.PyroModel(module.data, dims={"obs": ("groups",)}).bind(obs=torch.zeros(2), subsample_size={"groups": 1})
    check(predict(bound, flat_posterior("ab"))["obs"].values, "ab", "ab")
    assert ck.prior_predictive(bound, draws=3, seed=1, progress=False).prior_predictive["obs"].shape == (1, 3, 2)
