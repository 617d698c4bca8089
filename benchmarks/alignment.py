"""The alignment of a finished run: unlabelled images, λ-orthogonality beside what is tried, and the time it takes.

    python benchmarks/alignment.py runs/grocery --data ../shared/data/grocery-store

Unlabelled images: one half of the test gallery, drawn several times, is taken without its labels; the queries
search the other half, which no map has seen. λ-orthogonality (arXiv 2509.16664) keeps a map near to orthogonal,
here as min D/n ‖F A − T‖² + μ ‖AᵀA − I‖² with full-width embeddings or class centroids as T; μ is chosen as the
product chooses its method, by the mixed gallery of validation identities. The time is that of choosing and fitting
on 3,600 images at the most, embedding apart.
"""

import argparse
import time
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean, median

import numpy as np
import numpy.typing as npt
from rich.console import Console
from scipy.optimize import minimize

from result_file import Figure, write_result
from sfsc_bundle.mixed_gallery import evaluate_mixed_gallery
from sfsc_bundle.retrieval import cross_width, summarise
from sfsc_training.alignment import (
    CANDIDATES,
    UNLABELLED_CANDIDATES,
    Fitter,
    Maps,
    Method,
    Sample,
    Validation,
    align,
    centroids,
    choose,
)
from sfsc_training.checkpoint import read_recipe
from sfsc_training.data.read import read_dataset
from sfsc_training.data.reader import Split
from sfsc_training.evaluation import Embedded, embed_split
from sfsc_training.run import Run, open_run

Floats = npt.NDArray[np.float32]
Doubles = npt.NDArray[np.float64]

PENALTIES = (0.03, 0.1, 0.3, 1.0)
TIMED_IMAGES, TIMED_ROUNDS = 3600, 3
UNLABELLED_GOALS = {"grocery-store": {"matrix": ">= 1.5", "mixed gallery": ">= 2"}}


@dataclass(frozen=True, slots=True)
class Parts:
    """The embeddings of a run's splits, without alignment."""

    labelled: Sample
    validation: Validation
    test: Embedded


