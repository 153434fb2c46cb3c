"""Curvature of the loss without second derivatives: along the update, and by Lanczos."""
