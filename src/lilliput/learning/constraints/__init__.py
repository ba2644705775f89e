"""What stays in force while weights learn: zeros, codes, ranks, grids, rounded inputs."""
