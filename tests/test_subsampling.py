"""Plates of which a run sees some members only: right on average, for every model of the registry."""

from itertools import combinations

import pyro.distributions as dist
import pytest
import torch
from pyro import poutine
from registry import PAIRS
from registry.pair import data, latents, trace
from registry.shared import Line, Lines

import caskade_pyro as ck

doubles = pytest.mark.usefixtures("float64")

MADE = {name: pair() for name, pair in PAIRS.items()}
SUBSAMPLED = [(name, plate) for name, pair in MADE.items() for plate in pair.subsampled]
REFUSED = [
    (name, plate)
    for name, pair in MADE.items()
    for plate in pair.bound.plan.sizes
    if plate not in pair.subsampled and name != "binomial"  # whose input is known only when it runs
]


def subset(plan, values, picked):
    """The values of the members that were picked, by plate."""
    found = dict(values)
    for site in plan.sites:
        value = values[site.name]
        for plate, dim in zip(site.plates.names, site.plates.dims, strict=True):
            if plate in picked:
                value = value.index_select(value.ndim - len(site.shape) + dim, picked[plate])
        found[site.name] = value
    return found


def mean_density(pair, values, sizes):
    """The mean of the log density over all subsets of some members of some plates."""
    plan = pair.bound.plan
    bound = pair.bound.model.bind(
        *pair.bound.args, obs=pair.bound.data, subsample_size=dict(sizes), **pair.bound.kwargs
    )
    subsets = [{}]
    for plate, size in sizes:
        every = [torch.tensor(one) for one in combinations(range(plan.sizes[plate]), size)]
        subsets = [{**before, plate: one} for before in subsets for one in every]
    found = []
    for picked in subsets:
        executed = trace(bound, {**subset(plan, values, picked), **picked})
        for plate, members in picked.items():
            assert executed.nodes[plate]["value"] is members
        found.append(executed.log_prob_sum())
    return torch.stack(found).mean()


@doubles
@pytest.mark.parametrize(("name", "plate"), SUBSAMPLED)
def test_the_density_is_right_on_average(name, plate):
    """The mean of the scaled log density over all subsets of the members of a plate is the log density of all."""
    pair = PAIRS[name]()
    values = latents(trace(pair.by_hand))
    expected = trace(pair.bound, values).log_prob_sum()
    size = pair.bound.plan.sizes[plate]
    for few in {1, 2 if size <= 6 else size - 1} - {size}:
        torch.testing.assert_close(mean_density(pair, values, [(plate, few)]), expected, rtol=1e-10, atol=1e-10)


