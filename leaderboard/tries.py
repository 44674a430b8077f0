# SPDX-License-Identifier: Apache-2.0
"""What many submissions of one team are worth: is its best better than its next best by more than chance gives?

The best of many equal submissions gains by chance alone (statistics.md D5). Nothing is held back from the table, where ranks
already come from tests between all pairs; the page of a team's best entry says whether its lead over the team's next best
passes the margin of the Ladder (Blum & Hardt 2015), whatever the order of submission.
"""

from collections.abc import Sequence

from voxelboard.benchmark.statistics.adaptivity import best_of_nulls, ladder_margin
from voxelboard.benchmark.statistics.intervals import two_way_interval
from voxelboard.leaderboard.board import Entry, Tries
from voxelboard.leaderboard.rows import Candidate, headline_table


def team_of(entry: Entry) -> str:
    """``org`` of ``org/name``."""
    return entry.submission.partition("/")[0]


def tries_by_entry(entrants: Sequence[Candidate], subjects: Sequence[str]) -> dict[Entry, Tries]:
    """For every ranked entry what its team tried; ``entrants`` are complete on all ``subjects``."""
    teams: dict[str, list[Candidate]] = {}
    for candidate in entrants:
        teams.setdefault(team_of(candidate.entry), []).append(candidate)
    found = {}
    for team, mine in teams.items():
        n = len(mine)
        tables = {candidate.entry: headline_table(candidate, subjects) for candidate in mine}
        order = sorted(tables, key=lambda entry: (-float(tables[entry].mean()), entry))
        for entry in order:
            found[entry] = Tries(team, n, best_of_nulls(n), None, None, None)
        if n > 1:
            best, second = order[:2]
            lead = two_way_interval(tables[best] - tables[second])
            margin = ladder_margin(lead.se, n, df=lead.df)
            found[best] = Tries(team, n, best_of_nulls(n), second, lead, margin)
    return found
