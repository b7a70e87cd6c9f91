"""The seed document, cell by cell: every value that it prints, and every image against a direct computation."""

import numpy as np
import pytest
import torch
from seed_models import (
    BlobPopulation,
    BlobPopulation_v2,
    BlobPopulation_v3,
    Gaussian,
    MultiBlob,
    SetLiveParam,
    X,
    Y,
)

import caskade_pyro as ck


def blob(x0, sigma, q=1.0, phi=0.0, intensity=1.0):
    """One Gaussian blob on the document's grid, written out."""
    dx, dy = X - x0[0], Y - x0[1]
    c, s = np.cos(phi), np.sin(phi)
    u, v = c * dx - s * dy, s * dx + c * dy
    return intensity * torch.exp(-(u**2 + (v * q) ** 2) / sigma**2)


def close(image, expected):
    """Whether an image is what a direct computation gives."""
    assert image.shape == (100, 100)
    torch.testing.assert_close(image, expected.to(image.dtype), rtol=1e-5, atol=1e-6)


def test_live_params(capsys):
    """Live params take the value set during the simulation and lose it afterwards."""
    sim = SetLiveParam(Gaussian("G", x0=[0, 0], q=1, phi=0, I0=1.0))
    image = sim.main_sim(X, Y, sim.get_values())
    print("c is cleared after simulation (should be None):", sim.c.value)
    print("Gaussian sigma is cleared after simulation (should be None):", sim.gaussian.sigma.value)
    assert capsys.readouterr().out == (
        "within sim c = 3.0\n"
        "c is cleared after simulation (should be None): None\n"
        "Gaussian sigma is cleared after simulation (should be None): None\n"
    )
    close(image, 3.0 * blob((0, 0), sigma=3.0))


@pytest.fixture
def five():
    """Five blobs whose positions are batched."""
    gaussian = Gaussian("G", q=1.0, phi=0.0, sigma=1.0, I0=1.0)
    gaussian.x0 = torch.tensor([[0, 0], [3, 1], [-2, 4], [-3, -3], [1, -4]])  # Batched param
    return gaussian, MultiBlob(gaussian)


def test_batched_param(five, capsys):
    """A batched param knows its own shape from its batch shape."""
    G, _ = five
    print(f"x0 shape: {G.x0.shape}, x0 batched: {G.x0.batched}, x0 batch shape: {G.x0.batch_shape}")
    assert capsys.readouterr().out == "x0 shape: (2,), x0 batched: True, x0 batch shape: (5,)\n"


def test_batched_subgraph(five):
    """The params of a batched subgraph are one vector, and the image is the sum of its blobs."""
    G, blobs = five
    assert str(blobs.get_values().shape) == "torch.Size([10])"
    close(blobs.brightness(X, Y, blobs.get_values()), sum(blob(x0, 1.0) for x0 in G.x0.value))


def test_batched_param_in_the_main_graph(five):
    """A batch of the main simulator is the first dim of the params, and each row is one simulation."""
    G, blobs = five
    blobs.sigma = ck.Param("sigma", torch.linspace(0.5, 2, 6), shape=(), dynamic=True)
    G.sigma = blobs.sigma
    params = blobs.get_values()
    assert str(params.shape) == "torch.Size([6, 11])"
    results = torch.vmap(blobs.brightness, in_dims=(None, None, 0))(X, Y, params)
    for sigma, image in zip(torch.linspace(0.5, 2, 6), results, strict=True):
        close(image, sum(blob(x0, sigma) for x0 in G.x0.value))


def test_batches_are_read_outside_in(five):
    """The first batch dim is that of the main simulator, the second that of the subgraph."""
    G, blobs = five
    blobs.sigma = ck.Param("sigma", torch.linspace(0.5, 2, 6), shape=(), dynamic=True)
    G.sigma = blobs.sigma
    G.x0 = np.random.default_rng(0).uniform(low=-4, high=4, size=(6, 5, 2))
    assert str(G.x0.batch_shape) == "(6, 5)"
    assert str(G.x0.shape) == "(2,)"
    params = blobs.get_values()
    assert str(params.shape) == "torch.Size([6, 11])"
    results = torch.vmap(blobs.brightness, in_dims=(None, None, 0))(X, Y, params)
    for sigma, positions, image in zip(torch.linspace(0.5, 2, 6), G.x0.value, results, strict=True):
        close(image, sum(blob(x0, sigma) for x0 in positions))


def population(kind):
    """The document's populations: hierarchically linked, with live params, and meta linked."""
    G = Gaussian("G", q=1.0, phi=0.0, I0=1.0)
    if kind is BlobPopulation:
        G.x0.to_dynamic([0, 0])  # set dummy values for the params
        G.sigma.to_dynamic(0)
        G.x0.batch_shape = (1,)  # set filler batch shape
        G.sigma.batch_shape = (1,)
    elif kind is BlobPopulation_v2:
        G.x0.to_static()
        G.sigma.to_static()
    else:
        G.x0.to_dynamic()
        G.sigma.to_dynamic()
    pop = kind(G, [0, 0], [1, 4], 0.1, 1)
    pop.to_dynamic()
    return pop


@pytest.mark.parametrize("kind", [BlobPopulation, BlobPopulation_v2, BlobPopulation_v3])
def test_populations(kind):
    """A population of drawn size gives the image of the members that it draws, before and after its params change."""
    pop = population(kind)
    for number, change in [(20, {}), (500, {"pop_x0_std": [3, 1], "pop_sigma_high": 0.5})]:
        for name, value in change.items():
            setattr(pop, name, value)
        np.random.seed(1)
        torch.manual_seed(1)
        image = pop.brightness(X, Y, number, pop.get_values())
        np.random.seed(1)
        torch.manual_seed(1)
        n = np.random.poisson(number)
        x0 = torch.normal(pop.pop_x0_mean.value.expand(n, 2), pop.pop_x0_std.value.expand(n, 2))
        low, high = pop.pop_sigma_low.value, pop.pop_sigma_high.value
        sigma = torch.rand(n) * (high - low) + low
        close(image, sum(blob(x, s) for x, s in zip(x0, sigma, strict=True)))


def test_linked_population_without_effect_on_live_params():
    """A hierarchical link around live params changes the picture, not the result."""
    pop = population(BlobPopulation_v2)
    boxed = population(BlobPopulation_v2)
    gauss = boxed.gauss
    boxed.unlink("gauss")
    boxed.hierarchical_link("gauss", gauss)
    images = []
    for one in (pop, boxed):
        np.random.seed(2)
        torch.manual_seed(2)
        images.append(one.brightness(X, Y, 20, one.get_values()))
    torch.testing.assert_close(*images)
