"""Names that users give to plates: whole paths, ends of paths, and what is close to neither."""

import arviz as az
import pyro.distributions as dist
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from pyro import poutine

import caskade_pyro as ck
from caskade_pyro.graph.plates.naming import look_up

PATHS = ("hospitals", "hospitals.wards", "hospitals.wards.patients")
SIZES = (4, 2, 3)


class Level(ck.Module):
    """A member of a plate: a value of its own, or further members around it."""

    def __init__(self, *levels):
        super().__init__()
        self.value = ck.Param("value", shape=(), prior=dist.Normal(0.0, 1.0))
        self.below = levels[0][0] if levels else None
        if levels:
            self.hierarchical_link(self.below, Level(*levels[1:]), size=levels[0][1])

    @ck.forward
    def all(self, value):
        if self.below is None:
            return value
        members = ck.vmap(getattr(self, self.below).all)()
        return value + members

    @ck.forward
    def visits(self):
        values = self.all()
        return dist.Normal(values[..., None].expand(*values.shape, 5), 1.0)


def model(*dims, names=("hospitals", "wards", "patients"), **kwargs):
    levels = tuple(zip(names, SIZES, strict=True))
    return ck.PyroModel(Level(*levels).visits, dims={"obs": dims}, **kwargs)


def bind(*dims, **kwargs):
    return model(*dims, **kwargs).bind(obs=torch.zeros(*SIZES, 5))


def test_ends_of_paths_are_plates_everywhere():
    """The last parts of the paths of three levels give the same model, diagram and log likelihoods as the whole paths."""
    short, whole = bind("hospitals", "wards", "patients"), bind(*PATHS)
    assert short.plan.observations["obs"].dims == whole.plan.observations["obs"].dims == (*PATHS, "obs_dim_3")
    assert short.report().rows() == whole.report().rows()
    assert short.diagram().source == whole.diagram().source
    assert short.plan.sizes == whole.plan.sizes
    draws = ck.prior_predictive(short, draws=3, seed=1, progress=False)
    posterior = az.InferenceData(posterior=draws.prior)
    assert ck.log_likelihood(short, posterior, progress=False).log_likelihood["obs"].dims[2:] == (*PATHS, "obs_dim_3")
    torch.testing.assert_close(
        *(ck.log_likelihood(one, posterior, progress=False).log_likelihood["obs"].values for one in (short, whole))
    )


def test_longer_ends_of_paths_are_plates():
    """An end of several parts names a plate, too."""
    assert bind("hospitals", "wards", "wards.patients").plan.observations["obs"].dims[:3] == PATHS


def test_subsampled_plates_are_named_by_the_ends_of_their_paths():
    """subsample_size= takes the same names, of the model, of bind and of a call."""
    bound = bind("hospitals", "wards", "patients", subsample_size={"patients": 2})
    assert bound.subsample_size == {"hospitals.wards.patients": 2}
    few = model(*PATHS)
    trace = poutine.trace(few).get_trace(obs=torch.zeros(*SIZES, 5), subsample_size={"wards": 1})
    assert trace.nodes["hospitals.wards.value"]["value"].numel() == 4
    with pytest.raises(
        ck.PlateError, match=r"subsample_size= names 'Wards', but the plates are .*close to hospitals\.wards"
    ):
        bind(*PATHS, subsample_size={"Wards": 1})


def test_new_members_are_named_by_the_ends_of_paths():
    """new= of predictions takes the same names."""
    bound = bind(*PATHS)
    draws = ck.prior_predictive(bound, draws=3, seed=1, progress=False)
    posterior = az.InferenceData(posterior=draws.prior)
    found = ck.predict(bound, posterior, seed=1, new=("patients",), progress=False).posterior_predictive
    assert set(found.data_vars) == {"obs", "hospitals.wards.patients.value"}


