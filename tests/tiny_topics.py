"""Every topic of the lecture at a size for tests, and what holds there whatever the seed."""

from typing import Any, NamedTuple

from jaxtheory.lecture import (
    adaptivity,
    besov,
    depth,
    double_descent,
    double_descent_networks,
    double_descent_sources,
    edge_of_stability,
    expressivity,
    feature_learning,
    generalization,
    implicit_bias,
    infinite_width,
    kernel_regression,
    mean_field,
    mixed_smoothness,
    ntk,
    saddles,
    scaling_laws,
    teacher_student,
)


class Tiny(NamedTuple):
    """A configuration, and the names of claims that are laws or bounds at any size; the others need the presets'.

    `undefined` may be NaN: the exponent of a mean below its limit, or of a best rate at the end of a sweep.
    """

    config: Any
    always: tuple[str, ...]
    undefined: tuple[str, ...] = ()


TINY = {
    "adaptivity": Tiny(
        adaptivity.Config(
            samples=(32, 64, 128), functions=24, steps=50, width=8, octaves=(6, 8, 10), grid=256, replicates=40,
            noises=200, manifold_samples=(32, 64, 128), manifold_functions=20, composite_samples=(256, 512),
            composite_functions=3,
        ),
        (
            "plane_linear", "loop_gaussian_linear", "loop_weak_linear", "loop_sparse_linear",
            "loop_bound", "rate_line", "rate_cube", "rate_plane", "rate_space", "rate_seven", "rate_sum",
            "rate_varying",
        ),
    ),
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
    "double-descent-sources": Tiny(
        double_descent_sources.Config(
            samples=30, crossings=40, points=40, classifiers=40, flows=100, images=60, seeds=3
        ),
        (
            "sources_0.5", "sources_1", "sources_2", "sources_interaction", "classify_margin_0.6", "classify_margin_1",
            "classify_margin_1.5", "classify_ridged_0.6", "classify_ridged_1.5", "time_valley", "time_hill",
            "time_best",
        ),
    ),
    "edge-of-stability": Tiny(
        edge_of_stability.Config(samples=30, starts=2, steps=400, flow_steps=60, window=40, width=50),
        (
            "central_loss", "central_gradient", "central_spread", "central_sharpness", "threshold_momentum",
            "threshold_nesterov", "threshold_adam", "catapult_curvature", "catapult_peak", "catapult_onset",
            "catapult_end",
        ),
    ),
    "expressivity": Tiny(
        expressivity.Config(
            dims=(2,), draws=20, greedy=32, grid=16, terms=(5,), scales=(10.0,), neurons=100, seeds=2, training=300
        ),
        ("random_2_8", "random_2_512", "superposition_5", "blur_10", "increment", "sprecher", "digit"),
    ),
    "feature-learning": Tiny(
        feature_learning.Config(
            samples=6, tests=4, steps=4, draws=2048, repeats=2, widths=(8, 16, 32), count=32, counts=(32, 32, 32),
            batch=32, richness=(0.5, 3.0), check_widths=(64, 128), examples=24, transfer_widths=(32, 64),
            transfer_steps=1, rates=(0.01, 0.1, 1.0), seeds=16,
        ),
        (
            "classes_apart", "coordinates_hidden_maximal", "coordinates_out_maximal", "coordinates_hidden_standard",
            "coordinates_out_standard",
        ),
        ("width_mean", "transfer_mlp_maximal", "transfer_mlp_standard"),
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
    "scaling-laws": Tiny(
        scaling_laws.Config(
            features=10, streams=200, modes=512, widest=128, steps=1500, repetitions=3, draws=200, resamples=20
        ),
        ("one_pass_10", "one_pass_100", "one_pass_500", "regimes_data", "regimes_width", "regimes_data_variance"),
    ),
    "teacher-student": Tiny(
        teacher_student.Config(
            dim=20, committees=3, dims=(16, 32, 64), steep_dims=(10, 13, 16), walkers=2, students=14, descents=5000
        ),
        ("complexity", "collapse_gap", "collapse_objective", "collapse_weights", "collapse_cosine"),
    ),
}  # fmt: skip
