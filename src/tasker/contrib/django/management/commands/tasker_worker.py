"""`manage.py tasker_worker`: run the tasks of this project for a service on PostgreSQL."""

from tasker.contrib.django.management.running import TaskerCommand


class Command(TaskerCommand):
    """`tasker worker` with the tasks of this project; all other arguments are its own (`--help`)."""

    help = "Run the tasks of this project for services that share a PostgreSQL database"
    command = "worker"
