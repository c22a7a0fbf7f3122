"""A connection's life: each pair of state and event, against the plain facts that the states stand for."""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import product

import pytest

from live_asr.core.connection_states import SENT, TRANSITIONS, ConnectionEvent, ConnectionState, Sent, after

S, E = ConnectionState, ConnectionEvent


@dataclass(frozen=True, slots=True)
class Facts:
    """What is known of a client, as one would note it without a table."""

    is_there: bool = True
    has_stopped: bool = False
    is_given_up: bool = False
    is_left: bool = False
    is_over: bool = False

    @property
    def may_send(self) -> bool:
        return not (self.has_stopped or self.is_given_up)


FACTS = {
    S.ATTACHED: Facts(),
    S.AWAITED: Facts(is_there=False),
    S.STOPPED: Facts(has_stopped=True),
    S.GONE: Facts(is_there=False, has_stopped=True),
    S.GIVEN_UP: Facts(is_there=False, is_given_up=True),
    S.LATE: Facts(is_given_up=True),
    S.LEFT: Facts(is_left=True),
    S.OVER: Facts(is_over=True),
}


def facts_after(facts: Facts, event: ConnectionEvent) -> Facts:
    if facts.is_over or event is E.ENDED:
        return FACTS[S.OVER]
    if facts.is_left or event is E.INTERRUPTED or (event is E.SUSPENDED and facts.may_send):
        return FACTS[S.LEFT]
    match event:
        case E.CAME_BACK:
            return replace(facts, is_there=True)
        case E.LOST:
            return replace(facts, is_there=False)
        case E.STOPPED if facts.may_send:
            return replace(facts, has_stopped=True)
        case E.EXPIRED if facts.may_send and not facts.is_there:
            return replace(facts, is_given_up=True)
    return facts


@pytest.mark.parametrize(("state", "event"), list(product(S, E)), ids=lambda value: value.value)
def test_each_event_leads_from_each_state_where_the_facts_do(
    state: ConnectionState, event: ConnectionEvent
) -> None:
    assert FACTS[after(state, event)] == facts_after(FACTS[state], event)


def test_every_state_can_be_reached_and_has_a_row_in_both_tables() -> None:
    reached, found = {S.ATTACHED}, {S.ATTACHED}
    while found:
        found = {after(state, event) for state, event in product(found, E)} - reached
        reached |= found
    assert reached == set(S) == set(TRANSITIONS) == set(SENT)


@pytest.mark.parametrize("state", list(S), ids=lambda state: state.value)
def test_what_is_sent_is_taken_of_whom_more_is_expected_and_refused_to_who_said_that_that_was_all(
    state: ConnectionState,
) -> None:
    facts = FACTS[state]
    if facts.is_left or facts.is_over:
        assert SENT[state] is Sent.IGNORED
    elif facts.has_stopped:
        assert SENT[state] is Sent.REFUSED
    else:
        assert SENT[state] is (Sent.DROPPED if facts.is_given_up else Sent.TAKEN)


def test_nobody_who_has_sent_all_or_was_given_up_may_ever_send_again() -> None:
    for state, event in product(S, E):
        if SENT[state] is not Sent.TAKEN:
            assert SENT[after(state, event)] is not Sent.TAKEN, (state, event)
