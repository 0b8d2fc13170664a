"""The app: "tasker.contrib.django" in INSTALLED_APPS gives manage.py tasker_serve and tasker_worker."""

from django.apps import AppConfig


class TaskerConfig(AppConfig):
    """The app of Tasker's commands."""

    name = "tasker.contrib.django"
    label = "tasker"
    verbose_name = "Tasker"
