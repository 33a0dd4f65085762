"""History: a chain of lock-steps, from state to state of the code, kept in a file and taken up again."""
