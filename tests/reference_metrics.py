"""The metrics as their definitions read, in plain Python: slow, and easy to believe.

A row of recommendations is (user, item, rank or score); one of truth (user, item, relevance). A list is
what a user sees, in order; `rel` is the relevance by item of those that are relevant.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import combinations, permutations, product
from typing import Any

Rel = Mapping[Any, float]
List = Sequence[Any]

# --- lists and truth -----------------------------------------------------------------------------------


def lists_by_rank(rows: Iterable[tuple[Any, Any, int]]) -> dict[Any, list[Any]]:
    """Each user's items in order of rank, of one rank in order of id; each where it stands first."""
    lists: dict[Any, list[Any]] = {}
    for user, item, _ in sorted(rows, key=lambda row: (row[2], row[1])):
        mine = lists.setdefault(user, [])
        if item not in mine:
            mine.append(item)
    return lists


def lists_by_score(rows: Iterable[tuple[Any, Any, float]]) -> dict[Any, list[Any]]:
    """Each user's items in descending order of score, of one score in order of id."""
    return lists_by_rank([(user, item, -score) for user, item, score in rows])  # type: ignore[misc]


def relevant(rows: Iterable[tuple[Any, Any, float]]) -> dict[Any, dict[Any, float]]:
    """Each user's relevant items; a user without one is there, empty."""
    truth: dict[Any, dict[Any, float]] = {}
    for user, item, relevance in rows:
        mine = truth.setdefault(user, {})
        if relevance > 0:
            mine[item] = max(relevance, mine.get(item, 0))
    return truth


def repeats_above(rows: Iterable[tuple[Any, Any, int]], depth: int) -> int:
    """Rows passed over, walking down each list until it has `depth` items, as their item was there."""
    passed, seen = 0, dict[Any, set[Any]]()
    for user, item, _ in sorted(rows, key=lambda row: (row[2], row[1])):
        mine = seen.setdefault(user, set())
        passed += item in mine and len(mine) < depth
        mine.add(item)
    return passed


def lists_with_gaps(rows: Iterable[tuple[Any, Any, int]], depth: int) -> int:
    """Lists whose first `depth` items do not stand at ranks that follow each other."""
    gaps, last, seen = set[Any](), dict[Any, int](), dict[Any, set[Any]]()
    for user, item, rank in sorted(rows, key=lambda row: (row[2], row[1])):
        mine = seen.setdefault(user, set())
        if item not in mine and len(mine) < depth and rank > last.get(user, rank) + 1:
            gaps.add(user)
        mine.add(item)
        last[user] = rank
    return len(gaps)


# --- accuracy: one user, who has at least one relevant item ----------------------------------------------


def dcg(gains: Iterable[float]) -> float:
    return sum(gain / math.log2(rank + 1) for rank, gain in enumerate(gains, start=1))


def ndcg(
    items: List, rel: Rel, k: int, gain: Callable[[float], float] = lambda g: float(g > 0)
) -> float:
    best = sorted((gain(g) for g in rel.values()), reverse=True)
    return dcg(gain(rel.get(item, 0)) for item in items[:k]) / dcg(best[:k])


def ndcg_graded(items: List, rel: Rel, k: int) -> float:
    return ndcg(items, rel, k, lambda g: g)


def ndcg_exp(items: List, rel: Rel, k: int) -> float:
    return ndcg(items, rel, k, lambda g: 2**g - 1)


def n_hits(items: List, rel: Rel, k: int) -> int:
    return sum(item in rel for item in items[:k])


def hr(items: List, rel: Rel, k: int) -> float:
    return float(n_hits(items, rel, k) > 0)


def recall(items: List, rel: Rel, k: int) -> float:
    return n_hits(items, rel, k) / len(rel)


def recall_capped(items: List, rel: Rel, k: int) -> float:
    return n_hits(items, rel, k) / min(k, len(rel))


def precision(items: List, rel: Rel, k: int) -> float:
    return n_hits(items, rel, k) / k


def f1(items: List, rel: Rel, k: int) -> float:
    p, r = precision(items, rel, k), recall(items, rel, k)
    return 2 * p * r / (p + r) if p + r else 0.0


def mrr(items: List, rel: Rel, k: int) -> float:
    return next((1 / rank for rank, item in enumerate(items[:k], start=1) if item in rel), 0.0)


def map_(items: List, rel: Rel, k: int) -> float:
    at = [rank for rank, item in enumerate(items[:k], start=1) if item in rel]
    return sum(precision(items, rel, rank) for rank in at) / min(k, len(rel))


def r_precision(items: List, rel: Rel, k: int) -> float:
    return n_hits(items, rel, len(rel)) / len(rel)


def rbp(items: List, rel: Rel, k: int, p: float = 0.8) -> float:
    return (1 - p) * sum(p ** (rank - 1) for rank, i in enumerate(items[:k], start=1) if i in rel)


