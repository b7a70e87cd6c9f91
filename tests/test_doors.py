"""Every argument of every public function: what is meaningless is refused by name where it comes in."""

import arviz as az
import numpy as np
import pyro.distributions as dist
import pytest
import torch

import caskade_pyro as ck


class Star(ck.Module):
    def __init__(self):
        super().__init__()
        self.brightness = ck.Param("brightness", shape=())

    @ck.forward
    def own(self, brightness):
        return brightness


class Cluster(ck.Module):
    def __init__(self, n=3):
        super().__init__()
        self.hierarchical_link("stars", Star(), size=n)
        self.mean = ck.Param("mean", prior=dist.Normal(0.0, 1.0))
        self.scatter = ck.Param("scatter", prior=dist.HalfNormal(1.0))
        self.share = ck.Param("share", prior=dist.Beta(2.0, 2.0))
        self.stars.brightness.prior = ck.prior(dist.Normal, self.mean, self.scatter)

    @ck.forward
    def photometry(self, offset, share, gain=1.0):
        return dist.Normal(gain * ck.vmap(self.stars.own)() + offset + share, 0.5)


def bind(**settings):
    return ck.PyroModel(Cluster().photometry, dims={"obs": ("stars",)}).bind(
        torch.zeros(()), obs=torch.zeros(3), **settings
    )


def drawn(bound, draws=4):
    return az.InferenceData(posterior=ck.prior_predictive(bound, draws=draws, seed=1, progress=False).prior)


NAN, INF = float("nan"), float("inf")

WHOLE_FROM_ONE = [0, -1, 10.5, NAN, "10", None, [10], torch.tensor(2.5), torch.ones(2, dtype=torch.long)]
WHOLE_FROM_NONE = [-1, 10.5, "10", [10], INF]
OPTIONAL_FROM_ONE = [one for one in WHOLE_FROM_ONE if one is not None]
SEEDS = [-1, "a", 1.5, [1], 2**63]
FLAGS = ["yes", 1, 0.0, None]

TABLE = {
    ck.sample: {
        "draws": WHOLE_FROM_ONE,
        "tune": [*WHOLE_FROM_NONE, None],
        "chains": WHOLE_FROM_ONE,
        "seed": SEEDS,
        "engine": ["fast", 3, None],
        "cores": OPTIONAL_FROM_ONE,
        "noncentered": ["yes", 3, None, ["nobody"]],
        "target_accept": [0.0, 1.0, -0.1, 1.5, NAN, "0.9", None, True],
        "max_tree_depth": WHOLE_FROM_ONE,
        "metric": ["cubic", 3],
        "dense": ["nobody", 3, {"mean": 1}, [3]],
        "start": [
            3,
            "mean",
            [0.0],
            {"nobody": 0.0},
            {3: 0.0},
            {"mean": NAN},
            {"mean": INF},
            {"mean": "zero"},
            {"scatter": -1.0},
            {"share": 1.5},
            {"share": torch.tensor(-0.1)},
            {"mean": [0.0, 1.0]},
            {"stars.brightness": [0.0, 1.0, NAN]},
            az.InferenceData(),
        ],
        "vectorized": FLAGS,
        "chunk_size": [1, 0, "a"],
        "progress": FLAGS,
    },
    ck.prior_predictive: {
        "draws": WHOLE_FROM_ONE,
        "seed": SEEDS,
        "chunk_size": OPTIONAL_FROM_ONE,
        "progress": FLAGS,
    },
    ck.calibrate: {
        "simulations": WHOLE_FROM_ONE,
        "draws": WHOLE_FROM_ONE,
        "infer": ["nuts", 3],
        "fitted": [3, Cluster()],
        "thin": WHOLE_FROM_ONE,
        "tune": [*WHOLE_FROM_NONE, None],
        "seed": SEEDS,
        "cores": OPTIONAL_FROM_ONE,
        "progress": FLAGS,
    },
    ck.LogDensity: {"noncentered": ["yes", 3, None, ["nobody"]]},
}

CASES = [(call, name, value) for call, table in TABLE.items() for name, values in table.items() for value in values]


@pytest.fixture(scope="module")
def bound():
    return bind()


@pytest.mark.parametrize(("call", "name", "value"), CASES, ids=lambda one: getattr(one, "__name__", repr(one))[:30])
def test_meaningless_values(bound, call, name, value):
    """A value that means nothing raises an error of ours that names the argument or what is wrong."""
    with pytest.raises(ck.errors.CaskadeException) as caught:
        call(bound, **{name: value})
    said = str(caught.value)
    assert name in said or str(value) in said or (isinstance(value, dict) and any(str(key) in said for key in value))


