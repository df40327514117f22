"""The runner: a daemon that notices jobs, claims them and brings ephemeral runners to life. Knows no Airflow.

::

    daemon ──> launching ──> template (fork) or a fresh Python (exec) ──> ephemeral: one process, one job
       │                                                                       │
       ├── reaping: what follows when such a process ends                      └── supervise: one task process
       └── takeover: jobs whose runner or ephemeral runner died
"""

from air_executor import __version__

__all__ = ["__version__"]
