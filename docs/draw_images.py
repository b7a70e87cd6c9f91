"""Draws the pictures of the README and these pages: `python docs/draw_images.py demo_output` after `make demo`.

Without a folder it draws all but those of the demo's results. The lens needs `pip install caustics==1.7.1`; without it
the pictures of the lens stay as they are.
"""

import doctest
import io
import shutil
import sys
import warnings
from contextlib import redirect_stdout
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pyro
import pyro.distributions as dist
import torch
from PIL import Image

import caskade_pyro as ck
from caskade_pyro.diagram.output import rendered

HERE = Path(__file__).parent
IMAGES = HERE / "images"
README = HERE.parent / "README.md"
sys.path[:0] = [str(HERE.parent / "tests"), str(HERE.parent / "examples")]

import galaxies  # noqa: E402 - the example
from bridged import PAIRS  # noqa: E402 - the models of the tests
from seed_models import BlobPopulation, Gaussian, MultiBlob, SetLiveParam  # noqa: E402


def readme_model():
    """The bound model of the README: its code, up to the sampling."""
    names = {}
    for example in doctest.DocTestParser().get_examples(README.read_text()):
        if "ck.sample" in example.source:
            return names["bound"]
        with redirect_stdout(None):
            exec(example.source, names)
    raise SystemExit("README.md does not sample.")


def survey():
    """The bound model of the example."""
    stamps, x, y = galaxies.load(32)
    many = galaxies.Survey(galaxies.Galaxy(), [f"galaxy {number}" for number in range(32)])
    return ck.PyroModel(many.stamps, dims={"obs": ("galaxies",)}).bind(x, y, obs=stamps)


def save(png, name):
    """Write a picture with few colours, which all that we draw has, in a third of the bytes."""
    image = Image.open(io.BytesIO(png)).convert("RGB")
    image.quantize(64, dither=Image.Dither.NONE).save(IMAGES / "diagrams" / f"{name}.png", optimize=True)


def draw(picture, name):
    """Write a picture of ours."""
    save(picture.pipe("png"), name)


def compare(bound, name):
    """Write our picture of a model and Pyro's."""
    draw(bound.diagram(), name)
    save(rendered(pyro.render_model(bound, render_distributions=True).source, "png"), f"{name}_pyro")


# The graphs of the hierarchical guide


def live():
    """Params that the simulator sets while it runs."""
    return SetLiveParam(Gaussian("G", x0=[0, 0], q=1, phi=0, I0=1.0))


def blobs():
    """Six pictures of five blobs."""
    gauss = Gaussian("G", q=1.0, phi=0.0, I0=1.0)
    gauss.x0 = np.zeros((6, 5, 2))
    gauss.x0.to_dynamic()
    many = MultiBlob(gauss)
    many.sigma = ck.Param("sigma", torch.linspace(0.5, 2, 6), shape=(), dynamic=True)
    gauss.sigma = many.sigma
    return many


def population():
    """Blobs whose number is drawn in each call."""
    gauss = Gaussian("G", q=1.0, phi=0.0, I0=1.0)
    for param, value in ((gauss.x0, [0, 0]), (gauss.sigma, 0)):
        param.to_dynamic(value)
        param.batch_shape = (1,)
    drawn = BlobPopulation(gauss, [0, 0], [1, 4], 0.1, 1)
    drawn.to_dynamic()
    return drawn


# A gravitational lens of the package caustics


def noisy(image):
    """What is observed of an image."""
    return dist.Normal(image, 0.1).to_event(2)


def lens():
    """The simulator of a lensed galaxy, and its model with data."""
    import caustics

    cosmology = caustics.FlatLambdaCDM(name="cosmology")
    redshifts = {"z_l": 0.5, "z_s": 1.5}
    galaxy = caustics.SIE(cosmology=cosmology, name="galaxy", x0=0.0, y0=0.0)
    shear = caustics.ExternalShear(cosmology=cosmology, name="shear", x0=0.0, y0=0.0)
    plane = caustics.SinglePlane(cosmology=cosmology, lenses=[galaxy, shear], name="lens", **redshifts)
    source = caustics.Sersic(name="source")
    simulator = caustics.LensSource(lens=plane, source=source, pixelscale=0.1, pixels_x=24, name="image")
    priors = {
        "lens.lenses.galaxy.Rein": dist.LogNormal(0.0, 0.3),
        "lens.lenses.shear.gamma_1": dist.Normal(0.0, 0.05),
        "lens.lenses.shear.gamma_2": dist.Normal(0.0, 0.05),
        "source.x0": dist.Normal(0.0, 0.3),
        "source.y0": dist.Normal(0.0, 0.3),
        "source.Re": dist.LogNormal(-1.0, 0.5),
        "source.Ie": dist.LogNormal(0.0, 1.0),
    }
    for param in (galaxy.q, source.q):
        param.prior = dist.Beta(5.0, 2.0)
    model = ck.PyroModel(simulator.__call__, likelihood=noisy, priors=priors)
    return simulator, model.bind(obs=torch.zeros(24, 24))


# All of them


def main():
    """Draw the README's diagram and those of docs/diagrams.md, and take over the demo's pictures."""
    (IMAGES / "diagrams").mkdir(exist_ok=True)
    study = readme_model()
    study.diagram(saveto=str(IMAGES / "study.png"))
    compare(study, "schools")
    posterior = ck.sample(study, draws=500, tune=300, chains=2, seed=1, progress=False)
    draw(study.diagram(posterior=posterior), "schools_posterior")
    compare(survey(), "galaxies")
    for name in ("crossed", "three_nested", "two_data_sets"):
        compare(PAIRS[name]().bound, name)
    for make in (live, blobs, population):
        draw(make().graphviz(), make.__name__)
    draw(PAIRS["three_nested"]().bound.model.module.graphviz(depth=2), "depth")
    if find_spec("caustics") is not None:
        warnings.simplefilter("ignore")
        simulator, bound = lens()
        draw(ck.diagram.draw(simulator), "lens_graph")
        draw(bound.diagram(collapse=("lens", "source")), "lens_collapsed")
        compare(bound, "lens")
    for name in ("galaxies.png", "sizes.png", "ranks.png") if len(sys.argv) > 1 else ():
        shutil.copy(Path(sys.argv[1]) / name, IMAGES / name)


if __name__ == "__main__":
    main()
