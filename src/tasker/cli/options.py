"""Options that several commands share."""

from __future__ import annotations

from typing import Annotated

from cyclopts import Parameter
from cyclopts.validators import Number

Url = Annotated[
    str | None, Parameter(help="Where the service is; else TASKER_URL, else this machine at TASKER_PORT or 5000.")
]
Json = Annotated[bool, Parameter(negative="", show_default=False, help="Print JSON.")]
Timeout = Annotated[
    float | None, Parameter(help="Stop waiting after so many seconds (exit code 124).", validator=Number(gte=0))
]
