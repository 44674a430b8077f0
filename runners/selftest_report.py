# SPDX-License-Identifier: Apache-2.0
"""The self-test as one self-contained HTML page."""

from collections.abc import Sequence
from pathlib import Path

import jinja2
import torch
from markupsafe import Markup

from voxelboard.benchmark.environment import Stopwatch, describe_environment
from voxelboard.benchmark.errors import UserError
from voxelboard.benchmark.protocol import V1
from voxelboard.benchmark.selftest.findings import Finding
from voxelboard.leaderboard import render as board

_PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>Self-test · voxelboard</title>
<style>{{ css }}
tr.group b { color: var(--ink); font-size: 1rem; }
td, th { vertical-align: top; }</style>
</head>
<body class="page">
<div class="band" role="note">{% if real %}Real data: {{ real }}{% else %}Simulated data – not a scientific result{% endif %}</div>
<main class="wrap">
<div class="hero">
<h1>{{ n_passed }} of {{ findings|length }} invariants hold</h1>
<p class="lead">{% if real %}Real responses and features that cannot predict them, taken{% else %}Worlds with a planted truth,
taken{% endif %} through the code that real scores go through. Each row is a measured figure and its bound; “±” is what
chance may add at this number of simulations. “Teeth” is the figure of a measurement that is broken on purpose: the check
would see it.</p>
</div>
<dl class="facts">
<div><dt>Form</dt><dd>{{ "full" if full else "quick" }}</dd></div>
<div><dt>Seed</dt><dd>{{ seed }}</dd></div>
<div><dt>Seconds</dt><dd>{{ "%.0f"|format(seconds) }}</dd></div>
<div><dt>Written</dt><dd>{{ environment.started_at[:10] }} <small>{{ environment.started_at[11:16] }} UTC</small></dd></div>
<div><dt>Protocol</dt><dd>{{ protocol.name }} <small>{{ protocol.hash_of("narrative")[:12] }}</small></dd></div>
</dl>
<section>
<h2>Invariants</h2>
<div class="scroll">
<table>
<thead><tr><th>Id</th><th>What</th><th class="n">Measured</th><th>Bound</th><th>Holds</th><th class="n">Seconds</th></tr></thead>
<tbody>
{% for finding in findings %}
<tr class="group"><th>{{ finding.id }}</th><th><b>{{ finding.title }}</b><br>{{ finding.n }}</th><th></th><th>{{ finding.bound }}</th>
<th>{{ "yes" if finding.passed else "no" }}</th><th class="n">{{ "%.1f"|format(finding.seconds) }}</th></tr>
{% for figure in finding.figures %}
<tr><td></td><td>{{ figure.name }}</td><td class="n">{{ "%.3g"|format(figure.value) }}</td><td>{{ figure.bound }}</td>
<td{% if not figure.passed %} class="state failed"{% endif %}>{{ "yes" if figure.passed else "NO" }}</td><td></td></tr>
{% endfor %}
{% if finding.stopped %}
<tr><td></td><td colspan="5" class="state failed">{{ finding.stopped }}</td></tr>
{% endif %}
{% endfor %}
</tbody>
</table>
</div>
</section>
<section>
<h2>Versions</h2>
<p class="sub">{% for name, version in environment.versions.items() %}{{ name }} {{ version }}{{ ", " if not loop.last }}{% endfor %};
commit {{ environment.git_commit or "unknown" }}{{ " with changes" if environment.git_dirty }};
{{ environment.n_threads }} threads. Reproduce: <code>voxelboard selftest{{ " --real " ~ real if real }}{{ " --full" if full }} --seed {{ seed }}</code></p>
</section>
</main>
</body>
</html>
"""


def write_report(target: Path, findings: Sequence[Finding], *, full: bool, seed: int, real: str | None = None) -> None:
    """Write the page of one run; ``real`` names the data set when the worlds were not simulated.

    Raises
    ------
    UserError
        when the file cannot be written.
    """
    environment = jinja2.Environment(autoescape=True, trim_blocks=True, undefined=jinja2.StrictUndefined)
    css = (Path(board.__file__).parent / "static" / "board.css").read_text(encoding="utf-8")
    page = environment.from_string(_PAGE).render(
        css=Markup(css),  # noqa: S704  our own file
        findings=findings,
        n_passed=sum(finding.passed for finding in findings),
        seconds=sum(finding.seconds for finding in findings),
        full=full,
        seed=seed,
        real=real,
        protocol=V1,
        environment=describe_environment(Stopwatch(), torch.device("cpu"), "auto"),
    )
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(page, encoding="utf-8")
    except OSError as error:
        raise UserError(
            f"cannot write the report {target}: {error.strerror or error}", "choose another --report", exit_code=3
        ) from error
