"""The maps that bring networks of one's own into one space: how they are chosen, and what they are fitted on."""

import numpy as np
import pytest
from sklearn.linear_model import Ridge

from sfsc_bundle.retrieval import Labels, evaluate
from sfsc_training.adopt.fit import CANDIDATES, fit_maps
from sfsc_training.alignment import Fitter, Method, Sample, Validation, align
from sfsc_training.errors import AlignmentError

D = 8


def unit(rows):
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


def two_networks(seed, noise=0.3, identities=6, each=12):
    """Unit embeddings of the same images by two networks of dimensions 5 and 8 whose means are far from 0."""
    random, fixed = np.random.default_rng(seed), np.random.default_rng(99)
    identity = np.repeat(np.arange(identities), each)
    full = random.normal(size=(identities, D))[identity] + noise * random.normal(size=(len(identity), D))
    narrow = full @ fixed.normal(size=(D, 5)) + 0.1 * random.normal(size=(len(identity), 5))
    return {"0.5": unit(narrow + 4), "1.0": unit(full + 2)}, identity


def validation(seed, noise):
    rows, identity = two_networks(seed, noise)
    everything = np.arange(len(identity))
    return Validation(Sample(rows, identity), Labels(identity, image=everything), everything, everything)


def test_maps_have_the_bias_of_scikit_learns_ridge():
    rows, identity = two_networks(0)
    fitted = fit_maps(Sample(rows, identity), None, None)
    assert list(fitted.maps) == ["0.5"]  # the widest stays as it is where nothing can be chosen by
    strength = fitted.alignment.strength * len(identity) / 5
    reference = Ridge(alpha=strength).fit(rows["0.5"].astype(float), rows["1.0"].astype(float))
    assert np.allclose(fitted.maps["0.5"][:-1], reference.coef_.T, atol=1e-5)
    assert np.allclose(fitted.maps["0.5"][-1], reference.intercept_, atol=1e-5)
    expected = unit(reference.predict(rows["0.5"].astype(float)))
    assert np.allclose(align({"0.5": rows["0.5"]}, fitted.maps)["0.5"], expected, atol=1e-5)


def rank1_of_the_widest(trial, fitter, method):
    rows = align(trial.sample.embeddings, fitter.fit(method))["1.0"]
    return evaluate(rows, trial.labels, rows, trial.labels).rank1


def test_the_widest_network_keeps_its_rank_1_on_validation_identities():
    rows, identity = two_networks(7, noise=1.5)
    sample, trial = Sample(rows, identity), validation(57, noise=1.5)
    fitter = Fitter(sample, bias=True)
    best = max(CANDIDATES, key=lambda method: trial.score(fitter.fit(method)))
    untouched = rank1_of_the_widest(trial, fitter, CANDIDATES[0])
    assert rank1_of_the_widest(trial, fitter, best) < untouched  # so the best mixed gallery alone would cost it
    found = fit_maps(sample, None, trial).alignment
    kept = Method("least-squares", found.ridge_share, found.strength or 0.01)
    assert rank1_of_the_widest(trial, fitter, kept) >= untouched
    assert found.after < trial.score(fitter.fit(best))


def test_maps_are_fitted_on_the_validation_identities_too_once_they_have_chosen():
    (rows, identity), trial = two_networks(0), validation(1, noise=0.3)
    found = fit_maps(Sample(rows, identity), None, trial)
    method = Method("least-squares", found.alignment.ridge_share, found.alignment.strength)
    together = {width: np.concatenate([rows[width], trial.sample.embeddings[width]]) for width in rows}
    expected = Fitter(Sample(together, np.concatenate([identity, identity + 6])), bias=True).fit(method)
    assert np.allclose(found.maps["0.5"], expected["0.5"])
    assert (found.alignment.images, found.alignment.identities) == (144, 12)


def test_with_a_target_no_network_stays_as_it_is():
    rows, identity = two_networks(0)
    target = unit(np.random.default_rng(1).normal(size=(len(identity), 6)))
    fitted = fit_maps(Sample(rows, identity, target), None, None)
    assert {width: values.shape for width, values in fitted.maps.items()} == {"0.5": (6, 6), "1.0": (9, 6)}


def test_too_few_images_for_the_largest_network_are_named():
    rows, identity = two_networks(0)
    few = Sample({width: found[:7] for width, found in rows.items()}, identity[:7])
    with pytest.raises(AlignmentError, match="needs at least 8 images, one for each dimension"):
        fit_maps(few, None, None)
