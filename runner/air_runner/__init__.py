"""The runner: a daemon that notices jobs, claims them and brings ephemeral runners to life. Knows no Airflow.

::

    daemon ──> launchers ──> template (fork) or a fresh Python (exec) ──> ephemeral: one process, one job
       │                                                                       │
       └── recovery: jobs whose runner or ephemeral runner died                └── supervise: one task process
"""

from air_executor import __version__

__all__ = ["__version__"]
