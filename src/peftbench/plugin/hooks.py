"""The hooks and fixtures of the pytest plugin. They call other modules and decide nothing."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, Any, Final

import pytest

from peftbench.config.options import Option, Question, flag_name
from peftbench.config.retired import KeepSpelling, refuse_misspelled, refuse_spelled, spellings
from peftbench.config.settings import options
from peftbench.errors import UserError
from peftbench.plugin import assigned, collection, configfiles, hookspecs, marks
from peftbench.plugin.asked import refuse_deep
from peftbench.plugin.ending import reported_at_the_end, usage_errors
from peftbench.plugin.session import BenchSession
from peftbench.text import on_terminal

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator, Sequence
    from pathlib import Path

    from peftbench.plugin.fixture import PeftCase
    from peftbench.processes.launches.assignment import Assignment

SPELLED: Final = "peftbench_retired"
"""Where the spelling of a retired option is kept."""
BENCH: Final = pytest.StashKey[BenchSession]()


def pytest_addhooks(pluginmanager: pytest.PytestPluginManager) -> None:
    """Declare the hooks that add methods, tasks, models, workloads and anatomies."""
    pluginmanager.add_hookspecs(hookspecs)


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add each setting to the command line and to the ini file."""
    groups = {
        question: parser.getgroup(f"peftbench {question.name}", f"peftbench: {question}") for question in Question
    }
    for name, option in options().items():
        dest = configfiles.PREFIX + name
        groups[option.question].addoption(flag_name(name), dest=dest, default=None, **_way(option))
        parser.addini(dest, help=option.help, default=None, aliases=[dest.replace("_", "-")])
    hidden = parser.getgroup("peftbench")
    hidden.addoption(*spellings(flag_name("")), dest=SPELLED, action=KeepSpelling, nargs="?", help=argparse.SUPPRESS)
    hidden.addoption(flag_name(assigned.ASSIGNMENT), dest=assigned.DESTINATION, default=None, help=argparse.SUPPRESS)


def _way(option: Option) -> dict[str, Any]:
    """Return the keyword arguments with which argparse adds an option."""
    text = option.help.replace("%", "%%")
    if option.flag:
        return {"help": text, "action": "store_const", "const": "true"}
    return {"help": text, "metavar": option.metavar, "action": "append" if option.repeats else "store"}


def pytest_load_initial_conftests(args: list[str]) -> None:
    """Refuse an option that does not exist with the nearest one, which pytest's own error does not name."""
    with usage_errors():
        refuse_misspelled(args, hidden=[flag_name(assigned.ASSIGNMENT)])


@pytest.hookimpl(tryfirst=True)
def pytest_cmdline_main(config: pytest.Config) -> None:
    """In a child, switch off the options that only the parent follows."""
    if config.getoption(assigned.DESTINATION):
        assigned.quieten(config)


def pytest_configure(config: pytest.Config) -> None:
    """Create the session's state, and check the settings if there are any."""
    config.addinivalue_line("markers", marks.HELP)
    given = {name: config.getoption(f"peftbench_{name}") for name in options()}
    file = config.getoption(assigned.DESTINATION)
    with usage_errors():
        refuse_deep("-k", config.option.keyword)
        refuse_deep("-m", config.option.markexpr)
        if spelled := config.getoption(SPELLED):
            refuse_spelled(spelled, flag_name(""))
        ini, table = configfiles.pytest_values(config), configfiles.own_table(config.rootpath)
        own = assigned.assignment(file) if file else None
        bench = config.stash[BENCH] = BenchSession(config, [given, ini, table], own)
        if own or table or any(value for source in (given, ini) for value in source.values()):
            for part in _parts(bench, own):
                config.pluginmanager.register(part)
            bench.check()


@pytest.hookimpl(wrapper=True)
def pytest_collect_file(
    file_path: Path, parent: pytest.Collector
) -> Generator[None, list[pytest.Collector], list[pytest.Collector]]:
    """Where benchmarks are asked for, collect files of them that pytest passes over because of their names."""
    found = yield
    if collection.asks_for_benchmarks(parent.config) and not any(isinstance(one, pytest.Module) for one in found):
        with usage_errors():
            if collection.is_benchmark_file(file_path):
                make = parent.session.gethookproxy(file_path).pytest_pycollect_makemodule
                found.append(make(module_path=file_path, parent=parent))
    return found


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Give each benchmark function its cases."""
    if collection.FIXTURE in metafunc.fixturenames:
        try:
            mark = marks.CaseMark.of(metafunc.definition.get_closest_marker(marks.NAME))
            named = collection.is_named(metafunc.config, metafunc.definition.path)
            cases = metafunc.config.stash[BENCH].cases(mark, named=named)
            collection.remember_workload(metafunc.config, mark.workload)
        except UserError as error:
            raise pytest.Collector.CollectError(
                on_terminal(f"peftbench: {metafunc.function.__name__}: {error}")
            ) from error
        words = collection.remember(metafunc.config, cases)
        metafunc.parametrize(collection.FIXTURE, words, ids=words, indirect=True)


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Deselect functions whose workload is not selected, and put the cases of a group together."""
    items[:], others = collection.arrange(items)
    if others:
        config.hook.pytest_deselected(items=others)


