"""Every topic of the lecture at a size for tests, and what holds there whatever the seed."""

from typing import Any, NamedTuple

from jaxtheory.lecture import (
    besov,
    depth,
    double_descent,
    double_descent_networks,
    expressivity,
    generalization,
    implicit_bias,
    infinite_width,
    kernel_regression,
    mean_field,
    mixed_smoothness,
    ntk,
    saddles,
)


class Tiny(NamedTuple):
    """A configuration, and the names of claims that are laws or bounds at any size; the others need the presets'."""

    config: Any
    always: tuple[str, ...]


TINY = {
    "besov": Tiny(
        besov.Config(
            levels=12, octaves=(5, 8), replicates=20, signal_octaves=(5, 6), signal_replicates=2, steps=80, width=8
        ),
        ("linear, s=1, p=1", "adaptive, s=1, p=1", "adaptive, s=2, p=1", "network_depth", "network_gap"),
    ),
    "depth": Tiny(
        depth.Config(dims=(5, 10, 20), samples=5000, starts=2, steps=10, neurons=(1, 2), teeth=4, training=20),
        ("three_5", "three_20", "gap_10", "gap_20", "growth", "adversary_1", "adversary_2", "pieces", "slice"),
    ),
    "double-descent": Tiny(
        double_descent.Config(
            samples=40, width=100, ridges=(1.0, 30.0), seeds=2, dimension=12, sphere_ridges=(2.0,), sphere_seeds=3,
            law_dimension=12, law_seeds=48,
        ),
        ("round_off", "samples_few", "samples_many", "features_all"),
    ),
    "double-descent-networks": Tiny(
        double_descent_networks.Config(
            samples=30, fewer=(20,), widths=(3, 4, 5), seeds=2, steps=40, records=4, draws=2
        ),
        ("flow_first_minimum", "flow_bump", "flow_end"),
    ),
    "expressivity": Tiny(
        expressivity.Config(
            dims=(2,), draws=20, greedy=32, grid=16, terms=(5,), scales=(10.0,), neurons=100, seeds=2, training=300
        ),
        ("random_2_8", "random_2_512", "superposition_5", "blur_10", "increment", "sprecher", "digit"),
    ),
    "generalization": Tiny(
        generalization.Config(
            samples=40, widths=(32,), depths=(1,), batches=(8, 40), noises=(0.0, 0.9), seeds=2, steps=100
        ),
        ("vacuous", "held_out"),
    ),
    "implicit-bias": Tiny(
        implicit_bias.Config(
            doublings=8, scales=(0.1, 1.0), features=12, steps=2000, depths=(2,), step_size=1e-2, walkers=8000,
            rates=(0.5,),
        ),
        ("ratio", "bias", "across", "modes_2", "sgd_0.5"),
    ),
    "infinite-width": Tiny(
        infinite_width.Config(
            architectures=("tanh MLP",), widths=(8, 16), draws=4, deep_width=64, deep_draws=40, images=20, splits=2
        ),
        ("rate_0.7", "chaos"),
    ),
    "kernel-regression": Tiny(
        kernel_regression.Config(
            images=90, sizes=(5, 9), width=16, seeds=2, smoothness=(1,), circle_sizes=(8, 20), circle_seeds=3
        ),
        ("rate 1",),
    ),
    "mean-field": Tiny(
        mean_field.Config(
            dimension=5, particles=40, horizon=1.0, sgd_step=0.02, sgd_batch=8, many=12, few=3, teacher_steps=60,
            teacher_seeds=3, frames=4, gap_particles=1000, gap_seeds=2, clouds=(10, 20), chaos_seeds=8, matchings=8,
        ),
        ("threshold",),
    ),
    "mixed-smoothness": Tiny(
        mixed_smoothness.Config(
            levels=(3, 2, 2, 2, 2), points=50, octaves=(8, 12), replicates=20, networks=(6, 6, 6, 6), network_points=64
        ),
        ("cross_100_2", "mixed_2", "mixed_10", "isotropic_5", "interpolation_1"),
    ),
    "ntk": Tiny(
        ntk.Config(
            widths=(16, 64, 256), draws=300, drift_widths=(64, 256), drift_seeds=3, lazy_widths=(32, 128),
            lazy_seeds=2, lazy_samples=40, lazy_steps=40, samples=60, noise_pixels=8, rich_width=16, rich_steps=12,
            rich_seeds=2,
        ),
        ("mean", "round_off"),
    ),
    "saddles": Tiny(
        saddles.Config(
            seeds=20, dim=6, curvatures=(1.0,), perturbed_dims=(2, 3, 4), noises=(0.1,), exits=400, teacher=3,
            surplus=(0, 2), starts=8,
        ),
        ("strict", "exit_0.1"),
    ),
}  # fmt: skip
