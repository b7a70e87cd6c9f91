"""Handles: attributes that link a module of a plate a second time, and so take it out of the plate."""

import pyro.distributions as dist
import pytest
import torch

import caskade_pyro as ck


class Source(ck.Module):
    def __init__(self):
        super().__init__()
        self.flux = ck.Param("flux", shape=(), prior=dist.Normal(0.0, 1.0))

    @ck.forward
    def own(self, flux):
        return flux


class Image(ck.Module):
    def __init__(self, size=3):
        super().__init__()
        self.hierarchical_link("sources", Source(), size=size)
        if size is None:
            self.sources.flux.batch_shape = (3,)

    @ck.forward
    def light(self):
        return ck.vmap(self.sources.own)()


class Survey(ck.Module):
    """An image, and a handle of its sources as a function makes it."""

    def __init__(self, image, handle=lambda survey: None):
        super().__init__()
        self.image = image
        handle(self)

    @ck.forward
    def data(self):
        return dist.Normal(self.image.light(), 1.0)

    @ck.forward
    def through_the_handle(self):
        return dist.Normal(ck.vmap(self.meta.sources.own)(), 1.0)


def link(survey):
    survey.mine = survey.image.sources


MESSAGE = (
    r"attribute 'mine' of Survey links Source\(Source\) a second time: as mine, without the plate image\.sources"
    r".*self\.meta\.mine"
)


@pytest.mark.parametrize("size", [3, None])
def test_a_handle_that_takes_a_plate_away_is_named(size):
    """Binding names the attribute, both paths and the way to keep a handle."""
    with pytest.raises(ck.PlateError, match=MESSAGE):
        ck.PyroModel(Survey(Image(size), link).data, dims={"obs": ("sources",)}).bind(obs=torch.zeros(3))


def test_a_call_names_the_handle_as_well():
    """So does a call of the simulator alone."""
    with pytest.raises(ck.PlateError, match=MESSAGE):
        Survey(Image(), link).data([torch.zeros(3)])


def test_a_handle_in_meta_is_harmless():
    """A module held as self.meta.name keeps its plate, and ck.vmap takes it."""

    def hold(survey):
        survey.meta.sources = survey.image.sources

    for method in ("data", "through_the_handle"):
        survey = Survey(Image(), hold)
        bound = ck.PyroModel(getattr(survey, method), dims={"obs": ("sources",)}).bind(obs=torch.zeros(3))
        assert [site.plate_names for site in bound.plan.sites] == [("image.sources",)]


def test_the_handle_of_a_module_deeper_down_is_named_with_its_holder():
    """The attribute may belong to any module of the graph."""

    class Field(ck.Module):
        def __init__(self):
            super().__init__()
            self.survey = Survey(Image(), link)

        @ck.forward
        def data(self):
            return self.survey.data()

    with pytest.raises(
        ck.PlateError, match=r"attribute 'mine' of Field\.survey links .* as survey\.mine, without the plate"
    ):
        ck.PyroModel(Field().data).bind(obs=torch.zeros(3))


def test_the_handle_of_a_param_is_named_where_nothing_is_left_in_the_plate():
    """A param that an attribute outside links is shared by all members, which the error says."""

    def link_param(survey):
        survey.flux = survey.image.sources.flux

    with pytest.raises(
        ck.PlateError, match=r"flux is an attribute outside of it, so that all members share flux.*self\.meta\.flux"
    ):
        ck.PyroModel(Survey(Image(), link_param).data).bind(obs=torch.zeros(3))
