"""Augmentation layers of Keras and keras-cv: found by name, made, seeded and run."""

import contextlib
import difflib
import importlib
import inspect

from decathlon.arguments import check_kind
from decathlon.quiet import quiet_tensorflow
from decathlon.replacing import replaced

MIX_LABELS = ("CutMix", "FourierMix", "MixUp", "Mosaic")  # the layers that change labels too


def build_layer(name, arguments):
    """Returns a function that seeds a layer from a generator, one that runs it, and whether it changes labels too.

    Args:
        name: `"keras.NAME"` or `"keras_cv.NAME"`.
        arguments: The layer's arguments, a dictionary.

    Raises:
        ValueError: If there is no such layer, or if it cannot be made with the arguments.
    """
    import keras

    layer_class = _layer_class(name)
    build = _from_keras_cv if name.startswith("keras_cv.") else _from_keras
    complete = _complete(name, layer_class, arguments)
    try:
        with keras.device("cpu:0"), _float32_policy():
            seed, run = build(layer_class, **complete)
    except Exception as error:  # layers check their arguments in all sorts of ways
        raise ValueError(f"`{name}` cannot be made with {arguments}: {error}") from error
    return seed, run, layer_class.__name__ in MIX_LABELS


def _layer_class(name):
    """Returns the augmentation layer of a name, or tells the nearest names."""
    package = check_kind(name, "name", str, "a string").partition(".")[0]
    if package not in ("keras", "keras_cv"):
        raise ValueError(f"`name` must begin with keras. or keras_cv. Received: name={name!r}")
    with quiet_tensorflow():
        layers = importlib.import_module(package).layers
    known = {
        f"{package}.{key}": layer
        for key, layer in vars(layers).items()
        if any(hasattr(layer, method) for method in ("transform_images", "augment_image", "augment_images"))
        and "Base" not in key
    }
    if name not in known:
        near = difflib.get_close_matches(name, known, n=3, cutoff=0.4) or sorted(known)
        raise ValueError(
            f"`name` must be an augmentation layer of {package}: {', '.join(sorted(known))}. Received: name={name!r}. "
            f"Did you mean {' or '.join(near)}?"
        )
    return known[name]


def _complete(name, layer_class, arguments):
    """Returns a layer's arguments with the range of values, or says which it needs."""
    parameters = [
        parameter
        for parameter in list(inspect.signature(layer_class.__init__).parameters.values())[1:]
        if parameter.kind not in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD) and parameter.name != "seed"
    ]
    known = {parameter.name for parameter in parameters}
    complete = ({"value_range": (0, 255)} if "value_range" in known else {}) | arguments
    needed = {parameter.name for parameter in parameters if parameter.default is parameter.empty}
    if not needed <= complete.keys() <= known:
        raise ValueError(
            f"`{name}` needs the arguments {sorted(needed - {'value_range'})} and may have {sorted(known - needed)}. "
            f"Received: {sorted(arguments)}"
        )
    return complete


@contextlib.contextmanager
def _float32_policy():
    """Makes layers, and the layers within them, compute in float32 whatever networks compute in."""
    import keras

    policy = keras.config.dtype_policy()
    keras.config.set_dtype_policy("float32")
    try:
        yield
    finally:
        keras.config.set_dtype_policy(policy)


def _from_keras(layer_class, **arguments):
    """Returns functions that seed and that run a layer of Keras."""
    import keras

    layer = layer_class(**arguments)
    states = [variable for variable in layer.variables if variable.name == "seed_generator_state"]

    def seed(rng):
        for state in states:
            state.assign([rng.integers(2**31), 0])

    if keras.backend.backend() != "tensorflow":
        return seed, layer
    import tensorflow as tf

    return seed, tf.function(layer)


def _from_keras_cv(layer_class, **arguments):
    """Returns functions that seed and that run a layer of keras-cv.

    Its layers draw from TensorFlow's global streams. These cannot be set back without emptying TensorFlow's cache of
    kernels, the training step among them: so one generator takes their place while the layer is made and traced.
    """
    import tensorflow as tf

    generator = tf.random.Generator.from_seed(0)

    def seed(rng):
        generator.reset_from_seed(int(rng.integers(2**31)))

    @tf.function
    def run(inputs):
        with _drawing_from(generator):
            return layer(inputs)

    with _drawing_from(generator):
        layer = layer_class(**arguments)
    return seed, run


@contextlib.contextmanager
def _drawing_from(generator):
    """Puts a generator in the place of TensorFlow's global streams."""
    import tensorflow as tf

    def unseeded(draw):
        return lambda *args, seed=None, **options: draw(*args, **options)

    def gamma(shape, alpha):
        shape = (*shape, *tf.convert_to_tensor(alpha).shape)
        return tf.random.stateless_gamma(shape, generator.make_seeds()[:, 0], alpha)

    def shuffle(values):
        return tf.gather(values, tf.argsort(generator.uniform(tf.shape(values)[:1])))

    with replaced(
        tf.random,
        get_global_generator=lambda: generator,
        uniform=unseeded(generator.uniform),
        normal=unseeded(generator.normal),
        gamma=gamma,
        shuffle=unseeded(shuffle),
    ):
        yield
