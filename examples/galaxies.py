"""A population of real galaxies: from a simulator of one galaxy to the posterior of all of them.

Galaxies of the Hubble eXtreme Deep Field, 25 x 25 pixels each. Each has its own position, shape, size and brightness; sizes
and brightnesses come from a population whose mean and scatter are fitted with them: 354 params in all.

    python examples/galaxies.py --out demo_output
"""

import argparse
import time
from pathlib import Path

import arviz as az
import matplotlib as mpl

mpl.use("Agg")  # pictures go to files

import matplotlib.pyplot as plt
import numpy as np
import pyro.distributions as dist
import torch

import caskade_pyro as ck

DATA = Path(__file__).parent / "data" / "galaxy_stamps.npz"
POPULATION = ["mean_log_sigma", "scatter_log_sigma", "mean_log_I0", "scatter_log_I0", "background", "noise"]


class Galaxy(ck.Module):
    """ONE galaxy: an elliptical Gaussian."""

    def __init__(self):
        super().__init__()
        self.x0 = ck.Param("x0", shape=(2,), prior=dist.Normal(0.0, 1.0), units="pixel", description="position")
        self.e = ck.Param("e", shape=(2,), prior=dist.Normal(0.0, 0.3), description="ellipticity")
        # The images say more about each galaxy than the population does, so the samplers are told to use the values.
        self.log_sigma = ck.Param("log_sigma", shape=(), centered=True, units="log pixel", description="size")
        self.log_I0 = ck.Param("log_I0", shape=(), centered=True, description="log of the central brightness")

    @ck.forward
    def light(self, x, y, x0, e, log_sigma, log_I0):
        dx, dy = x - x0[0], y - x0[1]
        u = (1 - e[0]) * dx - e[1] * dy
        v = (1 + e[0]) * dy - e[1] * dx
        return torch.exp(log_I0 - (u**2 + v**2) / (2 * torch.exp(2 * log_sigma)))


class Survey(ck.Module):
    """Many galaxies, which share a population, a background and a noise."""

    def __init__(self, galaxy, names):
        super().__init__()
        self.hierarchical_link("galaxies", galaxy, members=names)
        self.mean_log_sigma = ck.Param("mean_log_sigma", prior=dist.Normal(0.7, 0.5), units="log pixel")
        self.scatter_log_sigma = ck.Param("scatter_log_sigma", prior=dist.HalfNormal(0.5), units="log pixel")
        self.mean_log_I0 = ck.Param("mean_log_I0", prior=dist.Normal(4.5, 1.0))
        self.scatter_log_I0 = ck.Param("scatter_log_I0", prior=dist.HalfNormal(1.0))
        self.background = ck.Param("background", prior=dist.Normal(12.0, 5.0))
        self.noise = ck.Param("noise", prior=dist.HalfNormal(10.0))
        galaxy.log_sigma.prior = ck.prior(dist.Normal, self.mean_log_sigma, self.scatter_log_sigma)
        galaxy.log_I0.prior = ck.prior(dist.Normal, self.mean_log_I0, self.scatter_log_I0)

    @ck.forward
    def images(self, x, y, background):
        return background + ck.vmap(self.galaxies.light)(x, y)

    @ck.forward
    def stamps(self, x, y, noise):
        return dist.Normal(self.images(x, y), noise).to_event(2)


def load(count):
    """The first stamps as ``(count, 25, 25)`` in display units, and the offsets of their pixels from the centre."""
    with np.load(DATA) as file:
        stamps = torch.tensor(file["stamps"][:count] * file["scale"])
    axis = torch.linspace(-12.0, 12.0, 25)
    x, y = torch.meshgrid(axis, axis, indexing="xy")
    return stamps, x, y


