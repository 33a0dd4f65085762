"""Lock-step of two states of the code: how each state is made, and how their rounds alternate.

The old state (`base` in the code, --peftbench-against) is compared with the new one (`new`, --peftbench-candidate).

It imports launches.
"""
