"""Mutation testing: which changes of the code does no test notice? Every one in a rule is a missing test.

    python benchmarks/mutation.py                       # all modules; resumable: run it again to go on
    python benchmarks/mutation.py --only engine.policy  # modules whose name this expression finds
    python benchmarks/mutation.py --survivors           # tests were only added: run the survivors again
    python benchmarks/mutation.py --report              # run nothing, write the result from what there is

cosmic-ray makes the mutants. Each is tested in a fork of this process (forked_tests.py) by the test files of its
own module, up to the first failure; what only a test of another module would notice counts as survived. A timeout,
a crash and a failed import count as killed. There are two groups: all mutants of the pure modules, and a sample
drawn over the rest of `engine/` and `store/`. Not counted: LEFT_OUT in mutants.py. cosmic-ray has no operators for
strings, keyword arguments and whole statements. Mutants that change no behaviour stand in equivalent_mutants.toml
with the reason and are counted separately.
"""

import argparse
import json
import os
import re
import sys
import tomllib
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from cosmic_ray.work_db import WorkDB
from cosmic_ray.work_item import TestOutcome, WorkerOutcome, WorkItem, WorkResult

from forked_tests import Replacement, preload, run_forked, stale_modules
from mutants import LEFT_OUT, Target, changed_lines, drawn, left_out, mutated, open_session
from result_file import RESULTS, Figure, write_result

ROOT = Path(__file__).resolve().parents[1]
EQUIVALENT = Path(__file__).with_name("equivalent_mutants.toml")
PACKAGES = {
    "sfsc_bundle": ROOT / "bundle",
    "sfsc_service": ROOT / "service",
    "sfsc_training": ROOT / "training",
}
SEED, SAMPLE = 20261127, 300
GOAL = ">= 90"

_BATCHER = ("engine/test_batcher", "engine/test_watchdog", "engine/test_deadlines", "engine/test_hanging")
_STORE = ("store/test_contract.py", "store/embedded/test_write_queue", "store/embedded/test_images")
_INDEX = ("store/embedded/test_vector_index", "store/embedded/test_segments")
_OPENING = ("store/embedded/test_opening", "store/embedded/test_folder")
_APPROXIMATE = ("store/embedded/test_approximate",)
_DAMAGE = ("store/embedded/test_damage", "store/embedded/test_segments", "store/embedded/test_flips")
_FILTERS = ("store/filters/test_language", "store/filters/test_semantics")
_SERVICE = {
    "engine.policy": ("engine/test_policy",),
    "engine.queue": ("engine/test_queue",),
    "engine.costs": ("engine/test_costs_exact", "engine/test_costs"),
    "engine.batch_plan": ("engine/test_batch_plan_exact", "engine/test_batch_plan", "engine/test_scheduler"),
    "store.filters.language": _FILTERS,
    "store.filters.operands": _FILTERS,
    "store.filters.sql": _FILTERS,
}
_SAMPLED = {
    "engine.arrival": ("engine/test_deadlines", "http/test_embed"),
    "engine.batch_problems": _BATCHER,
    "engine.batcher": _BATCHER,
    "engine.blocking_calls": ("engine/test_blocking_calls", "engine/test_threads"),
    "engine.cost_file": ("engine/test_cost_file",),
    "engine.decoding": ("engine/test_decoding", "engine/test_blocking_calls", "engine/test_deadlines"),
    "engine.embedder": (
        "engine/test_embedder",
        "engine/test_deadlines",
        "engine/test_hanging",
        "http/test_embed",
        "http/test_search",
    ),
    "engine.malloc": ("engine/test_malloc",),
    "engine.networks": ("engine/test_networks", "engine/test_hanging", "http/test_embed"),
    "engine.scheduler": ("engine/test_scheduler_exact", "engine/test_scheduler"),
    "engine.served_bundle": ("engine/test_served_bundle", "engine/test_deadlines", "http/test_embed"),
    "engine.threads": ("engine/test_threads",),
    "engine.worker_pool": _BATCHER,
    "store.in_flight": _STORE,
    "store.errors": ("store/test_contract.py", "http/test_bad_input"),
    "store.validation": ("store/test_contract.py", "http/test_bad_input"),
    "store.embedded.acknowledged": (*_OPENING, "store/embedded/test_flips"),
    "store.embedded.changes": _STORE,
    "store.embedded.committer": (*_STORE, "store/embedded/test_segments", "store/embedded/test_damage"),
    "store.embedded.conversion": ("store/embedded/test_conversion",),
    "store.embedded.damage": _DAMAGE,
    "store.embedded.images": ("store/embedded/test_images",),
    "store.embedded.lock": _OPENING,
    "store.embedded.merger": ("store/embedded/test_segments",),
    "store.embedded.opening": (*_OPENING, "store/embedded/test_flips"),
    "store.embedded.reads": ("store/embedded/test_reads", "store/embedded/test_exactness", *_DAMAGE, *_STORE),
    "store.embedded.recovery": ("store/embedded/test_segments", *_OPENING),
    "store.embedded.rwlock": ("store/embedded/test_rwlock", "store/test_concurrency"),
    "store.embedded.store": _STORE,
    "store.embedded.verification": _DAMAGE,
    "store.embedded.write_queue": _STORE,
    "store.embedded.index.approximate": _APPROXIMATE,
    "store.embedded.index.faiss_rows": (*_INDEX, "store/embedded/test_folder", *_STORE),
    "store.embedded.index.growable_array": (*_INDEX, *_STORE),
    "store.embedded.index.quantised_rows": (
        "store/embedded/test_quantised_rows",
        "store/embedded/test_approximate",
    ),
    "store.embedded.index.threads": (*_INDEX, "engine/test_threads"),
    "store.embedded.index.vector_index": (*_INDEX, *_STORE),
    "store.embedded.index.vector_rows": (*_INDEX, *_STORE),
    "store.embedded.segments.folder": ("store/embedded/test_segments", "store/embedded/test_flips"),
    "store.embedded.segments.format": ("store/embedded/test_segments",),
    "store.embedded.segments.log": ("store/embedded/test_segments", "store/embedded/test_flips"),
    "store.embedded.segments.merge_plan": ("store/embedded/test_segments",),
    "store.embedded.segments.segment": ("store/embedded/test_segments",),
    "store.embedded.sqlite.reader": (*_STORE, "store/embedded/test_damage"),
    "store.embedded.sqlite.row_checksum": ("store/embedded/test_damage",),
    "store.embedded.sqlite.schema": (*_STORE, *_OPENING),
    "store.embedded.sqlite.schema_1": ("store/embedded/test_conversion",),
    "store.embedded.sqlite.writer": (*_STORE, *_OPENING, "store/embedded/test_log_size"),
}


