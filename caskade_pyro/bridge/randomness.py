"""Random numbers of our own: draws of torch come from a generator of the thread that runs, not from that of the process.

torch has one default generator for all threads. To seed it, draw and put it back would give other threads numbers that are not
random in between, and what these draw would change ours.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode, _pop_mode_temporarily

__all__ = ["OwnNumbers", "no_numbers", "own_numbers"]

TAKE_A_GENERATOR = frozenset(
    {
        "bernoulli",
        "bernoulli_",
        "binomial",
        "cauchy_",
        "exponential_",
        "geometric_",
        "kaiming_normal_",
        "kaiming_uniform_",
        "log_normal_",
        "multinomial",
        "normal",
        "normal_",
        "poisson",
        "rand",
        "randint",
        "randn",
        "randperm",
        "random_",
        "uniform_",
        "_sample_dirichlet",
        "_standard_gamma",
    }
)
"""The functions of torch that draw from a generator that they are given."""

TAKE_NONE = frozenset(
    {
        "alpha_dropout",
        "alpha_dropout_",
        "dropout",
        "dropout1d",
        "dropout2d",
        "dropout3d",
        "dropout_",
        "feature_alpha_dropout",
        "feature_dropout",
        "fractional_max_pool2d",
        "fractional_max_pool3d",
        "gru",
        "gumbel_softmax",
        "lstm",
        "multi_head_attention_forward",
        "native_dropout",
        "rand_like",
        "randint_like",
        "randn_like",
        "rnn_relu",
        "rnn_tanh",
        "rrelu",
        "rrelu_",
        "scaled_dot_product_attention",
    }
)
"""Those that draw from the default one alone, or have taken another only since late versions."""

_default = threading.Lock()


class _Lent(threading.local):
    yes = False


_lent = _Lent()
"""Whether the default generator stands for one of our own in this thread."""


class OwnNumbers(TorchFunctionMode):
    """What torch draws in this thread comes from generators of our own, one for each device.

    A seed gives the numbers that ``torch.manual_seed`` with it gives.

    Args:
        seed: Of all of them.
    """

    def __init__(self, seed: int) -> None:
        super().__init__()
        self.seed = seed
        self.generators: dict[torch.device, torch.Generator] = {}

    def generator(self, device: torch.device) -> torch.Generator:
        """The generator of a device."""
        if device not in self.generators:
            self.generators[device] = torch.Generator(device).manual_seed(self.seed)
        return self.generators[device]

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        """Give a function that draws a generator."""
        named = dict(kwargs or {})
        name = getattr(func, "__name__", "")
        if name in TAKE_A_GENERATOR and named.get("generator") is None:
            return func(*args, **{**named, "generator": self.generator(_device(args, named))})
        if name in TAKE_NONE and not _lent.yes and _device(args, named).type == "cpu":
            return self._in_place_of_the_default(func, args, named)
        return func(*args, **named)

    def _in_place_of_the_default(self, func: Callable[..., Any], args: tuple[Any, ...], named: dict[str, Any]) -> Any:
        own = self.generator(torch.device("cpu"))
        with _default:
            before = torch.get_rng_state()
            torch.set_rng_state(own.get_state())
            _lent.yes = True
            try:
                return func(*args, **named)
            finally:
                _lent.yes = False
                own.set_state(torch.get_rng_state())
                torch.set_rng_state(before)


def _device(args: tuple[Any, ...], named: Mapping[str, Any]) -> torch.device:
    """Where a function draws."""
    given = named.get("device")
    if given is not None:
        return torch.device(given)
    for value in (*args, *named.values()):
        if isinstance(value, Tensor):
            return value.device
    return torch.get_default_device()


@contextmanager
def own_numbers(seed: int) -> Iterator[None]:
    """What torch draws in this block, in this thread, comes from a seed, and leaves the generators of the process alone."""
    with OwnNumbers(seed):
        yield


def no_numbers(function: Callable[..., Any]) -> Callable[..., Any]:
    """A function that draws nothing, without the price of looking at each call of torch, while `own_numbers` is innermost."""

    def unwatched(*args: Any) -> Any:
        with _pop_mode_temporarily():
            return function(*args)

    return unwatched
