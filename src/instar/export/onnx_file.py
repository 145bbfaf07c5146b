"""The classifier as ONNX, and whether it says what torch says."""

import json
import warnings
from pathlib import Path

import numpy as np
import torch

from instar.classifier.labels import targets_of
from instar.classifier.losses import NodeProbabilities
from instar.classifier.model import Description, load
from instar.classifier.network import Network
from instar.errors import InputError

INPUTS, OUTPUTS = ("pixels", "places"), ("probabilities", "logits")
#: The number of crops is left open.
OPEN = {name: {0: torch.export.Dim("n")} for name in INPUTS}
#: By which no output may differ from torch's.
TOLERANCE = 1e-4
#: A known place, where crops have none.
SOMEWHERE = (45.0, -100.0)


class Whole(torch.nn.Module):
    """From pixels as a file holds them to probabilities: what other programs would have to do stands in the graph.

    Args:
        network: logits from normalised pixels and places.
        description: of the network.
        temperature: that the logits are divided by.
    """

    def __init__(self, network: Network, description: Description, *, temperature: float) -> None:
        super().__init__()
        self.network, self.description, self.temperature = network, description, temperature
        self.nodes = NodeProbabilities(description.labels, description.loss)

    def forward(self, pixels: torch.Tensor, places: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Node probabilities float32 (n, n_classes) and logits float32 (n, n_outputs).

        Args:
            pixels: uint8, shape (n, 3, px, px), RGB.
            places: float32, shape (n, 2), latitude and longitude in degrees, NaN where unknown.
        """
        logits = self.network(self.description.normalise(pixels), self.description.heeded(places)).float()
        return self.nodes(logits / self.temperature), logits


def write_onnx(folder: Path, out: Path, pixels: torch.Tensor, places: torch.Tensor, *, temperature: float) -> float:
    """Write a classifier as ONNX with any number of crops at a time, and compare both on given crops.

    Args:
        folder: with the weights and their description.
        out: file to write.
        pixels: uint8, shape (n, 3, px, px), at least one crop.
        places: float32, shape (n, 2), NaN where unknown.
        temperature: to put into the graph.

    Returns:
        The largest difference between an output and torch's.

    Raises:
        InputError: if it is ``TOLERANCE`` or more, or the network can't be written.
    """
    network, description = load(folder)
    whole = Whole(network, description, temperature=temperature).eval()
    program = exported_program(whole, description.image_px)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # the exporter's own, about its parts
            written = torch.onnx.export(
                program, input_names=INPUTS, output_names=OUTPUTS, dynamic_shapes=OPEN, verbose=False
            )
            assert written is not None  # it is where no file is named
            written.model.metadata_props.update(about(description, temperature=temperature))
            written.save(out, external_data=False)
    except (torch.onnx.errors.OnnxExporterError, ValueError) as error:  # the latter above 2 GB
        reason = " ".join(str(error).split())[:200]
        raise InputError(f"{description.model} can't be written as ONNX ({reason}); use --no-onnx") from None
    difference = largest_difference(whole, out, pixels, places)
    if not difference < TOLERANCE:
        raise InputError(
            f"ONNX differs from torch by {difference:.2g}, not by less than {TOLERANCE:g}; use --no-onnx and report it"
        )
    return difference


def about(description: Description, *, temperature: float) -> dict[str, str]:
    """What the file says of itself, as texts; ``labels`` is a JSON list in the order of the probabilities, and
    ``logits`` one of the classes in the order of the logits."""
    labels = description.labels
    outputs = targets_of(labels, description.loss).outputs
    return {
        "instar": description.instar,
        "dataset_md5": description.dataset_md5,
        "temperature": repr(temperature),
        "labels": json.dumps(labels.names, ensure_ascii=False),
        "logits": json.dumps([labels.names[output] for output in outputs], ensure_ascii=False),
    }


def exported_program(whole: Whole, image_px: int) -> torch.export.ExportedProgram:
    """The graph, whose number of crops is left open."""
    # two examples: torch takes a size of 1 for a constant
    examples = torch.zeros(2, 3, image_px, image_px, dtype=torch.uint8), torch.tensor([SOMEWHERE, SOMEWHERE])
    with torch.no_grad():
        return torch.export.export(whole, examples, dynamic_shapes=OPEN)


def batches(pixels: torch.Tensor, places: torch.Tensor) -> list[tuple[torch.Tensor, torch.Tensor]]:
    """What is compared: one crop, three, and all of them, each with and without places."""
    at = [torch.arange(1), torch.arange(3) % len(pixels), torch.arange(len(pixels))]
    known = torch.where(places.isnan(), torch.tensor(SOMEWHERE), places)
    nowhere = torch.full_like(places, torch.nan)
    return [(pixels[index], kind[index]) for index in at for kind in (places, known, nowhere)]


def largest_difference(whole: Whole, path: Path, pixels: torch.Tensor, places: torch.Tensor) -> float:
    """Over all outputs for all ``batches``; NaN where an output is NaN."""
    from onnxruntime import InferenceSession

    session = InferenceSession(str(path), providers=["CPUExecutionProvider"])
    found = [0.0]
    for given in batches(pixels, places):
        fed = {name: tensor.numpy() for name, tensor in zip(INPUTS, given, strict=True)}
        answers = session.run(list(OUTPUTS), fed)
        with torch.inference_mode():
            wanted = whole(*given)
        found += [float(np.abs(one - other.numpy()).max()) for one, other in zip(answers, wanted, strict=True)]
    return float(np.max(found))
