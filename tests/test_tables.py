"""Data, constants and sizes as they come out of tables."""

import numpy as np
import pandas as pd
import pyro.distributions as dist
import pytest
import torch
import xarray as xr

import caskade_pyro as ck


class Means(ck.Module):
    def __init__(self):
        super().__init__()
        self.mu = ck.Param("mu", prior=dist.Normal(0.0, 1.0))

    @ck.forward
    def data(self, mu):
        return dist.Normal(mu, 1.0)


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (pd.Series([1.0, 2.0, 3.0], index=[2, 0, 1]), [1.0, 2.0, 3.0]),
        (pd.Series([1, 2, 3], index=[5, 6, 9]), [1.0, 2.0, 3.0]),
        (pd.Series([1.0, 2.0, 3.0], index=["a", "b", "c"]), [1.0, 2.0, 3.0]),
        (pd.Series([1, None, 3], dtype="Int64"), [1.0, np.nan, 3.0]),
        (pd.Series([True, False, True]), [1.0, 0.0, 1.0]),
        (pd.DataFrame({"a": [1.0, 2.0], "b": [3.0, 4.0]}), [[1.0, 3.0], [2.0, 4.0]]),
        (xr.DataArray([1.0, 2.0], dims="school"), [1.0, 2.0]),
    ],
)
def test_data_of_tables(given, expected):
    """Columns and tables are data in their order, whatever their labels; what is missing is NaN."""
    found = ck.PyroModel(Means().data).bind(obs=given).data["obs"]
    torch.testing.assert_close(found, torch.tensor(expected, dtype=found.dtype), equal_nan=True)


def test_columns_of_text():
    """A column that holds no numbers is an error that names the observation."""
    with pytest.raises(ck.ObservationError, match="The data of 'obs' are no array or tensor"):
        ck.PyroModel(Means().data).bind(obs=pd.Series(["yes", "no"]))


def test_arrays_are_copied():
    """What is written into an array after binding is no data of the model; arrays may be read-only."""
    given = np.array([1.0, 2.0])
    bound = ck.PyroModel(Means().data).bind(obs=given)
    given[0] = 99.0
    assert bound.data["obs"].tolist() == [1.0, 2.0]
    given.flags.writeable = False
    assert ck.PyroModel(Means().data).bind(obs=given).data["obs"].tolist() == [99.0, 2.0]


def test_params_and_plates_of_tables():
    """A column is the constant of each member, and sizes and names of a plate may come from a table."""
    table = pd.DataFrame({"state": ["AL", "AK", "AZ"], "area": [1.0, 2.0, 3.0]}, index=[7, 8, 9])
    state, nation = ck.Module("state"), ck.Module("nation")
    state.area = ck.Param("area", table.area, shape=())
    state.effect = ck.Param("effect", shape=())
    nation.hierarchical_link("states", state, size=table.state.value_counts().sum(), members=table.state)
    (plate,) = ck.plate_layout(nation).plates
    assert (plate.size, plate.members) == (3, ("AL", "AK", "AZ"))
    assert state.area.value.tolist() == [1.0, 2.0, 3.0]
    nation.set_values({"states": {"effect": table.area}})
    assert state.effect.value.tolist() == [1.0, 2.0, 3.0]
