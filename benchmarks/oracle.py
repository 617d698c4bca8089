"""A clairvoyant upper bound on quality at a given attainment, which no schedule can beat, as a linear program."""

from collections.abc import Mapping, Sequence

import numpy as np
from scipy.optimize import linprog
from scipy.sparse import coo_array

__all__ = ["best_quality"]

BIN_S = 0.01


def best_quality(
    times: Sequence[float],
    slo_s: float,
    image_ms: Mapping[str, float],
    points: Mapping[str, float],
    workers: int,
    attainment: float,
) -> float:
    """The best mean quality of what is answered in time, of any schedule with this attainment or more.

    Why it is a bound. Whatever a real schedule does is a solution of the programme, with the same quality: it
    gives each request that is in time one width, works on it between its arrival and its deadline, and uses no
    more time of the workers than there is. The programme knows all arrivals and may do more: split a request
    among widths and among workers, interrupt and resume it at no cost, take the cheapest batch size for every
    image whatever waits, drop requests, and decode and answer for nothing. Arrivals and deadlines are rounded
    outwards to bins of 10 ms.

    Args:
        times: of arrival, in seconds, ascending.
        image_ms: what an image of a width costs at least, in milliseconds of one worker.
        points: the quality of a width.
        attainment: the share of all requests that must be answered in time.

    Returns:
        The mean over the requests answered in time; NaN where no schedule has this attainment.
    """
    arriving = np.bincount((np.asarray(times) / BIN_S).astype(int))
    bins, span = len(arriving), int(np.ceil(slo_s / BIN_S)) + 1
    widths = list(image_ms)
    served = bins * len(widths)
    variables = (
        served + bins * span
    )  # x[b, w]: requests of bin b served at w; y[b, k]: seconds spent on b in b + k

    at_x = np.arange(served).reshape(bins, len(widths))
    at_y = served + np.arange(bins * span).reshape(bins, span)
    slots = (np.arange(bins)[:, None] + np.arange(span)).ravel()
    costs_s = np.tile([image_ms[width] / 1000 for width in widths], bins)
    quality = np.tile([points[width] for width in widths], bins)
    own = np.repeat(np.arange(bins), len(widths))

    no_more_than_came = coo_array((np.ones(served), (own, at_x.ravel())), shape=(bins, variables))
    no_more_than_there_is = coo_array(
        (np.ones(bins * span), (slots, at_y.ravel())), shape=(bins + span - 1, variables)
    )
    work_is_done = coo_array(
        (
            np.concatenate([costs_s, -np.ones(bins * span)]),
            (
                np.concatenate([own, np.repeat(np.arange(bins), span)]),
                np.concatenate([at_x.ravel(), at_y.ravel()]),
            ),
        ),
        shape=(bins, variables),
    )
    in_time = round(attainment * len(times))
    everybody = coo_array((np.ones(served), (np.zeros(served, int), np.arange(served))), shape=(1, variables))
    found = linprog(
        np.concatenate([-quality, np.zeros(bins * span)]),
        A_ub=_stack(no_more_than_came, no_more_than_there_is),
        b_ub=np.concatenate([arriving, np.full(bins + span - 1, workers * BIN_S)]),
        A_eq=_stack(work_is_done, everybody),
        b_eq=np.concatenate([np.zeros(bins), [in_time]]),
        method="highs",
    )
    return float(-found.fun / in_time) if found.status == 0 and in_time else float("nan")


def _stack(upper: coo_array, lower: coo_array) -> coo_array:
    rows = np.concatenate([upper.row, lower.row + upper.shape[0]])
    columns, data = np.concatenate([upper.col, lower.col]), np.concatenate([upper.data, lower.data])
    return coo_array((data, (rows, columns)), shape=(upper.shape[0] + lower.shape[0], upper.shape[1])).tocsr()
