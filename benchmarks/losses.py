"""Hierarchical losses against plain cross-entropy on the same logits, forwards and backwards.

Run: python benchmarks/losses.py [--small]. Equal to a written-out loop first; then milliseconds a batch, best of many.
"""

import argparse
import time
from collections.abc import Callable

import numpy as np
import torch
from torch.nn.functional import cross_entropy

from instar.classifier.labels import LabelSpace
from instar.classifier.losses import HierarchicalLoss

SMOOTHING = 0.1


def labels_of(species: int, genera: int, seed: int = 0) -> LabelSpace:
    """Species spread over genera as unevenly as ants are: some genera hold hundreds."""
    rng = np.random.default_rng(seed)
    shares = rng.pareto(1.0, genera) + 0.1
    extra = rng.choice(genera, species - genera, p=shares / shares.sum())
    parents = np.sort(np.concatenate([np.arange(genera), extra])) + species
    names = tuple(f"species {n}" for n in range(species)) + tuple(f"genus {n}" for n in range(genera))
    ranks = ("species",) * species + ("genus",) * genera
    return LabelSpace(names, ranks, (*map(int, parents), *[-1] * genera))


def loop(labels: LabelSpace, kind: str, logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """Each loss written out from the definition of what is earned, one crop and one output after the other."""
    found = []
    parents = labels.parents
    for row, label in zip(logits.double().log_softmax(1), targets.tolist(), strict=True):
        reward = 0.0
        for output, p in enumerate(row.exp().tolist()):
            if output == label:
                reward += p
            elif kind == "reward" and output == parents[label]:
                reward += 0.2 * p
            elif kind == "reward" and parents[output] == label:
                reward += 0.8 / parents.count(label) * p
            elif kind == "marginal" and parents[output] == label:  # an output is a species: the first classes are
                reward += p
        found.append(-(1 - SMOOTHING) * np.log(reward) - SMOOTHING * float(row.mean()))
    return torch.tensor(found)


def assert_equal(labels: LabelSpace, kind: str, logits: torch.Tensor, targets: torch.Tensor) -> None:
    """Crops that are labelled with a species and crops that are labelled with a genus."""
    assert {labels.ranks[target] for target in targets.tolist()} == {"species", "genus"}
    found = HierarchicalLoss(labels, kind, smoothing=SMOOTHING)(logits, targets).double()
    torch.testing.assert_close(found, loop(labels, kind, logits, targets), atol=1e-5, rtol=0)


def milliseconds(loss: Callable[[], torch.Tensor], logits: torch.Tensor, repeats: int) -> float:
    """Best time of one forward and backward pass."""
    best = float("inf")
    for _ in range(repeats):
        logits.grad = None
        start = time.perf_counter()
        loss().backward()
        best = min(best, time.perf_counter() - start)
    return 1000 * best


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--small", action="store_true", help="200 species, a few rounds")
    options = parser.parse_args()
    species, genera, batch, repeats = (200, 40, 16, 3) if options.small else (6384, 2100, 256, 40)
    torch.set_num_threads(1)
    labels = labels_of(species, genera)
    generator = torch.Generator().manual_seed(0)
    targets = torch.randint(len(labels), (batch,), generator=generator)
    largest = max(range(species, len(labels)), key=labels.parents.count)
    targets[:4] = torch.tensor([0, species - 1, species, largest])  # two species, a genus and the largest one
    logits = (3 * torch.randn(batch, len(labels), generator=generator)).requires_grad_()
    of_species = logits.detach()[:, :species].clone().requires_grad_()
    some = targets % species
    plain = {
        len(labels): milliseconds(lambda: cross_entropy(logits, targets, label_smoothing=SMOOTHING), logits, repeats),
        species: milliseconds(lambda: cross_entropy(of_species, some, label_smoothing=SMOOTHING), of_species, repeats),
    }
    kinds = {"reward": logits, "marginal": of_species, "flat": logits}
    for kind, given in kinds.items():
        assert_equal(labels, kind, given.detach()[:8], targets[:8])
    print(f"{species} species, {genera} genera, batch {batch}; each loss is equal to a loop within 1e-5 on 8 crops")
    print("| loss | outputs | ms | cross-entropy, ms | ratio (aim at most 2.5) |\n| --- | --- | --- | --- | --- |")
    for kind, given in kinds.items():
        loss = HierarchicalLoss(labels, kind, smoothing=SMOOTHING)
        taken = milliseconds(lambda loss=loss, given=given: loss(given, targets).mean(), given, repeats)  # type: ignore[misc]
        against = plain[given.shape[1]]
        print(f"| {kind} | {given.shape[1]} | {taken:.1f} | {against:.1f} | {taken / against:.2f} |")


if __name__ == "__main__":
    main()
