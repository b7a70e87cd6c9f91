"""Priors whose arguments have a value for each member, though their params stand outside of the plate."""

import pyro.distributions as dist
import pytest
import torch

import caskade_pyro as ck

pytestmark = pytest.mark.usefixtures("float64")


class One(ck.Module):
    def __init__(self, shape=()):
        super().__init__()
        self.v = ck.Param("v", shape=shape)

    @ck.forward
    def own(self, v):
        return v


class Wards(ck.Module):
    def __init__(self, wards, shape):
        super().__init__()
        self.hierarchical_link("wards", One(shape), size=wards)

    @ck.forward
    def all(self):
        return ck.vmap(self.wards.own)()


class Root(ck.Module):
    """Members that may be crossed by others, in one plate or in two, with means that the root has for all of them."""

    def __init__(self, mean, hospitals=None, wards=4, shape=(), family=dist.Normal, crossed=False):
        super().__init__()
        inner = Wards(wards, shape)
        if hospitals is None:
            self.below = inner
        else:
            self.hierarchical_link("hospitals", inner, size=hospitals)
        if crossed:
            self.hierarchical_link("regions", One(), size=wards)
            self.regions.v.prior = dist.Normal(0.0, 1.0)
        self.slope = ck.Param("slope", prior=dist.Normal(0.0, 1.0))
        self.mean = mean(self)
        inner.wards.v.prior = ck.prior(family, self.mean, 1.0) if family is dist.Normal else ck.prior(family, self.mean)
        self.nested = hospitals is not None

    @ck.forward
    def visits(self, n):
        values = ck.vmap(self.hospitals.all)() if self.nested else self.below.all()
        return {"data": dist.Normal(values[..., None].expand(*values.shape, n), 1.0)}


def pointer(*shape):
    grid = torch.arange(float(torch.Size(shape).numel())).reshape(shape) / 7

    def mean(root):
        return ck.Param("mean", lambda p: torch.sigmoid(p.slope.value * grid), link=root.slope)

    return mean, lambda slope: torch.sigmoid(slope * grid)


def constant(*shape):
    grid = torch.arange(float(torch.Size(shape).numel())).reshape(shape) / 7
    return lambda _: ck.Param("mean", grid, shape=shape), lambda _: grid


MEANS = {"pointer": pointer, "constant": constant}


@pytest.mark.parametrize("kind", MEANS)
@pytest.mark.parametrize("crossed", [False, True])
@pytest.mark.parametrize("named", [False, True])
@pytest.mark.parametrize(("hospitals", "shape"), [(None, (4,)), (3, (3, 4)), (3, (4,)), (3, (1, 4)), (None, (1,))])
def test_values_for_each_member_find_their_plate(kind, crossed, named, hospitals, shape):
    """The density is that of the values set against the members by hand, whatever other plates and dims there are."""
    mean, known = MEANS[kind](*shape)
    module = Root(mean, hospitals, crossed=crossed)
    sizes = (4,) if hospitals is None else (hospitals, 4)
    observed = torch.randn(*sizes, 3)
    plates = ("wards",) if hospitals is None else ("hospitals", "hospitals.wards")
    bound = ck.PyroModel(module.visits, dims={"data": plates} if named else None).bind(3, obs={"data": observed})
    site = next(one.name for one in bound.plan.sites if one.name.endswith("wards.v"))
    at = {"slope": torch.tensor([0.7, -0.3]), site: torch.randn(2, *sizes)}
    if crossed:
        at["regions.v"] = torch.randn(2, 4)
    found = bound.log_density(at)
    for row in range(2):
        slope, values = at["slope"][row], at[site][row]
        expected = dist.Normal(0.0, 1.0).log_prob(slope) + dist.Normal(known(slope), 1.0).log_prob(values).sum()
        expected = expected + dist.Normal(values[..., None], 1.0).log_prob(observed).sum()
        if crossed:
            expected = expected + dist.Normal(0.0, 1.0).log_prob(at["regions.v"][row]).sum()
        torch.testing.assert_close(found[row], expected)
    density = ck.LogDensity(bound)
    assert torch.isfinite(density.value_and_grad(density.initial(1))[1]).all()


def test_vectors_of_members_keep_their_own_dims():
    """Members that are vectors take rows of the values of the root."""
    mean, known = pointer(4, 2)
    bound = ck.PyroModel(Root(mean, shape=(2,)).visits).bind(3, obs={"data": torch.zeros(4, 2, 3)})
    slope, values = torch.tensor([0.7]), torch.randn(1, 4, 2)
    expected = dist.Normal(0.0, 1.0).log_prob(slope) + dist.Normal(known(slope), 1.0).log_prob(values).sum()
    expected = expected + dist.Normal(values[..., None], 1.0).log_prob(torch.zeros(3)).sum()
    torch.testing.assert_close(bound.log_density({"slope": slope, "below.wards.v": values}), expected)


@pytest.mark.parametrize("shape", [(5,), (2, 4)])
def test_values_of_another_number_are_refused_when_the_model_is_bound(shape):
    """Values that count no members of any plate are an error at bind."""
    mean, _ = pointer(*shape)
    with pytest.raises(ck.PriorError, match="mean"):
        ck.PyroModel(Root(mean, hospitals=3).visits).bind(2, obs={"data": torch.zeros(3, 4, 2)})


@pytest.mark.parametrize("kind", MEANS)
def test_values_that_two_plates_could_have_are_refused_when_the_model_is_bound(kind):
    """Where two plates have one size, values of the root could belong to either, which is an error at bind."""
    mean, _ = MEANS[kind](4)
    with pytest.raises(ck.PriorError, match=r"leaves open which of the plates hospitals, hospitals\.wards"):
        ck.PyroModel(Root(mean, hospitals=4).visits).bind(2, obs={"data": torch.zeros(4, 4, 2)})
