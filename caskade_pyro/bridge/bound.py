"""Models with their data."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from os import PathLike
from typing import TYPE_CHECKING, Any

from torch import Tensor

from ..errors import ModelError, SamplingError
from ..graph.nodes.node import Node
from ..graph.views.description import ModelDescription
from ..graph.views.drawing import renderer
from .data import prepare
from .enumeration import check_enumerable, enumerated
from .hidden import is_followed, with_hidden_parents
from .improper import BeginSomewhere, is_improper
from .many import log_density
from .memory import Memory
from .plan import Plan, Site
from .reparametrise import Decision, NonCentered, decide, reparametrise
from .report import Report, describe, with_idle_noted
from .run import Role
from .subsampling import SubsampleSize, check_subsample, resolved_sizes
from .turns import in_turn

if TYPE_CHECKING:
    import graphviz

    from .model import PyroModel

__all__ = ["BoundModel", "check_bound"]


class BoundModel:
    """A `PyroModel` with its inputs and data: a Pyro model of no arguments.

    Attributes:
        model: The model.
        args: Its inputs.
        kwargs: Its inputs by keyword.
        data: Its data by observation; missing ones are NaN.
        subsample_size: How many members each run looks at, by plate.
    """

    def __init__(
        self,
        model: PyroModel,
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        data: dict[str, Tensor],
        subsample_size: SubsampleSize,
        memory: Memory | None = None,
    ) -> None:
        self.model, self.args, self.kwargs = model, args, kwargs
        self._memory = Memory() if memory is None else memory
        with in_turn():
            plan = model.plan(args, kwargs, data, self._memory)
        self.subsample_size = resolved_sizes(plan, subsample_size)
        check_subsample(plan, {name: size for name, size in self.subsample_size.items() if size != plan.sizes[name]})
        self.data = {name: prepare(plan.observations[name], one).given for name, one in data.items()}

    @property
    def plan(self) -> Plan:
        """What is known of the model before it runs."""
        with in_turn():
            return self.model.plan(self.args, self.kwargs, self.data, self._memory)

    def __call__(self) -> Any:
        """Run the model; for Pyro's algorithms."""
        return self._run(Role.MODEL)

    def joint(self) -> Any:
        """Run the model of params and data, without the data sets that have none; for densities."""
        return self._run(Role.DENSITY)

    def _run(self, role: Role) -> Any:
        return self.model.run(self.args, self.kwargs, self.data, self.subsample_size, role, self._memory)

    def latents(self, pointers: Collection[str] | None = None) -> None:
        """Sample the params alone, as the full model does, and report pointers: all, or some by name."""
        self.model.latents(self.args, self.kwargs, self.data, self.subsample_size, self._memory, pointers)

    def predictive(self) -> Any:
        """Run the model with its data sampled instead of observed, in the same shapes."""
        return self._run(Role.PREDICTION)

    def whole(self) -> BoundModel:
        """The same model, looking at all members of all plates."""
        if not self.subsample_size:
            return self
        return BoundModel(self.model, self.args, self.kwargs, self.data, {}, self._memory)

    def noncentered(self, choice: NonCentered = "offsets") -> Callable[[], Any]:
        """The reparametrised model for Pyro's own algorithms.

        Its non-centred sites are ``{site}_decentered``, and params on a circle are sampled as points of a ring,
        ``{site}_ring``.

        Discrete params are marked for enumeration, which Pyro's `TraceEnum_ELBO` and NUTS do. Data sets without data are
        left out.

        Args:
            choice: ``"offsets"`` where the graph says it pays, ``"auto"`` for the same sites left a little centred, as
                `ck.sample` samples them; True or False; or the names of sites.
        """
        model = BeginSomewhere()(self.joint) if self.has_improper else self.joint
        return enumerated(self, reparametrise(model, self.decisions(choice)))

    def decisions(self, choice: NonCentered = "auto") -> dict[str, Decision]:
        """How each site is sampled, and why."""
        return decide(self.plan, choice)

    @property
    def discrete(self) -> tuple[Site, ...]:
        """The latent sites whose values are counted rather than measured."""
        return tuple(site for site in self.plan.sites if site.discrete)

    @property
    def has_improper(self) -> bool:
        """Whether some priors are no distributions, so that nothing can be drawn from them."""
        inner = (one.distribution for one in self.plan.latent_inner)
        return any(is_improper(one) for one in (*(site.template for site in self.plan.sites), *inner))

    @property
    def has_discrete(self) -> bool:
        """Whether some latent sites are discrete, those included that the simulator samples itself."""
        inner = (one.distribution.support for one in self.plan.latent_inner)
        return bool(self.discrete) or any(getattr(support, "is_discrete", False) for support in inner)

    def check_samplable(self) -> None:
        """Check that samplers that follow gradients can take the model.

        Raises:
            SamplingError: It has no latent sites, or discrete ones that cannot be summed out; or it has no data.
        """
        if not self.plan.latents:
            raise SamplingError(f"{self!r} has nothing to sample: no param is dynamic. Free some with to_dynamic().")
        if not self.plan.has_data:
            raise SamplingError(
                f"{self.model!r} has no data, so that its posterior is its prior: give some, bind(..., obs=...), or draw from "
                "the priors with ck.prior_predictive(bound)."
            )
        check_enumerable(self)

    def log_density(self, params: Mapping[str, Any], chunk_size: int | None = None) -> Tensor:
        """The joint log density of params and data at many values of the params.

        Args:
            params: By site, in the user's params, ``(n, *plates, *shape)``.
            chunk_size: How many of them to run side by side; by default as many as fit into a bounded amount of memory.

        Returns:
            The log density of each, ``(n,)``; with subsampled plates an estimate of it.

        Raises:
            SamplingError: A param is missing or has a wrong shape.
        """
        with in_turn():
            return log_density(self, params, chunk_size)

    def check_whole(self) -> None:
        """Check that a run looks at all members, so that its density is exact.

        Raises:
            SamplingError: Plates are subsampled.
        """
        if self.subsample_size:
            raise SamplingError(
                f"NUTS needs the density of all data, but the plates {', '.join(self.subsample_size)} are subsampled, which "
                "gives another estimate of it at each step. Fit with ck.fit, or bind without subsample_size=."
            )

    def describe(self) -> ModelDescription:
        """The model in plain data."""
        with in_turn():
            described = describe(self.model.module, self.plan)
            described = with_hidden_parents(self, self.latents, described, [site.name for site in self.plan.sites])
        # What the simulator samples itself, or weighs, may depend on params where no derivative tells.
        return described if self.plan.inner else with_idle_noted(described)

    def without_derivative(self) -> dict[str, list[str]]:
        """By observation, the continuous params that it depends on though no derivative leads there.

        They enter through comparisons, counts, indices or detached values; samplers and fits are blind to them there.
        """
        followed = {site.name: site.parents for site in describe(self.model.module, self.plan).sites}
        params = [site.name for site in self.plan.sites]
        continuous = {site.name for site in self.plan.sites if not site.discrete}
        found = {
            site.name: [
                name
                for name in site.parents
                if name in continuous - set(followed[site.name])
                and not is_followed(self, self.latents, site.name, name, params)
            ]
            for site in self.describe().sites
            if site.likelihood
        }
        return {name: blind for name, blind in found.items() if blind}

    def report(self) -> Report:
        """Every site with its prior, support, shape, plates and parents, to read before sampling.

        Returns:
            A table that prints itself, in a terminal and in a notebook.
        """
        return Report(self.describe())

    def diagram(
        self,
        saveto: str | PathLike[str] | None = None,
        *,
        collapse: str | Node | Sequence[str | Node] = (),
        depth: int | None = None,
        posterior: Any = None,
    ) -> graphviz.Digraph:
        """The plate diagram: a box for each plate, a node for each site, data shaded.

        Args:
            saveto: A file to write, its format taken from the ending (``.svg``, ``.png``, ``.pdf``, ``.html``, ``.dot``,
                ``.mmd``).
            collapse: Modules whose sites are drawn as one node: paths from the root, names, or the modules themselves.
            depth: How many links from the root the picture goes; the sites of modules at the end of that many are drawn
                as one node.
            posterior: Draws, as ``ck.sample`` returns them, whose mean, standard deviation and histogram are put into the
                nodes.

        Returns:
            A graphviz object, which shows itself in a notebook.

        Raises:
            CaskadeException: The ending of ``saveto`` is no known format, ``collapse`` names no module, ``depth`` is
                negative, or ``posterior`` has draws of no site.
            MissingDependencyError: A file is to be written and there is no Graphviz.
        """
        return renderer().model(self.describe(), saveto, collapse=collapse, depth=depth, posterior=posterior)

    def __repr__(self) -> str:
        return f"{self.model!r} with data {', '.join(self.data) or 'none'}"


def check_bound(given: object, function: str) -> None:
    """Check that a function that needs a model with its data was given one.

    Raises:
        ModelError: It was not.
    """
    if isinstance(given, BoundModel):
        return
    shown = f"a {type(given).__name__}" if given is not None else "None"
    raise ModelError(
        f"{function} needs a model with its inputs and data, which ck.PyroModel(...).bind(..., obs=...) returns; got {shown}."
    )
