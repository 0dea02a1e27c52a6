"""What a finished network makes of ID and OOD images, stored beside its weights."""

from typing import NamedTuple

import keras
import numpy as np

from benchmarks.mnist_zero.plan import HEAVY_SIDES, HELD_OUT, PROXY, TEST, VALIDATION, scaled_sides
from decathlon.augmentation import LEVELS, Noise
from kls.models import classifier_of
from kls.ood import Threshold
from kls.ood.scores import Reconstruction, get
from kls.study.devices import precision_policy
from kls.study.methods import Denoising
from kls.study.networks import trained_network
from kls.study.outputs import evaluation_batches
from kls.study.store import OOD
from kls.utils.feature_extractor import Network

FITTED = ("knn", "mahalanobis")
THRESHOLD = "threshold.json"
PICTURES, PICTURED = "pictures", 12  # the name of their file, and how many images of a set
QUARTER_TURNS = (1, 3)
BATCH = 128


class Denoised(NamedTuple):
    """Images, what noise made of them, and what a network made of that.

    Attributes:
        clean: Shape `(N, H, W, C)`, in [0, 1].
        noised: The same under noise.
        restored: What the network's decoder makes of `noised`.
        logits: What its classifier makes of `noised`.
    """

    clean: np.ndarray
    noised: np.ndarray
    restored: np.ndarray
    logits: np.ndarray

    @property
    def errors(self):
        """Mean squared error of each restored image (equation 2)."""
        return np.square(self.restored - self.clean, dtype=np.float64).mean(axis=(1, 2, 3))


def examine(trial, dataset, store):
    """Stores what a finished network makes of four sets of images, and the threshold that follows from two of them.

    The sets are the ID validation images, the proxy OOD images (`proxy_ood`, for networks with a decoder), the ID test
    images and the images of the held-out class. Kept are logits and the scores of features, fitted to the training
    images. With a decoder there are also `reconstruction` (`kls.ood.scores.Reconstruction`), `denoising` (minus the
    mean squared error between an image and what the network makes of it under noise), some pictures, and in
    `threshold.json` a `kls.ood.Threshold` on the maximum softmax, fitted on the first two sets.

    Args:
        trial: The finished `Trial`; one that was examined before is left as it is.
        dataset: Its opened `decathlon.Dataset`, as `decathlon.hold_out` makes it.
        store: The `RunStore`.
    """
    record = store.record(trial)
    if f"logits/{HELD_OUT}.npz" in record["sha256"]:
        return
    print(f"{trial.label}  examining", flush=True)
    keras.utils.clear_session()
    with precision_policy(trial.precision):
        model, _ = trained_network(trial, dataset, store)
        network = Network(classifier_of(model))
        training = network.outputs(evaluation_batches(trial, dataset, *dataset.split("train")), features=True)
        fitted = {name: get(name) for name in FITTED}
        for score in fitted.values():
            score.fit_outputs(training)
        names = {TEST: "test", VALIDATION: "validation", HELD_OUT: HELD_OUT}
        splits = {name: dataset.split(split) for name, split in names.items()}
        images = {name: np.float32(split) / LEVELS for name, (split, _) in splits.items()}
        labels = {name: split for name, (_, split) in splits.items()}
        denoised = {}
        if isinstance(trial.method, Denoising):
            denoised = {name: denoise(model, of, trial.method.noise) for name, of in images.items()}
            denoised[PROXY] = proxy_ood(model, images[VALIDATION], trial, dataset)
            images[PROXY] = np.clip(denoised[PROXY].restored, 0, 1)
            labels[PROXY] = np.full(len(images[PROXY]), OOD)
        outputs = {name: network.outputs(LEVELS * of, features=True) for name, of in images.items()}
        if denoised:
            store.write_arrays(trial, PICTURES, _pictures(denoised))
            threshold = Threshold("msp").fit(outputs[VALIDATION].logits, outputs[PROXY].logits)
            threshold.save(store.directory(trial) / THRESHOLD)
            reconstruction = Reconstruction()
            autoencoder = reconstruction.network_of(keras.Model(model.input, LEVELS * model.output["image"]))
        for name in sorted(images, key=HELD_OUT.__eq__):
            scores = {score_name: score.of_outputs(outputs[name]) for score_name, score in fitted.items()}
            if denoised:
                scores["reconstruction"] = reconstruction(autoencoder, LEVELS * images[name]) / LEVELS**2
                scores["denoising"] = -denoised[name].errors
            store.write_outputs(trial, name, outputs[name].logits, labels[name], scores=scores)
    store.finish(trial, record["study"], record)


def denoise(model, images, noise):
    """Returns the `Denoised` of images under noise, which is the same at every call.

    Args:
        model: A `kls.models.DenoisingClassifier`.
        images: float32 array of shape `(N, H, W, C)`, in [0, 1].
        noise: A `decathlon.Noise`.
    """
    noised = noise(LEVELS * images, np.random.default_rng(0))
    batches = -(-len(noised) // BATCH)
    filled = np.resize(noised, (batches * BATCH, *noised.shape[1:]))  # of full batches, so that one is compiled
    found = [model.predict_on_batch(batch) for batch in np.split(filled, batches)]
    restored, logits = (np.concatenate([batch[name] for batch in found])[: len(noised)] for name in ("image", "class"))
    return Denoised(images, noised / LEVELS, restored, logits)


def proxy_ood(model, images, trial, dataset):
    """Returns the `Denoised` whose restored images are the proxy OOD images (section 3.4, Figure 5).

    Every second image is turned by 90 or 270 degrees and lies under the noise of training; the others stand upright
    under a larger square. What the decoder makes of either is near the ID images, and none of them.

    Args:
        model: A `kls.models.DenoisingClassifier`.
        images: ID validation images, float32 of shape `(N, H, W, C)` with H = W, in [0, 1].
        trial: Its `Trial`.
        dataset: Its `decathlon.Dataset`.
    """
    turned, upright = images[::2], images[1::2]
    turns = np.random.default_rng(0).choice(QUARTER_TURNS, len(turned))
    turned = np.stack([np.rot90(image, turn) for image, turn in zip(turned, turns, strict=True)])
    parts = (
        denoise(model, turned, trial.method.noise),
        denoise(model, upright, Noise(trial.method.deviation, scaled_sides(HEAVY_SIDES, dataset))),
    )
    return Denoised(*(np.concatenate(arrays) for arrays in zip(*parts, strict=True)))


def _pictures(denoised):
    """Returns images of each set as uint8, evenly picked, and their logits under noise."""
    pictures = {}
    for name, found in denoised.items():
        rows = np.linspace(0, len(found.clean) - 1, PICTURED).astype(int)
        for part in ("clean", "noised", "restored"):
            pictures[f"{name}_{part}"] = np.uint8(LEVELS * np.clip(getattr(found, part)[rows], 0, 1) + 0.5)
        pictures[f"{name}_logits"] = found.logits[rows]
    return pictures
