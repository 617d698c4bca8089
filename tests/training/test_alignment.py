"""The closed forms of the alignment, on embeddings made by hand."""

import numpy as np
import pytest
from scipy.stats import ortho_group
from sklearn.linear_model import Ridge

from sfsc_bundle.retrieval import Labels
from sfsc_training.alignment import (
    CANDIDATES,
    Fitter,
    Method,
    Sample,
    Validation,
    align,
    centroids,
    choose,
)
from sfsc_training.errors import AlignmentError

D = 8
PROCRUSTES, LEAST_SQUARES, RIDGE = Method("procrustes"), Method("least-squares"), Method("procrustes", 1.0, 0.03)


def unit(rows):
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


def images(seed, identities=6, each=10, noise=0.5):
    """Full-width embeddings [n, D] around a direction for each identity, and the identities."""
    random = np.random.default_rng(seed)
    identity = np.repeat(np.arange(identities), each)
    return unit(
        random.normal(size=(identities, D))[identity] + noise * random.normal(size=(len(identity), D))
    ), identity


ROTATION = ortho_group.rvs(D, random_state=1).astype(np.float32)


def sample(seed=0, noise=0.1):
    """Two widths: the narrow one is the full one, rotated, with noise of its own."""
    full, identity = images(seed)
    random = np.random.default_rng(seed + 100)
    narrow = unit(full @ ROTATION + noise * random.normal(size=full.shape))
    return Sample({"0.5": narrow, "1.0": full}, identity)


def validation(found):
    everything = np.arange(len(found.identity))
    return Validation(found, Labels(found.identity, image=everything), everything, everything)


@pytest.mark.parametrize("method", [PROCRUSTES, Method("least-squares", strength=1e-9)])
def test_a_known_rotation_is_taken_back(method):
    found = sample(noise=0.0)
    maps = Fitter(found).fit(method)
    assert np.allclose(maps["0.5"], ROTATION.T, atol=1e-5)
    assert np.array_equal(maps["1.0"], np.eye(D))
    aligned = align(found.embeddings, maps)
    assert np.allclose(aligned["0.5"], aligned["1.0"], atol=1e-5)


def test_procrustes_maps_are_orthogonal():
    maps = Fitter(sample(noise=1.0)).fit(PROCRUSTES)
    for values in maps.values():
        assert np.allclose(values @ values.T, np.eye(D), atol=1e-6)


@pytest.mark.parametrize("strength", [0.003, 0.1, 10.0])
def test_ridge_and_least_squares_are_those_of_scikit_learn(strength):
    found = sample()
    ridge = Fitter(found).fit(Method("procrustes", 1.0, strength))
    least_squares = Fitter(found).fit(Method("least-squares", 0.0, strength))
    full = found.embeddings["1.0"]
    goal = centroids(full, found.identity)
    for width, rows in found.embeddings.items():
        reference = Ridge(alpha=strength * len(rows) / D, fit_intercept=False)
        assert np.allclose(ridge[width], reference.fit(rows.astype(float), goal.astype(float)).coef_.T, atol=1e-5)
        if width == "0.5":
            expected = reference.fit(rows.astype(float), full.astype(float)).coef_.T
            assert np.allclose(least_squares[width], expected, atol=1e-5)


@pytest.mark.parametrize("strength", [0.003, 10.0])
def test_maps_of_foreign_networks_have_the_bias_of_scikit_learns_ridge(strength):
    found = sample()
    foreign = unit(found.embeddings["0.5"] @ np.random.default_rng(3).normal(size=(D, 5)) + 3)
    rows = {"0.5": foreign, "1.0": unit(found.embeddings["1.0"] + 2)}
    for share, goal in ((0.0, rows["1.0"]), (1.0, centroids(rows["1.0"], found.identity))):
        maps = Fitter(Sample(rows, found.identity), bias=True).fit(Method("least-squares", share, strength))
        reference = Ridge(alpha=strength * len(foreign) / 5).fit(foreign.astype(float), goal.astype(float))
        assert np.allclose(maps["0.5"], np.vstack([reference.coef_.T, reference.intercept_]), atol=1e-4)
        aligned = align(rows, maps)
        assert np.allclose(aligned["0.5"], unit(reference.predict(foreign.astype(float))), atol=1e-5)
        assert np.allclose(aligned["1.0"], rows["1.0"], atol=1e-6) == (share == 0)


