"""What drawing costs: the source of pictures of large graphs and models, and how much is left of them when collapsed.

    python benchmarks/diagrams.py [--nodes 1000]

Seconds are the least of five. Layout by Graphviz is another matter, and not counted.
"""

import argparse
import time

import pyro.distributions as dist
import torch

import caskade_pyro as ck


class Part(ck.Module):
    """A module of some params, each with a prior that depends on the first."""

    def __init__(self, name, params):
        super().__init__(name)
        first = ck.Param("x0", shape=(), prior=dist.Normal(0.0, 1.0))
        self.link("x0", first)
        for number in range(1, params):
            self.link(f"x{number}", ck.Param(f"x{number}", shape=(), prior=ck.prior(dist.Normal, first, 1.0)))

    @ck.forward
    def total(self):
        return torch.stack([param.value for param in self.children.values()]).sum()


class Whole(ck.Module):
    """Parts side by side, every other one in a plate."""

    def __init__(self, nodes, params=24):
        super().__init__("whole")
        self.names = [f"part{index}" for index in range(nodes // (params + 1))]
        for index, name in enumerate(self.names):
            part = Part(name, params)
            if index % 2:
                self.hierarchical_link(name, part, size=3)
            else:
                self.link(name, part)

    @ck.forward
    def predict(self):
        totals = [
            ck.vmap(part.total)().sum() if index % 2 else part.total()
            for index, part in enumerate(self[name] for name in self.names)
        ]
        return dist.Normal(torch.stack(totals).sum(), 1.0)


def seconds(action, rounds=5):
    """The least time of several rounds, and what came out."""
    least, found = float("inf"), None
    for _ in range(rounds):
        begin = time.perf_counter()
        found = action()
        least = min(least, time.perf_counter() - begin)
    return least, found


def main():
    """Draw and print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--nodes", type=int, default=1000, help="of the graph (1000)")
    options = parser.parse_args()
    torch.set_num_threads(1)
    whole = Whole(options.nodes)
    bound = ck.PyroModel(whole.predict).bind(obs=torch.tensor(0.0))
    description = bound.describe()
    model = ck.diagram.Drawing().model
    cases = {
        "graph": whole.graphviz,
        "graph, depth=1": lambda: whole.graphviz(depth=1),
        "model": lambda: model(description),
        "model, depth=1": lambda: model(description, depth=1),
        "model with its description": bound.diagram,
    }
    print(f"{'picture':28} {'nodes':>6} {'edges':>6} {'source, s':>10} {'Mermaid, s':>11} {'kB':>6}")
    for name, make in cases.items():
        taken, source = seconds(lambda make=make: make().source)
        picture = make()
        shown = picture.specification
        mermaid, _ = seconds(picture.mermaid)
        print(
            f"{name:28} {len(shown.nodes):6} {len(shown.edges):6} {taken:10.3f} {mermaid:11.3f} {len(source) / 1000:6.0f}"
        )


if __name__ == "__main__":
    main()
