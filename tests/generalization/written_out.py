"""Networks in plain numpy and double precision: what the room's functions are held against."""

import numpy as np


def as_matrices(weights):
    """The homogeneous form, written out: (x, 1) in, a row for the constant unit below all but the last."""
    matrices = []
    for i, (w, b) in enumerate(weights):
        matrix = np.hstack([np.asarray(w, float).T, np.asarray(b, float)[:, None]])
        unit = np.zeros((1, matrix.shape[1]))
        unit[0, -1] = 1
        matrices.append(matrix if i == len(weights) - 1 else np.vstack([matrix, unit]))
    return matrices


def numpy_outputs(weights, x):
    h = np.asarray(x, float)
    for i, (w, b) in enumerate(weights):
        h = h @ np.asarray(w, float) + np.asarray(b, float)
        h = h if i == len(weights) - 1 else np.maximum(h, 0)
    return h


def numpy_margins(outputs, y):
    return np.array([row[k] - np.delete(row, k).max() for row, k in zip(outputs, np.asarray(y), strict=True)])


def sum_over_paths(matrices):
    """Explicit sums over all paths would be exponential; the product of matrices is their definition."""
    product = np.eye(matrices[0].shape[1])
    for matrix in matrices:
        product = matrix @ product
    return product.sum(1)


def loss_and_gradient(matrices, x, y):
    """Mean cross-entropy of the chain in the coordinates (x, 1), and its gradient, by hand."""
    h, hs = np.hstack([x, np.ones((len(x), 1))]), []
    for i, matrix in enumerate(matrices):
        hs.append(h)
        z = h @ matrix.T
        h = z if i == len(matrices) - 1 else np.maximum(z, 0)
    shares = np.exp(z - z.max(1, keepdims=True))
    shares /= shares.sum(1, keepdims=True)
    rows = np.arange(len(x))
    loss, back = -np.log(shares[rows, y]).mean(), shares
    back[rows, y] -= 1
    back, gradients = back / len(x), []
    for matrix, h in zip(matrices[::-1], hs[::-1], strict=True):
        gradients.insert(0, back.T @ h)
        back = (back @ matrix) * (h > 0)
    return loss, gradients


def split_like(flat, matrices):
    """A vector cut into matrices of these shapes, row by row, the first matrix first."""
    ends = np.cumsum([m.size for m in matrices])[:-1]
    return [part.reshape(m.shape) for part, m in zip(np.split(np.asarray(flat), ends), matrices, strict=True)]


def share_wrong(matrices, x, y):
    h = np.hstack([x, np.ones((len(x), 1))])
    for i, matrix in enumerate(matrices):
        h = h @ matrix.T if i == len(matrices) - 1 else np.maximum(h @ matrix.T, 0)
    return (numpy_margins(h, y) <= 0).mean()