USES_OF_DRAWS = {
    "draws": OPTIONAL_FROM_ONE,
    "seed": SEEDS,
    "new": [3, None, {"stars": 7}, ("nobody",), [3]],
    "chunk_size": OPTIONAL_FROM_ONE,
    "progress": FLAGS,
}


@pytest.mark.parametrize(
    ("name", "value"), [(name, value) for name, values in USES_OF_DRAWS.items() for value in values], ids=repr
)
def test_meaningless_values_of_predictions(bound, name, value):
    """Predictions refuse what means nothing, by name."""
    with pytest.raises(ck.errors.CaskadeException, match=name):
        ck.predict(bound, drawn(bound), **{name: value})
    if name in ("chunk_size", "progress"):
        with pytest.raises(ck.errors.CaskadeException, match=name):
            ck.log_likelihood(bound, drawn(bound), **{name: value})


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({"likelihood": 3}, "likelihood must be a function"),
        (
            {"dims": [("obs", ("stars",))]},
            r"dims must be a dict by names, such as \{\"obs\": \(\"stars\",\)\}; got .*list",
        ),
        ({"dims": ("stars",)}, "dims must be a dict by names"),
        ({"dims": {"obs": "stars"}}, "dims of 'obs' must be a tuple of names"),
        ({"dims": {"obs": 3}}, r"dims of 'obs' must be names.*got 3 \(a int\)"),
        ({"dims": {"obs": [3]}}, r"dims of 'obs' must be names.*among them is 3"),
        ({"dims": {"obs": {"stars"}}}, "must have an order"),
        ({"dims": {"data": ("stars",)}}, "dims names data, but the model predicts obs"),
        ({"priors": dist.Normal(0.0, 1.0)}, "priors must be a dict by names"),
        ({"priors": {"nobody": dist.Normal(0.0, 1.0)}}, "priors= names nobody, but the sites are mean"),
        ({"priors": {"mean": 3}}, "mean"),
        ({"priors": {3: dist.Normal(0.0, 1.0)}}, "among its keys is 3"),
        ({"subsample_size": 2}, "subsample_size must be a dict by names"),
        ({"subsample_size": {"stars": 0}}, "subsample_size= of plate stars"),
        ({"subsample_size": {"stars": 1.5}}, "subsample_size= of plate stars"),
        ({"subsample_size": {"moons": 1}}, "subsample_size= names 'moons'"),
    ],
)
def test_models_of_meaningless_settings(given, expected):
    """A model refuses settings of the wrong kind when it is made or bound."""
    with pytest.raises(ck.errors.CaskadeException, match=expected):
        ck.PyroModel(Cluster().photometry, **given).bind(torch.zeros(()), obs=torch.zeros(3))


@pytest.mark.parametrize(
    ("args", "kwargs", "expected"),
    [
        ((), {}, r"takes offset, gain=1.0; the inputs do not fit: missing a required argument: 'offset'"),
        ((0.0, 1.0, 2.0, 3.0), {}, "takes offset, gain=1.0; the inputs do not fit"),
        ((0.0,), {"offset": 1.0}, "multiple values for argument 'offset'"),
        (
            (0.0,),
            {"stay": 1.0, "readmitted": 0.0},
            r"and no stay, readmitted\. .*obs=\{'stay': \.\.\., 'readmitted': \.\.\.\}",
        ),
        ((0.0,), {"share": 0.5}, r"got share as an input.*share\.to_static"),
        ((0.0,), {"params": torch.zeros(3)}, "got params as an input"),
        ((0.0,), {"obs": {"stay": torch.zeros(3)}}, "The data name stay, but the model predicts obs"),
        ((0.0,), {"obs": {3: torch.zeros(3)}}, "obs must be a dict by names"),
        ((0.0,), {"obs": "data"}, "The data of 'obs' are no array or tensor"),
        ((0.0,), {"subsample_size": [2]}, "subsample_size must be a dict by names"),
    ],
)
def test_inputs_that_do_not_fit(unchanged, args, kwargs, expected):
    """What a forward method does not take is refused when it is bound or called, with what it takes."""
    model = ck.PyroModel(unchanged(Cluster()).photometry, dims={"obs": ("stars",)})
    for call in (model.bind, model):
        with pytest.raises(ck.errors.CaskadeException, match=expected):
            call(*args, **kwargs)