def _of_service(table: Mapping[str, Sequence[str]]) -> dict[str, Sequence[str]]:
    return {f"sfsc_service.{name}": [f"tests/service/{at}" for at in tests] for name, tests in table.items()}


PURE: dict[str, Sequence[str]] = {
    "sfsc_bundle.retrieval": ("tests/bundle/test_retrieval",),
    **_of_service(_SERVICE),
    **{
        f"sfsc_training.aggregation.{name}": ("tests/training/**/test_aggregation",)
        for name in ("aggregate", "projection", "weights")
    },
    **{
        f"sfsc_training.losses.{name}": ("tests/training/**/test_losses", "tests/training/**/test_evidential")
        for name in ("base", "classifier", "distillation", "evidential", "objective", "simplex", "triplet")
    },
}
"""Module → how the test files that should notice a change of it begin, quick ones first."""

REST = _of_service(_SAMPLED)
"""The same for the modules that are sampled."""


def main() -> None:
    """Run what has not been run, print, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default="", help="modules whose name this regular expression finds")
    parser.add_argument("--survivors", action="store_true", help="tests were only added: take over older kills")
    parser.add_argument("--report", action="store_true", help="run nothing")
    parser.add_argument("--sessions", type=Path, default=ROOT / ".mutation", help="where sessions are kept")
    parser.add_argument("--before", type=Path, help="result file of an earlier commit, to stand beside this one")
    parser.add_argument("--name", default="mutation", help="of the result file")
    arguments = parser.parse_args()
    os.chdir(ROOT)
    if missing := unlisted():
        parser.error(f"say in PURE or REST which tests should notice a change of {', '.join(missing)}")
    os.nice(10)
    groups = {"pure modules": (PURE, None), "sample of engine and store": (REST, SAMPLE)}
    reports = {}
    for group, (table, count) in groups.items():
        targets = [target(module, patterns) for module, patterns in table.items()]
        sessions = {
            each: open_session(each, arguments.sessions, survivors=arguments.survivors) for each in targets
        }
        jobs = drawn(sessions, count, SEED)
        for each in targets:
            if not arguments.report and re.search(arguments.only, each.module):
                run(each, sessions[each], jobs)
        reports[group] = [report(each, sessions[each], jobs) for each in targets]
    if not arguments.only:
        figures = [figure(group, rows) for group, rows in reports.items()]
        figures += [figure(row["module"], [row]) for row in reports["pure modules"]]
        data = {"left out": LEFT_OUT, "before": before(arguments.before, arguments.name), **reports}
        print(write_result(arguments.name, figures, data, seed=SEED))


def before(earlier: Path | None, name: str) -> dict[str, Any] | None:
    """The numbers of an earlier commit: of its result, or those that the present result has of it."""
    if earlier is None:
        present = RESULTS / f"{name}.json"
        kept: dict[str, Any] | None = (
            json.loads(present.read_text())["data"]["before"] if present.is_file() else None
        )
        return kept
    result = json.loads(earlier.read_text())
    modules = {
        group: {row["module"]: {key: row[key] for key in ("drawn", "tested", "killed")} for row in rows}
        for group, rows in result["data"].items()
        if isinstance(rows, list)
    }
    return {"commit": result["commit"], "date": result["date"], **modules}


def unlisted() -> list[str]:
    """Modules of engine/ and store/ that neither table has."""
    service = PACKAGES["sfsc_service"]
    paths = [path for wing in ("engine", "store") for path in (service / "sfsc_service" / wing).rglob("*.py")]
    names = [".".join(path.relative_to(service).with_suffix("").parts) for path in sorted(paths)]
    return [
        name for name in names if not name.endswith(("__init__", "store.protocol")) and name not in PURE | REST
    ]


def target(module: str, patterns: Sequence[str]) -> Target:
    """A module with its test files. Raises SystemExit where a pattern has none."""
    folder = PACKAGES[module.partition(".")[0]]
    tests: list[Path] = []
    for pattern in patterns:
        found = sorted(ROOT.glob(pattern if pattern.endswith(".py") else f"{pattern}*.py"))
        if not found:
            sys.exit(f"{module}: no test file begins with {pattern}; correct the table in benchmarks/mutation.py")
        tests += found
    return Target(module, folder / Path(*module.split(".")).with_suffix(".py"), tuple(dict.fromkeys(tests)))


def run(each: Target, session: WorkDB, jobs: set[str]) -> None:
    """Test every mutant of a module that is drawn and has no result yet."""
    pending = sorted((item for item in session.pending_work_items if item.job_id in jobs), key=_place)
    if not pending:
        return
    tests = [str(path.relative_to(ROOT)) for path in each.tests]
    first = preload(tests, list(PACKAGES))
    usual = run_forked(tests, 900.0)
    if usual.code != 0:
        sys.exit(
            f"{each.module}: its tests must pass before anything is mutated, found: {usual.last or first.last}"
        )
    timeout_s = 5 + 3 * usual.seconds
    print(f"{each.module}: {len(pending)} mutants, its tests take {usual.seconds:.1f} s", flush=True)
    source, stale = each.source, stale_modules(each.module, list(PACKAGES))
    for done, item in enumerate(pending, 1):
        (mutation,) = item.mutations
        text = mutated(source, mutation)
        outcome = run_forked(tests, timeout_s, Replacement(each.module, text, stale))
        survived = outcome.code == 0
        why = "timeout" if outcome.code is None else outcome.last
        session.set_result(
            item.job_id,
            WorkResult(
                WorkerOutcome.NORMAL,
                why,
                TestOutcome.SURVIVED if survived else TestOutcome.KILLED,
                "\n".join(changed_lines(source, text)),
            ),
        )
        if survived:
            print(f"  {done}/{len(pending)} survived, line {mutation.start_pos[0]}", flush=True)


def _place(item: WorkItem) -> tuple[int, int, str]:
    (mutation,) = item.mutations
    return (*mutation.start_pos, mutation.operator_name)


def report(each: Target, session: WorkDB, jobs: set[str]) -> dict[str, Any]:
    """One module's numbers and its survivors."""
    known, cause = equivalents(each.module), left_out(each.source)
    causes = Counter(why for item in session.work_items if (why := cause(item.mutations[0])) is not None)
    killed, survivors = 0, []
    for item, result in sorted(session.completed_work_items, key=lambda pair: _place(pair[0])):
        if item.job_id not in jobs:
            continue
        if result.test_outcome is TestOutcome.SURVIVED:
            change = tuple((result.diff or "").splitlines())
            (mutation,) = item.mutations
            survivors.append(
                {
                    "line": mutation.start_pos[0],
                    "in": mutation.definition_name,
                    "change": change,
                    "equivalent": known.get(change),
                }
            )
        else:
            killed += 1
    return {
        "module": each.module,
        "drawn": sum(item.job_id in jobs for item in session.work_items),
        "tested": killed + len(survivors),
        "killed": killed,
        "equivalent": sum(each["equivalent"] is not None for each in survivors),
        "left out": dict(causes),
        "survivors": survivors,
    }


def equivalents(module: str) -> Mapping[tuple[str, ...], str]:
    """Changed lines → why they change no behaviour."""
    known: dict[tuple[str, ...], str] = {}
    for entry in tomllib.loads(EQUIVALENT.read_text()).get(module, []):
        changes = [(f"- {entry['line']}", f"+ {line}") for line in entry.get("becomes", [])]
        removals = [tuple(f"- {line}" for line in lines) for lines in entry.get("removed", [])]
        known |= dict.fromkeys([*changes, *removals], entry["why"])
    return known


def figure(name: str, rows: Sequence[Mapping[str, Any]]) -> Figure:
    """The share killed of all that change behaviour; no goal and a name that says so while some are not tested."""
    drawn, tested, killed, equivalent = (
        sum(row[key] for row in rows) for key in ("drawn", "tested", "killed", "equivalent")
    )
    value = round(100 * killed / max(1, tested - equivalent), 1)
    if tested < drawn:
        return Figure(f"mutants killed, {name}: only {tested} of {drawn} tested", value, "%")
    return Figure(f"mutants killed, {name}", value, "%", GOAL)


if __name__ == "__main__":
    main()
