"""Scores of the images themselves: perturbed (ODIN), or reconstructed by an autoencoder."""

import keras
import numpy as np
from keras import ops

from kls.calibration.samples import softmax
from kls.ood.scores.base import Score
from kls.utils.arrays import check_number, shown
from kls.utils.data import full_batches
from kls.utils.feature_extractor import Network, Outputs


class ODIN(Score):
    """Temperature and input perturbation (Liang et al. 2018, "Enhancing the reliability of OOD image detection", 3).

    The image is moved a small step towards its likeliest class, `x' = x + epsilon sign(d log S(x) / dx)` with
    `S(x) = max_k softmax(z(x) / T)_k`, and the score is `S(x')`. The gradient is the backend's own.

    Args:
        temperature: T; its authors take 1000.
        epsilon: Size of the step in units of the images; its authors' 0.0014 is for pixels in [0, 1]. 0 is the
            temperature alone.

    Example:

    ```python
    kls.ood.scores.ODIN(epsilon=0.002)(model, images)
    ```
    """

    uses_images = True

    def __init__(self, temperature=1000.0, epsilon=0.0014):
        check_number(temperature, "temperature", "(0, inf)")
        check_number(epsilon, "epsilon", "[0, inf)")
        self.temperature = temperature
        self.epsilon = epsilon

    def of_images(self, network, images):
        """Returns the scores of a batch of images by a `Network`."""
        return self._score(Outputs(self.perturbed_logits(network, images)))

    def check_network(self, network):
        """Raises before any pass over data if there are no gradients of the network's images."""
        inputs = getattr(network.model, "inputs", None)
        if inputs and not keras.backend.is_float_dtype(inputs[0].dtype):
            raise ValueError(f"ODIN needs gradients of images of floats. Received: a model of {inputs[0].dtype} images")

    def perturbed_logits(self, network, images):
        """Returns the float32 logits of shape `(N, K)` of images after their step, by a `Network`."""
        self.check_network(network)

        def confidence(images):
            """The sum of log S over the images, each of which moves along its own part of the gradient."""
            return ops.sum(ops.max(ops.log_softmax(network.logits(images) / self.temperature, axis=-1), axis=-1))

        def perturbed(images):
            images = ops.cast(images, "float32")
            return (network.logits(images + self.epsilon * ops.sign(_gradient(confidence, images))),)

        return network.compiled(perturbed, argument=(self.temperature, self.epsilon))(images)[0]

    def _score(self, outputs):
        return softmax(outputs.logits.astype(np.float64) / self.temperature).max(axis=1)


class Reconstruction(Score):
    """Reconstruction error of an autoencoder (Song, "Deep Learning Lab final project report", equation 2).

    `-1/(H W C) sum (x - x_hat)^2` over an image x, with the reconstruction x_hat that the model makes of it. An
    autoencoder learns to reconstruct what it was trained on, and fails at the rest. The model sees the image as it is:
    the noise that a denoising autoencoder was trained with is left out.

    Args:
        output: Name of the model's output that reconstructs its input, in the units of the images: the key where the
            outputs are a dictionary, else the name of the last layer. A single output is taken whatever its name.

    Example:

    ```python
    model = kls.models.DenoisingClassifier(classes=9)  # returns {"class": ..., "image": ...}
    values = kls.ood.scores.Reconstruction()(model, images)
    ```
    """

    uses_images = True

    def __init__(self, output="image"):
        if not isinstance(output, str) or not output:
            raise ValueError(f"`output` must be the name of an output. Received: output={shown(output)}")
        self.output = output

    def network_of(self, model):
        """Returns the `Network` from images to reconstructions.

        Raises:
            ValueError: If this is no Keras model, or one of several outputs without one of that name.
        """
        if isinstance(model, Network):
            return model
        if not getattr(model, "inputs", None):
            return Network(model)
        outputs = model(model.inputs if len(model.inputs) > 1 else model.inputs[0])
        # ends in the cast, not in a Dense layer, which `Network` would take for a classifier's
        return Network(keras.Model(model.inputs, ops.cast(self._reconstruction(model, outputs), "float32")))

    def scores_and_sample(self, network, x, batch_size=128):
        """Returns the scores of images by a `Network`, and the images of the first batch.

        Raises:
            ValueError: If the model has no output of that name, if its shape is not that of the images, or if an image
                holds NaN.
        """
        parts, sample = [], None
        for images, _, count in full_batches(x, batch_size):
            images = np.asarray(images)
            parts.append(self.of_images(network, images)[:count])
            sample = images[:count] if sample is None else sample
        if not parts:
            raise ValueError("`x` must hold one batch at least. Received: none")
        return self.without_nan(np.concatenate(parts), "these images of `x`"), sample

    def of_images(self, network, images):
        """Returns the scores of a batch of images by the `Network` that `network_of` made."""

        def reconstructions(images):
            return (ops.cast(network.raw_outputs(images), "float32"),)

        _check_images(network.model, images)
        found = network.compiled(reconstructions)(images)[0]
        if found.shape != images.shape:
            raise ValueError(
                "`model` must reconstruct images in their own shape. "
                f"Received: images of shape {images.shape}, an output of shape {found.shape}"
            )
        errors = np.asarray(images, np.float64) - found
        return -np.mean(errors**2, axis=tuple(range(1, errors.ndim)))

    def _reconstruction(self, model, outputs):
        flat = keras.tree.flatten(outputs)
        if len(flat) == 1:
            return flat[0]
        names = getattr(model, "output_names", ())  # a Sequential model has none
        named = outputs if isinstance(outputs, dict) else dict(zip(names, flat, strict=False))
        if self.output not in named:
            raise ValueError(
                f"`output` must name an output of the model: {', '.join(named) or 'none has a name'}. "
                f"Received: output={self.output!r}"
            )
        return named[self.output]


def _check_images(model, images):
    """Raises for images of another shape than the inputs; what is compiled already no longer tells them apart."""
    inputs = getattr(model, "inputs", None)
    expected = tuple(inputs[0].shape) if inputs else (None,) * images.ndim
    sides = zip(expected, images.shape, strict=False)
    if len(expected) != images.ndim or any(side not in (None, found) for side, found in sides):
        raise ValueError(f"`x` must hold images of shape {expected}. Received: shape {images.shape}")


def _gradient(function, images):
    """Returns the gradient of a scalar function by the backend's automatic differentiation."""
    backend = keras.backend.backend()
    if backend == "tensorflow":
        import tensorflow as tf

        with tf.GradientTape() as tape:
            tape.watch(images)
            value = function(images)
        return tape.gradient(value, images)
    if backend == "jax":
        import jax

        return jax.grad(function)(images)
    if backend == "torch":
        import torch

        with torch.enable_grad():
            images = images.detach().requires_grad_()
            return torch.autograd.grad(function(images), images)[0]
    raise ValueError(f"ODIN needs gradients, which Keras's backend {backend!r} does not give")
