"""Starting runs: processes of this machine, or a SLURM cluster."""