@doubles
@pytest.mark.parametrize("name", [name for name, pair in MADE.items() if len(pair.subsampled) > 1])
def test_two_plates_at_once(name):
    """Two plates, nested or crossed, can be subsampled at the same time."""
    pair = PAIRS[name]()
    values = latents(trace(pair.by_hand))
    expected = trace(pair.bound, values).log_prob_sum()
    sizes = [(plate, 1) for plate in pair.subsampled[-2:]]
    torch.testing.assert_close(mean_density(pair, values, sizes), expected, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize(("name", "plate"), REFUSED)
def test_plates_whose_density_cannot_be_scaled_up(name, plate):
    """A plate whose members feed an observation that does not lie in it refuses, with both named."""
    bound = PAIRS[name]().bound
    with pytest.raises(ck.PlateError, match=rf"(?i)plate {plate} .*cannot be subsampled"):
        bound.model.bind(*bound.args, obs=bound.data, subsample_size={plate: 1}, **bound.kwargs)


@pytest.mark.parametrize(("size", "error"), [(1, ck.ObservationError), (2, ck.PlateError)])
def test_inputs_with_a_row_for_each_member(size, error):
    """Where an input of all members meets params of some, ck.subsample is named as the mend."""
    bound = PAIRS["binomial"]().bound
    few = bound.model.bind(*bound.args, obs=bound.data, subsample_size={"members": size})
    with pytest.raises(error, match=r"members.*ck\.subsample\(child, tensor\)"):
        poutine.trace(few).get_trace()


def lines(**kwargs):
    """Six lines with inputs of their own."""
    return ck.PyroModel(Lines(6).points, dims={"obs": ("lines",)}, **kwargs)


@doubles
def test_the_size_can_be_given_at_each_level():
    """A model's subsample_size= holds for each call, unless bind or the call gives another one."""
    x, y = data(6, 9), data(6, 9)

    def seen(model, *args, **kwargs):
        return trace(lambda: model(*args, **kwargs)).nodes["lines.offset"]["value"].shape

    model = lines(subsample_size={"lines": 2})
    assert seen(model, x, obs=y) == (2, 1)
    assert seen(model, x, obs=y, subsample_size={"lines": 4}) == (4, 1)
    assert seen(model.bind(x, obs=y)) == (2, 1)
    assert seen(model.bind(x, obs=y, subsample_size={"lines": 5})) == (5, 1)
    assert seen(model.bind(x, obs=y, subsample_size={})) == (6, 1)
    assert seen(model.bind(x, obs=y).whole()) == (6, 1)
    assert seen(lines(), x, obs=y) == (6, 1)


class Known(ck.Module):
    """Lines that are used with an input of each member in the simulator itself."""

    def __init__(self):
        super().__init__()
        self.hierarchical_link("lines", Line(), size=4)
        self.lines.slope.prior = self.lines.offset.prior = dist.Normal(0.0, 1.0)

    @ck.forward
    def points(self, weights, x):
        weights = ck.subsample(self.lines, weights)
        return dist.Normal(weights[:, None] * ck.vmap(self.lines.at)(x), 0.3)

    @ck.forward
    def of_columns(self, weights, x):
        weights = ck.subsample(self.lines, weights, dim=1)
        return dist.Normal(weights * ck.vmap(self.lines.at)(x).T, 0.3)


@doubles
@pytest.mark.parametrize("rows", [True, False])
def test_inputs_that_the_simulator_uses_itself(rows):
    """ck.subsample takes the rows, or columns, of an input that belong to the members of a run."""
    x, y, weights = torch.linspace(0, 1, 3), data(4, 3), torch.tensor([1.0, 2.0, 3.0, 4.0])
    known = Known()
    if rows:
        bound = ck.PyroModel(known.points, dims={"obs": ("lines", "x")}).bind(
            weights, x, obs=y, subsample_size={"lines": 2}
        )
    else:
        bound = ck.PyroModel(known.of_columns, dims={"obs": ("x", "lines")}).bind(
            weights[None], x, obs=y.T, subsample_size={"lines": 2}
        )
    values = latents(trace(bound.whole()))
    picked = torch.tensor([3, 1])
    found = trace(bound, {**subset(bound.plan, values, {"lines": picked}), "lines": picked})
    slope, offset = (values[f"lines.{one}"].reshape(4, 1)[picked] for one in ("slope", "offset"))
    curves = weights[picked][:, None] * (offset + slope * x)
    expected = dist.Normal(curves, 0.3).log_prob(y[picked]).sum()
    expected = expected + dist.Normal(0.0, 1.0).log_prob(torch.stack([slope, offset])).sum()
    torch.testing.assert_close(found.log_prob_sum(), 2 * expected, rtol=1e-10, atol=0.0)


def sum_of_offsets(p):
    return p.offset.value.sum()


class Mixing(ck.Module):
    """Lines each of which is seen beside all others, in one way or another."""

    def __init__(self):
        super().__init__()
        self.hierarchical_link("lines", Line(), size=3)
        self.lines.slope.prior = self.lines.offset.prior = dist.Normal(0.0, 1.0)
        self.total = ck.Param("total", sum_of_offsets, link=self.lines.offset, shape=())

    @ck.forward
    def from_mean(self, x):
        curves = ck.vmap(self.lines.at)(x)
        return dist.Normal(curves - curves.mean(0), 1.0)

    @ck.forward
    def neighbours(self, x):
        curves = ck.vmap(self.lines.at)(x)
        return dist.Normal(curves + 0.1 * curves.roll(1, 0), 1.0)

    @ck.forward
    def beside_the_total(self, x, total):
        return dist.Normal(ck.vmap(self.lines.at)(x), 1 + total**2)

    @ck.forward
    def plain(self, x):
        return dist.Normal(ck.vmap(self.lines.at)(x), 1.0)


@pytest.mark.parametrize("method", ["from_mean", "neighbours", "beside_the_total"])
def test_members_that_depend_on_each_other(method):
    """Where the prediction for a member depends on others, the plate refuses, though it is a dim of the observation."""
    model = ck.PyroModel(getattr(Mixing(), method), dims={"obs": ("lines",)}, subsample_size={"lines": 2})
    with pytest.raises(
        ck.PlateError, match=r"lines cannot be subsampled: what 'obs' predicts .* depends on the others"
    ):
        model.bind(torch.linspace(0, 1, 4), obs=data(3, 4))


def test_priors_that_read_all_members():
    """Where a prior reads all members of a plate, the plate refuses and names the pointer."""
    mixing = Mixing()
    mixing.noise = ck.Param("noise", shape=(), prior=ck.prior(dist.Normal, mixing.total, 1.0))
    with pytest.raises(ck.PlateError, match=r"the prior Normal\(total, 1\) of noise depends on the pointer total"):
        ck.PyroModel(mixing.plain, dims={"obs": ("lines",)}).bind(
            torch.linspace(0, 1, 4), obs=data(3, 4), subsample_size={"lines": 2}
        )
