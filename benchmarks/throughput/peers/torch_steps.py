"""Training and inference by PyTorch, as a worker: `torch_steps.py JSON`, with the settings that `steps` gives.

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
from answering import answer, prepare

HELD_BATCHES = 16
COMPILE_MODES = {"torch-compile": "default", "torch-graphs": "reduce-overhead"}


class Form:
    """A network with its batches, of the settings that `steps` gives."""

    def __init__(self, settings):
        self.device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        images, labels, classes = training_data(Path(settings["arrays"]), HELD_BATCHES * settings["batch_size"])
        network, weight_decay = torch_networks.build(settings["network"], images.shape[-1], classes)
        self.network = network.to(self.device, memory_format=torch.channels_last)
        mode = COMPILE_MODES.get(settings["form"])
        self.compiled = torch.compile(self.network, mode=mode) if mode else self.network
        parameters = self.network.parameters()
        self.optimizer = torch.optim.Adam(parameters, lr=1e-3, weight_decay=weight_decay, fused=True)
        self.loss = torch.nn.CrossEntropyLoss(label_smoothing=settings["label_smoothing"])
        self.bfloat16 = settings["precision"] == "mixed_bfloat16"
        self.batches = [
            (self._to_device(images[start:end]).permute(0, 3, 1, 2), self._to_device(labels[start:end]))
            for start, end in itertools.pairwise(range(0, len(labels) + 1, settings["batch_size"]))
        ]

    def _to_device(self, array):
        return torch.from_numpy(array).to(self.device)

    def train(self, steps):
        """Returns the seconds of a training step, the mean of so many."""
        self.network.train()
        return self._time(self._step, steps)

    def infer(self, steps):
        """Returns the seconds of a forward pass, the mean of so many."""
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
        return (time.perf_counter() - start) / steps

    def _synchronise(self):
        if self.device.type == "cuda":
            torch.cuda.synchronize()


def training_data(arrays, count):
    """Returns at most so many training images, float32 as the first layers see them, their labels and the classes."""
    labels = np.array(np.load(arrays / "train.labels.npy", allow_pickle=False))
    images = np.load(arrays / "train.images.npy", mmap_mode="r", allow_pickle=False)[:count].astype(np.float32) / 255
    return images - np.load(arrays / "mean.npy", allow_pickle=False), labels[:count], int(labels.max()) + 1


settings = json.loads(sys.argv[1])
answer(lambda: prepare(lambda: Form(settings), settings))