def main() -> None:
    """Embed once, then measure everything."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path, help="folder of a finished run")
    parser.add_argument("--data", type=Path, required=True, help="the data that it was trained on")
    parser.add_argument("--draws", type=int, default=3, help="halves of the gallery that are drawn")
    arguments = parser.parse_args()
    recipe = read_recipe(arguments.run)
    dataset = read_dataset(arguments.data, recipe.data, recipe.seed)
    run = open_run(arguments.run, dataset, aligned=False)
    parts = embed(run, [dataset.train, dataset.validation, dataset.test])
    seconds, images = timed(parts)
    fitter = Fitter(parts.labelled)
    choice = choose(fitter, parts.validation)
    maps = {"as trained": {}, "chosen": fitter.fit(choice.method), "Procrustes": fitter.fit(Method("procrustes"))}
    penalised = {f"λ-orthogonality onto {name}": found for name, found in orthogonal(parts, fitter).items()}
    maps |= {name: found[1] for name, found in penalised.items()}
    scores = {name: score(parts.test, found) for name, found in maps.items()}
    gains = [unlabelled_gain(parts, seed) for seed in range(arguments.draws)]
    goals = UNLABELLED_GOALS.get(arguments.data.name, {})
    figures = [
        Figure(
            f"choosing and fitting, {images} images, {len(recipe.widths)} widths", median(seconds), "s", "<= 10"
        ),
        *(
            Figure(f"{what}, {name}", found[what], "points of mAP")
            for name, found in scores.items()
            for what in found
        ),
        *(
            Figure(f"{what}, {name} − chosen", scores[name][what] - scores["chosen"][what], "points of mAP")
            for name in penalised
            for what in scores[name]
        ),
        *(
            Figure(
                f"{what}, unlabelled half of the gallery − training images alone, unseen half",
                fmean(gain["with"][what] - gain["without"][what] for gain in gains),
                "points of mAP",
                goals.get(what),
            )
            for what in scores["chosen"]
        ),
    ]
    data = {
        "recipe": recipe.name,
        "seed": recipe.seed,
        "dimension": recipe.network.dimension,
        "training_images": len(parts.labelled.full),
        "training_identities": len(dataset.train.identities),
        "seconds": seconds,
        "chosen": described(choice.method),
        "validation": {"as trained": choice.before, "chosen": choice.after}
        | {name: parts.validation.score(found[1]) for name, found in penalised.items()},
        "penalty": {name: found[0] for name, found in penalised.items()},
        "unlabelled": gains,
    }
    print("written to", write_result(f"alignment_{arguments.data.name}", figures, data, seed=recipe.seed))


def embed(run: Run, splits: list[Split]) -> Parts:
    """Embed every split at every width."""
    train, validation, test = (embed_split(run, split, Console()) for split in splits)
    chosen_by = validation.split
    return Parts(
        Sample(train.embeddings, train.split.classes),
        Validation(Sample(validation.embeddings), chosen_by.labels(), chosen_by.query, chosen_by.gallery),
        test,
    )


def timed(parts: Parts) -> tuple[list[float], int]:
    """Seconds of several rounds, and the number of images that the maps were fitted on."""
    count = min(TIMED_IMAGES, len(parts.labelled.full))
    identity = parts.labelled.identity
    assert identity is not None
    some = Sample({width: rows[:count] for width, rows in parts.labelled.embeddings.items()}, identity[:count])
    seconds = []
    for _ in range(TIMED_ROUNDS):
        began = time.perf_counter()
        fitter = Fitter(some)
        found = choose(fitter, parts.validation).method
        if found is not None:
            fitter.fit(found)
        seconds.append(time.perf_counter() - began)
    return seconds, count


def score(test: Embedded, maps: Maps) -> dict[str, float]:
    """Mean mAP of the matrix and of galleries of mixed widths."""
    embeddings = align(test.embeddings, maps) if maps else test.embeddings
    split, labels = test.split, test.split.labels()
    queries, gallery = (
        {width: rows[at] for width, rows in embeddings.items()} for at in (split.query, split.gallery)
    )
    given = queries, labels.take(split.query), gallery, labels.take(split.gallery)
    mixed = evaluate_mixed_gallery(*given, shares=())
    return {"matrix": summarise(cross_width(*given).mean_ap).mean, "mixed gallery": fmean(mixed.mean_ap)}


def orthogonal(parts: Parts, fitter: Fitter) -> dict[str, tuple[float, Maps]]:
    """For each target the penalty that validation identities choose, and its maps."""
    labelled, rotations = parts.labelled, fitter.fit(Method("procrustes"))
    targets = {
        "full width": labelled.full,
        "class centroids": centroids(labelled.full, labelled.identity),
    }
    found = {}
    for name, target in targets.items():
        tried = {
            penalty: {
                width: near_orthogonal(rows, target, penalty, rotations[width])
                for width, rows in labelled.embeddings.items()
            }
            for penalty in PENALTIES
        }
        best = max(tried, key=lambda penalty: parts.validation.score(tried[penalty]))
        found[name] = best, tried[best]
    return found


def near_orthogonal(rows: Floats, target: Floats, penalty: float, start: Floats) -> Floats:
    """The A [D, D] that minimises D/n ‖F A − T‖² + μ ‖AᵀA − I‖², from the rotation on."""
    count, dimension = rows.shape
    wide = rows.astype(np.float64)
    gram, cross = (wide.T @ other * (dimension / count) for other in (wide, target.astype(np.float64)))

    def objective(flat: Doubles) -> tuple[float, Doubles]:
        values = flat.reshape(dimension, dimension)
        moved, excess = gram @ values, values.T @ values - np.eye(dimension)
        loss = np.sum(values * (moved - 2 * cross)) + penalty * np.sum(excess**2)
        slope = 2 * (moved - cross) + 4 * penalty * values @ excess
        return float(loss), slope.ravel()

    options = {"maxiter": 200, "maxcor": 20}
    found = minimize(objective, start.astype(np.float64).ravel(), jac=True, method="L-BFGS-B", options=options)
    values: Floats = found.x.reshape(dimension, dimension).astype(np.float32)
    return values


def unlabelled_gain(parts: Parts, seed: int) -> dict[str, dict[str, object]]:
    """Scores on one half of the gallery, with the other half as unlabelled images and without."""
    split = parts.test.split
    drawn = np.random.default_rng(seed).permutation(split.gallery)
    fitted, unseen = np.split(drawn, [len(drawn) // 2])
    rows = np.sort(np.concatenate([np.setdiff1d(split.query, drawn), unseen]))
    rest = Embedded(split.take(rows), {width: found[rows] for width, found in parts.test.embeddings.items()})
    elsewhere = Sample({width: found[fitted] for width, found in parts.test.embeddings.items()})
    result = {}
    sides = {
        "without": (Fitter(parts.labelled), CANDIDATES),
        "with": (Fitter(parts.labelled, elsewhere), UNLABELLED_CANDIDATES),
    }
    for name, (fitter, candidates) in sides.items():
        method = choose(fitter, parts.validation, candidates).method
        maps = {} if method is None else fitter.fit(method)
        result[name] = {**score(rest, maps), "method": described(method)}
    return result


def described(method: Method | None) -> str:
    """A method in a few words."""
    if method is None:
        return "none"
    return f"{method.base}, ridge share {method.share:g}, λ {method.strength:g}"


if __name__ == "__main__":
    main()
