"""What a call remembers of the graph is worked out anew after each edit, and every check is made at every call."""

import pickle

import pytest
import torch

import caskade_pyro as ck

X = torch.linspace(0, 1, 4)


class Line(ck.Module):
    """A line, of which there may be many."""

    def __init__(self, name="line"):
        super().__init__(name)
        self.slope = ck.Param("slope", shape=())
        self.offset = ck.Param("offset", shape=())

    @ck.forward
    def at(self, x, slope, offset):
        return offset + slope * x


class Curve(ck.Module):
    """A polynomial whose coefficients are one param."""

    def __init__(self):
        super().__init__("curve")
        self.weights = ck.Param("weights", shape=(2,))

    @ck.forward
    def at(self, x, weights):
        return weights[0] + weights[1] * x


class Pictures(ck.Module):
    """Two plates, whose members one method runs by hand."""

    def __init__(self):
        super().__init__("pictures")
        self.hierarchical_link("lines", Line(), size=3)
        self.hierarchical_link("curves", Curve(), size=2)

    @ck.forward
    def total(self, x, lines_params, lines_dims, curves_params, curves_dims):
        lines = torch.vmap(self.lines.at, in_dims=(None, lines_dims))(x, lines_params)
        curves = torch.vmap(self.curves.at, in_dims=(None, curves_dims))(x, curves_params)
        return lines.sum(0) + curves.sum(0)

    @ck.forward
    def given(self, lines_params, lines_dims):
        return lines_params, lines_dims


SLOPES, OFFSETS, WEIGHTS = torch.tensor([1.0, 2.0, 3.0]), torch.tensor([5.0, 6.0, 7.0]), torch.arange(4.0).reshape(2, 2)
TOTAL = OFFSETS.sum() + SLOPES.sum() * X + WEIGHTS[:, 0].sum() + WEIGHTS[:, 1].sum() * X


@pytest.fixture
def pictures():
    module = Pictures()
    torch.testing.assert_close(module.total(X, [SLOPES, OFFSETS, WEIGHTS]), TOTAL)
    return module


def test_two_plates_in_one_method(pictures):
    """A method may ask for the members of several plates, and takes those instead that it is given by keyword."""
    vector = torch.cat([SLOPES, OFFSETS, WEIGHTS.flatten()])
    torch.testing.assert_close(pictures.total(X, vector), TOTAL)
    other = pictures.total(X, vector, lines_params=[SLOPES, OFFSETS + 1])
    torch.testing.assert_close(other, TOTAL + 3)


@pytest.mark.parametrize("plate", ["lines", "curves"])
def test_members_that_are_counted_differently(pictures, plate):
    """Each of several plates whose params disagree is named, whichever it is."""
    if plate == "curves":
        pictures.curves.link("shift", ck.Param("shift", shape=(), batch_shape=(2,)))
        params = [SLOPES, OFFSETS, WEIGHTS, torch.ones(5)]
    else:
        params = [SLOPES, OFFSETS[:2], WEIGHTS]
    with pytest.raises(ck.PlateError, match=f"members of plate {plate} are counted differently"):
        pictures.total(X, params)


def test_a_new_group_is_seen_by_the_next_call(pictures):
    """Params of a second group of a linked child are passed in a list of their own from the next call on."""
    values, dims = pictures.given([SLOPES, OFFSETS, WEIGHTS])
    assert (len(values), dims) == (2, [0, 0])
    pictures.lines.offset.group = 1
    values, dims = pictures.given([[SLOPES, WEIGHTS], [OFFSETS]])
    assert [[v.tolist() for v in group] for group in values] == [[SLOPES.tolist()], [OFFSETS.tolist()]]
    assert dims == [[0], [0]]
    torch.testing.assert_close(pictures.total(X, [[SLOPES, WEIGHTS], [OFFSETS]]), TOTAL)
    pictures.lines.offset.group = 0
    torch.testing.assert_close(pictures.total(X, [SLOPES, OFFSETS, WEIGHTS]), TOTAL)


def test_a_new_constant_is_seen_by_the_next_call(pictures):
    """A param that was fixed since the last call is no longer asked for, and one of each member is refused by hand."""
    pictures.lines.offset.to_static(2.0)
    torch.testing.assert_close(pictures.total(X, [SLOPES, WEIGHTS]), TOTAL - OFFSETS.sum() + 6)
    pictures.lines.offset.to_static(OFFSETS)
    with pytest.raises(ck.PlateError, match=r"Static param lines\.offset has a value for each member of plate lines"):
        pictures.total(X, [SLOPES, WEIGHTS])
    pictures.lines.offset.to_dynamic()
    torch.testing.assert_close(pictures.total(X, [SLOPES, OFFSETS, WEIGHTS]), TOTAL)


def test_a_new_child_is_seen_by_the_next_call(pictures):
    """An argument is filled by the param that the module links now."""
    line = pictures.lines
    assert line.at(1.0, [2.0, 3.0]) == 5.0
    line.unlink("offset")
    line.link("offset", ck.Param("offset", 10.0, shape=()))
    assert line.at(1.0, [2.0]) == 12.0


@pytest.mark.parametrize("value", [torch.ones(2), torch.ones(2, 3), torch.ones(2, 1)])
def test_the_shape_of_a_member_is_checked_under_vmap(value):
    """A value without the param's own shape is refused inside of vmap as it is outside."""
    curve = Curve()
    with pytest.raises(ck.FillParamsError, match=r"own shape is \(2,\)"):
        torch.vmap(curve.at, in_dims=(None, [0]))(X, [value])
    with pytest.raises(ck.FillParamsError, match=r"own shape is \(2,\)"):
        curve.at(X, [value[0]])


def test_integers_of_members_become_floating():
    """Integers given for each member are floating inside of vmap, as they are outside."""
    result = torch.vmap(Line().at, in_dims=(None, [0, 0]))(X, [torch.arange(3), torch.arange(3)])
    assert result.dtype == torch.get_default_dtype()
    torch.testing.assert_close(result, torch.arange(3.0)[:, None] * (1 + X))


def test_what_is_remembered_belongs_to_one_graph(pictures):
    """The pickle of a graph, or of a layout, that has served calls is one of its own."""
    twin = pickle.loads(pickle.dumps(pictures))
    twin.lines.offset.to_static(0.0)
    torch.testing.assert_close(twin.total(X, [SLOPES, WEIGHTS]), TOTAL - OFFSETS.sum())
    torch.testing.assert_close(pictures.total(X, [SLOPES, OFFSETS, WEIGHTS]), TOTAL)
    layout = pickle.loads(pickle.dumps(pictures.structure.layout))
    assert [plate.name for plate in layout.plates] == ["lines", "curves"]
    assert layout.standpoint.layout is layout
