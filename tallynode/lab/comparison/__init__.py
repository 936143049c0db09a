"""`tallynode bench`: methods against each other on the same data, models and byte counter."""