def pytest_deselected(items: Sequence[pytest.Item]) -> None:
    """Remember which cases exist without being run."""
    if items:
        items[0].config.stash[BENCH].deselect(items)


def pytest_collection_finish(session: pytest.Session) -> None:
    """Check device, model, data and journal, before any model is built."""
    bench = session.config.stash[BENCH]
    planned = collection.planned(session.items)
    reporter = session.config.pluginmanager.get_plugin("terminalreporter")
    if collection.BENCHMARKED in session.config.stash and not session.config.getoption(assigned.DESTINATION):
        _tell_of_missing_functions(reporter, bench)
    if not planned or session.config.option.collectonly:
        return
    bench.collected(session.items)
    with usage_errors():
        mode = collection.mode(session.config)
        measuring = mode is collection.Mode.MEASURE
        here = not (measuring and bench.delegates)
        if here and mode is not collection.Mode.SKIP:
            bench.open(planned, measuring=measuring)
    if reporter is not None:
        from peftbench.matrix.ambiguity import ambiguities

        names = dict.fromkeys(name for _, case in planned for name in case.tasks)
        for line in ambiguities(bench.settings, bench.catalogue.models, map(bench.catalogue.task, names)):
            from peftbench.plugin.screen import write_line

            write_line(reporter, f"peftbench: {on_terminal(line)}")
    if reporter is not None and here and measuring:
        from peftbench.plugin.forecast import foreseen
        from peftbench.plugin.screen import write_line

        if line := foreseen(bench.backend, [case for _, case in planned]):
            write_line(reporter, f"peftbench: {line}")
        from peftbench.plugin.progress import Progress

        session.config.pluginmanager.register(Progress(reporter, session.items, bench), "peftbench-progress")


def _tell_of_missing_functions(reporter: pytest.TerminalReporter | None, bench: BenchSession) -> None:
    """Say which workloads were asked for and are measured by no function, since nothing else would tell."""
    if reporter is not None and (lacking := collection.without_function(reporter.config, bench.settings.workloads)):
        from peftbench.plugin.screen import write_line

        write_line(reporter, f"peftbench: {on_terminal(lacking)}")


@pytest.fixture
def peft_case(request: pytest.FixtureRequest, benchmark: Any) -> PeftCase:  # noqa: ANN401 - pytest-benchmark is untyped
    """One method on one task at one batch size; `peft_case.measure()` measures it."""
    from peftbench.plugin.fixture import PeftCase

    bench = request.config.stash[BENCH]
    mark = marks.CaseMark.of(request.node.get_closest_marker(marks.NAME))
    case = collection.case_of(request.node)
    assert case is not None  # noqa: S101 - for the type checker: this item asks for one
    return PeftCase(
        case=case,
        workload=bench.catalogue.workload(mark.workload),
        id=bench.id_of(request.node),
        node=request.node.nodeid,
        bench=bench,
        benchmark=benchmark,
    )


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Suppress pytest-benchmark's warning that a case without rounds has not used its fixture.

    A test that passes and has measured nothing keeps the warning: it would have no row, and nobody would be told.
    """
    report = yield
    found = getattr(item, "funcargs", {})
    if collection.case_of(item) and (benchmark := found.get("benchmark")) is not None:
        peft_case = found.get(collection.FIXTURE)
        benchmark.skipped = not report.passed or peft_case is None or peft_case.is_measured
    return report


@pytest.hookimpl(trylast=True)
def pytest_runtest_teardown(item: pytest.Item, nextitem: pytest.Item | None) -> None:
    """Release what the cases of a group share after the last of them."""
    case, following = collection.case_of(item), nextitem and collection.case_of(nextitem)
    if case and (not following or following.group != case.group):
        item.config.stash[BENCH].release()


@pytest.hookimpl(wrapper=True)
def pytest_terminal_summary(
    terminalreporter: pytest.TerminalReporter, config: pytest.Config
) -> Generator[None, object, object]:
    """Print the tables of results before those of pytest-benchmark, and the answer after them."""
    bench = config.stash[BENCH]
    if not bench.records:
        return (yield)
    from peftbench.plugin.conclusion import Conclusion

    conclusion = Conclusion(bench, terminalreporter, launched=bool(config.getoption(assigned.DESTINATION)))
    try:
        conclusion.before()
        return (yield)
    finally:  # pytest-benchmark raises an error where it finds a regression
        conclusion.after()


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Write the run to its files, even after an error."""
    bench = session.config.stash[BENCH]
    if bench.records:
        from peftbench.plugin.notes import provenance
        from peftbench.plugin.results import write_results

        for name, value in provenance(session.config.rootpath).items():
            bench.note(name, value)
        with reported_at_the_end(session):
            write_results(bench)


def pytest_unconfigure(config: pytest.Config) -> None:
    """Release the resources of the session."""
    if BENCH in config.stash:
        config.stash[BENCH].close()


def _parts(bench: BenchSession, own: Assignment | None) -> Iterator[object]:
    """Yield the plugins that only some runs need."""
    if own is not None or bench.delegates:
        from peftbench.plugin.child import Child
        from peftbench.plugin.parent import Parent

        yield Child(bench, own) if own else Parent(bench)
    if bench.settings.shard is not None:
        from peftbench.plugin.sharding import Sharding

        yield Sharding(bench, *bench.settings.shard)