def test_a_procrustes_map_with_a_bias_takes_back_a_rotation_about_another_centre():
    found = sample(noise=0.0)
    full = found.embeddings["1.0"]
    moved = ((full - full.mean(axis=0)) @ ROTATION + 5).astype(np.float32)
    maps = Fitter(Sample({"0.5": moved, "1.0": full}), bias=True).fit(PROCRUSTES)
    assert np.allclose(align({"0.5": moved}, maps)["0.5"], full, atol=1e-4)


@pytest.mark.parametrize("base", ["procrustes", "least-squares"])
def test_a_blend_is_the_weighted_mean_of_its_parts(base):
    fitter = Fitter(sample())
    whole, ridge = fitter.fit(Method(base, 0.0, 0.03)), fitter.fit(Method(base, 1.0, 0.03))
    for width, values in fitter.fit(Method(base, 0.7, 0.03)).items():
        assert np.allclose(values, 0.3 * whole[width] + 0.7 * ridge[width], atol=1e-6)


def test_centroids_are_the_unit_means_of_identities():
    rows = np.array([[1, 0], [0, 1], [0, 1], [0, -1]], np.float32)
    found = centroids(rows, np.array([7, 7, 3, 9]))
    half = np.sqrt(0.5)
    assert np.allclose(found, [[half, half], [half, half], [0, 1], [0, -1]])


def test_aligned_embeddings_have_unit_length():
    found = sample()
    for rows in align(found.embeddings, Fitter(found).fit(RIDGE)).values():
        assert np.allclose(np.linalg.norm(rows, axis=1), 1, atol=1e-6)


def test_the_base_is_fitted_on_unlabelled_images_and_the_ridge_map_on_labelled_ones():
    labelled, elsewhere = sample(0), sample(1, noise=0.3)
    fitter, alone = Fitter(labelled, Sample(elsewhere.embeddings)), Fitter(labelled)
    for base in (PROCRUSTES, LEAST_SQUARES):
        expected, other = Fitter(elsewhere).fit(base)["0.5"], alone.fit(base)["0.5"]
        assert np.allclose(fitter.fit(base)["0.5"], expected)
        assert abs(expected - other).max() > 1e-3
    assert np.allclose(fitter.fit(RIDGE)["0.5"], alone.fit(RIDGE)["0.5"])


def test_an_older_generation_is_the_target_of_every_width():
    found = sample(noise=0.0)
    older = ortho_group.rvs(D, random_state=5).astype(np.float32)
    target = found.embeddings["1.0"] @ older
    maps = Fitter(Sample(found.embeddings, found.identity, target)).fit(PROCRUSTES)
    for rows in align(found.embeddings, maps).values():
        assert np.allclose(rows, target, atol=1e-5)


def test_the_method_with_the_best_mixed_gallery_is_chosen():
    fitter, trial = Fitter(sample(0)), validation(sample(1))
    choice = choose(fitter, trial)
    scores = {method: trial.score(fitter.fit(method)) for method in CANDIDATES}
    assert choice.before == trial.score()
    assert choice.after == scores[choice.method] == max(scores.values()) > choice.before


def test_nothing_is_changed_where_nothing_is_gained():
    full, identity = images(0, noise=0.01)
    same = Sample({"0.5": full, "1.0": full}, identity)
    choice = choose(Fitter(same), validation(same))
    assert (choice.method, choice.before, choice.after) == (None, 100.0, 100.0)


def test_an_older_generation_takes_part_in_the_choice():
    found = sample(0)
    elsewhere = found.embeddings["1.0"] @ ortho_group.rvs(D, random_state=5).astype(np.float32)
    aside, together = validation(found), validation(Sample(found.embeddings, found.identity, elsewhere))
    assert together.score() < aside.score()
    fitter = Fitter(Sample(found.embeddings, found.identity, elsewhere))
    assert choose(fitter, together).after > aside.score()


@pytest.mark.parametrize(
    ("kept", "identity", "method", "message"),
    [
        (D - 1, None, PROCRUSTES, "needs at least 8 images, one for each dimension of the embedding, found 7"),
        (D, None, RIDGE, "needs the identities of its images, found none"),
        (D, [4] * D, RIDGE, "needs images of at least 2 identities, found 1"),
    ],
)
def test_what_cannot_be_fitted_is_named(kept, identity, method, message):
    rows = {width: values[:kept] for width, values in sample().embeddings.items()}
    with pytest.raises(AlignmentError, match=message):
        Fitter(Sample(rows, None if identity is None else np.array(identity))).fit(method)


def test_too_few_unlabelled_images_are_named():
    few = Sample({width: rows[:3] for width, rows in sample().embeddings.items()})
    with pytest.raises(AlignmentError, match="found 3"):
        Fitter(sample(), few)
