"""The use cases, by subject. They know no HTTP and no SQL."""

from tasker.service.batches import Accepted, Batch, Batches, Wanted
from tasker.service.bulk import Selection
from tasker.service.readiness import Readiness
from tasker.service.schedules import Schedules
from tasker.service.service import Service
from tasker.service.submitting import Submitted

__all__ = [
    "Accepted",
    "Batch",
    "Batches",
    "Readiness",
    "Schedules",
    "Selection",
    "Service",
    "Submitted",
    "Wanted",
]
