"""Training and inference by PyTorch, as a process that takes turns: `torch_steps.py JSON`.

Batches lie in memory on the device, images are channels_last, `mixed_bfloat16` is autocast, the optimiser is fused.
"""

import json
import sys
import time
from pathlib import Path

import numpy as np
import torch
import torch_networks
from answering import answer, plan_turn, resident

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
        batches = range(0, len(labels) - settings["batch_size"] + 1, settings["batch_size"])[:HELD_BATCHES]
        self.batches = [
            (
                torch.from_numpy(images[start : start + settings["batch_size"]])
                .permute(0, 3, 1, 2)
                .to(self.device, memory_format=torch.channels_last),
                torch.from_numpy(labels[start : start + settings["batch_size"]]).to(self.device),
            )
            for start in batches
        ]

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
    """Builds, compiles and warms up a network; returns what it took and the function of its turns.

    Args:
        settings: Dictionary with `form`, `model`, `batch_size`, `precision`, `label_smoothing`, `seconds`,
            `inference_seconds` and `arrays`, the directory of a prepared data set.
    """
    arrays = Path(settings["arrays"])
    labels = np.array(np.load(arrays / "train.labels.npy", allow_pickle=False))
    count = min(len(labels), HELD_BATCHES * settings["batch_size"])
    images = np.load(arrays / "train.images.npy", mmap_mode="r", allow_pickle=False)[:count].astype(np.float32) / 255
    images -= np.load(arrays / "mean.npy", allow_pickle=False)
    start = time.perf_counter()
    network = torch_networks.build(settings["model"], images.shape[-1], int(labels.max()) + 1)
    if network is None:
        return {"skipped": f"there is no torch network {settings['model']}"}, None
    form = Form(network, images, labels[:count], settings)
    try:
        form.train(1)
    except Exception as error:  # a compiler that is missing or fails raises anything
        if settings["form"] not in COMPILE_MODES:
            raise
        return {"skipped": f"torch.compile failed: {str(error).strip().splitlines()[0][:200]}"}, None
    prepare_seconds = time.perf_counter() - start
    form.infer(1)
    steps, _ = plan_turn(settings["seconds"], form.train(WARM_UP_STEPS) / WARM_UP_STEPS, sys.maxsize)
    passes, _ = plan_turn(settings["inference_seconds"], form.infer(WARM_UP_STEPS) / WARM_UP_STEPS, sys.maxsize)

    def turn():
        training, inference = steps / form.train(steps), passes / form.infer(passes)
        return {
            "training": training * settings["batch_size"],
            "inference": inference * settings["batch_size"],
            "memory": resident("VmHWM"),
        }

    return {"prepare_seconds": prepare_seconds}, turn


settings = json.loads(sys.argv[1])
answer(lambda: prepare(settings))
