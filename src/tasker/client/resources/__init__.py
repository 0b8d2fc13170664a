"""What a client has besides tasks: each module holds a resource of `Tasker` and the same one of `AsyncTasker`."""
