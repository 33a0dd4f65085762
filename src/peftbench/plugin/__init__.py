"""The pytest plugin: its hooks, the state of a session, and the fixture `peft_case`. No other room knows pytest.

It may import every other room except `commands`. No room imports it.
"""

from peftbench.plugin.hooks import *  # noqa: F403 - pytest loads this package as the plugin, with every hook in it
