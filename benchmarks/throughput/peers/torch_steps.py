"""Training and inference by PyTorch, as a worker: `torch_steps.py JSON`.

Batches lie in memory on the device, images are channels_last, `mixed_bfloat16` is autocast, the optimiser is fused.
"""

import itertools
import json
import sys
import time
from pathlib import Path

import numpy as np
import torch
import torch_networks
from answering import answer, plan_round, resident

WARM_UP_STEPS = 3
HELD_BATCHES = 16
COMPILE_MODES = {"torch-compile": "default", "torch-graphs": "reduce-overhead"}


class Form:
    """A network with its batches.

    Args:
        network: A `torch_networks.Network`.
        images: float32 array of shape `(N, H, W, C)`.
        labels: Integer array of shape `(N,)`.
        settings: See `prepare`.
    """

    def __init__(self, network, images, labels, settings):
        self.device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        self.network = network.to(self.device, memory_format=torch.channels_last)
        mode = COMPILE_MODES.get(settings["form"])
        self.compiled = torch.compile(self.network, mode=mode) if mode else self.network
        self.optimizer = torch.optim.Adam(self.network.parameter_groups(), lr=1e-3, fused=True)
        self.loss = torch.nn.CrossEntropyLoss(label_smoothing=settings["label_smoothing"])
        self.bfloat16 = settings["precision"] == "mixed_bfloat16"
        self.batches = [
            (self._to_device(images[start:end]).permute(0, 3, 1, 2), self._to_device(labels[start:end]))
            for start, end in itertools.pairwise(range(0, len(labels) + 1, settings["batch_size"]))
        ]

    def _to_device(self, array):
        return torch.from_numpy(array).to(self.device)

    def train(self, steps):
        """Returns the seconds of so many training steps."""
        self.network.train()
        return self._time(self._step, steps)

    def infer(self, steps):
        """Returns the seconds of so many forward passes."""
        self.network.eval()
        with torch.no_grad():
            return self._time(lambda images, _: self._forward(images), steps)

    def _step(self, images, labels):
        self.optimizer.zero_grad(set_to_none=True)
        self.loss(self._forward(images), labels).backward()
        self.optimizer.step()

    def _forward(self, images):
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.bfloat16):
            outputs = self.compiled(images)
        return outputs.float()

    def _time(self, function, steps):
        self._synchronise()
        start = time.perf_counter()
        for step in range(steps):
            function(*self.batches[step % len(self.batches)])
        self._synchronise()
        return time.perf_counter() - start

    def _synchronise(self):
        if self.device.type == "cuda":
            torch.cuda.synchronize()


def prepare(settings):
    """Builds, compiles and warms up a network; returns what it took and the function of its rounds.

    Args:
        settings: Dictionary with `form`, `network`, `batch_size`, `precision`, `label_smoothing`, `seconds`,
            `inference_seconds` and `arrays`, the directory of a prepared data set.
    """
    arrays = Path(settings["arrays"])
    labels = np.array(np.load(arrays / "train.labels.npy", allow_pickle=False))
    count = min(len(labels), HELD_BATCHES * settings["batch_size"])
    images = np.load(arrays / "train.images.npy", mmap_mode="r", allow_pickle=False)[:count].astype(np.float32) / 255
    images -= np.load(arrays / "mean.npy", allow_pickle=False)
    start = time.perf_counter()
    network = torch_networks.build(settings["network"], images.shape[-1], int(labels.max()) + 1)
    form = Form(network, images, labels[:count], settings)
    form.train(1)
    prepare_seconds = time.perf_counter() - start
    form.infer(1)
    steps, _ = plan_round(settings["seconds"], form.train(WARM_UP_STEPS) / WARM_UP_STEPS, sys.maxsize)
    passes, _ = plan_round(settings["inference_seconds"], form.infer(WARM_UP_STEPS) / WARM_UP_STEPS, sys.maxsize)

    def one_round():
        training, inference = steps / form.train(steps), passes / form.infer(passes)
        rates = {"training": training * settings["batch_size"], "inference": inference * settings["batch_size"]}
        return {**rates, "memory": resident("VmHWM")}

    return {"prepare_seconds": prepare_seconds}, one_round


settings = json.loads(sys.argv[1])
answer(lambda: prepare(settings))
