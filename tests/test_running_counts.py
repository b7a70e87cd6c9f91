"""Running sums and products of masks and whole numbers, compiled: counts, as torch has them."""

import pytest
import torch
from compiled_forms import FORMS, compile_function

pytestmark = pytest.mark.usefixtures("float64")

RUNNING = {
    "of a mask": lambda x: (x > 0).cumsum(0) / 4,
    "of a mask of two dims": lambda x: (x[:, None] > torch.tensor([-1.0, 0.0, 1.0])).cumsum(1).sum(1) / 4,
    "of small integers": lambda x: ((x > 0).to(torch.uint8) * 200).cumsum(0) / 4,
    "in single precision": lambda x: (x > 0).cumsum(0, dtype=torch.float32).to(x) / 4,
    "of a mask, multiplied": lambda x: (x > -1).cumprod(0) / 4,
    "of integers, multiplied": lambda x: ((x > 0).to(torch.int8) * 9 + 1).cumprod(0) / 4,
    "of numbers": lambda x: x.cumsum(0),
}


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("name", RUNNING)
def test_running_counts_are_counts(name, form, tmp_path):
    """A running sum of a mask counts what is in it, and whole numbers do not overflow their small types."""

    def density(x):
        return -((x + RUNNING[name](x)) ** 2).sum()

    point = torch.tensor([0.5, 1.5, -0.5, 2.5])
    run = compile_function(density, point, form, tmp_path, quick=True)
    for z in (point, -point, point - 2, point + 3):
        leaf = z.clone().requires_grad_()
        value = density(leaf)
        found, gradient = run(z)
        torch.testing.assert_close(found, value.detach())
        torch.testing.assert_close(gradient, *torch.autograd.grad(value, leaf))
