from dataclasses import replace

import pytest

from peftbench.errors import UserError
from peftbench.measure.energy.clock_events import clock_event_names
from peftbench.measure.energy.nvml import DeviceState, Reading
from peftbench.measure.energy.throttle import LIMITS, SLOWDOWNS, Decision, Patience, decide, limits

UNKNOWN: Reading[int] = Reading(None, "not here")
UNREADABLE = DeviceState(
    sm_clock_mhz=UNKNOWN,
    memory_clock_mhz=UNKNOWN,
    application_sm_clock_mhz=UNKNOWN,
    application_memory_clock_mhz=UNKNOWN,
    power_limit_w=Reading(None, "not here"),
    power_w=Reading(None, "not here"),
    temperature_c=UNKNOWN,
    clock_events=Reading(None, "not here"),
)
PATIENCE = Patience(attempts=3, pause_s=1)


def state(*events: str) -> DeviceState:
    return replace(UNREADABLE, clock_events=Reading(frozenset(events)))


def test_every_name_is_one_that_nvml_gives() -> None:
    assert clock_event_names(0x7FF) >= SLOWDOWNS | LIMITS
    assert clock_event_names(0x08 | 0x20 | 0x40 | 0x80) == SLOWDOWNS


@pytest.mark.parametrize("event", sorted(SLOWDOWNS))
def test_a_slowdown_at_either_end_is_taken_again(event: str) -> None:
    again = Decision(again=True)
    assert decide(state(event), state(), attempt=1, patience=PATIENCE) == again
    assert decide(state(), state(event, "power cap"), attempt=2, patience=PATIENCE) == again


def test_the_last_attempt_is_kept_and_says_so() -> None:
    hot = state("thermal slowdown (hardware)", "hardware slowdown")
    assert decide(hot, hot, attempt=3, patience=PATIENCE) == Decision(
        again=False, warning="the GPU slowed down in 3 of 3 attempts: hardware slowdown, thermal slowdown (hardware)"
    )


@pytest.mark.parametrize("event", ["idle", "power cap", "application clocks", "0x800"])
def test_a_limit_is_normal(event: str) -> None:
    assert decide(state(event), state(event), attempt=1, patience=PATIENCE) == Decision(again=False)


def test_an_unreadable_state_is_no_slowdown() -> None:
    assert decide(UNREADABLE, UNREADABLE, attempt=1, patience=PATIENCE) == Decision(again=False)
    assert limits(UNREADABLE, UNREADABLE) == ()


def test_limits_are_named_once() -> None:
    assert limits(state("power cap", "idle"), state("power cap", "application clocks")) == (
        "application clocks",
        "power cap",
    )


def test_patience_without_an_attempt_or_with_a_pause_below_zero_is_refused() -> None:
    for attempts, pause_s in ((0, 1.0), (1, -0.5)):
        with pytest.raises(UserError, match="attempts must be at least 1 and pause_s at least 0"):
            Patience(attempts, pause_s)
    assert Patience(1, 0.0).attempts == 1


def test_no_attempt_follows_the_last_one() -> None:
    hot = state("hardware slowdown")
    assert not decide(hot, hot, attempt=4, patience=PATIENCE).again