def draw_mosaic(stamps, images, noise, path):
    """Data, model and residual of every galaxy, side by side."""
    columns = 6
    rows = -(-len(stamps) // columns)
    figure, axes = plt.subplots(rows, columns, figsize=(3.6 * columns, 1.25 * rows), squeeze=False)
    for axis in axes.flat:
        axis.axis("off")
    for number, (axis, stamp, image) in enumerate(zip(axes.flat, stamps, images, strict=False)):
        gap = np.full((25, 1), np.nan)
        brightness = plt.get_cmap("magma")(plt.Normalize(0, 160)(np.hstack([stamp, gap, image])))
        residual = plt.get_cmap("RdBu_r")(plt.Normalize(-5, 5)((stamp - image) / noise))
        white = np.ones((25, 1, 4))
        axis.imshow(np.hstack([brightness[:, :25], white, brightness[:, 26:], white, residual]), origin="lower")
        axis.set_title(f"galaxy {number}", fontsize=7, pad=2)
    figure.suptitle("data | model | residual (blue to red: -5 to 5 noise sigma)", fontsize=12, y=0.995)
    figure.tight_layout(pad=0.3, rect=(0, 0, 1, 0.985))
    figure.savefig(path, dpi=130)
    plt.close(figure)


def draw_ranks(posterior, path):
    """How the ranks of each chain's draws spread over all: flat bars where the chains agree."""
    axes = az.plot_rank(posterior, var_names=POPULATION, kind="bars", figsize=(12, 7), labels=False)
    for axis, name in zip(axes.flat, POPULATION, strict=True):
        axis.set_title(name, fontsize=11)
        axis.tick_params(labelsize=8)
    figure = axes.flat[0].figure
    figure.supxlabel("rank among the draws of all chains", fontsize=10)
    figure.supylabel("chain", fontsize=10)
    figure.tight_layout()
    figure.savefig(path, dpi=130)
    plt.close("all")


def draw_sizes(posterior, path):
    """The size of every galaxy with its 94 % interval, beside the population's mean and scatter."""
    sizes = posterior.posterior["galaxies.log_sigma"]
    order = sizes.galaxies[sizes.mean(("chain", "draw")).argsort().values]
    (axis,) = az.plot_forest(
        posterior, var_names=["galaxies.log_sigma"], coords={"galaxies": order}, combined=True, figsize=(7, 11),
        textsize=7, linewidth=1.5, markersize=3,
    )  # fmt: skip
    mean, scatter = (float(posterior.posterior[name].mean()) for name in ("mean_log_sigma", "scatter_log_sigma"))
    axis.axvspan(mean - scatter, mean + scatter, color="C1", alpha=0.2, label="population: mean and scatter")
    axis.axvline(mean, color="C1")
    axis.set_yticklabels([str(name) for name in order.values[::-1]], fontsize=6)
    axis.set_title("sizes of the galaxies", fontsize=11)
    axis.set_xlabel("log_sigma [log pixel]")
    axis.legend(loc="upper right", fontsize=8)
    axis.figure.savefig(path, dpi=130, bbox_inches="tight")
    plt.close("all")


def print_summary(posterior):
    """The population, and of the galaxies the worst R-hat and effective sample size of each param."""
    summary = az.summary(posterior, round_to=4)
    print(summary.loc[POPULATION, ["mean", "sd", "hdi_3%", "hdi_97%", "ess_bulk", "ess_tail", "r_hat"]].to_string())
    print()
    for name in ("galaxies.x0", "galaxies.e", "galaxies.log_sigma", "galaxies.log_I0"):
        rows = summary[summary.index.str.startswith(name)]
        print(
            f"{name:20} {len(rows):4} scalars: bulk ESS >= {rows.ess_bulk.min():5.0f}, R-hat <= {rows.r_hat.max():.3f}"
        )


def main():
    """Fit the galaxies and leave everything in a folder."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("demo_output"), help="the folder for the results")
    parser.add_argument("--galaxies", type=int, default=58, help="how many galaxies to fit, at most 58 (58)")
    parser.add_argument("--draws", type=int, default=1000, help="draws of each of the four chains (1000)")
    parser.add_argument("--tune", type=int, default=600, help="steps of warm-up of each chain (600)")
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    start = time.perf_counter()

    stamps, x, y = load(options.galaxies)
    survey = Survey(Galaxy(), [f"galaxy {number}" for number in range(len(stamps))])
    model = ck.PyroModel(survey.stamps, dims={"obs": ("galaxies",)})
    bound = model.bind(x, y, obs=stamps)

    print(bound.report(), "\n")
    for ending in ("svg", "png"):
        bound.diagram(saveto=str(options.out / f"diagram.{ending}"))

    posterior = ck.sample(bound, draws=options.draws, tune=options.tune, chains=4, seed=options.seed)
    posterior.to_netcdf(str(options.out / "posterior.nc"))
    print()
    print_summary(posterior)

    survey.set_values(ck.point(posterior, survey))  # write the posterior mean back into the graph
    images = survey.images(x, y)
    draw_mosaic(stamps.numpy(), images.numpy(), survey.noise.value.item(), options.out / "galaxies.png")
    draw_ranks(posterior, options.out / "ranks.png")
    draw_sizes(posterior, options.out / "sizes.png")
    print(f"\n{len(stamps)} galaxies in {time.perf_counter() - start:.0f} s; results in {options.out}/:")
    for path in sorted(options.out.iterdir()):
        print(f"  {path.name}")


if __name__ == "__main__":
    main()
