"""Tasker as a backend of Django's tasks (`django.tasks` of Django 6, or the package `django-tasks` before it).

TASKS = {"default": {"BACKEND": "tasker.contrib.django.TaskerBackend", "OPTIONS": {"URL": "http://127.0.0.1:5000"}}}
"""

from tasker.contrib.django.backend import TaskerBackend
from tasker.contrib.django.definitions import TaskContext, TaskerTask

__all__ = ["TaskContext", "TaskerBackend", "TaskerTask"]
