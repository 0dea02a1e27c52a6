"""An evaluation's two parts, prediction and measures, as a process that takes turns.

`python -m benchmarks.throughput.evaluation JSON`, with the settings that `benchmarks.throughput.measures` gives.
"""

import json
import sys
import time

import numpy as np

import decathlon
import kls
from benchmarks.throughput.peers.answering import answer
from benchmarks.throughput.peers.measures import make_predictions
from kls.network import Network
from kls.ood import measures as detection
from kls.ood.scores import MSP

MODEL = "resnet20v1"


def all_measures(logits, labels, unfamiliar):
    """Computes what `kls.evaluate` and `kls.calibration` find in logits, and how well MSP tells them from others."""
    found = kls.calibration.summarize(labels, logits, from_logits=True)
    for name, measure in kls.calibration.MEASURES.items():
        if name not in found:
            found[name] = measure(labels, logits, from_logits=True)
    scores = [MSP()(values) for values in (logits, unfamiliar)]
    return found | {name: measure(*scores) for name, measure in detection.MEASURES.items()}


def prepare(settings):
    """Builds the network and makes logits; returns nothing and the function of the turns.

    Args:
        settings: Dictionary with `images`, how many are predicted, `classes`, a list of the numbers of classes, and, of
            the prepared data set, `dataset`, `image_size` and `data_dir`.
    """
    dataset = decathlon.open(settings["dataset"], settings["image_size"], settings["data_dir"])
    images, _ = dataset.split("train")
    images = np.resize(images, (settings["images"], *dataset.image_shape)).astype(np.float32) / 255
    network = Network(kls.models.build(MODEL, dataset.image_shape, dataset.classes, classifier_activation=None))
    made = {classes: make_predictions(settings["images"], classes) for classes in settings["classes"]}

    def turn():
        start = time.perf_counter()
        network.outputs(images)
        prediction = time.perf_counter() - start
        rows = []
        for classes, (logits, labels) in made.items():
            unfamiliar = logits[::-1] / 2
            start = time.perf_counter()
            all_measures(logits, labels, unfamiliar)
            rows.append({"classes": classes, "prediction": prediction, "measures": time.perf_counter() - start})
        return {"rows": rows}

    turn()  # compiles
    return {}, turn


if __name__ == "__main__":
    settings = json.loads(sys.argv[1])
    answer(lambda: prepare(settings))
