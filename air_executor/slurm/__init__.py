"""What the core knows of Slurm: what a job may ask for (`options`), what Slurm's words mean (`states`),
what was submitted (`record`), how runners and Slurm get on (`condition`), and all of that in words (`standing`).

Nothing here talks to Slurm; the runner does.
"""
