"""What the core knows of Slurm: what a job may ask for (`options`), what Slurm's words mean (`states`).

Nothing here talks to Slurm; the runner does.
"""
