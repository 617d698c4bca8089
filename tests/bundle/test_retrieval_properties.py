"""Retrieval metrics against scikit-learn, and what must not change them. On a grid, so that scores are exact."""

from dataclasses import dataclass
from random import Random

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from sklearn.metrics import average_precision_score

from sfsc_bundle.retrieval import JUNK, Labels, Scores, evaluate, evaluate_order


@dataclass(frozen=True)
class Problem:
    query: np.ndarray
    query_labels: Labels
    gallery: np.ndarray
    gallery_labels: Labels

    def evaluate(self, chunk: int = 256) -> Scores:
        return evaluate(self.query, self.query_labels, self.gallery, self.gallery_labels, chunk=chunk)

    def similarity(self) -> np.ndarray:
        return self.query @ self.gallery.T


@st.composite
def problems(draw: st.DrawFn, untied: bool = False) -> Problem:
    """Few identities and cameras, so that every rule bites; with junk; at least one query with a match."""
    queries, size = draw(st.integers(1, 5)), draw(st.integers(1, 16))
    seed = draw(st.integers(0, 2**32 - 1))
    random = np.random.default_rng(seed)
    labels = [
        Labels(random.integers(low, 4, n), random.integers(0, 3, n) if draw(st.booleans()) else None)
        for n, low in ((queries, 0), (size, JUNK))
    ]
    if untied:
        query = random.choice([0.5, 1.0, 2.0], (queries, 1)).astype(np.float32)
        gallery = (random.permutation(1000)[:size, None] / 1024).astype(np.float32)
    else:
        query, gallery = (random.integers(-3, 4, (n, 4)).astype(np.float32) / 4 for n in (queries, size))
    problem = Problem(query, labels[0], gallery, labels[1])
    assume(any(kept(problem, number)[0].any() for number in range(queries)))
    return problem


def kept(problem: Problem, number: int) -> tuple[np.ndarray, np.ndarray]:
    """Of one query: which of the gallery entries that count are relevant, and their scores."""
    identity, gallery = problem.query_labels.identity[number], problem.gallery_labels
    use = gallery.identity != JUNK
    cameras = problem.query_labels.camera
    if cameras is not None and gallery.camera is not None:
        use &= ~((gallery.identity == identity) & (gallery.camera == cameras[number]))
    return (gallery.identity == identity)[use], problem.similarity()[number][use]


@given(problems(untied=True))
def test_equals_scikit_learn(problem: Problem) -> None:
    pairs = [kept(problem, number) for number in range(len(problem.query))]
    valid = [(relevant, score) for relevant, score in pairs if relevant.any()]
    found = problem.evaluate()
    expected = [average_precision_score(relevant, score) for relevant, score in valid]
    assert found.mean_ap == pytest.approx(100 * np.mean(expected), abs=1e-9)
    assert found.rank1 == pytest.approx(100 * np.mean([relevant[score.argmax()] for relevant, score in valid]))
    assert (found.queries, found.skipped) == (len(valid), len(pairs) - len(valid))


@given(problems(), st.integers(1, 7))
def test_the_chunk_changes_nothing(problem: Problem, chunk: int) -> None:
    assert problem.evaluate(chunk) == problem.evaluate()


@given(problems(untied=True), st.randoms(use_true_random=False))
def test_the_gallerys_order_changes_nothing_without_ties(problem: Problem, random: Random) -> None:
    rows = np.array(random.sample(range(len(problem.gallery)), len(problem.gallery)))
    turned = Problem(problem.query, problem.query_labels, problem.gallery[rows], problem.gallery_labels.take(rows))
    assert turned.evaluate() == problem.evaluate()


@given(problems(), st.randoms(use_true_random=False))
def test_the_queries_order_changes_nothing(problem: Problem, random: Random) -> None:
    rows = np.array(random.sample(range(len(problem.query)), len(problem.query)))
    turned = Problem(problem.query[rows], problem.query_labels.take(rows), problem.gallery, problem.gallery_labels)
    assert turned.evaluate() == problem.evaluate()


@given(problems())
def test_rankings_made_elsewhere_score_the_same(problem: Problem) -> None:
    order = np.argsort(-problem.similarity(), axis=1, kind="stable")
    scores = evaluate_order([order[:2], order[2:]], problem.query_labels, problem.gallery_labels)
    assert scores == problem.evaluate()


@given(problems())
@settings(max_examples=50)
def test_points_are_between_0_and_100(problem: Problem) -> None:
    scores = problem.evaluate()
    assert 0 < scores.mean_ap <= 100
    assert 0 <= scores.rank1 <= 100


def test_agreement_on_a_set_of_realistic_size() -> None:
    random = np.random.default_rng(0)
    query, gallery = (random.standard_normal((n, 32)).astype(np.float32) for n in (60, 900))
    labels = [Labels(random.integers(0, 20, n), random.integers(0, 6, n)) for n in (60, 900)]
    problem = Problem(query, labels[0], gallery, labels[1])
    expected = np.mean([average_precision_score(*kept(problem, number)) for number in range(60)])
    assert problem.evaluate(7).mean_ap == pytest.approx(100 * expected, abs=1e-6)
