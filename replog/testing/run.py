"""One run: storm, healing, demands, judgement. The whole of it is a function of the plan."""

from __future__ import annotations

from collections.abc import Callable

from replog.testing.clock import SECOND
from replog.testing.history import Operation
from replog.testing.kv_workload import Workload
from replog.testing.ledger import PropertyBroken
from replog.testing.opening import open_virtual_storage
from replog.testing.properties.liveness import demand_progress
from replog.testing.simulator import OpenStorage, Plan, Report, Simulator
from replog.testing.storm import Storm


def run(
    plan: Plan,
    *,
    workload: Workload | None = None,
    open_storage: OpenStorage = open_virtual_storage,
    on_trace: Callable[[str], None] | None = None,
    history: list[Operation] | None = None,
) -> Report:
    """Run `plan` to its end. Never raises for a broken property: `Report.broken` says it. `workload` sends another state machine through;
    `history` gets what the clients recorded."""
    simulator = Simulator(plan, workload=workload, open_storage=open_storage)
    simulator.on_trace = on_trace
    report = Report(plan=plan, weather=simulator.weather, coverage=simulator.coverage)
    try:
        _play(simulator)
    except PropertyBroken as broken:
        report.broken = broken
    except AssertionError as error:
        report.broken = PropertyBroken("assertion", _where(error))
        report.broken.__cause__ = error
    if history is not None:
        history += simulator.clients.close()
    _count(simulator)
    report.events, report.virtual_us = simulator.clock.events, simulator.clock.now_us
    report.digest, report.trace = simulator.digest, list(simulator.traced)
    report.operations = simulator.clients.completed
    return report


def _play(simulator: Simulator) -> None:
    plan = simulator.plan
    for number in range(1, simulator.weather.nodes + 1):
        simulator.add_node(f"n{number}")
        simulator.start_node(f"n{number}")
    simulator.clients.operations_max = plan.operations_max
    simulator.clients.begin()
    Storm(simulator, int(plan.storm_seconds * SECOND)).begin()
    simulator.seconds(plan.storm_seconds)
    if simulator.cut_short:
        return
    simulator.clients.running = False
    simulator.heal()
    simulator.clients.operations_max = None
    demand_progress(simulator)
    if not simulator.cut_short:
        simulator.properties.at_end(simulator.clients.close())


def _where(error: AssertionError) -> str:
    """File, line and text of a failed assertion of the code under test."""
    trace = error.__traceback__
    place = ""
    while trace is not None:
        code = trace.tb_frame.f_code
        place = f"{code.co_filename.rpartition('replog/')[2]}:{trace.tb_lineno} in {code.co_name}"
        trace = trace.tb_next
    return f"{place}: {error}" if str(error) else place


def _count(simulator: Simulator) -> None:
    coverage, network = simulator.coverage, simulator.network
    coverage.add("messages sent", network.sent)
    coverage.add("messages dropped", network.dropped + network.cut_off)
    coverage.add("messages duplicated", network.duplicated)
    coverage.add("messages reordered", network.reordered)
    coverage.add("messages replayed", network.replayed)
    coverage.add("events", simulator.clock.events)
    coverage.add("virtual seconds", simulator.clock.now_us // SECOND)
    coverage.add("operations answered", simulator.clients.completed)
    coverage.add("entries committed", simulator.ledger.committed_index)
    for node in simulator.nodes.values():
        coverage.add("syncs", node.disk.syncs)
        coverage.add("syncs failed", node.disk.sync_errors)
        coverage.add("sectors lost", node.disk.sectors_lost)
        coverage.add("names lost", node.disk.names_lost)
