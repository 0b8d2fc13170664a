"""Make a task type from a plain typed function."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import msgspec

from tasker.errors import Invalid
from tasker.model import Policy
from tasker.rules.secrets import Places, is_secret, secret
from tasker.tasktypes.options import Options, read_options
from tasker.tasktypes.params import Params
from tasker.tasktypes.pydantic_models import Model, is_model, runs_own_code
from tasker.tasktypes.results import Results
from tasker.tasktypes.schema import NoExampleError, Schema, input_schema, make_example, output_schema, unsupported
from tasker.tasktypes.signature import (
    ABSENT,
    Description,
    Function,
    How,
    Parameter,
    Signature,
    place_of,
    read_description,
    read_signature,
    reject,
)
from tasker.tasktypes.tasktype import TaskType
from tasker.validation.encoding import as_json, from_json
from tasker.validation.faults import refusal_fault


def make_task_type(function: Function, options: Options) -> TaskType:
    """Return the task type of a plain typed function.

    Raises RegistrationError, naming the place and the function, for an unsuitable function and for wrong options.
    """
    signature = read_signature(function)
    is_async = inspect.iscoroutinefunction(function)
    described = read_description(function)
    models = {
        parameter.name: _read_model(function, parameter)
        for parameter in signature.parameters
        if is_model(parameter.type)
    }
    returned = _read_returned(function, signature.returns)
    takes = _input_schema(function, signature, described, models)
    settled = read_options(function, options, is_async=is_async)
    policy: Policy = settled["policy"]
    params, secrets = Params(signature.parameters, takes, models), _find_secrets(function, signature, takes)
    has_own_code = options.check is not None or _has_own_code(signature, models)
    task_type = TaskType(
        description=described.text,
        function=function,
        is_async=is_async,
        policy_json=msgspec.json.encode(policy),
        example=options.example,
        input_schema=takes,
        output_schema=_output_schema(function, signature.returns, returned),
        context_parameter=signature.context_parameter,
        source=place_of(function),
        secrets=secrets,
        has_own_code=has_own_code,
        is_plain=params.is_simple and secrets is None and not has_own_code,
        _params=params,
        _results=Results(signature.returns, returned),
        **settled,
    )
    return _with_example(task_type)


def _read_model(function: Function, parameter: Parameter) -> Model:
    try:
        return Model(parameter.type, secret=secret)
    except TypeError as error:
        reject(function, f"parameter {parameter.name!r}: {error}")


def _has_own_code(signature: Signature, models: Mapping[str, Model]) -> bool:
    """Tell whether code of the types' authors may run when params are read."""
    plain = (parameter.type for parameter in signature.parameters if parameter.name not in models)
    return any(model.has_own_code for model in models.values()) or any(map(runs_own_code, plain))


def _read_returned(function: Function, returns: Any) -> Model | None:
    try:
        return Model(returns) if is_model(returns) else None
    except TypeError as error:
        reject(function, f"its return type: {error}")


def _input_schema(
    function: Function, signature: Signature, described: Description, models: Mapping[str, Model]
) -> Schema:
    for parameter in signature.parameters:
        model = models.get(parameter.name)
        reason = unsupported(parameter.type) if model is None else None
        if reason:
            reject(function, f"parameter {parameter.name!r}: {reason}")
        if parameter.default is not ABSENT and parameter.how is not How.REST:
            _check_default(function, parameter, model)
    return input_schema(signature.parameters, described.parameters, models)


def _find_secrets(function: Function, signature: Signature, takes: Schema) -> Places | None:
    """Return where the secret params are. Raises RegistrationError for a `secret` mark that would have no effect."""
    properties = takes["properties"]
    names = {parameter.name for parameter in signature.parameters if is_secret(parameter.type)}
    names |= {name for name, schema in properties.items() if schema.get("writeOnly")}  # pydantic's SecretStr
    others = [schema for name, schema in properties.items() if name not in names]
    if b'"writeOnly":true' in msgspec.json.encode([others, takes.get("$defs")]):
        reject(
            function,
            "a secret within a param would be shown; `secret` marks a parameter as a whole: write"
            " `name: Annotated[..., secret]` in the function",
        )
    if not names:
        return None
    positional = tuple(p.name for p in signature.parameters if p.in_array and p.how is not How.REST)
    rest = next((p.name for p in signature.parameters if p.how is How.REST), None)
    return Places(frozenset(names), positional, rest)


def _check_default(function: Function, parameter: Parameter, model: Model | None) -> None:
    """Refuse a default that is not of the annotated type: the schema shows it."""
    try:
        if model is not None:
            model.check(parameter.default)
            return
        plain = msgspec.to_builtins(parameter.default, enc_hook=as_json)
        msgspec.convert(plain, parameter.type, dec_hook=from_json)
    except (TypeError, ValueError) as error:
        detail = refusal_fault(str(error), "").detail if model is None else model.refusal(error)
        reject(function, f"the default of {parameter.name!r} does not fit its annotation: {detail}")


def _output_schema(function: Function, returns: Any, model: Model | None) -> Schema:
    reason = unsupported(returns) if model is None else None
    if reason:
        reject(function, f"its return type: {reason}")
    return output_schema(returns, model)


def _with_example(task_type: TaskType) -> TaskType:
    if task_type.example is not None:
        try:
            task_type.check(task_type.example)
        except Invalid as error:
            reject(task_type.function, f"example: {error.detail}")
        return task_type
    try:
        example = make_example(task_type.input_schema)
        task_type.check(example)
    except (NoExampleError, Invalid):
        return task_type
    return replace(task_type, example=example)
