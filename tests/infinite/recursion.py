"""An oracle in numpy: the kernels of a ReLU network, layer by layer."""

import numpy as np


def relu_kernels(x, depth, sigma_w, sigma_b):
    """NNGP and NTK (Cho and Saul 2009; Jacot et al. 2018)."""
    kernel = sigma_w**2 * x @ x.T / x.shape[1] + sigma_b**2
    tangent = kernel.copy()
    for _ in range(depth):
        norm = np.sqrt(np.outer(np.diag(kernel), np.diag(kernel)))
        cosine = np.clip(kernel / norm, -1, 1)
        np.fill_diagonal(cosine, 1.0)
        theta = np.arccos(cosine)
        slope = sigma_w**2 * (np.pi - theta) / (2 * np.pi)
        kernel = sigma_w**2 * norm * (np.sin(theta) + (np.pi - theta) * cosine) / (2 * np.pi) + sigma_b**2
        tangent = kernel + slope * tangent
    return kernel, tangent
