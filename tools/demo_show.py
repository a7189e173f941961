"""Shows one reply of `holdfastctl --json`, and checks it; tools/demo calls this for every step.

Usage: demo_show.py FILE EXPRESSION...
Each expression is Python over the reply `r` and its attempts `a`; all must be true.
"""

import json
import sys


class Value(dict):
    """A JSON object whose members are attributes; what is absent or null is an empty one."""

    def __getattr__(self, name):
        value = self.get(name)
        return Value() if value is None else value


def seconds(duration):
    """A google.protobuf.Duration as JSON writes it ("1.500s"); absent is 0."""
    return float(duration.rstrip("s")) if duration else 0.0


def ms(duration):
    return f"{seconds(duration) * 1000:.0f} ms"


def shorten(text, length=72):
    return text if len(text) <= length else text[: length - 1] + "…"


def name(target):
    return f"{target.provider}/{target.model}" if target else "nobody"


def show_attempt(attempt):
    line = f"      {name(attempt.target):26}"
    if attempt.skipped:
        return print(f"{line}skipped: {attempt.outcome}")
    if seconds(attempt.delay_before):
        line += f"after a wait of {ms(attempt.delay_before)}: "
    status = f" {attempt.http_status}" if attempt.http_status else ""
    print(f"{line}{attempt.outcome}{status}, {ms(attempt.duration)}")


def show(reply):
    if reply.error:
        print(f"    -> {reply.error.code}: {shorten(reply.error.message, 90)}")
        if reply.error.retry_after_seconds:
            print(f"      come back in {reply.error.retry_after_seconds:.1f} s")
        for fault in reply.error.field_violations:
            print(f"      {fault.field}: {shorten(fault.description)}")
    for target in reply.targets:
        breaker = target.breaker
        print(
            f"      {name(target.target):26}{breaker.state.removeprefix('BREAKER_STATE_').lower()}"
            f" for {ms(breaker.open_for)} more, last error: {target.last_error}"
        )
    if reply.degradation:
        rung = reply.degradation.removeprefix("DEGRADATION_").lower()
        print(f"    -> degradation {rung}, from {name(reply.served_by)}, in {ms(reply.time_budget.used)}")
        print(f"      \"{shorten(reply.message.content)}\"")
        if reply.cache_hit:
            hit = reply.cache_hit
            print(f"      similarity {hit.similarity:.2f}, {seconds(hit.age):.1f} s old")
        if reply.notice and reply.notice != reply.message.content:
            print(f"      notice: {shorten(reply.notice)}")
    for attempt in reply.attempts or reply.error.attempts:
        show_attempt(attempt)


def main():
    with open(sys.argv[1], encoding="utf-8") as file:
        reply = json.load(file, object_hook=Value)
    show(reply)
    known = {"r": reply, "a": reply.attempts or reply.error.attempts, "seconds": seconds}
    failed = 0
    for expression in sys.argv[2:]:
        try:
            held = eval(expression, dict(known))
        except (AttributeError, IndexError, KeyError, TypeError, ValueError) as error:
            held = False
            expression += f"  ({error!r})"
        if not held:
            failed = 1
            print(f"      does not hold: {expression}")
    return failed


if __name__ == "__main__":
    sys.exit(main())
