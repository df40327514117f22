"""What the core knows of Slurm: what a job may ask for (`options`). Nothing here talks to Slurm; the runner does."""
