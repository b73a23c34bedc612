"""What `-doctor` looks at: the machine and the workspace, a config, and the service that it names.

Nothing here costs money: no record is sent, and the service is asked for lists only.
"""
