"""Batch's autoscale language: a parser that turns a formula into functions, and what they compute with.

https://learn.microsoft.com/azure/batch/batch-automatic-scaling

Differences from Azure: the messages of errors; operators and functions are as lenient with types as
Python is (a number adds to a vector on either side).
"""

import operator
import re
from collections.abc import Callable
from dataclasses import dataclass

from local_azure.nodes.formula_values import (
    DEALLOCATION_OPTIONS,
    FUNCTIONS,
    INTERVALS,
    FormulaError,
    StopEvaluation,
    Value,
    combine,
    member,
    negate,
    number,
)

MAX_CHARACTERS = 8192
MAX_STATEMENTS = 100

Variables = dict[str, Value]
_Expression = Callable[[Variables], Value]

_TOKEN = re.compile(
    r"""\s+|//[^\n]*|/\*.*?\*/
    |(?P<number>\d+(?:\.\d*)?(?:[eE][+-]?\d+)?|\.\d+)
    |(?P<name>\$?[A-Za-z_]\w*)
    |"(?P<text>[^"]*)"
    |(?P<sign>&&|\|\||[<>=!]=|[-+*/<>=!?:;,.()])""",
    re.VERBOSE | re.DOTALL,
)
_LEVELS: tuple[dict[str, Callable[[Value, Value], Value]], ...] = (
    {"||": lambda a, b: float(bool(number(a)) or bool(number(b)))},
    {"&&": lambda a, b: float(bool(number(a)) and bool(number(b)))},
    {"==": combine(operator.eq), "!=": combine(operator.ne)},
    {"<=": combine(operator.le), ">=": combine(operator.ge), "<": combine(operator.lt), ">": combine(operator.gt)},
    {"+": combine(operator.add), "-": combine(operator.sub)},
    {"*": combine(operator.mul), "/": combine(operator.truediv)},
)
"""Binary operators, from the weakest binding to the strongest."""


@dataclass(frozen=True)
class _Token:
    kind: str
    text: str


@dataclass(frozen=True)
class Statement:
    """`variable = expression`."""

    variable: str
    expression: _Expression


def parse(formula: str) -> list[Statement]:
    """The statements of a formula.

    Raises:
        FormulaError: it is too long, or not in the language.
    """
    if len(formula) > MAX_CHARACTERS:
        raise FormulaError(f"the formula has {len(formula)} characters; {MAX_CHARACTERS} are allowed")
    statements = _Parser(_tokens(formula)).statements()
    if len(statements) > MAX_STATEMENTS:
        raise FormulaError(f"the formula has {len(statements)} statements; {MAX_STATEMENTS} are allowed")
    return statements


def evaluate(statements: list[Statement], variables: Variables) -> Variables:
    """The variables after all statements.

    Raises:
        FormulaError: a value is missing, or of the wrong kind.
    """
    variables = {**INTERVALS, **DEALLOCATION_OPTIONS, **variables}
    assigned: Variables = {}
    try:
        for statement in statements:
            assigned[statement.variable] = variables[statement.variable] = statement.expression(variables)
    except StopEvaluation:
        pass
    except (TypeError, ValueError, ZeroDivisionError, IndexError, OverflowError) as error:
        raise FormulaError(str(error)) from error
    return assigned


def _tokens(formula: str) -> list[_Token]:
    found, position = [], 0
    while position < len(formula):
        match = _TOKEN.match(formula, position)
        if match is None:
            raise FormulaError(f"unexpected {formula[position]!r} at character {position}")
        if match.lastgroup:
            found.append(_Token(match.lastgroup, match[match.lastgroup]))
        position = match.end()
    return found


class _Parser:
    """Recursive descent, one method per level of the grammar."""

    def __init__(self, tokens: list[_Token]) -> None:
        self._tokens = tokens
        self._position = 0

    def statements(self) -> list[Statement]:
        found = []
        while self._position < len(self._tokens):
            variable = self._name()
            self._expect("=")
            found.append(Statement(variable, self._ternary()))
            if self._position < len(self._tokens):
                self._expect(";")
        return found

    def _ternary(self) -> _Expression:
        condition = self._binary(0)
        if not self._accept("?"):
            return condition
        chosen = self._ternary()
        self._expect(":")
        other = self._ternary()
        return lambda variables: (chosen if number(condition(variables)) else other)(variables)

    def _binary(self, level: int) -> _Expression:
        if level == len(_LEVELS):
            return self._unary()
        left = self._binary(level + 1)
        while (sign := self._sign()) in _LEVELS[level]:
            self._position += 1
            left = _applied(_LEVELS[level][sign], left, self._binary(level + 1))
        return left

    def _unary(self) -> _Expression:
        if self._accept("-"):
            operand = self._unary()
            return lambda variables: negate(operand(variables))
        if self._accept("!"):
            operand = self._unary()
            return lambda variables: float(not number(operand(variables)))
        return self._postfix()

    def _postfix(self) -> _Expression:
        value = self._primary()
        while self._accept("."):
            value = _member_of(value, self._name(), self._arguments() if self._sign() == "(" else None)
        return value

    def _primary(self) -> _Expression:
        if self._accept("("):
            inner = self._ternary()
            self._expect(")")
            return inner
        token = self._next()
        if token.kind == "number":
            constant = float(token.text)
            return lambda variables: constant
        if token.kind == "text":
            return lambda variables: token.text
        if token.kind != "name":
            raise FormulaError(f"unexpected {token.text!r}")
        return self._call(token.text) if self._sign() == "(" else _variable(token.text)

    def _call(self, name: str) -> _Expression:
        function = FUNCTIONS.get(name)
        if function is None:
            raise FormulaError(f"there is no function {name}")
        arguments = self._arguments()
        return lambda variables: function([argument(variables) for argument in arguments])

    def _arguments(self) -> list[_Expression]:
        self._expect("(")
        found: list[_Expression] = []
        while not self._accept(")"):
            if found:
                self._expect(",")
            found.append(self._ternary())
        return found

    def _sign(self) -> str:
        token = self._tokens[self._position] if self._position < len(self._tokens) else None
        return token.text if token and token.kind == "sign" else ""

    def _accept(self, sign: str) -> bool:
        found = self._sign() == sign
        self._position += found
        return found

    def _expect(self, sign: str) -> None:
        if not self._accept(sign):
            raise FormulaError(f"{sign!r} expected instead of {self._next().text!r}")

    def _name(self) -> str:
        token = self._next()
        if token.kind != "name":
            raise FormulaError(f"a name expected instead of {token.text!r}")
        return token.text

    def _next(self) -> _Token:
        if self._position == len(self._tokens):
            raise FormulaError("unexpected end of the formula")
        self._position += 1
        return self._tokens[self._position - 1]


def _applied(apply: Callable[[Value, Value], Value], left: _Expression, right: _Expression) -> _Expression:
    return lambda variables: apply(left(variables), right(variables))


def _member_of(value: _Expression, name: str, arguments: list[_Expression] | None) -> _Expression:
    def get(variables: Variables) -> Value:
        given = None if arguments is None else [argument(variables) for argument in arguments]
        return member(value(variables), name, given)

    return get


def _variable(name: str) -> _Expression:
    def get(variables: Variables) -> Value:
        if name not in variables:
            raise FormulaError(f"the variable {name} has no value")
        return variables[name]

    return get
