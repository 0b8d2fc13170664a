"""The task type that does nothing: what is left is Tasker's own cost."""

from tasker import task


@task
async def noop() -> None:
    """Do nothing."""
