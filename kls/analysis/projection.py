"""Features of three classes, seen in the plane of their templates."""

import numpy as np

from kls.utils.arrays import as_numbers, shown


def template_plane(kernel, classes):
    """Returns the plane that crosses the templates of three classes.

    The template of class k is the weight vector `w_k` of the last layer (Mueller et al. 2019, "When does label
    smoothing help?", section 2). The plane is `{mean(w_a, w_b, w_c) + Q u}` with Q R the QR factorisation of
    `[w_b - w_a, w_c - w_a]`, R's diagonal positive: `w_a` to `w_b` points to the right, and `w_c` lies above them, so
    that the planes of several networks can be compared.

    Args:
        kernel: Kernel of the last layer, shape `(D, K)`, as `keras.layers.Dense` has it.
        classes: Three distinct class indices `(a, b, c)`.

    Returns:
        `(origin, basis)`, float64 arrays of shapes `(D,)` and `(D, 2)`; the columns of `basis` are orthonormal.

    Raises:
        ValueError: If the kernel is no matrix of finite numbers, if `classes` are not three distinct ones of it, or if
            their templates lie on a line.

    Example:

    >>> kernel = np.array([[0.0, 3.0, 0.0], [0.0, 0.0, 3.0]])
    >>> origin, basis = template_plane(kernel, (0, 1, 2))
    >>> origin.tolist()
    [1.0, 1.0]
    """
    kernel = _finite_matrix(kernel, "kernel", "(D, K)")
    chosen = as_numbers(classes, "classes")
    allowed = range(kernel.shape[1])
    if chosen.dtype.kind not in "iu" or chosen.shape != (3,) or len({*chosen.tolist()} & {*allowed}) != 3:
        raise ValueError(
            f"`classes` must be three distinct class indices in 0..{len(allowed) - 1}. "
            f"Received: classes={shown(classes)}"
        )
    templates = kernel[:, chosen]
    edges = templates[:, 1:] - templates[:, :1]
    if np.linalg.matrix_rank(edges) < 2:
        raise ValueError(f"The templates of `classes` must not lie on a line. Received: classes={classes}")
    basis, triangle = np.linalg.qr(edges)
    return templates.mean(axis=1), basis * np.sign(np.diag(triangle))


def project_onto_templates(features, kernel, classes):
    """Returns features in the coordinates of the plane that crosses the templates of three classes.

    `u = Q^T (x - origin)`, with Q and the origin those of `template_plane` (Mueller et al. 2019, section 2).

    Args:
        features: Inputs of the last layer, shape `(N, D)`.
        kernel: Kernel of the last layer, shape `(D, K)`, as `keras.layers.Dense` has it.
        classes: Three distinct class indices.

    Returns:
        float64 array of shape `(N, 2)`.

    Raises:
        ValueError: If the features are not finite, or not as long as the templates, or if `classes` are not as in
            `template_plane`.

    Example:

    >>> kernel = np.array([[0.0, 3.0, 0.0], [0.0, 0.0, 3.0]])
    >>> project_onto_templates(kernel.T, kernel, (0, 1, 2)).round(3).tolist()
    [[-1.0, -1.0], [2.0, -1.0], [-1.0, 2.0]]
    """
    origin, basis = template_plane(kernel, classes)
    features = _finite_matrix(features, "features", f"(N, {len(origin)})")
    if features.shape[1] != len(origin):
        raise ValueError(f"`features` must be of shape (N, {len(origin)}). Received: shape {features.shape}")
    return (features - origin) @ basis


def _finite_matrix(values, name, shape):
    """Returns a float64 matrix, or raises an error that names its shape."""
    values = as_numbers(values, name).astype(np.float64)
    if values.ndim != 2:
        raise ValueError(f"`{name}` must be of shape {shape}. Received: shape {values.shape}")
    if not np.isfinite(values).all():
        raise ValueError(f"`{name}` must hold finite numbers. Received: some that are not")
    return values