@pytest.mark.parametrize(
    ("dims", "near"),
    [
        (("Hospitals",), "hospitals"),
        (("hospital",), "hospitals"),
        (("hopsitals",), "hospitals"),
        (("hospitals", "ward"), r"hospitals\.wards"),
        (("hospitals", "WARDS"), r"hospitals\.wards"),
        (("hospitals", "hospital.wards"), r"hospitals\.wards"),
        (("hospitals", "hospitals_wards"), r"hospitals\.wards"),
        (("hospitals", "wards", "hospitals.patients"), r"hospitals\.wards\.patients"),
        (("hospitals", "wards", "patiens"), r"hospitals\.wards\.patients"),
        (("region.rows",), r"hospitals, hospitals\.wards, hospitals\.wards\.patients"),
    ],
)
def test_names_close_to_those_of_plates_are_refused(dims, near):
    """A name that is no plate's, but misspelt, of another case or part of a wrong path, is an error with the near names."""
    with pytest.raises(ck.ObservationError, match=f"which is no plate of the graph, but close to {near}"):
        bind(*dims)


def test_two_plates_with_one_last_part():
    """Which of two is meant, must be said."""

    class Two(ck.Module):
        def __init__(self):
            super().__init__()
            self.one, self.other = Level(("rows", 2)), Level(("rows", 2))

        @ck.forward
        def data(self):
            return dist.Normal(self.one.all() + self.other.all(), 1.0)

    with pytest.raises(ck.ObservationError, match=r"which is the end of one\.rows, other\.rows"):
        ck.PyroModel(Two().data, dims={"obs": ("rows",)}).bind(obs=torch.zeros(2))
    ck.PyroModel(Two().data, dims={"obs": ("other.rows",)}).bind(obs=torch.zeros(2))


def test_the_report_says_which_plates_are_of_the_data():
    """A name that is nothing like a plate's becomes a plate of the data, which the report says."""
    title = str(bind("hospitals", "wards", "patients", "visits").report()).splitlines()[0]
    assert title.endswith("hospitals.wards.patients = 3; data plates: visits = 5")
    assert "data plates" not in str(ck.PyroModel(Level().all, likelihood=lambda x: dist.Normal(x, 1.0)).bind().report())


class Deep(Level):
    def __init__(self):
        super().__init__(("wards", 3))
        self.mean = ck.Param("mean", prior=dist.Normal(0.0, 1.0))
        self.wards.value.prior = ck.prior(dist.Normal, self.mean, 1.0)
        self.wards.extra = ck.Param("extra", shape=(), prior=dist.Normal(0.0, 1.0))

    @ck.forward
    def data(self):
        return dist.Normal(self.all(), 1.0)


def test_sites_are_named_by_the_ends_of_their_paths():
    """priors= and noncentered= take the end of a single path, and refuse what is close to one or the end of several."""
    model = ck.PyroModel(Deep().data, priors={"extra": dist.Normal(7.0, 1.0)})
    bound = model.bind(obs=torch.zeros(3))
    assert next(one for one in bound.plan.sites if one.name == "wards.extra").template.mean == 7.0
    assert bound.decisions(["wards.value"])["wards.value"].noncentered
    with pytest.raises(
        ck.PriorError, match=r"priors= names Extra, but the sites are .*'Extra' is close to wards\.extra"
    ):
        ck.PyroModel(Deep().data, priors={"Extra": dist.Normal(0.0, 1.0)}).bind()
    with pytest.raises(ck.ModelError, match=r"noncentered= names 'valu', but .* close to value, wards\.value"):
        bound.decisions(["valu"])


names = st.text("abcdefgh_", min_size=1, max_size=8)


@given(st.lists(names, min_size=1, max_size=4, unique=True), st.data())
def test_paths_and_their_unique_ends_are_found(parts, data):
    """A whole path names itself; the end of a single path names it; an end of several names all of them."""
    paths = [".".join(parts[: depth + 1]) for depth in range(len(parts))] + ["zzz." + parts[-1]]
    path = data.draw(st.sampled_from(paths))
    assert look_up(path, paths).name == path
    end = path.rpartition(".")[2]
    several = [one for one in paths if one == end or one.endswith(f".{end}")]
    found = look_up(end, paths)
    if end in paths:
        assert found.name == end
    elif len(several) == 1:
        assert found.name == several[0]
    else:
        assert found.name is None
        assert set(found.near) == set(several)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("visits", "sites"),
        ("band2", "band1"),
        ("rows", "columns"),
        ("answers", "persons"),
        ("epochs", "stars"),
        ("times", "items"),
    ],
)
def test_names_of_their_own_are_no_slips(one, other):
    """Common names of other things, and counted names, are not taken for misspelt ones."""
    assert look_up(one, [other]) == (None, ())
