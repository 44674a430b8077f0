# SPDX-License-Identifier: Apache-2.0
"""Stages as jobs of a Slurm cluster, submitted through submitit."""
