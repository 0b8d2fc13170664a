"""Every @task of a Django project as a task type: `tasker serve tasker.contrib.django.tasks`.

DJANGO_SETTINGS_MODULE names the project's settings. The tasks are those in `tasks` of each installed app, and in the
MODULES of the backend's OPTIONS: Django's, and Tasker's own (`tasker.task`, `tasker.contrib.celery`).
"""

from tasker.contrib.django.workers import make_functions

__tasks__ = make_functions(__name__)