@pytest.mark.parametrize(
    ("stat", "module", "expected"),
    [
        ("mode", None, "stat must be 'mean', 'median' or the number of a draw"),
        (4, None, "stat must be at most 3, not 4"),
        (-1, None, "stat must be at least 0"),
        (1.5, None, "stat must be a whole number"),
        (None, None, "stat must be a whole number; got None"),
        ("mean", 3, "needs the module"),
    ],
)
def test_points_that_are_none(bound, stat, module, expected):
    """A point of a posterior is a mean, a median or one of its draws."""
    with pytest.raises(ck.SamplingError, match=expected):
        ck.point(drawn(bound), bound.model.module if module is None else module, stat=stat)
    with pytest.raises(ck.SamplingError, match="must be ArviZ data"):
        ck.point({"mean": 0.0}, bound.model.module)


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({"in_dims": "a"}, "in_dims of ck.vmap"),
        ({"in_dims": [0]}, "in_dims of ck.vmap"),
        ({"chunk_size": 0}, "chunk_size of ck.vmap must be at least 1"),
        ({"chunk_size": 1.5}, "chunk_size of ck.vmap must be a whole number"),
        ({"randomness": "some"}, "randomness of ck.vmap must be one of 'error', 'same', 'different'"),
    ],
)
def test_maps_of_meaningless_settings(given, expected):
    """ck.vmap refuses what torch.vmap would not understand."""
    with pytest.raises(ck.PlateError, match=expected):
        ck.vmap(Cluster().stars.own, **given)


@pytest.mark.parametrize(
    ("n", "expected"),
    [(-1, "cannot have -1 members"), (1.5, "must be a whole number; got 1.5"), ("2", "must be a whole number")],
)
def test_populations_of_meaningless_sizes(n, expected):
    """The number of members is a whole number."""
    star = Star()
    star.brightness.prior = dist.Normal(0.0, 1.0)
    with pytest.raises(ck.PlateError, match=expected):
        ck.draw_members(star, n)
    with pytest.raises(ck.PlateError, match=expected):
        ck.draw_slots(star, n, 3)
    with pytest.raises(ck.PlateError, match="needs the linked module"):
        ck.draw_members(3, 2)
    with pytest.raises(ck.PlateError, match="maximum must be a whole number"):
        ck.draw_slots(star, 1, 2.5)


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({"depth": -1}, "depth= counts links"),
        ({"depth": "2"}, "depth= counts links"),
        ({"collapse": "nobody"}, "collapse= names 'nobody'"),
        ({"collapse": 3}, "collapse= names 3"),
        ({"posterior": 3}, "posterior= expects ArviZ data"),
        ({"saveto": "picture.xyz"}, "format of the picture"),
    ],
)
def test_diagrams_of_meaningless_settings(bound, given, expected):
    """A diagram refuses what it cannot show."""
    with pytest.raises(ck.errors.CaskadeException, match=expected):
        bound.diagram(**given)


def test_numbers_of_numpy_and_torch(bound):
    """Whole numbers and truths of numpy and torch are taken where those of Python are."""
    for whole in (np.int64, np.uint8, torch.tensor, np.array):
        found = ck.prior_predictive(bound, whole(5), seed=whole(1), chunk_size=whole(2), progress=np.bool_(False))
        assert found.prior.sizes["draw"] == 5
        assert ck.predict(bound, drawn(bound), draws=whole(2), seed=whole(1), progress=np.False_) is not None
    posterior = ck.sample(
        bind(),
        draws=np.int32(3),
        tune=torch.tensor(100),
        chains=np.uint8(1),
        seed=torch.tensor(1),
        cores=np.int64(1),
        max_tree_depth=np.int16(9),
        target_accept=np.float32(0.9),
        progress=np.bool_(False),
    )
    assert posterior.posterior.sizes["draw"] == 3
    assert ck.point(posterior, bound.model.module, stat=np.int64(1))["mean"].shape == ()
    assert bind(subsample_size={"stars": np.int64(2)}).subsample_size == {"stars": 2}


def test_a_seed_means_the_same_however_it_is_written(bound):
    """The kind of a number changes nothing."""
    one, other = (ck.prior_predictive(bound, 3, seed=seed, progress=False) for seed in (7, np.uint64(7)))
    assert one.prior.equals(other.prior)