ACCURACY: dict[str, Callable[[List, Rel, int], float]] = {
    "ndcg": ndcg,
    "ndcg_graded": ndcg_graded,
    "ndcg_exp": ndcg_exp,
    "hr": hr,
    "recall": recall,
    "recall_capped": recall_capped,
    "precision": precision,
    "f1": f1,
    "mrr": mrr,
    "map": map_,
    "r_precision": r_precision,
    "rbp": rbp,
}


def every_order(scored: Mapping[Any, float]) -> list[list[Any]]:
    """Every list that items of these scores can stand in."""
    scores = sorted(set(scored.values()), reverse=True)
    groups = [[item for item in scored if scored[item] == score] for score in scores]
    return [
        [item for group in order for item in group]
        for order in product(*(permutations(group) for group in groups))
    ]


def auc(scored: Mapping[Any, float], rel: Rel) -> float:
    """How often a relevant item of the list scores higher than another of it; a tie is half."""
    pairs = [
        (scored[item] > scored[other]) + (scored[item] == scored[other]) / 2
        for item in scored
        for other in scored
        if item in rel and other not in rel
    ]
    return sum(pairs) / len(pairs) if pairs else math.nan


# --- beyond accuracy -------------------------------------------------------------------------------------


def exposure(lists: Mapping[Any, List], k: int) -> Counter[Any]:
    return Counter(item for items in lists.values() for item in items[:k])


def coverage(lists: Mapping[Any, List], catalogue: set[Any], k: int) -> float:
    return len(set(exposure(lists, k)) & catalogue) / len(catalogue)


def gini(lists: Mapping[Any, List], catalogue: set[Any], k: int) -> float:
    """Half the mean difference between two items' exposures, over the mean exposure."""
    x = [exposure(lists, k)[item] for item in catalogue]
    if not sum(x):
        return math.nan
    return sum(abs(a - b) for a in x for b in x) / (2 * len(x) * sum(x))


def entropy(lists: Mapping[Any, List], k: int) -> float:
    counts = exposure(lists, k)
    total = sum(counts.values())
    return -sum(n / total * math.log2(n / total) for n in counts.values())


def mean(values: Iterable[float]) -> float:
    listed = list(values)
    return sum(listed) / len(listed) if listed else math.nan


def short_head(popularity: Mapping[Any, int], share: float) -> set[Any]:
    head: set[Any] = set()
    for item in sorted(popularity, key=lambda i: (-popularity[i], i)):
        if sum(popularity[i] for i in head) >= share * sum(popularity.values()):
            break
        head.add(item)
    return head


def cosine_distance(a: Sequence[float], b: Sequence[float]) -> float:
    dot = sum(x * y for x, y in zip(a, b, strict=True))
    return 1 - dot / math.sqrt(sum(x * x for x in a) * sum(y * y for y in b))


def jaccard_distance(a: set[str], b: set[str]) -> float:
    return 1 - len(a & b) / len(a | b)


def intra_list(
    items: List, known: Mapping[Any, Any], distance: Callable[[Any, Any], float]
) -> float:
    return mean(
        distance(known[a], known[b]) for a, b in combinations([i for i in items if i in known], 2)
    )


def serendipity(
    items: List,
    rel: Rel,
    history: set[Any],
    known: Mapping[Any, Any],
    distance: Callable[[Any, Any], float],
    k: int,
) -> float:
    before = [known[h] for h in history if h in known]
    hits = [item for item in items[:k] if item in rel]
    if not before or any(item not in known for item in hits):
        return math.nan
    return sum(min(distance(known[item], h) for h in before) for item in hits) / k


def miscalibration(items: List, history: set[Any], categories: Mapping[Any, set[str]]) -> float:
    def distribution(of: Iterable[Any]) -> dict[str, float]:
        weights: Counter[str] = Counter()
        for item in of:
            for category in categories.get(item, ()):
                weights[category] += 1 / len(categories[item])  # type: ignore[assignment]
        return {category: w / sum(weights.values()) for category, w in weights.items()}

    p, q = distribution(history), distribution(items)
    if not p or not q:
        return math.nan
    return sum(p[c] * math.log(p[c] / (0.99 * q.get(c, 0) + 0.01 * p[c])) for c in p)


# --- predictions -----------------------------------------------------------------------------------------


def expected_calibration_error(probability: Sequence[float], truth: Sequence[int]) -> float:
    rows, error = list(zip(probability, truth, strict=True)), 0.0
    for b in range(15):
        inside = [(p, y) for p, y in rows if b / 15 < p <= (b + 1) / 15 or (b == 0 and p == 0)]
        if inside:
            error += (
                len(inside)
                / len(rows)
                * abs(mean(p for p, _ in inside) - mean(y for _, y in inside))
            )
    return error
