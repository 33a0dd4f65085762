"""The pytest plugin: hooks and fixtures that only wire."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, Any, Final

import pytest

from peftbench.config.settings import flag_name, options, refuse_unknown
from peftbench.errors import UserError
from peftbench.plugin import assigned, collection, hookspecs, marks
from peftbench.plugin.ending import reported_at_the_end, usage_errors
from peftbench.plugin.session import BenchSession
from peftbench.processes.launches.assignment import OPTION

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from peftbench.plugin.fixture import PeftCase
    from peftbench.processes.launches.assignment import Assignment

BENCH: Final = pytest.StashKey[BenchSession]()


def pytest_addhooks(pluginmanager: pytest.PytestPluginManager) -> None:
    """Declare the hooks by which others add methods, tasks, models and workloads."""
    pluginmanager.add_hookspecs(hookspecs)


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add each setting to the command line and to the ini file."""
    group = parser.getgroup("peftbench", "peftbench: what fine-tuning methods cost")
    for name, option in options().items():
        dest = f"peftbench_{name}"
        how: dict[str, Any] = {"action": "store_const", "const": "true"} if option.flag else {"metavar": option.metavar}
        group.addoption(flag_name(name), dest=dest, default=None, help=option.help.replace("%", "%%"), **how)
        parser.addini(dest, help=option.help, default=None, aliases=[dest.replace("_", "-")])
    group.addoption(OPTION, dest=assigned.DESTINATION, default=None, help=argparse.SUPPRESS)


@pytest.hookimpl(tryfirst=True)
def pytest_cmdline_main(config: pytest.Config) -> None:
    """Leave the user's files to the parent, in a child."""
    if config.getoption(assigned.DESTINATION):
        assigned.quieten(config)


def pytest_configure(config: pytest.Config) -> None:
    """Keep the state; check what was asked for, if anything was."""
    config.addinivalue_line("markers", marks.HELP)
    given = {name: config.getoption(f"peftbench_{name}") for name in options()}
    ini = {name: config.getini(f"peftbench_{name}") for name in options()}
    file = config.getoption(assigned.DESTINATION)
    with usage_errors():
        table = _pyproject_table(config)
        refuse_unknown(table)
        own = assigned.assignment(file) if file else None
        bench = config.stash[BENCH] = BenchSession(config, [given, ini, table], own)
        if own or table or any(value for source in (given, ini) for value in source.values()):
            for part in _parts(bench, own):
                config.pluginmanager.register(part)
            bench.check()


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Give each benchmark function its cases."""
    if "peft_case" in metafunc.fixturenames:
        try:
            mark = marks.CaseMark.of(metafunc.definition.get_closest_marker(marks.NAME))
            named = collection.is_named(metafunc.config, metafunc.definition.path)
            cases = metafunc.config.stash[BENCH].cases(mark, named=named)
        except UserError as error:
            raise pytest.Collector.CollectError(f"peftbench: {metafunc.function.__name__}: {error}") from error
        metafunc.parametrize("peft_case", cases, ids=[case.id for case in cases], indirect=True)


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Drop functions whose workload is not selected, and keep the cases of a group together."""
    items[:], others = collection.arrange(items)
    if others:
        config.hook.pytest_deselected(items=others)


def pytest_deselected(items: Sequence[pytest.Item]) -> None:
    """Remember which cases exist, though they are not run."""
    if items:
        items[0].config.stash[BENCH].deselect(items)


def pytest_collection_finish(session: pytest.Session) -> None:
    """Check device, model, data and journal, before any model is built."""
    bench = session.config.stash[BENCH]
    planned = collection.planned(session.items)
    if not planned or session.config.option.collectonly:
        return
    bench.collected(session.items)
    with usage_errors():
        mode = collection.mode(session.config)
        measuring = mode is collection.Mode.MEASURE
        here = not (measuring and bench.delegates)
        if here and mode is not collection.Mode.SKIP:
            bench.open(planned, measuring=measuring)
    reporter = session.config.pluginmanager.get_plugin("terminalreporter")
    if reporter is not None and here and measuring:
        from peftbench.plugin.progress import Progress

        session.config.pluginmanager.register(Progress(reporter, session.items), "peftbench-progress")


@pytest.fixture
def peft_case(request: pytest.FixtureRequest, benchmark: Any) -> PeftCase:  # noqa: ANN401 - pytest-benchmark is untyped
    """One method on one task at one batch size; `peft_case.measure()` measures it."""
    from peftbench.plugin.fixture import PeftCase

    bench = request.config.stash[BENCH]
    mark = marks.CaseMark.of(request.node.get_closest_marker(marks.NAME))
    return PeftCase(
        case=request.param,
        workload=bench.catalogue.workload(mark.workload),
        id=bench.id_of(request.node),
        bench=bench,
        benchmark=benchmark,
    )


@pytest.hookimpl(trylast=True)
def pytest_runtest_teardown(item: pytest.Item, nextitem: pytest.Item | None) -> None:
    """Let go of what the cases of a group share when the last of them is done."""
    case, following = collection.case_of(item), nextitem and collection.case_of(nextitem)
    if case and (not following or following.group != case.group):
        item.config.stash[BENCH].release()


@pytest.hookimpl(tryfirst=True)
def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """Print the table, before pytest-benchmark's own."""
    bench = config.stash[BENCH]
    if bench.records:
        from peftbench.report.terminal import render

        width = config.get_terminal_writer().fullwidth
        terminalreporter.section("peftbench")
        terminalreporter.write(render(bench.run(), width=width, color=terminalreporter.hasmarkup))


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Write the run to its files, whatever ended it."""
    bench = session.config.stash[BENCH]
    if bench.records:
        from peftbench.report.files import write_run

        with reported_at_the_end(session):
            files = bench.settings.bencher_json, bench.settings.action_json
            write_run(bench.run(), bench.run_file, bencher_json=files[0], action_json=files[1])


def pytest_unconfigure(config: pytest.Config) -> None:
    """Give back what the session holds."""
    if BENCH in config.stash:
        config.stash[BENCH].close()


def _parts(bench: BenchSession, own: Assignment | None) -> Iterator[object]:
    """Yield what only some runs need."""
    if own is not None or bench.delegates:
        from peftbench.plugin.child import Child
        from peftbench.plugin.parent import Parent

        yield Child(bench, own) if own else Parent(bench)
    if bench.settings.shard is not None:
        from peftbench.plugin.sharding import Sharding

        yield Sharding(bench, *bench.settings.shard)


def _pyproject_table(config: pytest.Config) -> dict[str, object]:
    """Return `[tool.peftbench]` of the root directory's pyproject.toml, keys as fields are named."""
    path = config.rootpath / "pyproject.toml"
    if not path.is_file():
        return {}
    import tomllib

    table = tomllib.loads(path.read_text(encoding="utf-8")).get("tool", {}).get("peftbench", {})
    return {key.replace("-", "_"): value for key, value in table.items()}
