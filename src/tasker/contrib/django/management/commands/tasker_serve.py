"""`manage.py tasker_serve`: serve the tasks of this project."""

from tasker.contrib.django.management.running import TaskerCommand


class Command(TaskerCommand):
    """`tasker serve` with the tasks of this project; all other arguments are its own (`--help`)."""

    help = "Serve the tasks of this project: `tasker serve tasker.contrib.django.tasks ...`"
    command = "serve"
