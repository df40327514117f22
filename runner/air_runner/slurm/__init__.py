"""Jobs on Slurm: submitted from here, run by an agent on a node, watched from here.

::

    daemon ── contact ── a socket ──> process: cluster ── commands ──> sbatch, squeue, scancel, sacct
                                         │    │
                                         │    └─ submitting: what is handed to Slurm; telling: what people are told
                                         └─ decisions: what a job's files and Slurm's words mean together
                                         └─ pilots: runners on nodes, for queues of short jobs; scaling: how many

    on a node:  sbatch's script ──> pilot: a whole runner, for as long as there is something to run
    on a node:  sbatch's script ──> node (agent) ── fork ──> ephemeral runner: the same files, the same lock

The daemon's loop never waits for Slurm: a command may take a minute while the controller is away.
"""
