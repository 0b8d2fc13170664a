"""`tasker batch`: submit what a file holds, and write the results in its order."""
