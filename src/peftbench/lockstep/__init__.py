"""Lock-step: two states of the code, in a process each, run the same rounds in turn; so machine drift hits both."""
