"""`python -m bench.scale`: measure what a task and a worker cost on PostgreSQL, and compute the first bottleneck.

`tasks`, `notices`, `crowd`, `processes` and `pooler` measure (a minute or two each, crowd four) and keep
their figures in bench/results/scale.json; `simulation` and `model` compute from those. Without a name: all of them.
"""

from __future__ import annotations

import argparse
import json
import logging
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import structlog

from bench import machine
from bench.report import RESULTS
from bench.scale import crowd, notices, pooler, processes, show, tasks
from bench.stores import DISK

KEPT = RESULTS / "scale.json"
MEASURES: dict[str, Callable[[], Any]] = {
    "tasks": tasks.measure,
    "notices": notices.measure,
    "crowd": crowd.measure,
    "processes": processes.measure,
    "pooler": pooler.measure,
}
COMPUTED: dict[str, Callable[[dict[str, Any]], str]] = {"simulation": show.simulation_of, "model": show.model}


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench.scale", description=__doc__)
    parser.add_argument("parts", nargs="*", metavar="PART", choices=[*MEASURES, *COMPUTED, []], help="see above")
    return parser.parse_args()


def main() -> int:
    """Run the parts and store their figures."""
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.WARNING))
    for part in _arguments().parts or [*MEASURES, *COMPUTED]:
        kept: dict[str, Any] = json.loads(KEPT.read_text()) if KEPT.exists() else {}
        if part in COMPUTED:
            print(COMPUTED[part](kept), flush=True)
            continue
        start, about = time.monotonic(), machine.describe(Path(DISK))
        kept[part] = MEASURES[part]()
        kept[part]["taken"] = {name: about[name] for name in ("commit", "cpu", "cores", "load_average", "fdatasync_ms")}
        print(f"\n{part} ({time.monotonic() - start:.0f} s)\n{show.figures(kept[part])}", flush=True)
        RESULTS.mkdir(exist_ok=True)
        KEPT.write_text(json.dumps(_rounded(kept), indent=1) + "\n")
    return 0


def _rounded(value: Any) -> Any:
    """Return the figures rounded to four digits: the rest is noise."""
    if isinstance(value, dict):
        return {str(name): _rounded(one) for name, one in value.items()}
    if isinstance(value, list):
        return [_rounded(one) for one in value]
    return float(f"{value:.4g}") if isinstance(value, float) else value


if __name__ == "__main__":
    sys.exit(main())
