"""Rules of `x-kubernetes-validations`, evaluated by cel-python.

A rule that cannot be evaluated (a missing key that it did not ask `has` for, an unknown function) refuses the object
and says so: nothing passes because a rule broke. cel-python costs about a millisecond per evaluation, so the caller
skips what has not changed, and a rule that has judged the very same values before says the same again.
"""

from __future__ import annotations

import functools
import re
from dataclasses import dataclass
from typing import Any

import msgspec

_KNOWN = frozenset({"rule", "message", "messageExpression", "reason", "fieldPath", "optionalOldSelf"})
_REASONS = frozenset({"FieldValueInvalid", "FieldValueForbidden", "FieldValueRequired", "FieldValueDuplicate"})


class RuleError(Exception):
    """The rule itself is wrong; the message says how."""


@functools.cache
def _environment() -> Any:
    from celpy import Environment  # 8 MB and half a second with its grammar: only where a rule is

    return Environment()


@dataclass(frozen=True, slots=True)
class Rule:
    """One rule. A transition rule names `oldSelf` and is judged only where there is an old value."""

    expression: str
    message: str
    reason: str
    field_path: str
    is_transition: bool
    program: Any
    message_program: Any

    def broken(self, value: Any, old: Any) -> str | None:
        """The sentence to show if `value` breaks the rule, else None. `old` is for transition rules."""
        before = msgspec.json.encode(old) if self.is_transition else None
        return _judged(self, msgspec.json.encode(value), before)

    def judge(self, value: Any, old: Any) -> str | None:
        """As `broken`, anew."""
        from celpy.adapter import json_to_cel
        from celpy.evaluation import CELEvalError

        context = {"self": json_to_cel(value)}
        if self.is_transition:
            context["oldSelf"] = json_to_cel(old)
        try:
            if bool(self.program.evaluate(context)):
                return None
            if self.message_program is not None:
                return str(self.message_program.evaluate(context))
        except CELEvalError as error:
            return f"rule {self.expression!r} cannot be evaluated: {error.args[0] if error.args else error}"
        return self.message or f"failed rule: {self.expression}"


@functools.lru_cache(maxsize=4096)
def _judged(rule: Rule, value: bytes, old: bytes | None) -> str | None:
    """A rule is a pure function of the value and the one before it."""
    return rule.judge(msgspec.json.decode(value), None if old is None else msgspec.json.decode(old))


def compile_rule(declared: dict[str, Any]) -> Rule:
    """From one entry of `x-kubernetes-validations`. `RuleError` for a rule that is no CEL or has unknown keys."""
    unknown = set(declared) - _KNOWN
    if unknown:
        raise RuleError(f"unknown keys {sorted(unknown)} in a validation rule")
    if declared.get("optionalOldSelf"):
        raise RuleError("optionalOldSelf is not served here: write the rule with self alone or with oldSelf")
    reason = declared.get("reason", "FieldValueInvalid")
    if reason not in _REASONS:
        raise RuleError(f"reason {reason!r} must be one of {sorted(_REASONS)}")
    expression = str(declared["rule"])
    message_expression = declared.get("messageExpression", "")
    return Rule(
        expression=expression,
        message=str(declared.get("message", "")),
        reason=reason,
        field_path=str(declared.get("fieldPath", "")),
        is_transition=re.search(r"\boldSelf\b", expression) is not None,
        program=_program(expression),
        message_program=_program(message_expression) if message_expression else None,
    )


@functools.lru_cache(maxsize=512)
def _program(expression: str) -> Any:
    from celpy.celparser import CELParseError

    environment = _environment()
    try:
        return environment.program(environment.compile(expression))
    except CELParseError as error:
        raise RuleError(f"rule {expression!r} does not compile: {error}") from error
