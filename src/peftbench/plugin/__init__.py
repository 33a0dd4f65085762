"""All that knows pytest: the hooks, what a session does at each of them, and what a test gets as `peft_case`.

It may import every other room but `commands`; none of them imports it.
"""

from peftbench.plugin.hooks import *  # noqa: F403 - pytest loads this package as the plugin: every hook is to be in it
