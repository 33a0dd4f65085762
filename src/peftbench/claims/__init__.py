"""What a paper claims, as inequalities that a run can show or refute; and what to use."""
