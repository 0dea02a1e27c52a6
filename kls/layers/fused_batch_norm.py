"""TensorFlow's fused batch normalisation, also where its kernel for processors is slow as it stands."""

import math

BLOCK = 16  # channels that the kernel takes at a time


def normalize_in_training(images, scale, offset, epsilon):
    """Normalises images with their own moments.

    oneDNN's kernel is several times slower where the channels are no multiple of 16, as in most layers of DenseNet:
    about eight times in bfloat16 and float16. There `fold` neighbouring pixels become one of `fold` times as many
    channels, at no cost. The moments of a channel are then those of its `fold` parts together, and so are the gradients
    of its scale and offset; what they add to the gradient of the images is linear in the images, and so one more
    normalisation. The gradients of these gradients are those of the formula in plain operations.

    Args:
        images: Tensor of shape `(N, H, W, C)`; float32, bfloat16 or float16.
        scale: float32 of shape `(C,)`.
        offset: float32 of shape `(C,)`.
        epsilon: Float that is added to the variance.

    Returns:
        `(outputs, mean, variance)`; the variance without Bessel's correction.
    """
    import tensorflow as tf

    fold = _fold(images)
    if fold == 1:
        outputs, mean, variance = tf.compat.v1.nn.fused_batch_norm(images, scale, offset, epsilon=epsilon)
        return outputs, mean, variance * _without_bessel(images)

    @tf.custom_gradient
    def normalize(images, scale, offset):
        folded = _folded(images, fold)
        parts = tf.ones(fold * images.shape[-1])
        _, means, variances = tf.compat.v1.nn.fused_batch_norm(folded, parts, 0 * parts, epsilon=epsilon)
        means, variances = _parts(means, fold), _parts(variances * _without_bessel(folded), fold)
        mean = tf.reduce_mean(means, axis=0)
        variance = tf.reduce_mean(variances + tf.square(means - mean), axis=0)

        def affine(scale, offset):
            return normalize_in_inference(images, scale, offset, mean, variance, epsilon)

        @tf.custom_gradient
        def gradients(upstream, images, scale):
            of_images, of_scale, of_offset, *_ = tf.raw_ops.FusedBatchNormGradV3(
                y_backprop=_folded(upstream, fold),
                x=folded,
                scale=tf.tile(scale, [fold]),
                reserve_space_1=tf.tile(mean, [fold]),
                reserve_space_2=tf.tile(variance, [fold]),
                reserve_space_3=tf.zeros(0),
                epsilon=epsilon,
                is_training=False,
            )
            of_scale, of_offset = (tf.reduce_sum(_parts(values, fold), axis=0) for values in (of_scale, of_offset))
            share = -scale * tf.math.rsqrt(variance + epsilon) / _pixels(images)
            of_moments = affine(share * of_scale, share * of_offset)

            def second(*upstreams):
                given = upstream, images, scale
                with tf.GradientTape() as tape:
                    tape.watch(given)
                    plain = _plain_gradients(*given, epsilon)
                return tape.gradient(plain, given, upstreams)

            return (tf.reshape(of_images, tf.shape(images)) + of_moments, of_scale, of_offset), second

        def gradient(upstream, *_):
            return gradients(upstream, images, scale)

        return (affine(scale, offset), mean, variance), gradient

    return normalize(images, scale, offset)


def normalize_in_inference(images, scale, offset, mean, variance, epsilon):
    """Normalises images with given moments: arguments as in `normalize_in_training`, moments of shape `(C,)`."""
    import tensorflow as tf

    fold = _fold(images)
    scale, offset, mean, variance = (
        values if fold == 1 else tf.tile(values, [fold]) for values in (scale, offset, mean, variance)
    )
    outputs, _, _ = tf.compat.v1.nn.fused_batch_norm(
        images if fold == 1 else _folded(images, fold),
        scale,
        offset,
        mean=mean,
        variance=variance,
        epsilon=epsilon,
        is_training=False,
    )
    return outputs if fold == 1 else tf.reshape(outputs, tf.shape(images))


def _plain_gradients(upstream, images, scale, epsilon):
    """Returns the gradients by the images, the scale and the offset, all of whose own gradients TensorFlow knows."""
    import tensorflow as tf

    axes = [0, 1, 2]
    dtype, (upstream, images) = images.dtype, (tf.cast(values, "float32") for values in (upstream, images))
    centred = images - tf.reduce_mean(images, axes)
    root = tf.math.rsqrt(tf.reduce_mean(tf.square(centred), axes) + epsilon)
    normalized = centred * root
    of_scale, of_offset = tf.reduce_sum(upstream * normalized, axes), tf.reduce_sum(upstream, axes)
    of_images = scale * root * (upstream - (of_offset + normalized * of_scale) / _pixels(images))
    return tf.cast(of_images, dtype), of_scale, of_offset


def _fold(images):
    """Returns how many neighbouring pixels to take for one: 1 where the kernel is fast, or where they do not go up."""
    import tensorflow as tf

    _, height, width, channels = images.shape
    fold = BLOCK // math.gcd(BLOCK, channels)
    if height is None or width is None or height * width % fold:
        return 1
    return 1 if tf.config.list_logical_devices("GPU") else fold


def _folded(images, fold):
    import tensorflow as tf

    _, height, width, channels = images.shape
    return tf.reshape(images, (-1, 1, height * width // fold, fold * channels))


def _parts(values, fold):
    import tensorflow as tf

    return tf.reshape(values, (fold, -1))


def _without_bessel(images):
    """Returns the factor that takes Bessel's correction off the variance that the kernel returns."""
    import tensorflow as tf

    pixels = _pixels(images)
    return tf.maximum(pixels - 1, 1) / pixels


def _pixels(images):
    """Returns the number of pixels of all images together, as float32."""
    import tensorflow as tf

    return tf.cast(tf.size(images, tf.int64) // images.shape[-1], tf.float32)
