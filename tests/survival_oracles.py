"""Metrics of censored times by loops over pairs, in Python's own floats."""

import math
from itertools import pairwise

import numpy as np


def censored_data(n=40, seed=0, times=12, risks=8):
    """Times, events and risks of few different values: ties of all kinds."""
    rng = np.random.default_rng(seed)
    time = rng.integers(1, times + 1, n) / 4
    event = rng.integers(2, size=n)
    risk = rng.integers(risks, size=n) / 8
    return risk, time, event


def watched(time, event):
    """G as a function of a time and of whether that time itself counts."""

    def at(t, *, including):
        value = 1.0
        for s in sorted(set(time)):
            if s < t or (including and s == t):
                at_risk = sum(u > s or (u == s and not e) for u, e in zip(time, event, strict=True))
                gone = sum(u == s and not e for u, e in zip(time, event, strict=True))
                value *= 1 - gone / at_risk if at_risk else 1.0
        return value

    return at


def last_watched(time, event):
    g = watched(time, event)
    return max([t for t in time if g(t, including=True) > 0], default=0.0)


def concordance(risk, time, event, weight=None):
    good = all_of_them = 0.0
    for i in range(len(time)):
        for j in range(len(time)):
            before = time[i] < time[j] or (time[i] == time[j] and not event[j])
            if event[i] and before:
                w = 1.0 if weight is None else weight[i]
                all_of_them += w
                good += w * ((risk[i] > risk[j]) + (risk[i] == risk[j]) / 2)
    return good / all_of_them if all_of_them else math.nan


def uno(risk, time, event, train, tau=math.inf):
    g = watched(*train)
    tau = min(tau, last_watched(*train), max(time))
    weight = [
        1 / g(t, including=False) ** 2 if e and t <= tau else 0.0
        for t, e in zip(time, event, strict=True)
    ]
    return concordance(risk, time, event, weight)


def auc(risk, time, event, t, train):
    g = watched(*train)
    if t > last_watched(*train):
        return math.nan
    good = all_of_them = 0.0
    for i in range(len(time)):
        for j in range(len(time)):
            if event[i] and time[i] <= t < time[j]:
                w = 1 / g(time[i], including=False)
                all_of_them += w
                good += w * ((risk[i] > risk[j]) + (risk[i] == risk[j]) / 2)
    return good / all_of_them if all_of_them else math.nan


def brier(survival, time, event, t, train):
    g = watched(*train)
    if t > last_watched(*train):
        return math.nan
    total = 0.0
    for s, u, e in zip(survival, time, event, strict=True):
        if u <= t and e:
            total += s**2 / g(u, including=False)
        elif u > t:
            total += (1 - s) ** 2 / g(t, including=True)
    return total / len(time)


def integrated_brier(survival, time, event, times, train):
    scores = [
        (t, brier([row[k] for row in survival], time, event, t, train))
        for k, t in enumerate(times)
        if t <= max(time)
    ]
    scores = [(t, score) for t, score in scores if not math.isnan(score)]
    area = sum((t1 - t0) * (s0 + s1) / 2 for (t0, s0), (t1, s1) in pairwise(scores))
    return area / (scores[-1][0] - scores[0][0])
