"""Many chains of NUTS in one process, as one batch of tensors.

`trajectory` grows the trajectories of all chains by one leapfrog step at a time; `adaptation` is what warm-up learns, from all
chains together; `warmup` and `run` are its loops and that of the draws; `together` is what `ck.sample` calls.

- A chain's law is that of NUTS with a fixed step size and metric: what is learned is fixed when warm-up ends.
- In warm-up all chains make one draw in each step, so that what is learned does not favour short trajectories. Afterwards each
  goes on at its own pace, and every one makes the same number of draws.
- Chains share one generator of random numbers: the draws depend on the seed and on the number of chains.
"""

from .together import run_together, superchains

__all__ = ["run_together", "superchains"]
