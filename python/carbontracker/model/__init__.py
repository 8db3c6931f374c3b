"""Values of a run that the live training and the record reader both produce."""
